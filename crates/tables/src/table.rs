//! Which tables there are.

use std::fmt;
use std::str::FromStr;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row per message, as the catalog has it.
    Messages,
    /// One row per segment, unchanged.
    Segments,
    /// One row per value: its place, its names and its text.
    Fields,
    /// One row per value of OBX-5, with its number, unit, range, flags and times.
    Observations,
    /// One row per PID.
    Patients,
    /// One row per PV1.
    Visits,
    /// One row per OBR, and per ORC that no OBR follows.
    Orders,
    /// One row per document in OBX-5 (data type ED), without its content.
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
            Self::Messages => "One row per message, as the catalog has it",
            Self::Segments => "One row per segment, unchanged",
            Self::Fields => "One row per value: its place, its names and its text",
            Self::Observations => "One row per value of OBX-5, with its number, unit, range, flags and times",
            Self::Patients => "One row per PID",
            Self::Visits => "One row per PV1",
            Self::Orders => "One row per OBR, and per ORC that no OBR follows",
            Self::Documents => "One row per document in OBX-5, without its content",
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
