//! One way to write an instant.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant in UTC, written with three decimals and `Z` (`2026-11-21T07:21:07.120Z`), so that the order of the texts
/// is the order of the instants: the catalog's index sorts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The instant that many milliseconds after 1970.
    ///
    /// `None` outside the years -9999 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// The system clock's instant, cut to milliseconds.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self::from_millis(now.as_millisecond()).unwrap_or(Self(now))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Seconds since 1970, as DynamoDB's time to live wants them.
    pub fn as_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// The UTC day, `YYYY-MM-DD`: the value of the `date=` partition.
    pub fn date(self) -> String {
        self.0.strftime("%Y-%m-%d").to_string()
    }

    /// This instant and then some, or the last instant there is.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.checked_add(duration).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sort_as_instants_do() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        assert_eq!(at(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_795_245_667_120).to_string(), "2026-11-21T07:21:07.120Z");
        assert!(at(999).to_string() < at(1000).to_string());
        assert_eq!(at(1_795_245_667_120).date(), "2026-11-21");
        assert_eq!(at(5).plus(Duration::from_secs(2)).as_millis(), 2005);
    }
}
