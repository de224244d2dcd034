//! Several messages in one body: each is taken or refused by itself.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::step::Subject;
use domain::{Er7, MessageId, Received, SubmissionId, Timestamp};
use futures_util::{StreamExt as _, stream};
use hl7::{BatchProblem, Split};
use runtime::{Field, HttpProblem, StepError, note, note_message};

use crate::body::Incoming;
use crate::{Submission, Submit, Taken};

/// The most messages of a body. 4 MiB can hold a million that begin with `MSH|` and no more, and the answer names each.
pub(crate) const MAX_MESSAGES: usize = 5000;

/// How many calls are under way at once.
const CONCURRENCY: usize = 32;

/// SQS's own limits of SendMessageBatch; of its 1 MiB some is left for what SQS adds.
const MAX_ENTRIES: usize = 10;
const MAX_REQUEST_BYTES: usize = 1_000_000;

/// API Gateway waits for 30 seconds. What is not begun by then is answered with 503, so that the sender sends it again.
const BEGIN_WITHIN: Duration = Duration::from_secs(20);

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

/// A message that is noted and not queued yet.
struct Noted {
    taken: Taken,
    received: Received,
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
        let read = |range: &Range<usize>| incoming.received(incoming.bytes.get(range.clone()).unwrap_or_default());
        let mut messages: Vec<Result<(Received, Er7), HttpProblem>> = ranges.iter().map(read).collect();

        // The first of equal ones is taken, the others get its outcome.
        let mut first_of: HashMap<MessageId, usize> = HashMap::new();
        let mut copies: Vec<(usize, usize)> = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            let Ok((_, message)) = message else { continue };
            let first = *first_of.entry(message.message_id()).or_insert(n);
            if first != n {
                copies.push((n, first));
            }
        }

        // One token, sealed once: its seal is bound to the submission, which all of them share.
        let token = match messages.iter().flatten().next() {
            Some((_, message)) => self.seal(submission, &submission.subject(message)).await,
            None => Ok(String::new()),
        };
        let token = match token {
            Ok(token) => token,
            Err(error) => {
                let problem = HttpProblem::of_step(&error);
                return messages.into_iter().map(|message| Err(message.err().unwrap_or_else(|| problem.clone()))).collect();
            }
        };

        for (copy, _) in &copies {
            if let Some(message) = messages.get_mut(*copy) {
                *message = Err(not_done());
            }
        }
        let noting = messages.into_iter().map(async |message| {
            let (received, message) = message?;
            if begun.elapsed() > BEGIN_WITHIN {
                return Err(not_done());
            }
            let taken = self.note(submission, &message).await.map_err(|error| HttpProblem::of_step(&error))?;
            Ok(Noted { taken, received })
        });
        let noted: Vec<Result<Noted, HttpProblem>> = stream::iter(noting).buffered(CONCURRENCY).collect().await;
        let mut outcomes = self.enqueue_all(submission, &token, noted, begun).await;
        for (copy, first) in copies {
            let mut outcome = outcomes.get(first).cloned().unwrap_or_else(|| Err(not_done()));
            if let Ok(taken) = &mut outcome {
                taken.is_duplicate = true;
            }
            if let Some(place) = outcomes.get_mut(copy) {
                *place = outcome;
            }
        }
        outcomes
    }

    /// Queues what was noted and is not stored yet, in as few requests as SQS allows.
    async fn enqueue_all(
        &self,
        submission: &Submission,
        token: &str,
        noted: Vec<Result<Noted, HttpProblem>>,
        begun: Instant,
    ) -> Vec<Result<Taken, HttpProblem>> {
        let is_new = |it: &Result<Noted, HttpProblem>| it.as_ref().is_ok_and(|noted| !noted.taken.is_duplicate);
        let new = noted.iter().enumerate().filter(|(_, it)| is_new(it)).filter_map(|(n, it)| Some((n, it.as_ref().ok()?)));
        let enveloping = new.map(async |(n, noted)| {
            let subject: Subject = noted.taken.subject.clone();
            (n, self.envelope(submission, subject, token.to_owned(), &noted.received).await)
        });
        let envelopes: Vec<(usize, Result<String, StepError>)> = stream::iter(enveloping).buffered(CONCURRENCY).collect().await;

        let mut failures: HashMap<usize, HttpProblem> = HashMap::new();
        let mut requests: Vec<Vec<(usize, String)>> = Vec::new();
        let mut request_bytes = 0;
        for (n, envelope) in envelopes {
            let envelope = match envelope {
                Ok(envelope) => envelope,
                Err(error) => {
                    failures.insert(n, HttpProblem::of_step(&error));
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
            if begun.elapsed() > BEGIN_WITHIN {
                return request.into_iter().map(|(n, _)| (n, not_done())).collect();
            }
            self.send(request).await
        });
        let failed: Vec<Vec<(usize, HttpProblem)>> = stream::iter(sending).buffered(CONCURRENCY).collect().await;
        failures.extend(failed.into_iter().flatten());
        let outcome = |(n, noted): (usize, Result<Noted, HttpProblem>)| match failures.remove(&n) {
            Some(problem) => Err(problem),
            None => noted.map(|noted| noted.taken),
        };
        noted.into_iter().enumerate().map(outcome).collect()
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
