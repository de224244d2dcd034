//! The catalog as its institute's users read it: directly, with their own AWS credentials.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use serde::{Deserialize, Serialize};
use tables::Entry;

use client::Client;
use client::aws::Aws;
use client::error::explain;
use client::sign_in::exchange;
use client::tokens::TokenClaims;

/// The index of an institute's records by `received_at` (`infra/core.yaml`).
const INDEX: &str = "by-received-at";

/// Credentials with less left are exchanged anew before the next page.
const LEAST_LEFT: Duration = Duration::from_secs(10 * 60);

/// The messages to export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// Received then or later.
    pub(crate) from: Option<String>,
    /// Received then or before: always given, so that an export has an end.
    pub(crate) to: String,
    /// MSH-9.1.
    pub(crate) message_type: Option<String>,
    /// MSH-9.2.
    pub(crate) trigger_event: Option<String>,
}

/// The key of the last record that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    source: String,
    received_at: String,
    message_id: String,
}

/// A user's direct access to catalog and lake.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    client: &'a Client,
    table: String,
    /// The institute that the user reads from.
    pub(crate) institute: String,
    /// The address of the API, which tells deployments apart.
    pub(crate) api_url: String,
    clients: Option<Clients>,
}

#[derive(Debug, Clone)]
struct Clients {
    dynamodb: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
    expires_at: Option<SystemTime>,
}

impl<'a> Reader<'a> {
    /// Catalog and lake of the signed-in user.
    ///
    /// # Errors
    /// When the user is one of the lake's staff or may read nothing, or the session does not know the table.
    pub(crate) async fn open(client: &'a Client) -> Result<Self> {
        let session = client.session().await?;
        if client.is_staff() {
            bail!("lake staff see no content: an institute's own users export its messages");
        }
        let institute = TokenClaims::of(&session.tokens.id)?.read;
        if institute.is_empty() {
            bail!("the account may not read the messages of any institute: `sluice whoami` shows what it may");
        }
        let table = session.deployment.table.context(
            "the session does not name the deployment's catalog: sign in again with a newer deployment file (`sluice deploy --json`)",
        )?;
        Ok(Self { client, table, institute, api_url: session.deployment.api_url, clients: None })
    }

    /// Clients whose credentials last for a while; the session renews the token.
    async fn clients(&mut self) -> Result<Clients> {
        let lasts = |clients: &&Clients| clients.expires_at.is_none_or(|at| at > SystemTime::now() + LEAST_LEFT);
        if let Some(clients) = self.clients.as_ref().filter(lasts) {
            return Ok(clients.clone());
        }
        let session = self.client.session().await?;
        let credentials = exchange(&session.deployment, &session.tokens.id).await?;
        let expires_at = credentials.expiry();
        let aws = Aws::of_user(session.deployment.endpoint_url.as_deref(), &session.deployment.region, credentials);
        let clients = Clients { dynamodb: aws_sdk_dynamodb::Client::new(aws.config()), s3: aws.s3(), expires_at };
        Ok(self.clients.insert(clients).clone())
    }

    /// The lake, for the next page of messages.
    ///
    /// # Errors
    /// When the sign-in cannot be renewed.
    pub(crate) async fn lake(&mut self) -> Result<aws_sdk_s3::Client> {
        Ok(self.clients().await?.s3)
    }

    /// The next records, oldest first, at most `limit` of them before the selection; and the position after them, if there are
    /// more.
    ///
    /// # Errors
    /// When DynamoDB refuses or does not answer, or the sign-in cannot be renewed.
    pub(crate) async fn next(
        &mut self,
        selection: &Selection,
        after: Option<&Position>,
        limit: i32,
    ) -> Result<(Vec<Entry>, Option<Position>)> {
        let dynamodb = self.clients().await?.dynamodb;
        let text = |text: &str| S(text.to_owned());
        let mut values = HashMap::from([(":source".to_owned(), text(&self.institute)), (":stored".to_owned(), text("stored"))]);
        values.insert(":to".to_owned(), text(&selection.to));
        // DynamoDB takes one condition on the sort key. The order of the texts is the order of the times.
        let from = selection.from.as_deref().unwrap_or("0000");
        values.insert(":from".to_owned(), text(from));
        let mut filter = "#status = :stored".to_owned();
        for (name, value) in [("messageType", &selection.message_type), ("triggerEvent", &selection.trigger_event)] {
            if let Some(value) = value {
                filter.push_str(&format!(" AND summary.{name} = :{name}"));
                values.insert(format!(":{name}"), text(value));
            }
        }
        let found = dynamodb
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .limit(limit)
            .key_condition_expression("#source = :source AND received_at BETWEEN :from AND :to")
            .filter_expression(filter)
            .expression_attribute_names("#source", "source")
            .expression_attribute_names("#status", "status")
            .set_expression_attribute_values(Some(values))
            .set_exclusive_start_key(after.map(Position::key))
            .send()
            .await
            .map_err(explain("reading the catalog"))?;
        let reached = found.last_evaluated_key.map(serde_dynamo::from_item).transpose().context("the catalog's position")?;
        let items = found.items.unwrap_or_default().into_iter().map(serde_dynamo::from_item);
        let entries = items.collect::<Result<Vec<Entry>, _>>().context("a record of the catalog cannot be read")?;
        Ok((entries, reached))
    }
}

impl Position {
    fn key(&self) -> HashMap<String, AttributeValue> {
        let members = [("source", &self.source), ("received_at", &self.received_at), ("message_id", &self.message_id)];
        members.map(|(name, value)| (name.to_owned(), S(value.clone()))).into()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::{MessageId, State, Summary};

    use super::*;

    pub(crate) fn entry() -> Entry {
        Entry {
            message_id: MessageId::of_canonical(b"x"),
            source: "west".parse().unwrap(),
            received_at: "2026-11-28T21:00:00.120Z".parse().unwrap(),
            stored_at: "2026-11-28T21:00:01Z".parse().ok(),
            state: State::Parsed,
            bucket: "lake".to_owned(),
            key: "source=west/x.hl7".to_owned(),
            version_id: None,
            json_key: None,
            raw_key: None,
            charset: None,
            summary: Summary { message_type: Some("ORU".to_owned()), ..Summary::default() },
        }
    }
}
