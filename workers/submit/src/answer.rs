//! The answers to callers.

use std::borrow::Cow;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use domain::Charset;
use hl7::{Ack, AckCode, AckHeader, AckProblem, Body, Verdict};
use runtime::{HttpProblem, bytes_response, json_response, problem_response};
use serde_json::{Value, json};

use crate::format::Format;
use crate::refusal::{ACCEPTED, Refusal};
use crate::{Batch, Submitted, Taken};

/// Most problems of a batch that an answer in JSON tells of.
const MOST_PROBLEMS: usize = 100;

/// The largest answer that Lambda hands on, in bytes, with the quotes of its JSON escaped and other bytes in base64; some of its 6 MB is
/// left for the rest of the answer.
const MAX_ANSWER_BYTES: usize = 5_900_000;

/// Writes answers for one request.
pub(crate) struct Answer<'a> {
    pub format: &'a Format,
    /// Where callers reach the API.
    pub base_url: &'a str,
    /// The body, if it was readable.
    pub body: Option<&'a Body>,
}

impl Answer<'_> {
    pub(crate) fn to(&self, submitted: &Result<Submitted, Refusal>) -> ApiGatewayV2httpResponse {
        let mut response = self.response(submitted);
        if matches!(submitted, Err(Refusal::UnknownCoding)) {
            // RFC 9110 §15.5.16.
            response.headers.insert("accept-encoding", HeaderValue::from_static(ACCEPTED));
        }
        response
    }

    fn response(&self, submitted: &Result<Submitted, Refusal>) -> ApiGatewayV2httpResponse {
        match (submitted, self.format) {
            (Ok(Submitted::One(taken)), Format::Json) if taken.is_duplicate => problem_response(&already_stored(taken)),
            (Ok(Submitted::One(taken)), Format::Json) => json_response(202, &self.queued(taken)),
            (Ok(Submitted::Batch(batch)), Format::Json) => {
                let (status, retry_after) = status(batch);
                with_retry_after(json_response(status, &self.batch(batch)), retry_after)
            }
            (Err(refusal), Format::Json) => problem_response(&refusal.problem()),
            (Ok(Submitted::One(taken)), Format::Ack { content_type, charset }) => self.ack(Ok(taken), content_type, *charset),
            (Err(refusal), Format::Ack { content_type, charset }) => self.ack(Err(refusal), content_type, *charset),
            (Ok(Submitted::Batch(batch)), Format::Ack { content_type, charset }) => self.batch_ack(batch, content_type, *charset),
        }
    }

    /// Whether the answer to a batch may be too large for Lambda, whatever the outcomes of its messages are.
    pub(crate) fn may_be_too_large(&self, body: &Body) -> bool {
        // The most bytes that an answer says about a message, apart from the values that it repeats of the message.
        const SAID: usize = 600;
        let headers = || body.messages().map(|piece| piece.header());
        let bytes: usize = match self.format {
            // A quote or a backslash of a control id is escaped twice.
            Format::Json => headers().map(|it| 4 * it.control_id().len() + self.base_url.len() + SAID).sum(),
            Format::Ack { charset, .. } => {
                let detail = "x".repeat(SAID / 3);
                let problem = Some(AckProblem::internal(&detail));
                let ack = Ack { code: AckCode::CR, problem, control_id: "12345678901234567890", time: "20260101000000+0000" };
                let acks = headers().map(|header| (header, Some(ack)));
                let (_, answer) = hl7::acknowledge_batch_in(body, ack.control_id, ack.time, acks, *charset);
                answer.len().div_ceil(3) * 4
            }
        };
        bytes > MAX_ANSWER_BYTES
    }

    fn queued(&self, taken: &Taken) -> Value {
        let message_id = &taken.submitted.message_id;
        json!({
            "messageId": message_id,
            "submissionId": taken.submitted.submission_id,
            "status": "queued",
            "statusUrl": format!("{}/er7/{message_id}/status", self.base_url),
        })
    }

    fn batch(&self, batch: &Batch) -> Value {
        let count = |which: fn(&Result<Taken, Refusal>) -> bool| batch.outcomes.iter().filter(|it| which(it)).count();
        let pieces = self.body.into_iter().flat_map(Body::messages);
        let messages = pieces.zip(&batch.outcomes).map(|(piece, outcome)| {
            let control_id = piece.header().control_id().to_owned();
            match outcome {
                Ok(taken) => json!({
                    "messageId": taken.submitted.message_id,
                    "controlId": control_id,
                    "offset": piece.offset(),
                    "status": if taken.is_duplicate { "duplicate" } else { "queued" },
                    "statusUrl": format!("{}/er7/{}/status", self.base_url, taken.submitted.message_id),
                }),
                Err(refusal) => json!({
                    "controlId": control_id,
                    "offset": piece.offset(),
                    "status": "refused",
                    "problem": refusal.problem().document(),
                }),
            }
        });
        json!({
            "submissionId": batch.submission_id,
            "messages": messages.collect::<Vec<_>>(),
            "queued": count(|it| it.as_ref().is_ok_and(|taken| !taken.is_duplicate)),
            "duplicates": count(|it| it.as_ref().is_ok_and(|taken| taken.is_duplicate)),
            "refused": count(Result::is_err),
            "batchProblems": batch.problems.get(..MOST_PROBLEMS).unwrap_or(&batch.problems),
        })
    }

    /// The one acknowledgment that an HTTP answer can hold: the application acknowledgment if the message gets one (original
    /// mode, or MSH-16), else the commit acknowledgment. If the message gets neither, the answer is the status alone.
    fn ack(&self, outcome: Result<&Taken, &Refusal>, content_type: &str, asked: Option<Charset>) -> ApiGatewayV2httpResponse {
        // A body that is refused as a whole is answered with the header of its first message.
        let header = self.body.and_then(|it| it.message(1)).map_or_else(|| AckHeader::of(&[]), |it| it.header());
        let facts = Facts::of(outcome);
        let (status, retry_after) = match outcome {
            Ok(_) => (200, None),
            Err(refusal) => (refusal.problem().status, refusal.retry_after_seconds()),
        };
        let Some(code) = header.only_answer(facts.verdict()) else {
            let status = if outcome.is_ok() { 204 } else { status };
            return hl7_response(status, None, retry_after);
        };
        let (charset, bytes) = hl7::acknowledge_in(&header, &facts.ack(code), asked);
        hl7_response(status, Some((content_type, charset, bytes)), retry_after)
    }

    fn batch_ack(&self, batch: &Batch, content_type: &str, asked: Option<Charset>) -> ApiGatewayV2httpResponse {
        let Some(body) = self.body else { return hl7_response(500, None, None) };
        let facts: Vec<_> = batch.outcomes.iter().map(|outcome| Facts::of(outcome.as_ref())).collect();
        let (charset, bytes) = hl7::acknowledge_batch_in(
            body,
            &batch.submission_id.control_id(),
            &batch.received_at.hl7(),
            body.messages().zip(&facts).map(|(piece, facts)| {
                let header = piece.header();
                let code = header.answer_in_batch(facts.verdict());
                (header, code.map(|code| facts.ack(code)))
            }),
            asked,
        );
        // In HL7 an accepted message gets 200, the first time and every other time.
        let (status, retry_after) = match status(batch) {
            (202 | 409, _) if bytes.is_empty() => (204, None),
            (202 | 409, retry_after) => (200, retry_after),
            refused => refused,
        };
        let body = (!bytes.is_empty()).then_some((content_type, charset, bytes));
        hl7_response(status, body, retry_after)
    }
}

