//! The events that the log of `publish` contains.
//!
//! Each is kept as a hash of 64 bits: a deployment of a million messages takes 16 MB. Two different events with the same hash
//! are less likely than a broken disk.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudwatchlogs::Client;
use domain::{MessageId, Source, Timestamp};
use serde::Deserialize;

use crate::operator::journal::log_group;
use crate::operator::lines::{self, Period};
use crate::output::Step;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The most events that are kept, some 512 MB. An audit with more needs a shorter period.
const MAX_EVENTS: usize = 32_000_000;

/// How many events pass between two reports of progress.
const SHOWN: usize = 10_000;

/// The events that were published in a period.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// A hash of each event.
    published: HashSet<u64>,
    /// The start of the log, in milliseconds since 1970.
    since_ms: i64,
}

/// The members of a log line that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    submission_id: String,
    message_id: MessageId,
    outcome: String,
    /// The name of the error of a try that failed.
    error: Option<String>,
}

impl Events {
    /// Reads the log, from the beginning of the audited time to now.
    pub(super) async fn read(
        aws: &Aws,
        outputs: &Outputs,
        from: Option<Timestamp>,
        sources: &[Source],
        now: Timestamp,
        step: &Step,
    ) -> Result<Self> {
        let client = Client::new(aws.config());
        let group = log_group(outputs, "Publish")?;
        let since_ms = kept_since(&client, &group, now).await?.max(from.map_or(0, Timestamp::as_millis));
        let mut events = Self { published: HashSet::new(), since_ms };
        // CloudWatch finds the lines of one institute by its name.
        let text = if let [source] = sources { source.as_str() } else { "" };
        lines::each(&client, &group, text, Period { from: since_ms, to: None }, |line| {
            events.add(line);
            ensure!(events.len() <= MAX_EVENTS, "more than {MAX_EVENTS} events: audit a shorter time with --from");
            if events.len().is_multiple_of(SHOWN) {
                step.at(format!("{} events", events.len()));
            }
            Ok(())
        })
        .await?;
        Ok(events)
    }

    fn add(&mut self, line: &str) {
        if let Ok(Line { submission_id, message_id, outcome, error: None }) = serde_json::from_str(line) {
            self.published.insert(number(&submission_id, &message_id, &outcome));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.published.len()
    }

    /// Whether the log reaches back to this time.
    pub(super) fn tell_of(&self, time: Timestamp) -> bool {
        time.as_millis() >= self.since_ms
    }

    /// Whether the event was published.
    pub(super) fn has(&self, submission_id: &str, message_id: &MessageId, outcome: &str) -> bool {
        self.published.contains(&number(submission_id, message_id, outcome))
    }
}

/// The log of `dispatch`, which says how each execution ended. One that succeeded has published its event, so this is asked where the
/// line of `publish` is missing: CloudWatch Logs may lose a line.
#[derive(Debug)]
pub(super) struct Dispatched {
    client: Client,
    group: String,
    /// For how many messages it has been asked: each is a request, and CloudWatch Logs takes few a second.
    asked: AtomicUsize,
}

/// The most messages that [`Dispatched`] is asked for.
const MAX_ASKED: usize = 1_000;

/// The members of a line of `dispatch` that matter here.
#[derive(Deserialize)]
struct Batch {
    messages: Vec<Execution>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    submission_id: Option<String>,
    message_id: Option<MessageId>,
    outcome: Option<String>,
}

impl Dispatched {
    pub(super) fn new(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        let (client, group) = (Client::new(aws.config()), log_group(outputs, "Dispatch")?);
        Ok(Self { client, group, asked: AtomicUsize::new(0) })
    }

    /// Whether an execution of the submission had this outcome. Its line comes within minutes of its end.
    pub(super) async fn has(
        &self,
        submission_id: &str,
        message_id: &MessageId,
        outcome: &str,
        ended_at: Timestamp,
    ) -> Result<bool> {
        const MINUTES: i64 = 60_000;
        if self.asked.fetch_add(1, Ordering::Relaxed) >= MAX_ASKED {
            return Ok(false);
        }
        let period = Period { from: ended_at.as_millis() - MINUTES, to: Some(ended_at.as_millis() + 10 * MINUTES) };
        let is_it = |it: &Execution| {
            it.submission_id.as_deref() == Some(submission_id)
                && it.message_id.as_ref() == Some(message_id)
                && it.outcome.as_deref() == Some(outcome)
        };
        let mut has = false;
        lines::each(&self.client, &self.group, message_id.as_str(), period, |line| {
            has |= serde_json::from_str::<Batch>(line).is_ok_and(|batch| batch.messages.iter().any(is_it));
            Ok(())
        })
        .await?;
        Ok(has)
    }
}

fn number(submission_id: &str, message_id: &MessageId, outcome: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (submission_id, message_id.as_str(), outcome).hash(&mut hasher);
    hasher.finish()
}

/// The time from which the log group has lines, in milliseconds since 1970: its creation, or the limit of its retention if that
/// is later.
pub(super) async fn kept_since(client: &Client, group: &str, now: Timestamp) -> Result<i64> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let mut groups = client.describe_log_groups().log_group_name_prefix(group).into_paginator().items().send();
    while let Some(found) = groups.next().await {
        let found = found.map_err(explain("looking at the log groups"))?;
        if found.log_group_name() == Some(group) {
            let made = found.creation_time().unwrap_or_default();
            let kept = found.retention_in_days().and_then(|days| u32::try_from(days).ok()).map(|days| DAY * days);
            let oldest = kept.map_or(0, |kept| now.as_millis() - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
            return Ok(made.max(oldest));
        }
    }
    None.with_context(|| format!("there is no log group `{group}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_of_a_failed_try_is_no_event() {
        let id: MessageId = "0".repeat(64).parse().unwrap();
        let line =
            |more: &str| format!(r#"{{"worker":"publish","submissionId":"s","messageId":"{id}","outcome":"stored"{more}}}"#);
        let mut events = Events::default();
        events.add(&line(r#","error":"Throttled""#));
        events.add("START RequestId: 1");
        events.add("{}");
        assert_eq!(events.len(), 0);
        events.add(&line(""));
        events.add(&line(""));
        assert_eq!(events.len(), 1);
        assert!(events.has("s", &id, "stored") && !events.has("s", &id, "held") && !events.has("t", &id, "stored"));
    }
}
