//! `GET /er7`: a page of an institute's messages, newest first.

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::catalog::{MAX_PAGE, Progress};
use domain::{Record, Source, Summary, Timestamp};
use runtime::{HttpProblem, StepError, json_response};
use serde::Serialize;
use serde_json::json;

use crate::catalog::{Position, Selection};
use crate::{Answer, Catalog, Fetch, Reader, cursor};

const DEFAULT_LIMIT: usize = 50;

/// Records that one query looks at where a type is selected. A record is about 1 KB, and a query ends at 1 MiB.
const EVALUATED: usize = 500;
/// A page of a rare type ends after so many queries, or that much time, with what was found; the cursor goes on from there.
const MAX_QUERIES: usize = 10;
const MAX_TIME: Duration = Duration::from_secs(8);

/// What a caller asks for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    selection: Selection,
    after: Option<Position>,
    /// Messages at most.
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
        let page = Page::of(request, &reader.source)?;
        let caller = self.credentials(&reader).await?;
        let found = read(&self.catalog, &caller, &reader.source, &page).await;
        let (records, next) = found.map_err(|error| HttpProblem::of_step(&error))?;

        let entry = |record: &Record| json!(Entry { progress: record.progress(), summary: record.summary.as_ref() });
        let mut body = json!({ "messages": records.iter().map(entry).collect::<Vec<_>>() });
        if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
            body.insert("cursor".to_owned(), cursor::encode(&reader.source, &page.selection, &next).into());
        }
        Ok(("listed", json_response(200, &body)))
    }
}

/// The records of a page, and where the next one begins; none after the last.
async fn read(
    catalog: &Catalog,
    caller: &Credentials,
    source: &Source,
    page: &Page,
) -> Result<(Vec<Record>, Option<Position>), StepError> {
    let began = Instant::now();
    let (mut records, mut position) = (Vec::new(), page.after.clone());
    for _ in 0..MAX_QUERIES {
        // One more than the page has, to know whether there is another.
        let evaluated = if page.selection.filters() { EVALUATED } else { page.limit + 1 - records.len() };
        let (found, reached) = catalog.next(caller, source, &page.selection, position.as_ref(), evaluated).await?;
        records.extend(found);
        if records.len() > page.limit {
            records.truncate(page.limit);
            position = records.last().map(Position::of);
            break;
        }
        position = reached;
        if position.is_none() || began.elapsed() > MAX_TIME {
            break;
        }
    }
    Ok((records, position))
}

impl Page {
    /// Reads the query. 400 names the parameter, and never its value; a misspelt one must not list everything.
    fn of(request: &ApiGatewayV2httpRequest, source: &Source) -> Result<Self, HttpProblem> {
        let (mut from, mut to, mut kind, mut cursor, mut limit) = (None, None, None, None, DEFAULT_LIMIT);
        for (name, value) in request.query_string_parameters.iter() {
            // API Gateway joins the values of a repeated parameter with commas.
            if request.query_string_parameters.all(name).is_some_and(|values| values.len() > 1) {
                return Err(invalid("a parameter is given once, and has no comma in it"));
            }
            match name {
                "from" => from = Some(time(value).ok_or_else(|| invalid(&format!("`from` {NO_TIME}")))?),
                "to" => to = Some(time(value).ok_or_else(|| invalid(&format!("`to` {NO_TIME}")))?),
                "type" => kind = Some(message_type(value).ok_or_else(|| invalid("`type` is like ADT or ADT^A01 (ADT%5EA01)"))?),
                "cursor" => cursor = Some(value),
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=MAX_PAGE).contains(number));
                    limit = number.ok_or_else(|| invalid(&format!("`limit` is a number from 1 to {MAX_PAGE}")))?;
                }
                _ => return Err(invalid("the parameters are `from`, `to`, `type`, `limit` and `cursor`")),
            }
        }
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("`from` must be before `to`"));
        }
        let (message_type, trigger_event) = kind.unzip();
        let selection = Selection { from, to, message_type, trigger_event: trigger_event.flatten() };
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let position = cursor::decode(cursor, source, &selection);
                Some(position.ok_or_else(|| invalid("`cursor` is none that this query gave to this institute"))?)
            }
        };
        Ok(Self { selection, after, limit })
    }
}

const NO_TIME: &str = "must be an RFC 3339 timestamp or YYYY-MM-DD; a + in a query is written %2B";

fn time(text: &str) -> Option<Timestamp> {
    Timestamp::range_end(text)
}

/// Message type, and trigger event if there is one. Both are compared as they stand in MSH-9.
fn message_type(text: &str) -> Option<(String, Option<String>)> {
    const MAX_LENGTH: usize = 20;
    let (code, event) = text.split_once('^').map_or((text, None), |(code, event)| (code, Some(event)));
    let plain = |it: &str| (1..=MAX_LENGTH).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    (plain(code) && event.is_none_or(plain)).then(|| (code.to_owned(), event.map(str::to_owned)))
}

fn invalid(detail: &str) -> HttpProblem {
    HttpProblem::new(400, "Invalid query", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn page(query: &[(&str, &str)]) -> Result<Page, String> {
        let query: serde_json::Map<String, Value> = query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let event = json!({ "queryStringParameters": query, "requestContext": { "http": { "method": "GET" } } });
        let page = Page::of(&serde_json::from_value(event).unwrap(), &"general-hospital".parse().unwrap());
        page.map_err(|problem| {
            assert_eq!(problem.status, 400);
            problem.detail
        })
    }

    #[test]
    fn without_a_query_a_page_begins_with_the_newest() {
        let selection = Selection { from: None, to: None, message_type: None, trigger_event: None };
        assert_eq!(page(&[]), Ok(Page { selection, after: None, limit: 50 }));
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
