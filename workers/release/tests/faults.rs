//! What a caller is answered when one of the calls of a release fails, and that the message is held again then.

#![cfg(test)]

use std::sync::{Arc, Mutex};

use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::update_item::UpdateItemInput;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_smithy_mocks::{MockResponse, Rule, RuleMode, mock, mock_client};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catalog::Catalog;
use domain::{Envelope, Er7, MessageId};
use release::Releaser;
use seal::Sealer;
use serde_json::{Value, json};

const FIRST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const ER7: &str = "MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||DOE\r";

fn message_id() -> MessageId {
    Er7::canonical(ER7).unwrap().message_id()
}

fn request(message_id: Option<&str>, write: &str) -> Value {
    json!({
        "headers": { "authorization": "a.b.c" },
        "pathParameters": message_id.map(|id| json!({ "messageId": id })).unwrap_or(json!({})),
        "requestContext": {
            "domainName": "api.example",
            "http": { "method": "POST" },
            "authorizer": { "lambda": { "provider": "p", "issuer": "i", "subject": "releaser", "write": write } },
        },
    })
}

fn one() -> Value {
    request(Some(message_id().as_str()), "general-hospital")
}

fn copy() -> Value {
    json!({
        "v": 1, "submissionId": FIRST, "messageId": message_id(), "source": "general-hospital", "receivedAt": "2026-11-21T07:21:07.120Z",
        "subject": "jane", "issuer": "i", "reason": "expired", "error": "TokenExpired", "since": "2026-11-21T07:21:08.120Z",
        "until": "2027-02-19T07:21:08.120Z", "payload": BASE64_STANDARD.encode(ER7),
    })
}

/// The record, as it is once the release is recorded.
fn item(status: &str) -> Value {
    let mut item = json!({ "held_version_id": { "S": "v1" } });
    for (name, value) in [
        ("source", "general-hospital"),
        ("message_id", message_id().as_str()),
        ("status", status),
        ("received_at", "2026-11-21T07:21:07.120Z"),
        ("held_reason", "expired"),
        ("held_since", "2026-11-21T07:21:08.120Z"),
        ("held_until", "2027-02-19T07:21:08.120Z"),
        ("held_key", "source=general-hospital/x.json"),
    ] {
        item[name] = json!({ "S": value });
    }
    item
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": "SECRET" }))
}

fn s3_refusal(status: u16, code: &str) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>").into())
}

fn holding(copy: &Value) -> Rule {
    let copy = copy.to_string();
    mock!(aws_sdk_s3::Client::get_object)
        .match_requests(|get| get.bucket() == Some("held") && get.version_id() == Some("v1"))
        .then_output(move || GetObjectOutput::builder().body(ByteStream::from(copy.clone().into_bytes())).build())
}

struct Aws {
    record: Rule,
    query: Rule,
    seal: Rule,
    get: Rule,
    put: Rule,
    send: Rule,
    /// What was written to the catalog.
    updates: Arc<Mutex<Vec<UpdateItemInput>>>,
    /// What was queued.
    sent: Arc<Mutex<Vec<Envelope>>>,
}

impl Aws {
    fn healthy() -> Self {
        let updates: Arc<Mutex<Vec<UpdateItemInput>>> = Arc::default();
        let sent: Arc<Mutex<Vec<Envelope>>> = Arc::default();
        let (wrote, sends) = (Arc::clone(&updates), Arc::clone(&sent));
        let record = mock!(aws_sdk_dynamodb::Client::update_item).then_compute_response(move |update| {
            wrote.lock().unwrap().push(update.clone());
            MockResponse::Http(answered(200, &json!({ "Attributes": item("queued") })))
        });
        let send = mock!(aws_sdk_sqs::Client::send_message).then_compute_output(move |request| {
            assert_eq!(request.message_group_id(), Some("general-hospital"), "the institute's group");
            sends.lock().unwrap().push(Envelope::from_json(request.message_body().unwrap()).unwrap());
            SendMessageOutput::builder().build()
        });
        Self {
            record,
            query: mock!(aws_sdk_dynamodb::Client::query).then_output(|| QueryOutput::builder().build()),
            seal: mock!(aws_sdk_kms::Client::generate_data_key).then_output(|| {
                GenerateDataKeyOutput::builder().plaintext(Blob::new([7; 32])).ciphertext_blob(Blob::new("wrapped")).build()
            }),
            get: holding(&copy()),
            put: mock!(aws_sdk_s3::Client::put_object).then_output(|| PutObjectOutput::builder().build()),
            send,
            updates,
            sent,
        }
    }

