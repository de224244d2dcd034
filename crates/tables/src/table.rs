//! Which tables there are.

use std::fmt;
use std::str::FromStr;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// A row a message: what the catalog says of it.
    Messages,
    /// A row a segment, as it stands.
    Segments,
    /// A row a value: its place, its names and its text.
    Fields,
    /// A row a value of OBX-5, with its number, unit, range, flags and times.
    Observations,
    /// A row a PID.
    Patients,
    /// A row a PV1.
    Visits,
    /// A row an OBR, and an ORC that no OBR follows.
    Orders,
    /// A row a document of OBX-5 (data type ED): what it is, and not its content.
    Documents,
    /// The messages themselves, in canonical form.
    Raw,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Messages,
        Self::Segments,
        Self::Fields,
        Self::Observations,
        Self::Patients,
        Self::Visits,
        Self::Orders,
        Self::Documents,
        Self::Raw,
    ];

    /// `observations`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Segments => "segments",
            Self::Fields => "fields",
            Self::Observations => "observations",
            Self::Patients => "patients",
            Self::Visits => "visits",
            Self::Orders => "orders",
            Self::Documents => "documents",
            Self::Raw => "raw",
        }
    }

    /// What a row is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Messages => "A row a message: what the catalog says of it",
            Self::Segments => "A row a segment, as it stands",
            Self::Fields => "A row a value: its place, its names and its text",
            Self::Observations => "A row a value of OBX-5, with its number, unit, range, flags and times",
            Self::Patients => "A row a PID",
            Self::Visits => "A row a PV1",
            Self::Orders => "A row an OBR, and an ORC that no OBR follows",
            Self::Documents => "A row a document of OBX-5: what it is, and not its content",
            Self::Raw => "The messages themselves, in canonical form",
        }
    }

    /// Whether its rows need the messages themselves, and not the catalog alone.
    pub fn needs_messages(self) -> bool {
        self != Self::Messages
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no table of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such table")]
pub struct UnknownTable;

impl FromStr for Table {
    type Err = UnknownTable;

    fn from_str(text: &str) -> Result<Self, UnknownTable> {
        Self::ALL.into_iter().find(|it| it.name() == text).ok_or(UnknownTable)
    }
}
