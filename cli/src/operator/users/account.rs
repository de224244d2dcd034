//! A user as Cognito has them, and what has to change for the user to be as an operator wishes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, UserStatusType};
use domain::{InvalidSource, Source};
use serde::Serialize;

use crate::output::one_line;

/// A user, as Cognito knows them. A missing attribute is an empty text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// The `sub`, or `<provider>_<id>` for a user of an identity provider.
    pub(crate) username: String,
    pub(crate) email: String,
    /// Whether Cognito, or the operator who created the account, vouches for the address. A provider's need not be.
    pub(crate) email_verified: bool,
    pub(crate) name: String,
    /// `custom:read`.
    pub(crate) read: String,
    /// `custom:write`.
    pub(crate) write: String,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) enabled: bool,
    /// Cognito's status: `CONFIRMED`, `FORCE_CHANGE_PASSWORD`, `EXTERNAL_PROVIDER`, …
    pub(crate) status: String,
}

impl Account {
    /// A user who does not exist yet.
    pub(crate) fn absent() -> Self {
        Self {
            username: String::new(),
            email: String::new(),
            email_verified: false,
            name: String::new(),
            read: String::new(),
            write: String::new(),
            groups: BTreeSet::new(),
            enabled: true,
            status: String::new(),
        }
    }

    pub(super) fn new<'a>(
        username: &str,
        attributes: impl IntoIterator<Item = &'a AttributeType>,
        enabled: bool,
        status: Option<&UserStatusType>,
    ) -> Self {
        let mut account = Self { username: clean(username), enabled, ..Self::absent() };
        account.status = status.map(|status| status.as_str().to_owned()).unwrap_or_default();
        for attribute in attributes {
            let value = clean(attribute.value().unwrap_or_default());
            match attribute.name() {
                "email" => account.email = value,
                "email_verified" => account.email_verified = value == "true",
                "name" => account.name = value,
                "custom:read" => account.read = value,
                "custom:write" => account.write = value,
                _ => {}
            }
        }
        account
    }

    /// Whether an identity provider signs the user in, and not the pool itself.
    pub(crate) fn is_federated(&self) -> bool {
        self.status == UserStatusType::ExternalProvider.as_str()
    }

    /// Why the account may not get any right; `None` if it may. Anybody can sign up with another person's address and a password
    /// of their own. When that person then enters the code from the mail, both of them would have the rights.
    pub(crate) fn doubt(&self) -> Option<String> {
        let made_by_operator = self.status == UserStatusType::ForceChangePassword.as_str();
        let what = if self.status == UserStatusType::Unconfirmed.as_str() {
            "the sign-up is not confirmed"
        } else if self.email_verified || made_by_operator || self.is_federated() {
            return None;
        } else {
            "the address is not verified"
        };
        Some(format!(
            "{what}, so somebody else may have made this account, with a password of their own: ask the person. If it was \
             them, they first enter the code that was mailed to them; if not, delete the account in the Cognito console and \
             use `sluice users add`"
        ))
    }

    /// Why these changes are not allowed; `None` if they are. Removing a right is always allowed.
    pub(crate) fn refusal(&self, changes: &[Change]) -> Option<String> {
        if changes.iter().any(Change::gives) { self.doubt() } else { None }
    }

    /// The changes that make the user as wished.
    pub(crate) fn changes(&self, wish: &Wish) -> Vec<Change> {
        let mut changes = Vec::new();
        let read = wish.read.as_ref().map(Right::as_str);
        let write = wish.write.as_ref().map(Right::as_str);
        for (attribute, from, to) in [
            (Attribute::Name, &self.name, wish.name.as_deref()),
            (Attribute::Read, &self.read, read),
            (Attribute::Write, &self.write, write),
        ] {
            if let Some(to) = to.filter(|to| to != from) {
                changes.push(Change::Attribute { attribute, from: from.clone(), to: to.to_owned() });
            }
        }
        if let Some(groups) = &wish.groups {
            changes.extend(groups.difference(&self.groups).map(|group| Change::Join { group: group.clone() }));
            changes.extend(self.groups.difference(groups).map(|group| Change::Leave { group: group.clone() }));
        }
        match wish.enabled {
            Some(true) if !self.enabled => changes.push(Change::Enable),
            Some(false) if self.enabled => changes.push(Change::Disable),
            _ => {}
        }
        changes
    }
}

/// A text that a user may have chosen, made safe to print.
pub(super) fn clean(text: &str) -> String {
    one_line(text).trim_start().to_owned()
}

/// The institute that a user may read from or write for, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Right(Option<Source>);

impl Right {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn institute(&self) -> Option<&Source> {
        self.0.as_ref()
    }

    /// The attribute's value. Empty for none, which Cognito takes for the attribute's deletion.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Source::as_str)
    }
}

impl From<Source> for Right {
    fn from(source: Source) -> Self {
        Self(Some(source))
    }
}

impl FromStr for Right {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if text.is_empty() { Ok(Self::NONE) } else { text.parse().map(|source| Self(Some(source))) }
    }
}

/// The wanted state of a user. `None` leaves a value as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: Option<String>,
    pub(crate) read: Option<Right>,
    pub(crate) write: Option<Right>,
    pub(crate) groups: Option<BTreeSet<String>>,
    pub(crate) enabled: Option<bool>,
}

/// An attribute that operators set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attribute {
    Name,
    Read,
    Write,
}

