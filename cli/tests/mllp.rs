//! `sluice mllp`: the real binary between a peer on loopback and the local system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "mllp/feeds.rs"]
mod feeds;
#[path = "client/gateway.rs"]
mod gateway;
#[path = "client/hold.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod hold;
#[path = "mllp/large.rs"]
mod large;
#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;
#[path = "client/scripted.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod scripted;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use gateway::Gateway;
use hold::{hold, until_status};
use person::{Person, root};
use scripted::{http, shut_out};

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
        &[&account[..], &["--application-ack", "stored", "--outcome-timeout", "85", "--spool", "spool"]].concat(),
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
    let before = Timestamp::now().as_millisecond();
    assert!(gateway.exchange(&message).contains("MSA|AA|"));
    let after = Timestamp::now().as_millisecond();
    gateway.until("awaited", 1);
    // The mark comes to the disk a moment later.
    let began = std::time::Instant::now();
    loop {
        let listed = person.run(&["mllp", "list", "--json"]).expect(0, "").json();
        if listed["waiting"][0]["waitsFor"] == "lake" {
            break;
        }
        assert!(began.elapsed() < gateway::DEADLINE, "{listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut status = person.run(&["mllp", "status", "--json"]).expect(0, "").json();
    let since: Timestamp = status["feeds"][0]["since"].take().as_str().unwrap().parse().unwrap();
    assert!((before..=after).contains(&since.as_millisecond()), "{since}");
    let feed = json!({ "feed": "127.0.0.1:0", "waiting": 1, "awaited": 1, "bytes": message.len(), "since": null });
    assert_eq!(status, json!({ "waiting": 1, "awaited": 1, "feeds": [feed], "refused": 0, "damaged": 0 }));
    person.run(&["mllp", "status"]).expect(0, "1 waiting, 1 of them for the lake, 0 refused by the API, 0 damaged");
    assert_eq!(gateway.stop()["awaited"], 1);

    let id = domain::Er7::canonical(&message).unwrap().message_id();
    // Until then a submission of the same message is accepted as a new one.
    until_status(&person, id.as_str(), "stored").await;
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

#[tokio::test]
async fn messages_that_the_lake_holds_are_released_with_the_gateways_token() {
    let person = Person::signed_in("releases").await;
    let id = hold(&person, &person.message("a.hl7", "DOE"), "expired").await;
    let gateway = Gateway::start(&person, &[]);
    until_status(&person, &id, "stored").await;
    assert_eq!(gateway.stop()["received"], 0, "the gateway has not brought it");
}

/// Passes requests on to an API. Once it is told to, it answers one submission as an authorizer that does not let the token in.
async fn shutting_out(api_url: &str) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (shuts, api, api_url) = (Arc::new(AtomicBool::new(false)), reqwest::Client::new(), api_url.to_owned());
    let told = Arc::clone(&shuts);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(pass_on(stream, api.clone(), api_url.clone(), Arc::clone(&told)));
        }
    });
    (url, shuts)
}

/// Passes one request on, and its answer back.
async fn pass_on(mut stream: TcpStream, api: reqwest::Client, api_url: String, shuts: Arc<AtomicBool>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A connection may be opened and not used.
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers: Vec<_> = headers.lines().filter_map(|line| line.split_once(": ")).collect();
    let length = headers.iter().find(|(name, _)| *name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    let answer = if (method, path) == ("POST", "/er7") && shuts.swap(false, Ordering::SeqCst) {
        shut_out()
    } else {
        let mut request = api.request(method.parse().unwrap(), format!("{api_url}{path}")).body(body);
        // The client sets these itself.
        for (name, value) in headers.iter().filter(|(name, _)| !["host", "content-length", "accept-encoding"].contains(name)) {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let content_type = answer.headers().get("content-type").and_then(|it| it.to_str().ok()).unwrap_or_default();
        let (status, content_type) = (answer.status().to_string(), format!("Content-Type: {content_type}\r\n"));
        http(&status, &content_type, &answer.text().await.unwrap())
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_held_later_is_released_with_the_gateways_next_token() {
    let person = Person::signed_in("later").await;
    let (url, shuts) = shutting_out(&person.outputs.api_url).await;
    person.asks_at(&url);
    let first = hold(&person, &person.message("a.hl7", "DOE"), "expired").await;
    let mut gateway = Gateway::start(&person, &["--ask-after", "1"]);
    until_status(&person, &first, "stored").await;
    let before = person.session()["idToken"].clone();

    // Held after the release with the first token, and so still held after three more looks at that token.
    let second = hold(&person, &person.message("b.hl7", "ROE"), "deployment").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    until_status(&person, &second, "held").await;
    assert_eq!(person.session()["idToken"], before);

    // The API does not take this token any more, and the gateway gets another one.
    shuts.store(true, Ordering::SeqCst);
    assert!(gateway.exchange(&person.message("c.hl7", "POE")).contains("MSA|AA|"));
    gateway.until("stored", 1);
    assert!(!shuts.load(Ordering::SeqCst) && person.session()["idToken"] != before, "another token");
    until_status(&person, &second, "stored").await;
    assert_eq!(gateway.stop()["received"], 1, "it has brought neither of the two");
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
