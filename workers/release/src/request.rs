//! The body of `POST /er7/release`: which held messages, and where to go on.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use domain::catalog::MAX_PAGE;
use domain::held::{HeldPosition, HeldQuery};
use domain::{HoldReason, Timestamp};
use runtime::HttpProblem;
use serde::Deserialize;
use serde_json::json;

/// A page of held messages to release.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub query: HeldQuery,
    pub after: Option<HeldPosition>,
    /// The maximum number of messages.
    pub limit: usize,
}

/// The body. A misspelled member is an error, because it must not release everything.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    reason: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Batch {
    /// Reads the body; without one, all held messages are meant. 400 names the member and never its value.
    pub(crate) fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let body = request.body.as_deref().unwrap_or_default();
        let bytes = match request.is_base64_encoded {
            true => BASE64_STANDARD.decode(body).map_err(|_| invalid("the body is not what API Gateway sends"))?,
            false => body.as_bytes().to_vec(),
        };
        let body: Body = match bytes.trim_ascii().is_empty() {
            true => Body::default(),
            false => serde_json::from_slice(&bytes)
                .map_err(|_| invalid("the body is a JSON object of `reason`, `from`, `to`, `limit` and `cursor`, or empty"))?,
        };
        let reason = body.reason.map(|it| it.parse::<HoldReason>()).transpose();
        let query = HeldQuery {
            reason: reason.map_err(|_| invalid("`reason` is `denied`, `expired`, `deployment` or `failed`"))?,
            from: time("from", body.from.as_deref())?,
            to: time("to", body.to.as_deref())?,
        };
        if query.from.zip(query.to).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("`from` must be before `to`"));
        }
        let limit = body.limit.unwrap_or(MAX_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(invalid(&format!("`limit` is a number from 1 to {MAX_PAGE}")));
        }
        let after = body.cursor.map(|it| position(&it).ok_or_else(|| invalid("`cursor` is none of this API's"))).transpose()?;
        Ok(Self { query, after, limit })
    }
}

/// The text for a position. It gives no right: only messages of the caller's institute are considered.
pub(crate) fn cursor(position: &HeldPosition) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json!(position).to_string())
}

fn position(cursor: &str) -> Option<HeldPosition> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, HttpProblem> {
    let read = |text| {
        Timestamp::range_end(text).ok_or_else(|| invalid(&format!("`{name}` must be an RFC 3339 timestamp or YYYY-MM-DD")))
    };
    text.map(read).transpose()
}

fn invalid(detail: &str) -> HttpProblem {
    HttpProblem::new(400, "Invalid query", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(body: &str) -> Result<Batch, String> {
        let event = json!({ "body": body, "requestContext": { "http": { "method": "POST" } } });
        Batch::of(&serde_json::from_value(event).unwrap()).map_err(|problem| {
            assert_eq!(problem.status, 400);
            problem.detail
        })
    }

    #[test]
    fn a_body_selects_held_messages() {
        for nothing in ["", " ", "{}"] {
            assert_eq!(batch(nothing), Ok(Batch { query: HeldQuery::default(), after: None, limit: 100 }));
        }
        let held_since = Timestamp::range_end("2026-11-21").unwrap();
        let after = HeldPosition { held_since, message_id: "0".repeat(64).parse().unwrap() };
        let body = json!({ "reason": "expired", "from": "2026-11-20", "to": "2026-11-22", "limit": 7, "cursor": cursor(&after) });
        let found = batch(&body.to_string()).unwrap();
        assert_eq!((found.query.reason, found.after, found.limit), (Some(HoldReason::Expired), Some(after), 7));
        assert!(found.query.from < found.query.to);
    }

    #[test]
    fn a_bad_member_is_named_and_not_quoted_and_releases_nothing() {
        let table = [
            (r#"{"reason":"SECRET"}"#, "`reason`"),
            (r#"{"from":"SECRET"}"#, "`from`"),
            (r#"{"to":"SECRET"}"#, "`to`"),
            (r#"{"from":"2026-11-22","to":"2026-11-21"}"#, "`from`"),
            (r#"{"limit":0}"#, "`limit`"),
            (r#"{"limit":101}"#, "`limit`"),
            (r#"{"cursor":"SECRET"}"#, "`cursor`"),
            (r#"{"raeson":"SECRET"}"#, "`reason`"),
            (r#"["SECRET"]"#, "`reason`"),
            ("SECRET", "`reason`"),
        ];
        for (body, name) in table {
            let detail = batch(body).unwrap_err();
            assert!(detail.contains(name) && !detail.contains("SECRET"), "{body}: {detail}");
        }
    }
}
