//! The feeds of a config file, which the gateway reads again on SIGHUP.

use std::net::TcpListener;

use domain::{Charset, Er7};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::gateway::{Gateway, Peer};
use super::person::Person;

const CONFIG: &str = "feeds.toml";

fn write(person: &Person, config: &str) {
    std::fs::write(person.path(CONFIG), config).unwrap();
}

/// A text as a sender in Western Europe writes it.
fn latin(text: &str) -> Vec<u8> {
    Charset::for_hl7("8859/1").unwrap().encode(text).unwrap()
}

#[tokio::test]
async fn each_feed_of_a_config_file_has_its_own_settings() {
    let person = Person::signed_in("feeds").await;
    let analyzer = TcpListener::bind("127.0.0.1:0").unwrap();
    // The system chooses the ports. So the addresses differ, because two feeds do not share one.
    let config = format!(
        "[[listen]]\nname = \"adt\"\naddress = \"127.0.0.1:0\"\ncharset = \"8859/1\"\n\n\
         [[listen]]\nname = \"oru\"\naddress = \"127.0.0.2:0\"\napplication-ack = \"stored\"\n\n\
         [[connect]]\nname = \"bc5800\"\naddress = \"{}\"\ncharset = \"8859/2\"\n",
        analyzer.local_addr().unwrap()
    );
    write(&person, &config);
    let mut gateway = Gateway::with_feeds(&person, &["--config", CONFIG, "--ask-after", "1", "--outcome-timeout", "85"]);
    let mut oru = Peer::connect(&gateway.next_address());
    let line = gateway.until_said("connect");
    assert_eq!((&line["feed"], &line["connected"]), (&json!("bc5800"), &json!(true)), "{line}");
    let mut bc5800 = Peer::new(analyzer.accept().unwrap().0);

    // The same bytes are a text in the one set, another text in the other set, and none in UTF-8.
    let western = person.message("a.hl7", "D\u{b1}E");
    let bytes = latin(&western);
    let answer = Peer::connect(&gateway.address).exchange(&bytes);
    assert!(answer.contains("MSA|AA|"), "{answer}");
    let answer = bc5800.exchange(&bytes);
    assert!(answer.contains("MSA|AA|"), "{answer}");
    let answer = oru.exchange(&bytes);
    assert!(answer.contains("MSA|AE|") && answer.contains("not valid UTF-8"), "{answer}");

    // With its answer a message is in the lake.
    let stored = person.message("b.hl7", "DOE");
    let answer = oru.exchange(stored.as_bytes());
    assert!(answer.contains("MSA|AA|") && !answer.contains("ERR|"), "{answer}");
    let id = |message: &str| Er7::canonical(message).unwrap().message_id().to_string();
    let status = person.run(&["status", &id(&stored), "--json"]).expect(0, "").json();
    assert_eq!(status[0]["status"], "stored", "{status}");

    gateway.until("stored", 3);
    for message in [&western, &western.replace('\u{b1}', "\u{105}")] {
        assert_eq!(person.run(&["get", &id(message)]).expect(0, "").text(), *message);
    }
    let report = gateway.stop();
    let feeds: Vec<_> = report["feeds"].as_array().unwrap().iter().map(|feed| json!([feed["name"], feed["received"]])).collect();
    assert_eq!(feeds, [json!(["adt", 1]), json!(["oru", 2]), json!(["bc5800", 1])]);
}

/// Has the config file read again, and gives what the log says of that.
fn reload(gateway: &Gateway) -> Value {
    kill_process(Pid::from_child(&gateway.process), Signal::HUP).unwrap();
    gateway.until_said("reload")
}

/// Whether the gateway has waited for the outcome, in vain, before it accepted a message.
#[track_caller]
fn has_waited(answer: &str) -> bool {
    assert!(answer.contains("MSA|AA|"), "{answer}");
    answer.contains("no outcome within 1 s")
}

#[tokio::test]
async fn on_sighup_the_config_file_is_read_again_and_no_connection_is_dropped() {
    let person = Person::signed_in("reload").await;
    // Nobody listens there, so no outcome ever comes, and each answer tells which settings it follows.
    person.asks_at("http://127.0.0.1:1");
    let message = person.message("a.hl7", "M\u{fc}LLER");
    let (utf_8, latin) = (message.as_bytes(), latin(&message));
    let first = "[[listen]]\nname = \"adt\"\naddress = \"127.0.0.1:0\"\n";
    write(&person, first);
    let gateway = Gateway::with_feeds(&person, &["--config", CONFIG, "--outcome-timeout", "1"]);
    let mut before = Peer::connect(&gateway.address);
    assert!(!has_waited(&before.exchange(utf_8)));

    // No other test listens on this address, so the port stays free until the gateway takes it.
    let added = TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap().to_string();
    let second = format!(
        "{first}application-ack = \"stored\"\n\n[[listen]]\nname = \"oru\"\naddress = \"{added}\"\ncharset = \"8859/1\"\n"
    );
    write(&person, &second);
    let line = reload(&gateway);
    assert_eq!((&line["done"], &line["feeds"]), (&json!(true), &json!(2)), "{line}");
    // The old connection has its old settings, and a new one on the same port has the new ones.
    assert!(!has_waited(&before.exchange(utf_8)));
    assert!(has_waited(&Peer::connect(&gateway.address).exchange(utf_8)));
    let mut oru = Peer::connect(&added);
    assert!(!has_waited(&oru.exchange(&latin)));

    // A mistake changes nothing. The log is JSON whatever a name in the file holds: here a character that turns the reading order around.
    let mistakes = [
        (second.replace("\"stored\"", "\"perhaps\""), "feeds.toml: line 4, column 19: "),
        (format!("{second}tls = {{ certificate = \"a\u{202e}.crt\", key = \"a.key\" }}\n"), "a\u{202e}.crt"),
    ];
    for (config, reason) in mistakes {
        write(&person, &config);
        let line = reload(&gateway);
        assert_eq!(line["done"], false, "{line}");
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert!(!has_waited(&before.exchange(utf_8)));
        for peer in [&mut oru, &mut Peer::connect(&added)] {
            assert!(!has_waited(&peer.exchange(&latin)));
        }
    }

    let status = person.run(&["mllp", "status", "--json"]).expect(0, "").json();
    let feeds = status["feeds"].as_array().unwrap().iter();
    let feeds: Vec<_> = feeds.map(|feed| json!([feed["feed"], feed["waiting"], feed["awaited"]])).collect();
    assert_eq!(feeds, [json!(["adt", 5, 0]), json!(["oru", 5, 0])], "all of them wait for the API");
    assert_eq!(gateway.stop()["spooled"], 10);
}
