//! The current activity of a deployment, counted from the log lines of `submit`, `dispatch` and `publish`, with the sizes of
//! the queues.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use aws_sdk_sqs::types::QueueAttributeName;
use domain::Timestamp;
use serde::Serialize;

use super::lines::{Line, Lines, Period};
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// A line may reach the log this much later than its time.
const LATE: Duration = Duration::from_secs(30);

/// The numbers of a window that ends now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// The length of the window in seconds.
    pub window_seconds: u64,
    /// Messages that were queued.
    pub accepted: u64,
    /// Bytes that were submitted.
    pub bytes: u64,
    /// Messages that came into the lake.
    pub stored: u64,
    /// Submissions of messages that the lake had already.
    pub duplicates: u64,
    /// Messages that are held, by reason.
    pub held: BTreeMap<String, u64>,
    /// Messages that could not even be held.
    pub failed: u64,
    /// Messages that were refused, by HTTP status.
    pub refused: BTreeMap<String, u64>,
    /// Tries that failed, by error.
    pub errors: BTreeMap<String, u64>,
    /// Milliseconds from the 202 to the lake.
    pub lag_ms: Option<Lag>,
    /// Messages in the queues.
    pub queues: Queues,
    /// The outcomes of each institute.
    pub institutes: BTreeMap<String, Outcomes>,
}

/// Half of the messages, and 99 of 100, took no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Milliseconds.
    pub p50: u64,
    /// Milliseconds.
    pub p99: u64,
}

/// The approximate numbers of SQS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    /// Messages that wait to be tried, or tried again.
    pub waiting: u64,
    /// Messages that are being worked on, or hidden until their next try.
    pub in_flight: u64,
    /// Messages in the dead-letter queue.
    pub dead_letters: u64,
}

/// The outcomes of an institute's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Queued.
    pub accepted: u64,
    /// In the lake.
    pub stored: u64,
    /// Already in the lake.
    pub duplicates: u64,
    /// Held, for whatever reason.
    pub held: u64,
    /// Not even held.
    pub failed: u64,
}

/// Repeats the look, and reads only new lines.
#[derive(Debug)]
pub struct Watch {
    aws: Aws,
    outputs: Outputs,
    lines: Lines,
    window: Duration,
    recent: VecDeque<Line>,
    read_to: Option<Timestamp>,
}

impl Watch {
    /// Watches a window of this length.
    #[must_use]
    pub fn new(aws: &Aws, outputs: &Outputs, window: Duration) -> Self {
        let lines = Lines::of(aws, outputs, |worker| ["Submit", "Dispatch", "Publish"].contains(&worker));
        Self { aws: aws.clone(), outputs: outputs.clone(), lines, window, recent: VecDeque::new(), read_to: None }
    }

    /// The numbers of the window that ends now.
    ///
    /// # Errors
    /// When CloudWatch Logs or SQS refuses.
    pub async fn look(&mut self) -> Result<Numbers> {
        let now: Timestamp = SystemTime::now().into();
        let before = |duration: Duration, time: Timestamp| {
            let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            time.as_millis().saturating_sub(millis)
        };
        let begin = before(self.window, now);
        let from = self.read_to.map_or(begin, |read_to| before(LATE, read_to).max(begin));
        let found = self.lines.find("", Period { from, to: None }).await?;
        let known: HashSet<String> = self.recent.iter().map(identity).collect();
        self.recent.extend(found.into_iter().filter(|line| !known.contains(&identity(line))));
        self.recent.retain(|line| line.time().is_some_and(|time| time.as_millis() >= begin));
        self.read_to = Some(now);
        let queues = self.queues().await?;
        Ok(Numbers { window_seconds: self.window.as_secs(), queues, ..count(&self.recent) })
    }

    async fn queues(&self) -> Result<Queues> {
        use QueueAttributeName::{ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesNotVisible as Hidden};
        let sqs = aws_sdk_sqs::Client::new(self.aws.config());
        let ask = async |url: &str| {
            let asked = sqs.get_queue_attributes().queue_url(url).attribute_names(Visible).attribute_names(Hidden).send().await;
            let found = asked.map_err(explain("asking a queue"))?;
            let number =
                |name| found.attributes().and_then(|it| it.get(&name)).and_then(|it| it.parse().ok()).unwrap_or_default();
            anyhow::Ok((number(Visible), number(Hidden)))
        };
        let (waiting, in_flight) = ask(&self.outputs.queue_url).await?;
        let (dead, hidden) = ask(&self.outputs.dead_letter_queue_url).await?;
        Ok(Queues { waiting, in_flight, dead_letters: dead + hidden })
    }
}

