//! Several messages in one body: each is taken or refused by itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::{MessageId, Received, SubmissionId, Timestamp};
use futures_util::{StreamExt as _, stream};
use hl7::{BatchProblem, Split};
use runtime::{Field, HttpProblem, StepError, note, note_message};

use tokio::time::{Instant, timeout_at};

use crate::body::Incoming;
use crate::{Submission, Submit, Taken};

/// How many calls are under way at once. DynamoDB takes a thousand writes a second of one partition, and an institute is one.
const CONCURRENCY: usize = 16;

/// SQS's own limits of SendMessageBatch; of its 1 MiB some is left for what SQS adds.
const MAX_ENTRIES: usize = 10;
const MAX_REQUEST_BYTES: usize = 1_000_000;

/// By when things are done to a batch, from its beginning on. What is not is answered with 503, so that the sender sends it again; what
/// is noted by then is queued, so that each try gets further.
#[derive(Clone, Copy, Debug)]
pub struct BatchTimes {
    /// No message is begun any more.
    pub begin: Duration,
    /// None is noted any more.
    pub note: Duration,
    /// None is queued any more.
    pub queue: Duration,
}

impl Default for BatchTimes {
    /// API Gateway waits for 30 seconds.
    fn default() -> Self {
        Self { begin: Duration::from_secs(15), note: Duration::from_secs(18), queue: Duration::from_secs(25) }
    }
}

/// The most messages of a batch that the log names, of those that were refused.
const MAX_NOTED: usize = 100;

/// What became of a body of several messages.
pub(crate) struct Batch {
    pub submission_id: SubmissionId,
    pub received_at: Timestamp,
    pub split: Split,
    /// In the order in which they stand.
    pub messages: Vec<Message>,
    /// What is wrong with the batch itself.
    pub problems: Vec<BatchProblem>,
}

/// One message of a batch.
pub(crate) struct Message {
    /// Where it stands in the body.
    pub range: Range<usize>,
    pub outcome: Result<Taken, HttpProblem>,
}

/// What stands in a place of a batch.
enum Content {
    /// Noted and not queued yet.
    Noted { taken: Taken, received: Received },
    /// Of the message in that place.
    CopyOf(usize),
}

impl Submit {
    /// Takes each message that can be taken.
    pub(crate) async fn batch(&self, submission: Submission, incoming: &Incoming, split: Split) -> Batch {
        let (submission_id, received_at) = (submission.submission_id, submission.received_at);
        note(Field::SubmissionId, submission_id);
        let charset = incoming.charset_of(&incoming.bytes).unwrap_or(domain::Charset::UTF_8);
        let problems = split.problems(&incoming.bytes, charset);
        let ranges: Vec<_> = split.messages().collect();
        let outcomes = self.outcomes(&submission, incoming, &ranges).await;
        for problem in outcomes.iter().filter_map(|it| it.as_ref().err()).take(MAX_NOTED) {
            note_message(&[(Field::Outcome, problem.title.to_owned()), (Field::HttpStatus, problem.status.to_string())]);
        }
        note(Field::Messages, ranges.len());
        let messages = ranges.into_iter().zip(outcomes).map(|(range, outcome)| Message { range, outcome }).collect();
        Batch { submission_id, received_at, split, messages, problems }
    }

    async fn outcomes(
        &self,
        submission: &Submission,
        incoming: &Incoming,
        ranges: &[Range<usize>],
    ) -> Vec<Result<Taken, HttpProblem>> {
        let begun = Instant::now();
        // One token, sealed once: its seal is bound to the submission, which all messages share.
        let token = match self.seal(submission).await {
            Ok(token) => token,
            Err(error) => {
                let problem = HttpProblem::of_step(&error);
                return ranges.iter().map(|_| Err(problem.clone())).collect();
            }
        };
        let first_of: RefCell<HashMap<MessageId, usize>> = RefCell::default();
        let noting = ranges.iter().enumerate().map(async |(n, range)| {
            let (received, message) = incoming.received(incoming.bytes.get(range.clone()).unwrap_or_default())?;
            // The first of equal ones is taken, the others get its outcome.
            let first = *first_of.borrow_mut().entry(message.message_id()).or_insert(n);
            if first != n {
                return Ok(Content::CopyOf(first));
            }
            if begun.elapsed() > self.batch_times.begin {
                return Err(not_done());
            }
            let noted =
                timeout_at(begun + self.batch_times.note, self.note(submission, &message)).await.map_err(|_| not_done())?;
            let taken = noted.map_err(|error| HttpProblem::of_step(&error))?;
            Ok(Content::Noted { taken, received })
        });
        let contents: Vec<Result<Content, HttpProblem>> = stream::iter(noting).buffered(CONCURRENCY).collect().await;
        let mut failures = self.enqueue_all(submission, &token, &contents, begun + self.batch_times.queue).await;

        let mut copies: Vec<(usize, usize)> = Vec::new();
        let mut outcomes: Vec<Result<Taken, HttpProblem>> = Vec::with_capacity(contents.len());
        for (n, content) in contents.into_iter().enumerate() {
            outcomes.push(match (content, failures.remove(&n)) {
                (_, Some(problem)) | (Err(problem), _) => Err(problem),
                (Ok(Content::Noted { taken, .. }), None) => Ok(taken),
                (Ok(Content::CopyOf(first)), None) => {
                    copies.push((n, first));
                    Err(not_done())
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

    /// Queues what was noted and is not stored yet, in as few requests as SQS allows. Gives those that were not queued.
    async fn enqueue_all(
        &self,
        submission: &Submission,
        token: &str,
        contents: &[Result<Content, HttpProblem>],
        deadline: Instant,
    ) -> HashMap<usize, HttpProblem> {
        let new = contents.iter().enumerate().filter_map(|(n, content)| match content {
            Ok(Content::Noted { taken, received }) if !taken.is_duplicate => Some((n, taken, received)),
            _ => None,
        });
        let enveloping = new.map(async |(n, taken, received)| {
            let envelope = self.envelope(submission, taken.subject.clone(), token.to_owned(), received);
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
                true => timeout_at(deadline, self.send(request)).await.ok(),
                false => None,
            };
            failed.unwrap_or_else(|| numbers.into_iter().map(|n| (n, not_done())).collect())
        });
        let failed: Vec<Vec<(usize, HttpProblem)>> = stream::iter(sending).buffered(CONCURRENCY).collect().await;
        failures.extend(failed.into_iter().flatten());
        failures
    }

    /// Gives those that were not queued.
    async fn send(&self, request: Vec<(usize, String)>) -> Vec<(usize, HttpProblem)> {
        let numbers: Vec<usize> = request.iter().map(|(n, _)| *n).collect();
        let entries: Result<Vec<_>, _> = request
            .into_iter()
            .map(|(n, body)| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body).build())
            .collect();
        let Ok(entries) = entries else { return numbers.into_iter().map(|n| (n, not_done())).collect() };
        match self.sqs.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries)).send().await {
            Ok(output) => {
                // What is named neither as sent nor as failed was not sent.
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

/// The sender sends it again: what is there already is known by its content.
fn not_done() -> HttpProblem {
    HttpProblem { retry_after_seconds: Some(5), ..HttpProblem::new(503, "Service unavailable", "not done; try again later") }
}
