//! What was accepted and cannot be stored is held, and released by whoever may store it.

use anyhow::{Context, Result, ensure};
use client::http::Answer;
use domain::{Envelope, HeldCopy, HoldReason, Payload, Status};
use futures_util::future::try_join_all;
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice_tests::{Caller, DEADLINE, Harness, adt, patiently, unique, without_trace};
use tokio::time::{Instant, sleep};

use crate::failures::REDRIVE;
use crate::forge;
use crate::listen::{Listener, event_id};

/// Queues a message of this test's institute under a token that cannot store it, and waits until it is held.
pub(crate) async fn held(it: &Harness, message: &str, token: &SecretString) -> Result<Envelope> {
    let envelope = forge::envelope(it, &it.institute, message, token).await?;
    forge::enqueue(it, &envelope).await?;
    until(it, &envelope, Status::Held).await?;
    Ok(envelope)
}

/// A message whose token ran out before it was stored.
pub(crate) async fn expired(it: &Harness) -> Result<Envelope> {
    held(it, &adt(&unique(), "DOE"), &forge::unsigned_token(it, forge::EXPIRED)).await
}

pub(crate) async fn until(it: &Harness, envelope: &Envelope, status: Status) -> Result<()> {
    let began = Instant::now();
    loop {
        let record = it.catalog().get(&envelope.source, &envelope.message_id).await?;
        if record.as_ref().is_some_and(|record| record.status == status) {
            return Ok(());
        }
        ensure!(began.elapsed() < DEADLINE, "not {status}, but {:?}", record.map(|it| it.status));
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn release(it: &Harness, envelope: &Envelope, caller: &Caller) -> Result<Answer> {
    it.api.release(envelope.message_id.as_str(), &caller.token).await
}

/// `sub` of an ID token.
fn subject(token: &SecretString) -> String {
    client::tokens::TokenClaims::of(token).map(|claims| claims.sub).unwrap_or_default()
}

#[tokio::test]
async fn a_message_that_its_submitter_may_not_write_is_stored_under_the_rights_of_a_colleague_who_may() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let message = adt(&unique(), "DOE");
    // As a defect of `submit` would make it, or a right that was taken away while the message waited.
    let envelope = held(&it, &message, &elsewhere.admin().await?.token).await?;
    let colleague = it.admin().await?;
    let id = envelope.message_id.as_str();

    let status = it.api.status(id, Some(&colleague.token)).await?.json();
    assert_eq!((&status["status"], &status["held"]["reason"]), (&json!("held"), &json!("denied")));
    let time = |name: &str| status["held"][name].as_str().and_then(|it| it.parse::<domain::Timestamp>().ok());
    let (since, until_when) = (time("since").context("since")?, time("until").context("until")?);
    assert_eq!(until_when, since.plus(std::time::Duration::from_secs(90 * 24 * 60 * 60)));
    assert_eq!(status["error"]["code"], "Denied");
    let copy: HeldCopy = serde_json::from_str(&it.held_copy(&envelope.source, &envelope.message_id).await?)?;
    assert_eq!(
        (copy.reason, copy.submission_id, &copy.submitter),
        (HoldReason::Denied, envelope.submission_id, &envelope.requester())
    );
    assert_eq!(copy.received().context("bytes")?.bytes(), message.as_bytes());
    assert_eq!(it.object_versions().await?, []);

    let answer = release(&it, &envelope, &colleague).await?;
    assert_eq!(
        (answer.status.as_u16(), answer.text("messageId"), answer.text("status")),
        (202, id.to_owned(), "queued".to_owned())
    );
    assert!(answer.text("statusUrl").ends_with(&format!("/er7/{id}/status")));
    let status = it.api.final_status(id, &colleague.token, DEADLINE).await?;
    assert_eq!(
        (&status["status"], &status["submissions"], status.get("held"), status.get("error")),
        (&json!("stored"), &json!(1), None, None)
    );

    let record = it.record(&envelope.message_id).await?;
    let releaser = record.releaser.context("a releaser")?;
    assert_eq!((record.submitter, releaser.subject), (Some(envelope.requester()), subject(&colleague.token)));
    assert_eq!((record.held, record.claim_submission.map(|it| it.to_string())), (None, Some(answer.text("submissionId"))));
    assert_eq!(it.object_versions().await?.len(), 2, "one version of the message and one of its rendition");

    listener.hear(3).await?;
    let of_release = answer.text("submissionId");
    let mut expected = [
        event_id(envelope.submission_id, id, "held"),
        event_id(&of_release, id, "released"),
        event_id(&of_release, id, "stored"),
    ];
    expected.sort_unstable();
    assert_eq!(listener.ids(), expected);
    let released = listener.hear_id(&event_id(&of_release, id, "released")).await?;
    assert_eq!(released.event["data"]["reason"], "denied");
    Ok(())
}

#[tokio::test]
async fn all_held_messages_of_one_institute_are_released_page_by_page_and_none_of_another() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let envelopes = try_join_all((0..5).map(|_| expired(&it))).await?;
    let denied = held(&it, &adt(&unique(), "ROE"), &elsewhere.admin().await?.token).await?;
    let of_another = expired(&elsewhere).await?;
    let admin = it.admin().await?;

    // By reason and time, and page by page.
    let future = json!({ "from": "2999-01-01" });
    assert_eq!(it.api.release_held(&future, &admin.token).await?.json(), json!({ "released": [], "refused": [] }));
    let (mut released, mut cursor) = (Vec::new(), None);
    let mut pages = 0;
    loop {
        let answer = it.api.release_held(&json!({ "reason": "expired", "limit": 2, "cursor": cursor }), &admin.token).await?;
        assert_eq!(answer.status, 202, "{}", answer.json());
        let page = answer.json();
        assert_eq!(page["refused"], json!([]));
        let ids = page["released"].as_array().context("an array")?;
        assert!(ids.len() <= 2);
        released.extend(ids.iter().filter_map(|it| it["messageId"].as_str().map(str::to_owned)));
        pages += 1;
        cursor = page.get("cursor").cloned();
        if cursor.is_none() {
            break;
        }
    }
    released.sort_unstable();
    let mut expected: Vec<_> = envelopes.iter().map(|it| it.message_id.to_string()).collect();
    expected.sort_unstable();
    assert_eq!(released, expected);
    assert!(pages >= 3, "{pages}");
    for envelope in &envelopes {
        until(&it, envelope, Status::Stored).await?;
    }
    // Nothing else has moved.
    assert_eq!(it.record(&denied.message_id).await?.status, Status::Held);
    assert_eq!(elsewhere.record(&of_another.message_id).await?.status, Status::Held);

    // Without a body, all of it.
    let answer = it.api.release_held(&json!({}), &admin.token).await?.json();
    assert_eq!(answer["released"].as_array().map(Vec::len), Some(1), "{answer}");
    until(&it, &denied, Status::Stored).await?;
    let _undisturbed = REDRIVE.read().await;
    assert_eq!(it.dead_letters_of_institute().await?, 0);
    Ok(())
}

