//! `POST /er7`: takes a message in, notes it in the catalog and puts it into the queue, with the caller's token sealed.
//!
//! Nothing is decided here about what the caller may write: the authorizer says which institute the message is queued for,
//! and the caller's own AWS credentials are what stores it, or does not.

mod answer;
mod batch;
mod body;
mod format;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use catalog::{Catalog, Noted};
use domain::step::Subject;
use domain::{Envelope, Received, SubmissionId, Timestamp};
use futures_util::future::try_join;
use runtime::{Field, HttpProblem, Identity, StepError, note};
use serde_json::Value;

pub use crate::batch::BatchTimes;

use crate::answer::Answer;
use crate::batch::Batch;
use crate::body::Incoming;
use crate::format::Format;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Submit {
    /// Notes the submission.
    pub catalog: Catalog,
    /// Seals the token.
    pub kms: aws_sdk_kms::Client,
    /// With this key.
    pub token_key_arn: String,
    /// Puts large messages aside.
    pub s3: aws_sdk_s3::Client,
    /// Into this bucket.
    pub overflow_bucket: String,
    /// Sends the envelope.
    pub sqs: aws_sdk_sqs::Client,
    /// To this queue.
    pub queue_url: String,
    /// Where callers reach the API, if not at the host they name (a custom domain's path, a proxy); empty otherwise.
    pub public_url: String,
    /// Largest message, in bytes as sent (after base64).
    pub max_message_bytes: usize,
    /// How long a body of several messages may take.
    pub batch_times: BatchTimes,
}

/// A message that is in safe keeping.
#[derive(Clone, Debug)]
struct Taken {
    subject: Subject,
    /// Stored before, or a copy of another one in the same body.
    is_duplicate: bool,
    /// Its MSH is not readable.
    is_unparsable: bool,
    /// When the institute first submitted it.
    first_received_at: Timestamp,
}

/// What became of a request.
enum Submitted {
    One(Taken),
    Batch(Batch),
}

/// Who submits, and when: the same for all messages of a request.
struct Submission {
    submission_id: SubmissionId,
    received_at: Timestamp,
    caller: Identity,
    source: domain::Source,
}

impl Submit {
    /// Answers one request: what became of its message or messages, as JSON or as an HL7 acknowledgment. Nothing is queued
    /// that the answer does not say so of.
    ///
    /// # Errors
    /// Only for an event that is not API Gateway's.
    pub async fn answer(&self, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
        let mut request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
        let (format, base_url) = (Format::of(&request), self.base_url(&request));
        let submission = Submission::of(&request);
        let incoming = body::incoming(&mut request, self.max_message_bytes);
        let submitted = match (submission, &incoming) {
            (Err(problem), _) => Err(problem),
            (_, Err(problem)) => Err(problem.clone()),
            (Ok(submission), Ok(incoming)) => self.submit(submission, incoming).await,
        };
        note(
            Field::Outcome,
            match &submitted {
                Ok(Submitted::One(Taken { is_duplicate: false, .. })) => "queued",
                Ok(Submitted::One(_)) => "Duplicate",
                Ok(Submitted::Batch(_)) => "batch",
                Err(problem) => problem.title,
            },
        );
        Ok(Answer { format: &format, base_url: &base_url, incoming: incoming.as_ref().ok() }.to(&submitted))
    }

    async fn submit(&self, submission: Submission, incoming: &Incoming) -> Result<Submitted, HttpProblem> {
        note(Field::SizeBytes, incoming.bytes.len());
        let split = hl7::split(&incoming.bytes, incoming.charset_of(&incoming.bytes).unwrap_or(domain::Charset::UTF_8));
        if split.is_batch() {
            if split.messages().count() > domain::MAX_MESSAGES {
                let detail = format!("a body may hold at most {} messages: send it in parts", domain::MAX_MESSAGES);
                return Err(HttpProblem::new(413, "Content too large", detail));
            }
            return Ok(Submitted::Batch(self.batch(submission, incoming, split).await));
        }
        let (received, message) = incoming.received(&incoming.bytes)?;
        let subject = submission.subject(&message);
        Field::note_subject(&subject);

        let (noted, token) = try_join(self.note(&submission, &message), self.seal(&submission))
            .await
            .map_err(|error| HttpProblem::of_step(&error))?;
        if !noted.is_duplicate {
            self.enqueue(&submission, subject, token, &received).await.map_err(|error| HttpProblem::of_step(&error))?;
        }
        Ok(Submitted::One(noted))
    }

    /// Notes a message in the catalog.
    async fn note(&self, submission: &Submission, message: &domain::Er7) -> Result<Taken, StepError> {
        let subject = submission.subject(message);
        let Noted { is_stored, first_received_at } = self.catalog.note_submission(&subject, submission.received_at).await?;
        let is_unparsable = hl7::Delimiters::of(message).is_err();
        Ok(Taken { subject, is_duplicate: is_stored, is_unparsable, first_received_at })
    }

    async fn seal(&self, submission: &Submission) -> Result<String, StepError> {
        let Submission { submission_id, source, caller, .. } = submission;
        seal::seal(&self.kms, &self.token_key_arn, *submission_id, source, &caller.token).await
    }

    /// The queue's message for a message of the submission. Puts a large one aside.
    async fn envelope(
        &self,
        submission: &Submission,
        subject: Subject,
        token: String,
        received: &Received,
    ) -> Result<String, StepError> {
        let payload = overflow::payload(&self.s3, &self.overflow_bucket, &subject, received).await?;
        let envelope = Envelope {
            v: Envelope::VERSION,
            submission_id: subject.submission_id,
            message_id: subject.message_id,
            source: subject.source,
            received_at: submission.received_at,
            subject: submission.caller.subject.clone(),
            issuer: submission.caller.issuer.clone(),
            token,
            payload,
        };
        serde_json::to_string(&envelope).map_err(|_| StepError::InvalidInput { what: "the envelope" })
    }

    async fn enqueue(
        &self,
        submission: &Submission,
        subject: Subject,
        token: String,
        received: &Received,
    ) -> Result<(), StepError> {
        let body = self.envelope(submission, subject, token, received).await?;
        self.sqs
            .send_message()
            .queue_url(&self.queue_url)
            .message_body(body)
            .send()
            .await
            .map(drop)
            .map_err(|error| StepError::from_sdk("sqs:SendMessage", &error))
    }

    fn base_url(&self, request: &ApiGatewayV2httpRequest) -> String {
        if self.public_url.is_empty() {
            format!("https://{}", request.request_context.domain_name.as_deref().unwrap_or_default())
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }
}

impl Submission {
    fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let caller = Identity::of(request)?;
        let source = caller.writes_for()?.clone();
        Ok(Self { submission_id: SubmissionId::generate(), received_at: Timestamp::now(), caller, source })
    }

    fn subject(&self, message: &domain::Er7) -> Subject {
        Subject { submission_id: self.submission_id, message_id: message.message_id(), source: self.source.clone() }
    }
}
