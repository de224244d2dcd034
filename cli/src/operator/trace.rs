//! One message's whole path: its record, and each worker's log lines about it, by time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use domain::{MessageId, Record, Source, Status, SubmissionId, Timestamp, TraceId};
use serde::Serialize;
use serde_json::{Value, json};
use serde_with::skip_serializing_none;

use super::lines::{Line, Lines, Period};
use super::records::Records;
use client::aws::Aws;
use client::outputs::Outputs;

/// The id that a person has of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A message id, or its beginning in lower case.
    Message(String),
    /// A submission id: a POST, perhaps with several messages.
    Submission(SubmissionId),
    /// A trace id, or the beginning of a message id.
    Trace(TraceId),
}

/// Which message, and where to look.
#[derive(Debug, Clone)]
pub struct Question {
    /// The id that was given.
    pub given: Given,
    /// The institute of the message, if it was named.
    pub source: Option<Source>,
    /// Where to begin reading the log.
    pub from: Timestamp,
}

/// A message's path, or that of a request that was refused before it had a message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// The message. `None` if no line names one: the request was refused, or nothing was done yet for the messages of a batch.
    pub message_id: Option<MessageId>,
    /// Its institute. `None` together with the message.
    pub source: Option<Source>,
    /// The catalog's status of it, in the form of the API's answer. `None` if there is no record.
    pub record: Option<Value>,
    /// The status in a few words.
    #[serde(skip)]
    pub sentence: String,
    /// The steps, ordered by time.
    pub steps: Vec<Step>,
    /// The executions of the state machine, by the names in its console.
    pub executions: Vec<String>,
    /// The events that were published.
    pub events: Vec<Event>,
}

/// The work of one invocation for the message.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The start time.
    pub began_at: Timestamp,
    /// The duration in milliseconds; for a batch, that of the whole batch.
    pub took_ms: f64,
    /// The worker.
    pub worker: String,
    /// The outcome.
    pub outcome: String,
    /// The submission that it worked for.
    pub submission_id: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// The number of the try, from 1.
    pub tries: Option<String>,
    /// How often SQS had delivered the message.
    pub receives: Option<String>,
    /// The HTTP status of the answer.
    pub http_status: Option<String>,
    /// Why the message is held.
    pub reason: Option<String>,
    /// The caller (`sub`).
    pub subject: Option<String>,
    /// A step error's name.
    pub error: Option<String>,
    /// The error's sentence.
    pub detail: Option<String>,
    /// Lambda's id of the invocation.
    pub request_id: String,
    /// The requests to AWS, with their ids.
    pub aws_requests: Value,
}

/// A published event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// `<submission id>.<message id>.<type>`.
    pub id: String,
    /// The time of the publication.
    pub at: Timestamp,
}

type Key = (Source, MessageId);

