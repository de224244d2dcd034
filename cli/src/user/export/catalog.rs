//! The catalog as its institute's users read it: directly, with their own AWS credentials.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue::S;
use domain::Source;
use domain::arrivals::{self, Arrival, Merge, Order, Reached, SHARDS};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tables::Entry;

use client::Client;
use client::aws::Aws;
use client::error::explain;
use client::sign_in::exchange;
use client::tokens::TokenClaims;

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

/// How far each of the institute's partitions has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position(Vec<Reached>);

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
        let source: Source = self.institute.parse()?;
        let reached = after.map_or_else(|| vec![Reached::Start; SHARDS], |it| it.0.clone());
        let mut list = Merge::from(reached, Order::OldestFirst);
        let per_shard = (limit / i32::try_from(SHARDS)?).max(1);
        let pages = list.due().into_iter().map(|(shard, after)| {
            let (query, source) = (self.query(&dynamodb, selection, shard, per_shard), &source);
            let key = |it: Arrival| it.key(source).map(|(name, value)| (name.to_owned(), S(value))).into();
            async move {
                let found = query.set_exclusive_start_key(after.map(key)).send().await.map_err(explain("reading the catalog"))?;
                anyhow::Ok((shard, found))
            }
        });
        for (shard, found) in try_join_all(pages).await? {
            let reached = found.last_evaluated_key.map(serde_dynamo::from_item).transpose().context("the catalog's position")?;
            let entries = found.items.unwrap_or_default().into_iter().map(serde_dynamo::from_item);
            let entries = entries.collect::<Result<Vec<Entry>, _>>().context("a record of the catalog cannot be read")?;
            let arrival = |it: &Entry| Arrival { received_at: it.received_at, message_id: it.message_id.clone() };
            list.add(shard, entries.into_iter().map(|it| (arrival(&it), it)), reached);
        }
        let entries = std::iter::from_fn(|| list.pop()).take(usize::try_from(limit)?).collect();
        Ok((entries, list.reached().map(Position)))
    }

    /// Reads one of the institute's partitions.
    fn query(&self, dynamodb: &aws_sdk_dynamodb::Client, selection: &Selection, shard: usize, limit: i32) -> QueryFluentBuilder {
        let text = |text: &str| S(text.to_owned());
        let shard = arrivals::shards(&self.institute).into_iter().nth(shard).unwrap_or_default();
        let mut values = HashMap::from([(":shard".to_owned(), S(shard)), (":stored".to_owned(), text("stored"))]);
        values.insert(":to".to_owned(), text(&selection.to));
        // DynamoDB takes one condition on the sort key. The order of the texts is the order of the times.
        let from = selection.from.as_deref().unwrap_or("0000");
        values.insert(":from".to_owned(), text(from));
        let mut filter = "listed = :stored".to_owned();
        for (name, value) in [("messageType", &selection.message_type), ("triggerEvent", &selection.trigger_event)] {
            if let Some(value) = value {
                filter.push_str(&format!(" AND summary.{name} = :{name}"));
                values.insert(format!(":{name}"), text(value));
            }
        }
        dynamodb
            .query()
            .table_name(&self.table)
            .index_name(arrivals::INDEX)
            .limit(limit)
            .key_condition_expression("arrival_shard = :shard AND received_at BETWEEN :from AND :to")
            .filter_expression(filter)
            .set_expression_attribute_values(Some(values))
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
