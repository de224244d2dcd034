//! A service of AWS answers nothing for hours, each service in its turn, while messages come through the gateway and through the API.
//! In the end each message is stored once: those of the gateway by themselves, those of the API after at most one `sluice release`.
//!
//! A test program of its own: the calls of every test that runs beside it would fail, too. Each run of the tests has two short outages.
//! `SLUICE_OUTAGE=all SLUICE_OUTAGE_MESSAGES=500 cargo test --workspace --test outages -- --nocapture` has a long one of each service and
//! prints what came of it; `SLUICE_OUTAGE=s3,kms` of these.
//!
//! No clock is set. What takes hours on AWS is shorter in the long outages: see [`PARAMETERS`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that panics has failed, and its output is a result"
)]

#[path = "client/gateway.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod gateway;
#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use client::http::{Api, ER7};
use domain::{Record, Status};
use futures_util::stream::{self, StreamExt as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice::Outputs;
use sluice::local::{UpOptions, up};

use gateway::Gateway;
use person::{Person, root};

/// The services that a message meets, as IAM calls them.
const SERVICES: [&str; 7] = ["sqs", "states", "dynamodb", "s3", "kms", "cognito-identity", "sns"];

/// A long outage stands for one of three hours: in it a message's token ends (after an hour by default), and the tries of a message end
/// (`RetryMinutes`, three hours by default). Here both end after the shortest time that Cognito allows for a token.
const PARAMETERS: [(&str, &str); 2] = [("IdTokenMinutes", "5"), ("RetryMinutes", "5")];
const LONG: Duration = Duration::from_secs(330);

/// In a short outage neither of the two ends, and so nothing is held.
const SHORT: Duration = Duration::from_secs(15);

/// How long after the end of an outage all is stored. On AWS the longest delay of a message is 15 minutes; here it begins with one
/// second and not with 30, but a machine with two cores has to work off what has gathered.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Whoever may make calls fail: the account's root.
struct Faults<'a>(&'a Outputs);

impl Faults<'_> {
    async fn ask(&self, method: &str, body: &Value) {
        let (endpoint, root_key) = (self.0.endpoint_url.as_ref().unwrap(), self.0.root_key.as_ref().unwrap());
        let (uri, body) = (format!("{endpoint}/_sluice/faults"), body.to_string());
        let identity = root_key.credentials().into();
        let parameters = SigningParams::builder().identity(&identity).region(&self.0.region).name("sluice");
        let parameters = parameters.time(SystemTime::now()).settings(SigningSettings::default()).build().unwrap().into();
        let signable = SignableRequest::new(method, &uri, std::iter::empty(), SignableBody::Bytes(body.as_bytes())).unwrap();
        let signed = sign(signable, &parameters).unwrap();
        let mut request = http::Request::builder().method(method).uri(&uri).body(body.clone()).unwrap();
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        let answer = reqwest::Client::new().execute(request.try_into().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// From now on no worker and no user has an answer of this service but 503.
    async fn begin(&self, service: &str) {
        // Not the root, which looks on. The calls of an identity pool are nobody's, they are not signed.
        let principal = if service == "cognito-identity" { "" } else { ":assumed-role/" };
        let fault = json!({ "id": "outage", "action": format!("{service}:*"), "kind": "503", "principal": principal });
        self.ask("POST", &fault).await;
    }

    async fn end(&self) {
        self.ask("DELETE", &json!({ "id": "outage" })).await;
    }
}

/// The records of an institute.
async fn records(person: &Person) -> Vec<Record> {
    let mut pages = aws_sdk_dynamodb::Client::new(root(&person.outputs).config())
        .query()
        .table_name(&person.outputs.table)
        .key_condition_expression("#source = :source")
        .expression_attribute_names("#source", "source")
        .expression_attribute_values(":source", AttributeValue::S(person.institute.clone()))
        .into_paginator()
        .items()
        .send();
    let mut records = Vec::new();
    while let Some(item) = pages.next().await {
        records.push(catalog::record(item.unwrap()).unwrap());
    }
    records
}

/// How many messages of an institute have each status.
async fn statuses(person: &Person) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records(person).await {
        let reason = record.held.map(|held| format!(" ({})", held.held_reason.as_str())).unwrap_or_default();
        *counts.entry(format!("{:?}{reason}", record.status).to_lowercase()).or_default() += 1;
    }
    counts
}

