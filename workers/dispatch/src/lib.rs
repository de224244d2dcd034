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

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Dispatch {
    /// Starts executions. Must not retry: an execution is not idempotent in time.
    pub sfn: aws_sdk_sfn::Client,
    /// Hides messages.
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
        let verdict = match Envelope::from_json(message.body.as_deref().unwrap_or_default()) {
            Ok(envelope) => self.execute(&envelope, receives).await,
            // No try will make an envelope of it. Offered again at once, it is soon among the dead letters.
            Err(_) => {
                note_message(&[(Field::Outcome, "not-an-envelope".to_owned()), (Field::Receives, receives.to_string())]);
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

    async fn execute(&self, envelope: &Envelope, receives: u32) -> Verdict {
        // After the last receive there is nothing to wait for: offered once more, SQS moves it to the dead letters.
        let is_last = receives >= self.max_receives;
        let (outcome, verdict) = match self.run(envelope, is_last, receives).await {
            Ok(output) if output.outcome == "in-progress" => {
                let lease_left = Duration::from_secs(output.retry_after_seconds.unwrap_or(0));
                let delay = backoff::while_in_progress(self.retry_base, receives, self.max_receives, lease_left);
                (output.outcome, Verdict::Again(delay))
            }
            Ok(output) => (output.outcome, Verdict::Done),
            Err(error) => (error, Verdict::Again(backoff::after_failure(self.retry_base, receives))),
        };
        let verdict = match verdict {
            Verdict::Again(_) if is_last => Verdict::Again(Duration::ZERO),
            other => other,
        };
        note_message(&[
            (Field::SubmissionId, envelope.submission_id.to_string()),
            (Field::MessageId, envelope.message_id.to_string()),
            (Field::Source, envelope.source.to_string()),
            (Field::Receives, receives.to_string()),
            (Field::Outcome, outcome),
        ]);
        verdict
    }

    /// Runs one execution to its end. `Err` is the name of what failed it.
    async fn run(&self, envelope: &Envelope, is_last: bool, receives: u32) -> Result<ExecutionOutput, String> {
        let mut input = serde_json::to_value(envelope).map_err(|_| "InvalidInput")?;
        if let Value::Object(input) = &mut input {
            input.insert("lastAttempt".to_owned(), is_last.into());
        }
        let execution = self
            .sfn
            .start_sync_execution()
            .state_machine_arn(&self.state_machine_arn)
            .name(format!("{}-{receives}", envelope.submission_id))
            .input(input.to_string())
            .send()
            .await
            .map_err(|error| StepError::from_sdk("states:StartSyncExecution", &error).name().to_owned())?;
        // StartSyncExecution answers 200 for an execution that failed, too.
        match execution.status {
            SyncExecutionStatus::Succeeded => {
                let output = execution.output.as_deref().unwrap_or_default();
                serde_json::from_str(output).map_err(|_| "InvalidOutput".to_owned())
            }
            SyncExecutionStatus::TimedOut => Err("TimedOut".to_owned()),
            _ => Err(execution.error.unwrap_or_else(|| "Failed".to_owned())),
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
            let error = StepError::from_sdk("sqs:ChangeMessageVisibility", &error);
            note(Field::Error, error.name());
            note(Field::Detail, error);
        }
    }
}

fn failure(id: String) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id;
    failure
}
