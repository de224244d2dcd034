//! `sluice doctor`.

use serde_json::Value;

use super::person::{Ended, Person};
use super::scripted::{http, scripted, shut_out};
use super::text;

/// The outcome of each check, and the command that a failed one names.
fn checks(ended: &Ended) -> Vec<(String, String, Option<String>)> {
    let found = ended.json()["checks"].as_array().unwrap().clone();
    let next = |check: &Value| check.get("next").map(|next| text(next).to_owned());
    found.iter().map(|check| (text(&check["name"]).to_owned(), text(&check["outcome"]).to_owned(), next(check))).collect()
}

/// The one check that failed, with its next command.
#[track_caller]
fn failed(ended: &Ended) -> (String, String) {
    let failed: Vec<_> = checks(ended).into_iter().filter(|(_, outcome, _)| outcome == "failed").collect();
    assert_eq!(failed.len(), 1, "{}", ended.text());
    (failed[0].0.clone(), failed[0].2.clone().unwrap())
}

#[tokio::test]
async fn the_doctor_sends_a_test_message_and_finds_nothing_wrong() {
    let person = Person::signed_in("well").await;
    let ended = person.run(&["doctor", "--send-test", "--json"]).expect(0, "");
    assert_eq!(ended.json()["well"], true);
    let outcomes: Vec<_> = checks(&ended).into_iter().map(|(name, outcome, _)| format!("{name}: {outcome}")).collect();
    let expected = [
        "spool disk: skipped",
        "DNS: ok",
        "TLS: skipped",
        "clock: ok",
        "sign-in: ok",
        "rights: ok",
        "queue: ok",
        "test message: ok",
    ];
    assert_eq!(outcomes, expected, "{}", ended.text());
    let listed = person.run(&["list", "--json"]).expect(0, "").text();
    assert!(listed.contains("NMD") && listed.contains("stored"), "{listed}");
    let table = person.run(&["doctor"]).expect(0, "").text();
    assert!(table.contains("--send-test sends one") && !table.contains("FAILED"), "{table}");
}

#[tokio::test]
async fn the_doctor_names_the_next_command_for_each_failure() {
    let person = Person::new("unwell").await;
    let ended = person.run(&["doctor", "--json"]).expect(1, "");
    assert_eq!(failed(&ended).0, "sign-in");
    assert!(failed(&ended).1.starts_with("sluice login"));

    person.login(&[], &person.password).expect(0, "");
    for (url, name, next) in [
        ("https://no-such-host.invalid", "DNS", "getent hosts no-such-host.invalid"),
        ("http://127.0.0.1:1", "TLS", "curl -v http://127.0.0.1:1/"),
    ] {
        person.asks_at(url);
        let ended = person.run(&["doctor", "--json"]).expect(1, "");
        assert_eq!(failed(&ended), (name.to_owned(), next.to_owned()));
    }

    // A clock that is years off, and an API that does not let the token in, also not another one.
    let unknown = http("401 Unauthorized", "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n", "{}");
    let (url, _) = scripted(vec![unknown, shut_out(), shut_out()]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["doctor", "--json"]).await.expect(1, "");
    let failed: Vec<_> =
        checks(&ended).into_iter().filter(|(_, outcome, _)| outcome == "failed").map(|it| (it.0, it.2.unwrap())).collect();
    let expected = [("clock", "timedatectl status"), ("rights", "sluice logout && sluice login")];
    assert_eq!(failed, expected.map(|(name, next)| (name.to_owned(), next.to_owned())), "{}", ended.text());
    assert_eq!(person.run(&["doctor", "--spool"]).code, Some(2));
}
