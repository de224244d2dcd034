//! The user pool, as its administrator sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::config::Builder;
use aws_sdk_cognitoidentityprovider::config::retry::RetryConfig;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, DeliveryMediumType, MessageActionType, UserStatusType, UserType};
use domain::{InvalidSource, Source};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::address::Address;
use crate::aws::Aws;
use crate::error::explain;
use crate::output::one_line;

/// Cognito's limit on changes of users is 25 a second for all of an account, so being told to wait is part of an import.
/// No more than these, because the mails of a day being used up looks the same, and each of its rows waits in vain.
const ATTEMPTS: u32 = 5;

/// A user, as Cognito has them. An attribute that is not there is an empty text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// The `sub`, or `<provider>_<id>` for a user of an identity provider.
    pub(crate) username: String,
    pub(crate) email: String,
    /// Whether Cognito, or the operator who made the account, says that the address is the user's. A provider's need not be.
    pub(crate) email_verified: bool,
    pub(crate) name: String,
    /// `custom:read`.
    pub(crate) read: String,
    /// `custom:write`.
    pub(crate) write: String,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) enabled: bool,
    /// As Cognito says it: `CONFIRMED`, `FORCE_CHANGE_PASSWORD`, `EXTERNAL_PROVIDER`, …
    pub(crate) status: String,
}

impl Account {
    /// A user who is not there yet.
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

    fn new<'a>(
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

    /// Why the account may not get any right, if so: anybody can sign up with another person's address and a password of
    /// their own. When that person then enters the code from the mail, the other one has the rights too.
    fn doubt(&self) -> Option<String> {
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

    /// Why these changes may not be made, if so. Taking a right away always may.
    pub(crate) fn refusal(&self, changes: &[Change]) -> Option<String> {
        if changes.iter().any(Change::gives) { self.doubt() } else { None }
    }

    /// What has to change for the user to be as wished.
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

/// A text that a user may have chosen.
fn clean(text: &str) -> String {
    one_line(text).trim_start().to_owned()
}

/// The institute that a user may read from or write for, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Right(Option<Source>);

impl Right {
    pub(crate) const NONE: Self = Self(None);

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

/// How a user is to be. What is `None` stays as it is.
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
    /// What Cognito calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Read => "custom:read",
            Self::Write => "custom:write",
        }
    }
}

/// One difference between a user as they are and as they are to be.
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
    /// Whether the user may do more afterwards.
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

/// How a new user gets to know the first password, which holds for one sign-in.
#[derive(Debug, Default)]
pub(crate) struct Invitation {
    /// Whether Cognito does not write to the user.
    pub(crate) suppressed: bool,
    /// The password; Cognito makes one up otherwise.
    pub(crate) temporary_password: Option<SecretString>,
}

/// A user pool of a deployment.
#[derive(Debug)]
pub(crate) struct Directory {
    client: Client,
    pool: String,
}

impl Directory {
    pub(crate) fn new(aws: &Aws, pool: &str) -> Self {
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let config = Builder::from(aws.config()).retry_config(retries).build();
        Self::with_client(Client::from_conf(config), pool)
    }

    pub(crate) fn with_client(client: Client, pool: &str) -> Self {
        Self { client, pool: pool.to_owned() }
    }

    /// All users with their groups, by address.
    ///
    /// A group is asked for its users, and not a user for the groups: there are fewer groups.
    pub(crate) async fn accounts(&self) -> Result<Vec<Account>> {
        let mut accounts = self.users(None).await?;
        let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for group in self.groups().await? {
            let mut users =
                self.client.list_users_in_group().user_pool_id(&self.pool).group_name(&group).into_paginator().items().send();
            while let Some(user) = users.next().await {
                let user = user.map_err(explain(format!("listing the users of the group `{group}`")))?;
                members.entry(clean(user.username().unwrap_or_default())).or_default().insert(group.clone());
            }
        }
        for account in &mut accounts {
            account.groups = members.remove(&account.username).unwrap_or_default();
        }
        accounts.sort_by(|one, other| (&one.email, &one.username).cmp(&(&other.email, &other.username)));
        Ok(accounts)
    }

