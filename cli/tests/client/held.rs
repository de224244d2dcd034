//! What the lake holds is released by whoever may write it.

use std::time::SystemTime;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Timestamp;
use serde_json::{Value, json};

use super::hold::{change, hold, queue_and_hold, record, remove_record, until_status};
use super::person::Person;
use super::scripted::{accepted, http, scripted};
use super::text;

/// Queues a message with a token that opens for nobody, as a defect would, and waits until it is held. Gives the message's id.
async fn hold_for_its_token(person: &Person, message: &str) -> String {
    queue_and_hold(person, message, Timestamp::from(SystemTime::now()), &json!({})).await
}

#[tokio::test]
async fn held_messages_are_released_by_id_or_all_at_once() {
    let person = Person::signed_in("release").await;
    assert_eq!(person.run(&["release", "--all"]).expect(0, "").text().trim(), "Nothing is held.");
    let message = |file| person.message(file, "DOE");
    let first = hold_for_its_token(&person, &message("a.hl7")).await;
    let second = hold_for_its_token(&person, &message("b.hl7")).await;
    let third = hold_for_its_token(&person, &message("c.hl7")).await;
    let status = person.run(&["status", &first, "--json"]).expect(0, "").json();
    assert_eq!((text(&status[0]["held"]["reason"]), text(&status[0]["error"]["code"])), ("denied", "TokenInvalid"));

    let table = person.run(&["release", &first]).expect(0, "").text();
    assert!(table.contains(&first) && table.contains("on its way again"), "{table}");
    until_status(&person, &first, "stored").await;
    person.run(&["release", &first]).expect(1, "Not held");
    person.run(&["release", &"0".repeat(64)]).expect(1, "no message with this id");

    let nothing = person.run(&["release", "--all", "--reason", "expired", "--json"]).expect(0, "").json();
    assert_eq!(nothing, json!({ "released": [], "refused": [] }));
    let all = person.run(&["release", "--all", "--reason", "denied", "--json"]).expect(0, "").json();
    let released: Vec<_> = all["released"].as_array().unwrap().iter().map(|it| text(&it["messageId"]).to_owned()).collect();
    assert_eq!(released, [second.clone(), third.clone()], "in the order in which they were held");
    for id in [&second, &third] {
        until_status(&person, id, "stored").await;
    }
    person.run(&["release"]).expect(2, "required");
    person.run(&["release", "--all", &first]).expect(2, "cannot be used with");
}

#[tokio::test]
async fn held_messages_are_released_by_the_time_at_which_they_were_held() {
    let person = Person::signed_in("bytime").await;
    let mut ids = Vec::new();
    for (file, since) in [("a.hl7", "2026-01-02T03:04:05.000Z"), ("b.hl7", "2026-01-02T03:04:06.000Z")] {
        let id = hold(&person, &person.message(file, "DOE"), "expired").await;
        change(&person, &id, "held_since", since).await;
        ids.push(id);
    }
    let release = |from, to| person.run(&["release", "--all", "--from", from, "--to", to, "--json"]).expect(0, "").json();
    // The first moment counts, and the last does not.
    let released = release("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z");
    let found: Vec<_> = released["released"].as_array().unwrap().iter().map(|it| text(&it["messageId"])).collect();
    assert_eq!((found, &released["refused"]), (vec![ids[0].as_str()], &json!([])));
    until_status(&person, &ids[0], "stored").await;
    until_status(&person, &ids[1], "held").await;
    assert_eq!(release("2026-01-02T03:04:07Z", "2026-01-03"), json!({ "released": [], "refused": [] }));
}

