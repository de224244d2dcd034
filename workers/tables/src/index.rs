//! The catalog's index by arrival, read in a session that sees one institute's partitions.

use std::cmp::Reverse;
use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use domain::arrivals::{self, Arrival, Merge, Order, SHARDS};
use domain::{Source, Status, Timestamp};
use futures_util::future::try_join_all;
use runtime::StepError;
use serde::Deserialize;
use tables::Entry;

const QUERY: &str = "dynamodb:Query";

/// The attributes of a record that the session's role may see (`TablesSessionRole` in `infra/tables.yaml`).
const ATTRIBUTES: [&str; 14] = [
    "source",
    "message_id",
    arrivals::SHARD,
    "received_at",
    "stored_at",
    "listed",
    "state",
    "bucket",
    "key",
    "version_id",
    "json_key",
    "raw_key",
    "charset",
    "summary",
];

/// The records of a day in the order of arrival, read as they are asked for.
#[derive(Debug)]
pub(crate) struct Day<'a> {
    index: &'a Index,
    day: &'a str,
    list: Merge<Found>,
}

/// A record of the index.
#[derive(Debug)]
pub(crate) enum Found {
    Stored(Box<Entry>),
    /// It is queued, held, discarded: it may still be stored, under the same arrival.
    Unfinished,
}

#[derive(Deserialize)]
struct StatusOnly {
    listed: Option<Status>,
}

/// An institute's records by arrival.
#[derive(Debug)]
pub(crate) struct Index {
    client: Client,
    table: String,
    source: Source,
}

impl Index {
    pub(crate) fn new(client: Client, table: String, source: Source) -> Self {
        Self { client, table, source }
    }

    /// The first day with a record after the day `after` (`YYYY-MM-DD`); the first of all without one.
    pub(crate) async fn first_day(&self, after: Option<&str>) -> Result<Option<String>, StepError> {
        // After every time of that day, and before the next day.
        let after = after.map_or_else(|| "0".to_owned(), |day| format!("{day}T24"));
        let first = try_join_all((0..SHARDS).map(|shard| {
            let query = self.query(shard, "received_at > :after").limit(1);
            found(query.expression_attribute_values(":after", AttributeValue::S(after.clone())))
        }));
        let first = first.await?.into_iter().flat_map(|it| it.0).map(|it| it.0.received_at).min();
        Ok(first.map(|it: Timestamp| it.date()))
    }

    /// The institute's stored records among the newest ones of each of its partitions, so many at most of all.
    pub(crate) async fn newest(&self, most: i32) -> Result<Vec<Entry>, StepError> {
        let newest = try_join_all((0..SHARDS).map(|shard| {
            let query = self.query(shard, "received_at > :after").scan_index_forward(false).limit(most);
            found(query.expression_attribute_values(":after", AttributeValue::S("0".to_owned())))
        }));
        let mut newest: Vec<_> = newest.await?.into_iter().flat_map(|it| it.0).collect();
        newest.sort_by_key(|(arrival, _)| Reverse(arrival.received_at));
        newest.truncate(usize::try_from(most).unwrap_or_default());
        let stored = |(_, found)| if let Found::Stored(entry) = found { Some(*entry) } else { None };
        Ok(newest.into_iter().filter_map(stored).collect())
    }

    /// The records of a day.
    pub(crate) fn day<'a>(&'a self, day: &'a str) -> Day<'a> {
        Day { index: self, day, list: Merge::of_all(Order::OldestFirst) }
    }

    fn query(&self, shard: usize, range: &str) -> QueryFluentBuilder {
        let names: Vec<String> = ATTRIBUTES.iter().map(|name| format!("#{name}")).collect();
        let query = self.client.query().table_name(&self.table).index_name(arrivals::INDEX).select(Select::SpecificAttributes);
        let query = query.projection_expression(names.join(", ")).scan_index_forward(true);
        let query = query.key_condition_expression(format!("#{} = :shard AND {range}", arrivals::SHARD));
        let shard = arrivals::shards(self.source.as_str()).into_iter().nth(shard).unwrap_or_default();
        let query = query.expression_attribute_values(":shard", AttributeValue::S(shard));
        ATTRIBUTES.iter().fold(query, |query, name| query.expression_attribute_names(format!("#{name}"), *name))
    }
}

impl Day<'_> {
    /// The next records; `None` after the last. DynamoDB ends what it reads at 1 MiB.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Found>>, StepError> {
        if self.list.reached().is_none() {
            return Ok(None);
        }
        let (index, day) = (self.index, self.day);
        let pages = try_join_all(self.list.due().into_iter().map(|(shard, after)| async move {
            let query = index.query(shard, "received_at BETWEEN :from AND :to");
            let query = query
                .expression_attribute_values(":from", AttributeValue::S(day.to_owned()))
                .expression_attribute_values(":to", AttributeValue::S(format!("{day}T24")))
                .set_exclusive_start_key(after.map(|it| it.key(&index.source)).map(text));
            Ok::<_, StepError>((shard, found(query).await?))
        }));
        for (shard, (found, reached)) in pages.await? {
            self.list.add(shard, found, reached);
        }
        Ok(Some(std::iter::from_fn(|| self.list.pop()).collect()))
    }
}

/// The records that a query finds, and the place of the last one if there may be more.
async fn found(query: QueryFluentBuilder) -> Result<(Vec<(Arrival, Found)>, Option<Arrival>), StepError> {
    let found = query.send().await.map_err(|error| StepError::from_sdk(QUERY, &error))?;
    let reached = found.last_evaluated_key.map(serde_dynamo::from_item).transpose().map_err(|_| UNREADABLE)?;
    Ok((found.items.unwrap_or_default().into_iter().map(read).collect::<Result<_, _>>()?, reached))
}

fn text(key: [(&'static str, String); 4]) -> HashMap<String, AttributeValue> {
    key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value))).into()
}

const UNREADABLE: StepError = StepError::InvalidInput { what: "a catalog record" };

fn read(item: HashMap<String, AttributeValue>) -> Result<(Arrival, Found), StepError> {
    let arrival = serde_dynamo::from_item(item.clone()).map_err(|_| UNREADABLE)?;
    let it: StatusOnly = serde_dynamo::from_item(item.clone()).map_err(|_| UNREADABLE)?;
    if it.listed != Some(Status::Stored) {
        return Ok((arrival, Found::Unfinished));
    }
    serde_dynamo::from_item(item).map(|entry| (arrival, Found::Stored(Box::new(entry)))).map_err(|_| UNREADABLE)
}
