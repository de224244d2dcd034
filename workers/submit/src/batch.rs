//! Takes or refuses each message of a body with several, one by one. `hl7::Body` says where each begins and ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::{MessageId, Received, SubmissionId, Timestamp};
use futures_util::{StreamExt as _, stream};
use hl7::{BatchProblem, Body};
use runtime::{Field, HttpProblem, StepError, log_field, log_message};
use tokio::time::{Instant, timeout_at};

use crate::refusal::Refusal;
use crate::{Submission, Submit, Taken};

/// How many calls are under way at once. DynamoDB takes a thousand writes a second of one partition, and an institute is one.
const CONCURRENCY: usize = 16;

/// SQS's own limits of SendMessageBatch; of its 1 MiB some is left for what SQS adds.
const MAX_ENTRIES: usize = 10;
const MAX_REQUEST_BYTES: usize = 1_000_000;

/// Deadlines for a batch, from its beginning on. Messages that are not finished in time get 503, and their sender sends them again;
/// messages that are recorded in time are queued, so that each try gets further.
#[derive(Clone, Copy, Debug)]
pub struct BatchTimes {
    /// After this time no message is begun.
    pub begin: Duration,
    /// After this time no message is recorded in the catalog.
    pub record: Duration,
    /// After this time no message is queued.
    pub queue: Duration,
}

impl Default for BatchTimes {
    /// API Gateway waits for 30 seconds.
    fn default() -> Self {
        Self { begin: Duration::from_secs(15), record: Duration::from_secs(18), queue: Duration::from_secs(25) }
    }
}

/// The most refused messages of a batch that the log names.
const MAX_NOTED: usize = 100;

/// The outcomes of a body of several messages.
pub(crate) struct Batch {
    pub submission_id: SubmissionId,
    pub received_at: Timestamp,
    /// One for each message, in their order.
    pub outcomes: Vec<Result<Taken, Refusal>>,
    /// The problems of the batch itself.
    pub problems: Vec<BatchProblem>,
}

/// The content of a place in a batch.
enum Content {
    /// Recorded in the catalog and not queued yet.
    Recorded { taken: Taken, received: Received },
    /// A copy of the message in that place.
    CopyOf(usize),
}

impl Submit {
    /// Takes each message that can be taken.
    pub(crate) async fn batch(&self, submission: Submission, body: &Body) -> Batch {
        let (submission_id, received_at) = (submission.submission_id, submission.received_at);
        log_field(Field::SubmissionId, submission_id);
        let outcomes = if body.count() > 0 { self.outcomes(&submission, body).await } else { Vec::new() };
        for problem in outcomes.iter().filter_map(|it| it.as_ref().err()).take(MAX_NOTED).map(Refusal::problem) {
            log_message(&[(Field::Outcome, problem.title.to_owned()), (Field::HttpStatus, problem.status.to_string())]);
        }
        log_field(Field::Messages, outcomes.len());
        Batch { submission_id, received_at, outcomes, problems: body.problems() }
    }

    async fn outcomes(&self, submission: &Submission, body: &Body) -> Vec<Result<Taken, Refusal>> {
        let begun = Instant::now();
        // One token, sealed once: its seal is bound to the submission, which all messages share.
        let token = match self.seal(submission).await {
            Ok(token) => token,
            Err(error) => {
                let refusal = Refusal::from(error);
                return body.messages().map(|_| Err(refusal.clone())).collect();
            }
        };
        let first_of: RefCell<HashMap<MessageId, usize>> = RefCell::default();
        let recording = body.messages().enumerate().map(async |(n, piece)| {
            let message = piece.read()?;
            // Of equal messages the first is taken, and the others get its outcome.
            let first = *first_of.borrow_mut().entry(message.id.clone()).or_insert(n);
            if first != n {
                return Ok(Content::CopyOf(first));
            }
            if begun.elapsed() > self.batch_times.begin {
                return Err(not_done().into());
            }
            let taken =
                timeout_at(begun + self.batch_times.record, self.record(submission, &message)).await.map_err(|_| not_done())?;
            Ok(Content::Recorded { taken: taken?, received: piece.received()? })
        });
        let contents: Vec<Result<Content, Refusal>> = stream::iter(recording).buffered(CONCURRENCY).collect().await;
        let mut failures = self.enqueue_all(submission, &token, &contents, begun + self.batch_times.queue).await;

        let mut copies: Vec<(usize, usize)> = Vec::new();
        let mut outcomes: Vec<Result<Taken, Refusal>> = Vec::with_capacity(contents.len());
        for (n, content) in contents.into_iter().enumerate() {
            outcomes.push(match (content, failures.remove(&n)) {
                (_, Some(problem)) => Err(problem.into()),
                (Err(refusal), None) => Err(refusal),
                (Ok(Content::Recorded { taken, .. }), None) => Ok(taken),
                (Ok(Content::CopyOf(first)), None) => {
                    copies.push((n, first));
                    Err(not_done().into())
                }
            });
        }
        for (copy, first) in copies {
            let outcome = outcomes.get(first).cloned().map(|it| it.map(|taken| Taken { is_duplicate: true, ..taken }));
            if let (Some(place), Some(outcome)) = (outcomes.get_mut(copy), outcome) {
                *place = outcome;
            }
        }
        outcomes
    }

