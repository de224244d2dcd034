//! What the catalog makes of a DynamoDB that fails, throttles or answers oddly. What it makes of a working one is the
//! model's to test (`tests/it/claim_model.rs`).

#![cfg(test)]

use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use domain::claim::{Claim, Finish, GivenUp, Released};
use domain::{HeldFacts, HoldReason, Requester, State, Status, Stored, StoredFacts, SubmittedMessage, Summary, Timestamp};
use runtime::StepError;
use serde_json::{Value, json};
use sluice_catalog::{Catalog, Discard, RecordedSubmission};

const MINE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const ANOTHER: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";
const UPDATE_ITEM: &str = "dynamodb:UpdateItem";
const LEASE: Duration = Duration::from_secs(150);

fn submitted() -> SubmittedMessage {
    serde_json::from_value(json!({ "submissionId": MINE, "messageId": "0".repeat(64), "source": "general-hospital" })).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn stored() -> Stored {
    let facts = StoredFacts {
        stored_at: at(1),
        state: State::Parsed,
        bucket: "lake".to_owned(),
        key: "key".to_owned(),
        version_id: None,
        json_key: None,
        json_version_id: None,
        raw_key: None,
        raw_version_id: None,
        charset: None,
        summary: Summary::default(),
    };
    Stored { received_at: at(0), facts, error: None }
}

fn requester() -> Requester {
    Requester { subject: "s".to_owned(), issuer: "i".to_owned() }
}

fn held() -> HeldFacts {
    HeldFacts {
        held_reason: HoldReason::Denied,
        held_since: at(1),
        held_until: at(2),
        held_key: "source=general-hospital/0.json".to_owned(),
        held_version_id: None,
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    let body = json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "SECRET" });
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

/// The refused condition, with the item that refused it.
fn refused_by(item: &Value) -> HttpResponse {
    let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
    let body = json!({ "__type": code, "message": "The conditional request failed", "Item": item });
    HttpResponse::new(400.try_into().unwrap(), body.to_string().into())
}

/// A record claimed by `claim`, as DynamoDB writes it.
fn record(status: &str, claim: &str, lease_until: Option<i64>) -> Value {
    let mut item = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": "0".repeat(64) },
        "status": { "S": status },
        "claim_submission": { "S": claim },
        "received_at": { "S": "1970-01-01T00:00:00.000Z" },
    });
    if let Some(until) = lease_until {
        item["lease_until"] = json!({ "N": until.to_string() });
    }
    if status == "stored" {
        for (name, value) in [("state", "parsed"), ("bucket", "lake"), ("key", "key"), ("stored_at", "1970-01-01T00:00:01.000Z")]
        {
            item[name] = json!({ "S": value });
        }
    }
    item
}

fn always(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(response)
}

fn first(response: HttpResponse, then: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    let body = response.body().bytes().unwrap().to_vec();
    let status = response.status().as_u16();
    let response = move || HttpResponse::new(status.try_into().unwrap(), body.clone().into());
    mock!(aws_sdk_dynamodb::Client::update_item).sequence().http_response(response).http_response(then).build()
}

fn done() -> HttpResponse {
    HttpResponse::new(200.try_into().unwrap(), "{}".into())
}

fn catalog(rule: &Rule) -> Catalog {
    catalog_with(rule, RetryConfig::disabled())
}

fn catalog_with(rule: &Rule, retry: RetryConfig) -> Catalog {
    let client = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [rule], |conf| conf.retry_config(retry.clone()));
    Catalog::new(client, "catalog".to_owned())
}

/// What each of the writes says, of a DynamoDB that always answers the same.
async fn each_write(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> [StepError; 5] {
    let rule = always(response);
    let (catalog, submitted) = (catalog(&rule), submitted());
    let errors = [
        catalog.record_submission(&submitted, at(0), &requester()).await.unwrap_err(),
        catalog.claim(&submitted, at(0), at(1), LEASE).await.unwrap_err(),
        catalog.finish(&submitted, stored()).await.unwrap_err(),
        catalog.give_up(&submitted, Status::Queued, "Unavailable").await.unwrap_err(),
        catalog.hold(&submitted, &held(), "Denied").await.unwrap_err(),
    ];
    assert_eq!(rule.num_calls(), 5);
    for error in &errors {
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
    }
    errors
}

#[tokio::test]
async fn a_throttled_write_is_repeated_by_the_sdk() {
    let throttled = || refusal(400, "ThrottlingException");
    let rule = mock!(aws_sdk_dynamodb::Client::update_item)
        .sequence()
        .http_response(throttled)
        .times(2)
        .output(|| UpdateItemOutput::builder().build())
        .build();
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    assert_eq!(
        catalog_with(&rule, retry).record_submission(&submitted(), at(0), &requester()).await,
        Ok(RecordedSubmission { is_stored: false, first_received_at: at(0) })
    );
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn a_table_that_stays_throttled_is_throttled() {
    for code in ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"] {
        let throttled = StepError::Throttled { operation: UPDATE_ITEM };
        assert_eq!(each_write(move || refusal(400, code)).await, [(); 5].map(|()| throttled.clone()), "{code}");
    }
}

#[tokio::test]
async fn a_fault_of_dynamodb_may_be_tried_again() {
    let unavailable = [(); 5].map(|()| StepError::Unavailable { operation: UPDATE_ITEM });
    assert_eq!(each_write(|| refusal(500, "InternalServerError")).await, unavailable);
    assert_eq!(each_write(|| refusal(503, "ServiceUnavailable")).await, unavailable);
}

#[tokio::test]
async fn a_refused_worker_is_a_fault_of_the_deployment() {
    for code in ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"] {
        let misconfigured = StepError::Misconfigured { operation: UPDATE_ITEM, code: code.to_owned() };
        assert_eq!(each_write(move || refusal(400, code)).await, [(); 5].map(|()| misconfigured.clone()));
    }
}