#[tokio::test]
async fn a_waiting_send_releases_what_the_lake_holds_and_never_what_it_denied() {
    let person = Person::signed_in("sendheld").await;
    let cases = [("a.hl7", "expired", "stored"), ("b.hl7", "denied", "held"), ("c.hl7", "deployment", "stored")];
    let messages = cases.map(|(file, ..)| person.message(file, "DOE"));
    person.run(&["send", "--wait", "a.hl7", "b.hl7", "c.hl7"]).expect(0, "3 accepted");
    // As if they had not been stored but held, and this program had been broken off before it knew.
    let journal = std::fs::read_dir(person.path("state/sluice/sent")).unwrap().next().unwrap().unwrap().path();
    let lines = std::fs::read_to_string(&journal).unwrap();
    let queued: Vec<_> = lines.lines().filter(|line| line.contains("queued")).collect();
    std::fs::write(&journal, queued.join("\n") + "\n").unwrap();
    let mut ids = Vec::new();
    for ((_, reason, _), message) in cases.iter().zip(&messages) {
        let id = domain::Er7::canonical(message).unwrap().message_id().to_string();
        remove_record(&person, &id).await;
        hold(&person, message, reason).await;
        ids.push(id);
    }

    let sent = person.run(&["send", "--wait", "--json", "a.hl7", "b.hl7", "c.hl7"]).expect(1, "").json();
    for (n, (file, _, status)) in cases.into_iter().enumerate() {
        let row = &sent["files"][n];
        assert_eq!((text(&row["file"]), text(&row["status"])), (file, status), "{sent}");
        let record = record(&person, &ids[n]).await;
        // Nothing was submitted again, and only what was released has a releaser.
        assert_eq!(record["submissions"], AttributeValue::N("1".to_owned()), "{file}");
        assert_eq!(record.contains_key("releaser"), status == "stored", "{file}");
    }
}

#[tokio::test]
async fn a_waiting_send_releases_once_and_submits_again_only_if_the_copy_is_gone() {
    let person = Person::signed_in("sendonce").await;
    person.message("a.hl7", "DOE");
    let status = |more: Value| {
        let at = "2026-01-02T03:04:05Z";
        let mut status = json!({ "messageId": "0".repeat(64), "submissions": 1, "receivedAt": at });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        http("200 OK", "Content-Type: application/json\r\n", &json!({ "statuses": [status] }).to_string())
    };
    let held = || {
        let at = "2026-01-02T03:04:05Z";
        status(json!({ "status": "held", "held": { "reason": "expired", "since": at, "until": at } }))
    };
    let discarded = || status(json!({ "status": "discarded" }));
    let stored = || status(json!({ "status": "stored", "state": "parsed" }));
    let took = || http("202 Accepted", "", &accepted());
    let released = || {
        let released = json!({ "messageId": "0".repeat(64), "submissionId": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "status": "queued" });
        http("202 Accepted", "Content-Type: application/json\r\n", &released.to_string())
    };
    let refused = |status: &str, title: &str| {
        let code: u16 = status.split(' ').next().unwrap().parse().unwrap();
        let problem = json!({ "title": title, "status": code, "detail": "of this one" });
        http(status, "Content-Type: application/problem+json\r\n", &problem.to_string())
    };
    let (submit, ask, release) = ("/er7", "/er7/status", format!("/er7/{}/release", "0".repeat(64)));
    let release = release.as_str();
    let cases = [
        // Held again: then somebody has to look at it.
        (vec![took(), held(), released(), held()], vec![submit, ask, release, ask], 1, "held, and released"),
        // Somebody else has released it.
        (vec![took(), held(), refused("409 Conflict", "Not held"), stored()], vec![submit, ask, release, ask], 0, "stored"),
        // This machine still has the message.
        (
            vec![took(), held(), refused("410 Gone", "Held copy gone"), took(), stored()],
            vec![submit, ask, release, submit, ask],
            0,
            "submitted again",
        ),
        // An operator has decided.
        (vec![took(), discarded()], vec![submit, ask], 1, "discarded"),
    ];
    for (answers, expected, code, said) in cases {
        let (url, requests) = scripted(answers).await;
        person.asks_at(&url);
        let table = person.run_async(&["send", "--wait", "a.hl7"]).await.expect(code, "").text();
        assert!(table.contains(said), "{said}: {table}");
        let requests = requests.await.unwrap();
        let paths: Vec<_> = requests.iter().map(|it| it.split(' ').nth(1).unwrap()).collect();
        assert_eq!(paths, expected, "{said}");
    }

    // What came from a pipe cannot be read again, and need not be.
    let (url, requests) = scripted(vec![took(), held(), released(), stored()]).await;
    person.asks_at(&url);
    let mut piped = tokio::process::Command::from(person.command(&["send", "--wait", "-"]));
    piped.stdin(std::fs::File::open(person.path("a.hl7")).unwrap());
    person.ended(piped.output().await.unwrap()).expect(0, "1 accepted");
    assert_eq!(requests.await.unwrap().len(), 4);
}
