//! Messages that the lake holds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::Client as Sqs;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Er7, Timestamp};
use serde_json::{Value, json};

use super::person::{Person, root};

/// Has the lake hold a message: queues a submission whose tries are over, as dispatch does, and waits for its end. Gives the
/// message's id.
pub(crate) async fn hold(person: &Person, message: &str, reason: &str) -> String {
    let received_at = "2026-01-02T03:04:05Z".parse().unwrap();
    queue_and_hold(person, message, received_at, &json!({ "hold": { "reason": reason, "error": "AnError" } })).await
}

/// Queues a message in an envelope with these further members, and waits until it is held. Gives the message's id.
pub(crate) async fn queue_and_hold(person: &Person, message: &str, received_at: Timestamp, more: &Value) -> String {
    let id = Er7::canonical(message).unwrap().message_id().to_string();
    let mut envelope = json!({
        "v": 1, "submissionId": ulid::Ulid::generate().to_string(), "messageId": id, "source": person.institute,
        "receivedAt": received_at, "subject": "somebody", "issuer": "somewhere", "token": "bm90IHNlYWxlZA==",
        "payload": { "inline": BASE64_STANDARD.encode(message) },
    });
    envelope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let queue = Sqs::new(root(&person.outputs).config());
    queue.send_message().queue_url(&person.outputs.queue_url).message_body(envelope.to_string()).send().await.unwrap();
    until_status(person, &id, "held").await;
    id
}

/// Waits until a message has this status, as its institute sees it.
pub(crate) async fn until_status(person: &Person, id: &str, status: &str) {
    // A gateway whose release failed tries again after a minute.
    const DEADLINE: Duration = Duration::from_secs(180);
    let begun = Instant::now();
    loop {
        let found = person.run_async(&["status", id, "--json"]).await.stdout;
        if serde_json::from_slice::<Value>(&found).is_ok_and(|found| found[0]["status"] == status) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "not {status}: {}", String::from_utf8_lossy(&found));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The catalog of the deployment, as the account's root.
fn catalog(person: &Person) -> Client {
    Client::new(root(&person.outputs).config())
}

/// The key of a message's record.
fn key(person: &Person, id: &str) -> HashMap<String, AttributeValue> {
    [("source", person.institute.as_str()), ("message_id", id)].map(|(name, value)| (name.to_owned(), text(value))).into()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// The record of a message.
pub(crate) async fn record(person: &Person, id: &str) -> HashMap<String, AttributeValue> {
    let get = catalog(person).get_item().table_name(&person.outputs.table).set_key(Some(key(person, id)));
    get.consistent_read(true).send().await.unwrap().item.unwrap()
}

/// Changes one attribute of a message's record.
pub(crate) async fn change(person: &Person, id: &str, name: &str, value: &str) {
    let update = catalog(person).update_item().table_name(&person.outputs.table).set_key(Some(key(person, id)));
    let update = update.update_expression("SET #name = :value").expression_attribute_names("#name", name);
    update.expression_attribute_values(":value", text(value)).send().await.unwrap();
}

/// Removes the record of a message.
pub(crate) async fn remove_record(person: &Person, id: &str) {
    let delete = catalog(person).delete_item().table_name(&person.outputs.table).set_key(Some(key(person, id)));
    delete.send().await.unwrap();
}