#[tokio::test]
async fn a_refusal_without_the_record_is_tried_again() {
    let unavailable = [(); 5].map(|()| StepError::Unavailable { operation: UPDATE_ITEM });
    assert_eq!(each_write(|| refusal(400, "ConditionalCheckFailedException")).await, unavailable);
}

#[tokio::test]
async fn a_damaged_record_is_not_quoted() {
    let damaged = json!({ "source": { "S": "SECRET SOURCE" }, "status": { "S": "SECRET" } });
    let unreadable = [(); 5].map(|()| StepError::InvalidInput { what: "a catalog record" });
    assert_eq!(each_write(move || refused_by(&damaged)).await, unreadable);
}

#[tokio::test]
async fn a_claim_refused_by_a_record_that_no_longer_refuses_is_tried_again() {
    for record in [record("queued", ANOTHER, None), record("processing", ANOTHER, Some(999)), record("failed", MINE, None)] {
        let rule = always(move || refused_by(&record));
        let claimed = catalog(&rule).claim(&submitted(), at(0), at(1), LEASE).await;
        assert_eq!(claimed, Err(StepError::Unavailable { operation: UPDATE_ITEM }));
        assert_eq!(rule.num_calls(), 1, "the state machine tries again, not the catalog");
    }
}

#[tokio::test]
async fn a_claim_refused_by_a_live_lease_is_in_progress() {
    let rule = always(|| refused_by(&record("processing", ANOTHER, Some(5000))));
    let claimed = catalog(&rule).claim(&submitted(), at(0), at(1), LEASE).await;
    assert_eq!(claimed, Ok(Claim::InProgress { lease_until: at(5) }));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognized_when_it_is_repeated() {
    let rule = always(|| refused_by(&record("stored", MINE, None)));
    let catalog = catalog(&rule);
    assert_eq!(catalog.finish(&submitted(), stored()).await, Ok(Finish::Stored(Box::new(stored()))));
    assert_eq!(catalog.claim(&submitted(), at(0), at(1), LEASE).await, Ok(Claim::AlreadyMine(Box::new(stored()))));
}

#[tokio::test]
async fn a_duplicate_that_cannot_be_counted_is_an_error() {
    let by_another = refused_by(&record("stored", ANOTHER, None));
    let rule = first(by_another, || refusal(400, "ThrottlingException"));
    let recorded = catalog(&rule).record_submission(&submitted(), at(0), &requester()).await;
    assert_eq!((recorded, rule.num_calls()), (Err(StepError::Throttled { operation: UPDATE_ITEM }), 2));

    let rule = first(refused_by(&record("stored", ANOTHER, None)), done);
    let recorded = catalog(&rule).record_submission(&submitted(), at(0), &requester()).await;
    assert_eq!((recorded, rule.num_calls()), (Ok(RecordedSubmission { is_stored: true, first_received_at: at(0) }), 2));
}

#[tokio::test]
async fn a_claim_is_given_up_in_favour_of_a_newer_submission_or_not_at_all() {
    let give_up = async |rule: &Rule| catalog(rule).hold(&submitted(), &held(), "Denied").await;

    let rule = first(refused_by(&record("processing", MINE, Some(5000))), done);
    assert_eq!((give_up(&rule).await, rule.num_calls()), (Ok(GivenUp::QueuedForAnother), 2));

    let rule = first(refused_by(&record("processing", MINE, Some(5000))), || refusal(500, "InternalServerError"));
    assert_eq!((give_up(&rule).await, rule.num_calls()), (Err(StepError::Unavailable { operation: UPDATE_ITEM }), 2));

    for lost in [record("processing", ANOTHER, Some(5000)), record("stored", MINE, None)] {
        let rule = always(move || refused_by(&lost));
        assert_eq!((give_up(&rule).await, rule.num_calls()), (Ok(GivenUp::Lost), 1));
    }
}

#[tokio::test]
async fn a_failed_read_does_not_count_as_an_absent_record() {
    let get = |status, code: &'static str| {
        let rule = mock!(aws_sdk_dynamodb::Client::get_item).then_http_response(move || refusal(status, code));
        async move { catalog(&rule).get(&submitted().source, &submitted().message_id).await }
    };
    let operation = "dynamodb:GetItem";
    assert_eq!(get(400, "ThrottlingException").await, Err(StepError::Throttled { operation }));
    assert_eq!(get(500, "InternalServerError").await, Err(StepError::Unavailable { operation }));
    let code = "AccessDeniedException";
    assert_eq!(get(400, code).await, Err(StepError::Misconfigured { operation, code: code.to_owned() }));
}

