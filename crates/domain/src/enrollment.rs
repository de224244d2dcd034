//! The enrollment table: the e-mail domains of each institute, and the users who wait for an operator.
//!
//! PK `kind`, SK `name`. The attribute names are the field names. An operator writes the domains (`sluice domains`), the
//! worker `enroll` reads them when somebody signs up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay, skip_serializing_none};
use strum::IntoStaticStr;

use crate::{Source, Timestamp};

/// The values of `kind`, which is the partition key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// A [`DomainRule`]; `name` is the domain.
    Domain,
    /// A [`Pending`]; `name` is the user's `sub`.
    Pending,
    /// A [`Founded`]; `name` is the user's `sub`.
    Founded,
}

impl Kind {
    /// The text in the table.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An e-mail domain in lower-case ASCII (an internationalized one in its `xn--` form): `st-elsewhere.example`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct EmailDomain(String);

/// The text is not an e-mail domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an e-mail domain is two or more labels of ASCII letters, digits and hyphens, joined by dots")]
pub struct InvalidEmailDomain;

impl EmailDomain {
    /// The domain of an address: the text after the `@`. An address with two of them is refused. A quoted `@` is legal
    /// (RFC 5321 §4.1.2), and would disguise the domain.
    ///
    /// # Errors
    /// [`InvalidEmailDomain`].
    pub fn of_address(address: &str) -> Result<Self, InvalidEmailDomain> {
        match address.split_once('@') {
            Some((local, domain)) if !local.is_empty() => domain.parse(),
            _ => Err(InvalidEmailDomain),
        }
    }

    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailDomain {
    type Err = InvalidEmailDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.contains('.') && text.split('.').all(label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidEmailDomain)
        }
    }
}

impl fmt::Display for EmailDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The institute that an e-mail domain belongs to, and the rights of its users.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRule {
    /// The domain: the item's key.
    #[serde(rename = "name")]
    pub domain: EmailDomain,
    /// The institute that has verified that the domain is its own.
    pub institute: Source,
    /// Whether a new user of the domain may read the institute's messages.
    pub read: bool,
    /// Whether a new user of the domain may submit for the institute.
    pub write: bool,
    /// The identity provider whose users the rule is for, by its name in Cognito. Without a provider the rule is for users who
    /// signed up in the user pool itself, with an address that Cognito verified: another hospital's provider may assert any address.
    pub provider: Option<String>,
    /// When the rule was made.
    pub added_at: Timestamp,
}

/// A user without an institute, because no rule matches their address.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The user's `sub`: the item's key.
    #[serde(rename = "name")]
    pub sub: String,
    /// The user's name in the pool, by which an operator changes their attributes.
    pub username: String,
    /// The address, if Cognito has verified it or the provider has named it.
    pub email: Option<String>,
    /// The identity provider that sent the user, if not the pool itself.
    pub provider: Option<String>,
    /// When they signed up.
    pub since: Timestamp,
}

/// The institute that a user founded by signing up, in the enrollment mode `found`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founded {
    /// The user's `sub`: the item's key.
    #[serde(rename = "name")]
    pub sub: String,
    /// A UUID v4.
    pub institute: Source,
    /// When they signed up.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_an_address_is_what_stands_behind_its_only_at_sign() {
        for (address, domain) in [
            ("jane@st-elsewhere.example", "st-elsewhere.example"),
            ("JANE@St-Elsewhere.Example", "st-elsewhere.example"),
            ("a.b+c@lab.st-elsewhere.example", "lab.st-elsewhere.example"),
        ] {
            assert_eq!(EmailDomain::of_address(address).unwrap().as_str(), domain);
        }
    }

    #[test]
    fn a_disguised_address_has_no_domain() {
        for address in [
            "",
            "jane",
            "@st-elsewhere.example",
            "jane@",
            "jane@evil.example@st-elsewhere.example",
            "\"jane@evil.example\"@st-elsewhere.example",
            "jane@st-elsewhere.example.",
            "jane@st-elsewhere",
            "jane@st-elsewhere.example\r\nBcc: x",
            "jane@st\u{2010}elsewhere.example",
            "jane@[127.0.0.1]",
            "jane@-st.example",
            "jane@st elsewhere.example",
        ] {
            assert_eq!(EmailDomain::of_address(address), Err(InvalidEmailDomain), "{address:?}");
        }
    }
}
