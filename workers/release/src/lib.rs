//! `POST /er7/{messageId}/release` and `POST /er7/release`: queues held messages of the caller's institute again, under the caller's own
//! token.
//!
//! A released message goes through the pipeline like any other, and the releaser's credentials decide whether it is stored. The
//! worker reads the held copies under its own role; the institute that the authorizer verified decides which of them.

mod request;

use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_sdk_s3::error::ProvideErrorMetadata;
use catalog::Catalog;
use domain::catalog::Problem;
use domain::claim::Released;
use domain::held::HeldPosition;
use domain::{
    Envelope, HeldCopy, HeldFacts, MessageId, Received, Release, Requester, Source, SubmissionId, SubmittedMessage, Timestamp,
};
use futures_util::{StreamExt as _, stream};
use runtime::{
    Caller, Field, HttpProblem, StepError, json_response, log_field, log_message, log_submitted, message_id, problem_response,
};
use seal::Sealer;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::request::Batch;

/// How many messages are released at once.
const CONCURRENCY: usize = 8;

/// How many MiB of held copies are in memory at once, each twice. A copy that is larger, such as one of 64 MiB, is there alone.
const MOST_MIB: u32 = 64;
static ROOM: Semaphore = Semaphore::const_new(MOST_MIB as usize);

/// After this time no further message of a batch is started: API Gateway waits for 30 seconds.
const MAX_TIME: Duration = Duration::from_secs(18);

/// The most queries for held messages. Each may find none, if many messages are on their way already.
const MAX_QUERIES: usize = 10;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Releaser {
    /// Own role: `UpdateItem`, and `Query` of the index of held messages.
    pub catalog: Catalog,
    /// Own role: reads the held bucket, writes the overflow bucket.
    pub s3: aws_sdk_s3::Client,
    /// The bucket of held messages.
    pub held_bucket: String,
    /// The bucket of messages too large for the envelope.
    pub overflow_bucket: String,
    /// Seals tokens.
    pub sealer: Sealer,
    /// Sends to the queue.
    pub sqs: aws_sdk_sqs::Client,
    /// The queue of the pipeline.
    pub queue_url: String,
    /// The base address of the API, if it differs from the host of the request; empty otherwise.
    pub public_url: String,
}

/// The facts of a release, the same for all messages of a request.
struct Releasing {
    submission_id: SubmissionId,
    now: Timestamp,
    source: Source,
    releaser: Requester,
    /// The caller's token, sealed for this submission.
    token: String,
}

impl Releaser {
    /// Answers one request: 202, or a problem document.
    ///
    /// # Errors
    /// Only for an event that is not API Gateway's.
    pub async fn answer(&self, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
        let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
        let answer = match request.path_parameters.contains_key("messageId") {
            true => self.release_one(&request).await,
            false => self.release_batch(&request).await,
        };
        Ok(match answer {
            Ok((outcome, body)) => {
                log_field(Field::Outcome, outcome);
                json_response(202, &body)
            }
            Err(problem) => {
                log_field(Field::Outcome, problem.title);
                problem_response(&problem)
            }
        })
    }

    async fn release_one(&self, request: &ApiGatewayV2httpRequest) -> Result<(&'static str, Value), HttpProblem> {
        let caller = Caller::of(request)?;
        caller.writes_for()?;
        let message_id = message_id(request)?;
        let releasing = self.releasing(&caller).await?;
        log_submitted(&releasing.submitted(&message_id));
        self.release(&releasing, &message_id).await?;
        let body = json!({
            "messageId": message_id,
            "submissionId": releasing.submission_id,
            "status": "queued",
            "statusUrl": format!("{}/er7/{message_id}/status", runtime::base_url(request, &self.public_url)),
        });
        Ok(("queued", body))
    }

