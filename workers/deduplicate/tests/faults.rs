//! What the states `Deduplicate`, `GiveUp` and `Abandon` get while the catalog fails.

#![cfg(test)]

use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use catalog::Catalog;
use domain::step::ClaimAnswer;
use runtime::StepError;
use serde_json::{Value, json};

const UPDATE_ITEM: &str = "dynamodb:UpdateItem";
const LEASE: Duration = Duration::from_secs(150);

/// The three requests, as `ingest.asl.json` writes them.
fn requests() -> [Value; 3] {
    [
        json!({ "action": "claim", "receivedAt": "2026-11-21T07:21:07.120Z" }),
        json!({ "action": "giveUp", "error": "Unavailable", "failed": false }),
        json!({ "action": "giveUp", "error": "PayloadExpired", "failed": true }),
    ]
    .map(|mut request| {
        request["submissionId"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FAV");
        request["messageId"] = json!("0".repeat(64));
        request["source"] = json!("general-hospital");
        request
    })
}

fn claim() -> Value {
    let [claim, ..] = requests();
    claim
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": "SECRET" }))
}

fn always(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(response)
}

async fn ask(rule: &Rule, retry: RetryConfig, event: Value) -> Result<ClaimAnswer, StepError> {
    let client = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [rule], |conf| conf.retry_config(retry.clone()));
    let answer = deduplicate::answer(&Catalog::new(client, "catalog".to_owned()), LEASE, event).await;
    if let Err(error) = &answer {
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    answer
}

#[tokio::test]
async fn a_catalog_that_fails_is_named_for_the_state_machine() {
    for (status, code, name) in [
        (400, "ThrottlingException", "Throttled"),
        (500, "InternalServerError", "Unavailable"),
        (400, "ConditionalCheckFailedException", "Unavailable"),
        (400, "AccessDeniedException", "Misconfigured"),
    ] {
        for request in requests() {
            let rule = always(move || refusal(status, code));
            let error = ask(&rule, RetryConfig::disabled(), request).await.unwrap_err();
            assert_eq!((error.name(), rule.num_calls()), (name, 1), "{code}");
        }
    }
}

#[tokio::test]
async fn a_claim_is_made_by_the_sdks_own_repetition() {
    let rule = mock!(aws_sdk_dynamodb::Client::update_item)
        .sequence()
        .http_response(|| refusal(400, "ThrottlingException"))
        .http_response(|| refusal(503, "ServiceUnavailable"))
        .output(|| UpdateItemOutput::builder().build())
        .build();
    let retry = RetryConfig::standard().with_max_backoff(Duration::from_millis(1));
    assert!(matches!(ask(&rule, retry, claim()).await, Ok(ClaimAnswer::New { .. })));
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn a_claim_refused_by_a_record_that_has_changed_since_is_tried_again() {
    let item = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": "0".repeat(64) },
        "status": { "S": "queued" },
        "received_at": { "S": "2026-11-21T07:21:07.120Z" },
    });
    let refused = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item });
    let rule = always(move || answered(400, &refused));
    let answer = ask(&rule, RetryConfig::disabled(), claim()).await;
    assert_eq!(answer, Err(StepError::Unavailable { operation: UPDATE_ITEM }));
}

#[tokio::test]
async fn somebody_elses_lease_is_waited_for_to_its_end() {
    let lease_until = runtime::now().plus(LEASE).as_millis();
    let item = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": "0".repeat(64) },
        "status": { "S": "processing" },
        "claim_submission": { "S": "01BX5ZZKBKACTAV9WEVGEMMVRZ" },
        "lease_until": { "N": lease_until.to_string() },
        "received_at": { "S": "2026-11-21T07:21:07.120Z" },
    });
    let refused = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item });
    let rule = always(move || answered(400, &refused));
    let answer = ask(&rule, RetryConfig::disabled(), claim()).await.unwrap();
    let ClaimAnswer::InProgress { retry_after_seconds } = answer else { panic!("{answer:?}") };
    let waited_until = runtime::now().plus(Duration::from_secs(retry_after_seconds)).as_millis();
    assert!(waited_until > lease_until && retry_after_seconds <= LEASE.as_secs() + 1, "{retry_after_seconds}");
}

#[tokio::test]
async fn an_invalid_request_costs_no_call() {
    let rule = always(|| answered(200, &json!({})));
    for event in [json!(null), json!({ "action": "SECRET" }), json!({ "action": "claim", "source": "../SECRET" })] {
        let answer = ask(&rule, RetryConfig::disabled(), event).await;
        assert_eq!(answer, Err(StepError::InvalidInput { what: "a claim request" }));
    }
    assert_eq!(rule.num_calls(), 0);
}
