//! What a caller is told.

use std::borrow::Cow;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use domain::{Charset, SubmissionId, Timestamp};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Condition};
use runtime::{HttpProblem, bytes_response, json_response, problem_response};
use serde_json::{Value, json};

use crate::body::Incoming;
use crate::format::Format;
use crate::{Batch, Submitted, Taken};

/// Writes answers for one request.
pub(crate) struct Answer<'a> {
    pub format: &'a Format,
    /// Where callers reach the API.
    pub base_url: &'a str,
    /// The body, if it was readable.
    pub incoming: Option<&'a Incoming>,
}

impl Answer<'_> {
    pub(crate) fn to(&self, submitted: &Result<Submitted, HttpProblem>) -> ApiGatewayV2httpResponse {
        match (submitted, self.format) {
            (Ok(Submitted::One(taken)), Format::Json) if taken.is_duplicate => problem_response(&already_stored(taken)),
            (Ok(Submitted::One(taken)), Format::Json) => json_response(202, &self.queued(taken)),
            (Ok(Submitted::Batch(batch)), Format::Json) => {
                let (status, retry_after) = status(batch);
                with_retry_after(json_response(status, &self.batch(batch)), retry_after)
            }
            (Err(problem), Format::Json) => problem_response(problem),
            (Ok(Submitted::One(taken)), Format::Ack { content_type, charset }) => self.ack(Ok(taken), content_type, *charset),
            (Err(problem), Format::Ack { content_type, charset }) => self.ack(Err(problem), content_type, *charset),
            (Ok(Submitted::Batch(batch)), Format::Ack { content_type, .. }) => self.batch_ack(batch, content_type),
        }
    }

    fn queued(&self, taken: &Taken) -> Value {
        let message_id = &taken.subject.message_id;
        json!({
            "messageId": message_id,
            "submissionId": taken.subject.submission_id,
            "status": "queued",
            "statusUrl": format!("{}/er7/{message_id}/status", self.base_url),
        })
    }

    fn batch(&self, batch: &Batch) -> Value {
        let count =
            |which: fn(&Result<Taken, HttpProblem>) -> bool| batch.messages.iter().filter(|it| which(&it.outcome)).count();
        let messages = batch.messages.iter().map(|message| {
            let control_id = self.header(message.range.clone()).control_id().to_owned();
            match &message.outcome {
                Ok(taken) => json!({
                    "messageId": taken.subject.message_id,
                    "controlId": control_id,
                    "offset": message.range.start,
                    "status": if taken.is_duplicate { "duplicate" } else { "queued" },
                    "statusUrl": format!("{}/er7/{}/status", self.base_url, taken.subject.message_id),
                }),
                Err(problem) => json!({
                    "controlId": control_id,
                    "offset": message.range.start,
                    "status": "refused",
                    "problem": problem.document(),
                }),
            }
        });
        json!({
            "submissionId": batch.submission_id,
            "messages": messages.collect::<Vec<_>>(),
            "queued": count(|it| it.as_ref().is_ok_and(|taken| !taken.is_duplicate)),
            "duplicates": count(|it| it.as_ref().is_ok_and(|taken| taken.is_duplicate)),
            "refused": count(Result::is_err),
            "batchProblems": batch.problems,
        })
    }

    fn header(&self, range: std::ops::Range<usize>) -> AckHeader {
        let Some(incoming) = self.incoming else { return AckHeader::of(&[]) };
        header(incoming, incoming.bytes.get(range).unwrap_or_default())
    }

    /// 200 with CA, or the problem's status with CE or CR. A sender that wants no such acknowledgment gets the status alone.
    fn ack(&self, outcome: Result<&Taken, &HttpProblem>, content_type: &str, asked: Option<Charset>) -> ApiGatewayV2httpResponse {
        let header = self.header(0..self.incoming.map_or(0, |it| it.bytes.len()));
        let facts = Facts::of(outcome);
        let ack = facts.ack();
        let (status, retry_after) = match outcome {
            Ok(_) => (200, None),
            Err(problem) => (problem.status, problem.retry_after_seconds),
        };
        if !header.wants(ack.code) {
            let status = if outcome.is_ok() { 204 } else { status };
            return hl7_response(status, None, retry_after);
        }
        let (charset, bytes) = hl7::acknowledge_in(&header, &ack, asked);
        hl7_response(status, Some((content_type, charset, bytes)), retry_after)
    }

    fn batch_ack(&self, batch: &Batch, content_type: &str) -> ApiGatewayV2httpResponse {
        let Some(incoming) = self.incoming else { return hl7_response(500, None, None) };
        let facts: Vec<_> = batch.messages.iter().map(|message| Facts::of(message.outcome.as_ref())).collect();
        let bytes = hl7::acknowledge_batch(
            &incoming.bytes,
            incoming.charset_of(&incoming.bytes).unwrap_or(Charset::UTF_8),
            &batch.split,
            &batch.submission_id.control_id(),
            &batch.received_at.hl7(),
            batch.messages.iter().zip(&facts).map(|(message, facts)| (self.header(message.range.clone()), facts.ack())),
        );
        // What is accepted in HL7 is 200, the first time and the next.
        let (status, retry_after) = match status(batch) {
            (202 | 409, _) if bytes.is_empty() => (204, None),
            (202 | 409, retry_after) => (200, retry_after),
            refused => refused,
        };
        let body = (!bytes.is_empty()).then_some((content_type, Charset::UTF_8, bytes));
        hl7_response(status, body, retry_after)
    }
}

