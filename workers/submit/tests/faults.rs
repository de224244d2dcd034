//! What a caller is told when one of the calls behind `POST /er7` fails, and that nothing is queued then.

#![cfg(test)]

#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/support.rs"]
mod support;
#[path = "faults/uploads.rs"]
mod uploads;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use domain::{Charset, Er7, Payload, Received, SubmittedMessage};
use seal::Opener;
use secrecy::ExposeSecret as _;
use serde_json::json;

use support::{Aws, ER7, KEY, answered, body, large, noting, post, refusal, sealing, sending};

#[track_caller]
fn check_problem(response: &ApiGatewayV2httpResponse, status: i64, retry_after: Option<&str>) {
    let body = body(response);
    assert_eq!((response.status_code, &body["status"]), (status, &json!(status)), "{body}");
    assert_eq!(response.headers["content-type"], "application/problem+json");
    assert_eq!(response.headers.get("retry-after").map(|it| it.to_str().unwrap()), retry_after, "{body}");
    let body = body.to_string();
    for inside in ["SECRET", "Exception", "dynamodb", "kms", "sqs", "s3", "payload", "DOE"] {
        assert!(!body.contains(inside), "the caller learns nothing of the inside: {body}");
    }
}

#[tokio::test]
async fn a_submission_is_noted_sealed_and_queued() {
    let aws = Aws::healthy();
    let response = aws.submit(post(ER7)).await;

    let [envelope] = &aws.sent()[..] else { panic!("{:?}", aws.sent()) };
    let message = Er7::canonical(ER7).unwrap();
    assert_eq!(envelope.message_id, message.message_id());
    assert_eq!(envelope.payload, Payload::inline(&Received::new(ER7, Charset::UTF_8)));
    assert_eq!(envelope.source.as_str(), "general-hospital");
    // The wrapped key, and what it seals.
    assert!(envelope.token.starts_with("2.d3JhcHBlZA=="), "{}", envelope.token);

    assert_eq!((response.status_code, response.headers.get("retry-after")), (202, None));
    let host = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com";
    assert_eq!(
        body(&response),
        json!({
            "messageId": envelope.message_id,
            "submissionId": envelope.submission_id,
            "status": "queued",
            "statusUrl": format!("{host}/er7/{}/status", envelope.message_id),
        })
    );
    assert_eq!([&aws.note, &aws.seal, &aws.put, &aws.send].map(Rule::num_calls), [1, 1, 0, 1]);
}

#[tokio::test]
async fn the_messages_of_an_institute_are_one_group_of_the_queue() {
    let aws = Aws::healthy();
    assert_eq!(aws.submit(post(ER7)).await.status_code, 202);
    let batch = [ER7, &ER7.replace("DOE", "ROE")].concat();
    assert_eq!(aws.submit(post(&batch)).await.status_code, 202);
    assert_eq!((aws.send.num_calls(), aws.send_batch.num_calls()), (1, 1));
    assert_eq!(*aws.groups.lock().unwrap(), ["general-hospital"; 3]);
}

#[tokio::test]
async fn a_body_over_the_institutes_allowance_is_429_and_nothing_is_queued() {
    let spent = |milliseconds: i64| {
        let until = (runtime::now().as_millis() + milliseconds).to_string();
        let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        answered(400, &json!({ "__type": code, "message": "no", "Item": { "spent_until": { "N": until } } }))
    };
    let body = |count: usize| (0..count).map(|n| ER7.replace("DOE", &format!("DOE{n}"))).collect::<String>();
    let allowance = Some(catalog::Allowance { per_second: 1, burst: 20 });
    let aws = Aws { note: noting(move || spent(30_000)), allowance, ..Aws::healthy() };
    let refused = aws.submit(post(&body(11))).await;
    assert_eq!(refused.status_code, 429);
    let seconds: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((20..=22).contains(&seconds), "30 s are spent, and 20 s less the 11 s of the body may be: {seconds}");
    assert_eq!([&aws.note, &aws.seal, &aws.send_batch].map(Rule::num_calls), [2, 0, 0]);

    // As much as is left is taken, and few messages are not counted.
    let aws = Aws { allowance, ..Aws::healthy() };
    assert_eq!(aws.submit(post(&body(11))).await.status_code, 202);
    assert_eq!(aws.note.num_calls(), 12);
    let aws = Aws { allowance, ..Aws::healthy() };
    assert_eq!(aws.submit(post(&body(10))).await.status_code, 202);
    assert_eq!(aws.note.num_calls(), 10);
}