    /// Releases a page of the held messages. Messages for which there was no time stay for the next page.
    async fn release_batch(&self, request: &ApiGatewayV2httpRequest) -> Result<(&'static str, Value), HttpProblem> {
        let began = Instant::now();
        let caller = Caller::of(request)?;
        caller.writes_for()?;
        let batch = Batch::of(request)?;
        let releasing = self.releasing(&caller).await?;
        log_field(Field::SubmissionId, releasing.submission_id);
        let (found, reached) = self.find(&releasing, &batch).await.map_err(|error| HttpProblem::of_step(&error))?;

        let one = async |position: &HeldPosition| {
            let in_time = began.elapsed() < MAX_TIME;
            if in_time { Some(self.release(&releasing, &position.message_id).await) } else { None }
        };
        let outcomes: Vec<_> = stream::iter(found.iter().map(one)).buffered(CONCURRENCY).collect().await;
        let (mut released, mut refused, mut last, mut all) = (Vec::new(), Vec::new(), batch.after, true);
        for (position, outcome) in found.iter().zip(outcomes) {
            let message_id = &position.message_id;
            match outcome {
                None => {
                    all = false;
                    break;
                }
                Some(Ok(())) => released.push(json!({ "messageId": message_id, "submissionId": releasing.submission_id })),
                // Another request has just released it.
                Some(Err(problem)) if problem.status == 409 => {}
                Some(Err(problem)) => {
                    log_message(&[
                        (Field::MessageId, message_id.to_string()),
                        (Field::Outcome, problem.title.to_owned()),
                        (Field::HttpStatus, problem.status.to_string()),
                    ]);
                    refused.push(json!({ "messageId": message_id, "problem": problem.document() }));
                }
            }
            last = Some(position.clone());
        }
        log_field(Field::Messages, released.len());
        let cursor = if all { reached } else { last };
        let mut body = json!({ "released": released, "refused": refused });
        if let (Some(cursor), Some(body)) = (cursor, body.as_object_mut()) {
            body.insert("cursor".to_owned(), request::cursor(&cursor).into());
        }
        Ok(("batch", body))
    }

    /// The held messages of a page, and the position after which the next one begins; `None` after the last page.
    async fn find(&self, releasing: &Releasing, batch: &Batch) -> Result<(Vec<HeldPosition>, Option<HeldPosition>), StepError> {
        let (mut found, mut position) = (Vec::new(), batch.after.clone());
        for _ in 0..MAX_QUERIES {
            let examined = batch.limit - found.len();
            let (more, reached) =
                self.catalog.held(&releasing.source, &batch.query, position.as_ref(), examined, releasing.now).await?;
            found.extend(more);
            position = reached;
            if position.is_none() || found.len() >= batch.limit {
                break;
            }
        }
        Ok((found, position))
    }

    async fn releasing(&self, caller: &Caller) -> Result<Releasing, HttpProblem> {
        let source = caller.writes_for()?.clone();
        log_field(Field::Source, &source);
        let submission_id = runtime::new_submission_id();
        let token = self.sealer.seal(submission_id, &source, &caller.token).await;
        let token = token.map_err(|error| HttpProblem::of_step(&error))?;
        let releaser = Requester { subject: caller.subject.clone(), issuer: caller.issuer.clone() };
        Ok(Releasing { submission_id, now: runtime::now(), source, releaser, token })
    }

    /// Releases one message. The record says `queued` first, so that only one of several callers queues the message. If it cannot
    /// be queued, the record says `held` again; if this process dies in between, the message can be released again after a while.
    async fn release(&self, releasing: &Releasing, message_id: &MessageId) -> Result<(), HttpProblem> {
        let submitted = releasing.submitted(message_id);
        let held = match self.catalog.release(&submitted, &releasing.releaser, releasing.now).await {
            Ok(Released::Queued(held)) => held,
            Err(error) => {
                // Unlike a refusal, this may be a recorded release whose answer was lost.
                if matches!(error, StepError::Unavailable { .. }) {
                    self.take_back(&submitted, None).await;
                }
                return Err(HttpProblem::of_step(&error));
            }
            Ok(Released::NotHeld(status)) => {
                let detail = "the message is not held, or has just been released";
                let members = vec![("messageId", json!(message_id)), ("messageStatus", json!(status))];
                return Err(HttpProblem { members, ..HttpProblem::new(409, "Not held", detail) });
            }
            Ok(Released::Unknown) => {
                return Err(HttpProblem::new(404, "Not found", "the institute has submitted no message with this id"));
            }
        };
        let Err(failure) = self.queue(releasing, &submitted, &held).await else { return Ok(()) };
        let (problem, fault) = failure.told();
        self.take_back(&submitted, fault).await;
        Err(problem)
    }

    /// Takes a release back. If not even that can be recorded, the release counts as lost after a while.
    async fn take_back(&self, submitted: &SubmittedMessage, fault: Option<Problem>) {
        if let Err(error) = self.catalog.take_release_back(submitted, fault).await {
            log_field(Field::Detail, &error);
        }
    }

