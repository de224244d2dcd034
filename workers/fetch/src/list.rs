//! `GET /er7`: a page of an institute's messages, newest first.

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::arrivals::{Arrival, Merge, Order};
use domain::catalog::{MAX_PAGE, Progress};
use domain::{Record, Source, Summary, Timestamp};
use futures_util::future::try_join_all;
use runtime::{Field, HttpProblem, StepError, json_response, log_field};
use serde::Serialize;
use serde_json::{Value, json};

use crate::catalog::{Position, Selection};
use crate::cursor::{Arrivals, Next};
use crate::{Answer, CatalogReader, Fetch, Reader, catalog, cursor};

pub(crate) const DEFAULT_LIMIT: usize = 50;

/// A search for something rare stops after this many queries of each partition, or this much time, and answers what it found. Its
/// cursor continues there.
const MAX_QUERIES: usize = 10;
const MAX_TIME: Duration = Duration::from_secs(8);

/// The page that a caller asks for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    selection: Selection,
    after: Option<Next>,
    /// The maximum number of messages.
    limit: usize,
}

/// A message in a listing.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    progress: Progress<'a>,
    #[serde(flatten)]
    summary: Option<&'a Summary>,
}

impl Fetch {
    /// A page of the catalog.
    pub(crate) async fn list(&self, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let page = Page::of(request, &reader.source, |selection| self.catalog.place(selection))?;
        let caller = self.credentials(&reader).await?;
        let found = read(&self.catalog, &caller, &reader.source, &page).await;
        let (records, next) = found.map_err(|error| HttpProblem::of_step(&error))?;

        log_field(Field::Messages, records.len());
        let mut body = json!({ "messages": entries(&records) });
        if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
            body.insert("cursor".to_owned(), cursor::encode(&reader.source, &page.selection, &next).into());
        }
        Ok(("listed", json_response(200, &body)))
    }
}

/// The records as a listing shows them.
pub(crate) fn entries(records: &[Record]) -> Vec<Value> {
    let entry = |record: &Record| {
        json!(Entry { progress: record.progress(), summary: record.facts.as_ref().map(|facts| &facts.summary) })
    };
    records.iter().map(entry).collect()
}

/// The records of a page, and the position where the next one begins. `None` after the last page.
async fn read(
    catalog: &CatalogReader,
    caller: &Credentials,
    source: &Source,
    page: &Page,
) -> Result<(Vec<Record>, Option<Next>), StepError> {
    let after = match &page.after {
        Some(Next::Arrivals(after)) => return read_arrivals(catalog, caller, source, page, after.clone()).await,
        None if catalog.place(&page.selection) == catalog::Place::Arrivals => {
            return read_arrivals(catalog, caller, source, page, Arrivals::beginning()).await;
        }
        Some(Next::After(position)) => Some(position.clone()),
        None => None,
    };
    let began = Instant::now();
    let (mut records, mut position) = (Vec::new(), after);
    for _ in 0..MAX_QUERIES {
        // One more than the page holds, to know whether there is another page.
        let evaluated = catalog.place(&page.selection).evaluated(&page.selection, page.limit + 1 - records.len());
        let (found, reached) = catalog.next(caller, source, &page.selection, position.as_ref(), evaluated).await?;
        records.extend(found);
        if records.len() > page.limit {
            records.truncate(page.limit);
            position = records.last().map(|it| Position::of(it, &page.selection));
            break;
        }
        position = reached;
        if position.is_none() || began.elapsed() > MAX_TIME {
            break;
        }
    }
    Ok((records, position.map(Next::After)))
}

