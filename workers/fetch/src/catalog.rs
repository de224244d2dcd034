//! The catalog, under the credentials of whoever reads it.

use std::collections::HashMap;
use std::time::Duration;

use ::catalog::{Item, record};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use aws_sdk_dynamodb::types::{Get, TransactGetItem};
use domain::arrivals::{self, Arrival};
use domain::{ControlIdKey, MessageId, Record, Source, Status, SubmissionId, Summary, Timestamp};
use runtime::StepError;
use serde::{Deserialize, Serialize};

const OPERATION: &str = "dynamodb:Query";

/// The index of an institute's stored records by control id and `received_at`.
const CONTROL_IDS: &str = "by-control-id";

/// Its sort key.
const CONTROL_ID_AT: &str = "control_id_at";

/// The index of an institute's held records by the time since which they are held. It has the keys of a record and few other facts.
const HOLDS: &str = "by-held-since";

/// Its sort key.
const HELD_SINCE: &str = "held_since";

/// DynamoDB takes so many keys in one transaction.
const MAX_GETS: usize = 100;

/// Records that are read at a time if the caller selects by more than time, from all partitions together. A record is about 1 KB, and
/// a query ends at 1 MiB.
const EVALUATED: usize = 500;

/// Reads the catalog table. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct CatalogReader {
    client: Client,
    table: String,
    /// Whether there is the index by control id.
    has_search_indexes: bool,
}

/// The place that records are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The table, which the message ids order.
    Ids,
    /// The index by control id: the newest record first, of one control id.
    ControlIds,
    /// The index by arrival: the newest record first, in each of the institute's partitions of it.
    Arrivals,
    /// The index of held records: the latest hold first. Each record is then read by its key.
    Holds,
}

/// The part of a place that one query reads.
#[derive(Clone, Copy, Debug)]
struct Partition<'a> {
    place: Place,
    source: &'a Source,
    /// Of the index by arrival: below [`arrivals::SHARDS`].
    shard: usize,
}

impl Partition<'_> {
    /// The partition key's name and value.
    fn key(&self) -> (&'static str, String) {
        let shard = arrivals::shards(self.source.as_str()).into_iter().nth(self.shard);
        match (self.place, shard) {
            (Place::Arrivals, Some(shard)) => (arrivals::SHARD, shard),
            _ => ("source", self.source.to_string()),
        }
    }
}

impl Place {
    fn index(self) -> Option<&'static str> {
        match self {
            Self::Ids => None,
            Self::ControlIds => Some(CONTROL_IDS),
            Self::Arrivals => Some(arrivals::INDEX),
            Self::Holds => Some(HOLDS),
        }
    }

    /// How many records one query reads if it is to find so many, at most.
    pub(crate) fn evaluated(self, selection: &Selection, wanted: usize) -> usize {
        match self {
            Self::Holds => {
                if selection.filters(self) {
                    MAX_GETS
                } else {
                    wanted.min(MAX_GETS)
                }
            }
            Self::Arrivals if selection.filters(self) => EVALUATED / arrivals::SHARDS,
            Self::Ids | Self::ControlIds if selection.filters(self) => EVALUATED,
            Self::Ids | Self::ControlIds | Self::Arrivals => wanted,
        }
    }
}

/// Selects records of an institute: all, or those that meet every condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Selection {
    /// Received then or later.
    pub from: Option<Timestamp>,
    /// Received before; later than `from`.
    pub to: Option<Timestamp>,
    /// MSH-9.1.
    pub message_type: Option<String>,
    /// MSH-9.2.
    pub trigger_event: Option<String>,
    /// MSH-10.
    pub control_id: Option<String>,
    /// MSH-3.1 or MSH-4.1.
    pub sender: Option<String>,
    /// MSH-5.1 or MSH-6.1.
    pub receiver: Option<String>,
    /// MSH-7.1 at or after this, compared as text: the sender's own clock.
    pub message_from: Option<String>,
    /// MSH-7.1 before this.
    pub message_to: Option<String>,
    /// How far the message has come.
    pub status: Option<Status>,
    /// The submission that stored the message, or the newest one of it.
    pub submission: Option<SubmissionId>,
    /// The message id begins with this: at least 8 hexadecimal digits.
    pub id_prefix: Option<String>,
}

/// A submission's time may differ from that of its message's arrival by the duration of the request.
const SUBMISSION_SLACK: Duration = Duration::from_secs(60);

