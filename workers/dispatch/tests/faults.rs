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
use dispatch::Dispatch;
use runtime::StepError;
use serde_json::{Value, json};

const RETRY_BASE: Duration = Duration::from_secs(10);

/// The message `name` of a batch, received for the `receives`-th time. Its name is its id, and its `subject`.
fn message(name: &str, receives: u32) -> Value {
    let envelope = json!({
        "v": 1,
        "submissionId": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "messageId": "0".repeat(64),
        "source": "general-hospital",
        "receivedAt": "2026-11-21T07:21:07.120Z",
        "subject": name,
        "issuer": "issuer",
        "token": "c2VhbGVk",
        "payload": { "inline": "TVNI" },
    });
    record(name, receives, &envelope.to_string())
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
        "denied" => succeeded(r#"{"outcome":"denied"}"#),
        "in-progress" => succeeded(r#"{"outcome":"in-progress","retryAfterSeconds":145}"#),
        "failed" => ended("FAILED", json!({ "error": "Unavailable", "cause": "SECRET" })),
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
    /// Body and delay in seconds of what was queued anew.
    sent: Arc<Mutex<Vec<(String, i32)>>>,
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
            sends.lock().unwrap().push((request.message_body().unwrap().to_owned(), request.delay_seconds().unwrap()));
            SendMessageOutput::builder().build()
        });
        Self { start, hide, started, hidden, send, sent }
    }

    /// Handles a batch; gives the ids named as failed.
    async fn batch(&self, messages: &[Value]) -> Result<Vec<String>, StepError> {
        let no_retry = RetryConfig::disabled;
        let dispatch = Dispatch {
            sfn: mock_client!(aws_sdk_sfn, RuleMode::MatchAny, [&self.start], |conf| conf.retry_config(no_retry())),
            sqs: mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&self.hide, &self.send], |conf| conf.retry_config(no_retry())),
            state_machine_arn: "arn:aws:states:eu-central-1:123456789012:stateMachine:ingest".to_owned(),
            queue_url: "https://sqs.eu-central-1.amazonaws.com/123456789012/queue".to_owned(),
            retry_base: RETRY_BASE,
            max_receives: 5,
        };
        let response = dispatch.batch(json!({ "Records": messages })).await?;
        Ok(response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
    }

    fn hidden_for(&self, name: &str) -> Option<i32> {
        self.hidden.lock().unwrap().get(&format!("receipt of {name}")).copied()
    }
}

#[tokio::test]
async fn only_the_messages_that_are_not_done_are_named() {
    let names =
        ["stored", "failed", "denied", "timed-out", "throttled", "garbage", "unavailable", "misconfigured", "in-progress"];
    let aws = Aws::new();
    let mut batch: Vec<Value> = names.iter().map(|name| message(name, 1)).collect();
    batch.push(record("no-envelope", 1, "SECRET"));
    let named = aws.batch(&batch).await.unwrap();

    let done = ["stored", "denied"];
    let expected: Vec<&str> = names.into_iter().filter(|name| !done.contains(name)).chain(["no-envelope"]).collect();
    assert_eq!(named, expected);
    assert_eq!(aws.start.num_calls(), names.len(), "one execution each, none for what is no envelope");
    assert_eq!(aws.hide.num_calls(), expected.len(), "what is done is left to SQS to delete");
    for name in done {
        assert_eq!(aws.hidden_for(name), None, "{name}");
    }
}

#[tokio::test]
async fn an_execution_whose_end_is_not_understood_is_a_failed_one() {
    let aws = Aws::new();
    for name in ["failed", "failed-namelessly", "timed-out", "garbage", "empty", "silent", "new-status", "unreadable"] {
        assert_eq!(aws.batch(&[message(name, 1)]).await.unwrap(), [name]);
        assert_eq!(aws.hidden_for(name), Some(10), "{name}");
    }
}

