//! What a caller is told of uploads, and that nothing is queued of one that is not there or not what it is said to be.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_smithy_mocks::{Rule, mock};
use domain::UploadId;
use serde_json::{Value, json};

use super::check_problem;
use super::support::{Aws, ER7, body, large, post, post_as};

fn announce(body: &Value) -> Value {
    let mut event = post("");
    event["routeKey"] = json!("POST /er7/uploads");
    event["body"] = json!(body.to_string());
    event
}

fn announced(text: &str) -> Value {
    announce(&json!({ "size": text.len(), "sha256": UploadId::of(text.as_bytes()) }))
}

fn take(id: &str) -> Value {
    let mut event = post_as("", b"");
    event["routeKey"] = json!("POST /er7/uploads/{uploadId}");
    event["pathParameters"] = json!({ "uploadId": id });
    event["body"] = Value::Null;
    event["isBase64Encoded"] = json!(false);
    event
}

fn take_of(text: &str) -> Value {
    take(&UploadId::of(text.as_bytes()).to_string())
}

/// An upload with these bytes.
fn holding(text: &str) -> Rule {
    let bytes = text.to_owned().into_bytes();
    mock!(aws_sdk_s3::Client::get_object)
        .then_output(move || GetObjectOutput::builder().body(ByteStream::from(bytes.clone())).build())
}

fn refusing(status: u16, code: &'static str) -> Rule {
    mock!(aws_sdk_s3::Client::get_object).then_http_response(move || {
        let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>");
        HttpResponse::new(status.try_into().unwrap(), body.into())
    })
}

#[tokio::test]
async fn a_url_is_bound_to_the_length_the_hash_and_the_first_put() {
    let aws = Aws::healthy();
    let response = aws.submit(announced(ER7)).await;
    let answer = body(&response);
    assert_eq!(response.status_code, 201, "{answer}");
    let id = UploadId::of(ER7.as_bytes());
    assert_eq!((&answer["uploadId"], &answer["method"]), (&json!(id), &json!("PUT")));
    let expected = json!({
        "content-length": ER7.len().to_string(),
        "if-none-match": "*",
        "x-amz-checksum-sha256": id.checksum(),
    });
    assert_eq!(answer["headers"], expected);
    let url = answer["url"].as_str().unwrap();
    let signed = "X-Amz-SignedHeaders=content-length%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256";
    assert!(url.contains("/_uploads/general-hospital/") && url.contains(&format!("/{id}?")), "{url}");
    assert!(url.contains(signed) && url.contains("X-Amz-Expires=900"), "{url}");
    let submit_url = format!("https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/er7/uploads/{id}");
    assert_eq!(answer["submitUrl"], json!(submit_url));
    assert_eq!([&aws.note, &aws.seal, &aws.get, &aws.send].map(Rule::num_calls), [0; 4], "nothing is recorded");
}

#[tokio::test]
async fn what_is_not_announced_well_gets_no_url() {
    let aws = Aws { max_upload_bytes: 1000, ..Aws::healthy() };
    let hash = "0".repeat(64);
    for (announced, status) in [
        (json!({ "size": 1001, "sha256": hash }), 413),
        (json!({ "size": u64::MAX, "sha256": hash }), 413),
        (json!({ "size": 0, "sha256": hash }), 400),
        (json!({ "size": -1, "sha256": hash }), 400),
        (json!({ "size": "7", "sha256": hash }), 400),
        (json!({ "size": 7, "sha256": "A".repeat(64) }), 400),
        (json!({ "size": 7, "sha256": "../SECRET" }), 400),
        (json!({ "size": 7 }), 400),
        (json!({ "size": 7, "sha256": hash, "source": "SECRET" }), 400),
        (json!("SECRET"), 400),
    ] {
        check_problem(&aws.submit(announce(&announced)).await, status, None);
    }
    let mut elsewhere = announced(ER7);
    elsewhere["requestContext"]["authorizer"]["jwt"]["claims"]["custom:write"] = json!("../x");
    check_problem(&aws.submit(elsewhere).await, 403, None);
    let mut tokenless = announced(ER7);
    tokenless["headers"].as_object_mut().unwrap().remove("authorization");
    check_problem(&aws.submit(tokenless).await, 401, None);
}

