//! The institute a message comes from, or that a reader belongs to.

use std::fmt;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// An institute: the caller's `custom:write` claim when a message is submitted, `custom:read` when one is read.
///
/// `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`. It becomes part of an S3 prefix and of an IAM condition, hence the narrow
/// alphabet: no slash, no wildcard, no `$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Source(String);

/// The claim is no institute: empty, too long, or with a character that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an institute: expected 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit")]
pub struct InvalidSource;

impl Source {
    /// Longest institute, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// The institute as it stands in claims, prefixes and tags.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type that a program takes the name for if it guesses types; `None` if that is a text.
    ///
    /// The name is a Hive partition. If they guess types, Spark, PyArrow and ClickHouse read `00123` and `123` as one institute,
    /// `1e5` and `100000` too, and `null` as none.
    pub fn is_taken_for(&self) -> Option<&'static str> {
        let name = self.0.to_ascii_lowercase();
        match name.as_str() {
            "null" | "nil" | "none" | "na" => Some("nothing"),
            "true" | "false" | "yes" | "no" => Some("a truth value"),
            _ if name.parse::<f64>().is_ok() => Some("a number"),
            _ if name.parse::<jiff::civil::Date>().is_ok() => Some("a day"),
            _ => None,
        }
    }
}

impl std::str::FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        let rest_is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if starts_well && rest_is_plain && text.len() <= Self::MAX_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSource)
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_institute_that_programs_take_for_another_type_is_recognized() {
        for (name, taken_for) in [
            ("00123", Some("a number")),
            ("1e5", Some("a number")),
            ("NaN", Some("a number")),
            ("infinity", Some("a number")),
            ("null", Some("nothing")),
            ("True", Some("a truth value")),
            ("2026-11-28", Some("a day")),
            ("ward-7", None),
            ("1st-hospital", None),
            ("7e", None),
        ] {
            assert_eq!(name.parse::<Source>().unwrap().is_taken_for(), taken_for, "{name}");
        }
    }

    #[test]
    fn an_institute_is_one_to_64_plain_characters() {
        for good in ["a", "7", "general-hospital", "St.Elsewhere_2", &"x".repeat(64)] {
            assert_eq!(good.parse::<Source>().map(|source| source.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "-a", "_a", "../x", "a/b", "a b", "a*", "${aws:PrincipalTag/read}", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Source>(), Err(InvalidSource), "{bad}");
        }
    }
}
