//! Counts the records of an institute, under credentials that read that institute alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::types::AttributeValue::S;
use aws_sdk_dynamodb::types::Select;
use domain::arrivals::{self, Arrival, Merge, Order};
use domain::{MessageId, Source, State, Status, Timestamp};
use futures_util::future::try_join_all;
use runtime::StepError;
use serde::{Deserialize, Serialize};

use crate::request::Range;

const QUERY: &str = "dynamodb:Query";

/// The attributes of a record that the reader's role lets a session see (`SummaryReaderRole` in `infra/pipeline.yaml`), as an
/// expression.
const PROJECTION: &str =
    "#source, message_id, arrival_shard, received_at, listed, #state, summary.messageType, summary.triggerEvent";

/// After this many records, or this much time, the answer has the counts so far.
const MAX_RECORDS: usize = 10_000;
const MAX_TIME: Duration = Duration::from_secs(10);

/// Records received in one millisecond are counted together. If they take longer than this, the answer is 503.
const MAX_TIME_FOR_ONE: Duration = Duration::from_secs(20);

const HOUR_MILLIS: i64 = 60 * 60 * 1000;

/// Reads the catalog's index. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct CatalogCounter {
    client: Client,
    table: String,
}

/// The criteria by which messages are counted. The newest hour comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    hour: Reverse<Timestamp>,
    message_type: Option<String>,
    status: Option<&'static str>,
    state: Option<&'static str>,
}

/// A cell in the answer.
#[derive(Serialize)]
pub(crate) struct Count<'a> {
    hour: Timestamp,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    count: u32,
}

impl<'a> Count<'a> {
    fn of(cell: &'a Cell, count: u32) -> Self {
        let Cell { hour, message_type, status, state } = cell;
        Self { hour: hour.0, message_type: message_type.as_deref(), status: *status, state: *state, count }
    }
}

/// The result of counting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    cells: BTreeMap<Cell, u32>,
    /// The number of records read.
    pub(crate) records: usize,
    /// Records received before this time are not counted yet. `None` if all are.
    pub(crate) next: Option<Timestamp>,
}

/// The attributes of a record that decide its cell.
#[derive(Deserialize)]
struct Counting {
    received_at: Timestamp,
    message_id: MessageId,
    listed: Option<Status>,
    state: Option<State>,
    summary: Option<Type>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Type {
    message_type: Option<String>,
    trigger_event: Option<String>,
}

impl CatalogCounter {
    /// Counts records of the catalog in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Counts the records of `source` in the range, newest first, until all are counted or a limit is reached.
    pub(crate) async fn count(&self, session: &Credentials, source: &Source, range: &Range) -> Result<Counted, StepError> {
        let began = Instant::now();
        let (mut counted, mut last, mut list) = (Counted::default(), Vec::new(), Merge::of_all(Order::NewestFirst));
        loop {
            let pages = list.due().into_iter().map(|(shard, after)| async move {
                Ok::<_, StepError>((shard, self.page(session, source, range, (shard, after)).await?))
            });
            for (shard, (records, reached)) in try_join_all(pages).await? {
                list.add(shard, records, reached);
            }
            while (counted.records < MAX_RECORDS || counted.cells.is_empty())
                && let Some(record) = list.pop()
            {
                counted.records += 1;
                counted.add(record, &mut last);
            }
            if list.reached().is_none() {
                counted.settle(&mut last);
                return Ok(counted);
            }
            let is_much = counted.records >= MAX_RECORDS || began.elapsed() > MAX_TIME;
            if let (true, false, Some(newest)) = (is_much, counted.cells.is_empty(), last.first()) {
                // More records may have that millisecond: all of them are left to the next request, whose range ends after it.
                counted.next = Some(newest.received_at.plus(Duration::from_millis(1)));
                return Ok(counted);
            }
            if began.elapsed() > MAX_TIME_FOR_ONE {
                return Err(StepError::Unavailable { operation: QUERY });
            }
        }
    }