/// What an acknowledgment takes over from a message.
fn header(incoming: &Incoming, message: &[u8]) -> AckHeader {
    AckHeader::of_received(message, incoming.charset_of(message).unwrap_or(Charset::UTF_8))
}

/// What an acknowledgment says, in texts of its own.
struct Facts<'a> {
    outcome: Result<&'a Taken, &'a HttpProblem>,
    control_id: Cow<'a, str>,
    time: String,
}

impl<'a> Facts<'a> {
    /// That of a message which was taken depends on the message alone, so that the same message has the same one.
    fn of(outcome: Result<&'a Taken, &'a HttpProblem>) -> Self {
        let (control_id, time) = match outcome {
            Ok(taken) => (taken.subject.message_id.control_id().into(), taken.first_received_at),
            Err(_) => (SubmissionId::generate().control_id().into(), Timestamp::now()),
        };
        Self { outcome, control_id, time: time.hl7() }
    }

    fn ack(&self) -> Ack<'_> {
        let (code, problem) = match self.outcome {
            Ok(taken) => (AckCode::CA, taken.is_unparsable.then_some(AckProblem::MSH_UNREADABLE)),
            Err(problem) => (code(problem), Some(self::problem(problem))),
        };
        Ack { code, problem, control_id: &self.control_id, time: &self.time }
    }
}

/// CE for what is wrong with the message, CR for everything else.
fn code(problem: &HttpProblem) -> AckCode {
    if matches!(problem.status, 400 | 413 | 415) { AckCode::CE } else { AckCode::CR }
}

fn problem(problem: &HttpProblem) -> AckProblem<'_> {
    let detail = &problem.detail;
    match problem.status {
        400 if problem.title == crate::body::UNDECODABLE => AckProblem::undecodable(detail),
        400 => AckProblem::no_message(detail),
        413 => AckProblem { condition: Condition::ValueTooLong, ..AckProblem::internal(detail) },
        _ => AckProblem::internal(detail),
    }
}

/// 202 if anything was queued, 409 if all is stored already; else that of the refusals which another try may better, since the sender
/// would give up on the others. With the longest that any of them asks to wait.
fn status(batch: &Batch) -> (u16, Option<u32>) {
    let queued = batch.messages.iter().any(|it| it.outcome.as_ref().is_ok_and(|taken| !taken.is_duplicate));
    let refusals = || batch.messages.iter().filter_map(|it| it.outcome.as_ref().err());
    let busy = refusals().filter(|it| it.retry_after_seconds.is_some()).max_by_key(|it| it.retry_after_seconds);
    let retry_after = busy.and_then(|it| it.retry_after_seconds);
    let refused = busy.or_else(|| refusals().next()).map(|it| it.status);
    (if queued { 202 } else { refused.unwrap_or(409) }, retry_after)
}

fn already_stored(taken: &Taken) -> HttpProblem {
    let mut problem = HttpProblem::new(409, "Duplicate", "the institute has stored this message already");
    problem.members.push(("messageId", json!(taken.subject.message_id)));
    problem
}

fn hl7_response(status: u16, body: Option<(&str, Charset, Vec<u8>)>, retry_after: Option<u32>) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::new();
    let body = body.map(|(content_type, charset, bytes)| {
        if let Ok(value) = HeaderValue::from_str(&format!("{content_type}; charset={}", charset.name())) {
            headers.insert("content-type", value);
        }
        bytes
    });
    with_retry_after(bytes_response(status, headers, body), retry_after)
}

fn with_retry_after(mut response: ApiGatewayV2httpResponse, seconds: Option<u32>) -> ApiGatewayV2httpResponse {
    if let Some(seconds) = seconds {
        response.headers.insert("retry-after", seconds.into());
    }
    response
}