/// The same from the institute's partitions of the index by arrival. Without a condition that filters, one query of each is enough, if
/// DynamoDB does not cut it.
async fn read_arrivals(
    catalog: &CatalogReader,
    caller: &Credentials,
    source: &Source,
    page: &Page,
    Arrivals { newest, reached }: Arrivals,
) -> Result<(Vec<Record>, Option<Next>), StepError> {
    let began = Instant::now();
    let from_start = &page.selection.not_after(newest);
    let (mut records, mut list) = (Vec::new(), Merge::from(reached, Order::NewestFirst));
    for _ in 0..MAX_QUERIES {
        // One more than the page holds, to know whether there is another page.
        let evaluated = catalog::Place::Arrivals.evaluated(&page.selection, page.limit + 1 - records.len());
        let queries = list.due().into_iter().map(|(shard, after)| async move {
            let selection = if after.is_none() { from_start } else { &page.selection };
            let after = (shard, after);
            Ok::<_, StepError>((shard, catalog.next_arrivals(caller, source, selection, after, evaluated).await?))
        });
        for (shard, (found, reached)) in try_join_all(queries).await? {
            let found = found.into_iter().map(|it| {
                let arrival = Arrival { received_at: it.received_at, message_id: it.message_id.clone() };
                (arrival, it)
            });
            list.add(shard, found, reached);
        }
        while records.len() < page.limit
            && let Some(record) = list.pop()
        {
            records.push(record);
        }
        let is_full = records.len() == page.limit && list.is_waiting();
        if is_full || list.reached().is_none() || began.elapsed() > MAX_TIME {
            break;
        }
    }
    let newest = newest.or_else(|| records.first().map(|it| it.received_at));
    Ok((records, list.reached().map(|reached| Next::Arrivals(Arrivals { newest, reached }))))
}

impl Page {
    /// Reads the query. 400 names the parameter and never its value. A misspelled parameter is an error: it must not list everything.
    fn of(
        request: &ApiGatewayV2httpRequest,
        source: &Source,
        place: impl Fn(&Selection) -> catalog::Place,
    ) -> Result<Self, HttpProblem> {
        let (mut selection, mut type_event, mut cursor, mut limit) = (Selection::default(), None, None, DEFAULT_LIMIT);
        for (name, value) in request.query_string_parameters.iter() {
            // API Gateway joins the values of a repeated parameter with commas.
            if request.query_string_parameters.all(name).is_some_and(|values| values.len() > 1) {
                return Err(invalid("a parameter is given once, and has no comma in it"));
            }
            let bad = |what: &str| invalid(&format!("`{name}` {what}"));
            match name {
                "from" => selection.from = Some(Timestamp::range_end(value).ok_or_else(|| bad(NO_TIME))?),
                "to" => selection.to = Some(Timestamp::range_end(value).ok_or_else(|| bad(NO_TIME))?),
                "type" => {
                    let (code, event) = message_type(value).ok_or_else(|| bad("is like ADT or ADT^A01 (ADT%5EA01)"))?;
                    (selection.message_type, type_event) = (Some(code), event);
                }
                "event" => selection.trigger_event = Some(code(value).ok_or_else(|| bad("is like A01"))?),
                "controlId" => selection.control_id = Some(text(value).ok_or_else(|| bad(NO_TEXT))?),
                "sender" => selection.sender = Some(text(value).ok_or_else(|| bad(NO_TEXT))?),
                "receiver" => selection.receiver = Some(text(value).ok_or_else(|| bad(NO_TEXT))?),
                "messageFrom" => selection.message_from = Some(hl7_time(value).ok_or_else(|| bad(NO_HL7_TIME))?),
                "messageTo" => selection.message_to = Some(hl7_time(value).ok_or_else(|| bad(NO_HL7_TIME))?),
                "status" => {
                    let status = serde_json::from_value(value.into()).ok();
                    selection.status = Some(status.ok_or_else(|| bad("is not a status that a message can have"))?);
                }
                "submission" => selection.submission = Some(value.parse().map_err(|_| bad("is not a submission id"))?),
                "idPrefix" => {
                    selection.id_prefix = Some(id_prefix(value).ok_or_else(|| bad("is 8 to 64 hexadecimal digits"))?);
                }
                "cursor" => cursor = Some(value),
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=MAX_PAGE).contains(number));
                    limit = number.ok_or_else(|| bad(&format!("is a number from 1 to {MAX_PAGE}")))?;
                }
                _ => return Err(invalid(PARAMETERS)),
            }
        }
        if type_event.is_some() && selection.trigger_event.is_some() {
            return Err(invalid("the trigger event is given twice: in `type` and in `event`"));
        }
        selection.trigger_event = type_event.or(selection.trigger_event);
        if selection.from.zip(selection.to).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("`from` must be before `to`"));
        }
        if selection.message_from.as_ref().zip(selection.message_to.as_ref()).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("`messageFrom` must be before `messageTo`"));
        }
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let position = cursor::decode(cursor, source, &selection, place(&selection));
                Some(position.ok_or_else(|| invalid("`cursor` was not issued for this query and institute"))?)
            }
        };
        Ok(Self { selection, after, limit })
    }
}

