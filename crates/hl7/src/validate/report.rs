//! The report of a validation: findings, their severity, and their place in the message.

use std::fmt;

use serde::Serialize;

/// Most findings of one report. The rest is counted.
pub const MOST_FINDINGS: usize = 500;

/// The findings of [`super::validate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version that it was checked against, `2.5.1`: that of MSH-12, or the nearest one. `None` if MSH is unreadable.
    pub version: Option<&'static str>,
    /// The structure that it was checked against, `ADT_A01`. `None` if the version has none for MSH-9.
    pub structure: Option<&'static str>,
    /// The findings in the order of the message, at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// The number of further findings.
    pub more: usize,
}

impl Report {
    pub(super) fn add(&mut self, code: Code, location: Option<Location>, detail: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { severity: code.severity(), code, location, detail: detail() });
        } else {
            self.more += 1;
        }
    }

    /// The gravest severity. `None`: nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|it| it.severity).max()
    }
}

/// One departure from the standard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The severity of its code.
    pub severity: Severity,
    /// The kind of departure.
    pub code: Code,
    /// The place; `None` if there is no single place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// A sentence that repeats nothing of the message.
    pub detail: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The standard leaves the choice to the site.
    Info,
    /// A receiver has to ignore something.
    Warning,
    /// The message breaks a rule of the standard.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The message does not begin with MSH. Nothing else was checked.
    NoMsh,
    /// MSH-1 and MSH-2 cannot be used as delimiters. Nothing else was checked.
    MshDelimiters,
    /// MSH-2 breaks a rule: it lacks the escape character, has a character twice, or a fifth one before 2.7.
    WrongDelimiters,
    /// MSH-1 and MSH-2 are not the characters that the standard recommends.
    UnusualDelimiters,
    /// MSH-12 is no version of HL7 2.
    UnknownVersion,
    /// MSH-12 is a version without a dictionary; the nearest one was used.
    NearestVersion,
    /// The message is a piece of a larger one (MSH-14, DSC). What it lacks may stand in another piece.
    Continuation,
    /// MSH-9 names no structure that the version has. The order of the segments was not checked.
    UnknownStructure,
    /// MSH-9.3 has the name of the event, and the structure has another name.
    WrongStructure,
    /// A line does not begin with a segment id and a field separator.
    NotASegment,
    /// The version does not have the segment, and its name is not a site's (`Z..`).
    UnknownSegment,
    /// The structure asks for a segment that is not there.
    MissingSegment,
    /// The structure does not have the segment.
    UnexpectedSegment,
    /// The structure has the segment, but not here, or not so often.
    MisplacedSegment,
    /// A required field is empty.
    MissingField,
    /// A required component of a field with content is empty.
    MissingComponent,
    /// A field repeats that may not, or more often than it may.
    TooManyRepetitions,
    /// There is content after the last field of the segment.
    ExtraField,
    /// There is content after the last component of the data type.
    ExtraComponent,
    /// There is content after the last subcomponent of the data type.
    ExtraSubcomponent,
    /// There is content in a field that the version has withdrawn.
    WithdrawnField,
    /// The text is not a value of its data type.
    WrongFormat,
    /// The version does not have the data type that OBX-2 names.
    UnknownValueType,
    /// OBX-5 has content, and OBX-2 names no data type for it.
    MissingValueType,
    /// A table of HL7 does not have the code.
    NotInTable,
    /// A table of the site has a code that HL7 does not suggest for it.
    NotSuggested,
}

impl Code {
    /// The severity of a finding with this code.
    pub fn severity(self) -> Severity {
        match self {
            Self::NoMsh | Self::MshDelimiters | Self::NotASegment | Self::MissingSegment | Self::MissingField => Severity::Error,
            Self::TooManyRepetitions | Self::WrongFormat | Self::UnknownValueType | Self::NotInTable => Severity::Error,
            Self::WrongDelimiters => Severity::Error,
            Self::UnknownVersion | Self::UnknownStructure | Self::WrongStructure | Self::UnknownSegment => Severity::Warning,
            Self::UnexpectedSegment | Self::MisplacedSegment | Self::MissingComponent => Severity::Warning,
            Self::ExtraField | Self::ExtraComponent | Self::ExtraSubcomponent | Self::MissingValueType => Severity::Warning,
            Self::WithdrawnField | Self::NotSuggested | Self::UnusualDelimiters => Severity::Info,
            Self::NearestVersion | Self::Continuation => Severity::Info,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A place in a message. All numbers count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The id, if the version has it: a line that is no segment may contain anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<&'static str>,
    /// The index of the segment in the message.
    pub number: usize,
    /// The index among the segments with its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<usize>,
    /// `None` for the whole segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<usize>,
    /// `None` for the whole field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition: Option<usize>,
    /// `None` for the whole repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<usize>,
    /// `None` for the whole component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subcomponent: Option<usize>,
}

/// `PID-3[2].4.1`, and `OBX[7]-5` for the seventh OBX.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segment {
            Some(segment) => f.write_str(segment)?,
            None => write!(f, "segment {}", self.number)?,
        }
        if let Some(occurrence) = self.occurrence.filter(|it| *it > 1) {
            write!(f, "[{occurrence}]")?;
        }
        if let Some(field) = self.field {
            write!(f, "-{field}")?;
        }
        if let Some(repetition) = self.repetition.filter(|it| *it > 1) {
            write!(f, "[{repetition}]")?;
        }
        [self.component, self.subcomponent].into_iter().flatten().try_for_each(|it| write!(f, ".{it}"))
    }
}