    async fn page(
        &self,
        session: &Credentials,
        source: &Source,
        range: &Range,
        (shard, after): (usize, Option<Arrival>),
    ) -> Result<(Vec<(Arrival, Counting)>, Option<Arrival>), StepError> {
        let shard = arrivals::shards(source.as_str()).into_iter().nth(shard).unwrap_or_default();
        let key = |it: Arrival| it.key(source).map(|(name, value)| (name.to_owned(), S(value))).into();
        // DynamoDB's BETWEEN includes both ends.
        let last = Timestamp::from_millis(range.to.as_millis() - 1).unwrap_or(range.to);
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(arrivals::INDEX)
            .scan_index_forward(false)
            .select(Select::SpecificAttributes)
            .projection_expression(PROJECTION)
            .key_condition_expression("arrival_shard = :shard AND received_at BETWEEN :from AND :last")
            .expression_attribute_names("#source", "source")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":shard", S(shard))
            .expression_attribute_values(":from", S(range.from.to_string()))
            .expression_attribute_values(":last", S(last.to_string()))
            .set_exclusive_start_key(after.map(key))
            .customize()
            .config_override(Config::builder().credentials_provider(session.clone()))
            .send()
            .await
            .map_err(|error| StepError::from_sdk(QUERY, &error))?;
        let unreadable = |_| StepError::InvalidInput { what: "a catalog record" };
        let reached = found.last_evaluated_key.map(serde_dynamo::from_item).transpose().map_err(unreadable)?;
        let placed = |item| {
            let record: Counting = serde_dynamo::from_item(item)?;
            Ok::<_, serde_dynamo::Error>((
                Arrival { received_at: record.received_at, message_id: record.message_id.clone() },
                record,
            ))
        };
        let records = found.items.unwrap_or_default().into_iter().map(placed).collect::<Result<_, _>>();
        Ok((records.map_err(unreadable)?, reached))
    }
}

impl Counted {
    /// Adds a record. Records of the last millisecond stay in `last` until one of another millisecond comes.
    fn add(&mut self, record: Counting, last: &mut Vec<Counting>) {
        if last.first().is_some_and(|it| it.received_at != record.received_at) {
            self.settle(last);
        }
        last.push(record);
    }

    fn settle(&mut self, last: &mut Vec<Counting>) {
        for record in last.drain(..) {
            *self.cells.entry(record.cell()).or_default() += 1;
        }
    }

    /// The cells of the answer.
    pub(crate) fn counts(&self) -> Vec<Count<'_>> {
        self.cells.iter().map(|(cell, count)| Count::of(cell, *count)).collect()
    }
}

impl Counting {
    fn cell(&self) -> Cell {
        let millis = self.received_at.as_millis();
        let hour = Timestamp::from_millis(millis - millis.rem_euclid(HOUR_MILLIS)).unwrap_or(self.received_at);
        let message_type = self.summary.as_ref().and_then(Type::code);
        let (status, state) = (self.listed.map(Status::as_str), self.state.map(State::as_str));
        Cell { hour: Reverse(hour), message_type, status, state }
    }
}

impl Type {
    /// `ADT^A01` or `ADT`. `None` for a text that is no code: MSH-9 is the sender's text, and a free text does not belong into an
    /// overview.
    fn code(&self) -> Option<String> {
        let code = |text: &Option<String>| text.clone().filter(|it| is_code(it));
        let message_type = code(&self.message_type)?;
        Some(match code(&self.trigger_event) {
            Some(event) => format!("{message_type}^{event}"),
            None => message_type,
        })
    }
}