impl Attribute {
    /// Its name in Cognito.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Read => "custom:read",
            Self::Write => "custom:write",
        }
    }
}

/// One difference between the present and the wanted state of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "camelCase")]
pub(crate) enum Change {
    Attribute { attribute: Attribute, from: String, to: String },
    Join { group: String },
    Leave { group: String },
    Enable,
    Disable,
}

impl Change {
    /// Whether the change says who somebody is.
    pub(super) fn is_personal(&self) -> bool {
        matches!(self, Self::Attribute { attribute: Attribute::Name, .. })
    }

    /// Whether the change lets the user do more.
    fn gives(&self) -> bool {
        match self {
            Self::Attribute { attribute: Attribute::Read | Attribute::Write, to, .. } => !to.is_empty(),
            Self::Join { .. } => true,
            Self::Attribute { attribute: Attribute::Name, .. } | Self::Leave { .. } | Self::Enable | Self::Disable => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        match self {
            Self::Attribute { attribute, from, to } => {
                let name = attribute.name().trim_start_matches("custom:");
                write!(formatter, "{name} {} → {}", or_none(from), or_none(to))
            }
            Self::Join { group } => write!(formatter, "joins {group}"),
            Self::Leave { group } => write!(formatter, "leaves {group}"),
            Self::Enable => formatter.write_str("enabled"),
            Self::Disable => formatter.write_str("disabled"),
        }
    }
}

/// The attributes that change, in Cognito's form.
pub(super) fn attributes_of(changes: &[Change]) -> Result<Vec<AttributeType>> {
    let values = changes.iter().filter_map(|change| match change {
        Change::Attribute { attribute, to, .. } => Some((attribute.name(), to.as_str())),
        _ => None,
    });
    values.map(|(name, value)| attribute(name, value)).collect()
}

/// An attribute in Cognito's form.
pub(super) fn attribute(name: &str, value: &str) -> Result<AttributeType> {
    Ok(AttributeType::builder().name(name).value(value).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attributes_that_differ_are_changed() {
        let account = Account {
            name: "Jane".to_owned(),
            read: "a".to_owned(),
            groups: BTreeSet::from(["x".to_owned(), "y".to_owned()]),
            ..Account::absent()
        };
        assert_eq!(account.changes(&Wish::default()), []);
        let same = Wish {
            name: Some("Jane".to_owned()),
            read: Some("a".parse().unwrap()),
            write: Some(Right::NONE),
            groups: Some(account.groups.clone()),
            enabled: Some(true),
        };
        assert_eq!(account.changes(&same), []);
        let other = Wish {
            name: Some(String::new()),
            read: Some(Right::NONE),
            write: Some("b".parse().unwrap()),
            groups: Some(BTreeSet::from(["y".to_owned(), "z".to_owned()])),
            enabled: Some(false),
        };
        let changes: Vec<_> = account.changes(&other).iter().map(Change::to_string).collect();
        assert_eq!(changes, ["name Jane → none", "read a → none", "write none → b", "joins z", "leaves x", "disabled"]);
    }

    #[test]
    fn an_account_that_may_be_a_strangers_gets_no_rights() {
        let changes = |wish: Wish| Account { read: "a".to_owned(), ..Account::absent() }.changes(&wish);
        let right = |name: &str| Some(name.parse::<Right>().unwrap());
        let giving = [
            changes(Wish { read: right("b"), ..Wish::default() }),
            changes(Wish { read: right(""), write: right("a"), ..Wish::default() }),
            changes(Wish { groups: Some(BTreeSet::from(["x".to_owned()])), ..Wish::default() }),
        ];
        let other = changes(Wish { read: right(""), name: Some("Jane".to_owned()), enabled: Some(false), ..Wish::default() });
        for (status, email_verified, reason) in [
            ("UNCONFIRMED", false, Some("the sign-up is not confirmed")),
            ("UNCONFIRMED", true, Some("the sign-up is not confirmed")),
            ("CONFIRMED", false, Some("the address is not verified")),
            ("RESET_REQUIRED", false, Some("the address is not verified")),
            ("CONFIRMED", true, None),
            ("FORCE_CHANGE_PASSWORD", false, None),
            ("EXTERNAL_PROVIDER", false, None),
        ] {
            let account = Account { status: status.to_owned(), email_verified, ..Account::absent() };
            for changes in &giving {
                let refusal = account.refusal(changes);
                assert_eq!(refusal.as_deref().and_then(|text| text.split(',').next()), reason, "{status} {changes:?}");
            }
            assert_eq!(account.refusal(&other), None, "{status}");
        }
    }

    #[test]
    fn only_a_verified_address_counts_as_one() {
        for (value, verified) in [("true", true), ("false", false), ("TRUE", false)] {
            let attribute = attribute("email_verified", value).unwrap();
            assert_eq!(Account::new("1", [&attribute], true, None).email_verified, verified);
        }
        assert!(!Account::new("1", [], true, None).email_verified);
    }

    #[test]
    fn a_name_cannot_write_on_the_terminal_or_a_line_of_a_file() {
        let name = attribute("name", " \u{1b}[2JJane\"\nevil@a.example,,a,a\u{9b}\u{7} ").unwrap();
        let account = Account::new("1", [&name], true, None);
        assert_eq!(account.name, "[2JJane\" evil@a.example,,a,a");
    }
}
