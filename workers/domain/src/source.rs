//! The institute a message comes from, or that a reader belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An institute: the caller's `custom:write` claim when a message is submitted, `custom:read` when one is read.
///
/// `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`. It becomes part of an S3 prefix and of an IAM condition, hence the narrow
/// alphabet: no slash, no wildcard, no `$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
}

impl TryFrom<String> for Source {
    type Error = InvalidSource;

    fn try_from(text: String) -> Result<Self, InvalidSource> {
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        let rest_is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if starts_well && rest_is_plain && text.len() <= Self::MAX_LENGTH { Ok(Self(text)) } else { Err(InvalidSource) }
    }
}

impl std::str::FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        Self::try_from(text.to_owned())
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.0
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
    fn an_institute_is_one_to_64_plain_characters() {
        for good in ["a", "7", "general-hospital", "St.Elsewhere_2", &"x".repeat(64)] {
            assert_eq!(good.parse::<Source>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", ".", "-a", "_a", "../x", "a/b", "a b", "a*", "${aws:PrincipalTag/read}", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Source>(), Err(InvalidSource), "{bad}");
        }
    }
}
