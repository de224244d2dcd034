//! Moves messages from the dead-letter queue back to the queue.
//!
//! A message is sent first and deleted afterwards: a run that is interrupted between the two leaves it in both queues. That
//! does no harm, because a message is stored once however often it is queued. It comes back as a new one, with all its tries before it.
//!
//! A message whose record says `held` stays where it is: there is a copy of it that waits for somebody with a valid token
//! (`sluice release`), and the token of the dead letter is as old as the dead letter.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, QueueAttributeName, SendMessageBatchRequestEntry};
use domain::{Envelope, MessageId, Record, Source, Status, Timestamp};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::dead_letters::{BATCH, DeadLetters};
use super::records::Records;
use crate::output::Reporter;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The most dead letters that the report names; it counts all.
const MAX_NAMED: usize = 10_000;

/// The most bytes of bodies in one request to SQS, which takes 1 MiB with everything around them.
const MAX_REQUEST_BYTES: usize = 1_000_000;

/// The dead letters to bring back. An empty selection means all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these messages.
    pub message_ids: BTreeSet<MessageId>,
    /// Only those of this institute.
    pub source: Option<Source>,
    /// Only those whose record has this step error.
    pub error: Option<String>,
    /// Only those that were submitted at least so long ago.
    pub older_than: Option<Duration>,
    /// Only those that were submitted less than so long ago.
    pub newer_than: Option<Duration>,
}

/// How to bring them back, and how fast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Say what would happen, and change nothing.
    pub dry_run: bool,
    /// The most messages a second; unlimited without it.
    pub rate: Option<u32>,
}

/// What happened to the dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    /// The number of dead letters in the queue.
    pub found: usize,
    /// How many are back in the queue; in a dry run, how many would be.
    pub moved: usize,
    /// The number of those that stay because a release of their held copy is the way.
    pub held: usize,
    /// How many stay because they are no envelopes.
    pub not_envelopes: usize,
    /// How many stay because they were not selected.
    pub not_selected: usize,
    /// The dead letters that were selected or are no envelopes: the first 10,000.
    pub dead_letters: Vec<DeadLetter>,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its message, absent if it is no envelope.
    pub message_id: Option<MessageId>,
    /// The institute.
    pub source: Option<Source>,
    /// The time at which it was submitted.
    pub received_at: Option<Timestamp>,
    /// The step error that the record has.
    pub error: Option<String>,
    /// What happens to it.
    pub action: Action,
}

/// What happens to a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It goes back into the queue.
    Redrive,
    /// It stays: its message is held, and `sluice release` is the way.
    Release,
    /// It stays: it is no envelope, and somebody has to look at it.
    Inspect,
}

impl Action {
    /// Its word in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Release => "release",
            Self::Inspect => "inspect",
        }
    }
}

impl Selection {
    fn has(&self, envelope: &Envelope, record: Option<&Record>, now: Timestamp) -> bool {
        let age = Duration::from_millis(u64::try_from(now.as_millis() - envelope.received_at.as_millis()).unwrap_or(0));
        (self.message_ids.is_empty() || self.message_ids.contains(&envelope.message_id))
            && self.source.as_ref().is_none_or(|source| *source == envelope.source)
            && self.error.as_deref().is_none_or(|error| error_of(record) == Some(error))
            && self.older_than.is_none_or(|least| age >= least)
            && self.newer_than.is_none_or(|most| age < most)
    }
}

fn error_of(record: Option<&Record>) -> Option<&str> {
    Some(record?.error.as_ref()?.code.as_str())
}

/// A dead letter that goes back to the queue.
struct Leaving {
    message: Message,
    source: Source,
    /// The new body: the envelope with a full number of tries.
    body: String,
}

