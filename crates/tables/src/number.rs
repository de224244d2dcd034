//! Reads numbers in values, and only in values that are numbers.

/// The version of what is taken for a number, and of which types. Raise it with each change, so that open days of the tables are written
/// again.
pub(crate) const RULE: u32 = 2;

/// A value of OBX-5 by what OBX-2 says that it is.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// The value as a text; of a coded one the identifier.
    pub(crate) value: String,
    /// The text of a coded value.
    pub(crate) text: String,
    /// The coding system.
    pub(crate) system: String,
    /// `<`, `>=`. Empty stands for equal.
    pub(crate) comparator: String,
    /// Where the value is one number.
    pub(crate) number: Option<f64>,
    /// Of a range or a ratio.
    pub(crate) first: Option<f64>,
    /// `-`, `:`, `/`, `+`, `.`.
    pub(crate) separator: String,
    /// Of a range or a ratio.
    pub(crate) second: Option<f64>,
}

impl Observed {
    /// Reads a repetition of OBX-5, whose components `part` gives from 1 on.
    pub(crate) fn of(value_type: &str, part: impl Fn(usize) -> String) -> Self {
        match value_type {
            // Identifier, text and coding system.
            "CE" | "CNE" | "CWE" | "CF" => Self { value: part(1), text: part(2), system: part(3), ..Self::default() },
            // Comparator, number, and a second number that makes it a range or a ratio (HL7 2.5.1 §2.A.70).
            "SN" => {
                let parts = [1, 2, 3, 4].map(&part);
                let value = parts.concat();
                let [comparator, first, separator, second] = parts;
                let is_one = separator.is_empty() && second.is_empty();
                let [one, two] = [&first, &second].map(|it| number(it));
                Self {
                    value,
                    comparator: if comparator == "=" { String::new() } else { comparator },
                    number: one.filter(|_| is_one),
                    first: one.filter(|_| !is_one),
                    separator,
                    second: two,
                    ..Self::default()
                }
            }
            // A document is no value.
            "ED" | "RP" => Self::default(),
            // Laboratories also send numbers as text, with a comparator before them, or do not say what they send.
            "NM" | "ST" | "TX" | "FT" | "" => {
                let value = part(1);
                let rest = value.trim().trim_start_matches(['<', '>', '=']);
                let comparator = value.trim().strip_suffix(rest).unwrap_or_default();
                let is_one = ["", "<", ">", "<=", ">=", "="].contains(&comparator);
                let number = number(rest).filter(|_| is_one);
                let comparator = if number.is_some() && comparator != "=" { comparator.to_owned() } else { String::new() };
                Self { comparator, number, value, ..Self::default() }
            }
            // A date, a time or an identifier may be digits alone, and is no number.
            _ => Self { value: part(1), ..Self::default() },
        }
    }
}

/// A number as HL7 writes one (NM, HL7 2.5.1 §2.A.46), and nothing else that a computer would take for one. Hundreds of digits are none:
/// they would be infinite.
pub(crate) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain =
        text.bytes().all(|it| it.is_ascii_digit() || b"+-.".contains(&it)) && text.bytes().any(|it| it.is_ascii_digit());
    text.parse().ok().filter(|it: &f64| is_plain && it.is_finite())
}

/// The limits of a reference range (HL7 2.5.1 §7.4.2.7): `135-145`, `<5`, `>=3`. What is in words has none.
pub(crate) fn limits(range: &str) -> (Option<f64>, Option<f64>) {
    let range = range.trim();
    if let Some(high) = range.strip_prefix('<') {
        return (None, number(high.trim_start_matches('=')));
    }
    if let Some(low) = range.strip_prefix('>') {
        return (number(low.trim_start_matches('=')), None);
    }
    // Of `-5--1` the second dash is the one between.
    let cuts = range.match_indices('-').filter(|(at, _)| *at > 0);
    let mut pairs = cuts.filter_map(|(at, _)| {
        let (low, high) = range.split_at_checked(at)?;
        Some((number(low)?, number(high.strip_prefix('-')?)?))
    });
    pairs.next().map_or((None, None), |(low, high)| (Some(low), Some(high)))
}

/// How many bytes a document has once it is decoded (ED.4 and ED.5, HL7 2.5.1 §2.A.24). `None`: an encoding of its own.
pub(crate) fn document_bytes(encoding: &str, data: &str) -> Option<usize> {
    let count = |is_digit: fn(&u8) -> bool| data.bytes().filter(is_digit).count();
    match encoding.to_ascii_lowercase().as_str() {
        "base64" => Some(count(|it| it.is_ascii_alphanumeric() || b"+/".contains(it)) * 3 / 4),
        "hex" => Some(count(u8::is_ascii_hexdigit) / 2),
        "a" => Some(data.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_infinite() {
        assert_eq!((number(&"1".repeat(400)), number("-1.5e3"), number("1.50")), (None, None, Some(1.5)));
    }

    /// Whoever changes this list raises the version.
    #[test]
    fn the_types_that_may_hold_a_number_are_those_of_the_version() {
        // Those that OBX-2 may name (table 0125), and others that senders write.
        let types = "AD CE CF CK CN CNE CP CQ CWE CX DR DT DTM ED EI FT HD ID IS MA MO NA NM NR PN RP SI SN ST TM TN TS TX XAD XCN XON XPN XTN";
        let is_number = |name: &&str| {
            let observed = Observed::of(name, |_| "7".to_owned());
            observed.number.or(observed.first).is_some()
        };
        let names: Vec<&str> = types.split(' ').chain([""]).filter(is_number).collect();
        assert_eq!((RULE, names), (2, vec!["FT", "NM", "SN", "ST", "TX", ""]));
        let made_by = crate::Mapping::standard().unwrap().made_by();
        assert!(made_by.starts_with(&format!("numbers {RULE}\n")), "the version makes another digest");
    }

    #[test]
    fn a_range_has_limits_where_it_has_numbers() {
        let found = ["135-145", "<5", ">= 3", "-5--1", "0.5 - 1.5", "negative", "", "1-2-3", "2026-01-01"].map(limits);
        let some = |low, high| (Some(low), Some(high));
        let none = (None, None);
        let expected = [some(135.0, 145.0), (None, Some(5.0)), (Some(3.0), None), some(-5.0, -1.0), some(0.5, 1.5)];
        assert_eq!(found, [&expected[..], &[none; 4]].concat()[..]);
    }

    #[test]
    fn a_document_has_the_length_that_it_is_decoded_to() {
        assert_eq!(document_bytes("Base64", "JVBE Rg=="), Some(4));
        assert_eq!(
            (document_bytes("Hex", "4a4B"), document_bytes("A", "abc"), document_bytes("", "x")),
            (Some(2), Some(3), None)
        );
    }
}
