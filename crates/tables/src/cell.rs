//! The values in a table.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, as sent with its escapes decoded.
    Text,
    /// 64 bits.
    Integer,
    /// A double. The text that it was read from is in the column beside.
    Number,
    /// An instant, in microseconds since 1970 UTC.
    Instant,
    /// What a clock on the wall showed, in microseconds since 1970 of that clock: nobody said which zone.
    Local,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Of [`Kind::Text`].
    Text(String),
    /// Of [`Kind::Integer`].
    Integer(i64),
    /// Of [`Kind::Number`].
    Number(f64),
    /// Of [`Kind::Instant`].
    Instant(i64),
    /// Of [`Kind::Local`].
    Local(i64),
}

impl Cell {
    /// The kind of the column that it may stand in.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Integer(_) => Kind::Integer,
            Self::Number(_) => Kind::Number,
            Self::Instant(_) => Kind::Instant,
            Self::Local(_) => Kind::Local,
        }
    }

    /// A text; none where it is empty or HL7's null (`""`).
    pub(crate) fn text(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && text != "\"\"").then_some(Self::Text(text))
    }

    pub(crate) fn integer(number: usize) -> Option<Self> {
        i64::try_from(number).ok().map(Self::Integer)
    }
}

/// As text formats write it: an instant as RFC 3339 in UTC, a local time as ISO 8601 without a zone.
impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Instant(micros) => {
                let instant = jiff::Timestamp::from_microsecond(*micros).map_err(|_| std::fmt::Error)?;
                if micros % 1_000 == 0 { write!(f, "{instant:.3}") } else { write!(f, "{instant:.6}") }
            }
            Self::Local(micros) => {
                let instant = jiff::Timestamp::from_microsecond(*micros).map_err(|_| std::fmt::Error)?;
                write!(f, "{}", instant.to_zoned(jiff::tz::TimeZone::UTC).datetime())
            }
        }
    }
}

/// As many cells as the table has columns; `None` is absent.
pub type Row = Vec<Option<Cell>>;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Lower case, digits and `_`.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether every row has it.
    pub required: bool,
    /// Where it comes from: a part of HL7 2.5.1, or the catalog.
    pub source: String,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, kind: Kind, source: impl Into<String>) -> Self {
        Self { name: name.into(), kind, required: false, source: source.into() }
    }
}
