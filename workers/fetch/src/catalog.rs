//! The catalog, under the credentials of whoever reads it.

use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use domain::{MessageId, Record, Source, Timestamp};
use runtime::StepError;
use serde::{Deserialize, Serialize};

/// The index that has an institute's records by `received_at` (`infra/core.yaml`).
const INDEX: &str = "by-received-at";

/// The catalog table. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct Catalog {
    client: Client,
    table: String,
}

/// Which of an institute's records: all, or those of a range and a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Selection {
    /// Received then or later.
    pub from: Option<Timestamp>,
    /// Received before; later than `from`.
    pub to: Option<Timestamp>,
    /// MSH-9.1.
    pub message_type: Option<String>,
    /// MSH-9.2, with MSH-9.1 only.
    pub trigger_event: Option<String>,
}

/// Where a reading of the index has come to: the key of the last record seen. Among records of one millisecond it is the id
/// that tells where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub received_at: Timestamp,
    pub message_id: MessageId,
}

impl Catalog {
    /// The catalog in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The record of a message, as it is now.
    pub(crate) async fn get(
        &self,
        caller: &Credentials,
        source: &Source,
        message_id: &MessageId,
    ) -> Result<Option<Record>, StepError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("source", S(source.to_string()))
            .key("message_id", S(message_id.to_string()))
            .consistent_read(true)
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await
            .map_err(|error| StepError::from_sdk_as_caller("dynamodb:GetItem", &error))?;
        found.item.map(record).transpose()
    }

    /// The selected ones of the next `evaluated` records behind a position, newest first, and the position they reach to;
    /// none at the end. DynamoDB counts before it selects, and stops at 1 MiB: fewer than asked for, or none, is not the end.
    pub(crate) async fn next(
        &self,
        caller: &Credentials,
        source: &Source,
        selection: &Selection,
        after: Option<&Position>,
        evaluated: usize,
    ) -> Result<(Vec<Record>, Option<Position>), StepError> {
        const OPERATION: &str = "dynamodb:Query";
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .scan_index_forward(false)
            .limit(evaluated.try_into().unwrap_or(i32::MAX))
            .key_condition_expression(selection.key_condition())
            .expression_attribute_names("#source", "source")
            .expression_attribute_values(":source", S(source.to_string()))
            .set_exclusive_start_key(after.map(|it| it.key(source)));
        if let Some(from) = selection.from {
            query = query.expression_attribute_values(":from", S(from.to_string()));
        }
        if let Some(last) = selection.last() {
            query = query.expression_attribute_values(":last", S(last.to_string()));
        }
        let members = [("messageType", &selection.message_type), ("triggerEvent", &selection.trigger_event)];
        let mut filters = Vec::new();
        for (name, value) in members {
            let Some(value) = value else { continue };
            filters.push(format!("summary.{name} = :{name}"));
            query = query.expression_attribute_values(format!(":{name}"), S(value.clone()));
        }
        let found = query
            .set_filter_expression((!filters.is_empty()).then(|| filters.join(" AND ")))
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await
            .map_err(|error| StepError::from_sdk_as_caller(OPERATION, &error))?;
        let reached = found.last_evaluated_key.map(serde_dynamo::from_item).transpose();
        let reached = reached.map_err(|_| StepError::Unavailable { operation: OPERATION })?;
        let records = found.items.unwrap_or_default().into_iter().map(record).collect::<Result<_, _>>()?;
        Ok((records, reached))
    }
}

impl Selection {
    /// Whether records are left out by anything but time.
    pub(crate) fn filters(&self) -> bool {
        self.message_type.is_some()
    }

    /// Whether a time is in the range.
    pub(crate) fn covers(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// The last millisecond before `to`: DynamoDB's BETWEEN takes both ends in.
    fn last(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.to?.as_millis() - 1)
    }

    fn key_condition(&self) -> &'static str {
        match (self.from, self.last()) {
            (None, None) => "#source = :source",
            (Some(_), None) => "#source = :source AND received_at >= :from",
            (None, Some(_)) => "#source = :source AND received_at <= :last",
            (Some(_), Some(_)) => "#source = :source AND received_at BETWEEN :from AND :last",
        }
    }
}

impl Position {
    /// The position of a record.
    pub(crate) fn of(record: &Record) -> Self {
        Self { received_at: record.received_at, message_id: record.message_id.clone() }
    }

    fn key(&self, source: &Source) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("source".to_owned(), S(source.to_string())),
            ("received_at".to_owned(), S(self.received_at.to_string())),
            ("message_id".to_owned(), S(self.message_id.to_string())),
        ])
    }
}

fn record(item: HashMap<String, AttributeValue>) -> Result<Record, StepError> {
    serde_dynamo::from_item(item).map_err(|_| StepError::InvalidInput { what: "a catalog record" })
}
