//! What comes of a batch when executions fail, or the calls around them do.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sfn::config::http::HttpResponse;
use aws_sdk_sfn::config::retry::RetryConfig;
use aws_sdk_sfn::operation::start_sync_execution::StartSyncExecutionInput;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityOutput;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_smithy_mocks::{MockResponse, Rule, RuleMode, mock, mock_client};
use dispatch::{Dispatch, Executions};
use domain::Timestamp;
use runtime::StepError;
use serde_json::{Value, json};

const RETRY_BASE: Duration = Duration::from_secs(10);
const MAX_RECEIVES: u32 = 100;
const RETRY_TIME: Duration = Duration::from_secs(3 * 60 * 60);
const QUEUE: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/queue";
const DEAD_LETTERS: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/dead-letters";

/// The message `name` of a batch, received for the `receives`-th time. Its name is its id, and its `subject`.
fn message(name: &str, receives: u32) -> Value {
    record(name, receives, &envelope(name, runtime::now()).to_string())
}

fn envelope(name: &str, received_at: Timestamp) -> Value {
    json!({
        "v": 1,
        "submissionId": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "messageId": "0".repeat(64),
        "source": "general-hospital",
        "receivedAt": received_at,
        "subject": name,
        "issuer": "issuer",
        "token": "c2VhbGVk",
        "payload": { "inline": "TVNI" },
    })
}

fn record(name: &str, receives: u32, body: &str) -> Value {
    json!({
        "messageId": name,
        "receiptHandle": format!("receipt of {name}"),
        "body": body,
        "attributes": { "ApproximateReceiveCount": receives.to_string() },
        "eventSource": "aws:sqs",
    })
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": "SECRET" }))
}

/// An execution that ended so; `rest` holds `output`, `error` or `cause`.
fn ended(status: &str, mut rest: Value) -> HttpResponse {
    rest["executionArn"] = json!("arn:aws:states:eu-central-1:123456789012:express:ingest:x:y");
    rest["startDate"] = json!(1.0);
    rest["stopDate"] = json!(2.0);
    rest["status"] = json!(status);
    answered(200, &rest)
}

fn succeeded(output: &str) -> HttpResponse {
    ended("SUCCEEDED", json!({ "output": output }))
}

