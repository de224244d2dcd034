//! A mistake in an operator's data file, with its place.

/// A mistake in a data file, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl Mistake {
    /// The mistake that begins at a byte of the file's text; at its end if there is no such byte.
    pub fn at(text: &str, byte: usize, what: String) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column, what }
    }

    /// The mistake that the TOML parser reports, at its place in the text.
    pub fn of_toml(text: &str, error: &toml::de::Error) -> Self {
        Self::at(text, error.span().map_or(text.len(), |span| span.start), error.message().to_owned())
    }
}
