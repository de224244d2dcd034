//! An instant, and the one format in which Sluice writes it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::{RoundMode, TimestampRound, Unit, civil, tz::TimeZone};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// An instant in UTC, written with three decimals and `Z` (`2026-11-21T07:21:07.120Z`), so that the order of the texts
/// is the order of the instants: the catalog's index sorts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The instant `millis` milliseconds after 1970.
    ///
    /// `None` outside the years -9999 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Reads an end of a time range: an RFC 3339 timestamp, or `YYYY-MM-DD` for the beginning of that day in UTC. `None` for
    /// anything else.
    ///
    /// Rounds fractions of a millisecond up. All instants are whole milliseconds, so the range still contains the same ones.
    pub fn range_end(text: &str) -> Option<Self> {
        const DATE: usize = "2026-11-21".len();
        let at = if text.len() == DATE {
            text.parse::<civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
        } else {
            text.parse().ok()?
        };
        at.round(TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Ceil)).ok().map(Self)
    }

    /// The beginning of a day in UTC, `YYYY-MM-DD`. `None` for anything else.
    pub fn day_start(day: &str) -> Option<Self> {
        Self::range_end(day).filter(|it| it.date() == day)
    }

    /// The instant in HL7's data type TS, to the second, in UTC: `20261121072107+0000` (HL7 2.5.1 §2.A.77).
    pub fn hl7(self) -> String {
        self.0.strftime("%Y%m%d%H%M%S+0000").to_string()
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

    /// The instant `duration` later, at most the end of the year 9999.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.checked_add(duration).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

/// An instant of the system clock (`SystemTime::now().into()`), cut to milliseconds.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let instant = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
        Self::from_millis(instant.as_millisecond()).unwrap_or(Self(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_writes_an_instant_without_separators() {
        let instant: Timestamp = "2026-11-21T07:21:07.120Z".parse().unwrap();
        assert_eq!(instant.hl7(), "20261121072107+0000");
    }

    #[test]
    fn texts_sort_as_instants_do() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        assert_eq!(at(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_795_245_667_120).to_string(), "2026-11-21T07:21:07.120Z");
        assert!(at(999).to_string() < at(1000).to_string());
        assert_eq!(at(1_795_245_667_120).date(), "2026-11-21");
        assert_eq!(at(5).plus(Duration::from_secs(2)).as_millis(), 2005);
    }

    #[test]
    fn an_end_of_a_range_is_a_timestamp_or_a_day() {
        let end = |text| Timestamp::range_end(text).map(|it| it.to_string());
        assert_eq!(end("2026-11-21").as_deref(), Some("2026-11-21T00:00:00.000Z"));
        assert_eq!(end("2026-11-21T07:21:07Z").as_deref(), Some("2026-11-21T07:21:07.000Z"));
        assert_eq!(end("2026-11-21T08:21:07.12+01:00").as_deref(), Some("2026-11-21T07:21:07.120Z"));
        assert_eq!(end("2026-11-21T07:21:07.1200001Z").as_deref(), Some("2026-11-21T07:21:07.121Z"));
        for bad in
            ["", "2026", "2026-11", "2026-13-01", "20261121", "yesterday", "2026-11-21T07:21:07", "2026-11-21T08:21:07 01:00"]
        {
            assert_eq!(end(bad), None, "{bad}");
        }
    }
}
