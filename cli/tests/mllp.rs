//! `sluice mllp`: the real binary between a peer on loopback and the local system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "client/gateway.rs"]
mod gateway;
#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use base64::Engine as _;
use serde_json::Value;

use gateway::{DEADLINE, Gateway};
use person::{Person, root};

#[tokio::test]
async fn a_message_over_mllp_is_stored() {
    let person = Person::signed_in("mllp").await;
    let mut gateway = Gateway::start(&person, &["--ask-after", "1"]);
    let message = person.message("a.hl7", "DOE");
    assert!(gateway.exchange(&message).contains("MSA|AA|"));
    gateway.until("delivered", 1);
    // The same once more, with a sender of Sluice's own, and a look into the spool.
    let sent = person.run(&["mllp", "send", "a.hl7", "--to", &gateway.address]).expect(0, "1 accepted, 0 not").text();
    assert!(sent.contains("MSA|"), "{sent}");
    gateway.until("delivered", 2);
    gateway.until("spooled", 0);
    gateway.until("awaited", 0);
    person.run(&["mllp", "status"]).expect(0, "0 waiting, 0 of them for the lake, 0 refused by the API, 0 damaged");
    let listed = person.run(&["mllp", "list", "--json"]).expect(0, "").json();
    assert_eq!(listed["waiting"], serde_json::json!([]), "{listed}");
    let report = gateway.stop();
    assert_eq!((&report["received"], &report["spooled"]), (&2.into(), &0.into()));

    // With its own sign-in, and with the outcome.
    std::fs::write(person.path("password"), &person.password).unwrap();
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    person.run(&["logout"]).expect(0, "");
    let account = ["--email", &person.email, "--password-file", "password", "--deployment", "deployment.json"];
    let gateway = Gateway::start(
        &person,
        &[&account[..], &["--application-ack", "stored", "--outcome-timeout", "60", "--spool", "spool"]].concat(),
    );
    let second = person.message("b.hl7", "ROE");
    let answer = gateway.exchange(&second);
    assert!(answer.contains("MSA|AA|"), "{answer}");
    // The same once more is the same.
    assert!(gateway.exchange(&second).contains("MSA|AA|"));
    let answer = gateway.exchange("I'm just a random number: 4711");
    assert!(answer.contains("MSA|AA|") && answer.contains("ERR"), "{answer}");
    let report = gateway.stop();
    assert_eq!((&report["duplicates"], &report["acknowledged"]), (&1.into(), &3.into()));

    person.login(&[], &person.password).expect(0, "");
    let listed = person.run(&["list", "--json"]).expect(0, "").text();
    assert_eq!(listed.lines().filter(|line| line.contains("\"stored\"")).count(), 3, "{listed}");
}

/// Mirth itself does not run here. What its destination sends and reads is in the channel.
#[tokio::test]
async fn the_destination_of_mirths_channel_understands_the_gateway() {
    let channel = std::fs::read_to_string("../examples/interface-engines/mirth-channel.xml").unwrap();
    let destination = channel.split_once("<destinationConnectors>").unwrap().1;
    let text = |element: &str| {
        let (_, rest) = destination.split_once(&format!("<{element}>")).unwrap_or_else(|| panic!("no {element}"));
        rest.split_once(&format!("</{element}>")).unwrap().0
    };
    let bytes = |element: &str| const_hex::decode(text(element)).unwrap();
    assert_eq!((text("queueEnabled"), text("validateResponse"), text("queueOnResponseTimeout")), ("true", "true", "true"));
    // Of the response's transformer, the outbound half: what Mirth compares an answer with.
    let (_, validation) = destination.rsplit_once("<responseValidationProperties").unwrap();
    let (_, success) = validation.split_once("<successfulACKCode>").unwrap();
    let success: Vec<_> = success.split_once('<').unwrap().0.split(',').collect();
    assert!(validation.contains("<validateMessageControlId>true</"));

    let person = Person::signed_in("mirth").await;
    let mut gateway = Gateway::start(&person, &["--ask-after", "1"]);
    let message = person.message("a.hl7", "DOE");
    // Mirth decodes and encodes: each byte is one character of this set, and stays.
    assert_eq!(text("charsetEncoding"), "ISO-8859-1");
    // As `exchange` frames it.
    assert_eq!((bytes("startOfMessageBytes"), bytes("endOfMessageBytes")), (b"\x0b".to_vec(), b"\x1c\r".to_vec()));
    let answer = gateway.exchange(&message);
    let acknowledgment: Vec<_> =
        answer.split(['\u{b}', '\r']).find_map(|it| it.strip_prefix("MSA|")).unwrap().split('|').collect();
    assert!(success.contains(&acknowledgment[0]), "{answer}");
    assert_eq!(Some(acknowledgment[1]), message.split('|').nth(9), "{answer}");
    gateway.until("spooled", 0);
    gateway.stop();
}