#[tokio::test]
async fn an_upload_is_taken_like_a_body() {
    let text = large();
    let aws = Aws { get: holding(&text), ..Aws::healthy() };
    let response = aws.submit(take_of(&text)).await;
    assert_eq!((response.status_code, &body(&response)["status"]), (202, &json!("queued")));
    let [envelope] = &aws.sent()[..] else { panic!("{:?}", aws.sent()) };
    assert_eq!(
        (envelope.message_id.to_string(), aws.put.num_calls()),
        (body(&response)["messageId"].as_str().unwrap().to_owned(), 1)
    );

    let batch = ER7.repeat(2).replacen("|7\r", "|8\r", 1);
    let aws = Aws { get: holding(&batch), ..Aws::healthy() };
    let response = aws.submit(take_of(&batch)).await;
    assert_eq!((response.status_code, &body(&response)["queued"]), (202, &json!(2)));

    let latin_1 = Arc::new(b"MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||M\xfcLLER\r".to_vec());
    let bytes = Arc::clone(&latin_1);
    let get = mock!(aws_sdk_s3::Client::get_object)
        .then_output(move || GetObjectOutput::builder().body(ByteStream::from(bytes.to_vec())).build());
    let aws = Aws { get, ..Aws::healthy() };
    let id = UploadId::of(&latin_1).to_string();
    check_problem(&aws.submit(take(&id)).await, 400, None);
    let mut named = take(&id);
    named["headers"]["content-type"] = json!("application/hl7-v2; charset=iso-8859-1");
    named["headers"]["accept"] = json!("application/json");
    assert_eq!(aws.submit(named.clone()).await.status_code, 202);
    // As for a body: answered in the content type that it has.
    named["headers"]["accept"] = json!("*/*");
    assert_eq!(aws.submit(named).await.headers["content-type"], "application/hl7-v2; charset=windows-1252");
}

#[tokio::test]
async fn an_upload_is_looked_for_under_the_callers_own_institute_and_subject() {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = Arc::clone(&keys);
    let get = mock!(aws_sdk_s3::Client::get_object).then_compute_output(move |request| {
        asked.lock().unwrap().push(request.key().unwrap().to_owned());
        GetObjectOutput::builder().body(ByteStream::from_static(ER7.as_bytes())).build()
    });
    let aws = Aws { get, ..Aws::healthy() };
    let mut other_subject = take_of(ER7);
    other_subject["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!("somebody else");
    let mut other_institute = take_of(ER7);
    other_institute["requestContext"]["authorizer"]["jwt"]["claims"]["custom:write"] = json!("west");
    for event in [take_of(ER7), take_of(ER7), other_subject, other_institute] {
        assert_eq!(aws.submit(event).await.status_code, 202);
    }
    let keys = keys.lock().unwrap().clone();
    assert_eq!(keys[0], keys[1]);
    assert!(keys[0] != keys[2] && keys[0] != keys[3] && keys[2] != keys[3], "{keys:?}");
    let url = body(&aws.submit(announced(ER7)).await)["url"].as_str().unwrap().to_owned();
    assert!(url.contains(&format!("/{}?", keys[0])), "{url} {keys:?}");
}

#[tokio::test]
async fn an_upload_that_is_not_there_is_404_and_nothing_is_recorded() {
    for (get, status, retry_after) in [
        (refusing(404, "NoSuchKey"), 404, None),
        (refusing(503, "SlowDown"), 429, Some("2")),
        (refusing(500, "InternalError"), 503, Some("5")),
        (refusing(403, "AccessDenied"), 503, Some("60")),
        (holding("MSH|of somebody else"), 503, Some("60")),
    ] {
        let aws = Aws { get, ..Aws::healthy() };
        check_problem(&aws.submit(take_of(ER7)).await, status, retry_after);
        assert_eq!([&aws.note, &aws.put, &aws.send].map(Rule::num_calls), [0; 3]);
    }
    let aws = Aws { max_upload_bytes: 10, ..Aws::healthy() };
    check_problem(&aws.submit(take_of(ER7)).await, 413, None);
    let aws = Aws::healthy();
    for id in ["", "SECRET", &"F".repeat(64), "../x"] {
        check_problem(&aws.submit(take(id)).await, 400, None);
    }
    for (name, value) in [("content-type", "application/json"), ("content-encoding", "gzip")] {
        let mut event = take_of(ER7);
        event["headers"][name] = json!(value);
        check_problem(&aws.submit(event).await, 415, None);
    }
    assert_eq!(aws.get.num_calls(), 0);
}