/// Whether a text is a code of HL7's tables 0076 or 0003, or of a site's own: 1 to 20 letters, digits and underscores.
fn is_code(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::http::HttpResponse;
    use aws_sdk_dynamodb::config::retry::RetryConfig;
    use std::collections::HashMap;

    use aws_sdk_dynamodb::operation::query::QueryOutput;
    use aws_sdk_dynamodb::types::AttributeValue;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use domain::arrivals::SHARDS;
    use serde_json::json;

    use super::*;

    const ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn record(at: &str, message_type: &str, event: &str) -> Counting {
        let summary = json!({ "messageType": message_type, "triggerEvent": event });
        serde_json::from_value(
            json!({ "received_at": at, "message_id": ID, "listed": "stored", "state": "parsed", "summary": summary }),
        )
        .unwrap()
    }

    #[test]
    fn cells_are_hours_types_and_states_and_the_newest_come_first() {
        let (mut counted, mut last) = (Counted::default(), Vec::new());
        let queued =
            serde_json::from_value(json!({ "received_at": "2026-11-21T08:00:00.000Z", "message_id": ID, "listed": "queued" }));
        counted.add(queued.unwrap(), &mut last);
        for (at, message_type, event) in [
            ("2026-11-21T07:59:59.999Z", "ADT", "A01"),
            ("2026-11-21T07:00:00.000Z", "ADT", "A01"),
            ("2026-11-21T07:00:00.000Z", "JOHN DOE", "A01"),
            ("2026-11-21T06:59:59.999Z", "ACK", ""),
        ] {
            counted.add(record(at, message_type, event), &mut last);
        }
        assert_eq!(last.len(), 1, "the last millisecond is open");
        counted.settle(&mut last);
        let stored = |hour: &str, message_type: Option<&str>, count: u32| {
            let mut cell = json!({ "hour": hour, "status": "stored", "state": "parsed", "count": count });
            if let Some(message_type) = message_type {
                cell["type"] = message_type.into();
            }
            cell
        };
        let expected = json!([
            { "hour": "2026-11-21T08:00:00.000Z", "status": "queued", "count": 1 },
            stored("2026-11-21T07:00:00.000Z", None, 1),
            stored("2026-11-21T07:00:00.000Z", Some("ADT^A01"), 2),
            stored("2026-11-21T06:00:00.000Z", Some("ACK"), 1),
        ]);
        assert_eq!(json!(counted.counts()), expected);
    }

    /// An index of `pages` pages with `size` records each in every partition, newest first. Every millisecond has a record, of one partition
    /// after the other.
    fn index(pages: usize, size: usize) -> Rule {
        const NEWEST: i64 = 1_795_262_400_000;
        mock!(Client::query).match_requests(|_| true).then_compute_output(move |request| {
            let values = request.expression_attribute_values().unwrap();
            let shard = arrivals::shards("west").iter().position(|it| it == values[":shard"].as_s().unwrap()).unwrap();
            let time = |text: &AttributeValue| Timestamp::range_end(text.as_s().unwrap()).unwrap().as_millis();
            // Records after `last` are outside the range.
            let newest = NEWEST.min(time(&values[":last"]));
            let start = request.exclusive_start_key().map_or(newest, |key| time(&key["received_at"]) - 1);
            let oldest = NEWEST - i64::try_from(pages * size * SHARDS).unwrap();
            let is_mine = |at: &i64| usize::try_from(NEWEST - at).unwrap() % SHARDS == shard;
            let mut rest = (oldest + 1..=start).rev().filter(is_mine).peekable();
            let key = |at: i64| {
                let texts = [("received_at", Timestamp::from_millis(at).unwrap().to_string()), ("message_id", ID.to_owned())];
                HashMap::from(texts.map(|(name, value)| (name.to_owned(), S(value))))
            };
            let found: Vec<i64> = rest.by_ref().take(size).collect();
            let reached = rest.peek().and(found.last()).map(|at| key(*at));
            let records = found.iter().map(|at| {
                let mut record = key(*at);
                record.insert("listed".to_owned(), S("stored".to_owned()));
                record
            });
            QueryOutput::builder().set_items(Some(records.collect())).set_last_evaluated_key(reached).build()
        })
    }

    async fn counted(rule: &Rule, to: Timestamp) -> Result<Counted, StepError> {
        let client =
            mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [rule], |conf| conf.retry_config(RetryConfig::disabled()));
        let range = Range { from: Timestamp::from_millis(0).unwrap(), to };
        let session = Credentials::new("key", "secret", None, None, "test");
        CatalogCounter::new(client, "catalog".to_owned()).count(&session, &"west".parse().unwrap(), &range).await
    }

    #[tokio::test]
    async fn a_long_range_is_counted_in_parts_and_each_record_once() {
        let rule = index(25, 250);
        let (mut to, mut total, mut parts) = (Timestamp::range_end("2027-01-01").unwrap(), 0, 0);
        loop {
            let part = counted(&rule, to).await.unwrap();
            assert!(part.records <= MAX_RECORDS, "{}", part.records);
            total += part.cells.values().sum::<u32>();
            parts += 1;
            match part.next {
                Some(next) => to = next,
                None => break,
            }
        }
        assert_eq!((total, parts), (25_000, 3));
    }

    #[tokio::test]
    async fn a_refusal_of_the_session_is_the_deployments_fault() {
        let refused = |status: u16, code: &str| {
            let body = json!({ "__type": code, "message": "SECRET" }).to_string();
            mock!(Client::query).then_http_response(move || HttpResponse::new(status.try_into().unwrap(), body.clone().into()))
        };
        let now = Timestamp::range_end("2027-01-01").unwrap();
        for (status, code, name) in [
            (400, "AccessDeniedException", "Misconfigured"),
            (400, "ThrottlingException", "Throttled"),
            (500, "InternalServerError", "Unavailable"),
        ] {
            assert_eq!(counted(&refused(status, code), now).await.unwrap_err().name(), name, "{code}");
        }
    }
}
