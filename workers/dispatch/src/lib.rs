//! Runs the state machine for each message of a batch, side by side, and tells the queue which of them are done.
//!
//! A message whose execution fails stays in the queue: it is hidden for a delay that grows with every receive, and after
//! the queue's last receive SQS moves it to the dead-letter queue, whole. One bad message never fails its neighbours:
//! the answer names the failed ones (`ReportBatchItemFailures`).

use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sfn::types::SyncExecutionStatus;
use domain::step::ExecutionOutput;
use domain::{Envelope, backoff};
use futures_util::future::join_all;
use runtime::{Field, StepError, note, note_message};
use serde_json::Value;

/// The longest that SQS delays a new message.
const MAX_DELAY_SECONDS: i32 = 15 * 60;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Dispatch {
    /// Starts executions. Must not retry: an execution is not idempotent in time.
    pub sfn: aws_sdk_sfn::Client,
    /// Hides messages, and queues those anew that only wait.
    pub sqs: aws_sdk_sqs::Client,
    /// The EXPRESS state machine.
    pub state_machine_arn: String,
    /// The queue that the batches come from.
    pub queue_url: String,
    /// The delay after the first failure.
    pub retry_base: Duration,
    /// The queue's `maxReceiveCount`.
    pub max_receives: u32,
}

/// What became of one message.
#[derive(Debug)]
enum Verdict {
    /// Done: SQS deletes it.
    Done,
    /// To be offered again, after this long.
    Again(Duration),
}

impl Dispatch {
    /// Handles a batch of at most ten messages; takes as long as the slowest execution.
    ///
    /// # Errors
    /// If the event is not SQS's, or a message has no id to be named by: then the whole batch comes back.
    pub async fn batch(&self, event: Value) -> Result<SqsBatchResponse, StepError> {
        let event: SqsEvent = runtime::input("an SQS event", event)?;
        note(Field::Outcome, "batch");
        let failures = join_all(event.records.into_iter().map(|message| self.message(message))).await;
        let failed: Result<Vec<Option<String>>, StepError> = failures.into_iter().collect();
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = failed?.into_iter().flatten().map(failure).collect();
        Ok(response)
    }

    /// Gives the message's id if it is not done.
    async fn message(&self, message: SqsMessage) -> Result<Option<String>, StepError> {
        let id = message.message_id.ok_or(StepError::InvalidInput { what: "an SQS message without an id" })?;
        let receives = message.attributes.get("ApproximateReceiveCount").and_then(|it| it.parse().ok()).unwrap_or(1);
        let body = message.body.unwrap_or_default();
        let verdict = match Envelope::from_json(&body) {
            Ok(envelope) => self.execute(&body, &envelope, receives).await,
            // No try will make an envelope of it. Offered again at once, it is soon among the dead letters.
            Err(_) => {
                note_message(&[(Field::Error, "NotAnEnvelope".to_owned()), (Field::Receives, receives.to_string())]);
                Verdict::Again(Duration::ZERO)
            }
        };
        match verdict {
            Verdict::Done => Ok(None),
            Verdict::Again(delay) => {
                self.hide(message.receipt_handle, delay).await;
                Ok(Some(id))
            }
        }
    }

    async fn execute(&self, body: &str, envelope: &Envelope, receives: u32) -> Verdict {
        let is_last = receives >= self.max_receives;
        let delay = backoff::after_failure(self.retry_base, receives);
        let mut facts = vec![
            (Field::SubmissionId, envelope.submission_id.to_string()),
            (Field::MessageId, envelope.message_id.to_string()),
            (Field::Source, envelope.source.to_string()),
            (Field::Receives, receives.to_string()),
        ];
        let verdict = match self.run(envelope, is_last, receives).await {
            Ok(output) => {
                let waits = output.outcome == "in-progress";
                facts.push((Field::Outcome, output.outcome));
                match waits {
                    true if is_last => self.start_over(body, output.retry_after_seconds).await,
                    true => Verdict::Again(delay),
                    false => Verdict::Done,
                }
            }
            Err(failure) => {
                facts.extend([(Field::Outcome, "error".to_owned()), (Field::Error, failure.name)]);
                facts.extend(failure.detail.map(|detail| (Field::Detail, detail)));
                // After the last receive there is nothing to wait for: offered once more, SQS moves it to the dead letters.
                Verdict::Again(if is_last { Duration::ZERO } else { delay })
            }
        };
        note_message(&facts);
        verdict
    }

    /// Queues a message anew, with its receives not counted: it has not failed, it waits for another submission of the same
    /// message, and waiting must not make a dead letter.
    async fn start_over(&self, body: &str, lease_left_seconds: Option<u64>) -> Verdict {
        let delay = lease_left_seconds.and_then(|it| i32::try_from(it).ok()).unwrap_or(MAX_DELAY_SECONDS).min(MAX_DELAY_SECONDS);
        match self.sqs.send_message().queue_url(&self.queue_url).message_body(body).delay_seconds(delay).send().await {
            Ok(_) => Verdict::Done,
            Err(error) => {
                note_failure(&StepError::from_sdk("sqs:SendMessage", &error));
                Verdict::Again(Duration::ZERO)
            }
        }
    }

    /// Runs one execution to its end.
    async fn run(&self, envelope: &Envelope, is_last: bool, receives: u32) -> Result<ExecutionOutput, Failure> {
        let mut input = serde_json::to_value(envelope).map_err(|_| Failure::named("InvalidInput"))?;
        if let Value::Object(input) = &mut input {
            input.insert("lastAttempt".to_owned(), is_last.into());
        }
        let execution = self
            .sfn
            .start_sync_execution()
            .state_machine_arn(&self.state_machine_arn)
            // A submission may have brought many messages. At most 80 characters.
            .name(format!("{}-{}-{receives}", envelope.submission_id, envelope.message_id.prefix(12)))
            .input(input.to_string())
            .send()
            .await
            .map_err(|error| Failure::from(StepError::from_sdk("states:StartSyncExecution", &error)))?;
        // StartSyncExecution answers 200 for an execution that failed, too.
        match execution.status {
            SyncExecutionStatus::Succeeded => {
                let output = execution.output.as_deref().unwrap_or_default();
                serde_json::from_str(output).map_err(|_| Failure::named("InvalidOutput"))
            }
            SyncExecutionStatus::TimedOut => Err(Failure::named("TimedOut")),
            _ => Err(Failure::named(execution.error.as_deref().unwrap_or("Failed"))),
        }
    }

    /// Keeps the message away for a while. If that fails it comes back after the queue's visibility timeout.
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
            note_failure(&StepError::from_sdk("sqs:ChangeMessageVisibility", &error));
        }
    }
}

/// Why an execution did not come to an outcome.
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

fn note_failure(error: &StepError) {
    note(Field::Error, error.name());
    note(Field::Detail, error);
}

fn failure(id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id;
    failure
}
