//! What the state `Hold` gets when one of the worker's calls fails, and what it leaves behind.

#![cfg(test)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use catalog::Catalog;
use domain::step::HoldAnswer;
use domain::{HeldCopy, HoldReason};
use hold::Keeper;
use runtime::StepError;
use serde_json::{Value, json};

const MINE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const ANOTHER: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";

/// As the state machine writes it.
fn request(payload: Value) -> Value {
    json!({
        "submissionId": MINE,
        "messageId": "0".repeat(64),
        "source": "general-hospital",
        "receivedAt": "2026-11-21T07:21:07.120Z",
        "subject": "jane",
        "issuer": "https://issuer",
        "payload": payload,
        "reason": "denied",
        "error": "Denied",
    })
}

fn inline() -> Value {
    request(json!({ "inline": "TVNIfA==", "charset": "windows-1252" }))
}

fn large() -> Value {
    request(json!({ "bucket": "overflow", "key": "k" }))
}

fn s3_refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>");
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

fn refusal(status: u16, code: &str, item: &Value) -> HttpResponse {
    let body = json!({ "__type": code, "message": "SECRET", "Item": item });
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

struct Aws {
    get: Rule,
    put: Rule,
    record: Rule,
    /// The objects that were put, and under which keys.
    put_objects: Arc<Mutex<Vec<String>>>,
}

impl Aws {
    fn healthy() -> Self {
        let put_objects: Arc<Mutex<Vec<String>>> = Arc::default();
        let puts = Arc::clone(&put_objects);
        let put = mock!(aws_sdk_s3::Client::put_object).then_compute_output(move |request| {
            let body = request.body().bytes().unwrap().to_vec();
            puts.lock().unwrap().push(format!("{} {}", request.key().unwrap(), String::from_utf8(body).unwrap()));
            PutObjectOutput::builder().version_id("v1").build()
        });
        let get = mock!(aws_sdk_s3::Client::get_object)
            .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(b"MSH|large")).build());
        let record = mock!(aws_sdk_dynamodb::Client::update_item).then_output(|| UpdateItemOutput::builder().build());
        Self { get, put, record, put_objects }
    }

    async fn hold(&self, event: Value) -> Result<HoldAnswer, StepError> {
        let no_retry = RetryConfig::disabled;
        let dynamodb = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [&self.record], |conf| conf.retry_config(no_retry()));
        let keeper = Keeper {
            catalog: Catalog::new(dynamodb, "catalog".to_owned()),
            s3: mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&self.get, &self.put], |conf| conf.retry_config(no_retry())),
            overflow_bucket: "overflow".to_owned(),
            held_bucket: "held".to_owned(),
            keep: Duration::from_secs(90 * 24 * 60 * 60),
        };
        let answer = keeper.answer(event).await;
        assert!(!format!("{answer:?}").contains("SECRET"), "{answer:?}");
        answer
    }
}

const HELD: Result<HoldAnswer, StepError> = Ok(HoldAnswer::Held { reason: HoldReason::Denied });

#[tokio::test]
async fn what_is_held_is_what_was_received_and_who_submitted_it() {
    for (event, bytes, charset) in [(inline(), "MSH|", "windows-1252"), (large(), "MSH|large", "UTF-8")] {
        let aws = Aws::healthy();
        assert_eq!(aws.hold(event).await, HELD);
        let objects = aws.put_objects.lock().unwrap();
        let (key, object) = objects[0].split_once(' ').unwrap();
        assert_eq!(key, format!("source=general-hospital/{}.json", "0".repeat(64)));
        let copy: HeldCopy = serde_json::from_str(object).unwrap();
        let received = copy.received().unwrap();
        assert_eq!((received.bytes(), received.charset().name()), (bytes.as_bytes(), charset));
        assert_eq!((copy.submission_id.to_string().as_str(), copy.submitter.subject.as_str()), (MINE, "jane"));
        assert_eq!(copy.until.as_seconds() - copy.since.as_seconds(), 90 * 24 * 60 * 60);
    }
}

#[tokio::test]
async fn a_message_that_is_held_again_keeps_its_first_submitter() {
    let aws = Aws::healthy();
    let mut event = inline();
    event["release"] = json!({
        "submissionId": ANOTHER, "receivedAt": "2026-11-20T07:21:07.120Z", "subject": "first", "issuer": "i", "reason": "expired",
    });
    assert_eq!(aws.hold(event).await, HELD);
    let objects = aws.put_objects.lock().unwrap();
    assert!(objects[0].contains(ANOTHER) && objects[0].contains("\"first\"") && !objects[0].contains("jane"), "{objects:?}");
}

#[tokio::test]
async fn a_failure_before_the_copy_records_nothing() {
    let put =
        |status, code: &'static str| mock!(aws_sdk_s3::Client::put_object).then_http_response(move || s3_refusal(status, code));
    let get =
        |status, code: &'static str| mock!(aws_sdk_s3::Client::get_object).then_http_response(move || s3_refusal(status, code));
    let cases = [
        (Aws { put: put(503, "SlowDown"), ..Aws::healthy() }, inline(), "Throttled"),
        (Aws { put: put(500, "InternalError"), ..Aws::healthy() }, inline(), "Unavailable"),
        (Aws { put: put(403, "AccessDenied"), ..Aws::healthy() }, inline(), "Misconfigured"),
        (Aws { get: get(500, "InternalError"), ..Aws::healthy() }, large(), "Unavailable"),
        (Aws { get: get(404, "NoSuchKey"), ..Aws::healthy() }, large(), "PayloadExpired"),
        (Aws::healthy(), request(json!({ "bucket": "another", "key": "k" })), "InvalidInput"),
        (Aws::healthy(), json!("SECRET"), "InvalidInput"),
    ];
    for (aws, event, name) in cases {
        assert_eq!((aws.hold(event).await.unwrap_err().name(), aws.record.num_calls()), (name, 0));
    }
}

#[tokio::test]
async fn a_lost_claim_changes_nothing() {
    for (status, claim) in [("stored", MINE), ("processing", ANOTHER)] {
        let mut item = json!({
            "source": { "S": "general-hospital" }, "message_id": { "S": "0".repeat(64) }, "status": { "S": status },
            "claim_submission": { "S": claim }, "received_at": { "S": "1970-01-01T00:00:00.000Z" },
        });
        if status == "stored" {
            for (name, value) in
                [("state", "parsed"), ("bucket", "lake"), ("key", "key"), ("stored_at", "1970-01-01T00:00:01.000Z")]
            {
                item[name] = json!({ "S": value });
            }
        }
        let record = mock!(aws_sdk_dynamodb::Client::update_item)
            .then_http_response(move || refusal(400, "ConditionalCheckFailedException", &item));
        let aws = Aws { record, ..Aws::healthy() };
        assert_eq!((aws.hold(inline()).await, aws.record.num_calls()), (Err(StepError::ClaimLost), 1), "{status}");
    }
    let record =
        mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(|| refusal(400, "ThrottlingException", &Value::Null));
    let aws = Aws { record, ..Aws::healthy() };
    assert_eq!(aws.hold(inline()).await.unwrap_err().name(), "Throttled");
}
