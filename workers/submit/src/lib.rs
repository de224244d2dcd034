//! `POST /er7`: receives a message, records it in the catalog and puts it into the queue, with the caller's token sealed. A message too
//! large for a request is uploaded first (`upload`).
//!
//! This worker does not decide what the caller may write. The authorizer names the institute that the message is queued for, and
//! IAM decides by the caller's own AWS credentials whether it is stored.

mod answer;
mod batch;
mod body;
mod coding;
mod format;
mod refusal;
mod upload;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use catalog::{Allowance, Catalog, RecordedSubmission};
use domain::{Envelope, MessageId, Received, Requester, SubmissionId, SubmittedMessage, Timestamp};
use futures_util::future::try_join;
use hl7::{Body, Message};
use runtime::{Caller, Field, HttpProblem, StepError, log_field, log_submitted};
use seal::Sealer;
use serde_json::Value;

pub use crate::batch::BatchTimes;

use crate::answer::Answer;
use crate::batch::Batch;
use crate::format::Format;
use crate::refusal::Refusal;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Submit {
    pub catalog: Catalog,
    pub sealer: Sealer,
    pub s3: aws_sdk_s3::Client,
    /// The bucket for messages too large for the envelope.
    pub overflow_bucket: String,
    pub sqs: aws_sdk_sqs::Client,
    pub queue_url: String,
    /// Where callers reach the API, if not at the host they name (a custom domain's path, a proxy); empty otherwise.
    pub public_url: String,
    /// Largest message, in bytes as sent (after base64).
    pub max_message_bytes: usize,
    /// Largest upload, in bytes.
    pub max_upload_bytes: usize,
    /// How many messages an institute may submit in bodies of more than ten messages; `None` for any number.
    pub allowance: Option<Allowance>,
    /// How long a body of several messages may take.
    pub batch_times: BatchTimes,
}

/// A body of more messages than this counts as so many in the institute's allowance. Smaller ones are one request each to API
/// Gateway's limit, as single messages are, and should not cost a request to the catalog more.
const SMALL_BATCH: usize = 10;

/// A message that is in safe keeping.
#[derive(Clone, Debug)]
struct Taken {
    submitted: SubmittedMessage,
    /// Stored before, or a copy of another one in the same body.
    is_duplicate: bool,
    /// Its MSH is not readable.
    is_unparsable: bool,
    /// When the institute first submitted it.
    first_received_at: Timestamp,
}

/// The result of a request.
enum Submitted {
    One(Taken),
    Batch(Batch),
}

/// Who submits, and when: the same for all messages of a request.
struct Submission {
    submission_id: SubmissionId,
    received_at: Timestamp,
    caller: Caller,
    source: domain::Source,
}

impl Submit {
    /// Answers one request: what became of its message or messages, as JSON or as an HL7 acknowledgment. The answer reports everything
    /// that was queued.
    ///
    /// # Errors
    /// Only for an event that is not API Gateway's.
    pub async fn answer(&self, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
        let mut request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
        let (format, base_url) = (Format::of(&request), runtime::base_url(&request, &self.public_url));
        if request.route_key.as_deref() == Some(upload::ANNOUNCE) {
            return Ok(self.announced(&mut request, &base_url).await);
        }
        let submission = Submission::of(&request);
        let body = match &submission {
            Ok(submission) if request.path_parameters.contains_key("uploadId") => self.uploaded(&request, submission).await,
            _ => body::of_request(&mut request, self.max_message_bytes),
        };
        let submitted = match (submission, &body) {
            (Err(problem), _) => Err(problem.into()),
            (_, Err(refusal)) => Err(refusal.clone()),
            (Ok(submission), Ok(body)) => {
                let answer = Answer { format: &format, base_url: &base_url, body: Some(body) };
                self.submit(submission, body, &answer).await
            }
        };
        log_field(
            Field::Outcome,
            match &submitted {
                Ok(Submitted::One(Taken { is_duplicate: false, .. })) => "queued",
                Ok(Submitted::One(_)) => "Duplicate",
                Ok(Submitted::Batch(_)) => "batch",
                Err(refusal) => refusal.problem().title,
            },
        );
        log_counts(&submitted);
        Ok(Answer { format: &format, base_url: &base_url, body: body.as_ref().ok() }.to(&submitted))
    }

    async fn submit(&self, submission: Submission, body: &Body, answer: &Answer<'_>) -> Result<Submitted, Refusal> {
        log_field(Field::SizeBytes, body.bytes().len());
        let too_large = |detail: String| Err(HttpProblem::new(413, "Content too large", detail).into());
        if body.has_more_than(domain::MAX_MESSAGES) {
            return too_large(format!("a body may hold at most {} messages: send it in parts", domain::MAX_MESSAGES));
        }
        // Checked before anything is queued: without an answer the sender would send all of it again.
        if body.is_batch() && answer.may_be_too_large(body) {
            return too_large("the answer to so many messages would be too large: send the body in parts".to_owned());
        }
        let piece = match body.message(1) {
            Some(piece) if !body.is_batch() => piece,
            _ => {
                self.take_allowance(&submission, body.count()).await?;
                return Ok(Submitted::Batch(self.batch(submission, body).await));
            }
        };
        let message = piece.read()?;
        let submitted = submission.submitted(&message.id);
        log_submitted(&submitted);

        let (taken, token) = try_join(self.record(&submission, &message), self.seal(&submission)).await?;
        if !taken.is_duplicate {
            self.enqueue(&submission, submitted, token, &piece.received()?).await?;
        }
        Ok(Submitted::One(taken))
    }