    /// Queues the recorded messages that are not stored yet, in as few requests as SQS allows. Returns those that were not queued.
    async fn enqueue_all(
        &self,
        submission: &Submission,
        token: &str,
        contents: &[Result<Content, Refusal>],
        deadline: Instant,
    ) -> HashMap<usize, HttpProblem> {
        let new = contents.iter().enumerate().filter_map(|(n, content)| match content {
            Ok(Content::Recorded { taken, received }) if !taken.is_duplicate => Some((n, taken, received)),
            _ => None,
        });
        let enveloping = new.map(async |(n, taken, received)| {
            let envelope = self.envelope(submission, taken.submitted.clone(), token.to_owned(), received);
            let envelope = timeout_at(deadline, envelope).await.map_err(|_| not_done());
            (n, envelope.and_then(|it| it.map_err(|error| HttpProblem::of_step(&error))))
        });
        let envelopes: Vec<(usize, Result<String, HttpProblem>)> = stream::iter(enveloping).buffered(CONCURRENCY).collect().await;

        let mut failures: HashMap<usize, HttpProblem> = HashMap::new();
        let mut requests: Vec<Vec<(usize, String)>> = Vec::new();
        let mut request_bytes = 0;
        for (n, envelope) in envelopes {
            let envelope = match envelope {
                Ok(envelope) => envelope,
                Err(problem) => {
                    failures.insert(n, problem);
                    continue;
                }
            };
            request_bytes += envelope.len();
            match requests.last_mut() {
                Some(last) if last.len() < MAX_ENTRIES && request_bytes <= MAX_REQUEST_BYTES => last.push((n, envelope)),
                _ => {
                    request_bytes = envelope.len();
                    requests.push(vec![(n, envelope)]);
                }
            }
        }
        let sending = requests.into_iter().map(async |request| {
            let numbers: Vec<usize> = request.iter().map(|(n, _)| *n).collect();
            let failed = match Instant::now() < deadline {
                true => timeout_at(deadline, self.send(submission, request)).await.ok(),
                false => None,
            };
            failed.unwrap_or_else(|| numbers.into_iter().map(|n| (n, not_done())).collect())
        });
        let failed: Vec<Vec<(usize, HttpProblem)>> = stream::iter(sending).buffered(CONCURRENCY).collect().await;
        failures.extend(failed.into_iter().flatten());
        failures
    }

    /// Returns the messages that were not queued.
    async fn send(&self, submission: &Submission, request: Vec<(usize, String)>) -> Vec<(usize, HttpProblem)> {
        let numbers: Vec<usize> = request.iter().map(|(n, _)| *n).collect();
        let entries: Result<Vec<_>, _> = request
            .into_iter()
            .map(|(n, body)| {
                let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
                let entry = entry.set_message_system_attributes(runtime::aws_trace_header!(runtime::trace()));
                entry.message_group_id(submission.source.as_str()).build()
            })
            .collect();
        let Ok(entries) = entries else { return numbers.into_iter().map(|n| (n, not_done())).collect() };
        match self.sqs.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries)).send().await {
            Ok(output) => {
                // A message that SQS names neither as sent nor as failed was not sent.
                let sent: Vec<&str> = output.successful().iter().map(|it| it.id()).collect();
                numbers.into_iter().filter(|n| !sent.contains(&n.to_string().as_str())).map(|n| (n, not_done())).collect()
            }
            Err(error) => {
                let problem = HttpProblem::of_step(&StepError::from_sdk("sqs:SendMessageBatch", &error));
                numbers.into_iter().map(|n| (n, problem.clone())).collect()
            }
        }
    }
}

/// The sender sends the body again, and Sluice knows by its content a message that it has already.
fn not_done() -> HttpProblem {
    HttpProblem { retry_after_seconds: Some(5), ..HttpProblem::new(503, "Service unavailable", "not done; try again later") }
}