#[tokio::test]
async fn the_status_url_is_below_the_public_url_where_there_is_one() {
    for public_url in ["https://lake.example.org/hl7", "https://lake.example.org/hl7/"] {
        let aws = Aws { public_url, ..Aws::healthy() };
        let body = body(&aws.submit(post(ER7)).await);
        let message_id = body["messageId"].as_str().unwrap();
        assert_eq!(body["statusUrl"], json!(format!("https://lake.example.org/hl7/er7/{message_id}/status")));
    }
}

#[tokio::test]
async fn a_message_over_the_deployments_limit_is_413_and_nothing_is_queued() {
    let aws = Aws { max_message_bytes: ER7.len(), ..Aws::healthy() };
    assert_eq!(aws.submit(post(ER7)).await.status_code, 202);
    check_problem(&aws.submit(post(&format!("{ER7}Z"))).await, 413, None);
    assert_eq!([&aws.note, &aws.send].map(Rule::num_calls), [1, 1]);
}

#[tokio::test]
async fn a_throttled_catalog_is_429_and_nothing_is_queued() {
    for code in ["ThrottlingException", "ProvisionedThroughputExceededException"] {
        let aws = Aws { note: noting(move || refusal(400, code)), ..Aws::healthy() };
        check_problem(&aws.submit(post(ER7)).await, 429, Some("2"));
        assert_eq!((aws.note.num_calls(), aws.put.num_calls(), aws.send.num_calls()), (1, 0, 0));
    }
}

#[tokio::test]
async fn an_unavailable_catalog_is_503_and_nothing_is_queued() {
    for (code, retry_after) in [("InternalServerError", "5"), ("ServiceUnavailable", "5")] {
        let aws = Aws { note: noting(move || refusal(500, code)), ..Aws::healthy() };
        check_problem(&aws.submit(post(&large())).await, 503, Some(retry_after));
        assert_eq!((aws.put.num_calls(), aws.send.num_calls()), (0, 0));
    }
}

#[tokio::test]
async fn a_worker_that_may_not_is_503_and_not_the_callers_403() {
    let aws = Aws { note: noting(|| refusal(400, "AccessDeniedException")), ..Aws::healthy() };
    check_problem(&aws.submit(post(ER7)).await, 503, Some("60"));
    let aws = Aws { seal: sealing(|| refusal(400, "AccessDeniedException")), ..Aws::healthy() };
    check_problem(&aws.submit(post(ER7)).await, 503, Some("60"));
    assert_eq!(aws.send.num_calls(), 0);
}

#[tokio::test]
async fn a_token_that_cannot_be_sealed_is_503_and_nothing_is_queued() {
    for (status, code, answer, retry_after) in [
        (500, "KMSInternalException", 503, "5"),
        (500, "DependencyTimeoutException", 503, "5"),
        (500, "KeyUnavailableException", 503, "5"),
        (400, "DisabledException", 503, "60"),
        (400, "ThrottlingException", 429, "2"),
    ] {
        let aws = Aws { seal: sealing(move || refusal(status, code)), ..Aws::healthy() };
        check_problem(&aws.submit(post(&large())).await, answer, Some(retry_after));
        assert_eq!((aws.put.num_calls(), aws.send.num_calls()), (0, 0), "{code}");
    }
}