/// A position in an index, or in the table: the key of the last record read, without the parts that the selection fixes. The
/// message id orders records of the same millisecond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Absent in the table, which the message ids order, and in the index of held records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// Only in the index of held records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    pub message_id: MessageId,
}

impl CatalogReader {
    /// The catalog in `table`, with the index by control id or without (`SearchIndexes` of `infra/core.yaml`).
    pub fn new(client: Client, table: String, has_search_indexes: bool) -> Self {
        Self { client, table, has_search_indexes }
    }

    /// The place to read the records of a selection from: the one with the fewest other records between them.
    pub(crate) fn place(&self, selection: &Selection) -> Place {
        if selection.id_prefix.is_some() {
            // Few messages share eight digits of an id. The table has them side by side, whenever they came.
            return Place::Ids;
        }
        if selection.is_of_holds() {
            return Place::Holds;
        }
        // The index does not have the submissions.
        let is_indexed = self.has_search_indexes && selection.control_id.is_some() && selection.submission.is_none();
        if is_indexed { Place::ControlIds } else { Place::Arrivals }
    }

    /// The record of a message, read consistently.
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

    /// The existing records of these messages, at most [`MAX_GETS`], in their order. One request, and for IAM a GetItem of each.
    pub(crate) async fn get_many(
        &self,
        caller: &Credentials,
        source: &Source,
        message_ids: &[MessageId],
    ) -> Result<Vec<Record>, StepError> {
        const OPERATION: &str = "dynamodb:TransactGetItems";
        const TRIES: u32 = 3;
        const BACKOFF: Duration = Duration::from_millis(20);
        if message_ids.is_empty() {
            return Ok(Vec::new());
        }
        let get = |id: &MessageId| {
            let get = Get::builder().table_name(&self.table).set_key(Some(::catalog::key(source, id))).build();
            get.map(|get| TransactGetItem::builder().get(get).build())
        };
        let gets: Vec<_> = message_ids
            .iter()
            .map(get)
            .collect::<Result<_, _>>()
            .map_err(|_| StepError::InvalidInput { what: "a catalog key" })?;
        let mut tries = 1;
        let found = loop {
            let answer = self
                .client
                .transact_get_items()
                .set_transact_items(Some(gets.clone()))
                .customize()
                .config_override(Config::builder().credentials_provider(caller.clone()))
                .send()
                .await;
            match answer {
                Ok(found) => break found,
                // Somebody is writing one of the records, and the SDK does not retry that.
                Err(error) if tries < TRIES && error.code() == Some("TransactionCanceledException") => {
                    tokio::time::sleep(BACKOFF * tries).await;
                    tries += 1;
                }
                Err(error) => return Err(StepError::from_sdk_as_caller(OPERATION, &error)),
            }
        };
        found.responses.unwrap_or_default().into_iter().filter_map(|it| it.item).filter(|it| !it.is_empty()).map(record).collect()
    }

    /// Reads the next `evaluated` records after a position, newest first. Returns the selected ones, and the position of the last one
    /// read; `None` at the end of the index. Not for the index by arrival, which [`Self::next_arrivals`] reads. DynamoDB counts before it selects, and stops at 1 MiB: an answer with fewer records, or
    /// without any, is not the end.
    pub(crate) async fn next(
        &self,
        caller: &Credentials,
        source: &Source,
        selection: &Selection,
        after: Option<&Position>,
        evaluated: usize,
    ) -> Result<(Vec<Record>, Option<Position>), StepError> {
        let partition = Partition { place: self.place(selection), source, shard: 0 };
        let (items, reached) = self.query(caller, partition, selection, after, evaluated).await?;
        let reached = reached.map(Position::of_key).transpose();
        let reached = reached.map_err(|_| StepError::Unavailable { operation: OPERATION })?;
        if partition.place != Place::Holds {
            return Ok((items.into_iter().map(record).collect::<Result<_, _>>()?, reached));
        }
        let positions = items.into_iter().map(Position::of_key).collect::<Result<Vec<_>, _>>();
        let positions = positions.map_err(|_| StepError::Unavailable { operation: OPERATION })?;
        let ids: Vec<_> = positions.into_iter().map(|it| it.message_id).collect();
        let mut records = self.get_many(caller, source, &ids).await?;
        // A message may have been released since.
        records.retain(|it| selection.fits(it));
        Ok((records, reached))
    }