/// Distinguishes a line from all others.
fn identity(line: &Line) -> String {
    ["worker", "requestId", "time", "submissionId"].map(|name| line.text(name)).join(" ")
}

fn count<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Numbers {
    let (mut numbers, mut lags) = (Numbers::default(), Vec::new());
    for line in lines {
        let number = |name: &str| line.text(name).parse::<u64>().unwrap_or_default();
        match line.text("worker") {
            "submit" => {
                let (accepted, duplicates, refused) = (number("accepted"), number("duplicates"), number("refused"));
                numbers.accepted += accepted;
                numbers.duplicates += duplicates;
                numbers.bytes += number("sizeBytes");
                add(&mut numbers.refused, line.text("httpStatus"), refused);
                if let Some(institute) = institute(&mut numbers.institutes, line) {
                    institute.accepted += accepted;
                    institute.duplicates += duplicates;
                }
            }
            "dispatch" => {
                for message in line.by_message() {
                    add(&mut numbers.errors, message.text("error"), 1);
                }
            }
            // The line is from `publish`, or from an operator's command in its place. If it has an error, no event was published.
            _ if line.text("error").is_empty() => {
                let kind = line.text("outcome");
                match kind {
                    "stored" | "unparsable" => {
                        numbers.stored += 1;
                        lags.extend(line.text("storedAfterMs").parse::<u64>());
                    }
                    "duplicate" => numbers.duplicates += 1,
                    "held" => add(&mut numbers.held, line.text("reason"), 1),
                    "failed" => numbers.failed += 1,
                    _ => {}
                }
                if let Some(institute) = institute(&mut numbers.institutes, line) {
                    match kind {
                        "stored" | "unparsable" => institute.stored += 1,
                        "duplicate" => institute.duplicates += 1,
                        "held" => institute.held += 1,
                        "failed" => institute.failed += 1,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    lags.sort_unstable();
    let at = |percent: usize| lags.get((lags.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    numbers.lag_ms = at(50).zip(at(99)).map(|(p50, p99)| Lag { p50, p99 });
    numbers
}

fn institute<'a>(institutes: &'a mut BTreeMap<String, Outcomes>, line: &Line) -> Option<&'a mut Outcomes> {
    let source = line.text("source");
    (!source.is_empty()).then(|| institutes.entry(source.to_owned()).or_default())
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if !name.is_empty() && count > 0 {
        *counts.entry(name.to_owned()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lines(lines: &[Value]) -> Vec<Line> {
        lines.iter().map(|line| Line::read(&line.to_string()).unwrap()).collect()
    }

    #[test]
    fn each_log_line_counts_in_its_own_number() {
        let found = count(&lines(&[
            json!({ "worker": "submit", "source": "west", "accepted": "2", "duplicates": "1", "sizeBytes": "100", "httpStatus": "202" }),
            json!({ "worker": "submit", "refused": "1", "httpStatus": "415" }),
            json!({ "worker": "dispatch", "messages": [{ "outcome": "stored" }, { "error": "Throttled" }] }),
            json!({ "worker": "publish", "source": "west", "outcome": "stored", "storedAfterMs": "300" }),
            json!({ "worker": "publish", "source": "west", "outcome": "unparsable", "storedAfterMs": "100" }),
            json!({ "worker": "publish", "source": "north", "outcome": "held", "reason": "denied" }),
            json!({ "worker": "publish", "source": "north", "outcome": "error", "error": "Throttled" }),
            json!({ "worker": "discard", "source": "north", "outcome": "discarded" }),
        ]));
        let one = |name: &str| BTreeMap::from([(name.to_owned(), 1)]);
        let west = Outcomes { accepted: 2, stored: 2, duplicates: 1, ..Outcomes::default() };
        let north = Outcomes { held: 1, ..Outcomes::default() };
        let expected = Numbers {
            accepted: 2,
            bytes: 100,
            stored: 2,
            duplicates: 1,
            held: one("denied"),
            refused: one("415"),
            errors: one("Throttled"),
            lag_ms: Some(Lag { p50: 100, p99: 300 }),
            institutes: BTreeMap::from([("west".to_owned(), west), ("north".to_owned(), north)]),
            ..Numbers::default()
        };
        assert_eq!(found, expected);
        assert_eq!(count(&[]), Numbers::default());
    }
}