#[tokio::test]
async fn a_message_that_the_lake_has_lost_is_submitted_again() {
    let person = Person::signed_in("lost").await;
    let mut gateway = Gateway::start(&person, &["--ask-after", "3600"]);
    let message = person.message("a.hl7", "DOE");
    assert!(gateway.exchange(&message).contains("MSA|AA|"));
    gateway.until("awaited", 1);
    let listed = person.run(&["mllp", "list", "--json"]).expect(0, "").json();
    assert_eq!(listed["waiting"][0]["waitsFor"], "lake", "{listed}");
    assert_eq!(gateway.stop()["awaited"], 1);

    let id = domain::Er7::canonical(&message).unwrap().message_id();
    person.run(&["send", "--wait", "a.hl7"]).expect(0, "1 sent or stored before");
    let catalog = aws_sdk_dynamodb::Client::new(root(&person.outputs).config());
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let delete = catalog.delete_item().table_name(&person.outputs.table).key("source", text(&person.institute));
    delete.key("message_id", text(id.as_str())).send().await.unwrap();

    // It asks at its start, and does not submit what it has submitted before it knows that the lake does not have it.
    let mut gateway = Gateway::start(&person, &["--ask-after", "1"]);
    gateway.until("lost", 1);
    gateway.until("stored", 1);
    gateway.until("awaited", 0);
    let report = gateway.stop();
    assert_eq!((&report["spooled"], &report["delivered"]), (&0.into(), &0.into()), "{report}");
    let status = person.run(&["status", id.as_str(), "--json"]).expect(0, "").json();
    assert_eq!(status[0]["status"], "stored", "{status}");
}

/// Waits until a message has this status, as its institute sees it.
async fn until_status(person: &Person, id: &str, status: &str) {
    let begun = Instant::now();
    loop {
        let found = person.run(&["status", id, "--json"]).stdout;
        if serde_json::from_slice::<Value>(&found).is_ok_and(|found| found[0]["status"] == status) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "not {status}: {}", String::from_utf8_lossy(&found));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn messages_that_the_lake_holds_are_released_with_the_gateways_token() {
    let person = Person::signed_in("releases").await;
    let message = person.message("a.hl7", "DOE");
    let id = domain::Er7::canonical(&message).unwrap().message_id();
    // A submission whose tries are over, as dispatch queues it.
    let envelope = serde_json::json!({
        "v": 1, "submissionId": ulid::Ulid::generate().to_string(), "messageId": id, "source": person.institute,
        "receivedAt": "2026-01-02T03:04:05Z", "subject": "somebody", "issuer": "somewhere", "token": "AA==",
        "payload": { "inline": base64::prelude::BASE64_STANDARD.encode(&message) },
        "hold": { "reason": "expired", "error": "TokenExpired" },
    });
    let queue = aws_sdk_sqs::Client::new(root(&person.outputs).config());
    queue.send_message().queue_url(&person.outputs.queue_url).message_body(envelope.to_string()).send().await.unwrap();
    until_status(&person, id.as_str(), "held").await;
    let gateway = Gateway::start(&person, &[]);
    until_status(&person, id.as_str(), "stored").await;
    assert_eq!(gateway.stop()["received"], 0, "the gateway has not brought it");
}

#[tokio::test]
async fn an_invalid_configuration_is_reported() {
    let person = Person::new("nomllp").await;
    let listen = ["mllp", "--listen", "127.0.0.1:0"];
    person.run(&listen).expect(1, "nobody is signed in");
    person.run(&["mllp", "--listen", "nowhere"]).expect(2, "--listen");
    person.run(&[&listen[..], &["--tls-cert", "a.pem"]].concat()).expect(2, "--tls-key");
    person.run(&[&listen[..], &["--tls-cert", "a.pem", "--tls-key", "b.pem"]].concat()).expect(1, "a.pem");
    person.run(&["mllp"]).expect(2, "--listen ADDRESS, --connect HOST:PORT or --config FILE");
    person.run(&[&listen[..], &["--metrics", "0.0.0.0:0"]].concat()).expect(2, "loopback");
    std::fs::write(person.path("feeds.toml"), "[[listen]]\nname = \"adt\"\naddress = \"nowhere\"\n").unwrap();
    person.run(&["mllp", "--config", "feeds.toml"]).expect(2, "feeds.toml: line 3, column 11");
    person.run(&[&listen[..], &["--config", "feeds.toml"]].concat()).expect(2, "--config");
    let account = ["--email", &person.email, "--password-file", "password", "--deployment", "deployment.json"];
    std::fs::write(person.path("password"), "Wrong-password-1").unwrap();
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o644)).unwrap();
    person.run(&[&listen[..], &account].concat()).expect(1, "can be read by others");
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    person.run(&[&listen[..], &account].concat()).expect(1, "the sign-in was refused");

    std::fs::write(person.path("password"), &person.password).unwrap();
    let gateway = Gateway::start(&person, &[&account[..], &["--spool", "spool"]].concat());
    person.run(&[&listen[..], &account, &["--spool", "spool"]].concat()).expect(1, "in use by another gateway");
    let taken = ["mllp", "--listen", &gateway.address];
    person.run(&[&taken[..], &account].concat()).expect(1, "listening on");
    gateway.stop();
}