    /// The same in one of the institute's partitions of the index by arrival.
    pub(crate) async fn next_arrivals(
        &self,
        caller: &Credentials,
        source: &Source,
        selection: &Selection,
        (shard, after): (usize, Option<Arrival>),
        evaluated: usize,
    ) -> Result<(Vec<Record>, Option<Arrival>), StepError> {
        let partition = Partition { place: Place::Arrivals, source, shard };
        let after = after.map(|it| Position { received_at: Some(it.received_at), held_since: None, message_id: it.message_id });
        let (items, reached) = self.query(caller, partition, selection, after.as_ref(), evaluated).await?;
        let reached = reached.map(serde_dynamo::from_item).transpose();
        let reached = reached.map_err(|_| StepError::Unavailable { operation: OPERATION })?;
        Ok((items.into_iter().map(record).collect::<Result<_, _>>()?, reached))
    }

    /// One query: the items, and the key of the last one that DynamoDB looked at.
    async fn query(
        &self,
        caller: &Credentials,
        partition: Partition<'_>,
        selection: &Selection,
        after: Option<&Position>,
        evaluated: usize,
    ) -> Result<(Vec<Item>, Option<Item>), StepError> {
        let mut conditions = Conditions::default();
        let place = partition.place;
        let key = selection.key_condition(partition, &mut conditions);
        let filter = selection.filter(place, &mut conditions);
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .set_index_name(place.index().map(str::to_owned))
            .scan_index_forward(false)
            .limit(evaluated.try_into().unwrap_or(i32::MAX))
            .key_condition_expression(key)
            .set_filter_expression(filter)
            .set_expression_attribute_names(Some(conditions.names))
            .set_expression_attribute_values(Some(conditions.values))
            .set_exclusive_start_key(after.map(|it| it.key(partition, selection)))
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await
            .map_err(|error| StepError::from_sdk_as_caller(OPERATION, &error))?;
        Ok((found.items.unwrap_or_default(), found.last_evaluated_key))
    }
}

/// The names and values of an expression, each under a name of its own.
#[derive(Debug, Default)]
struct Conditions {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Conditions {
    /// The place in the expression of an attribute of the item: `#status`, `summary.controlId`. A whole name may be a reserved word.
    fn name(&mut self, attribute: &str) -> String {
        if attribute.contains('.') {
            return attribute.to_owned();
        }
        let place = format!("#{attribute}");
        self.names.insert(place.clone(), attribute.to_owned());
        place
    }

    /// The place in the expression of a value.
    fn value(&mut self, name: &str, value: impl ToString) -> String {
        let place = format!(":{name}");
        self.values.insert(place.clone(), S(value.to_string()));
        place
    }

    /// `attribute operator value`.
    fn compare(&mut self, attribute: &str, operator: &str, name: &str, value: impl ToString) -> String {
        format!("{} {operator} {}", self.name(attribute), self.value(name, value))
    }

    /// Whether one of two attributes is this value.
    fn either(&mut self, attributes: [&str; 2], name: &str, value: impl ToString) -> String {
        let [one, other] = attributes.map(|it| self.name(it));
        let value = self.value(name, value);
        format!("({one} = {value} OR {other} = {value})")
    }
}

impl Selection {
    /// Whether the selection depends on anything but the keys of its place. In the index of held records, nearly all have that status.
    pub(crate) fn filters(&self, place: Place) -> bool {
        if place == Place::Holds {
            return *self != Self { status: self.status, ..Self::default() };
        }
        let control_id = self.control_id.clone().filter(|_| place == Place::ControlIds);
        let plain = Self { from: self.from, to: self.to, control_id, ..Self::default() };
        *self != plain
    }

    /// Whether held records are asked for and no better key is.
    pub(crate) fn is_of_holds(&self) -> bool {
        self.status == Some(Status::Held) && self.id_prefix.is_none() && self.control_id.is_none()
    }

    /// Whether a held record meets every condition that [`Self::is_of_holds`] leaves. DynamoDB decides of all others: these were read by
    /// their keys.
    fn fits(&self, record: &Record) -> bool {
        let nothing = Summary::default();
        let summary = record.facts.as_ref().map_or(&nothing, |it| &it.summary);
        let is = |wanted: &Option<String>, said: [&Option<String>; 2]| wanted.is_none() || said.contains(&wanted);
        let (of_type, of_event) = (&summary.message_type, &summary.trigger_event);
        let at = &summary.message_time;
        self.covers(record.received_at)
            && self.status.is_none_or(|it| it == record.status)
            && is(&self.message_type, [of_type; 2])
            && is(&self.trigger_event, [of_event; 2])
            && is(&self.sender, [&summary.sending_application, &summary.sending_facility])
            && is(&self.receiver, [&summary.receiving_application, &summary.receiving_facility])
            && self.message_from.as_ref().is_none_or(|from| at.as_ref().is_some_and(|at| from <= at))
            && self.message_to.as_ref().is_none_or(|to| at.as_ref().is_some_and(|at| at < to))
            && self.submission.is_none_or(|it| [record.claim_submission, record.last_submission].contains(&Some(it)))
    }

