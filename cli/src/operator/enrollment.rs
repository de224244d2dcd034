//! The enrollment table as an operator uses it: which e-mail domains are whose, and who waits.
//!
//! The worker `enroll` reads the one and writes the other when somebody signs up.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use domain::enrollment::{DomainRule, EmailDomain, Kind, Pending};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::journal::Journal;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The enrollment table of a deployment.
#[derive(Debug)]
pub(crate) struct Enrollment {
    client: Client,
    table: String,
    journal: Journal,
}

impl Enrollment {
    pub(crate) fn new(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        let table = outputs.stack_output("EnrollmentTableName")?.to_owned();
        Ok(Self { client: Client::new(aws.config()), table, journal: Journal::new(aws, outputs, "Enroll", "domains")? })
    }

    /// The rules, by domain.
    pub(crate) async fn rules(&self) -> Result<Vec<DomainRule>> {
        self.all(Kind::Domain).await
    }

    /// Creates a rule, and gives the one that it replaces.
    pub(crate) async fn put_rule(&self, rule: &DomainRule) -> Result<Option<DomainRule>> {
        let item = serde_dynamo::to_item(rule).context("a rule has no form in DynamoDB")?;
        let request = self.client.put_item().table_name(&self.table).set_item(Some(item)).item("kind", kind(Kind::Domain));
        let done = request.return_values(ReturnValue::AllOld).send().await;
        let done = done.map_err(explain(format!("making the rule for `{}`", rule.domain)))?;
        let facts = vec![("domain", json!(rule.domain)), ("source", json!(rule.institute)), ("changes", json!(rights(rule)))];
        self.journal.write("rule-made", facts).await.context("done, but not noted")?;
        done.attributes.map(read).transpose()
    }

    /// Removes a rule and gives it, if there was one.
    pub(crate) async fn remove_rule(&self, domain: &EmailDomain) -> Result<Option<DomainRule>> {
        let name = AttributeValue::S(domain.as_str().to_owned());
        let request = self.client.delete_item().table_name(&self.table).key("kind", kind(Kind::Domain)).key("name", name);
        let done = request.return_values(ReturnValue::AllOld).send().await;
        let done = done.map_err(explain(format!("removing the rule for `{domain}`")))?;
        self.journal.write("rule-removed", vec![("domain", json!(domain))]).await.context("done, but not noted")?;
        done.attributes.map(read).transpose()
    }

    /// The users who signed up and have no institute, in the order in which they signed up.
    pub(crate) async fn pending(&self) -> Result<Vec<Pending>> {
        let mut pending: Vec<Pending> = self.all(Kind::Pending).await?;
        pending.sort_by(|one, other| (one.since, &one.sub).cmp(&(other.since, &other.sub)));
        Ok(pending)
    }

    /// The pending user with this address or user name.
    pub(crate) async fn find_pending(&self, user: &str) -> Result<Pending> {
        let mut pending = self.pending().await?;
        pending.retain(|pending| {
            pending.username == user
                || pending.sub == user
                || pending.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(user))
        });
        let names: Vec<_> = pending.iter().map(|pending| pending.username.clone()).collect();
        let mut pending = pending.into_iter();
        let found = pending.next().with_context(|| {
            format!("`{}` does not wait for approval; `sluice users set` changes other users", user.escape_debug())
        })?;
        anyhow::ensure!(pending.next().is_none(), "`{user}` is the address of {}: say which", names.join(" and "));
        Ok(found)
    }

    /// Removes a user from the pending list.
    pub(crate) async fn remove_pending(&self, pending: &Pending) -> Result<()> {
        let name = AttributeValue::S(pending.sub.clone());
        let request = self.client.delete_item().table_name(&self.table).key("kind", kind(Kind::Pending)).key("name", name);
        request.send().await.map_err(explain(format!("removing the entry of `{}`", pending.username)))?;
        Ok(())
    }

    async fn all<T: DeserializeOwned>(&self, of: Kind) -> Result<Vec<T>> {
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#kind = :kind")
            .expression_attribute_names("#kind", "kind")
            .expression_attribute_values(":kind", kind(of))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            found.push(read(item.map_err(explain("reading the enrollment table"))?)?);
        }
        Ok(found)
    }
}

fn kind(kind: Kind) -> AttributeValue {
    AttributeValue::S(kind.as_str().to_owned())
}

fn read<T: DeserializeOwned>(item: std::collections::HashMap<String, AttributeValue>) -> Result<T> {
    let name = item.get("name").and_then(|name| name.as_s().ok()).cloned().unwrap_or_default();
    serde_dynamo::from_item(item).with_context(|| format!("the item `{name}` of the enrollment table is not one of ours"))
}

/// The rights that a rule gives, in the words of a user's token.
fn rights(rule: &DomainRule) -> Vec<&'static str> {
    [("read", rule.read), ("write", rule.write)].into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}
