//! What is sent to the topic, and what comes of a topic that fails.

#![cfg(test)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sns::config::http::HttpResponse;
use aws_sdk_sns::config::retry::RetryConfig;
use aws_sdk_sns::operation::publish::{PublishInput, PublishOutput};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use publish::Published;
use runtime::StepError;
use serde_json::{Value, json};

const PUBLISH: &str = "sns:Publish";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:events";
const SUBMISSION: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const EVENT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV.0000000000000000000000000000000000000000000000000000000000000000.stored";

/// What the state `Publish` passes for a stored message.
fn stored() -> Value {
    json!({
        "type": "stored",
        "submissionId": SUBMISSION,
        "messageId": "0".repeat(64),
        "source": "general-hospital",
        "receivedAt": "2026-11-21T07:21:07.120Z",
        "stored": {
            "state": "parsed",
            "bucket": "lake",
            "key": "source=general-hospital/x.hl7",
            "versionId": "v1",
            "receivedAt": "2026-11-21T07:21:07.120Z",
            "storedAt": "2026-11-21T07:21:08.000Z",
            "summary": { "messageType": "ADT", "triggerEvent": "A01", "hl7Version": "2.5.1", "controlId": "7" },
        },
    })
}

fn held() -> Value {
    json!({
        "type": "held",
        "reason": "denied",
        "error": "Denied",
        "submissionId": SUBMISSION,
        "messageId": "0".repeat(64),
        "source": "general-hospital",
        "receivedAt": "2026-11-21T07:21:07.120Z",
    })
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>SECRET</Message></Error>");
    let body = format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>");
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

fn refused(status: u16, code: &'static str) -> Rule {
    mock!(aws_sdk_sns::Client::publish).then_http_response(move || refusal(status, code))
}

/// A topic that takes everything, and what it took.
fn taken() -> (Rule, Arc<Mutex<Vec<PublishInput>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let took = Arc::clone(&taken);
    let rule = mock!(aws_sdk_sns::Client::publish).then_compute_output(move |request| {
        took.lock().unwrap().push(request.clone());
        PublishOutput::builder().message_id("m").build()
    });
    (rule, taken)
}

async fn publish(rule: &Rule, retry: RetryConfig, event: Value) -> Result<Published, StepError> {
    let sns = mock_client!(aws_sdk_sns, RuleMode::MatchAny, [rule], |conf| conf.retry_config(retry.clone()));
    let published = publish::publish(&sns, TOPIC, event).await;
    if let Err(error) = &published {
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    published
}

/// Attribute names and values of a request, sorted; all of them are strings.
fn attributes(request: &PublishInput) -> Vec<(&str, &str)> {
    let attributes = request.message_attributes().unwrap();
    assert!(attributes.values().all(|it| it.data_type() == "String"));
    let mut attributes: Vec<_> = attributes.iter().map(|(name, value)| (name.as_str(), value.string_value().unwrap())).collect();
    attributes.sort_unstable();
    attributes
}

#[tokio::test]
async fn a_stored_message_is_announced_with_a_pointer_and_attributes_to_filter_by() {
    let (rule, taken) = taken();
    let published = publish(&rule, RetryConfig::disabled(), stored()).await.unwrap();
    assert_eq!(published.event_id, EVENT);

    let taken = taken.lock().unwrap();
    assert_eq!((taken.len(), taken[0].topic_arn()), (1, Some(TOPIC)));
    assert_eq!(
        attributes(&taken[0]),
        [
            ("event", "stored"),
            ("format", "er7"),
            ("hl7_version", "2.5.1"),
            ("message_type", "ADT"),
            ("protocol", "hl7v2"),
            ("source", "general-hospital"),
            ("state", "parsed"),
            ("trigger_event", "A01"),
        ]
    );
    let body: Value = serde_json::from_str(taken[0].message().unwrap()).unwrap();
    assert_eq!(
        body,
        json!({
            "specversion": "1.0",
            "id": EVENT,
            "source": "sluice/general-hospital",
            "type": "stored",
            "subject": "0".repeat(64),
            "time": "2026-11-21T07:21:08.000Z",
            "datacontenttype": "application/json",
            "data": {
                "messageId": "0".repeat(64),
                "submissionId": SUBMISSION,
                "source": "general-hospital",
                "receivedAt": "2026-11-21T07:21:07.120Z",
                "storedAt": "2026-11-21T07:21:08.000Z",
                "state": "parsed",
                "bucket": "lake",
                "key": "source=general-hospital/x.hl7",
                "versionId": "v1",
                "summary": { "messageType": "ADT", "triggerEvent": "A01", "hl7Version": "2.5.1", "controlId": "7" },
            },
        })
    );
}

#[tokio::test]
async fn a_held_message_is_announced_without_empty_attributes() {
    let (rule, taken) = taken();
    publish(&rule, RetryConfig::disabled(), held()).await.unwrap();
    let taken = taken.lock().unwrap();
    let expected =
        [("event", "held"), ("format", "er7"), ("protocol", "hl7v2"), ("reason", "denied"), ("source", "general-hospital")];
    assert_eq!(attributes(&taken[0]), expected);
    let body: Value = serde_json::from_str(taken[0].message().unwrap()).unwrap();
    assert_eq!(body["data"]["error"], json!({ "code": "Denied" }));
}

#[tokio::test]
async fn a_repeated_step_sends_the_same_event() {
    let (rule, taken) = taken();
    for _ in 0..2 {
        publish(&rule, RetryConfig::disabled(), stored()).await.unwrap();
    }
    let taken = taken.lock().unwrap();
    assert_eq!(taken[0], taken[1]);
}

#[tokio::test]
async fn a_throttled_topic_is_tried_again_by_the_sdk() {
    let rule = mock!(aws_sdk_sns::Client::publish)
        .sequence()
        .http_response(|| refusal(400, "Throttling"))
        .times(2)
        .output(|| PublishOutput::builder().message_id("m").build())
        .build();
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    assert_eq!(publish(&rule, retry, stored()).await.unwrap().event_id, EVENT);
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn a_topic_that_stays_throttled_is_throttled() {
    for (status, code) in [(400, "Throttling"), (429, "Throttled"), (400, "KMSThrottling")] {
        let published = publish(&refused(status, code), RetryConfig::disabled(), stored()).await;
        assert_eq!(published, Err(StepError::Throttled { operation: PUBLISH }), "{code}");
    }
}

#[tokio::test]
async fn an_unavailable_topic_may_be_tried_again() {
    for (status, code) in [(500, "InternalError"), (503, "ServiceUnavailable")] {
        let published = publish(&refused(status, code), RetryConfig::disabled(), stored()).await;
        assert_eq!(published, Err(StepError::Unavailable { operation: PUBLISH }), "{code}");
    }
}

#[tokio::test]
async fn a_worker_that_may_not_publish_is_a_fault_of_the_deployment() {
    for (status, code) in [(403, "AccessDenied"), (403, "AuthorizationError"), (400, "KMSAccessDenied"), (404, "NotFound")] {
        let published = publish(&refused(status, code), RetryConfig::disabled(), stored()).await;
        assert_eq!(published, Err(StepError::Misconfigured { operation: PUBLISH, code: code.to_owned() }));
    }
}

#[tokio::test]
async fn an_invalid_outcome_is_not_announced() {
    let (rule, _) = taken();
    for event in [json!(null), json!({ "type": "SECRET" }), json!({ "type": "stored" })] {
        let published = publish(&rule, RetryConfig::disabled(), event).await;
        assert_eq!(published, Err(StepError::InvalidInput { what: "an outcome" }));
    }
    assert_eq!(rule.num_calls(), 0);
}
