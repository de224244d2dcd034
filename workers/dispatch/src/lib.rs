//! Runs the state machine for each message of an SQS batch, in parallel, and tells the queue which of them are done.
//!
//! The worker judges a failed execution by its error's name ([`domain::retry`]). After an outage, or a fault of the deployment,
//! it tries again with growing delay for hours; after any other failure, it tries five times in all. Then one more execution
//! holds the message. A queue message that is no envelope goes to the dead-letter queue. One bad message never fails the others
//! in its batch: the answer names those that SQS delivers again (`ReportBatchItemFailures`).

mod executions;

use std::collections::HashMap;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use aws_sdk_sfn::types::SyncExecutionStatus;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::MessageAttributeValue;
use domain::step::ExecutionOutput;
use domain::{Envelope, Hold, TraceParent, retry};
use futures_util::future::join_all;
use runtime::{Field, StepError, log_field, log_message};
use serde_json::Value;

pub use executions::Executions;

/// The longest delay of a new message in SQS.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Dispatch {
    /// Starts executions.
    pub executions: Executions,
    /// Sets visibility timeouts, and sends messages to both queues.
    pub sqs: aws_sdk_sqs::Client,
    /// The queue that the batches come from.
    pub queue_url: String,
    /// The queue for bodies that are not envelopes.
    pub dead_letter_queue_url: String,
    /// The delay after the first failure.
    pub retry_base: Duration,
    /// How long after its arrival a message is retried if an outage or the deployment makes it fail.
    pub retry_time: Duration,
    /// The queue's `maxReceiveCount`.
    pub max_receives: u32,
}

/// The next action for a queue message.
#[derive(Debug)]
enum Next {
    /// SQS deletes it.
    Delete,
    /// It becomes visible again, after this long.
    Again(Duration),
    /// This body replaces it in the queue, after this long.
    Anew(String, Duration),
    /// It goes to the dead-letter queue, unchanged.
    DeadLetter,
}

impl Dispatch {
    /// Handles an SQS batch of at most ten messages. Takes as long as the slowest execution.
    ///
    /// # Errors
    /// If the event is not SQS's, or a queue message has no id: then the whole batch becomes visible again.
    pub async fn batch(&self, event: Value) -> Result<SqsBatchResponse, StepError> {
        let event: SqsEvent = runtime::input("an SQS event", event)?;
        log_field(Field::Outcome, "batch");
        let failures = join_all(event.records.into_iter().map(|message| self.message(message))).await;
        let failed: Result<Vec<Option<String>>, StepError> = failures.into_iter().collect();
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = failed?.into_iter().flatten().map(failure).collect();
        Ok(response)
    }

    /// Handles one queue message. Returns its id if it must become visible again.
    async fn message(&self, message: SqsMessage) -> Result<Option<String>, StepError> {
        let id = message.message_id.ok_or(StepError::InvalidInput { what: "an SQS message without an id" })?;
        let receives = message.attributes.get("ApproximateReceiveCount").and_then(|it| it.parse().ok()).unwrap_or(1);
        let body = message.body.unwrap_or_default();
        let (group, trace, next) = match Envelope::from_json(&body) {
            Ok(envelope) => (envelope.source.to_string(), envelope.traceparent, self.execute(envelope, receives).await),
            Err(_) => {
                log_message(&[(Field::Error, "NotAnEnvelope".to_owned()), (Field::Receives, receives.to_string())]);
                (String::new(), None, Next::DeadLetter)
            }
        };
        let attributes = &message.message_attributes;
        let send =
            async |body: &str, delay| self.send(&self.queue_url, body, attributes, Some(group.clone()), trace, delay).await;
        let again = match next {
            Next::Delete => return Ok(None),
            // After its last receive, SQS would move the message to the dead-letter queue. Waiting alone must not do that.
            Next::Again(delay) if receives >= self.max_receives => (!send(&body, delay).await).then_some(delay),
            Next::Again(delay) => Some(delay),
            Next::Anew(body, delay) => (!send(&body, delay).await).then_some(delay),
            Next::DeadLetter => {
                let is_sent = self.send(&self.dead_letter_queue_url, &body, attributes, None, trace, Duration::ZERO).await;
                (!is_sent).then_some(self.retry_base)
            }
        };
        let Some(delay) = again else { return Ok(None) };
        self.hide(message.receipt_handle, delay).await;
        Ok(Some(id))
    }

    async fn execute(&self, envelope: Envelope, receives: u32) -> Next {
        let mut facts = vec![
            (Field::SubmissionId, envelope.submission_id.to_string()),
            (Field::MessageId, envelope.message_id.to_string()),
            (Field::Source, envelope.source.to_string()),
            (Field::Receives, receives.to_string()),
            (Field::Tries, (envelope.tries + 1).to_string()),
        ];
        facts.extend(envelope.traceparent.map(|trace| (Field::TraceId, trace.trace_id().to_string())));
        let next = match self.run(&envelope, receives).await {
            Ok(output) => {
                let next = match output.outcome.as_str() {
                    "in-progress" => Next::Again(self.wait(output.retry_after_seconds, receives)),
                    // The message is neither stored nor held.
                    "failed" => Next::DeadLetter,
                    _ => Next::Delete,
                };
                facts.push((Field::Outcome, output.outcome));
                next
            }
            Err(failure) => {
                let next = self.after(&failure.name, envelope, receives);
                facts.extend([(Field::Outcome, "error".to_owned()), (Field::Error, failure.name)]);
                facts.extend(failure.detail.map(|detail| (Field::Detail, detail)));
                next
            }
        };
        log_message(&facts);
        next
    }