/// Waits until all messages of an institute have such a status.
async fn until(person: &Person, count: usize, is_it: impl Fn(Status) -> bool) {
    let began = Instant::now();
    loop {
        let found = records(person).await;
        assert!(found.len() <= count, "a record for each message, and no other");
        if found.len() == count && found.iter().all(|record| is_it(record.status)) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{count} messages: {:?}", statuses(person).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Posts messages, each once. Gives those that were not accepted.
async fn post(api: &Api, sender: &Person, messages: &[String]) -> Vec<String> {
    sender.login(&[], &sender.password).expect(0, "");
    let token = SecretString::from(sender.session()["idToken"].as_str().unwrap().to_owned());
    let token = &token;
    let posts = messages.iter().map(|message| async move {
        let answer = api.submit(message.clone().into_bytes(), ER7, Some(token)).await;
        let is_accepted = answer.is_ok_and(|answer| {
            assert!(answer.status.is_success() || answer.status == 409 || answer.is_busy(), "{}", answer.status);
            !answer.is_busy()
        });
        (!is_accepted).then(|| message.clone())
    });
    stream::iter(posts).buffer_unordered(8).filter_map(std::future::ready).collect().await
}

/// Messages of so many in all, from this one on.
fn messages(person: &Person, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|nth| person.message(&format!("{nth}.hl7"), "DOE")).collect()
}

/// One outage: of `count` messages half come through the gateway and half through the API, of each half again one before and one during
/// the outage.
async fn outage(outputs: &Outputs, service: &str, count: usize, length: Duration) {
    let (sender, site) = (Person::at(outputs.clone(), "sender").await, Person::at(outputs.clone(), "site").await);
    let (half, quarter) = (count / 2, count / 4);
    std::fs::write(site.path("password"), &site.password).unwrap();
    std::fs::set_permissions(site.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    // It asks how far messages are after pauses of 1 to 10 s, and not of 30 to 300.
    let account = ["--email", &site.email, "--password-file", "password", "--deployment", "deployment.json", "--ask-after", "1"];
    let gateway = Gateway::start(&site, &account);
    let (api, faults) = (Api::new(&outputs.api_url).unwrap(), Faults(outputs));
    let take = |gateway: &Gateway, from, to| {
        for message in messages(&site, from, to) {
            assert!(gateway.exchange(&message).contains("MSA|AA|"));
        }
    };

    take(&gateway, 0, quarter);
    let (mut before, asked) = (messages(&sender, 0, quarter), Instant::now());
    while !before.is_empty() {
        assert!(asked.elapsed() < DEADLINE, "{} were not accepted before the outage", before.len());
        before = post(&api, &sender, &before).await;
    }
    let began = Instant::now();
    faults.begin(service).await;
    // Started again it signs in again, and no worker has credentials for its new token yet.
    assert_eq!(gateway.stop()["received"], quarter);
    let mut gateway = Gateway::start(&site, &account);
    take(&gateway, quarter, half);
    let mut refused = post(&api, &sender, &messages(&sender, quarter, half)).await;
    let refused_during = refused.len();
    tokio::time::sleep(length.saturating_sub(began.elapsed())).await;
    let (sent, taken) = (statuses(&sender).await, statuses(&site).await);
    faults.end().await;

    let ended = Instant::now();
    // Who was refused sends again; what was accepted nobody sends again.
    while !refused.is_empty() {
        refused = post(&api, &sender, &refused).await;
        assert!(ended.elapsed() < DEADLINE, "{} are not accepted", refused.len());
    }
    let of_api = async {
        until(&sender, half, |status| [Status::Stored, Status::Held].contains(&status)).await;
        let (held, settled) = (statuses(&sender).await, ended.elapsed());
        if held.keys().any(|status| status.starts_with("held")) {
            sender.run_async(&["release", "--all"]).await.expect(0, "0 refused");
        }
        until(&sender, half, |status| status == Status::Stored).await;
        (held, settled, ended.elapsed())
    };
    let of_gateway = async {
        until(&site, half, |status| status == Status::Stored).await;
        ended.elapsed()
    };
    let ((held, settled, released), stored) = tokio::join!(of_api, of_gateway);
    println!(
        "{service}: {} s; at its end {taken:?} through the gateway, {sent:?} through the API, which refused {refused_during}. After it the \
         gateway's were stored in {} s; the API's were {held:?} in {} s and stored in {} s",
        length.as_secs(),
        stored.as_secs(),
        settled.as_secs(),
        released.as_secs()
    );
    gateway.until("spooled", 0);
    gateway.until("awaited", 0);
    let report = gateway.stop();
    assert_eq!(report["received"], half - quarter, "{report}");
    audit(&[&sender.institute, &site.institute], count).await;
}

/// `sluice audit` finds nothing. The event of a message that was stored during an outage of SNS waits for the next try, like a message.
async fn audit(institutes: &[&str], count: usize) {
    let began = Instant::now();
    loop {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["audit", "--settle", "0s", "--json"]);
        let output = command.args(institutes.iter().flat_map(|institute| ["--source", institute])).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            let report: Value = serde_json::from_str(said.trim()).unwrap();
            assert_eq!(report["checked"]["records"], count, "{report}");
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{said}{}", String::from_utf8_lossy(&output.stderr));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_stored_after_an_outage_of_any_service() {
    let asked = std::env::var_os("SLUICE_OUTAGE").map(|it| it.into_string().unwrap());
    let count: usize = std::env::var_os("SLUICE_OUTAGE_MESSAGES").map_or(8, |it| it.to_str().unwrap().parse().unwrap());
    let services = match asked.as_deref() {
        None => vec!["states", "s3"],
        Some("all") => SERVICES.to_vec(),
        Some(names) => names.split(',').collect(),
    };
    let (length, parameters) = match asked {
        None => (SHORT, BTreeMap::new()),
        Some(_) => (LONG, PARAMETERS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
    };
    assert!(services.iter().all(|it| SERVICES.contains(it)) && count.is_multiple_of(4), "of {SERVICES:?}, in quarters");
    let outputs = up(UpOptions { parameters, ..UpOptions::default() }).await.unwrap();
    for service in services {
        outage(&outputs, service, count, length).await;
    }
}
