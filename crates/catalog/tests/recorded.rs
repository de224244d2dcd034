//! The stored facts of a message have public names in four places: the table, the state machine, the events and the API. The
//! folder `recorded` holds examples of each, as the first release wrote them (`charset` of an event and `control_id_at` of an item are
//! younger); what this build writes must be the same, and it must read what that release wrote.

#![cfg(test)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_mocks::{RuleMode, mock, mock_client};
use domain::claim::Claim;
use domain::event::{CloudEvent, Outcome};
use domain::step::{ClaimAnswer, ClaimRequest, ParseRequest, Parsed, StoreAnswer, StoreRequest};
use domain::{Envelope, Record, Timestamp, arrivals};
use runtime::StepError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_catalog::Catalog;

const CASES: [&str; 2] = ["parsed", "unparsable"];

fn recorded<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn check(name: &str, written: &impl Serialize) {
    let written = serde_json::to_value(written).unwrap();
    assert_eq!(written, recorded::<Value>(name), "{name}");
}

/// Reads what was recorded and writes it again.
fn read_and_write<T: Serialize + DeserializeOwned>(name: &str) {
    check(name, &recorded::<T>(name));
}

fn record(item: &serde_dynamo::Item) -> Record {
    sluice_catalog::record(item.clone().into()).unwrap()
}

type Item = HashMap<String, AttributeValue>;

/// The item after an update: `SET a = :a, #b = :b REMOVE c, d`, which is all that `finish` writes.
fn apply(item: &mut Item, update: &UpdateItemInput) {
    let (names, values) = (update.expression_attribute_names().unwrap(), update.expression_attribute_values().unwrap());
    let name = |text: &str| names.get(text).cloned().unwrap_or_else(|| text.to_owned());
    let expression = update.update_expression().unwrap();
    let (set, remove) = expression.strip_prefix("SET ").unwrap().split_once(" REMOVE ").unwrap();
    for assignment in set.split(", ") {
        let (attribute, value) = assignment.split_once(" = ").unwrap();
        item.insert(name(attribute), values[value].clone());
    }
    for attribute in remove.split(", ") {
        item.remove(&name(attribute));
    }
}

#[tokio::test]
async fn a_finished_record_is_the_recorded_item() {
    for case in CASES {
        let updates: Arc<Mutex<Vec<UpdateItemInput>>> = Arc::default();
        let seen = Arc::clone(&updates);
        let rule = mock!(aws_sdk_dynamodb::Client::update_item)
            .match_requests(move |update| {
                seen.lock().unwrap().push(update.clone());
                true
            })
            .then_output(|| UpdateItemOutput::builder().build());
        let catalog = Catalog::new(mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [&rule]), "catalog".to_owned());

        let claimed: serde_dynamo::Item = recorded("item-claimed");
        let envelope: Envelope = recorded("envelope");
        let submitted = serde_json::from_value(json!(envelope)).unwrap();
        let StoreAnswer::Stored { stored } = recorded(&format!("store-answer-{case}")) else { panic!("not stored") };
        catalog.finish(&submitted, *stored).await.unwrap();

        let mut item: Item = claimed.into();
        apply(&mut item, &updates.lock().unwrap()[0]);
        // What the index by arrival needs beside that. Records of earlier builds have none of it.
        let of_index = [
            (arrivals::SHARD, arrivals::shard(&envelope.source, &envelope.message_id)),
            ("listed", "stored".to_owned()),
            ("ended_by", envelope.submission_id.to_string()),
        ];
        for (name, value) in of_index {
            assert_eq!(item.remove(name), Some(AttributeValue::S(value)), "{name}");
        }
        check(&format!("item-{case}"), &serde_dynamo::Item::from(item));
    }
}

#[test]
fn a_recorded_item_is_read_as_what_was_stored() {
    for case in CASES {
        let (record, StoreAnswer::Stored { stored }) =
            (record(&recorded(&format!("item-{case}"))), recorded(&format!("store-answer-{case}")))
        else {
            panic!("not stored")
        };
        let now = Timestamp::from_millis(0).unwrap();
        let claimed = Claim::refused_by(&record, record.claim_submission.unwrap(), now);
        assert_eq!(claimed, Some(Claim::AlreadyMine(stored)), "{case}");
    }
    let claimed = record(&recorded("item-claimed"));
    let now = Timestamp::from_millis(0).unwrap();
    assert!(matches!(Claim::refused_by(&claimed, claimed.claim_submission.unwrap(), now), Some(Claim::InProgress { .. })));
}

#[test]
fn a_stored_record_with_an_unreadable_fact_is_an_error_and_not_a_message_that_is_not_stored() {
    for (name, damaged) in
        [("state", json!({ "S": "SECRET" })), ("charset", json!({ "S": "klingon" })), ("key", json!({ "N": "1" }))]
    {
        let mut item: Value = recorded("item-parsed");
        item[name] = damaged;
        let item: serde_dynamo::Item = serde_json::from_value(item).unwrap();
        let error = sluice_catalog::record(item.into()).unwrap_err();
        assert_eq!(error, StepError::InvalidInput { what: "a catalog record" }, "{name}");
    }
}

#[test]
fn a_recorded_item_has_the_recorded_status() {
    for case in ["parsed", "unparsable", "claimed", "denied", "held"] {
        check(&format!("status-{case}"), &record(&recorded(&format!("item-{case}"))).progress());
    }
}

#[test]
fn a_recorded_outcome_has_the_recorded_event() {
    for case in ["parsed", "unparsable", "duplicate", "failed", "held"] {
        let event = CloudEvent::of(recorded(&format!("outcome-{case}")));
        check(&format!("event-{case}"), &event);
        check(&format!("attributes-{case}"), &event.attributes());
    }
}

#[test]
fn the_steps_read_and_write_the_recorded_json() {
    read_and_write::<Envelope>("envelope");
    for action in ["claim", "give-up"] {
        read_and_write::<ClaimRequest>(&format!("claim-request-{action}"));
    }
    let _: ClaimRequest = recorded("claim-request-release");
    for outcome in ["new", "in-progress", "stored", "recorded"] {
        read_and_write::<ClaimAnswer>(&format!("claim-answer-{outcome}"));
    }
    read_and_write::<ParseRequest>("parse-request");
    for case in CASES {
        read_and_write::<Parsed>(&format!("parse-answer-{case}"));
        read_and_write::<StoreRequest>(&format!("store-request-{case}"));
        read_and_write::<StoreAnswer>(&format!("store-answer-{case}"));
        let _: Outcome = recorded(&format!("outcome-{case}"));
    }
}