/// The content of an acknowledgment, in our own words.
struct Facts<'a> {
    outcome: Result<&'a Taken, (&'a Refusal, HttpProblem)>,
    control_id: Cow<'a, str>,
    time: String,
}

impl<'a> Facts<'a> {
    /// An accepted message always gets the same acknowledgment: it depends on the message alone.
    fn of(outcome: Result<&'a Taken, &'a Refusal>) -> Self {
        let (control_id, time) = match outcome {
            Ok(taken) => (taken.submitted.message_id.control_id().into(), taken.first_received_at),
            Err(_) => (runtime::new_submission_id().control_id().into(), runtime::now()),
        };
        Self { outcome: outcome.map_err(|refusal| (refusal, refusal.problem())), control_id, time: time.hl7() }
    }

    /// A fault of the message is an error, and anything else a rejection.
    fn verdict(&self) -> Verdict {
        match &self.outcome {
            Ok(_) => Verdict::Accepted,
            Err((_, problem)) if matches!(problem.status, 400 | 413 | 415) => Verdict::Error,
            Err(_) => Verdict::Rejected,
        }
    }

    fn ack(&self, code: AckCode) -> Ack<'_> {
        let problem = match &self.outcome {
            Ok(taken) => taken.is_unparsable.then_some(AckProblem::MSH_UNREADABLE),
            Err((refusal, problem)) => Some(refusal.ack_problem(&problem.detail)),
        };
        Ack { code, problem, control_id: &self.control_id, time: &self.time }
    }
}

/// The status of a batch: 202 if anything was queued or the batch is empty, and 409 if all messages are stored already. Otherwise
/// it is the status of a refusal, preferably of one that another try may undo, since the sender would give up on the others. The
/// time to wait is the longest that any refusal asks for.
fn status(batch: &Batch) -> (u16, Option<u32>) {
    let queued = batch.outcomes.iter().any(|it| it.as_ref().is_ok_and(|taken| !taken.is_duplicate));
    let refusals = || batch.outcomes.iter().filter_map(|it| it.as_ref().err());
    let busy = refusals().filter(|it| it.retry_after_seconds().is_some()).max_by_key(|it| it.retry_after_seconds());
    let retry_after = busy.and_then(Refusal::retry_after_seconds);
    let refused = busy.or_else(|| refusals().next()).map(|it| it.problem().status);
    (if queued || batch.outcomes.is_empty() { 202 } else { refused.unwrap_or(409) }, retry_after)
}

fn already_stored(taken: &Taken) -> HttpProblem {
    let mut problem = HttpProblem::new(409, "Duplicate", "the institute has stored this message already");
    problem.members.push(("messageId", json!(taken.submitted.message_id)));
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