const PARAMETERS: &str = "the parameters are `from`, `to`, `type`, `event`, `controlId`, `sender`, `receiver`, `messageFrom`, \
                          `messageTo`, `status`, `submission`, `idPrefix`, `limit` and `cursor`";
const NO_TIME: &str = "must be an RFC 3339 timestamp or YYYY-MM-DD; a + in a query is written %2B";
const NO_HL7_TIME: &str = "must be a time without a zone, as MSH-7 begins: YYYYMMDDHHMMSS or the beginning of it, or YYYY-MM-DD";
const NO_TEXT: &str = "must have 1 to 227 characters, and no control characters";

/// Message type, and trigger event if there is one. Both are compared as they stand in MSH-9.
fn message_type(text: &str) -> Option<(String, Option<String>)> {
    match text.split_once('^') {
        None => Some((code(text)?, None)),
        Some((message_type, event)) => Some((code(message_type)?, Some(code(event)?))),
    }
}

fn code(text: &str) -> Option<String> {
    const MAX_LENGTH: usize = 20;
    let is_code = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    is_code.then(|| text.to_owned())
}

/// A value of MSH. 227 is the length of an HD (HL7 2.5.1 §2.A.33), the longest of those that are searched for.
fn text(text: &str) -> Option<String> {
    let is_good = (1..=227).contains(&text.chars().count()) && !text.contains(char::is_control);
    is_good.then(|| text.to_owned())
}

/// The digits that MSH-7 begins with: year to second at most. `2026-11-21` and `2026-11-21T07:21` are read as well.
fn hl7_time(text: &str) -> Option<String> {
    let is_plain = text.bytes().all(|it| it.is_ascii_digit() || b"-:T".contains(&it));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    (is_plain && (4..=14).contains(&digits.len()) && digits.len().is_multiple_of(2)).then_some(digits)
}

