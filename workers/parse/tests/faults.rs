//! What `Parse` says of an overflow bucket that fails, and of a payload that is not the message it is said to be.

#![cfg(test)]

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use domain::step::Parsed;
use domain::{Charset, Er7, Payload, Received, State};
use runtime::StepError;
use serde_json::{Value, json};

const ER7: &str = "MSH|^~\\&|A|B|||||ADT^A01|SECRET\r";
const GET_OBJECT: &str = "s3:GetObject";

fn request(message_id: &str, payload: &Value) -> Value {
    json!({
        "submissionId": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "messageId": message_id,
        "source": "general-hospital",
        "payload": payload,
    })
}

async fn parse(rule: &Rule, event: Value) -> Result<Parsed, StepError> {
    let s3 = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [rule], |conf| conf.retry_config(RetryConfig::disabled()));
    let parsed = parse::answer(&s3, "overflow", event).await;
    if let Err(error) = &parsed {
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    parsed
}

/// Parses [`ER7`], which lies in the overflow bucket.
async fn parse_overflow(rule: &Rule) -> Result<Parsed, StepError> {
    let pointer = json!({ "bucket": "overflow", "key": "general-hospital/01ARZ3NDEKTSV4RRFFQ69G5FAV/x.hl7" });
    parse(rule, request(&id(ER7), &pointer)).await
}

fn id(message: &str) -> String {
    Er7::canonical(message).unwrap().message_id().to_string()
}

fn refused(status: u16, code: &'static str) -> Rule {
    mock!(aws_sdk_s3::Client::get_object).then_http_response(move || {
        let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message><Key>SECRET</Key></Error>");
        HttpResponse::new(status.try_into().unwrap(), body.into())
    })
}

fn found(body: &'static [u8]) -> Rule {
    mock!(aws_sdk_s3::Client::get_object)
        .match_requests(|request| request.bucket() == Some("overflow"))
        .then_output(move || GetObjectOutput::builder().body(ByteStream::from_static(body)).build())
}

#[tokio::test]
async fn a_message_is_read_from_the_overflow_bucket() {
    let rule = found(ER7.as_bytes());
    assert_eq!(parse_overflow(&rule).await.unwrap().state, State::Parsed);
    assert_eq!(rule.num_calls(), 1);
}

#[tokio::test]
async fn a_message_is_read_in_its_character_set_whatever_stands_around_it() {
    const TEXT: &str = "MSH|^~\\&|A|B|||||ADT^A01|M\u{fc}LLER\r";
    const LATIN_1: &[u8] = b"\x0bMSH|^~\\&|A|B|||||ADT^A01|M\xfcLLER\r\n\x1c\r";
    let rule = found(LATIN_1);
    let latin_1 = Charset::for_label("iso-8859-1").unwrap();
    let inline = json!(Payload::inline(&Received::new(LATIN_1.to_vec(), latin_1)));
    let overflow = |charset: &str| json!({ "bucket": "overflow", "key": "k", "charset": charset });
    for payload in [inline, overflow("windows-1252"), overflow("ISO-8859-1")] {
        let parsed = parse(&rule, request(&id(TEXT), &payload)).await.unwrap();
        assert_eq!(parsed.summary.control_id.as_deref(), Some("M\u{fc}LLER"), "{payload}");
    }
    assert_eq!(rule.num_calls(), 2);
    // What another character set makes of it is another message.
    let other = parse(&rule, request(&id(TEXT), &overflow("ISO-8859-5"))).await;
    assert_eq!(other, Err(StepError::InvalidInput { what: "the message id, which is not that of the payload" }));
    let unknown = parse(&rule, request(&id(TEXT), &overflow("SECRET"))).await;
    assert_eq!(unknown, Err(StepError::InvalidInput { what: "a parse request" }));
}

#[tokio::test]
async fn a_message_whose_overflow_object_is_gone_has_expired() {
    assert_eq!(parse_overflow(&refused(404, "NoSuchKey")).await, Err(StepError::PayloadExpired));
}

#[tokio::test]
async fn an_overflow_bucket_that_fails_is_sorted_by_what_is_to_be_done() {
    let throttled = StepError::Throttled { operation: GET_OBJECT };
    assert_eq!(parse_overflow(&refused(503, "SlowDown")).await, Err(throttled));
    let unavailable = StepError::Unavailable { operation: GET_OBJECT };
    assert_eq!(parse_overflow(&refused(500, "InternalError")).await, Err(unavailable));
    for (status, code) in [(403, "AccessDenied"), (404, "NoSuchBucket")] {
        let misconfigured = StepError::Misconfigured { operation: GET_OBJECT, code: code.to_owned() };
        assert_eq!(parse_overflow(&refused(status, code)).await, Err(misconfigured), "must not pass for an expired message");
    }
}

#[tokio::test]
async fn a_payload_that_is_not_the_message_it_is_said_to_be_fails_the_execution() {
    let other = StepError::InvalidInput { what: "the message id, which is not that of the payload" };
    let swapped = found(b"MSH|^~\\&|another message");
    assert_eq!(parse_overflow(&swapped).await, Err(other.clone()));

    let inline = json!(Payload::inline(&Received::new(ER7, Charset::UTF_8)));
    assert_eq!(parse(&swapped, request(&"0".repeat(64), &inline)).await, Err(other));
    assert_eq!(swapped.num_calls(), 1, "an inline payload needs no call");
}

#[tokio::test]
async fn a_damaged_payload_fails_the_execution() {
    let overflow = Err(StepError::InvalidInput { what: "the payload, which is no message in its character set" });
    assert_eq!(parse_overflow(&found(b"MSH|\xff")).await, overflow);
    assert_eq!(parse_overflow(&found(b"")).await, overflow);

    let rule = found(b"");
    let inline = parse(&rule, request(&"0".repeat(64), &json!({ "inline": "SECRET!" }))).await;
    assert_eq!(inline, Err(StepError::InvalidInput { what: "the inline payload" }));
    let elsewhere = parse(&rule, request(&"0".repeat(64), &json!({ "bucket": "lake", "key": "SECRET" }))).await;
    assert_eq!(elsewhere, Err(StepError::InvalidInput { what: "the payload's bucket" }));
    assert_eq!(parse(&rule, json!({ "payload": "SECRET" })).await, Err(StepError::InvalidInput { what: "a parse request" }));
    assert_eq!(rule.num_calls(), 0, "nothing is fetched from a bucket that is not the overflow bucket");
}
