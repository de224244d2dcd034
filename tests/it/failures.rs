//! What fails: comes back with growing delay and is held in the end. What is no envelope lies among the dead letters, as it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, SendMessageBatchRequestEntry};
use domain::claim::{Claim, Finish};
use domain::{Charset, Envelope, HeldCopy, HoldReason, MessageId, Payload, Status, Timestamp};
use serde_json::{Value, json};
use sluice::operator::redrive::{Action, Pace, Selection, redrive};
use sluice::output::Reporter;
use sluice_tests::{DEADLINE, Harness, adt, unique};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};

use crate::listen::{Listener, event_id};
use crate::{forge, logs};

/// Waits until what `dispatch` has logged about a submission is enough, and gives it in the order in which it happened.
async fn dispatched(
    it: &Harness,
    submission: &str,
    since: i64,
    enough: impl Fn(&[Dispatched]) -> bool,
) -> Result<Vec<Dispatched>> {
    let group = logs::group_of(it, "Dispatch")?;
    let began = Instant::now();
    loop {
        let lines = logs::structured(&logs::lines(it, &group, since, submission).await?)?;
        let mut found: Vec<_> = lines.iter().filter_map(|line| about(line, submission)).collect();
        found.sort_unstable_by_key(|it| it.began);
        if enough(&found) {
            return Ok(found);
        }
        ensure!(began.elapsed() < DEADLINE, "dispatch says no more about {submission} than {found:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// One receive, and the instant (in milliseconds) at which its invocation began.
#[derive(Debug)]
struct Dispatched {
    /// Which try it was.
    tries: u32,
    outcome: String,
    began: i64,
}

fn about(line: &Value, submission: &str) -> Option<Dispatched> {
    let message = line["messages"].as_array()?.iter().find(|message| message["submissionId"] == submission)?;
    let ended = line["time"].as_str()?.parse::<Timestamp>().ok()?.as_millis();
    Some(Dispatched {
        tries: message["tries"].as_str()?.parse().ok()?,
        outcome: message.get("error").unwrap_or(&message["outcome"]).as_str()?.to_owned(),
        began: ended - line["durationMs"].as_f64()? as i64,
    })
}

/// Redriving moves everybody's dead letters. Whoever waits for one of theirs holds this for reading.
pub(crate) static REDRIVE: RwLock<()> = RwLock::const_new(());

/// Waits until a dead letter with this body is there. It is left where it is, or taken away so that tests do not leave
/// more and more of them behind.
pub(crate) async fn dead_letter(it: &Harness, body: &str, take: bool) -> Result<()> {
    look_for_dead_letter(it, |message| message.body() == Some(body), take).await.map(drop)
}

async fn look_for_dead_letter(it: &Harness, is_it: impl Fn(&Message) -> bool, take: bool) -> Result<Message> {
    let (sqs, queue_url) = (Sqs::new(it.aws.config()), &it.outputs.dead_letter_queue_url);
    let began = Instant::now();
    loop {
        // Hidden for a moment, so that the next call gives the next ones.
        let receive = sqs.receive_message().queue_url(queue_url).max_number_of_messages(10).visibility_timeout(1);
        let received = receive.message_attribute_names("All").send().await?;
        if let Some(message) = received.messages().iter().find(|message| is_it(message)) {
            if take {
                let delete = sqs.delete_message().queue_url(queue_url).set_receipt_handle(message.receipt_handle.clone());
                if let Err(error) = delete.send().await {
                    // Another test may have received it since, and only its receipt counts now.
                    ensure!(began.elapsed() < DEADLINE, "not taken away: {error:?}");
                    continue;
                }
            }
            return Ok(message.clone());
        }
        ensure!(began.elapsed() < DEADLINE, "no such dead letter");
        if received.messages().is_empty() {
            sleep(Duration::from_millis(300)).await;
        }
    }
}

/// An envelope of this test's institute whose overflow object is not the message that it is said to be.
async fn with_a_wrong_overflow_object(it: &Harness, message: &str) -> Result<Envelope> {
    let mut envelope = forge::envelope(it, &it.institute, message, &it.admin().await?.token).await?;
    let key = domain::object::overflow_key(&forge::submitted(&envelope));
    envelope.payload = Payload::Overflow { bucket: it.outputs.overflow_bucket.clone(), key, charset: Charset::UTF_8 };
    put_overflow(it, &envelope, &adt(&unique(), "SOMEBODY ELSE")).await?;
    Ok(envelope)
}

async fn put_overflow(it: &Harness, envelope: &Envelope, message: &str) -> Result<()> {
    let Payload::Overflow { bucket, key, .. } = &envelope.payload else { panic!("not in the overflow bucket") };
    it.aws.s3().put_object().bucket(bucket).key(key).body(message.to_owned().into_bytes().into()).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_failing_message_is_held_after_five_tries() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let envelope = with_a_wrong_overflow_object(&it, &adt(&unique(), "DOE")).await?;
    let submission = envelope.submission_id.to_string();
    let message_id = envelope.message_id.as_str();
    forge::enqueue(&it, &envelope).await?;

    // After the first try the message waits for the next one, and so does whoever asks.
    dispatched(&it, &submission, since, |tries| !tries.is_empty()).await?;
    let waiting = it.record(&envelope.message_id).await?;
    assert!(matches!(waiting.status, Status::Queued | Status::Processing), "{:?}", waiting.status);

    let tries = dispatched(&it, &submission, since, |tries| tries.len() >= 6).await?;
    let said: Vec<_> = tries.iter().map(|it| (it.tries, it.outcome.as_str())).collect();
    let error = "InvalidInput";
    assert_eq!(said, [(1, error), (2, error), (3, error), (4, error), (5, error), (5, "held")]);
    for (pair, seconds) in tries.windows(2).zip([1, 2, 4, 8]) {
        // The message is sent again within the invocation, so from begin to begin it is at least the delay.
        let waited = pair[1].began - pair[0].began;
        assert!(waited >= seconds * 1000 - 50, "{waited} ms before try {}, not {seconds} s", pair[1].tries);
    }
    let record = it.record(&envelope.message_id).await?;
    assert_eq!((record.status, record.lease_until), (Status::Held, None));
    assert_eq!(record.error.map(|it| it.code).as_deref(), Some(error));
    assert_eq!(record.held.map(|it| it.held_reason), Some(HoldReason::Failed));
    let held = listener.hear_id(&event_id(&submission, message_id, "held")).await?;
    assert_eq!((&held.event["data"]["error"]["code"], &held.event["data"]["reason"]), (&error.into(), &"failed".into()));
    assert_eq!(it.object_versions().await?, []);

    // What is held is what was received, and as long as that is not the message nobody gets it into the lake.
    let copy: HeldCopy = serde_json::from_str(&it.held_copy(&envelope.source, &envelope.message_id).await?)?;
    let Payload::Overflow { bucket, key, .. } = &envelope.payload else { panic!("not in the overflow bucket") };
    let received = it.aws.s3().get_object().bucket(bucket).key(key).send().await?.body.collect().await?.into_bytes();
    assert_eq!(copy.received().context("bytes")?.bytes(), received);
    let admin = it.admin().await?;
    let release = it.api.release(message_id, &admin.token).await?;
    assert_eq!((release.status.as_u16(), release.text("title")), (500, "Held copy damaged".to_owned()));
    let record = it.record(&envelope.message_id).await?;
    assert_eq!((record.status, record.error.map(|it| it.code).as_deref()), (Status::Held, Some("HeldCopyDamaged")));
    assert_eq!(listener.ids(), [event_id(&submission, message_id, "held")]);
    Ok(())
}

#[tokio::test]
async fn a_message_that_can_neither_be_stored_nor_held_fails_and_becomes_a_dead_letter() -> Result<()> {
    let it = Harness::new()?;
    let _undisturbed = REDRIVE.read().await;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let mut envelope = with_a_wrong_overflow_object(&it, &adt(&unique(), "DOE")).await?;
    if let Payload::Overflow { key, .. } = &mut envelope.payload {
        key.push_str(".gone");
    }
    forge::enqueue(&it, &envelope).await?;
    let failed = listener.hear_id(&event_id(envelope.submission_id, envelope.message_id.as_str(), "failed")).await?;
    assert_eq!(failed.event["data"]["error"]["code"], "PayloadExpired");
    let record = it.record(&envelope.message_id).await?;
    assert_eq!((record.status, record.held, record.lease_until), (Status::Failed, None, None));
    // Byte for byte.
    dead_letter(&it, &serde_json::to_string(&envelope)?, true).await
}

#[tokio::test]
async fn an_envelope_among_the_dead_letters_can_be_redriven() -> Result<()> {
    let it = Harness::new()?;
    let message = adt(&unique(), "DOE");
    let envelope = forge::envelope(&it, &it.institute, &message, &it.admin().await?.token).await?;
    forge::record(&it, &envelope).await?;
    let redriving = REDRIVE.write().await;
    let send = Sqs::new(it.aws.config()).send_message().queue_url(&it.outputs.dead_letter_queue_url);
    send.message_body(serde_json::to_string(&envelope)?).send().await?;
    redrive_until(&it, &envelope, Status::Stored).await?;
    drop(redriving);
    let stored = it.record(&envelope.message_id).await?.facts.context("stored")?;
    let object = it.aws.s3().get_object().bucket(&stored.bucket).key(&stored.key).send().await?;
    assert_eq!(object.body.collect().await?.into_bytes(), message.as_bytes());
    Ok(())
}

/// `sluice redrive`, again if need be: a dead letter that somebody else is looking at is not moved.
async fn redrive_until(it: &Harness, envelope: &Envelope, status: Status) -> Result<()> {
    let began = Instant::now();
    while it.record(&envelope.message_id).await?.status != status {
        ensure!(began.elapsed() < DEADLINE, "not brought back");
        let selection = Selection { source: Some(envelope.source.clone()), ..Selection::default() };
        redrive(&it.aws, it.outputs, &selection, Pace::default(), &Reporter::default()).await?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// What a dry run says of this test's dead letters, once it sees that many of them.
async fn selected(it: &Harness, selection: &Selection, count: usize) -> Result<Vec<(MessageId, Action)>> {
    let began = Instant::now();
    loop {
        let dry_run = Pace { dry_run: true, rate: None };
        let redriven = redrive(&it.aws, it.outputs, selection, dry_run, &Reporter::default()).await?;
        let letters = redriven.dead_letters.into_iter().filter_map(|letter| Some((letter.message_id?, letter.action)));
        let mut letters: Vec<_> = letters.collect();
        letters.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if letters.len() == count {
            return Ok(letters);
        }
        ensure!(began.elapsed() < DEADLINE, "{letters:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn dead_letters_are_selected_by_id_institute_error_and_age() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let sqs = Sqs::new(it.aws.config());
    let hour = Duration::from_secs(3600);
    let ago = |hours: u32| Timestamp::from_millis(runtime::now().as_millis() - i64::from(hours) * 3_600_000).context("a time");
    let redriving = REDRIVE.write().await;
    let mut envelopes = Vec::new();
    for hours in [0, 2, 4, 6] {
        let mut envelope = forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?;
        (envelope.received_at, envelope.tries) = (ago(hours)?, 4);
        forge::record(&it, &envelope).await?;
        envelopes.push(envelope);
    }
    let [new, two, four, held] = &envelopes[..] else { panic!("four envelopes") };
    // Two have ended: one failed, and of one there is a held copy.
    for (envelope, status) in [(four, "failed"), (held, "held")] {
        it.set(&envelope.message_id, "status", status).await?;
    }
    let error = AttributeValue::M([("code".to_owned(), AttributeValue::S("PayloadExpired".to_owned()))].into());
    it.set_attribute(&four.message_id, "error", error).await?;
    for body in envelopes.iter().map(|envelope| serde_json::to_string(envelope).unwrap()) {
        sqs.send_message().queue_url(&it.outputs.dead_letter_queue_url).message_body(body).send().await?;
    }

    let mine = Selection { source: Some(it.institute.parse()?), ..Selection::default() };
    let expect = |letters: &[(&Envelope, Action)]| {
        let mut letters: Vec<_> = letters.iter().map(|(envelope, action)| (envelope.message_id.clone(), *action)).collect();
        letters.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        letters
    };
    let (go, stay) = (Action::Redrive, Action::Release);
    let all = expect(&[(new, go), (two, go), (four, go), (held, stay)]);
    assert_eq!(selected(&it, &mine, 4).await?, all);
    let old = Selection { older_than: Some(hour * 3), ..mine.clone() };
    assert_eq!(selected(&it, &old, 2).await?, expect(&[(four, go), (held, stay)]));
    let young = Selection { newer_than: Some(hour), ..mine.clone() };
    assert_eq!(selected(&it, &young, 1).await?, expect(&[(new, go)]));
    let failed = Selection { error: Some("PayloadExpired".to_owned()), ..mine.clone() };
    assert_eq!(selected(&it, &failed, 1).await?, expect(&[(four, go)]));
    let by_id = Selection { message_ids: [two.message_id.clone()].into(), ..Selection::default() };
    assert_eq!(selected(&it, &by_id, 1).await?, expect(&[(two, go)]));

    // The one that was selected goes back, with its tries before it, and the others stay.
    let began = Instant::now();
    while it.record(&two.message_id).await?.status != Status::Stored {
        ensure!(began.elapsed() < DEADLINE, "not brought back");
        let slowly = Pace { dry_run: false, rate: Some(100) };
        redrive(&it.aws, it.outputs, &by_id, slowly, &Reporter::default()).await?;
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(selected(&it, &mine, 3).await?, expect(&[(new, go), (four, go), (held, stay)]));
    redrive_until(&it, new, Status::Stored).await?;
    redrive_until(&it, four, Status::Stored).await?;
    assert_eq!(selected(&it, &mine, 1).await?, expect(&[(held, stay)]), "what is held is not redriven");
    drop(redriving);
    dead_letter(&it, &serde_json::to_string(held)?, true).await
}

#[tokio::test]
async fn dead_letters_go_back_no_faster_than_asked() -> Result<()> {
    const LETTERS: usize = 21;
    const A_SECOND: u32 = 4;
    let it = Harness::new()?;
    let message = adt(&unique(), "DOE");
    let (message_id, _) = it.store(&it.admin().await?, &message).await?;
    // All of a message that is stored, so that the pipeline has nothing to do with them but to say so.
    let envelope = forge::envelope(&it, &it.institute, &message, &forge::unsigned_token(&it, forge::VALID)).await?;
    let body = serde_json::to_string(&envelope)?;
    let sqs = Sqs::new(it.aws.config());
    let redriving = REDRIVE.write().await;
    for _ in 0..LETTERS {
        sqs.send_message().queue_url(&it.outputs.dead_letter_queue_url).message_body(&body).send().await?;
    }
    let selection = Selection { source: Some(envelope.source.clone()), ..Selection::default() };
    let (began, mut moved) = (Instant::now(), 0);
    // Another round moves those that somebody else was looking at.
    while moved < LETTERS {
        ensure!(began.elapsed() < DEADLINE, "{moved} of {LETTERS}");
        let (round, pace) = (Instant::now(), Pace { dry_run: false, rate: Some(A_SECOND) });
        let done = redrive(&it.aws, it.outputs, &selection, pace, &Reporter::default()).await?;
        let least = Duration::from_secs_f64(done.moved as f64 / f64::from(A_SECOND));
        assert!(round.elapsed() >= least, "{} dead letters in {:?}", done.moved, round.elapsed());
        moved += done.moved;
    }
    assert_eq!(moved, LETTERS);
    assert_eq!(it.dead_letters_of_institute().await?, 0);
    drop(redriving);
    assert_eq!(it.record(&message_id).await?.status, Status::Stored);
    Ok(())
}

#[tokio::test]
async fn an_invalid_queue_entry_is_a_dead_letter_and_its_neighbors_are_stored() -> Result<()> {
    let it = Harness::new()?;
    let _undisturbed = REDRIVE.read().await;
    let admin = it.admin().await?;
    let good = [
        forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?,
        forge::envelope(&it, &it.institute, "no HL7, but an envelope", &admin.token).await?,
    ];
    for envelope in &good {
        forge::record(&it, envelope).await?;
    }
    let json = |change: fn(&mut Value)| {
        let mut envelope = serde_json::to_value(&good[0]).unwrap();
        change(&mut envelope);
        envelope.to_string()
    };
    let bad = [
        format!("this is no JSON {}", it.institute),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        json(|it| it["v"] = json!(2)),
        json(|it| it["source"] = json!("../other")),
        json(|it| drop(it.as_object_mut().unwrap().remove("payload"))),
    ];
    let mut bodies = bad.to_vec();
    bodies.insert(1, serde_json::to_string(&good[0])?);
    bodies.insert(6, serde_json::to_string(&good[1])?);
    let mark = |n: usize| format!("{}/{n}", it.institute);
    let entries = bodies.iter().enumerate().map(|(n, body)| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(mark(n)).build()?;
        let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
        anyhow::Ok(entry.message_attributes("test", value).build()?)
    });
    let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    let sent =
        Sqs::new(it.aws.config()).send_message_batch().queue_url(&it.outputs.queue_url).set_entries(Some(entries)).send().await?;
    assert_eq!((sent.successful().len(), sent.failed().len()), (bodies.len(), 0));

    for envelope in &good {
        let status = it.api.final_status(envelope.message_id.as_str(), &admin.token, DEADLINE).await?;
        assert_eq!(status["status"], "stored");
    }
    for (n, body) in bodies.iter().enumerate().filter(|(_, body)| bad.contains(body)) {
        let is_it = |message: &Message| {
            let mark_of = |it: &MessageAttributeValue| it.string_value == Some(mark(n));
            message.message_attributes().and_then(|it| it.get("test")).is_some_and(mark_of)
        };
        let dead = look_for_dead_letter(&it, is_it, true).await?;
        assert_eq!(dead.body(), Some(body.as_str()), "whole");
    }
    assert_eq!(it.records().await?, good.len(), "what is no envelope left no record");
    assert_eq!(it.dead_letters_of_institute().await?, 0, "no good one among the dead letters");
    Ok(())
}

/// Another submission of the same message, which holds the claim for so long.
async fn another_holds_the_claim(it: &Harness, message: &str, lease: Duration) -> Result<Envelope> {
    let envelope = forge::envelope(it, &it.institute, message, &it.admin().await?.token).await?;
    let (submitted, now) = (forge::submitted(&envelope), runtime::now());
    it.catalog().record_submission(&submitted, now, &envelope.requester()).await?;
    let claim = it.catalog().claim(&submitted, now, now, lease).await?;
    ensure!(matches!(claim, Claim::New { .. }), "{claim:?}");
    Ok(envelope)
}

#[tokio::test]
async fn a_submission_waits_for_another_ones_live_claim_and_ends_as_its_duplicate() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let message = adt(&unique(), "DOE");
    let first = another_holds_the_claim(&it, &message, Duration::from_secs(120)).await?;
    let answer = it.submit(&it.admin().await?, &message).await?;
    assert_eq!(answer.status, 202);
    let second = answer.text("submissionId");
    let message_id = first.message_id.as_str();

    let waiting = dispatched(&it, &second, since, |tries| !tries.is_empty()).await?;
    assert_eq!(waiting[0].outcome, "in-progress");
    assert_eq!(it.object_versions().await?, [], "nobody but the claim's owner writes");
    // The first one goes on: its claim is recognized as its own.
    assert_eq!(forge::outcome(&it, &first).await?, "stored");

    listener.hear_id(&event_id(&second, message_id, "duplicate")).await?;
    let record = it.record(&first.message_id).await?;
    assert_eq!((record.status, record.claim_submission), (Status::Stored, Some(first.submission_id)));
    listener.hear(2).await?;
    let mut expected = [event_id(first.submission_id, message_id, "stored"), event_id(&second, message_id, "duplicate")];
    expected.sort_unstable();
    assert_eq!(listener.ids(), expected);
    assert_eq!(it.object_versions().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_claim_of_a_crashed_submission_is_taken_over_once_it_has_lapsed() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let message = adt(&unique(), "DOE");
    let admin = it.admin().await?;
    let crashed = another_holds_the_claim(&it, &message, DEADLINE).await?;
    let answer = it.submit(&admin, &message).await?;
    let second = answer.text("submissionId");
    dispatched(&it, &second, since, |tries| !tries.is_empty()).await?;
    // It was found alive once, and lapses in a moment.
    let lapses = runtime::now().as_millis() + 1000;
    it.set_attribute(&crashed.message_id, "lease_until", AttributeValue::N(lapses.to_string())).await?;
    let status = it.api.final_status(crashed.message_id.as_str(), &admin.token, DEADLINE).await?;
    assert_eq!(status["status"], "stored");

    let record = it.record(&crashed.message_id).await?;
    assert_eq!(record.claim_submission.map(|it| it.to_string()).as_deref(), Some(second.as_str()));
    let stored_at = record.facts.context("stored")?.stored_at.as_millis();
    assert!(stored_at > lapses, "stored {} ms before the lease had lapsed", lapses - stored_at);
    let tries = dispatched(&it, &second, since, |tries| tries.last().is_some_and(|it| it.outcome == "stored")).await?;
    assert!(tries.len() >= 2 && tries[..tries.len() - 1].iter().all(|it| it.outcome == "in-progress"), "{tries:?}");

    // The crashed one comes to life again, and finds that it is too late: it may neither finish nor give up.
    let submitted = forge::submitted(&crashed);
    let stored = it.record(&crashed.message_id).await?.stored().context("stored")?;
    assert_eq!(it.catalog().finish(&submitted, stored).await?, Finish::Duplicate);
    assert_eq!(forge::outcome(&it, &crashed).await?, "duplicate");
    assert_eq!(it.object_versions().await?.len(), 2);
    Ok(())
}
