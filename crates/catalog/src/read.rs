//! Reads records under the worker's own role, or an operator's.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use aws_sdk_dynamodb::types::KeysAndAttributes;
use domain::{MessageId, Record, Source};
use heck::ToLowerCamelCase as _;
use runtime::StepError;

use crate::Catalog;

/// An item of the table, or its key.
pub type Item = HashMap<String, AttributeValue>;

const BATCH_GET_ITEM: &str = "dynamodb:BatchGetItem";
/// The most keys that one BatchGetItem takes.
const MOST_KEYS: usize = 100;
/// The number of answers in a row that may leave keys out.
const MOST_INCOMPLETE: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

impl Catalog {
    /// The record of a message, read consistently.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn get(&self, source: &Source, message_id: &MessageId) -> Result<Option<Record>, StepError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(source, message_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StepError::from_sdk("dynamodb:GetItem", &error))?;
        found.item.map(record).transpose()
    }

    /// The existing records among these messages of an institute, read consistently, in no order.
    ///
    /// # Errors
    /// [`StepError`] of the calls; [`StepError::Throttled`] where DynamoDB leaves keys out of five answers in a row.
    pub async fn get_many<'ids>(
        &self,
        source: &Source,
        message_ids: impl IntoIterator<Item = &'ids MessageId>,
    ) -> Result<Vec<Record>, StepError> {
        let keys = message_ids.into_iter().map(|id| key(source, id)).collect();
        self.items(keys).await?.into_iter().map(record).collect()
    }

    /// The existing items with these keys, read consistently, not parsed, in no order. Asks for at most 100 at a time. Asks again
    /// for keys that DynamoDB leaves out, after a pause that doubles.
    ///
    /// # Errors
    /// As [`Catalog::get_many`].
    pub async fn items(&self, keys: Vec<Item>) -> Result<Vec<Item>, StepError> {
        let mut missing = keys;
        let mut found = Vec::with_capacity(missing.len());
        let mut incomplete = 0;
        while !missing.is_empty() {
            let rest = missing.split_off(missing.len().min(MOST_KEYS));
            let keys = KeysAndAttributes::builder().set_keys(Some(missing)).consistent_read(true).build();
            let keys = keys.map_err(|_| StepError::InvalidInput { what: "a catalog key" })?;
            let read = self.client.batch_get_item().request_items(&self.table, keys).send().await;
            let read = read.map_err(|error| StepError::from_sdk(BATCH_GET_ITEM, &error))?;
            found.extend(read.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default());
            missing = read.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table)).map_or_else(Vec::new, |it| it.keys);
            incomplete = if missing.is_empty() { 0 } else { incomplete + 1 };
            if incomplete == MOST_INCOMPLETE {
                return Err(StepError::Throttled { operation: BATCH_GET_ITEM });
            }
            if incomplete > 0 {
                let doubled = FIRST_PAUSE.saturating_mul(1 << incomplete);
                tokio::time::sleep(doubled.mul_f64(fastrand::f64())).await;
            }
            missing.extend(rest);
        }
        Ok(found)
    }
}

/// The key of a message's item.
pub fn key(source: &Source, message_id: &MessageId) -> Item {
    [("source", source.to_string()), ("message_id", message_id.to_string())]
        .map(|(name, value)| (name.to_owned(), S(value)))
        .into()
}

/// Reads an item of the table, or of one of its indexes. The index by arrival has the status as `listed`: `queued` also while a
/// submission is processed.
///
/// # Errors
/// [`StepError::InvalidInput`] if the item is not a record. Does not quote it.
pub fn record(item: Item) -> Result<Record, StepError> {
    let damaged = StepError::InvalidInput { what: "a catalog record" };
    let mut members: HashMap<_, _> = item.into_iter().map(|(name, value)| (name.to_lower_camel_case(), value)).collect();
    if let Some(listed) = members.remove("listed") {
        members.entry("status".to_owned()).or_insert(listed);
    }
    let (is_stored, was_held) = (members.contains_key("storedAt"), members.contains_key("heldKey"));
    let record: Record = serde_dynamo::from_item(members).map_err(|_| damaged.clone())?;
    // Unreadable facts read as absent ones, and a stored message must not look like one that is not stored.
    if (is_stored && record.facts.is_none()) || (was_held && record.held.is_none()) { Err(damaged) } else { Ok(record) }
}
