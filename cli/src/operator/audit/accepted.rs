//! The messages that `submit` answered with 202, as its log names them.
//!
//! The line of a body with several messages has only their number, so those are not here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use aws_sdk_cloudwatchlogs::Client;
use domain::claim::RECORD_TTL;
use domain::{MessageId, Source, Timestamp};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::events::kept_since;
use crate::operator::journal::log_group;
use crate::operator::lines::{self, Period};
use crate::operator::records::Key;
use client::aws::Aws;
use client::outputs::Outputs;

/// The part of the log that makes a page. An audit that is broken off reads no more than this once more.
const PAGE: Duration = Duration::from_secs(6 * 60 * 60);

/// The log of `submit`.
#[derive(Debug)]
pub(super) struct Accepted {
    client: Client,
    group: String,
    from: Option<Timestamp>,
    to: Timestamp,
    now: Timestamp,
    /// The first millisecond that is read.
    since_ms: OnceCell<i64>,
}

/// The members of a line of `submit` that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: Timestamp,
    source: Source,
    message_id: MessageId,
    outcome: String,
}

impl Accepted {
    /// The part of the log that tells of messages received between these times.
    pub(super) fn new(
        aws: &Aws,
        outputs: &Outputs,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self> {
        let (client, group) = (Client::new(aws.config()), log_group(outputs, "Submit")?);
        Ok(Self { client, group, from, to: to.map_or(now, |to| to.min(now)), now, since_ms: OnceCell::new() })
    }

    /// The messages of one institute or of all that a page of the log names, each with the time of its first line there, and where the
    /// next page begins. The first page begins at `None`.
    pub(super) async fn page(&self, of: Option<&Source>, at: Option<i64>) -> Result<(Vec<(Key, Timestamp)>, Option<i64>)> {
        let begin = match at {
            Some(at) => at,
            None => *self.since_ms.get_or_try_init(|| self.since()).await?,
        };
        let end = begin.saturating_add(millis(PAGE)).min(self.to.as_millis());
        if begin >= end {
            return Ok((Vec::new(), None));
        }
        let mut accepted = BTreeMap::new();
        // CloudWatch finds the lines of one institute by its name.
        let text = of.map_or("", Source::as_str);
        lines::each(&self.client, &self.group, text, Period { from: begin, to: Some(end - 1) }, |line| {
            if let Some((key, time)) = read(line).filter(|((source, _), _)| of.is_none_or(|of| of == source)) {
                accepted.entry(key).or_insert(time);
            }
            Ok(())
        })
        .await?;
        Ok((accepted.into_iter().collect(), (end < self.to.as_millis()).then_some(end)))
    }

    /// Where to begin. The record of a message that was never stored expires, and then nobody knows whether something is missing.
    async fn since(&self) -> Result<i64> {
        let kept = kept_since(&self.client, &self.group, self.now).await?;
        let expired = self.now.as_millis() - millis(RECORD_TTL);
        Ok(kept.max(expired).max(self.from.map_or(0, Timestamp::as_millis)))
    }
}

/// The message that a line says was queued.
fn read(line: &str) -> Option<(Key, Timestamp)> {
    let Line { time, source, message_id, outcome } = serde_json::from_str(line).ok()?;
    (outcome == "queued").then_some(((source, message_id), time))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_a_queued_message_tells_of_a_202() {
        let id = "0".repeat(64);
        let line = |outcome: &str| {
            let time = "2026-11-21T07:21:07.120Z";
            format!(r#"{{"time":"{time}","worker":"submit","source":"west","messageId":"{id}","outcome":"{outcome}"}}"#)
        };
        let (key, time) = read(&line("queued")).unwrap();
        assert_eq!((key.0.as_str(), key.1.as_str(), time.date().as_str()), ("west", id.as_str(), "2026-11-21"));
        for other in ["Duplicate", "batch", "Service unavailable"] {
            assert_eq!(read(&line(other)), None, "{other}");
        }
        assert_eq!(read("START RequestId: 1"), None);
        assert_eq!(read(r#"{"time":"2026-11-21T07:21:07.120Z","source":"west","outcome":"queued"}"#), None);
    }
}