fn id_prefix(text: &str) -> Option<String> {
    let is_good = (8..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
    is_good.then(|| text.to_ascii_lowercase())
}

fn invalid(detail: &str) -> HttpProblem {
    HttpProblem::new(400, "Invalid query", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Place;

    fn page(query: &[(&str, &str)]) -> Result<Page, String> {
        let query: serde_json::Map<String, Value> = query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let event = json!({ "queryStringParameters": query, "requestContext": { "http": { "method": "GET" } } });
        let page = Page::of(&serde_json::from_value(event).unwrap(), &"general-hospital".parse().unwrap(), |_| Place::Arrivals);
        page.map_err(|problem| {
            assert_eq!(problem.status, 400);
            problem.detail
        })
    }

    #[test]
    fn without_a_query_a_page_begins_with_the_newest() {
        assert_eq!(page(&[]), Ok(Page { selection: Selection::default(), after: None, limit: 50 }));
    }

    #[test]
    fn a_query_selects_by_time_and_type() {
        let selected =
            page(&[("from", "2026-11-20"), ("to", "2026-11-21T07:00:00+01:00"), ("type", "ADT^A01"), ("limit", "100")]);
        let Page { selection, limit, .. } = selected.unwrap();
        let texts = [selection.from, selection.to].map(|it| it.unwrap().to_string());
        assert_eq!(texts, ["2026-11-20T00:00:00.000Z", "2026-11-21T06:00:00.000Z"]);
        assert_eq!((selection.message_type.as_deref(), selection.trigger_event.as_deref()), (Some("ADT"), Some("A01")));
        assert_eq!(limit, 100);
        let of_type = page(&[("type", "ORU")]).unwrap().selection;
        assert_eq!((of_type.message_type.as_deref(), of_type.trigger_event), (Some("ORU"), None));
    }

    #[test]
    fn a_query_selects_by_what_msh_and_the_catalog_say() {
        let found = page(&[
            ("type", "ADT"),
            ("event", "A01"),
            ("controlId", "Q 1/2"),
            ("sender", "HIS"),
            ("receiver", "LAKE"),
            ("messageFrom", "2026-11-21"),
            ("messageTo", "202611210721"),
            ("status", "queued"),
            ("submission", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
            ("idPrefix", "00ABCDEF"),
        ]);
        let selection = found.unwrap().selection;
        let text = |text: &str| Some(text.to_owned());
        let expected = Selection {
            from: None,
            to: None,
            message_type: text("ADT"),
            trigger_event: text("A01"),
            control_id: text("Q 1/2"),
            sender: text("HIS"),
            receiver: text("LAKE"),
            message_from: text("20261121"),
            message_to: text("202611210721"),
            status: Some(domain::Status::Queued),
            submission: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().ok(),
            id_prefix: text("00abcdef"),
        };
        assert_eq!(selection, expected);
        let filters = |selection: &Selection, place| selection.filters(place);
        assert!(filters(&selection, Place::Arrivals) && filters(&selection, Place::ControlIds));
        assert!(!filters(&page(&[("from", "2026-11-20")]).unwrap().selection, Place::Arrivals));
        let by_control_id = page(&[("from", "2026-11-20"), ("controlId", "Q1")]).unwrap().selection;
        assert!(filters(&by_control_id, Place::Arrivals) && !filters(&by_control_id, Place::ControlIds));
        assert!(page(&[("type", "ADT^A01"), ("event", "A01")]).unwrap_err().contains("twice"));
        assert!(page(&[("messageFrom", "2026"), ("messageTo", "2026")]).unwrap_err().contains("before"));
    }

    #[test]
    fn a_bad_parameter_is_named_and_not_quoted() {
        let long = "X".repeat(21);
        let table = [
            ("from", "SECRET"),
            ("from", ""),
            ("from", "2026-11-21T07:00:00 01:00"),
            ("to", "21.11.2026"),
            ("type", ""),
            ("type", "ADT^"),
            ("type", "^A01"),
            ("type", "ADT^A01^ADT_A01"),
            ("type", "SECRET!"),
            ("type", long.as_str()),
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "-1"),
            ("limit", "SECRET"),
            ("cursor", "SECRET"),
            ("cursor", ""),
            ("event", ""),
            ("event", "SECRET!"),
            ("controlId", ""),
            ("controlId", "SECRET\u{7f}"),
            ("sender", ""),
            ("receiver", "SECRET\n"),
            ("messageFrom", "SECRET"),
            ("messageFrom", "202"),
            ("messageTo", "20261121072107+0100"),
            ("status", "SECRET"),
            ("status", ""),
            ("submission", "SECRET"),
            ("idPrefix", "1234567"),
            ("idPrefix", "SECRET00"),
        ];
        for (name, value) in table {
            let detail = page(&[(name, value)]).unwrap_err();
            assert!(detail.contains(&format!("`{name}`")) && !detail.contains("SECRET"), "{name}={value}: {detail}");
        }
    }

    #[test]
    fn an_unknown_or_repeated_parameter_does_not_list_everything() {
        assert!(page(&[("form", "2026-11-21")]).unwrap_err().contains("`from`"));
        assert!(!page(&[("SECRET", "x")]).unwrap_err().contains("SECRET"));
        assert!(page(&[("from", "2026-11-21,2026-11-22")]).unwrap_err().contains("once"));
        for (from, to) in [("2026-11-21", "2026-11-21"), ("2026-11-22", "2026-11-21")] {
            assert!(page(&[("from", from), ("to", to)]).unwrap_err().contains("before"));
        }
    }
}