    async fn ask(&self, event: Value) -> (i64, Value, Option<String>) {
        let no_retry = RetryConfig::disabled;
        let dynamodb =
            mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [&self.record, &self.query], |conf| conf.retry_config(no_retry()));
        let releaser = Releaser {
            catalog: Catalog::new(dynamodb, "catalog".to_owned()),
            s3: mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&self.get, &self.put], |conf| conf.retry_config(no_retry())),
            held_bucket: "held".to_owned(),
            overflow_bucket: "overflow".to_owned(),
            sealer: Sealer::new(
                mock_client!(aws_sdk_kms, RuleMode::MatchAny, [&self.seal], |conf| conf.retry_config(no_retry())),
                "key".to_owned(),
            ),
            sqs: mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&self.send], |conf| conf.retry_config(no_retry())),
            queue_url: "https://sqs/queue".to_owned(),
            public_url: String::new(),
        };
        let answer = releaser.answer(event).await.unwrap();
        let Some(Body::Text(body)) = answer.body else { panic!("no text") };
        assert!(!body.contains("SECRET") && !body.contains("DOE"), "{body}");
        let retry_after = answer.headers.get("retry-after").map(|it| it.to_str().unwrap().to_owned());
        (answer.status_code, serde_json::from_str(&body).unwrap(), retry_after)
    }

    /// The values that the last write to the catalog sets.
    fn last_write(&self) -> String {
        format!("{:?}", self.updates.lock().unwrap().last().unwrap().expression_attribute_values())
    }
}

#[tokio::test]
async fn a_released_message_is_queued_as_its_releasers_and_says_whose_it_was() {
    let aws = Aws::healthy();
    let (status, body, _) = aws.ask(one()).await;
    assert_eq!((status, &body["status"], &body["messageId"]), (202, &json!("queued"), &json!(message_id())));
    assert_eq!(body["statusUrl"], format!("https://api.example/er7/{}/status", message_id()));
    let sent = aws.sent.lock().unwrap();
    let [envelope] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(json!(envelope.submission_id), body["submissionId"]);
    let wrapped = format!("2.{}.", BASE64_STANDARD.encode("wrapped"));
    assert!(envelope.subject == "releaser" && envelope.token.starts_with(&wrapped), "{} {}", envelope.subject, envelope.token);
    let release = envelope.release.as_ref().unwrap();
    assert_eq!((release.submission_id.to_string().as_str(), release.submitter.subject.as_str()), (FIRST, "jane"));
    assert_eq!((aws.updates.lock().unwrap().len(), aws.put.num_calls()), (1, 0));
}

