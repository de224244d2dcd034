//! Times of HL7 (TS and DTM, HL7 2.5.1 §2.A.22, §2.A.77): to whatever precision, with a zone or without.

use std::ops::RangeInclusive;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The years 1 to 9999 in microseconds since 1970. Nothing was observed in the year 0000, and Python's times have no others.
const YEARS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A time as it was sent, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hl7Time<'a> {
    /// What the sender's clock showed, in microseconds since 1970; what is not said is the earliest.
    pub(crate) local: i64,
    /// The instant, in microseconds since 1970 UTC. `None`: no zone is known, or a day says too little for one.
    pub(crate) utc: Option<i64>,
    /// `+0100`: its own zone, or that of the message.
    pub(crate) zone: Option<&'a str>,
    /// The last part that was said.
    pub(crate) precision: &'static str,
}

/// The zone at the end of a time.
pub(crate) fn zone(text: &str) -> Option<&str> {
    let zone = text.get(text.find(['+', '-'])?..)?;
    seconds(zone).is_some().then_some(zone)
}

/// How far a zone is from UTC.
fn seconds(zone: &str) -> Option<i64> {
    let (sign, digits) = zone.split_at_checked(1)?;
    let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4 && digits.bytes().all(|it| it.is_ascii_digit()))?;
    let (hours, minutes) = (number / 100, number % 100);
    let seconds = hours * 3_600 + minutes * 60;
    (hours <= 14 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })
}

impl<'a> Hl7Time<'a> {
    /// Reads a time. `of_message` is the zone of MSH-7, which holds for all times without one (HL7 2.5.1 §2.15.9.7).
    ///
    /// `None`: it is no time, and its text is all there is of it.
    pub(crate) fn of(text: &'a str, of_message: Option<&'a str>) -> Option<Self> {
        let own = zone(text);
        let digits = text.strip_suffix(own.unwrap_or_default())?;
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
        let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
        let precision = match (whole.len(), fraction) {
            (4, None) => "year",
            (6, None) => "month",
            (8, None) => "day",
            (10, None) => "hour",
            (12, None) => "minute",
            (14, None) => "second",
            (14, Some(fraction)) if (1..=4).contains(&fraction.len()) && is_number(fraction) => "fraction",
            _ => return None,
        };
        if !is_number(whole) {
            return None;
        }
        let part = |from: usize, to: usize, otherwise: i16| whole.get(from..to).map_or(Some(otherwise), |it| it.parse().ok());
        let small = |from: usize, to: usize, otherwise: i16| i8::try_from(part(from, to, otherwise)?).ok();
        let nanos = fraction.map_or(Some(0), |it| format!("{it:0<9}").parse().ok())?;
        let at = DateTime::new(
            part(0, 4, 0)?,
            small(4, 6, 1)?,
            small(6, 8, 1)?,
            small(8, 10, 0)?,
            small(10, 12, 0)?,
            small(12, 14, 0)?,
            nanos,
        );
        let local = Some(at.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond()).filter(|it| YEARS.contains(it))?;
        // A day is a day wherever it was: it has no instant.
        let zone = own.or(of_message.filter(|_| whole.len() > 8));
        let utc = zone
            .filter(|_| whole.len() > 8)
            .and_then(seconds)
            .map(|offset| local - offset * 1_000_000)
            .filter(|it| YEARS.contains(it));
        Some(Self { local, utc, zone, precision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cell;

    fn shown(text: &str, of_message: Option<&str>) -> Option<String> {
        let time = Hl7Time::of(text, of_message)?;
        let utc = time.utc.map(|it| Cell::Instant(it).to_string());
        Some(format!(
            "{} {} {} {}",
            Cell::Local(time.local),
            utc.unwrap_or_default(),
            time.zone.unwrap_or_default(),
            time.precision
        ))
    }

    #[test]
    fn a_time_keeps_its_zone_and_its_precision() {
        for (text, of_message, expected) in [
            ("2026", None, "2026-01-01T00:00:00   year"),
            ("202602", None, "2026-02-01T00:00:00   month"),
            ("20260203", Some("+0100"), "2026-02-03T00:00:00   day"),
            ("2026020304", Some("+0100"), "2026-02-03T04:00:00 2026-02-03T03:00:00.000Z +0100 hour"),
            ("202602030405-0330", None, "2026-02-03T04:05:00 2026-02-03T07:35:00.000Z -0330 minute"),
            ("20260203040506", None, "2026-02-03T04:05:06   second"),
            ("20260203040506.7+0000", Some("+0100"), "2026-02-03T04:05:06.7 2026-02-03T04:05:06.700Z +0000 fraction"),
            ("20260203040506.1234Z", None, ""),
            ("20260230", None, ""),
            ("2026020324", None, ""),
            ("20260203040506+9999", None, ""),
            ("2026-02-03", None, ""),
            ("0000", None, ""),
            ("00010101", None, "0001-01-01T00:00:00   day"),
            ("000101010000+0100", None, "0001-01-01T00:00:00  +0100 minute"),
            ("now", None, ""),
            ("", None, ""),
        ] {
            assert_eq!(shown(text, of_message).unwrap_or_default(), expected, "{text}");
        }
    }
}
