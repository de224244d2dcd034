//! Columns that are computed, and are not in the message as such.

use crate::cell::{Cell, Kind};
use crate::number::{Observed, limits};

/// What `derived` of the mapping may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derived {
    /// Of the segments of this name, which one.
    Occurrence,
    /// Which repetition of `each`.
    Repetition,
    Value,
    ValueText,
    ValueSystem,
    Comparator,
    Number,
    First,
    Separator,
    Second,
    RangeLow,
    RangeHigh,
    DocumentBytes,
}

/// The words, and what they mean.
const WORDS: [(&str, Derived); 13] = [
    ("occurrence", Derived::Occurrence),
    ("repetition", Derived::Repetition),
    ("value", Derived::Value),
    ("value_text", Derived::ValueText),
    ("value_system", Derived::ValueSystem),
    ("comparator", Derived::Comparator),
    ("number", Derived::Number),
    ("first", Derived::First),
    ("separator", Derived::Separator),
    ("second", Derived::Second),
    ("range_low", Derived::RangeLow),
    ("range_high", Derived::RangeHigh),
    ("document_bytes", Derived::DocumentBytes),
];

/// What the row that columns are derived for holds.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) occurrence: usize,
    /// From 1.
    pub(crate) repetition: usize,
    pub(crate) observed: Observed,
    /// OBX-7.
    pub(crate) range: String,
    pub(crate) document_bytes: Option<usize>,
}

impl Derived {
    /// The word's meaning.
    pub(crate) fn of(word: &str) -> Option<Self> {
        WORDS.into_iter().find(|(it, _)| *it == word).map(|(_, derived)| derived)
    }

    /// Whether it is about a value of OBX-5.
    pub(crate) fn is_of_observation(self) -> bool {
        !matches!(self, Self::Occurrence | Self::Repetition)
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Occurrence | Self::Repetition | Self::DocumentBytes => Kind::Integer,
            Self::Value | Self::ValueText | Self::ValueSystem | Self::Comparator | Self::Separator => Kind::Text,
            Self::Number | Self::First | Self::Second | Self::RangeLow | Self::RangeHigh => Kind::Number,
        }
    }

    pub(crate) fn cell(self, facts: &Facts) -> Option<Cell> {
        let observed = &facts.observed;
        match self {
            Self::Occurrence => Cell::integer(facts.occurrence),
            Self::Repetition => Cell::integer(facts.repetition),
            Self::Value => Cell::text(observed.value.as_str()),
            Self::ValueText => Cell::text(observed.text.as_str()),
            Self::ValueSystem => Cell::text(observed.system.as_str()),
            Self::Comparator => Cell::text(observed.comparator.as_str()),
            Self::Number => observed.number.map(Cell::Number),
            Self::First => observed.first.map(Cell::Number),
            Self::Separator => Cell::text(observed.separator.as_str()),
            Self::Second => observed.second.map(Cell::Number),
            Self::RangeLow => limits(&facts.range).0.map(Cell::Number),
            Self::RangeHigh => limits(&facts.range).1.map(Cell::Number),
            Self::DocumentBytes => facts.document_bytes.and_then(Cell::integer),
        }
    }
}