    async fn queue(&self, releasing: &Releasing, submitted: &SubmittedMessage, held: &HeldFacts) -> Result<(), Failure> {
        let (copy, received, _room) = self.copy(submitted, held).await?;
        let payload = overflow::payload(&self.s3, &self.overflow_bucket, submitted, &received).await?;
        let envelope = Envelope {
            v: Envelope::VERSION,
            submission_id: submitted.submission_id,
            message_id: submitted.message_id.clone(),
            source: submitted.source.clone(),
            received_at: releasing.now,
            subject: releasing.releaser.subject.clone(),
            issuer: releasing.releaser.issuer.clone(),
            token: releasing.token.clone(),
            payload,
            // The trace of the submission continues. A copy of an earlier build has none.
            traceparent: copy.traceparent.or_else(runtime::trace),
            release: Some(Release {
                submission_id: copy.submission_id,
                received_at: copy.received_at,
                submitter: copy.submitter,
                reason: copy.reason,
            }),
            tries: 0,
            hold: None,
        };
        let body = serde_json::to_string(&envelope).map_err(|_| StepError::InvalidInput { what: "the envelope" })?;
        let send = self.sqs.send_message().queue_url(&self.queue_url).message_group_id(submitted.source.as_str());
        let send = send.set_message_system_attributes(runtime::aws_trace_header!(envelope.traceparent));
        send.message_body(body).send().await.map_err(|error| StepError::from_sdk("sqs:SendMessage", &error))?;
        let mut facts = vec![(Field::MessageId, submitted.message_id.to_string()), (Field::Outcome, "released".to_owned())];
        facts.extend(envelope.traceparent.map(|trace| (Field::TraceId, trace.trace_id().to_string())));
        log_message(&facts);
        Ok(())
    }

    /// The held copy without its payload, the bytes that the payload held, if they are the message, and their room in memory.
    async fn copy(
        &self,
        submitted: &SubmittedMessage,
        held: &HeldFacts,
    ) -> Result<(HeldCopy, Received, SemaphorePermit<'static>), Failure> {
        const OPERATION: &str = "s3:GetObject";
        let get = self.s3.get_object().bucket(&self.held_bucket).key(&held.held_key);
        let object = get.set_version_id(held.held_version_id.clone()).send().await.map_err(|error| match error.code() {
            Some("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed") => Failure::Gone,
            _ => StepError::from_sdk(OPERATION, &error).into(),
        })?;
        let mib = object.content_length.and_then(|it| u32::try_from(it >> 20).ok()).unwrap_or(MOST_MIB);
        let unavailable = || StepError::Unavailable { operation: OPERATION };
        let room = ROOM.acquire_many(mib.clamp(1, MOST_MIB)).await.map_err(|_| unavailable())?;
        let body = object.body.collect().await.map_err(|_| unavailable())?;
        let mut copy: HeldCopy = serde_json::from_slice(&body.into_bytes()).map_err(|_| Failure::Damaged)?;
        let fits = copy.v == HeldCopy::VERSION && copy.source == submitted.source && copy.message_id == submitted.message_id;
        let received = copy.received().filter(|_| fits).ok_or(Failure::Damaged)?;
        copy.payload = String::new();
        overflow::message(&received, &submitted.message_id).map_err(|_| Failure::Damaged)?;
        Ok((copy, received, room))
    }
}

impl Releasing {
    fn submitted(&self, message_id: &MessageId) -> SubmittedMessage {
        SubmittedMessage { submission_id: self.submission_id, message_id: message_id.clone(), source: self.source.clone() }
    }
}

/// Why a message could not be queued.
enum Failure {
    /// The held copy no longer exists.
    Gone,
    /// The held copy is not the message.
    Damaged,
    /// A call failed.
    Step(StepError),
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

impl Failure {
    /// The answer to the caller, and the entry in the record.
    fn told(&self) -> (HttpProblem, Option<Problem>) {
        let (problem, code) = match self {
            Self::Step(error) => return (HttpProblem::of_step(error), None),
            Self::Gone => (HttpProblem::new(410, "Held copy gone", "the held copy is not there any more"), "HeldCopyGone"),
            Self::Damaged => {
                let detail = "the held copy does not match the message id, and was not queued";
                (HttpProblem::new(500, "Held copy damaged", detail), "HeldCopyDamaged")
            }
        };
        log_field(Field::Error, code);
        (problem, Some(Problem::new(code)))
    }
}
