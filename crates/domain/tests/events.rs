//! An event of each type as subscribers get it, in files that a reviewer sees change.
//!
//! `INSTA_UPDATE=always cargo test -p sluice-domain --test events` writes them.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use sluice_domain::event::{CloudEvent, Outcome};

const MESSAGE_ID: &str = "c313461aa2f84f863700d53d3e0d3fd02028a79b3346796cab06f905ecd7015d";

/// As the state machine hands it to `publish`.
fn outcome(event: &str, stored: Value, error: Value, reason: Value) -> Outcome {
    let outcome = json!({
        "type": event, "submissionId": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "messageId": MESSAGE_ID, "source": "general-hospital",
        "receivedAt": "2026-01-02T03:04:05.000Z", "stored": stored, "error": error, "reason": reason,
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    });
    serde_json::from_value(outcome).unwrap()
}

fn parsed() -> Value {
    let key = |format: &str, zone: &str, end: &str| {
        format!("source=general-hospital/protocol=hl7v2/format={format}/zone={zone}/date=2026-01-02/{MESSAGE_ID}.{end}")
    };
    json!({
        "state": "parsed", "bucket": "lake", "key": key("er7", "ingest", "hl7"), "versionId": "v1",
        "jsonKey": key("json", "staging", "json.gz"), "jsonVersionId": "v2", "charset": "UTF-8",
        "receivedAt": "2026-01-02T03:04:05.000Z", "storedAt": "2026-01-02T03:04:06.000Z",
        "summary": {"messageType": "ADT", "triggerEvent": "A01", "messageStructure": "ADT_A01", "controlId": "7", "hl7Version": "2.5.1",
            "sendingApplication": "HIS", "sendingFacility": "WEST"},
    })
}

fn unparsable() -> Value {
    let mut stored = parsed();
    stored["state"] = json!("error");
    stored["summary"] = json!({});
    stored["error"] = json!({"code": "msh-missing", "segment": "PID", "position": 1, "offset": 0});
    stored["jsonKey"].take();
    stored["jsonVersionId"].take();
    stored
}

/// Type, stored message, error and reason of an event of each type.
fn cases() -> [(&'static str, Value, Value, Value); 7] {
    [
        ("stored", parsed(), Value::Null, Value::Null),
        ("unparsable", unparsable(), Value::Null, Value::Null),
        ("duplicate", parsed(), Value::Null, Value::Null),
        ("held", Value::Null, json!("TokenExpired"), json!("expired")),
        ("released", Value::Null, Value::Null, json!("expired")),
        ("discarded", Value::Null, json!("Denied"), json!("denied")),
        ("failed", Value::Null, json!("PayloadExpired"), Value::Null),
    ]
}

/// The schema of the documents, and closed: an object has no member that the schema does not name.
fn closed(mut schema: Value) -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(close);
                if members.contains_key("properties") && members.get("type") == Some(&json!("object")) {
                    members.insert("additionalProperties".to_owned(), json!(false));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

#[test]
fn each_event_is_the_one_that_the_schema_describes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/event.schema.json");
    let schema = closed(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap());
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("event.json", schema.clone()).unwrap();
    let index = compiler.compile("event.json", &mut schemas).unwrap();
    let mut kinds = Vec::new();
    for (event, stored, error, reason) in cases() {
        let sent = serde_json::to_value(CloudEvent::of(outcome(event, stored, error, reason))).unwrap();
        schemas.validate(&sent, index).map_err(|error| format!("{event}: {error:#}")).unwrap();
        kinds.push(json!(event));
        let mut other = sent;
        other["data"]["patient"] = json!("DOE");
        assert!(schemas.validate(&other, index).is_err(), "{event}: a member that nobody described");
    }
    assert_eq!(schema["properties"]["type"]["enum"], Value::Array(kinds));
}

#[test]
fn an_event_of_each_type_is_the_one_of_its_snapshot() {
    let mut text = String::new();
    for (event, stored, error, reason) in cases() {
        let event = CloudEvent::of(outcome(event, stored, error, reason));
        let attributes: Vec<_> = event.attributes().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&format!("{}\n{}\n\n", attributes.join(" "), serde_json::to_string_pretty(&event).unwrap()));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("events", text));
}