    /// Refuses a large body of an institute that has submitted too many messages lately.
    async fn take_allowance(&self, submission: &Submission, count: usize) -> Result<(), Refusal> {
        let Some(allowance) = self.allowance.filter(|_| count > SMALL_BATCH) else { return Ok(()) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.catalog.take_allowance(&submission.source, count, allowance, submission.received_at).await? {
            None => Ok(()),
            Some(seconds) => {
                let detail = "the institute has submitted too many messages in large bodies: try again later";
                let problem = HttpProblem::new(429, "Too many requests", detail);
                Err(HttpProblem { retry_after_seconds: Some(seconds), ..problem }.into())
            }
        }
    }

    /// Records a message in the catalog.
    async fn record(&self, submission: &Submission, message: &Message) -> Result<Taken, StepError> {
        let submitted = submission.submitted(&message.id);
        let recorded = self.catalog.record_submission(&submitted, submission.received_at, &submission.requester()).await?;
        let RecordedSubmission { is_stored, first_received_at } = recorded;
        Ok(Taken { submitted, is_duplicate: is_stored, is_unparsable: message.delimiters.is_err(), first_received_at })
    }

    async fn seal(&self, submission: &Submission) -> Result<String, StepError> {
        let Submission { submission_id, source, caller, .. } = submission;
        self.sealer.seal(*submission_id, source, &caller.token).await
    }

    /// The queue message for a message of the submission. Puts the bytes of a large one into the overflow bucket.
    async fn envelope(
        &self,
        submission: &Submission,
        submitted: SubmittedMessage,
        token: String,
        received: &Received,
    ) -> Result<String, StepError> {
        let payload = overflow::payload(&self.s3, &self.overflow_bucket, &submitted, received).await?;
        let envelope = Envelope {
            v: Envelope::VERSION,
            submission_id: submitted.submission_id,
            message_id: submitted.message_id,
            source: submitted.source,
            received_at: submission.received_at,
            subject: submission.caller.subject.clone(),
            issuer: submission.caller.issuer.clone(),
            token,
            payload,
            traceparent: runtime::trace(),
            release: None,
            tries: 0,
            hold: None,
        };
        serde_json::to_string(&envelope).map_err(|_| StepError::InvalidInput { what: "the envelope" })
    }

    async fn enqueue(
        &self,
        submission: &Submission,
        submitted: SubmittedMessage,
        token: String,
        received: &Received,
    ) -> Result<(), StepError> {
        let body = self.envelope(submission, submitted, token, received).await?;
        self.sqs
            .send_message()
            .queue_url(&self.queue_url)
            // SQS delivers fairly among the groups of a standard queue: an institute's backlog is its own.
            .message_group_id(submission.source.as_str())
            .message_body(body)
            .set_message_system_attributes(runtime::aws_trace_header!(runtime::trace()))
            .send()
            .await
            .map(drop)
            .map_err(|error| StepError::from_sdk("sqs:SendMessage", &error))
    }
}

impl Submission {
    fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let caller = Caller::of(request)?;
        let source = caller.writes_for()?.clone();
        Ok(Self { submission_id: runtime::new_submission_id(), received_at: runtime::now(), caller, source })
    }

    fn requester(&self) -> Requester {
        Requester { subject: self.caller.subject.clone(), issuer: self.caller.issuer.clone() }
    }

    fn submitted(&self, message_id: &MessageId) -> SubmittedMessage {
        SubmittedMessage { submission_id: self.submission_id, message_id: message_id.clone(), source: self.source.clone() }
    }
}

/// Logs how many messages had which outcome.
fn log_counts(submitted: &Result<Submitted, Refusal>) {
    let count = |of: fn(&Result<Taken, Refusal>) -> bool| match submitted {
        Ok(Submitted::Batch(batch)) => batch.outcomes.iter().filter(|it| of(it)).count(),
        Ok(Submitted::One(taken)) => usize::from(of(&Ok(taken.clone()))),
        Err(refusal) => usize::from(of(&Err(refusal.clone()))),
    };
    for (field, count) in [
        (Field::Accepted, count(|it| it.as_ref().is_ok_and(|taken| !taken.is_duplicate))),
        (Field::Duplicates, count(|it| it.as_ref().is_ok_and(|taken| taken.is_duplicate))),
        (Field::Refused, count(Result::is_err)),
    ] {
        if count > 0 {
            log_field(field, count);
        }
    }
}
