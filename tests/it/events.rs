//! What subscribers hear: everything they asked for, once, and nothing about the patient.

use std::collections::BTreeMap;

use anyhow::Result;
use client::http::Api;
use domain::{Charset, Envelope, Payload, SubmissionId};
use futures_util::future::try_join_all;
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice_tests::{Caller, DEADLINE, Harness};

use crate::canary::{Canaries, Patient};
use crate::failures::REDRIVE;
use crate::forge;
use crate::listen::{Heard, Listener, event_id};

/// Two institutes and what they sent, by the ids of the events that tell of it.
struct Sent {
    stored_adt: String,
    stored_oru: String,
    unparsable: String,
    duplicate: String,
    denied: String,
    expired: String,
    other_oru: String,
}

async fn post(it: &Harness, caller: &Caller, message: &str, event: &str) -> Result<String> {
    let answer = it.submit(caller, message).await?;
    anyhow::ensure!(answer.status == 202, "{}", answer.json());
    it.api.final_status(&answer.text("messageId"), &caller.token, DEADLINE).await?;
    Ok(event_id(answer.text("submissionId"), &answer.text("messageId"), event))
}

/// Queues an envelope and names the event that should tell of it.
async fn queue(it: &Harness, source: &str, message: &str, token: &SecretString, event: &str) -> Result<String> {
    let envelope = forge::envelope(it, source, message, token).await?;
    forge::enqueue(it, &envelope).await?;
    Ok(event_id(envelope.submission_id, envelope.message_id.as_str(), event))
}

async fn send_everything(a: &Harness, b: &Harness, patient: &Patient) -> Result<Sent> {
    let (in_a, in_b) = (a.admin().await?, b.admin().await?);
    let adt = patient.adt();
    Ok(Sent {
        stored_adt: post(a, &in_a, &adt, "stored").await?,
        stored_oru: post(a, &in_a, &patient.oru(), "stored").await?,
        unparsable: post(a, &in_a, &patient.free_text(), "unparsable").await?,
        // The API would say 409; this one was queued before the first was stored.
        duplicate: queue(a, &a.institute, &adt, &in_a.token, "duplicate").await?,
        denied: queue(a, &b.institute, &patient.adt(), &in_a.token, "held").await?,
        expired: queue(b, &b.institute, &patient.adt(), &forge::unsigned_token(b, forge::EXPIRED), "held").await?,
        other_oru: post(b, &in_b, &patient.oru(), "stored").await?,
    })
}

#[tokio::test]
async fn each_subscriber_hears_exactly_what_it_asked_for() -> Result<()> {
    let (a, b) = (Harness::new()?, Harness::new()?);
    let both = [a.institute.as_str(), b.institute.as_str()];
    let mut all = Listener::new(&a, json!({ "source": both }), &both).await?;
    let filters = [
        json!({ "source": [a.institute] }),
        json!({ "source": [b.institute], "event": ["stored"] }),
        json!({ "event": ["held", "duplicate"], "reason": ["denied", { "exists": false }] }),
        json!({ "event": [{ "anything-but": ["stored", "duplicate"] }], "source": both }),
        json!({ "message_type": ["ORU"] }),
        json!({ "message_type": ["ORU"], "source": [a.institute] }),
        json!({ "state": ["error"], "protocol": ["hl7v2"] }),
        json!({ "state": [{ "exists": false }], "source": both }),
        json!({ "trigger_event": ["A01"], "hl7_version": ["2.5.1"], "format": ["er7"] }),
        json!({ "event": ["failed"] }),
    ];
    let mut listeners = try_join_all(filters.into_iter().map(|filter| Listener::new(&a, filter, &both))).await?;

    let patient = Patient::new();
    let it = send_everything(&a, &b, &patient).await?;
    let expected: [&[&String]; 10] = [
        &[&it.stored_adt, &it.stored_oru, &it.unparsable, &it.duplicate],
        &[&it.other_oru],
        &[&it.denied, &it.duplicate],
        &[&it.unparsable, &it.denied, &it.expired],
        &[&it.stored_oru, &it.other_oru],
        &[&it.stored_oru],
        &[&it.unparsable],
        &[&it.duplicate, &it.denied, &it.expired],
        &[&it.stored_adt],
        &[],
    ];
    let heard: BTreeMap<String, Heard> = all.hear(7).await?.iter().map(|heard| (heard.id().to_owned(), heard.clone())).collect();
    assert_eq!((heard.len(), all.ids().len()), (7, 7), "each once");
    try_join_all(listeners.iter_mut().zip(expected).map(async |(listener, expected)| {
        listener.hear(expected.len()).await?;
        let mut expected: Vec<String> = expected.iter().map(|id| (*id).clone()).collect();
        expected.sort_unstable();
        assert_eq!(listener.ids(), expected, "{listener:?}");
        anyhow::Ok(())
    }))
    .await?;

    let canaries = Canaries::default().patient_in_any_form(&patient);
    for heard in heard.values() {
        check_cloud_event(&heard.event);
        assert!(canaries.found_in(&format!("{} {:?}", heard.text, heard.attributes)).is_empty(), "{}", heard.kind());
    }
    check_attributes(&a.institute, &b.institute, &it, &heard);
    check_contents(&a, &it, &heard).await
}

