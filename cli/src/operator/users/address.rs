//! What a user signs in with.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use domain::enrollment::EmailDomain;
use serde::Serialize;

/// An e-mail address in lower case, since the user pool ignores case.
///
/// Narrower than RFC 5321: no quoted local part, no address literal, ASCII only, and no longer than a user name of Cognito.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Address(String);

impl Address {
    /// Longest `Username` that Cognito takes, in characters.
    const MAX_LENGTH: usize = 128;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        EmailDomain::of_address(text).with_context(|| format!("`{}` is not an e-mail address", text.escape_debug()))?;
        let local = text.split('@').next().unwrap_or_default();
        // The `atext` of RFC 5322 §3.2.3, in words joined by dots.
        let special = |byte: u8| b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
        let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte));
        ensure!(
            local.len() <= 64 && local.split('.').all(word),
            "`{}` is not an e-mail address: a character or a dot before the @ is out of place",
            text.escape_debug()
        );
        ensure!(text.len() <= Self::MAX_LENGTH, "`{text}` is too long: Cognito takes {} characters", Self::MAX_LENGTH);
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_is_read_in_lower_case() {
        for (text, address) in [
            ("jane@st-elsewhere.example", "jane@st-elsewhere.example"),
            ("Jane.O'Hara+lab@St-Elsewhere.example", "jane.o'hara+lab@st-elsewhere.example"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().as_str(), address);
        }
    }

    #[test]
    fn an_invalid_address_is_refused() {
        let long = format!("{}@{}.example", "x".repeat(64), "y".repeat(63));
        for text in [
            "",
            "jane",
            "jane@localhost",
            "jane doe@a.example",
            "\"jane\"@a.example",
            "jane@a.example,b@b.example",
            ".jane@a.example",
            "ja..ne@a.example",
            "j\u{e4}ne@a.example",
            "jane@m\u{fc}ller.example",
            "jane\u{1b}[2J@a.example",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