    /// Whether a time is in the range.
    pub(crate) fn covers(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// The same selection, of what came until a time.
    pub(crate) fn not_after(&self, newest: Option<Timestamp>) -> Self {
        let to = newest.map(|it| it.plus(Duration::from_millis(1)));
        Self { to: self.to.into_iter().chain(to).min(), ..self.clone() }
    }

    /// The last millisecond before `to`: DynamoDB's BETWEEN includes both ends.
    fn last(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.to?.as_millis() - 1)
    }

    /// The times in the index that can have a selected record. A message arrived before its submissions of later days.
    fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let (from, last) = (self.from, self.last());
        let submitted = self.submission.and_then(SubmissionId::time).map(|it| it.plus(SUBMISSION_SLACK));
        let earlier = submitted.filter(|it| last.is_none_or(|last| *it < last) && from.is_none_or(|from| from < *it));
        (from, earlier.or(last))
    }

    fn key_condition(&self, partition: Partition<'_>, conditions: &mut Conditions) -> String {
        let (name, value) = partition.key();
        let mut parts = vec![conditions.compare(name, "=", "partition", value)];
        match partition.place {
            Place::Ids => {
                let prefix = conditions.value("prefix", self.id_prefix.as_deref().unwrap_or_default());
                parts.push(format!("begins_with({}, {prefix})", conditions.name("message_id")));
            }
            Place::ControlIds => {
                let (from, last) = self.times();
                let (first, last) = ControlIdKey::range(self.control_id.as_deref().unwrap_or_default(), from, last);
                let range = conditions.compare(CONTROL_ID_AT, "BETWEEN", "first", first);
                parts.push(format!("{range} AND {}", conditions.value("last", last)));
            }
            Place::Arrivals => parts.extend(self.received(conditions)),
            Place::Holds => {}
        }
        parts.join(" AND ")
    }

    /// The condition on the time of arrival.
    fn received(&self, conditions: &mut Conditions) -> Option<String> {
        const RECEIVED_AT: &str = "received_at";
        match self.times() {
            (None, None) => None,
            (Some(from), None) => Some(conditions.compare(RECEIVED_AT, ">=", "from", from)),
            (None, Some(last)) => Some(conditions.compare(RECEIVED_AT, "<=", "last", last)),
            (Some(from), Some(last)) => {
                let range = conditions.compare(RECEIVED_AT, "BETWEEN", "from", from);
                Some(format!("{range} AND {}", conditions.value("last", last)))
            }
        }
    }

    /// The condition by which DynamoDB leaves out records that it has read.
    fn filter(&self, place: Place, conditions: &mut Conditions) -> Option<String> {
        let mut parts = Vec::new();
        if place == Place::Holds {
            // The index has nothing else that could be asked for. A released message keeps its entry until it is stored.
            return self.status.map(|it| conditions.compare("status", "=", "status", it));
        }
        if place == Place::Ids {
            // The keys of the table do not have the time.
            parts.extend(self.received(conditions));
        }
        let control_id = self.control_id.clone().filter(|_| place != Place::ControlIds);
        let members = [
            ("messageType", "=", "messageType", &self.message_type),
            ("triggerEvent", "=", "triggerEvent", &self.trigger_event),
            ("controlId", "=", "controlId", &control_id),
            ("messageTime", ">=", "messageFrom", &self.message_from),
            ("messageTime", "<", "messageTo", &self.message_to),
        ];
        for (member, operator, name, value) in members {
            let Some(value) = value else { continue };
            parts.push(conditions.compare(&format!("summary.{member}"), operator, name, value));
        }
        if let Some(sender) = &self.sender {
            let names = ["summary.sendingApplication", "summary.sendingFacility"];
            parts.push(conditions.either(names, "sender", sender));
        }
        if let Some(receiver) = &self.receiver {
            let names = ["summary.receivingApplication", "summary.receivingFacility"];
            parts.push(conditions.either(names, "receiver", receiver));
        }
        // The index by arrival is not written when a message is claimed: there `listed` is the status, `queued` until the end.
        let (status, submission) = if place == Place::Arrivals { ("listed", "ended_by") } else { ("status", "claim_submission") };
        match self.status {
            Some(Status::Queued | Status::Processing) if place == Place::Arrivals => {
                let listed = conditions.name(status);
                let [queued, processing] = [Status::Queued, Status::Processing].map(|it| conditions.value(it.as_str(), it));
                parts.push(format!("{listed} IN ({queued}, {processing})"));
            }
            wanted => parts.extend(wanted.map(|it| conditions.compare(status, "=", "status", it))),
        }
        if let Some(wanted) = self.submission {
            parts.push(conditions.either([submission, "last_submission"], "submission", wanted));
        }
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }
}