/// Brings the selected dead letters back to the queue; in a dry run it only looks at them.
///
/// # Errors
/// When SQS or DynamoDB refuses. Dead letters that were moved by then stay moved.
pub async fn redrive(aws: &Aws, outputs: &Outputs, selection: &Selection, pace: Pace, reporter: &Reporter) -> Result<Redriven> {
    let (client, records) = (Client::new(aws.config()), Records::new(aws, outputs));
    let step = reporter.step(if pace.dry_run { "looking at the dead letters" } else { "bringing dead letters back" });
    let about = messages_in(&client, &outputs.dead_letter_queue_url).await?;
    let now: Timestamp = SystemTime::now().into();
    let (mut done, began) = (Redriven::default(), Instant::now());
    let mut letters = DeadLetters::new(&client, &outputs.dead_letter_queue_url);
    loop {
        let messages = letters.next().await?;
        if messages.is_empty() {
            break;
        }
        done.found += messages.len();
        let envelopes: Vec<_> = messages.iter().map(|it| Envelope::from_json(it.body().unwrap_or_default()).ok()).collect();
        let keys = envelopes.iter().flatten().map(|it| (it.source.clone(), it.message_id.clone()));
        let found = records.get_many(keys.collect()).await?;
        let mut leaving = Vec::new();
        for (message, envelope) in messages.into_iter().zip(envelopes) {
            let record = envelope.as_ref().and_then(|it| found.get(&(it.source.clone(), it.message_id.clone()))?.as_ref());
            let action = match &envelope {
                None => Action::Inspect,
                Some(envelope) if !selection.has(envelope, record, now) => {
                    done.not_selected += 1;
                    letters.keep(message);
                    continue;
                }
                Some(_) if record.is_some_and(|it| it.status == Status::Held) => Action::Release,
                Some(_) => Action::Redrive,
            };
            if done.dead_letters.len() < MAX_NAMED {
                done.dead_letters.push(DeadLetter {
                    message_id: envelope.as_ref().map(|it| it.message_id.clone()),
                    source: envelope.as_ref().map(|it| it.source.clone()),
                    received_at: envelope.as_ref().map(|it| it.received_at),
                    error: error_of(record).map(str::to_owned),
                    action,
                });
            }
            match (action, envelope) {
                (Action::Redrive, Some(_)) if pace.dry_run => {
                    done.moved += 1;
                    letters.keep(message);
                }
                (Action::Redrive, Some(envelope)) => {
                    let source = envelope.source.clone();
                    let body = serde_json::to_string(&Envelope { tries: 0, hold: None, ..envelope })?;
                    leaving.push(Leaving { message, source, body });
                }
                (Action::Release, _) => {
                    done.held += 1;
                    letters.keep(message);
                }
                _ => {
                    done.not_envelopes += 1;
                    letters.keep(message);
                }
            }
        }
        done.moved += move_all(&client, outputs, leaving).await?;
        step.at(format!("{} of about {about} seen, {} moved", done.found, done.moved));
        if let (Some(rate), false) = (pace.rate, pace.dry_run) {
            sleep_until(began + Duration::from_secs_f64(done.moved as f64 / f64::from(rate.max(1)))).await;
        }
    }
    letters.put_back().await?;
    step.done(format!("{} of {}", done.moved, done.found));
    Ok(done)
}

/// Sends dead letters to the queue, then deletes them from the dead-letter queue. Gives their number.
async fn move_all(client: &Client, outputs: &Outputs, leaving: Vec<Leaving>) -> Result<usize> {
    let count = leaving.len();
    let mut requests: Vec<Vec<Leaving>> = Vec::new();
    let mut request_bytes = 0;
    for letter in leaving {
        let size_bytes = letter.body.len();
        request_bytes += size_bytes;
        match requests.last_mut() {
            Some(last) if last.len() < BATCH && request_bytes <= MAX_REQUEST_BYTES => last.push(letter),
            _ => {
                request_bytes = size_bytes;
                requests.push(vec![letter]);
            }
        }
    }
    for request in requests {
        send(client, outputs, &request).await?;
        delete(client, outputs, &request).await?;
    }
    Ok(count)
}

async fn send(client: &Client, outputs: &Outputs, letters: &[Leaving]) -> Result<()> {
    let entries = letters.iter().enumerate().map(|(n, letter)| {
        let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_group_id(letter.source.as_str());
        entry.message_body(&letter.body).build()
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let request = client.send_message_batch().queue_url(&outputs.queue_url).set_entries(Some(entries));
    let sent = request.send().await.map_err(explain("queueing dead letters"))?;
    // The dead letters that were sent are in both queues now, which does no harm.
    ensure!(sent.failed().is_empty(), "SQS did not take {} of {} dead letters", sent.failed().len(), letters.len());
    Ok(())
}

async fn delete(client: &Client, outputs: &Outputs, letters: &[Leaving]) -> Result<()> {
    let entries = letters.iter().enumerate().map(|(n, letter)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
        entry.receipt_handle(letter.message.receipt_handle().unwrap_or_default()).build()
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let request = client.delete_message_batch().queue_url(&outputs.dead_letter_queue_url).set_entries(Some(entries));
    let deleted = request.send().await.map_err(explain("deleting dead letters that are back in the queue"))?;
    ensure!(
        deleted.failed().is_empty(),
        "{} dead letters are in the queue now, but also still in the dead-letter queue",
        letters.len()
    );
    Ok(())
}

/// The approximate number of messages in a queue: visible, in flight or delayed.
pub(crate) async fn messages_in(client: &Client, queue_url: &str) -> Result<i64> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let answer = client
        .get_queue_attributes()
        .queue_url(queue_url)
        .set_attribute_names(Some(names.to_vec()))
        .send()
        .await
        .map_err(explain(format!("counting the messages of `{queue_url}`")))?;
    let attributes: HashMap<_, _> = answer.attributes.unwrap_or_default();
    let mut count = 0;
    for name in names {
        count += attributes.get(&name).context("SQS gave no count")?.parse::<i64>().context("SQS gave no number")?;
    }
    Ok(count)
}