    /// How long a message waits for another submission of the same message.
    fn wait(&self, lease_left_seconds: Option<u64>, receives: u32) -> Duration {
        let delay = retry::delay(self.retry_base, receives);
        lease_left_seconds.map_or(delay, |seconds| delay.min(Duration::from_secs(seconds)))
    }

    /// The next action for a message whose execution failed.
    fn after(&self, error: &str, envelope: Envelope, receives: u32) -> Next {
        let later = retry::jittered(self.retry_base, receives, runtime::random());
        // Holding the message is the only thing left to do, so it is retried until it succeeds.
        if envelope.hold.is_some() {
            return Next::Again(later);
        }
        let failure = retry::Failure::of(error);
        if failure == retry::Failure::Deployment {
            // In the line itself, since a metric filter does not look into its list of messages.
            log_field(Field::Failure, "deployment");
        }
        match failure {
            retry::Failure::Outage | retry::Failure::Deployment => {
                // A message that waited in the queue for hours gets its tries too.
                let is_over = runtime::now() > envelope.received_at.plus(self.retry_time) && receives >= retry::MAX_TRIES;
                if is_over { hold(envelope, error) } else { Next::Again(later) }
            }
            retry::Failure::Other => {
                let tries = envelope.tries + 1;
                if tries >= retry::MAX_TRIES {
                    return hold(envelope, error);
                }
                anew(&Envelope { tries, ..envelope }, retry::delay(self.retry_base, tries))
            }
        }
    }

    /// Sends a message to a queue, with the attributes of the one that it replaces. Says whether that succeeded.
    async fn send(
        &self,
        queue_url: &str,
        body: &str,
        attributes: &HashMap<String, SqsMessageAttribute>,
        group: Option<String>,
        trace: Option<TraceParent>,
        delay: Duration,
    ) -> bool {
        let attributes = attributes.iter().filter_map(|(name, it)| Some((name.clone(), attribute(it)?))).collect();
        let sent = self
            .sqs
            .send_message()
            .queue_url(queue_url)
            .message_body(body)
            .set_message_attributes(Some(attributes))
            .set_message_group_id(group)
            .set_message_system_attributes(runtime::aws_trace_header!(trace))
            .delay_seconds(i32::try_from(delay.min(MAX_DELAY).as_secs()).unwrap_or(i32::MAX))
            .send()
            .await;
        if let Err(error) = &sent {
            log_failure(&StepError::from_sdk("sqs:SendMessage", error));
        }
        sent.is_ok()
    }

    /// Runs one execution to its end.
    async fn run(&self, envelope: &Envelope, receives: u32) -> Result<ExecutionOutput, Failure> {
        let input = serde_json::to_string(envelope).map_err(|_| Failure::named("InvalidInput"))?;
        // The name includes the message id, because a submission may bring many messages. At most 80 characters.
        let name = format!("{}-{}-{}-{receives}", envelope.submission_id, envelope.message_id.prefix(12), envelope.tries);
        let execution = self.executions.start(&name, input, envelope.traceparent).await?;
        // StartSyncExecution also answers 200 for a failed execution.
        match execution.status {
            SyncExecutionStatus::Succeeded => {
                let output = execution.output.as_deref().unwrap_or_default();
                serde_json::from_str(output).map_err(|_| Failure::named("InvalidOutput"))
            }
            SyncExecutionStatus::TimedOut => Err(Failure::named("TimedOut")),
            _ => Err(Failure::named(execution.error.as_deref().unwrap_or("Failed"))),
        }
    }

    /// Sets the message's visibility timeout. If that fails, the queue's own visibility timeout applies.
    async fn hide(&self, receipt_handle: Option<String>, delay: Duration) {
        let hidden = self
            .sqs
            .change_message_visibility()
            .queue_url(&self.queue_url)
            .set_receipt_handle(receipt_handle)
            .visibility_timeout(i32::try_from(delay.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await;
        if let Err(error) = hidden {
            log_failure(&StepError::from_sdk("sqs:ChangeMessageVisibility", &error));
        }
    }
}

/// The tries are over. The next execution, at once, holds the message.
fn hold(envelope: Envelope, error: &str) -> Next {
    let hold: Hold = retry::Failure::hold(error);
    anew(&Envelope { hold: Some(hold), ..envelope }, Duration::ZERO)
}

/// A new queue message for the present envelope.
fn anew(envelope: &Envelope, delay: Duration) -> Next {
    serde_json::to_string(envelope).map_or(Next::Again(delay), |body| Next::Anew(body, delay))
}

/// An attribute in the form in which SQS accepts it. `None` for a kind that SQS does not have yet.
fn attribute(it: &SqsMessageAttribute) -> Option<MessageAttributeValue> {
    let builder = MessageAttributeValue::builder().data_type(it.data_type.clone()?);
    let builder = builder.set_string_value(it.string_value.clone());
    builder.set_binary_value(it.binary_value.as_ref().map(|it| Blob::new(it.0.clone()))).build().ok()
}

/// The reason why an execution has no outcome.
#[derive(Debug)]
struct Failure {
    name: String,
    detail: Option<String>,
}

impl Failure {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), detail: None }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self { name: error.name().to_owned(), detail: Some(error.to_string()) }
    }
}

fn log_failure(error: &StepError) {
    log_field(Field::Error, error.name());
    log_field(Field::Detail, error);
}

fn failure(id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id;
    failure
}