#[tokio::test]
async fn of_simultaneous_releases_one_gets_the_message() {
    let release = async |rule: &Rule| catalog(rule).release(&submitted(), &requester(), at(1)).await;

    let mut item = record("queued", ANOTHER, None);
    for (name, value) in [
        ("held_reason", "denied"),
        ("held_since", "1970-01-01T00:00:01.000Z"),
        ("held_until", "1970-01-01T00:00:02.000Z"),
        ("held_key", "source=general-hospital/0.json"),
    ] {
        item[name] = json!({ "S": value });
    }
    item["held_version_id"] = json!({ "NULL": true });
    let mut damaged = item.clone();
    damaged["held_reason"] = json!({ "S": "SECRET" });
    let answered = |item: Value| {
        always(move || HttpResponse::new(200.try_into().unwrap(), json!({ "Attributes": item }).to_string().into()))
    };
    assert_eq!(release(&answered(item.clone())).await, Ok(Released::Queued(Box::new(held()))));
    // The answer was lost, and the SDK repeated the call: the record refuses that, for it is released already, by this very release.
    for (submission, is_mine) in [(MINE, true), (ANOTHER, false)] {
        let mut mine = item.clone();
        mine["last_submission"] = json!({ "S": submission });
        let repeated = release(&always(move || refused_by(&mine))).await;
        let expected = if is_mine { Released::Queued(Box::new(held())) } else { Released::NotHeld(Status::Queued) };
        assert_eq!(repeated, Ok(expected), "{submission}");
    }
    assert_eq!(release(&answered(damaged)).await, Err(StepError::InvalidInput { what: "a catalog record" }));

    for status in ["queued", "processing", "stored", "discarded", "denied", "failed"] {
        let rule = always(move || refused_by(&record(status, ANOTHER, None)));
        let Ok(Released::NotHeld(found)) = release(&rule).await else { panic!("{status}") };
        assert_eq!(found.as_str(), status);
    }
    let unknown = always(|| refusal(400, "ConditionalCheckFailedException"));
    assert_eq!(release(&unknown).await, Ok(Released::Unknown));
    assert_eq!(catalog(&unknown).take_release_back(&submitted(), None).await, Ok(()));
    let busy = always(|| refusal(400, "ThrottlingException"));
    assert_eq!(release(&busy).await, Err(StepError::Throttled { operation: UPDATE_ITEM }));
}

#[tokio::test]
async fn only_a_held_message_is_discarded_and_only_once() {
    let discard = async |rule: &Rule| {
        let SubmittedMessage { source, message_id, .. } = submitted();
        catalog(rule).discard(&source, &message_id, "arn:aws:iam::123456789012:user/eve", "twice", at(1)).await
    };
    let mut item = record("discarded", MINE, None);
    for (name, value) in [
        ("discarded_at", "1970-01-01T00:00:01.000Z"),
        ("discarded_by", "arn:aws:iam::123456789012:user/eve"),
        ("discard_reason", "twice"),
    ] {
        item[name] = json!({ "S": value });
    }
    let written = item.clone();
    let now = always(move || HttpResponse::new(200.try_into().unwrap(), json!({ "Attributes": written }).to_string().into()));
    let before = always(move || refused_by(&item));
    for rule in [now, before] {
        let Ok(Discard::Discarded(record)) = discard(&rule).await else { panic!("not discarded") };
        let facts = record.discarded.unwrap();
        assert_eq!((facts.discarded_at, facts.discard_reason.as_str()), (at(1), "twice"));
    }
    for status in [Status::Queued, Status::Processing, Status::Stored, Status::Failed] {
        let rule = always(move || refused_by(&record(status.as_str(), ANOTHER, None)));
        assert_eq!(discard(&rule).await, Ok(Discard::NotHeld(status)));
    }
    assert_eq!(discard(&always(|| refusal(400, "ConditionalCheckFailedException"))).await, Ok(Discard::Unknown));
    let busy = always(|| refusal(400, "ThrottlingException"));
    assert_eq!(discard(&busy).await, Err(StepError::Throttled { operation: UPDATE_ITEM }));
}
