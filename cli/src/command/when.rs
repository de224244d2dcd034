//! Times as people write them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// The forms, for `--help` and for errors.
pub(crate) const FORMS: &str =
    "`yesterday`, `2h` (two hours ago), `16:00`, `2026-11-28`, `2026-11-28 16:00`, or a time with a zone as in RFC 3339";

/// Reads a moment on this machine's clock. A day or an hour means its beginning. A time of the day alone means the last such time:
/// nobody asks about the future.
///
/// # Errors
/// A sentence that names the forms, and does not quote the text.
pub(crate) fn when(text: &str) -> Result<Timestamp, String> {
    at(text, &Zoned::now()).ok_or_else(|| format!("not a time; one is {FORMS}"))
}

fn at(text: &str, now: &Zoned) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let begins = |date: Date| civil(date.at(0, 0, 0, 0), now.time_zone());
    match text.to_ascii_lowercase().as_str() {
        "now" => return Some(now.timestamp()),
        "today" => return begins(now.date()),
        "yesterday" => return begins(now.date().checked_sub(1.day()).ok()?),
        _ => {}
    }
    // Before a duration, which can be written `16:00:05` too.
    if let Some(time) = time(text) {
        let today = civil(now.date().to_datetime(time), now.time_zone())?;
        let yesterday = || civil(now.date().checked_sub(1.day()).ok()?.to_datetime(time), now.time_zone());
        return if today > now.timestamp() { yesterday() } else { Some(today) };
    }
    // A sign would turn it into a time in the future.
    if text.starts_with(|first: char| first.is_ascii_digit())
        && let Ok(span) = text.trim_end_matches("ago").trim_end().parse::<Span>()
    {
        return now.checked_sub(span).ok().map(|it| it.timestamp());
    }
    if let Ok(date) = strict_date(text) {
        return begins(date);
    }
    let (date, clock) = text.split_once([' ', 'T', 't'])?;
    civil(strict_date(date).ok()?.to_datetime(time(clock.trim_start())?), now.time_zone())
}

/// Reads `YYYY-MM-DD`, and none of the other forms that a civil date can have.
fn strict_date(text: &str) -> Result<Date, jiff::Error> {
    Date::strptime("%Y-%m-%d", text)
}

/// `16:00`, or with seconds.
fn time(text: &str) -> Option<Time> {
    Time::strptime("%H:%M:%S", text).or_else(|_| Time::strptime("%H:%M", text)).ok()
}

/// A time that a clock change skips becomes the time an hour later. A time that occurs twice means the first occurrence.
fn civil(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(at).compatible().ok()
}

/// A time for a narrow column, on this machine's clock: the time of today, the day of this year, the date before that.
pub(crate) fn short(at: domain::Timestamp) -> String {
    shown(at, &Zoned::now())
}

fn shown(at: domain::Timestamp, now: &Zoned) -> String {
    let Some(at) = local(at, now.time_zone()) else { return at.to_string() };
    let form = match (at.date() == now.date(), at.year() == now.year()) {
        (true, _) => "%H:%M:%S",
        (false, true) => "%b %d %H:%M",
        (false, false) => "%Y-%m-%d",
    };
    at.strftime(form).to_string()
}

/// A time to the second, on this machine's clock and with its zone.
pub(crate) fn full(at: domain::Timestamp) -> String {
    local(at, &TimeZone::system()).map_or_else(|| at.to_string(), |it| it.strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
}

fn local(at: domain::Timestamp, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_millisecond(at.as_millis()).ok()?.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-28T21:00:30[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let table = [
            ("now", "2026-11-28T20:00:30Z"),
            ("today", "2026-11-27T23:00:00Z"),
            ("Yesterday", "2026-11-26T23:00:00Z"),
            ("2h", "2026-11-28T18:00:30Z"),
            ("90 minutes ago", "2026-11-28T18:30:30Z"),
            ("3d", "2026-11-25T20:00:30Z"),
            ("1h 30m", "2026-11-28T18:30:30Z"),
            ("16:00", "2026-11-28T15:00:00Z"),
            ("21:00:30", "2026-11-28T20:00:30Z"),
            // Still to come today, so it was yesterday.
            ("21:00:31", "2026-11-27T20:00:31Z"),
            ("22:00", "2026-11-27T21:00:00Z"),
            ("2026-11-28", "2026-11-27T23:00:00Z"),
            ("2026-11-28 16:00", "2026-11-28T15:00:00Z"),
            ("2026-11-28T16:00:05", "2026-11-28T15:00:05Z"),
            ("2026-11-28T16:00:05Z", "2026-11-28T16:00:05Z"),
            ("2026-11-28T16:00:05+05:00", "2026-11-28T11:00:05Z"),
            // In summer, and on the days of the change.
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(at(text, &now()).map(|it| it.to_string()).as_deref(), Some(expected), "{text}");
        }
        for bad in ["", "tomorrow", "-2h", "2026-13-01", "25:00", "28.11.2026", "2026", "2026-11-28 noon", "SECRET"] {
            assert_eq!(at(bad, &now()), None, "{bad}");
        }
        assert!(!when("SECRET").unwrap_err().contains("SECRET"));
    }

    #[test]
    fn a_time_is_as_short_as_it_can_be() {
        let shown = |text: &str| shown(text.parse().unwrap(), &now());
        assert_eq!(shown("2026-11-28T20:00:01.120Z"), "21:00:01");
        assert_eq!(shown("2026-11-27T20:00:01Z"), "Nov 27 21:00");
        assert_eq!(shown("2025-11-27T23:30:00Z"), "2025-11-28");
    }
}