#[tokio::test]
async fn a_seal_without_a_ciphertext_is_503_and_nothing_is_queued() {
    let aws = Aws { seal: sealing(|| answered(200, &json!({}))), ..Aws::healthy() };
    check_problem(&aws.submit(post(ER7)).await, 503, Some("5"));
    assert_eq!(aws.send.num_calls(), 0);
}

#[tokio::test]
async fn a_large_message_that_cannot_be_put_aside_is_not_queued() {
    for (status, code, answer, retry_after) in
        [(503, "SlowDown", 429, "2"), (500, "InternalError", 503, "5"), (403, "AccessDenied", 503, "60")]
    {
        let put = mock!(aws_sdk_s3::Client::put_object).then_http_response(move || {
            let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>");
            HttpResponse::new(status.try_into().unwrap(), body.into())
        });
        let aws = Aws { put, ..Aws::healthy() };
        check_problem(&aws.submit(post(&large())).await, answer, Some(retry_after));
        assert_eq!((aws.put.num_calls(), aws.send.num_calls()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn a_large_message_is_put_aside_before_it_is_queued() {
    let aws = Aws::healthy();
    assert_eq!(aws.submit(post(&large())).await.status_code, 202);
    let [envelope] = &aws.sent()[..] else { panic!("{:?}", aws.sent()) };
    let key = format!("general-hospital/{}/{}.hl7", envelope.submission_id, envelope.message_id);
    assert_eq!(envelope.payload, Payload::Overflow { bucket: "overflow".to_owned(), key, charset: Charset::UTF_8 });
    assert_eq!(aws.put.num_calls(), 1);
}

#[tokio::test]
async fn a_queue_that_fails_is_an_answer_to_try_again() {
    for (status, code, answer, retry_after) in [
        (500, "InternalFailure", 503, "5"),
        (503, "ServiceUnavailable", 503, "5"),
        (400, "QueueDoesNotExist", 503, "60"),
        (400, "RequestThrottled", 429, "2"),
        (400, "KmsThrottled", 429, "2"),
    ] {
        let aws = Aws { send: sending(move || refusal(status, code)), ..Aws::healthy() };
        check_problem(&aws.submit(post(ER7)).await, answer, Some(retry_after));
        assert_eq!((aws.note.num_calls(), aws.send.num_calls()), (1, 1), "the record is left as it is: {code}");
    }
}

/// The whole condition of a submission is that the message is not stored: a record left `queued` refuses nothing.
#[tokio::test]
async fn a_record_whose_submission_never_reached_the_queue_stops_no_later_one() {
    let conditions = Arc::new(Mutex::new(Vec::new()));
    let conditions_asked = Arc::clone(&conditions);
    let note = mock!(aws_sdk_dynamodb::Client::update_item).then_compute_output(move |request| {
        let condition = request.condition_expression().unwrap().to_owned();
        conditions_asked.lock().unwrap().push((condition, request.expression_attribute_values().unwrap()[":stored"].clone()));
        UpdateItemOutput::builder().build()
    });
    let send = mock!(aws_sdk_sqs::Client::send_message)
        .sequence()
        .http_response(|| refusal(500, "InternalFailure"))
        .output(|| SendMessageOutput::builder().build())
        .build();
    let aws = Aws { note, send, ..Aws::healthy() };
    check_problem(&aws.submit(post(ER7)).await, 503, Some("5"));
    assert_eq!(aws.submit(post(ER7)).await.status_code, 202);

    let not_stored = (
        "(attribute_not_exists(#status) OR #status <> :stored)".to_owned(),
        aws_sdk_dynamodb::types::AttributeValue::S("stored".to_owned()),
    );
    assert_eq!(*conditions.lock().unwrap(), [not_stored.clone(), not_stored]);
}

#[tokio::test]
async fn a_message_that_is_stored_already_is_409_and_is_not_queued() {
    let item = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": Er7::canonical(&large()).unwrap().message_id() },
        "status": { "S": "stored" },
        "received_at": { "S": "2026-11-21T07:21:07.120Z" },
    });
    let refused = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item });
    let note = mock!(aws_sdk_dynamodb::Client::update_item)
        .sequence()
        .http_response(move || answered(400, &refused))
        .output(|| UpdateItemOutput::builder().build())
        .build();
    let aws = Aws { note, ..Aws::healthy() };
    let response = aws.submit(post(&large())).await;
    check_problem(&response, 409, None);
    assert_eq!(body(&response)["messageId"], json!(Er7::canonical(&large()).unwrap().message_id()));
    assert_eq!((aws.note.num_calls(), aws.put.num_calls(), aws.send.num_calls()), (2, 0, 0), "counted, not queued");
}