impl Position {
    /// The position of a record in the place that the selection is read from.
    pub(crate) fn of(record: &Record, selection: &Selection) -> Self {
        let message_id = record.message_id.clone();
        if selection.is_of_holds() {
            return Self { received_at: None, held_since: record.held.as_ref().map(|it| it.held_since), message_id };
        }
        let received_at = selection.id_prefix.is_none().then_some(record.received_at);
        Self { received_at, held_since: None, message_id }
    }

    /// The position that a query has reached. An error if the key is none of a place.
    fn of_key(mut key: HashMap<String, AttributeValue>) -> Result<Self, serde_dynamo::Error> {
        if let Some(S(control_id_at)) = key.remove(CONTROL_ID_AT) {
            key.extend(ControlIdKey::received_at(&control_id_at).map(|at| ("received_at".to_owned(), S(at.to_string()))));
        }
        serde_dynamo::from_item(key)
    }

    fn key(&self, partition: Partition<'_>, selection: &Selection) -> HashMap<String, AttributeValue> {
        let Partition { place, source, .. } = partition;
        let mut key = HashMap::from([
            ("source".to_owned(), S(source.to_string())),
            ("message_id".to_owned(), S(self.message_id.to_string())),
        ]);
        let sort_key = match (place, self.received_at, &selection.control_id) {
            (Place::ControlIds, Some(at), Some(control_id)) => {
                Some((CONTROL_ID_AT, ControlIdKey::new(control_id, at).to_string()))
            }
            (Place::Arrivals, Some(at), _) => Some(("received_at", at.to_string())),
            (Place::Holds, ..) => self.held_since.map(|at| (HELD_SINCE, at.to_string())),
            _ => None,
        };
        key.extend(sort_key.map(|(name, value)| (name.to_owned(), S(value))));
        let (name, value) = partition.key();
        key.insert(name.to_owned(), S(value));
        key
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::http::HttpResponse;
    use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsOutput;
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    #[tokio::test]
    async fn records_that_are_just_written_are_asked_for_again_and_not_for_ever() {
        let busy = || {
            let body = r#"{"__type":"TransactionCanceledException","message":"SECRET"}"#;
            HttpResponse::new(400.try_into().unwrap(), body.into())
        };
        for (times_busy, is_found) in [(2, true), (3, false)] {
            let asked = mock!(Client::transact_get_items)
                .sequence()
                .http_response(busy)
                .times(times_busy)
                .output(|| TransactGetItemsOutput::builder().build())
                .build();
            let client = mock_client!(aws_sdk_dynamodb, RuleMode::Sequential, [&asked]);
            let catalog = CatalogReader::new(client, "catalog".to_owned(), true);
            let caller = Credentials::new("A", "B", None, None, "test");
            let source = "general-hospital".parse().unwrap();
            let found = catalog.get_many(&caller, &source, &[MessageId::of_canonical(b"MSH")]).await;
            assert_eq!(found.is_ok(), is_found, "{found:?}");
        }
    }

    #[test]
    fn without_the_index_a_control_id_is_looked_for_among_the_arrivals() {
        let client = Client::from_conf(Config::builder().behavior_version_latest().build());
        let place = |has_search_indexes, selection: &Selection| {
            CatalogReader::new(client.clone(), "catalog".to_owned(), has_search_indexes).place(selection)
        };
        let selection = Selection { control_id: Some("Q1".to_owned()), ..Selection::default() };
        assert_eq!(place(true, &selection), Place::ControlIds);
        assert_eq!(place(false, &selection), Place::Arrivals);
        let filter = |place| selection.filter(place, &mut Conditions::default());
        assert_eq!(filter(Place::ControlIds), None);
        assert_eq!(filter(Place::Arrivals).as_deref(), Some("summary.controlId = :controlId"));
    }
}