/// The answer to StartSyncExecution for the message of that name.
fn execution_of(name: &str) -> HttpResponse {
    match name {
        "stored" => succeeded(r#"{"outcome":"stored","messageId":"0","submissionId":"1"}"#),
        "held" => succeeded(r#"{"outcome":"held"}"#),
        "abandoned" => succeeded(r#"{"outcome":"failed"}"#),
        "in-progress" => succeeded(r#"{"outcome":"in-progress","retryAfterSeconds":145}"#),
        "failed" => ended("FAILED", json!({ "error": "InvalidInput", "cause": "SECRET" })),
        "outage" => ended("FAILED", json!({ "error": "Unavailable", "cause": "SECRET" })),
        "deployment" => ended("FAILED", json!({ "error": "Misconfigured", "cause": "SECRET" })),
        "failed-namelessly" => ended("FAILED", json!({})),
        "timed-out" => ended("TIMED_OUT", json!({ "error": "States.Timeout" })),
        "garbage" => succeeded("SECRET"),
        "empty" => succeeded("{}"),
        "silent" => ended("SUCCEEDED", json!({})),
        "new-status" => ended("PAUSED", json!({ "output": r#"{"outcome":"stored"}"# })),
        "throttled" => refusal(400, "ThrottlingException"),
        "unavailable" => refusal(500, "InternalServerException"),
        "misconfigured" => refusal(400, "AccessDeniedException"),
        "unreadable" => HttpResponse::new(200.try_into().unwrap(), "SECRET".into()),
        other => panic!("no execution is expected of `{other}`"),
    }
}

struct Aws {
    start: Rule,
    hide: Rule,
    started: Arc<Mutex<Vec<StartSyncExecutionInput>>>,
    /// Seconds by receipt handle.
    hidden: Arc<Mutex<BTreeMap<String, i32>>>,
    send: Rule,
    /// Queue, body and delay in seconds of what was sent.
    sent: Arc<Mutex<Vec<(String, Value, i32)>>>,
}

impl Aws {
    fn new() -> Self {
        let (started, hidden) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(BTreeMap::new())));
        let (starts, hides) = (Arc::clone(&started), Arc::clone(&hidden));
        let start = mock!(aws_sdk_sfn::Client::start_sync_execution).then_compute_response(move |request| {
            starts.lock().unwrap().push(request.clone());
            let input: Value = serde_json::from_str(request.input().unwrap()).unwrap();
            MockResponse::Http(execution_of(input["subject"].as_str().unwrap()))
        });
        let hide = mock!(aws_sdk_sqs::Client::change_message_visibility).then_compute_output(move |request| {
            let receipt_handle = request.receipt_handle().unwrap().to_owned();
            assert!(hides.lock().unwrap().insert(receipt_handle, request.visibility_timeout().unwrap()).is_none());
            ChangeMessageVisibilityOutput::builder().build()
        });
        let sent = Arc::new(Mutex::new(Vec::new()));
        let sends = Arc::clone(&sent);
        let send = mock!(aws_sdk_sqs::Client::send_message).then_compute_output(move |request| {
            let group = Some("general-hospital").filter(|_| request.queue_url() == Some(QUEUE));
            assert_eq!(request.message_group_id(), group, "the institute's group");
            let body = request.message_body().unwrap();
            let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
            sends.lock().unwrap().push((request.queue_url().unwrap().to_owned(), body, request.delay_seconds().unwrap()));
            SendMessageOutput::builder().build()
        });
        Self { start, hide, started, hidden, send, sent }
    }

    /// Handles a batch; gives the ids named as failed.
    async fn batch(&self, messages: &[Value]) -> Result<Vec<String>, StepError> {
        let no_retry = RetryConfig::disabled;
        let sfn = || mock_client!(aws_sdk_sfn, RuleMode::MatchAny, [&self.start], |conf| conf.retry_config(no_retry()));
        let state_machine_arn = "arn:aws:states:eu-central-1:123456789012:stateMachine:ingest".to_owned();
        let dispatch = Dispatch {
            executions: Executions { client: sfn(), unpooled: sfn(), state_machine_arn },
            sqs: mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&self.hide, &self.send], |conf| conf.retry_config(no_retry())),
            queue_url: QUEUE.to_owned(),
            dead_letter_queue_url: DEAD_LETTERS.to_owned(),
            retry_base: RETRY_BASE,
            retry_time: RETRY_TIME,
            max_receives: MAX_RECEIVES,
        };
        let response = dispatch.batch(json!({ "Records": messages })).await?;
        Ok(response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
    }

    fn hidden_for(&self, name: &str) -> Option<i32> {
        self.hidden.lock().unwrap().get(&format!("receipt of {name}")).copied()
    }
}

#[tokio::test]
async fn only_unfinished_messages_are_named_to_sqs() {
    let names = ["stored", "outage", "held", "timed-out", "throttled", "unavailable", "misconfigured", "in-progress"];
    let aws = Aws::new();
    let mut batch: Vec<Value> = names.iter().map(|name| message(name, 1)).collect();
    batch.push(record("no-envelope", 1, "SECRET"));
    let named = aws.batch(&batch).await.unwrap();

    let done = ["stored", "held"];
    let expected: Vec<&str> = names.into_iter().filter(|name| !done.contains(name)).collect();
    assert_eq!(named, expected);
    assert_eq!(aws.start.num_calls(), names.len(), "one execution each, none for what is no envelope");
    assert_eq!(aws.hide.num_calls(), expected.len(), "what is done is left to SQS to delete");
    for name in done {
        assert_eq!(aws.hidden_for(name), None, "{name}");
    }
}

/// How often a message may have been received before a try. Its tries are counted in the envelope, and so these change nothing.
const RECEIVES: [u32; 3] = [1, 7, MAX_RECEIVES - 1];

/// What is in the envelope that a failed try leaves in the queue, and after how many seconds it is tried again.
async fn left_by(name: &str, receives: u32, envelope: Value) -> (Value, i32) {
    let aws = Aws::new();
    assert!(aws.batch(&[record(name, receives, &envelope.to_string())]).await.unwrap().is_empty(), "its place is taken");
    let sent = aws.sent.lock().unwrap();
    let [(queue, left, delay)] = sent.as_slice() else { panic!("{sent:?}") };
    let mut expected = envelope;
    expected["tries"] = left["tries"].clone();
    expected["hold"] = left["hold"].clone();
    let mut left = left.clone();
    left["hold"] = left["hold"].take();
    left["tries"] = left["tries"].take();
    assert_eq!((queue.as_str(), &left), (QUEUE, &expected), "else it is as it was");
    (left, *delay)
}

#[tokio::test]
async fn an_execution_whose_end_is_not_understood_takes_a_try() {
    for name in ["failed", "failed-namelessly", "garbage", "empty", "silent", "new-status"] {
        for receives in RECEIVES {
            let (left, delay) = left_by(name, receives, envelope(name, runtime::now())).await;
            assert_eq!((&left["tries"], delay), (&json!(1), 10), "{name} after receive {receives}");
        }
    }
}

#[tokio::test]
async fn a_failed_message_is_tried_five_times_with_growing_delay_and_then_held() {
    for receives in RECEIVES {
        let mut envelope = envelope("failed", runtime::now());
        for (tries, seconds) in [(1, 10), (2, 20), (3, 40), (4, 80)] {
            let (left, delay) = left_by("failed", receives, envelope).await;
            let expected = (&json!(tries), &Value::Null, seconds);
            assert_eq!((&left["tries"], &left["hold"], delay), expected, "after receive {receives}");
            envelope = left;
        }
        let (left, delay) = left_by("failed", receives, envelope).await;
        let hold = json!({ "reason": "failed", "error": "InvalidInput" });
        assert_eq!((&left["hold"], delay), (&hold, 0), "after receive {receives}");
    }
}

#[tokio::test]
async fn an_outage_takes_no_try_and_is_waited_for_with_full_jitter() {
    for name in ["outage", "deployment", "timed-out", "throttled", "unavailable", "misconfigured", "unreadable"] {
        for (receives, most) in [(1, 10), (4, 80), (5, 160), (9, 900), (99, 900)] {
            let aws = Aws::new();
            assert_eq!(aws.batch(&[message(name, receives)]).await.unwrap(), [name]);
            let seconds = aws.hidden_for(name).unwrap();
            assert!((1..=most).contains(&seconds), "`{name}` after receive {receives}: {seconds}");
            assert!(aws.sent.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_message_is_held_when_an_outage_lasts_longer_than_it_is_waited_for() {
    let now = runtime::now().as_millis();
    let since = |hours: i64| Timestamp::from_millis(now - hours * 3_600_000 - 1000).unwrap();
    for (name, reason, error) in
        [("outage", "failed", "Unavailable"), ("deployment", "deployment", "Misconfigured"), ("throttled", "failed", "Throttled")]
    {
        let aws = Aws::new();
        let fresh = record(name, 5, &envelope(name, since(2)).to_string());
        // It has waited for hours, and this is its first try.
        let late = record("late", 1, &envelope(name, since(9)).to_string());
        let over = record("over", 5, &envelope(name, since(3)).to_string());
        assert_eq!(aws.batch(&[fresh, late, over]).await.unwrap(), [name, "late"]);
        let sent = aws.sent.lock().unwrap();
        assert_eq!((&sent[0].1["hold"], sent[0].2), (&json!({ "reason": reason, "error": error }), 0));
    }
}

#[tokio::test]
async fn a_hold_is_tried_until_it_succeeds() {
    for name in ["failed", "outage", "timed-out", "throttled"] {
        let mut envelope = envelope(name, Timestamp::from_millis(0).unwrap());
        envelope["tries"] = json!(4);
        envelope["hold"] = json!({ "reason": "failed", "error": "InvalidInput" });
        let aws = Aws::new();
        assert_eq!(aws.batch(&[record(name, 50, &envelope.to_string())]).await.unwrap(), [name]);
        assert!((1..=900).contains(&aws.hidden_for(name).unwrap()));
        let started = aws.started.lock().unwrap();
        assert_eq!(serde_json::from_str::<Value>(started[0].input().unwrap()).unwrap(), envelope);
    }
}

#[tokio::test]
async fn a_message_that_waits_for_another_submission_never_becomes_a_dead_letter() {
    for (receives, seconds) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 145), (99, 145)] {
        let aws = Aws::new();
        assert_eq!(aws.batch(&[message("in-progress", receives)]).await.unwrap(), ["in-progress"]);
        assert_eq!(aws.hidden_for("in-progress"), Some(seconds), "after receive {receives}");
    }
    // Before SQS would move it, it is queued anew, to come when the other's lease is over; this copy is done.
    for (name, most) in [("in-progress", 145), ("outage", 900)] {
        let aws = Aws::new();
        let last = message(name, MAX_RECEIVES);
        assert!(aws.batch(std::slice::from_ref(&last)).await.unwrap().is_empty());
        let sent = aws.sent.lock().unwrap();
        assert_eq!(
            (sent[0].0.as_str(), sent[0].1.to_string()),
            (QUEUE, serde_json::from_str::<Value>(last["body"].as_str().unwrap()).unwrap().to_string())
        );
        assert!((1..=most).contains(&sent[0].2), "{}", sent[0].2);
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_stays_where_it_is() {
    let send = || mock!(aws_sdk_sqs::Client::send_message).then_http_response(|| refusal(400, "AccessDenied"));
    for (message, seconds) in [
        (message("in-progress", MAX_RECEIVES), 145),
        (message("failed", 1), 10),
        (message("abandoned", 1), 10),
        (record("no-envelope", 1, ""), 10),
    ] {
        let aws = Aws { send: send(), ..Aws::new() };
        let name = message["messageId"].as_str().unwrap().to_owned();
        assert_eq!(aws.batch(&[message]).await.unwrap(), [name.as_str()]);
        assert_eq!(aws.hidden_for(&name), Some(seconds), "{name}");
    }
}

#[tokio::test]
async fn an_invalid_envelope_and_one_that_cannot_be_held_become_dead_letters_unchanged() {
    let unknown_version = message("stored", 1)["body"].as_str().unwrap().replace(r#""v":1"#, r#""v":2"#);
    let abandoned = envelope("abandoned", runtime::now()).to_string();
    for body in ["", "SECRET", "{}", &unknown_version, &abandoned] {
        let aws = Aws::new();
        let mut bad = record("bad", 1, body);
        bad["messageAttributes"] = json!({ "test": { "stringValue": "1", "dataType": "String" } });
        assert!(aws.batch(&[bad, message("stored", 1)]).await.unwrap().is_empty(), "its neighbor is unharmed");
        let sent = aws.sent.lock().unwrap();
        let text = sent[0].1.as_str().map_or_else(|| sent[0].1.to_string(), str::to_owned);
        let same = serde_json::from_str::<Value>(&text).ok() == serde_json::from_str(body).ok();
        assert!(sent.len() == 1 && sent[0].0 == DEAD_LETTERS && sent[0].2 == 0 && same, "{sent:?}");
    }
}

#[tokio::test]
async fn the_execution_gets_the_envelope_as_it_lay_in_the_queue() {
    let aws = Aws::new();
    let batch = [message("stored", 7)];
    aws.batch(&batch).await.unwrap();
    let started = aws.started.lock().unwrap();
    let input: Value = serde_json::from_str(started[0].input().unwrap()).unwrap();
    assert_eq!(input, serde_json::from_str::<Value>(batch[0]["body"].as_str().unwrap()).unwrap());
    assert_eq!(started[0].name(), Some("01ARZ3NDEKTSV4RRFFQ69G5FAV-000000000000-0-7"));
}

#[tokio::test]
async fn each_message_of_one_submission_has_an_execution_of_its_own_name() {
    let aws = Aws::new();
    let other = message("stored", u32::MAX)["body"].as_str().unwrap().replace(&"0".repeat(64), &"f".repeat(64));
    aws.batch(&[message("stored", u32::MAX), record("other", u32::MAX, &other)]).await.unwrap();
    let started = aws.started.lock().unwrap();
    let names: BTreeSet<_> = started.iter().map(|it| it.name().unwrap()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.len() <= 80), "{names:?}");
}

#[tokio::test]
async fn a_message_that_cannot_be_hidden_is_named_nonetheless() {
    for (status, code) in
        [(400, "RequestThrottled"), (400, "MessageNotInflight"), (403, "AccessDenied"), (500, "InternalFailure")]
    {
        let hide = mock!(aws_sdk_sqs::Client::change_message_visibility).then_http_response(move || refusal(status, code));
        let aws = Aws { hide, ..Aws::new() };
        let batch = [message("outage", 1), message("stored", 1), message("in-progress", 1)];
        assert_eq!(aws.batch(&batch).await.unwrap(), ["outage", "in-progress"], "{code}");
        assert_eq!((aws.start.num_calls(), aws.hide.num_calls()), (3, 2));
    }
}

#[tokio::test]
async fn a_message_without_an_id_fails_the_batch() {
    let mut nameless = message("stored", 1);
    nameless.as_object_mut().unwrap().remove("messageId");
    let answer = Aws::new().batch(&[message("stored", 1), nameless]).await;
    assert_eq!(answer, Err(StepError::InvalidInput { what: "an SQS message without an id" }));
}

#[tokio::test]
async fn a_message_without_a_receive_count_counts_as_received_once() {
    let mut uncounted = message("in-progress", 5);
    uncounted["attributes"] = json!({});
    let aws = Aws::new();
    assert_eq!(aws.batch(&[uncounted]).await.unwrap(), ["in-progress"]);
    assert_eq!(aws.hidden_for("in-progress"), Some(10));
}

#[tokio::test]
async fn an_event_that_is_no_batch_starts_nothing() {
    let aws = Aws::new();
    assert_eq!(aws.batch(&[json!("SECRET")]).await, Err(StepError::InvalidInput { what: "an SQS event" }));
    assert_eq!((aws.start.num_calls(), aws.batch(&[]).await), (0, Ok(vec![])));
}