/// Finds the message and its path.
///
/// # Errors
/// When nothing is known about the message, the id fits several messages, or AWS refuses a call.
pub async fn path(aws: &Aws, outputs: &Outputs, question: &Question) -> Result<Path> {
    let lines = Lines::of_all(aws, outputs);
    let from = question.from.as_millis();
    let (text, from) = match &question.given {
        Given::Message(beginning) => (beginning.clone(), from),
        // A submission id holds the time of its creation; one minute allows for other clocks.
        Given::Submission(id) => (id.to_string(), id.time().map_or(from, |time| time.as_millis() - 60_000)),
        Given::Trace(id) => (id.to_string(), from),
    };
    let period = Period { from, to: None };
    let found: Vec<Line> = lines.find(&text, period).await?.iter().flat_map(Line::by_message).collect();
    let Some(key) = one(&found, question, &text)? else { return refusal(&found, question, &text) };
    let record = Records::new(aws, outputs).get(&key).await?;

    // All lines of the message, of whichever submission; and the lines of its submissions that name no message, because they
    // stand for many.
    let mut of_message: Vec<Line> = lines.find(key.1.as_str(), period).await?.iter().flat_map(Line::by_message).collect();
    of_message.retain(|line| is_of(line, &key));
    let has_post = |submission: &str| of_message.iter().any(|it| it.text("submissionId") == submission && is_post(it));
    let submissions: BTreeSet<String> =
        of_message.iter().map(|it| it.text("submissionId").to_owned()).filter(|it| !it.is_empty() && !has_post(it)).collect();
    for submission in submissions {
        let posts = lines.find(&submission, period).await?;
        of_message.extend(posts.into_iter().filter(|line| is_post(line) && line.text("submissionId") == submission));
    }
    let mut steps: Vec<Step> = of_message.iter().filter_map(step).collect();
    steps.sort_by_key(|step| step.began_at);
    steps.dedup();
    let executions = of_message.iter().filter(|it| it.text("worker") == "dispatch").filter_map(|it| execution(it, &key.1));
    let events = of_message.iter().filter(|it| is_event(it)).filter_map(|line| {
        let id = format!("{}.{}.{}", line.text("submissionId"), key.1, line.text("outcome"));
        Some(Event { id, at: line.time()? })
    });
    let (source, message_id) = key.clone();
    Ok(Path {
        executions: executions.collect(),
        events: events.collect(),
        steps,
        sentence: record.as_ref().map_or_else(|| "none".to_owned(), sentence),
        record: record.map(|record| json!(record.progress())),
        message_id: Some(message_id),
        source: Some(source),
    })
}

/// Whether a line is about what was given. `text` is that as it stands in lines.
fn is_meant(line: &Line, given: &Given, text: &str) -> bool {
    match given {
        Given::Message(beginning) => line.text("messageId").starts_with(beginning.as_str()),
        Given::Submission(_) => line.text("submissionId") == text,
        Given::Trace(_) => line.text("traceId") == text || line.text("messageId").starts_with(text),
    }
}

/// What lines say of a request that has no message: one that the API refused, whose problem document has the trace.
fn refusal(lines: &[Line], question: &Question, text: &str) -> Result<Path> {
    let is_source = |line: &Line| match &question.source {
        Some(source) => [source.as_str(), ""].contains(&line.text("source")),
        None => true,
    };
    let meant = lines.iter().filter(|line| is_meant(line, &question.given, text) && is_source(line));
    let mut steps: Vec<Step> = meant.filter_map(step).collect();
    if steps.is_empty() {
        bail!("no log line since {} mentions such a message: look further back with --from", question.from);
    }
    steps.sort_by_key(|step| step.began_at);
    steps.dedup();
    let sentence = "none".to_owned();
    Ok(Path { message_id: None, source: None, record: None, sentence, steps, executions: Vec::new(), events: Vec::new() })
}

/// The one message that lines are about; `None` if they name none.
fn one(lines: &[Line], question: &Question, text: &str) -> Result<Option<Key>> {
    let keys: BTreeSet<Key> = lines
        .iter()
        .filter(|line| is_meant(line, &question.given, text))
        .filter_map(|line| Some((line.text("source").parse().ok()?, line.text("messageId").parse().ok()?)))
        .filter(|(source, _)| question.source.as_ref().is_none_or(|it| it == source))
        .collect();
    let mut keys = keys.into_iter();
    match (keys.next(), keys.next()) {
        (Some(one), None) => Ok(Some(one)),
        (Some(one), Some(other)) => {
            const SHOWN: usize = 20;
            let names = [one, other].into_iter().chain(keys).take(SHOWN).map(|(source, id)| format!("{id} of `{source}`"));
            bail!("the id fits several messages: {}", names.collect::<Vec<_>>().join(", "))
        }
        _ => Ok(None),
    }
}

fn is_of(line: &Line, (source, message_id): &Key) -> bool {
    // The line of a refused caller names no institute.
    let is_source = [source.as_str(), ""].contains(&line.text("source"));
    is_source && line.text("messageId") == message_id.as_str()
}