#[tokio::test]
async fn a_throttled_call_is_repeated_by_the_sdk_before_the_caller_must() {
    let throttled = || refusal(400, "ThrottlingException");
    let note = mock!(aws_sdk_dynamodb::Client::update_item)
        .sequence()
        .http_response(throttled)
        .times(2)
        .output(|| UpdateItemOutput::builder().build())
        .build();
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let aws = Aws { note, retry, ..Aws::healthy() };
    assert_eq!(aws.submit(post(ER7)).await.status_code, 202);
    assert_eq!((aws.note.num_calls(), aws.send.num_calls()), (3, 1));
}

#[tokio::test]
async fn what_is_refused_costs_no_call() {
    let aws = Aws::healthy();
    let mut tokenless = post(ER7);
    tokenless["headers"].as_object_mut().unwrap().remove("authorization");
    let mut elsewhere = post(ER7);
    elsewhere["requestContext"]["authorizer"]["jwt"]["claims"]["custom:write"] = json!("../x");
    check_problem(&aws.submit(tokenless).await, 401, None);
    check_problem(&aws.submit(elsewhere).await, 403, None);
    check_problem(&aws.submit(post("")).await, 400, None);
    assert_eq!([&aws.note, &aws.seal, &aws.put, &aws.send].map(Rule::num_calls), [0; 4]);
}

#[tokio::test]
async fn a_token_of_any_length_is_sealed_under_a_data_key_of_its_institute() {
    for token in ["header.x.signature".to_owned(), format!("header.{}.signature", "x".repeat(8192))] {
        let contexts: Arc<Mutex<Vec<HashMap<String, String>>>> = Arc::default();
        let given = Arc::clone(&contexts);
        let seal = mock!(aws_sdk_kms::Client::generate_data_key)
            .match_requests(|request| request.key_id() == Some(KEY))
            .then_compute_output(move |request| {
                given.lock().unwrap().push(request.encryption_context().unwrap().clone());
                GenerateDataKeyOutput::builder().plaintext(Blob::new([7; 32])).ciphertext_blob(Blob::new("wrapped")).build()
            });
        let mut event = post(ER7);
        event["headers"]["authorization"] = json!(token);
        let aws = Aws { seal, ..Aws::healthy() };
        assert_eq!(aws.submit(event).await.status_code, 202);
        let [envelope] = &aws.sent()[..] else { panic!("{:?}", aws.sent()) };
        let context = [("source".to_owned(), envelope.source.to_string())];
        assert_eq!(*contexts.lock().unwrap(), [HashMap::from(context)]);

        let open = mock!(aws_sdk_kms::Client::decrypt)
            .match_requests(|request| request.ciphertext_blob().unwrap().as_ref() == b"wrapped")
            .then_output(|| DecryptOutput::builder().plaintext(Blob::new([7; 32])).build());
        let opener = Opener::new(mock_client!(aws_sdk_kms, RuleMode::MatchAny, [&open]), KEY.to_owned());
        let submitted = SubmittedMessage {
            submission_id: envelope.submission_id,
            message_id: envelope.message_id.clone(),
            source: envelope.source.clone(),
        };
        assert_eq!(opener.open(&submitted, &envelope.token).await.unwrap().expose_secret(), token);
    }
}
