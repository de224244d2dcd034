//! The errors in a policy folder, with their places.

use std::fmt;

/// One mistake in a file of a policy folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The file's name in the folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The mistake.
    pub message: String,
    /// The advice, if there is any.
    pub help: Option<String>,
}

/// All mistakes in a policy folder, in the order of files and lines. `Display` has one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(Vec<PolicyError>);

impl PolicyErrors {
    /// The mistakes. There is at least one.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyError> {
        self.0.iter()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// A file of the folder.
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The mistakes so far. Reading goes on after one, so that all of them are reported at once.
#[derive(Default)]
pub(crate) struct Problems(Vec<PolicyError>);

impl Problems {
    /// Records a mistake at a byte of a file.
    pub(crate) fn at(&mut self, file: &SourceFile, offset: usize, message: impl fmt::Display, help: Option<String>) {
        let before = file.text.get(..offset).unwrap_or(&file.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.at_line(&file.name, line, column, message, help);
    }

    /// Records a mistake at a line and column, from 1.
    pub(crate) fn at_line(&mut self, file: &str, line: usize, column: usize, message: impl fmt::Display, help: Option<String>) {
        let error = PolicyError {
            file: file.to_owned(),
            line: line.max(1),
            column: column.max(1),
            message: one_line(&message.to_string()),
            help: help.map(|help| one_line(&help)),
        };
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    /// Records everything in one of Cedar's errors, each at its own place, or at `otherwise` if Cedar has none.
    pub(crate) fn cedar(&mut self, file: &SourceFile, otherwise: usize, error: &dyn miette::Diagnostic) {
        let place = error.labels().and_then(|mut labels| labels.next()).map_or(otherwise, |label| label.offset());
        self.at(file, place, error, error.help().map(|help| help.to_string()));
        for related in error.related().into_iter().flatten() {
            self.cedar(file, otherwise, related);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns `value` if there are no mistakes.
    pub(crate) fn or<T>(mut self, value: Option<T>) -> Result<T, PolicyErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
                Err(PolicyErrors(self.0))
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