/// The members that CloudEvents 1.0 requires, and the shapes of the others.
fn check_cloud_event(event: &Value) {
    for name in ["id", "source", "specversion", "type"] {
        assert!(event[name].as_str().is_some_and(|value| !value.is_empty()), "CloudEvents requires `{name}`: {event}");
    }
    assert_eq!((&event["specversion"], &event["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
    let data = &event["data"];
    assert_eq!(event["source"], format!("sluice/{}", data["source"].as_str().unwrap()));
    assert_eq!(event["subject"], data["messageId"]);
    assert_eq!(
        event["id"],
        event_id(data["submissionId"].as_str().unwrap(), data["messageId"].as_str().unwrap(), event["type"].as_str().unwrap()),
        "the id names the submission and what happened, so that a repeated step makes the same one"
    );
    assert!(event["time"].as_str().unwrap().parse::<domain::Timestamp>().is_ok());
    assert!(data["submissionId"].as_str().unwrap().parse::<SubmissionId>().is_ok());
    for name in event.as_object().unwrap().keys() {
        assert!(
            name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit()),
            "CloudEvents names are a-z and 0-9: {name}"
        );
    }
}

fn check_attributes(a: &str, b: &str, it: &Sent, heard: &BTreeMap<String, Heard>) {
    let attributes = |id: &String| -> Vec<(&str, &str)> {
        heard[id].attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    };
    let base = |event, source| vec![("event", event), ("format", "er7"), ("protocol", "hl7v2"), ("source", source)];
    let with = |mut base: Vec<(&'static str, _)>, more: &[(&'static str, &'static str)]| {
        base.extend(more);
        base.sort_unstable();
        base
    };
    let adt = [("hl7_version", "2.5.1"), ("message_type", "ADT"), ("state", "parsed"), ("trigger_event", "A01")];
    let oru = [("hl7_version", "2.4"), ("message_type", "ORU"), ("state", "parsed"), ("trigger_event", "R01")];
    assert_eq!(attributes(&it.stored_adt), with(base("stored", a), &adt));
    assert_eq!(attributes(&it.stored_oru), with(base("stored", a), &oru));
    assert_eq!(attributes(&it.other_oru), with(base("stored", b), &oru));
    assert_eq!(attributes(&it.unparsable), with(base("unparsable", a), &[("state", "error")]));
    assert_eq!(attributes(&it.duplicate), base("duplicate", a));
    assert_eq!(attributes(&it.denied), with(base("held", b), &[("reason", "denied")]));
    assert_eq!(attributes(&it.expired), with(base("held", b), &[("reason", "expired")]));
}

/// A pointer that leads somewhere, or the reason why there is none.
async fn check_contents(a: &Harness, it: &Sent, heard: &BTreeMap<String, Heard>) -> Result<()> {
    let s3 = a.aws.s3();
    for id in [&it.stored_adt, &it.stored_oru, &it.unparsable, &it.other_oru] {
        let data = &heard[id].event["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let get = s3.get_object().bucket(text("bucket").unwrap()).key(text("key").unwrap());
        let object = get.set_version_id(text("versionId")).send().await?.body.collect().await?.into_bytes();
        let message = domain::Er7::canonical(std::str::from_utf8(&object)?)?;
        assert_eq!(data["messageId"], message.message_id().to_string());
        assert_eq!(text("jsonKey").is_some(), heard[id].kind() == "stored");
    }
    assert_eq!(heard[&it.stored_adt].event["data"]["summary"]["sendingFacility"], "WEST");
    assert_eq!(heard[&it.unparsable].event["data"]["error"]["code"], "no-msh");
    for (id, reason, code) in [(&it.denied, "denied", "Denied"), (&it.expired, "expired", "TokenExpired")] {
        let data = &heard[id].event["data"];
        assert_eq!(data["reason"], reason);
        assert_eq!((&data["error"]["code"], data.get("key"), data.get("summary")), (&json!(code), None, None));
    }
    Ok(())
}

#[tokio::test]
async fn each_message_of_one_submission_is_stored_and_announced() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let patient = Patient::new();
    let first = forge::envelope(&it, &it.institute, &patient.adt(), &admin.token).await?;
    let mut envelopes = vec![first.clone()];
    for message in [patient.oru(), patient.free_text(), patient.adt()] {
        let other = forge::envelope(&it, &it.institute, &message, &admin.token).await?;
        // The token was sealed once.
        let mut envelope = Envelope { submission_id: first.submission_id, token: first.token.clone(), ..other };
        let (bucket, key) = (it.outputs.overflow_bucket.clone(), domain::object::overflow_key(&forge::submitted(&envelope)));
        it.aws.s3().put_object().bucket(&bucket).key(&key).body(message.into_bytes().into()).send().await?;
        envelope.payload = Payload::Overflow { bucket, key, charset: Charset::UTF_8 };
        envelopes.push(envelope);
    }
    for envelope in &envelopes {
        forge::enqueue(&it, envelope).await?;
    }
    let mut expected = Vec::new();
    for envelope in &envelopes {
        let status = it.api.final_status(envelope.message_id.as_str(), &admin.token, DEADLINE).await?;
        assert_eq!(status["status"], "stored");
        let record = it.record(&envelope.message_id).await?;
        assert_eq!((record.claim_submission, record.submissions), (Some(first.submission_id), 1));
        let kind = if status["state"] == "error" { "unparsable" } else { "stored" };
        expected.push(event_id(first.submission_id, envelope.message_id.as_str(), kind));
    }
    listener.hear(expected.len()).await?;
    expected.sort_unstable();
    assert_eq!(listener.ids(), expected);
    let _undisturbed = REDRIVE.read().await;
    assert_eq!(it.dead_letters_of_institute().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_repeated_execution_repeats_its_event_and_stores_nothing_more() -> Result<()> {
    let it = Harness::new()?;
    let other = Harness::new()?;
    let admin = it.admin().await?;
    let sources = [it.institute.as_str(), other.institute.as_str()];
    let mut listener = Listener::new(&it, json!({ "source": sources }), &sources).await?;
    let patient = Patient::new();
    let cases = [
        (it.institute.as_str(), patient.adt(), "stored"),
        (it.institute.as_str(), patient.free_text(), "unparsable"),
        (other.institute.as_str(), patient.adt(), "held"),
    ];
    for (source, message, outcome) in cases {
        let envelope = forge::envelope(&it, source, &message, &admin.token).await?;
        for _ in 0..2 {
            assert_eq!(forge::outcome(&it, &envelope).await?, outcome);
        }
    }
    let heard = listener.hear(6).await?.to_vec();
    assert_eq!(heard.len(), 6);
    for pair in heard.chunks(2) {
        // Queues keep no order, but each execution had ended before the next one began.
        let again = heard.iter().filter(|it| it.id() == pair[0].id()).count();
        assert_eq!(again, 2, "{}", pair[0].kind());
        let bodies: Vec<_> = heard.iter().filter(|it| it.id() == pair[0].id()).map(|it| (&it.text, &it.attributes)).collect();
        assert_eq!(bodies[0], bodies[1], "the whole event is the same");
    }
    assert_eq!(it.object_versions().await?.len(), 3, "one version of the message, of its rendition, and of the free text");
    Ok(())
}

#[tokio::test]
async fn even_our_own_code_cannot_misfile_a_message() -> Result<()> {
    let (a, b) = (Harness::new()?, Harness::new()?);
    let (in_a, in_b) = (a.admin().await?, b.admin().await?);
    let mut listener = Listener::new(&b, json!({ "source": [b.institute] }), &[&b.institute]).await?;
    // What a defect of `submit` would make: the token of A's user in an envelope of B, well sealed.
    let message = Patient::new().adt();
    let envelope = forge::envelope(&a, &b.institute, &message, &in_a.token).await?;
    forge::enqueue(&a, &envelope).await?;

    let message_id = envelope.message_id.to_string();
    let denied = listener.hear_id(&event_id(envelope.submission_id, &message_id, "held")).await?;
    assert_eq!(denied.event["data"]["error"]["code"], "Denied");
    let status = b.api.final_status(&message_id, &in_b.token, DEADLINE).await?;
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("held"), &json!("Denied")));
    assert_eq!((status_of(&a.api, &message_id, &in_a).await?, a.records().await?), (404, 0), "A never hears of it");
    assert_eq!((a.object_versions().await?.len(), b.object_versions().await?.len()), (0, 0));

    // And what B then sends itself is none the worse for it.
    let (_, status) = b.store(&in_b, &message).await?;
    assert_eq!((&status["status"], status.get("error")), (&json!("stored"), None));
    Ok(())
}

async fn status_of(api: &Api, message_id: &str, caller: &Caller) -> Result<u16> {
    Ok(api.status(message_id, Some(&caller.token)).await?.status.as_u16())
}

#[tokio::test]
async fn a_token_that_cannot_be_used_is_recorded_and_announced() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let patient = Patient::new();
    let forge = async |token: &SecretString| forge::envelope(&it, &it.institute, &patient.adt(), token).await;

    // Sealed as it should be, but for another submission of the same user: the seal does not fit this envelope.
    let mut transplanted = forge(&admin.token).await?;
    transplanted.token = forge(&admin.token).await?.token;
    let mut damaged = forge(&admin.token).await?;
    damaged.token = "not base64 at all".to_owned();
    let cases = [
        (forge(&forge::unsigned_token(&it, forge::EXPIRED)).await?, "expired", "TokenExpired"),
        (forge(&forge::unsigned_token(&it, forge::VALID)).await?, "denied", "TokenInvalid"),
        (forge(&"garbage".into()).await?, "denied", "TokenInvalid"),
        (transplanted, "denied", "TokenInvalid"),
        (damaged, "denied", "TokenInvalid"),
    ];
    try_join_all(cases.iter().map(async |(envelope, reason, code)| {
        assert_eq!(forge::outcome(&it, envelope).await?, "held", "{code}");
        let record = it.record(&envelope.message_id).await?;
        assert_eq!((record.status.as_str(), record.lease_until), ("held", None));
        assert_eq!(record.held.map(|it| it.held_reason.as_str()), Some(*reason));
        assert_eq!(record.error.map(|it| it.code).as_deref(), Some(*code));
        anyhow::Ok(())
    }))
    .await?;
    for (envelope, reason, code) in &cases {
        let heard = listener.hear_id(&event_id(envelope.submission_id, envelope.message_id.as_str(), "held")).await?;
        let data = &heard.event["data"];
        assert_eq!((&data["error"]["code"], &data["reason"]), (&json!(*code), &json!(*reason)));
    }
    assert_eq!(it.object_versions().await?, []);
    Ok(())
}
