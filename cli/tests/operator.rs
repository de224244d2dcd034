//! What an operator does with messages: the real binary against the local system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::types::{Tag, Tagging};
use aws_sdk_sqs::Client as Sqs;
use serde_json::{Value, json};
use sluice::Outputs;
use sluice::local::{UpOptions, up};

use person::{Person, root};

const DEADLINE: Duration = Duration::from_secs(180);

const MESSAGE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The local system, and an institute that no other test uses.
struct Setting {
    outputs: Outputs,
    institute: String,
}

impl Setting {
    async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let millis = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let institute = format!("operator-{millis}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { outputs: up(UpOptions::default()).await.unwrap(), institute }
    }

    /// Runs the command for this institute. Gives the exit code and what it said.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let Output { status, stdout, stderr } = command.args(arguments).args(["--source", &self.institute]).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Puts a record with these attributes and the message's key, received in another year.
    async fn record(&self, attributes: &[(&str, &str)]) {
        let aws = self.outputs.local_aws().unwrap();
        let key = [("source", self.institute.as_str()), ("message_id", MESSAGE), ("received_at", "2024-01-02T03:04:05.000Z")];
        let item = key.iter().chain(attributes).map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned())));
        let put = aws_sdk_dynamodb::Client::new(aws.config()).put_item().table_name(&self.outputs.table);
        put.set_item(Some(item.collect())).send().await.unwrap();
    }
}

#[tokio::test]
async fn an_audit_ends_with_0_where_nothing_is_found_and_with_1_where_something_is() {
    let setting = Setting::new().await;
    let audit = ["audit", "--settle", "0s", "--json"];
    let (code, stdout, stderr) = setting.run(&audit);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let report: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!((&report["checked"]["records"], &report["findings"]), (&0.into(), &serde_json::json!({})));

    // What is on its way is left to the next audit, and counted.
    setting.record(&[("status", "queued")]).await;
    let (code, stdout, stderr) = setting.run(&["audit", "--overdue", "900000h", "--json"]);
    let report: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(
        (code, &report["checked"]["recordsLeft"], &report["checked"]["objectsLeft"]),
        (0, &1.into(), &0.into()),
        "{stderr}"
    );
    let (code, stdout, _) = setting.run(&["audit", "--overdue", "900000h"]);
    assert!(code == 0 && stdout.contains("Left to the next audit") && stdout.contains("the ends of 1 records"), "{stdout}");

    let (code, stdout, _) = setting.run(&audit);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (1, 2), "{stdout}");
    assert_eq!((&lines[0]["kind"], &lines[0]["messageId"]), (&"lost".into(), &MESSAGE.into()));
    assert_eq!(lines[1]["findings"]["lost"], 1);
    let (code, stdout, _) = setting.run(&["audit", "--settle", "0s"]);
    assert!(code == 1 && stdout.contains("have the institute submit the message again"), "{stdout}");
}

#[tokio::test]
async fn a_message_is_discarded_with_a_reason_or_not_at_all() {
    let setting = Setting::new().await;
    let discard = |reason| setting.run(&["discard", MESSAGE, "--yes", "--json", "--reason", reason]);
    let refused = |(code, _, stderr): (i32, String, String), expected: i32, words: &str| {
        assert!(code == expected && stderr.contains(words), "{code}: {stderr}");
    };
    refused(discard(""), 2, "at most 200 characters");
    refused(discard("two\nlines"), 2, "at most 200 characters");
    refused(discard("twice"), 1, "has submitted no message");
    setting.record(&[("status", "queued")]).await;
    refused(discard("twice"), 1, "not held, but `queued`");

    let (submission, at) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "2024-01-02T03:04:05.000Z");
    let held = [("held_reason", "denied"), ("held_since", at), ("held_until", at), ("held_key", "k"), ("held_version_id", "v")];
    setting.record(&[&[("status", "held"), ("claim_submission", submission)][..], &held[..]].concat()).await;
    let (code, stdout, stderr) = discard("twice");
    assert_eq!(code, 0, "{stderr}");
    let done: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&done["discardReason"], &done["messageId"]), (&"twice".into(), &MESSAGE.into()));
    // By its first digits too: the same once more.
    let by_digits = |digits| setting.run(&["discard", digits, "--yes", "--json", "--reason", "twice"]);
    let (code, stdout, stderr) = by_digits(MESSAGE.split_at(8).0);
    assert!(code == 0 && stdout.contains(MESSAGE), "{code}: {stdout}{stderr}");
    refused(by_digits("00000000"), 1, "has submitted no message whose id begins with 00000000");
    refused(by_digits("0000000"), 2, "not a message id");
    assert!(done["discardedBy"].as_str().unwrap().starts_with("arn:aws"), "{done}");
}

