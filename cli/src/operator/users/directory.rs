//! The user pool, as its administrator sees it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::config::Builder;
use aws_sdk_cognitoidentityprovider::config::retry::RetryConfig;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{DeliveryMediumType, MessageActionType, UserStatusType, UserType};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::account::{Account, Change, Wish, attribute, attributes_of, clean};
use super::address::Address;
use crate::operator::journal::Journal;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// Cognito allows 25 changes of users a second in an account, so an import has to expect throttling. The attempts are limited,
/// because an exhausted daily mail quota gives the same error, and every further row would wait for nothing.
const ATTEMPTS: u32 = 5;

/// How a new user learns the first password, which is good for one sign-in.
#[derive(Debug, Default)]
pub(crate) struct Invitation {
    /// Whether Cognito sends no e-mail to the user.
    pub(crate) suppressed: bool,
    /// The password; without one, Cognito generates it.
    pub(crate) temporary_password: Option<SecretString>,
}

/// A user pool of a deployment.
#[derive(Debug)]
pub(crate) struct Directory {
    client: Client,
    pool: String,
    /// Where changes are recorded; `None` in tests of Cognito alone.
    journal: Option<Journal>,
}

impl Directory {
    pub(crate) fn new(aws: &Aws, outputs: &Outputs, pool: &str) -> Result<Self> {
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let config = Builder::from(aws.config()).retry_config(retries).build();
        let journal = Some(Journal::new(aws, outputs, "Enroll", "users")?);
        Ok(Self { journal, ..Self::with_client(Client::from_conf(config), pool) })
    }

    pub(crate) fn with_client(client: Client, pool: &str) -> Self {
        Self { client, pool: pool.to_owned(), journal: None }
    }

    /// All users with their groups, by address.
    ///
    /// Asks for the users of each group, and not for the groups of each user: there are fewer groups.
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

    /// Refuses groups that do not exist, before anything changes.
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
            // Cognito finds the pool's own users by address; users of an identity provider are only in the list.
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
        self.note(username, "created", &changes).await?;
        let rest: Vec<_> = changes.into_iter().filter(|change| !matches!(change, Change::Attribute { .. })).collect();
        self.make(username, &rest).await.with_context(|| format!("`{address}` was created, but some of its settings failed"))
    }

    /// Changes a user. A repeated change has no further effect. Refuses to give rights to an account that may be a stranger's.
    pub(crate) async fn apply(&self, account: &Account, changes: &[Change]) -> Result<()> {
        if let Some(reason) = account.refusal(changes) {
            let user = if account.email.is_empty() { &account.username } else { &account.email };
            bail!("`{user}` gets no rights: {reason}");
        }
        self.make(&account.username, changes).await?;
        self.note(&account.username, "changed", changes).await
    }

    /// Records the changes of a user, without a person's name or address.
    async fn note(&self, username: &str, outcome: &str, changes: &[Change]) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let subject = if username.contains('@') { "" } else { username };
        let changes: Vec<String> = changes.iter().filter(|change| !change.is_personal()).map(Change::to_string).collect();
        let facts = vec![("user", json!(subject)), ("pool", json!(self.pool)), ("changes", json!(changes))];
        journal.write(outcome, facts).await.context("done, but not noted")
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

    /// Ends every session of a user: refresh tokens become invalid, and an ID token is no longer exchanged for credentials.
    pub(crate) async fn sign_out(&self, username: &str) -> Result<()> {
        let done = self.client.admin_user_global_sign_out().user_pool_id(&self.pool).username(username).send().await;
        done.map_err(explain(format!("signing `{username}` out")))?;
        self.note(username, "signed-out", &[]).await
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

/// The error about a group that does not exist.
pub(crate) fn no_group(group: &str, groups: &BTreeSet<String>) -> String {
    let there = groups.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let there = if there.is_empty() { "no groups".to_owned() } else { there };
    format!("there is no group `{}`; the user pool has {there}", group.escape_debug())
}