    /// The names of the groups.
    pub(crate) async fn groups(&self) -> Result<BTreeSet<String>> {
        let mut groups = BTreeSet::new();
        let mut pages = self.client.list_groups().user_pool_id(&self.pool).into_paginator().items().send();
        while let Some(group) = pages.next().await {
            let group = group.map_err(explain("listing the groups"))?;
            groups.insert(group.group_name().unwrap_or_default().to_owned());
        }
        Ok(groups)
    }

    /// Refuses groups that are not there, before anything is done.
    pub(crate) async fn require_groups<'a>(&self, wanted: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let mut wanted = wanted.into_iter().peekable();
        if wanted.peek().is_some() {
            let groups = self.groups().await?;
            for group in wanted {
                ensure!(groups.contains(group), no_group(group, &groups));
            }
        }
        Ok(())
    }

    /// The one user with this address or user name.
    pub(crate) async fn find(&self, user: &str) -> Result<Account> {
        if let Some(account) = self.get(user).await?.filter(|account| account.username == user) {
            return self.with_groups(account).await;
        }
        let mut found = BTreeMap::new();
        if let Ok(address) = user.parse::<Address>() {
            // The pool finds its own users by address; one of an identity provider is found in the list only.
            let own = self.get(address.as_str()).await?;
            let listed = self.users(Some(format!("email = \"{address}\""))).await?;
            found.extend(own.into_iter().chain(listed).map(|account| (account.username.clone(), account)));
        }
        let names: Vec<_> = found.keys().cloned().collect();
        let mut found = found.into_values();
        let account = found.next().with_context(|| format!("there is no user `{}`", user.escape_debug()))?;
        ensure!(found.next().is_none(), "`{user}` is the address of {}: say which", names.join(" and "));
        self.with_groups(account).await
    }

    async fn get(&self, user: &str) -> Result<Option<Account>> {
        match self.client.admin_get_user().user_pool_id(&self.pool).username(user).send().await {
            Ok(found) => Ok(Some(Account::new(found.username(), found.user_attributes(), found.enabled(), found.user_status()))),
            Err(error) if error.code() == Some("UserNotFoundException") => Ok(None),
            Err(error) => Err(explain(format!("looking for the user `{}`", user.escape_debug()))(error)),
        }
    }

    async fn users(&self, filter: Option<String>) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        let mut users = self.client.list_users().user_pool_id(&self.pool).set_filter(filter).into_paginator().items().send();
        while let Some(user) = users.next().await {
            let user: UserType = user.map_err(explain("listing the users"))?;
            let username = user.username().unwrap_or_default();
            accounts.push(Account::new(username, user.attributes(), user.enabled(), user.user_status()));
        }
        Ok(accounts)
    }

    async fn with_groups(&self, mut account: Account) -> Result<Account> {
        let request = self.client.admin_list_groups_for_user().user_pool_id(&self.pool).username(&account.username);
        let mut groups = request.into_paginator().items().send();
        while let Some(group) = groups.next().await {
            let group = group.map_err(explain(format!("listing the groups of `{}`", account.email)))?;
            account.groups.insert(group.group_name().unwrap_or_default().to_owned());
        }
        Ok(account)
    }

    /// Makes a user.
    pub(crate) async fn create(&self, address: &Address, wish: &Wish, invitation: &Invitation) -> Result<()> {
        let changes = Account::absent().changes(wish);
        // The operator vouches for the address. Unverified, it could not be used to recover the account.
        let mut attributes = vec![attribute("email", address.as_str())?, attribute("email_verified", "true")?];
        attributes.extend(attributes_of(&changes)?);
        // Nobody is invited to an account that is closed.
        let suppressed = invitation.suppressed || changes.contains(&Change::Disable);
        let created = self
            .client
            .admin_create_user()
            .user_pool_id(&self.pool)
            .username(address.as_str())
            .set_user_attributes(Some(attributes))
            .set_temporary_password(invitation.temporary_password.as_ref().map(|secret| secret.expose_secret().to_owned()))
            .desired_delivery_mediums(DeliveryMediumType::Email)
            .set_message_action(suppressed.then_some(MessageActionType::Suppress))
            .send()
            .await;
        let created = match created {
            Err(error) if error.code() == Some("UsernameExistsException") => {
                let doubt = self.get(address.as_str()).await?.and_then(|account| account.doubt());
                let what = doubt.unwrap_or_else(|| "change them with `sluice users set`".to_owned());
                bail!("`{address}` is a user already: {what}")
            }
            created => created.map_err(explain(format!("creating the user `{address}`")))?,
        };
        let username = created.user().and_then(UserType::username).unwrap_or(address.as_str());
        let rest: Vec<_> = changes.into_iter().filter(|change| !matches!(change, Change::Attribute { .. })).collect();
        self.make(username, &rest).await.with_context(|| format!("`{address}` is created, but not all is set"))
    }

    /// Changes a user. Each change can be made twice with the effect of once. Refuses to give rights to an account that
    /// may be a stranger's.
    pub(crate) async fn apply(&self, account: &Account, changes: &[Change]) -> Result<()> {
        if let Some(reason) = account.refusal(changes) {
            let user = if account.email.is_empty() { &account.username } else { &account.email };
            bail!("`{user}` gets no rights: {reason}");
        }
        self.make(&account.username, changes).await
    }

    async fn make(&self, username: &str, changes: &[Change]) -> Result<()> {
        let (client, pool) = (&self.client, &self.pool);
        let attributes = attributes_of(changes)?;
        if !attributes.is_empty() {
            let request = client.admin_update_user_attributes().user_pool_id(pool).username(username);
            let done = request.set_user_attributes(Some(attributes)).send().await;
            done.map_err(explain(format!("changing the attributes of `{username}`")))?;
        }
        for change in changes {
            match change {
                Change::Attribute { .. } => {}
                Change::Join { group } => {
                    let request = client.admin_add_user_to_group().user_pool_id(pool).username(username);
                    let done = request.group_name(group).send().await;
                    done.map_err(explain(format!("adding `{username}` to the group `{group}`")))?;
                }
                Change::Leave { group } => {
                    let request = client.admin_remove_user_from_group().user_pool_id(pool).username(username);
                    let done = request.group_name(group).send().await;
                    done.map_err(explain(format!("removing `{username}` from the group `{group}`")))?;
                }
                Change::Enable => {
                    let done = client.admin_enable_user().user_pool_id(pool).username(username).send().await;
                    done.map_err(explain(format!("enabling `{username}`")))?;
                }
                Change::Disable => {
                    let done = client.admin_disable_user().user_pool_id(pool).username(username).send().await;
                    done.map_err(explain(format!("disabling `{username}`")))?;
                    self.sign_out(username).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends every session of a user: the refresh tokens are dead, and an ID token is no longer exchanged for credentials.
    pub(crate) async fn sign_out(&self, username: &str) -> Result<()> {
        let done = self.client.admin_user_global_sign_out().user_pool_id(&self.pool).username(username).send().await;
        done.map_err(explain(format!("signing `{username}` out")))?;
        Ok(())
    }

    /// Sends a new temporary password to a user who has never signed in.
    pub(crate) async fn invite(&self, account: &Account) -> Result<()> {
        ensure!(
            account.status == UserStatusType::ForceChangePassword.as_str(),
            "`{}` has a password already (the status is {}): who has forgotten it sets another at the sign-in",
            account.email,
            account.status
        );
        self.client
            .admin_create_user()
            .user_pool_id(&self.pool)
            .username(&account.email)
            .desired_delivery_mediums(DeliveryMediumType::Email)
            .message_action(MessageActionType::Resend)
            .send()
            .await
            .map_err(explain(format!("inviting `{}`", account.email)))?;
        Ok(())
    }
}

/// Why a group cannot be joined.
pub(crate) fn no_group(group: &str, groups: &BTreeSet<String>) -> String {
    let there = groups.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let there = if there.is_empty() { "no groups".to_owned() } else { there };
    format!("there is no group `{}`; the user pool has {there}", group.escape_debug())
}

fn attributes_of(changes: &[Change]) -> Result<Vec<AttributeType>> {
    let values = changes.iter().filter_map(|change| match change {
        Change::Attribute { attribute, to, .. } => Some((attribute.name(), to.as_str())),
        _ => None,
    });
    values.map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, value: &str) -> Result<AttributeType> {
    Ok(AttributeType::builder().name(name).value(value).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_changes() {
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
