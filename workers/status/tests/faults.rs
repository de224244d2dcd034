//! What a caller is told of a message's status while the catalog cannot be read.

#![cfg(test)]

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use catalog::Catalog;
use serde_json::{Value, json};

async fn ask(rules: &[&Rule]) -> ApiGatewayV2httpResponse {
    let client = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, rules, |conf| conf.retry_config(RetryConfig::disabled()));
    let catalog = Catalog::new(client, "catalog".to_owned());
    let caller = json!({
        "provider": "institutes", "issuer": "https://issuer", "subject": "user", "tokenUse": "id",
        "write": "writes-here", "read": "reads-there",
    });
    let event = json!({
        "version": "2.0",
        "routeKey": "GET /er7/{messageId}/status",
        "rawPath": "/er7/0/status",
        "headers": { "authorization": "a.b.c" },
        "pathParameters": { "messageId": "0".repeat(64) },
        "requestContext": {
            "http": { "method": "GET", "path": "/er7/0/status" },
            "authorizer": { "lambda": caller },
        },
        "isBase64Encoded": false,
    });
    status::answer(&catalog, event).await.unwrap()
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn of(source: &'static str, response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::get_item)
        .match_requests(move |request| request.key().unwrap()["source"].as_s().unwrap() == source)
        .then_http_response(response)
}

fn refused(source: &'static str, status: u16, code: &'static str) -> Rule {
    of(source, move || answer(status, &json!({ "__type": code, "message": "SECRET" })))
}

#[track_caller]
fn check(response: &ApiGatewayV2httpResponse, status: i64, retry_after: &str) {
    let Some(Body::Text(body)) = &response.body else { panic!("no text: {response:?}") };
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!((response.status_code, &problem["status"]), (status, &json!(status)), "{body}");
    assert_eq!(response.headers["retry-after"], retry_after);
    assert_eq!(response.headers["content-type"], "application/problem+json");
    for inside in ["SECRET", "dynamodb", "Exception", "catalog"] {
        assert!(!body.contains(inside), "the caller learns nothing of the inside: {body}");
    }
}

#[tokio::test]
async fn a_throttled_catalog_is_429_with_retry_after() {
    let throttled = refused("writes-here", 400, "ProvisionedThroughputExceededException");
    check(&ask(&[&throttled]).await, 429, "2");
    assert_eq!(throttled.num_calls(), 1, "no second institute is asked about");
}

#[tokio::test]
async fn an_unavailable_catalog_is_503_with_retry_after() {
    check(&ask(&[&refused("writes-here", 500, "InternalServerError")]).await, 503, "5");
}

#[tokio::test]
async fn a_fault_of_the_deployment_is_503_and_not_the_callers_403() {
    check(&ask(&[&refused("writes-here", 400, "AccessDeniedException")]).await, 503, "60");
}

#[tokio::test]
async fn a_damaged_record_is_503_and_is_not_quoted() {
    let damaged = of("writes-here", || answer(200, &json!({ "Item": { "source": { "S": "SECRET SOURCE" } } })));
    check(&ask(&[&damaged]).await, 503, "60");
}

#[tokio::test]
async fn a_message_is_not_reported_missing_while_the_second_institute_cannot_be_read() {
    let absent = of("writes-here", || answer(200, &json!({})));
    let throttled = refused("reads-there", 400, "ThrottlingException");
    check(&ask(&[&absent, &throttled]).await, 429, "2");
    assert_eq!((absent.num_calls(), throttled.num_calls()), (1, 1));
}

/// Asks for many messages of one institute.
async fn ask_many(rules: &[&Rule], messages: usize) -> ApiGatewayV2httpResponse {
    let client = mock_client!(aws_sdk_dynamodb, RuleMode::Sequential, rules, |conf| conf.retry_config(RetryConfig::disabled()));
    let ids: Vec<String> = (0..messages).map(|nth| format!("{nth:064x}")).collect();
    let event = json!({
        "version": "2.0",
        "routeKey": "POST /er7/status",
        "rawPath": "/er7/status",
        "headers": { "authorization": "a.b.c" },
        "body": json!({ "messageIds": ids }).to_string(),
        "requestContext": {
            "http": { "method": "POST", "path": "/er7/status" },
            "authorizer": { "lambda": { "issuer": "https://issuer", "subject": "user", "tokenUse": "id", "write": "west" } },
        },
        "isBase64Encoded": false,
    });
    status::answer(&Catalog::new(client, "catalog".to_owned()), event).await.unwrap()
}

fn key(nth: usize) -> Value {
    json!({ "source": { "S": "west" }, "message_id": { "S": format!("{nth:064x}") } })
}

fn queued(nth: usize) -> Value {
    let mut item = key(nth);
    item["status"] = json!({ "S": "queued" });
    item["received_at"] = json!({ "S": "2026-01-02T03:04:05Z" });
    item
}

/// Answers a question for `asked` keys with some of them, and leaves out the others.
fn many(asked: usize, found: Vec<Value>, left_out: Vec<Value>) -> Rule {
    mock!(aws_sdk_dynamodb::Client::batch_get_item)
        .match_requests(move |request| {
            let keys = &request.request_items().unwrap()["catalog"];
            keys.keys().len() == asked && keys.consistent_read() == Some(true)
        })
        .then_http_response(move || {
            let left_out = if left_out.is_empty() { json!({}) } else { json!({ "catalog": { "Keys": left_out } }) };
            answer(200, &json!({ "Responses": { "catalog": found }, "UnprocessedKeys": left_out }))
        })
}

#[tokio::test]
async fn keys_that_dynamodb_leaves_out_are_asked_for_again() {
    let first = many(100, vec![queued(0)], vec![key(1), key(2)]);
    let second = many(3, vec![queued(2), queued(100)], vec![key(1)]);
    let third = many(1, vec![], vec![]);
    let response = ask_many(&[&first, &second, &third], 101).await;
    let Some(Body::Text(body)) = &response.body else { panic!("no text: {response:?}") };
    let body: Value = serde_json::from_str(body).unwrap();
    let statuses = body["statuses"].as_array().unwrap();
    let of = |status: &str| -> Vec<usize> {
        statuses.iter().enumerate().filter(|(_, it)| it["status"] == status).map(|(nth, _)| nth).collect()
    };
    assert_eq!((response.status_code, of("queued"), of("unknown").len()), (200, vec![0, 2, 100], 98));
}

#[tokio::test]
async fn many_messages_are_not_reported_unknown_while_dynamodb_leaves_them_out() {
    let answers: Vec<Rule> = (0..5).map(|_| many(1, vec![], vec![key(0)])).collect();
    check(&ask_many(&answers.iter().collect::<Vec<_>>(), 1).await, 429, "2");
    let unavailable = mock!(aws_sdk_dynamodb::Client::batch_get_item)
        .then_http_response(|| answer(500, &json!({ "__type": "InternalServerError", "message": "SECRET" })));
    check(&ask_many(&[&unavailable], 1).await, 503, "5");
}
