//! The API as the MLLP gateway's destination: it keeps the session fresh and makes one try at a time. A large message goes by way of an
//! upload, as with `sluice send`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Charset, Held, MessageId, State, Status};
use mllp::{Destination, Receipt, Reply, Standing};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output::one_line;
use client::Client;
use client::http::Answer;
use client::read::{self, Known};
use client::release;
use client::submit::{Submitted, submit};
use client::tokens::TokenClaims;

/// How often the log says how far an upload is.
const PROGRESS: Duration = Duration::from_secs(10);

/// How often the gateway checks whether its token is new, at least, and how long it waits after a release that failed.
const NEW_TOKEN: Duration = Duration::from_secs(60);

/// Takes a line for the log.
pub(crate) type Say = Arc<dyn Fn(Value) + Send + Sync>;

/// Releases the institute's held messages at the start and with each new token, until the future is dropped. Between two looks at the
/// token, which ask nobody, is this pause, of at most [`NEW_TOKEN`]. `say` gets a line for the log.
pub(crate) async fn release_held(client: Arc<Client>, institute: String, pause: Duration, say: Say) {
    let mut released_with = None;
    loop {
        let mut pause = pause.min(NEW_TOKEN);
        if let Ok(token) = client.session().await.map(|session| session.tokens.id)
            && released_with.as_ref().map(SecretString::expose_secret) != Some(token.expose_secret())
            && TokenClaims::of(&token).is_ok_and(|claims| claims.write == institute)
        {
            match release_all(&client).await {
                Ok((released, refused)) => {
                    released_with = Some(token);
                    if released + refused > 0 {
                        say(json!({ "event": "release", "released": released, "refused": refused }));
                    }
                }
                Err(error) => {
                    // The next try is no look at a token but a request.
                    pause = NEW_TOKEN;
                    say(json!({ "event": "release", "reason": one_line(&format!("{error:#}")) }));
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Returns how many messages were released, and how many could not be.
async fn release_all(client: &Client) -> anyhow::Result<(usize, usize)> {
    let (mut released, mut refused) = (0, 0);
    let mut cursor = None;
    loop {
        let page = release::page(client, &release::Held::default(), cursor.as_deref()).await?;
        released += page.released.len();
        refused += page.refused.len();
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok((released, refused));
        }
    }
}

/// The reason for which the lake holds a message.
fn reason(held: Held) -> &'static str {
    held.reason.as_str()
}

/// The API. Its client must not retry by itself: the gateway repeats requests without end, and at one pace for all messages.
pub(crate) struct Api {
    pub(crate) client: Arc<Client>,
    /// The institute to submit for. Delivery stops if the account moves to another institute.
    pub(crate) institute: String,
    pub(crate) say: Say,
}

impl Api {
    fn is_of_institute(&self, token: &SecretString) -> bool {
        TokenClaims::of(token).is_ok_and(|claims| claims.write == self.institute)
    }
}

/// Tells the log how far the upload of so many bytes is, once in each `interval`.
fn progress(say: Say, bytes: usize, interval: Duration) -> impl Fn(usize) + Clone + Send + Sync + Unpin {
    let said_at = Arc::new(Mutex::new(Instant::now()));
    move |sent_bytes| {
        let mut said_at = said_at.lock().unwrap_or_else(PoisonError::into_inner);
        if said_at.elapsed() >= interval {
            *said_at = Instant::now();
            say(json!({ "event": "upload", "sentBytes": sent_bytes, "bytes": bytes }));
        }
    }
}

impl Destination for Api {
    async fn submit(&self, body: &Bytes, charset: Option<Charset>) -> Reply {
        match self.client.session().await {
            Ok(session) if !self.is_of_institute(&session.tokens.id) => {
                let reason = format!("the account no longer submits for {}", self.institute);
                return Reply::Later { after: None, reason };
            }
            _ => {}
        }
        // The token may have been renewed just now for another institute. Then the request has no token, and gets a 401.
        let may_use = |token: &SecretString| self.is_of_institute(token);
        let charset = charset.map(Charset::name);
        let sent = progress(Arc::clone(&self.say), body.len(), PROGRESS);
        match submit(&self.client, body.clone(), charset, may_use, sent).await {
            Ok(Submitted::Answered(answer)) => submission(&answer),
            Ok(Submitted::NotUploaded(answer)) => later(&answer, answer.problem()),
            Err(error) => Reply::Later { after: None, reason: one_line(&format!("{error:#}")) },
        }
    }

    async fn standings(&self, ids: &[MessageId]) -> Result<Vec<Standing>, String> {
        match self.client.session().await {
            // The other institute knows none of these messages.
            Ok(session) if !self.is_of_institute(&session.tokens.id) => {
                return Err(format!("the account no longer submits for {}", self.institute));
            }
            _ => {}
        }
        match read::statuses(&self.client, ids).await {
            Ok(Ok(statuses)) => Ok(statuses.into_iter().map(standing).collect()),
            Ok(Err(answer)) => Err(one_line(&answer.problem())),
            Err(error) => Err(one_line(&format!("{error:#}"))),
        }
    }
}

/// The meaning of a status for the spool. The final statuses of earlier builds, which held nothing, mean that the message is
/// lost.
fn standing(known: Known) -> Standing {
    let Known::Status(status) = known else { return Standing::Lost };
    match status.status {
        Status::Queued | Status::Processing => Standing::Pending,
        Status::Stored if status.state == Some(State::Error) => Standing::Unparsable,
        Status::Stored => Standing::Stored,
        Status::Held => Standing::Held(status.held.map_or("unknown", reason).to_owned()),
        Status::Discarded => Standing::Discarded,
        Status::Denied | Status::Expired | Status::Failed => Standing::Lost,
    }
}

/// The API's answer to a batch.
#[derive(Deserialize)]
struct Batch {
    messages: Vec<Member>,
}

/// Its part for one message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    status: String,
    message_id: Option<MessageId>,
    problem: Option<Problem>,
}

/// A problem document (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    status: u16,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// An answer that is not final.
fn later(answer: &Answer, reason: String) -> Reply {
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Reply::Later { after: seconds.map(Duration::from_secs), reason: one_line(&reason) }
}

/// Reads an answer of the API.
fn submission(answer: &Answer) -> Reply {
    let later = |reason: String| later(answer, reason);
    if let Ok(batch) = serde_json::from_slice::<Batch>(&answer.body) {
        return match batch.messages.into_iter().map(Receipt::try_from).collect() {
            Ok(parts) => Reply::Final(parts),
            Err(problem) => later(problem),
        };
    }
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => match answer.text("messageId").parse() {
            Ok(id) => Reply::Final(vec![Receipt::Queued { id }]),
            Err(_) => later(format!("{}: it names no message", answer.status)),
        },
        StatusCode::CONFLICT => Reply::Final(vec![Receipt::Duplicate]),
        status if is_final(status.as_u16()) => {
            Reply::Final(vec![Receipt::Refused { status: status.as_u16(), detail: one_line(&answer.problem()) }])
        }
        _ => later(answer.problem()),
    }
}

impl TryFrom<Member> for Receipt {
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

/// Whether the API refuses the message itself, for good. 401, 403 and 404 concern the sender or the address: once somebody has
/// corrected that, the API takes the message.
fn is_final(status: u16) -> bool {
    matches!(status, 400 | 413 | 415 | 422)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    fn said(status: u16, body: &Value, retry_after: Option<&'static str>) -> Reply {
        let headers = HeaderMap::from_iter(retry_after.map(|value| (RETRY_AFTER, HeaderValue::from_static(value))));
        submission(&Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_string().into_bytes() })
    }

    fn problem(status: u16) -> Value {
        json!({ "type": "urn:sluice:problem:title", "title": "Title", "status": status, "detail": "detail" })
    }

    #[test]
    fn an_answer_is_final_or_the_message_is_sent_again() {
        let id: MessageId = "1".repeat(64).parse().unwrap();
        let queued = json!({ "messageId": id, "submissionId": "2", "status": "queued", "statusUrl": "https://x" });
        assert_eq!(said(202, &queued, None), Reply::Final(vec![Receipt::Queued { id }]));
        assert_eq!(said(409, &problem(409), None), Reply::Final(vec![Receipt::Duplicate]));
        for status in [400, 413, 415, 422] {
            let Reply::Final(parts) = said(status, &problem(status), None) else { panic!("{status}") };
            assert!(
                matches!(&parts[..], [Receipt::Refused { status: refused, detail }] if *refused == status && detail.contains("detail"))
            );
        }
        for status in [302, 401, 403, 404, 408, 429, 500, 502, 503, 504] {
            let Reply::Later { after, .. } = said(status, &problem(status), Some("7")) else { panic!("{status}") };
            assert_eq!(after, Some(Duration::from_secs(7)), "{status}");
        }
        // A proxy between here and the API gave this answer.
        assert!(matches!(said(200, &json!("login page"), None), Reply::Later { after: None, .. }));
    }

    #[test]
    fn the_log_says_now_and_then_how_far_an_upload_is() {
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = Arc::clone(&lines);
        let say: Say = Arc::new(move |line| told.lock().unwrap().push(line));
        let sent = progress(Arc::clone(&say), 20, Duration::ZERO);
        sent(10);
        sent.clone()(20);
        // A fast upload is over before that.
        progress(say, 30, Duration::from_secs(3600))(10);
        let upload = |sent| json!({ "event": "upload", "sentBytes": sent, "bytes": 20 });
        assert_eq!(*lines.lock().unwrap(), [upload(10), upload(20)]);
    }

    #[test]
    fn held_discarded_and_lost_messages_are_told_apart() {
        let known = |mut status: Value| {
            let common = json!({ "messageId": "1".repeat(64), "submissions": 1, "receivedAt": "2026-01-02T03:04:05Z" });
            status.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
            standing(Known::Status(Box::new(serde_json::from_value(status).unwrap())))
        };
        let at = "2026-01-02T03:04:05Z";
        let held = json!({ "status": "held", "held": { "reason": "expired", "since": at, "until": at } });
        assert_eq!(known(held), Standing::Held("expired".to_owned()));
        assert_eq!(known(json!({ "status": "discarded" })), Standing::Discarded);
        assert_eq!(known(json!({ "status": "stored", "state": "parsed" })), Standing::Stored);
        assert_eq!(known(json!({ "status": "stored", "state": "error" })), Standing::Unparsable);
        for status in ["queued", "processing"] {
            assert_eq!(known(json!({ "status": status })), Standing::Pending);
        }
        for status in ["denied", "expired", "failed"] {
            assert_eq!(known(json!({ "status": status })), Standing::Lost, "of an earlier build, which kept nothing");
        }
        assert_eq!(standing(Known::Unknown), Standing::Lost);
    }

    #[test]
    fn a_batch_is_final_when_each_message_is() {
        let id: MessageId = "1".repeat(64).parse().unwrap();
        let queued = json!({ "messageId": id, "status": "queued", "controlId": "A", "statusUrl": "https://x" });
        let duplicate = json!({ "messageId": "2".repeat(64), "status": "duplicate", "controlId": "B", "statusUrl": "https://x" });
        let refused = |status| json!({ "status": "refused", "controlId": "C", "problem": problem(status) });
        let batch = |last: Value| json!({ "submissionId": "1", "messages": [&queued, &duplicate, last], "batchProblems": [] });
        let parts = |last| vec![Receipt::Queued { id: id.clone() }, Receipt::Duplicate, last];
        let detail = "400 Title: detail".to_owned();
        assert_eq!(said(202, &batch(refused(400)), None), Reply::Final(parts(Receipt::Refused { status: 400, detail })));
        assert!(matches!(said(202, &batch(refused(503)), None), Reply::Later { .. }));
        assert!(matches!(said(202, &batch(json!({ "status": "news" })), None), Reply::Later { .. }));
    }
}