#[tokio::test]
async fn a_failed_message_comes_back_with_growing_delay() {
    for name in ["failed", "timed-out", "throttled", "unavailable"] {
        for (receives, seconds) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 0)] {
            let aws = Aws::new();
            assert_eq!(aws.batch(&[message(name, receives)]).await.unwrap(), [name]);
            assert_eq!(aws.hidden_for(name), Some(seconds), "`{name}` after receive {receives}");
        }
    }
}

#[tokio::test]
async fn a_message_that_waits_for_another_submission_never_becomes_a_dead_letter() {
    for (receives, seconds) in [(1, 10), (2, 20), (3, 40), (4, 80)] {
        let aws = Aws::new();
        assert_eq!(aws.batch(&[message("in-progress", receives)]).await.unwrap(), ["in-progress"]);
        assert_eq!(aws.hidden_for("in-progress"), Some(seconds), "after receive {receives}");
    }
    // Before SQS would move it, it is queued anew, to come when the other's lease is over; this copy is done.
    let aws = Aws::new();
    let last = message("in-progress", 5);
    assert!(aws.batch(std::slice::from_ref(&last)).await.unwrap().is_empty());
    assert_eq!(*aws.sent.lock().unwrap(), [(last["body"].as_str().unwrap().to_owned(), 145)]);
}

#[tokio::test]
async fn a_message_that_cannot_be_queued_anew_stays_where_it_is() {
    let send = mock!(aws_sdk_sqs::Client::send_message).then_http_response(|| refusal(400, "AccessDenied"));
    let aws = Aws { send, ..Aws::new() };
    assert_eq!(aws.batch(&[message("in-progress", 5)]).await.unwrap(), ["in-progress"]);
}

#[tokio::test]
async fn what_is_no_envelope_is_offered_again_at_once_and_starts_nothing() {
    let unknown_version = message("stored", 1)["body"].as_str().unwrap().replace(r#""v":1"#, r#""v":2"#);
    for body in ["", "SECRET", "{}", &unknown_version] {
        for receives in [1, 5] {
            let aws = Aws::new();
            let batch = [record("no-envelope", receives, body), message("stored", 1)];
            assert_eq!(aws.batch(&batch).await.unwrap(), ["no-envelope"], "its neighbour is unharmed");
            assert_eq!((aws.hidden_for("no-envelope"), aws.start.num_calls()), (Some(0), 1));
        }
    }
}

#[tokio::test]
async fn the_execution_knows_the_last_attempt() {
    for receives in 1..=6 {
        let aws = Aws::new();
        aws.batch(&[message("stored", receives)]).await.unwrap();
        let started = aws.started.lock().unwrap();
        let input: Value = serde_json::from_str(started[0].input().unwrap()).unwrap();
        assert_eq!(input["lastAttempt"], json!(receives >= 5), "receive {receives}");

        // The rest is the envelope as it lay in the queue.
        let mut envelope: Value = serde_json::from_str(message("stored", receives)["body"].as_str().unwrap()).unwrap();
        envelope["lastAttempt"] = input["lastAttempt"].clone();
        assert_eq!(input, envelope);
        assert_eq!(started[0].name(), Some(format!("01ARZ3NDEKTSV4RRFFQ69G5FAV-000000000000-{receives}").as_str()));
    }
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
        let batch = [message("failed", 1), message("stored", 1), message("in-progress", 1), record("no-envelope", 1, "")];
        assert_eq!(aws.batch(&batch).await.unwrap(), ["failed", "in-progress", "no-envelope"], "{code}");
        assert_eq!((aws.start.num_calls(), aws.hide.num_calls()), (3, 3));
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
    let mut uncounted = message("failed", 5);
    uncounted["attributes"] = json!({});
    let aws = Aws::new();
    assert_eq!(aws.batch(&[uncounted]).await.unwrap(), ["failed"]);
    assert_eq!(aws.hidden_for("failed"), Some(10));
}

#[tokio::test]
async fn what_is_no_batch_starts_nothing() {
    let aws = Aws::new();
    assert_eq!(aws.batch(&[json!("SECRET")]).await, Err(StepError::InvalidInput { what: "an SQS event" }));
    assert_eq!((aws.start.num_calls(), aws.batch(&[]).await), (0, Ok(vec![])));
}
