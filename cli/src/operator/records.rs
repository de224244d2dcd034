//! The catalog's records, as an operator reads them: many at once, with the operator's own AWS credentials.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue::S;
use catalog::{Catalog, Item};
use domain::{MessageId, Record, Source};

use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The key of a record.
pub(crate) type Key = (Source, MessageId);

/// The key of any item, also of one that is no record (`#identities`): where a page of the table ends.
pub(crate) type Place = (String, String);

/// The catalog table.
#[derive(Debug)]
pub(crate) struct Records {
    client: Client,
    table: String,
    catalog: Catalog,
}

impl Records {
    pub(crate) fn new(aws: &Aws, outputs: &Outputs) -> Self {
        let (client, table) = (Client::new(aws.config()), outputs.table.clone());
        Self { catalog: Catalog::new(client.clone(), table.clone()), client, table }
    }

    /// The record with that key, read consistently. `None` if there is none that can be read.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.get_many(vec![key.clone()]).await?.remove(key).flatten())
    }

    /// The existing records with these keys, read consistently; `None` for an item that is no record.
    pub(crate) async fn get_many(&self, mut keys: Vec<Key>) -> Result<HashMap<Key, Option<Record>>> {
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.iter().map(item_key).collect();
        let items = self.catalog.items(keys).await.context("reading the catalog")?;
        items.into_iter().map(|item| Ok((key_of(&item)?, catalog::record(item).ok()))).collect()
    }

    /// The messages of an institute whose ids begin with these lower-case digits: a few of them, enough to know whether there is just one.
    pub(crate) async fn with_prefix(&self, source: &Source, digits: &str) -> Result<Vec<MessageId>> {
        const ENOUGH: i32 = 6;
        let query = self.client.query().table_name(&self.table).limit(ENOUGH).consistent_read(true);
        let query = query.key_condition_expression("#source = :source AND begins_with(message_id, :digits)");
        let query = query.expression_attribute_names("#source", "source").projection_expression("#source, message_id");
        let query = query.expression_attribute_values(":source", S(source.to_string()));
        let page = query.expression_attribute_values(":digits", S(digits.to_owned())).send().await;
        let page = page.map_err(explain("reading the catalog"))?;
        page.items().iter().map(|item| Ok(key_of(item)?.1)).collect()
    }

    /// A page of one institute's records or of all, and where the next page begins.
    pub(crate) async fn page(&self, of: Option<&Source>, after: Option<&Place>) -> Result<(Vec<Item>, Option<Place>)> {
        const PAGE: i32 = 500;
        let after = after.map(|(source, message_id)| {
            [("source", source), ("message_id", message_id)].map(|(name, text)| (name.to_owned(), S(text.clone()))).into()
        });
        let (items, last) = match of {
            Some(source) => {
                let query: QueryFluentBuilder = self.client.query().table_name(&self.table).limit(PAGE).consistent_read(true);
                let query = query.key_condition_expression("#source = :source").expression_attribute_names("#source", "source");
                let query = query.expression_attribute_values(":source", S(source.to_string())).set_exclusive_start_key(after);
                let page = query.send().await.map_err(explain("reading the catalog"))?;
                (page.items, page.last_evaluated_key)
            }
            None => {
                let scan: ScanFluentBuilder = self.client.scan().table_name(&self.table).limit(PAGE).consistent_read(true);
                let page = scan.set_exclusive_start_key(after).send().await.map_err(explain("reading the catalog"))?;
                (page.items, page.last_evaluated_key)
            }
        };
        Ok((items.unwrap_or_default(), last.as_ref().map(place_of)))
    }
}

/// The key as DynamoDB takes it.
fn item_key((source, message_id): &Key) -> Item {
    catalog::key(source, message_id)
}

/// The key of an item.
pub(crate) fn key_of(item: &Item) -> Result<Key> {
    let (source, message_id) = place_of(item);
    Ok((source.parse()?, message_id.parse()?))
}

fn place_of(item: &Item) -> Place {
    let text = |name| item.get(name).and_then(|it| it.as_s().ok()).cloned().unwrap_or_default();
    (text("source"), text("message_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_end_at_an_item_that_is_no_record() {
        let item =
            Item::from([("source", "#identities"), ("message_id", "0")].map(|(name, it)| (name.to_owned(), S(it.to_owned()))));
        assert_eq!(place_of(&item), ("#identities".to_owned(), "0".to_owned()));
        assert!(key_of(&item).is_err(), "it is the key of no message");
    }
}
