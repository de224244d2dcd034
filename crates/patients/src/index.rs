//! The table.

use std::collections::HashMap;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::types::AttributeValue::{self, L, S};
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use domain::{MessageId, PatientIdentifier, Source, Timestamp};
use runtime::StepError;

use crate::entries::{EntryKey, entries};
use crate::{MAX_ENTRIES, PatientKey};

const BATCH_WRITE_ITEM: &str = "dynamodb:BatchWriteItem";
const QUERY: &str = "dynamodb:Query";
const PATIENT_AT: &str = "patient_at";
const UNWRITABLE: StepError = StepError::InvalidInput { what: "an entry of the index by patient" };

/// The number of answers in a row that may leave entries out.
const MOST_INCOMPLETE: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

type Item = HashMap<String, AttributeValue>;

/// The index by patient. It does not decide who may read it.
#[derive(Clone, Debug)]
pub struct PatientIndex {
    client: Client,
    table: String,
}

/// A question: whose messages, and of which time.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The institute of the messages.
    pub source: &'a Source,
    /// The institute's key.
    pub key: &'a PatientKey,
    /// The patient's identifier. With an authority, only that authority's identifiers match; without one, those of any authority.
    pub patient: &'a PatientIdentifier,
    /// The beginning of the range of arrival.
    pub from: Option<Timestamp>,
    /// The end of the range of arrival, exclusive.
    pub to: Option<Timestamp>,
}

/// The position of a search: arrival and id of a message.
pub type Position = (Timestamp, MessageId);

/// The result of one request of a search: messages, newest first, and the position to continue at; `None` after the last entry.
pub type Found = (Vec<Position>, Option<Position>);

impl PatientIndex {
    /// The index in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Adds a message under each of its patients' identifiers, at most [`MAX_ENTRIES`]. One request writes all of them; without
    /// identifiers there is none. Safe to repeat. Returns the number of entries.
    ///
    /// # Errors
    /// [`StepError`] of the call; [`StepError::Throttled`] if DynamoDB leaves entries out of five answers in a row.
    pub async fn add(
        &self,
        source: &Source,
        key: &PatientKey,
        (received_at, message_id): (Timestamp, &MessageId),
        identifiers: &[PatientIdentifier],
    ) -> Result<usize, StepError> {
        let put = |(hash, authorities): (String, Vec<String>)| {
            let put = PutRequest::builder()
                .item("source", S(source.to_string()))
                .item(PATIENT_AT, S(EntryKey::new(&hash, received_at, message_id).to_string()))
                .item("authorities", L(authorities.into_iter().map(S).collect()));
            Ok(WriteRequest::builder().put_request(put.build().map_err(|_| UNWRITABLE)?).build())
        };
        let mut missing = entries(key, identifiers).into_iter().map(put).collect::<Result<Vec<_>, _>>()?;
        let count = missing.len();
        let mut incomplete = 0;
        while !missing.is_empty() {
            let written = self.client.batch_write_item().request_items(&self.table, missing).send().await;
            let written = written.map_err(|error| StepError::from_sdk(BATCH_WRITE_ITEM, &error))?;
            missing = written.unprocessed_items.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default();
            incomplete += 1;
            if incomplete == MOST_INCOMPLETE && !missing.is_empty() {
                return Err(StepError::Throttled { operation: BATCH_WRITE_ITEM });
            }
            if !missing.is_empty() {
                tokio::time::sleep(FIRST_PAUSE.saturating_mul(1 << incomplete).mul_f64(fastrand::f64())).await;
            }
        }
        Ok(count)
    }

    /// One request of a search, under the caller's credentials: reads the next `evaluated` entries of the patient after a
    /// position. With an authority, the result may have fewer messages, or none, although more follow.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn search(
        &self,
        caller: &Credentials,
        search: &Search<'_>,
        after: Option<&Position>,
        evaluated: usize,
    ) -> Result<Found, StepError> {
        let hash = search.key.id(search.patient);
        let (first, last) = EntryKey::range(&hash, search.from, search.to);
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .scan_index_forward(false)
            .limit(evaluated.try_into().unwrap_or(i32::MAX))
            .key_condition_expression("#source = :source AND patient_at BETWEEN :first AND :last")
            .expression_attribute_names("#source", "source")
            .expression_attribute_values(":source", S(search.source.to_string()))
            .expression_attribute_values(":first", S(first.to_string()))
            .expression_attribute_values(":last", S(last.to_string()));
        let authorities = search.key.authorities(search.patient);
        for (n, authority) in authorities.iter().enumerate() {
            query = query.expression_attribute_values(format!(":authority{n}"), S(authority.clone()));
        }
        let any: Vec<_> = (0..authorities.len()).map(|n| format!("contains(authorities, :authority{n})")).collect();
        let start = after.map(|(received_at, message_id)| {
            let at = EntryKey::new(&hash, *received_at, message_id).to_string();
            Item::from([("source".to_owned(), S(search.source.to_string())), (PATIENT_AT.to_owned(), S(at))])
        });
        let found = query
            .set_filter_expression((!any.is_empty()).then(|| any.join(" OR ")))
            .set_exclusive_start_key(start)
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await
            .map_err(|error| StepError::from_sdk_as_caller(QUERY, &error))?;
        let position = |item: Item| {
            let at = item.get(PATIENT_AT).and_then(|it| it.as_s().ok()).and_then(|it| EntryKey::parts(it));
            at.ok_or(StepError::Unavailable { operation: QUERY })
        };
        let reached = found.last_evaluated_key.map(position).transpose()?;
        Ok((found.items.unwrap_or_default().into_iter().map(position).collect::<Result<_, _>>()?, reached))
    }
}

// One request takes all entries.
const _: () = assert!(MAX_ENTRIES <= 25);