/// Whether a line is that of a POST. It names no messages if the body had many.
fn is_post(line: &Line) -> bool {
    matches!(line.text("worker"), "submit" | "release")
}

/// Whether a line is that of a published event, by the worker or by an operator's command in its place.
fn is_event(line: &Line) -> bool {
    matches!(line.text("worker"), "publish" | "discard" | "audit") && line.text("error").is_empty()
}

/// The name that `dispatch` gives to the execution.
fn execution(line: &Line, message_id: &MessageId) -> Option<String> {
    let failed_tries = line.text("tries").parse::<u32>().ok()?.checked_sub(1)?;
    Some(format!("{}-{}-{failed_tries}-{}", line.text("submissionId"), message_id.prefix(12), line.text("receives")))
}

fn step(line: &Line) -> Option<Step> {
    let some = |name| Some(line.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let took_ms = line.number("durationMs").unwrap_or_default();
    let took = Duration::try_from_secs_f64(took_ms / 1000.0).ok()?;
    let began_ms = line.time()?.as_millis().saturating_sub(i64::try_from(took.as_millis()).ok()?);
    Some(Step {
        began_at: Timestamp::from_millis(began_ms)?,
        took_ms,
        worker: line.text("worker").to_owned(),
        outcome: line.text("outcome").to_owned(),
        submission_id: some("submissionId"),
        trace_id: some("traceId"),
        tries: some("tries"),
        receives: some("receives"),
        http_status: some("httpStatus"),
        reason: some("reason"),
        subject: some("subject"),
        error: some("error"),
        detail: some("detail"),
        request_id: line.text("requestId").to_owned(),
        aws_requests: line.member("awsRequests").cloned().unwrap_or_else(|| json!([])),
    })
}

/// The status in a few words.
fn sentence(record: &Record) -> String {
    let reason = record.held.as_ref().map(|held| format!(": {}", held.held_reason)).filter(|_| record.status == Status::Held);
    let error = record.error.as_ref().map(|error| format!(" ({})", error.code)).unwrap_or_default();
    let times = if record.submissions == 1 { "once".to_owned() } else { format!("{} times", record.submissions) };
    let (status, first) = (record.status.as_str(), record.received_at);
    format!("{status}{}{error}, submitted {times}, first at {first}", reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn lines(facts: &[Value]) -> Vec<Line> {
        facts.iter().map(|facts| Line::read(&facts.to_string()).unwrap()).collect()
    }

    #[test]
    fn a_refused_request_has_a_path_without_a_message() {
        let refused = json!({
            "worker": "submit", "outcome": "BadRequest", "httpStatus": "400", "traceId": TRACE, "durationMs": 2.0,
            "time": "2026-11-21T07:21:07.120Z", "requestId": "r", "detail": "not valid UTF-8",
        });
        let mut of_another = refused.clone();
        of_another["traceId"] = json!("0".repeat(32));
        let lines = lines(&[of_another, refused]);
        let question = |source: Option<&str>| Question {
            given: Given::Trace(TRACE.parse().unwrap()),
            source: source.map(|it| it.parse().unwrap()),
            from: Timestamp::from_millis(0).unwrap(),
        };
        for source in [None, Some("west")] {
            assert_eq!(one(&lines, &question(source), TRACE).unwrap(), None);
            let path = refusal(&lines, &question(source), TRACE).unwrap();
            assert_eq!((path.message_id, path.steps.len()), (None, 1));
            let status = path.steps[0].http_status.as_deref();
            assert_eq!((path.steps[0].outcome.as_str(), status), ("BadRequest", Some("400")));
        }
        let nothing = refusal(&lines[..1], &question(None), TRACE).unwrap_err().to_string();
        assert!(nothing.contains("look further back with --from"), "{nothing}");
    }
}