#[tokio::test]
async fn messages_are_released_by_the_exact_time_at_which_they_were_held() -> Result<()> {
    let it = Harness::new()?;
    let envelopes = try_join_all((0..3).map(|_| expired(&it))).await?;
    let admin = it.admin().await?;
    let times = ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:06.000Z", "2026-01-02T03:04:07.000Z"];
    for (envelope, time) in envelopes.iter().zip(times) {
        it.set(&envelope.message_id, "held_since", time).await?;
    }
    let [first, second, third] = times;
    let after = |time: &str| time.replace(".000Z", ".001Z");
    // `from` is the first moment of the period, `to` the first after it.
    let cases = [
        (json!({ "to": first }), None),
        (json!({ "from": after(third) }), None),
        (json!({ "from": after(first), "to": second }), None),
        (json!({ "from": second, "to": third }), Some(1)),
        (json!({ "to": after(first) }), Some(0)),
        (json!({ "from": third }), Some(2)),
    ];
    for (period, expected) in cases {
        let answer = it.api.release_held(&period, &admin.token).await?.json();
        let released = answer["released"].as_array().context("an array")?.iter().map(|it| it["messageId"].as_str());
        let expected: Vec<_> = expected.map(|n: usize| &envelopes[n]).into_iter().collect();
        assert_eq!(
            released.collect::<Vec<_>>(),
            expected.iter().map(|it| Some(it.message_id.as_str())).collect::<Vec<_>>(),
            "{period}"
        );
        for envelope in expected {
            until(&it, envelope, Status::Stored).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_large_held_message_comes_back_byte_for_byte() -> Result<()> {
    let it = Harness::new()?;
    let message = format!("{}NTE|1||{}\r", adt(&unique(), "DOE"), "x".repeat(3 * 1024 * 1024));
    let mut envelope = forge::envelope(&it, &it.institute, &message, &forge::unsigned_token(&it, forge::EXPIRED)).await?;
    let (bucket, key) = (it.outputs.overflow_bucket.clone(), domain::object::overflow_key(&forge::submitted(&envelope)));
    it.aws.s3().put_object().bucket(&bucket).key(&key).body(message.clone().into_bytes().into()).send().await?;
    envelope.payload = Payload::Overflow { bucket, key, charset: domain::Charset::UTF_8 };
    forge::enqueue(&it, &envelope).await?;
    until(&it, &envelope, Status::Held).await?;

    let admin = it.admin().await?;
    assert_eq!(release(&it, &envelope, &admin).await?.status, 202);
    until(&it, &envelope, Status::Stored).await?;
    let stored = it.record(&envelope.message_id).await?.facts.context("stored")?;
    let object = it.aws.s3().get_object().bucket(&stored.bucket).key(&stored.key).send().await?;
    assert_eq!(object.body.collect().await?.into_bytes(), message.as_bytes());
    Ok(())
}

#[tokio::test]
async fn only_a_writer_of_the_institute_releases() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let envelope = expired(&it).await?;
    let id = envelope.message_id.as_str();
    let before = it.record(&envelope.message_id).await?;

    // Of another institute: as unknown as a message that nobody has.
    let stranger = elsewhere.admin().await?;
    let unknown = it.api.release(&"0".repeat(64), &stranger.token).await?;
    let foreign = release(&it, &envelope, &stranger).await?;
    assert_eq!((foreign.status.as_u16(), without_trace(&foreign)), (404, without_trace(&unknown)));
    let all = it.api.release_held(&json!({}), &stranger.token).await?;
    assert_eq!(all.json(), json!({ "released": [], "refused": [] }));
    // A reader, and a token that has expired or is none.
    let reader = it.caller(&it.institute, "").await?;
    it.is_refused_route(&release(&it, &envelope, &reader).await?)?;
    it.is_refused_route(&it.api.release_held(&json!({}), &reader.token).await?)?;
    for token in [forge::unsigned_token(&it, forge::EXPIRED), "garbage".into()] {
        assert_eq!(it.api.release(id, &token).await?.status.as_u16(), it.bad_token());
        assert_eq!(it.api.release_held(&json!({}), &token).await?.status.as_u16(), it.bad_token());
    }
    assert_eq!(it.record(&envelope.message_id).await?, before, "it was refused, and yet something has changed");

    // A writer who may not read is enough.
    let writer = it.caller("", &it.institute).await?;
    assert_eq!(release(&it, &envelope, &writer).await?.status, 202);
    until(&it, &envelope, Status::Stored).await
}

#[tokio::test]
async fn a_message_is_released_once_however_many_release_it() -> Result<()> {
    let it = Harness::new()?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let envelope = expired(&it).await?;
    let admin = it.admin().await?;
    // Starts eight processes of `release`, so that none has to start during the releases below.
    let unknown = "0".repeat(64);
    for answer in try_join_all((0..8).map(|_| patiently(async || it.api.release(&unknown, &admin.token).await))).await? {
        assert_eq!(answer.status, 404);
    }
    let answers = try_join_all((0..8).map(|_| release(&it, &envelope, &admin))).await?;
    let mut statuses: Vec<_> = answers.iter().map(|it| it.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409, 409, 409, 409, 409, 409, 409]);
    until(&it, &envelope, Status::Stored).await?;

    let stored = it.record(&envelope.message_id).await?;
    let again = release(&it, &envelope, &admin).await?;
    assert_eq!(
        (again.status.as_u16(), again.text("title"), again.text("messageStatus")),
        (409, "Not held".to_owned(), "stored".to_owned())
    );
    assert_eq!(it.record(&envelope.message_id).await?, stored, "a refused release leaves no entry");
    assert_eq!(listener.hear(3).await?.len(), 3, "held, released, stored");
    assert_eq!(it.object_versions().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_damaged_or_missing_copy_is_reported_and_nothing_of_it_is_stored() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (s3, bucket) = (it.aws.s3(), it.outputs.held_bucket.clone().context("a held bucket")?);
    let change = async |envelope: &Envelope, change: fn(&mut Value)| -> Result<()> {
        let mut copy: Value = serde_json::from_str(&it.held_copy(&envelope.source, &envelope.message_id).await?)?;
        change(&mut copy);
        let key = domain::object::held_key(&envelope.source, &envelope.message_id);
        let put = s3.put_object().bucket(&bucket).key(&key).body(copy.to_string().into_bytes().into()).send().await?;
        // The record names its version: this one is named in its place, which takes the rights of an operator.
        it.set(&envelope.message_id, "held_version_id", &put.version_id.context("a version")?).await
    };
    let changes: [fn(&mut Value); 5] = [
        |copy| copy["payload"] = json!("TVNIfF5+"),
        |copy| copy["payload"] = json!("SECRET"),
        |copy| copy["source"] = json!("another"),
        |copy| copy["v"] = json!(2),
        |copy| *copy = json!("SECRET"),
    ];
    for tampered in changes {
        let envelope = expired(&it).await?;
        change(&envelope, tampered).await?;
        let answer = release(&it, &envelope, &admin).await?;
        assert_eq!((answer.status.as_u16(), answer.text("title")), (500, "Held copy damaged".to_owned()));
        assert!(!String::from_utf8_lossy(&answer.body).contains("SECRET"));
        let record = it.record(&envelope.message_id).await?;
        assert_eq!((record.status, record.error.map(|it| it.code).as_deref()), (Status::Held, Some("HeldCopyDamaged")));
    }

    let gone = expired(&it).await?;
    let key = domain::object::held_key(&gone.source, &gone.message_id);
    let version = it.record(&gone.message_id).await?.held.and_then(|it| it.held_version_id);
    s3.delete_object().bucket(&bucket).key(&key).set_version_id(version).send().await?;
    let answer = release(&it, &gone, &admin).await?;
    assert_eq!((answer.status.as_u16(), answer.text("title")), (410, "Held copy gone".to_owned()));
    let record = it.record(&gone.message_id).await?;
    assert_eq!((record.status, record.error.map(|it| it.code).as_deref()), (Status::Held, Some("HeldCopyGone")));

    // A page names them and goes on.
    let good = expired(&it).await?;
    let page = it.api.release_held(&json!({}), &admin.token).await?.json();
    assert_eq!(page["refused"].as_array().map(Vec::len), Some(6), "{page}");
    assert_eq!(page["released"][0]["messageId"], good.message_id.as_str());
    until(&it, &good, Status::Stored).await?;
    assert_eq!(it.object_versions().await?.len(), 2, "of the good one alone");
    Ok(())
}

#[tokio::test]
async fn a_release_that_cannot_be_stored_is_held_again_and_keeps_who_submitted_it() -> Result<()> {
    let it = Harness::new()?;
    let envelope = expired(&it).await?;
    // The release itself comes too late.
    let mut late = forge::envelope(&it, &it.institute, "MSH|", &forge::unsigned_token(&it, forge::EXPIRED)).await?;
    late.message_id = envelope.message_id.clone();
    late.token = forge::seal(&it, &forge::submitted(&late), &forge::unsigned_token(&it, forge::EXPIRED)).await?;
    late.payload = envelope.payload.clone();
    late.release = Some(domain::Release {
        submission_id: envelope.submission_id,
        received_at: envelope.received_at,
        submitter: domain::Requester { subject: "the first".to_owned(), issuer: "an issuer".to_owned() },
        reason: HoldReason::Expired,
    });
    assert_eq!(forge::outcome(&it, &late).await?, "held");
    let copy: HeldCopy = serde_json::from_str(&it.held_copy(&envelope.source, &envelope.message_id).await?)?;
    assert_eq!((copy.submission_id, copy.submitter.subject.as_str()), (envelope.submission_id, "the first"));

    // And whoever submits the message anew needs no release.
    let admin = it.admin().await?;
    let text = String::from_utf8(copy.received().context("bytes")?.bytes().to_vec())?;
    let (_, status) = it.store(&admin, &text).await?;
    assert_eq!((&status["status"], status.get("held"), &status["submissions"]), (&json!("stored"), None, &json!(2)));
    assert_eq!(release(&it, &envelope, &admin).await?.status, 409);
    Ok(())
}

#[tokio::test]
async fn an_operator_holds_a_message_by_pasting_its_envelope() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut envelope = forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?;
    envelope.hold = Some(domain::Hold { reason: HoldReason::Deployment, error: "Misconfigured".to_owned() });
    // Twice is once.
    for _ in 0..2 {
        assert_eq!(forge::outcome(&it, &envelope).await?, "held");
    }
    let record = it.record(&envelope.message_id).await?;
    assert_eq!((record.status, record.held.map(|it| it.held_reason)), (Status::Held, Some(HoldReason::Deployment)));
    assert_eq!(it.object_versions().await?, [], "nothing was tried");
    assert_eq!(release(&it, &envelope, &admin).await?.status, 202);
    until(&it, &envelope, Status::Stored).await
}
