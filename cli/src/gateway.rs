//! The API as the MLLP gateway delivers to it: under a session that is kept fresh, one try at a time.

use std::time::Duration;

use domain::{Charset, State, Status};
use mllp::{Lake, Outcome, Part, Submission};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use crate::client::Client;
use crate::http::{Answer, ER7, JSON, TRANSFER_DEADLINE};
use crate::output::one_line;
use crate::read;
use crate::session::Claims;

/// The API. Its client must not repeat requests by itself: the gateway does, for ever, and for all messages at one pace.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) client: Client,
    /// What all messages are in; else each says so itself.
    pub(crate) charset: Option<Charset>,
    /// Whose messages are taken. An account that is moved to another one meanwhile must not take them along.
    pub(crate) institute: String,
}

impl Api {
    fn is_of_institute(&self, token: &SecretString) -> bool {
        Claims::of(token).is_ok_and(|claims| claims.write == self.institute)
    }
}

impl Lake for Api {
    async fn submit(&self, body: &[u8]) -> Submission {
        let content_type = self.charset.map_or_else(|| ER7.to_owned(), |charset| format!("{ER7}; charset={}", charset.name()));
        match self.client.session().await {
            Ok(session) if !self.is_of_institute(&session.tokens.id) => {
                let reason = format!("the account no longer submits for {}", self.institute);
                return Submission::Later { after: None, reason };
            }
            _ => {}
        }
        let request = |api: &crate::http::Api, token: &SecretString| {
            // Renewed at this very moment it may be another's: then it is not shown, and the answer is 401.
            let token = Some(token).filter(|token| self.is_of_institute(token));
            let request = api.request(Method::POST, "/er7", token).timeout(TRANSFER_DEADLINE);
            request.header(CONTENT_TYPE, &content_type).header(ACCEPT, JSON).body(body.to_vec())
        };
        match self.client.call(request).await {
            Ok(answer) => submission(&answer),
            Err(error) => Submission::Later { after: None, reason: one_line(&format!("{error:#}")) },
        }
    }

    async fn outcome(&self, id: &str) -> Option<Outcome> {
        let status = read::status(&self.client, None, id).await.ok()?.ok()?;
        match status.status {
            Status::Stored if status.state == Some(State::Error) => Some(Outcome::Unparsable),
            Status::Stored => Some(Outcome::Stored),
            Status::Denied => Some(Outcome::Denied),
            Status::Expired => Some(Outcome::Expired),
            Status::Failed => Some(Outcome::Failed),
            Status::Queued | Status::Processing => None,
        }
    }
}

/// What the API says of a batch.
#[derive(Deserialize)]
struct Batch {
    messages: Vec<Member>,
}

/// What it says of one message of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    status: String,
    message_id: Option<String>,
    problem: Option<Problem>,
}

/// RFC 9457.
#[derive(Deserialize)]
struct Problem {
    status: u16,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// Reads an answer.
fn submission(answer: &Answer) -> Submission {
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let later = |reason: String| Submission::Later { after: seconds.map(Duration::from_secs), reason: one_line(&reason) };
    if let Ok(batch) = serde_json::from_slice::<Batch>(&answer.body) {
        return match batch.messages.into_iter().map(Part::try_from).collect() {
            Ok(parts) => Submission::Final(parts),
            Err(problem) => later(problem),
        };
    }
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => match answer.text("messageId") {
            id if id.is_empty() => later(format!("{}: it names no message", answer.status)),
            id => Submission::Final(vec![Part::Queued { id }]),
        },
        StatusCode::CONFLICT => Submission::Final(vec![Part::Duplicate]),
        status if is_final(status.as_u16()) => {
            Submission::Final(vec![Part::Refused { status: status.as_u16(), detail: one_line(&answer.problem()) }])
        }
        _ => later(answer.problem()),
    }
}

impl TryFrom<Member> for Part {
    type Error = String;

    fn try_from(member: Member) -> Result<Self, String> {
        match (member.status.as_str(), member.message_id, member.problem) {
            ("queued", Some(id), _) => Ok(Self::Queued { id }),
            ("duplicate", _, _) => Ok(Self::Duplicate),
            (_, _, Some(Problem { status, title, detail })) if is_final(status) => {
                Ok(Self::Refused { status, detail: one_line(&format!("{status} {title}: {detail}")) })
            }
            (_, _, Some(Problem { status, title, .. })) => Err(format!("{status} {title}, for a message of a batch")),
            _ => Err("the API's answer to a batch cannot be read".to_owned()),
        }
    }
}

/// Whether a refusal lies in the message, and not in who sends it, where to, or when. 401, 403 and 404 do not: they are put right by
/// somebody, and then the message is taken.
fn is_final(status: u16) -> bool {
    matches!(status, 400 | 413 | 415 | 422)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};
    use serde_json::{Value, json};

    use super::*;

    fn said(status: u16, body: &Value, retry_after: Option<&'static str>) -> Submission {
        let headers = HeaderMap::from_iter(retry_after.map(|value| (RETRY_AFTER, HeaderValue::from_static(value))));
        submission(&Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_string().into_bytes() })
    }

    fn problem(status: u16) -> Value {
        json!({ "type": "about:blank", "title": "Title", "status": status, "detail": "detail" })
    }

    #[test]
    fn an_answer_is_final_or_the_message_is_sent_again() {
        let queued = json!({ "messageId": "1", "submissionId": "2", "status": "queued", "statusUrl": "https://x" });
        assert_eq!(said(202, &queued, None), Submission::Final(vec![Part::Queued { id: "1".to_owned() }]));
        assert_eq!(said(409, &problem(409), None), Submission::Final(vec![Part::Duplicate]));
        for status in [400, 413, 415, 422] {
            let Submission::Final(parts) = said(status, &problem(status), None) else { panic!("{status}") };
            assert!(
                matches!(&parts[..], [Part::Refused { status: refused, detail }] if *refused == status && detail.contains("detail"))
            );
        }
        for status in [302, 401, 403, 404, 408, 429, 500, 502, 503, 504] {
            let Submission::Later { after, .. } = said(status, &problem(status), Some("7")) else { panic!("{status}") };
            assert_eq!(after, Some(Duration::from_secs(7)), "{status}");
        }
        // An answer of something between here and the API.
        assert!(matches!(said(200, &json!("login page"), None), Submission::Later { after: None, .. }));
    }

    #[test]
    fn a_batch_is_final_when_each_message_is() {
        let queued = json!({ "messageId": "1", "status": "queued", "controlId": "A", "statusUrl": "https://x" });
        let duplicate = json!({ "messageId": "2", "status": "duplicate", "controlId": "B", "statusUrl": "https://x" });
        let refused = |status| json!({ "status": "refused", "controlId": "C", "problem": problem(status) });
        let batch = |last: Value| json!({ "submissionId": "1", "messages": [&queued, &duplicate, last], "batchProblems": [] });
        let parts = |last| vec![Part::Queued { id: "1".to_owned() }, Part::Duplicate, last];
        let detail = "400 Title: detail".to_owned();
        assert_eq!(said(202, &batch(refused(400)), None), Submission::Final(parts(Part::Refused { status: 400, detail })));
        assert!(matches!(said(202, &batch(refused(503)), None), Submission::Later { .. }));
        assert!(matches!(said(202, &batch(json!({ "status": "news" })), None), Submission::Later { .. }));
    }
}