/// The tags of the newest version of an object.
async fn tags(s3: &aws_sdk_s3::Client, bucket: &str, key: &str) -> BTreeMap<String, String> {
    let found = s3.get_object_tagging().bucket(bucket).key(key).send().await.unwrap();
    found.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

#[tokio::test]
async fn a_repair_is_confirmed_and_then_puts_the_tags_right() {
    let person = Person::signed_in("repairs").await;
    person.message("a.hl7", "DOE");
    person.run(&["send", "--wait", "a.hl7"]).expect(0, "1 accepted");
    let setting = Setting { outputs: person.outputs.clone(), institute: person.institute.clone() };
    let audit = |arguments: &[&str]| setting.run(&[&["audit", "--settle", "0s", "--json"], arguments].concat());
    // The line of the event may come a moment after the status.
    let began = Instant::now();
    while audit(&[]).0 != 0 {
        assert!(began.elapsed() < DEADLINE, "{:?}", audit(&[]));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    let (s3, bucket) = (root(&setting.outputs).s3(), &setting.outputs.bucket);
    let prefix = format!("source={}/protocol=hl7v2/format=er7/", setting.institute);
    let listed = s3.list_objects_v2().bucket(bucket).prefix(prefix).send().await.unwrap();
    let key = listed.contents()[0].key().unwrap();
    let right = tags(&s3, bucket, key).await;
    let wrong = Tagging::builder().tag_set(Tag::builder().key("source").value("another").build().unwrap()).build().unwrap();
    s3.put_object_tagging().bucket(bucket).key(key).tagging(wrong).send().await.unwrap();
    let damaged = tags(&s3, bucket, key).await;
    assert_ne!(damaged, right);

    let (code, stdout, _) = audit(&[]);
    let finding: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!((code, &finding["kind"], &finding["key"]), (1, &"tags-changed".into(), &key.into()), "{stdout}");
    let (code, _, stderr) = audit(&["--repair"]);
    assert!(code == 1 && stderr.contains("Put the tags of 1 objects right, and publish 0 events?"), "{code}: {stderr}");
    assert!(stderr.contains("there is no terminal to ask for confirmation: use --yes"), "{stderr}");
    assert_eq!(tags(&s3, bucket, key).await, damaged, "nobody has confirmed");

    let (code, stdout, stderr) = audit(&["--repair", "--yes"]);
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((code, &last), (0, &json!({ "repaired": { "mended": 1, "gone": 0 } })), "{stdout}{stderr}");
    assert_eq!(tags(&s3, bucket, key).await, right);
    let (code, stdout, _) = audit(&[]);
    assert_eq!(code, 0, "{stdout}");

    // What cannot be mended without a choice is left, and the exit code says so.
    s3.put_object().bucket(bucket).key(key).body(b"another".to_vec().into()).send().await.unwrap();
    let (code, stdout, stderr) = audit(&["--repair", "--yes"]);
    assert!(code == 1 && stdout.contains("object-covered") && !stdout.contains("repaired"), "{code}: {stdout}{stderr}");
}

/// What `redrive --list` says of this institute's only dead letter, once nobody else looks at it.
async fn listed_letter(setting: &Setting) -> Value {
    let began = Instant::now();
    loop {
        let (code, stdout, stderr) = setting.run(&["redrive", "--list", "--json"]);
        assert_eq!(code, 0, "{stderr}");
        let done: Value = serde_json::from_str(&stdout).unwrap();
        if done["moved"] == 1 {
            return done["deadLetters"].as_array().unwrap().iter().find(|it| it["source"] == setting.institute).unwrap().clone();
        }
        assert!(began.elapsed() < DEADLINE, "{done}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_list_of_dead_letters_changes_nothing() {
    let setting = Setting::new().await;
    let (submission, at) = ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "2024-01-02T03:04:05.000Z");
    setting.record(&[("status", "queued")]).await;
    let envelope = json!({
        "v": 1, "submissionId": submission, "messageId": MESSAGE, "source": setting.institute, "receivedAt": at,
        "subject": "somebody", "issuer": "somewhere", "token": "AA==", "payload": { "inline": "TVNI" },
    });
    let (sqs, letters) = (Sqs::new(root(&setting.outputs).config()), &setting.outputs.dead_letter_queue_url);
    sqs.send_message().queue_url(letters).message_body(envelope.to_string()).send().await.unwrap();

    let row = json!({
        "messageId": MESSAGE, "source": setting.institute, "receivedAt": at, "error": null, "action": "redrive",
    });
    // It is there after the first list as it was before.
    assert_eq!(listed_letter(&setting).await, row);
    assert_eq!(listed_letter(&setting).await, row);

    let began = Instant::now();
    let receipt = loop {
        // Hidden for a moment, so that the next call gives the next ones.
        let receive = sqs.receive_message().queue_url(letters).max_number_of_messages(10).visibility_timeout(1);
        let received = receive.send().await.unwrap().messages.unwrap_or_default();
        if let Some(letter) = received.into_iter().find(|it| it.body() == Some(&envelope.to_string())) {
            break letter.receipt_handle;
        }
        assert!(began.elapsed() < DEADLINE, "the dead letter is gone");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    sqs.delete_message().queue_url(letters).set_receipt_handle(receipt).send().await.unwrap();
}

#[tokio::test]
async fn an_account_says_that_there_is_nothing_in_it_and_refuses_a_reversed_period() {
    let setting = Setting::new().await;
    let account = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let Output { status, stdout, stderr } = command.arg("accounting").args(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (code, stdout, stderr) = account(&["--institute", &setting.institute]);
    assert!(code == 0 && stdout.is_empty(), "{code}: {stdout}{stderr}");
    let expected = format!("there are no log lines of the institute {}", setting.institute);
    assert!(stderr.contains(&expected), "{stderr}");
    let (code, stdout, stderr) = account(&["--person", "nobody", "--json"]);
    assert!(code == 0 && stdout.trim() == "[]" && stderr.contains("no log lines of this person"), "{code}: {stdout}{stderr}");
    let (code, _, stderr) = account(&["--message", "feedc0de"]);
    assert!(code == 1 && stderr.contains("names a message whose id begins with feedc0de"), "{code}: {stderr}");
    let (code, stdout, stderr) = account(&["--institute", &setting.institute, "--from", "2h", "--to", "3h"]);
    assert!(code == 2 && stdout.is_empty() && stderr.contains("--from must be before --to"), "{code}: {stdout}{stderr}");
}

/// What the page says to type at an alarm, with a message and an institute in place of the capitals.
#[tokio::test]
async fn the_commands_of_the_alarms_page_run() {
    let setting = Setting::new().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md")).unwrap();
    let chapter = page.split("\n## Alarms\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = chapter.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let commands: std::collections::BTreeSet<&str> = blocks.flat_map(str::lines).collect();
    assert!(commands.len() > 4, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.strip_prefix("cargo run -- ").unwrap().split(' ').collect();
        let named = |it| match it {
            "NAME" => setting.institute.as_str(),
            "ID" => MESSAGE,
            other => other,
        };
        let arguments: Vec<&str> = arguments.into_iter().map(named).collect();
        let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_sluice")).args(&arguments).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        // No line is of that message, and the command says so.
        let is_unknown = arguments.contains(&MESSAGE) && stderr.contains("no log line since");
        assert_eq!(status.code(), Some(i32::from(is_unknown)), "{command}: {stderr}");
    }
}
