//! Whether a text is a value of a primitive data type (HL7 2.8.2 §2A.3).

/// Whether a text has the form of its data type. Only NM, SI, DT, TM and DTM have one; for other types the answer is always true.
pub(super) fn is_well_formed(data_type: &str, text: &str) -> bool {
    match data_type {
        "NM" => is_number(text),
        "SI" => is_digits(text) && text.len() <= 4,
        "DT" => is_date(text),
        "TM" => zoned(text, is_time),
        "DTM" => zoned(text, |text| match text.split_at_checked(8) {
            Some((date, time)) => is_date(date) && (time.is_empty() || is_time(time)),
            None => is_date(text),
        }),
        _ => true,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// `-12.5`, `+3`, `.5` or `3.`.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    is_digits(whole) && (fraction.is_empty() || is_digits(fraction)) || whole.is_empty() && is_digits(fraction)
}

/// `YYYY[MM[DD]]` with a real day of the calendar.
fn is_date(text: &str) -> bool {
    if !is_digits(text) || !matches!(text.len(), 4 | 6 | 8) {
        return false;
    }
    let part = |from: usize, to: usize| text.get(from..to).and_then(|it| it.parse::<u16>().ok());
    let (Some(year), month, day) = (part(0, 4), part(4, 6), part(6, 8)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        Some(2) if leap => 29,
        Some(2) => 28,
        Some(4 | 6 | 9 | 11) => 30,
        None | Some(1..=12) => 31,
        Some(_) => return false,
    };
    day.is_none_or(|day| (1..=days).contains(&day))
}

/// `HH[MM[SS[.S[S[S[S]]]]]]`.
fn is_time(text: &str) -> bool {
    let (time, fraction) = text.split_once('.').map_or((text, None), |(time, fraction)| (time, Some(fraction)));
    let below = |from: usize, to: usize, most: u8| time.get(from..to).is_none_or(|it| it.parse::<u8>().is_ok_and(|it| it < most));
    is_digits(time)
        && matches!(time.len(), 2 | 4 | 6)
        && (below(0, 2, 24) && below(2, 4, 60) && below(4, 6, 60))
        && fraction.is_none_or(|it| time.len() == 6 && is_digits(it) && it.len() <= 4)
}

/// Checks a value with or without a trailing `+ZZZZ` or `-ZZZZ`, the offset from UTC in hours and minutes.
fn zoned(text: &str, check: impl Fn(&str) -> bool) -> bool {
    let Some(at) = text.find(['+', '-']) else { return check(text) };
    text.split_at_checked(at).is_some_and(|(local, zone)| {
        let zone = zone.get(1..).unwrap_or_default();
        check(local) && zone.len() == 4 && is_time(zone)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_values_are_told_apart() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("NM", &["0", "-12.5", "+3", ".5", "3.", "007"], &["", "-", ".", "1,5", "1e3", "<5", "5 ", "--1", "1.2.3", "٣"]),
            ("SI", &["0", "1", "9999"], &["", "10000", "-1", "1.0", "a"]),
            ("DT", &["2026", "202601", "20260131", "20240229"], &["", "20260132", "20261301", "20250229", "2026-01-01", "202"]),
            (
                "TM",
                &["08", "0815", "081530", "081530.1234", "0815+0100"],
                &["", "8", "24", "0860", "0815.5", "081530.12345", "+0100"],
            ),
            (
                "DTM",
                &["2026", "202601", "20260131", "2026013108", "20260131081530.1+0100", "20260131-0500", "202601310815"],
                &["", "2026013", "20260131 0815", "2026013125", "20260131081530+01", "20260131T0815", "2026-01-31", "é0260131"],
            ),
            ("ST", &["", "anything"], &[]),
        ];
        for (data_type, good, bad) in cases {
            for text in good {
                assert!(is_well_formed(data_type, text), "{data_type} {text:?}");
            }
            for text in bad {
                assert!(!is_well_formed(data_type, text), "{data_type} {text:?}");
            }
        }
    }
}