#[tokio::test]
async fn a_release_that_cannot_be_queued_is_taken_back() {
    let get =
        |status, code: &'static str| mock!(aws_sdk_s3::Client::get_object).then_http_response(move || s3_refusal(status, code));
    let send =
        |status, code: &'static str| mock!(aws_sdk_sqs::Client::send_message).then_http_response(move || refusal(status, code));
    let cases = [
        (Aws { get: get(503, "SlowDown"), ..Aws::healthy() }, 429, "", Some("2")),
        (Aws { get: get(500, "InternalError"), ..Aws::healthy() }, 503, "", Some("5")),
        (Aws { get: get(403, "AccessDenied"), ..Aws::healthy() }, 503, "", Some("60")),
        (Aws { get: get(404, "NoSuchVersion"), ..Aws::healthy() }, 410, "HeldCopyGone", None),
        (Aws { get: holding(&json!("SECRET")), ..Aws::healthy() }, 500, "HeldCopyDamaged", None),
        (Aws { send: send(400, "RequestThrottled"), ..Aws::healthy() }, 429, "", Some("2")),
        (Aws { send: send(500, "InternalError"), ..Aws::healthy() }, 503, "", Some("5")),
    ];
    for (aws, expected, code, retry_after) in cases {
        let (status, body, after) = aws.ask(one()).await;
        assert_eq!((status, after.as_deref()), (expected, retry_after), "{body}");
        assert_eq!((aws.updates.lock().unwrap().len(), aws.sent.lock().unwrap().len()), (2, 0), "{body}");
        let written = aws.last_write();
        assert!(
            written.contains("held") && written.contains(code) && written.contains("HeldCopy") != code.is_empty(),
            "{written}"
        );
    }
}

#[tokio::test]
async fn a_copy_that_is_not_the_message_is_not_queued() {
    let changes: [fn(&mut Value); 5] = [
        |copy| copy["payload"] = json!(BASE64_STANDARD.encode("MSH|another")),
        |copy| copy["payload"] = json!("no base64"),
        |copy| copy["messageId"] = json!("0".repeat(64)),
        |copy| copy["source"] = json!("another"),
        |copy| copy["v"] = json!(2),
    ];
    for change in changes {
        let mut damaged = copy();
        change(&mut damaged);
        let aws = Aws { get: holding(&damaged), ..Aws::healthy() };
        let (status, body, _) = aws.ask(one()).await;
        assert_eq!((status, &body["title"], aws.send.num_calls()), (500, &json!("Held copy damaged"), 0));
    }
}

#[tokio::test]
async fn a_message_that_is_not_held_is_not_read() {
    let refused = |body: Value| mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(move || answered(400, &body));
    let not_held = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item("queued") });
    let unknown = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET" });
    let throttled = json!({ "__type": "ThrottlingException", "message": "SECRET" });
    for (answer, expected) in [(not_held, 409), (unknown, 404), (throttled, 429)] {
        let aws = Aws { record: refused(answer), ..Aws::healthy() };
        assert_eq!(aws.ask(one()).await.0, expected);
        assert_eq!((aws.get.num_calls(), aws.send.num_calls(), aws.record.num_calls()), (0, 0, 1));
    }
    // It may be recorded: it is taken back.
    let record = mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(|| refusal(500, "InternalServerError"));
    let aws = Aws { record, ..Aws::healthy() };
    assert_eq!((aws.ask(one()).await.0, aws.send.num_calls(), aws.record.num_calls()), (503, 0, 2));
    let seal = mock!(aws_sdk_kms::Client::generate_data_key).then_http_response(|| refusal(500, "KMSInternalException"));
    let aws = Aws { seal, ..Aws::healthy() };
    assert_eq!((aws.ask(one()).await.0, aws.record.num_calls()), (503, 0), "without a token nothing is changed");
}

#[tokio::test]
async fn a_caller_without_the_right_and_an_invalid_id_cost_no_call() {
    let aws = Aws::healthy();
    assert_eq!(aws.ask(request(Some(message_id().as_str()), "")).await.0, 403);
    assert_eq!(aws.ask(request(None, "")).await.0, 403);
    assert_eq!(aws.ask(request(Some("SECRET"), "general-hospital")).await.0, 400);
    let mut bad = request(None, "general-hospital");
    bad["body"] = json!("{\"raeson\":\"SECRET\"}");
    assert_eq!(aws.ask(bad).await.0, 400);
    assert_eq!((aws.seal.num_calls(), aws.record.num_calls(), aws.query.num_calls()), (0, 0, 0));
}
