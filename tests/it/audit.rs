//! What an audit finds: nothing where nothing is wrong, and exactly what was spoiled.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::types::{Tag, Tagging};
use aws_sdk_sqs::Client as Sqs;
use domain::claim::Claim;
use domain::{Envelope, MessageId, Stored, StoredFacts, SubmissionId, SubmittedMessage, Timestamp, object};
use serde_json::json;
use sluice::operator::audit::{Finding, Kind, Options, Report, audit, repair};
use sluice::operator::discard::discard;
use sluice::output::Reporter;
use sluice_tests::{Caller, Harness, adt, unique};

use crate::failures::REDRIVE;
use crate::twins::Twin;
use crate::{forge, held};

/// An audit of this test's institute, of everything up to now.
fn options(it: &Harness) -> Result<Options> {
    Ok(Options { sources: vec![it.institute.parse()?], settle: Duration::ZERO, ..Options::default() })
}

async fn audited(it: &Harness) -> Result<(Report, Vec<Finding>)> {
    it.audit(vec![it.institute.parse()?]).await
}

async fn clean(it: &Harness) -> Result<Report> {
    it.audit_until_clean(vec![it.institute.parse()?]).await
}

/// What was found of which message, and how often.
fn found(findings: &[Finding]) -> Vec<(Kind, Option<MessageId>)> {
    let mut found: Vec<_> = findings.iter().map(|it| (it.kind, it.message_id.clone())).collect();
    found.sort_unstable();
    found
}

async fn stored(it: &Harness, admin: &Caller) -> Result<(MessageId, StoredFacts)> {
    let (message_id, status) = it.store(admin, &adt(&unique(), "DOE")).await?;
    ensure!(status["status"] == "stored", "{status}");
    let facts = it.record(&message_id).await?.facts.context("stored")?;
    Ok((message_id, facts))
}

/// Puts bytes over an object of the lake, as the account's root. Gives the version.
async fn put(it: &Harness, key: &str, bytes: &[u8]) -> Result<Option<String>> {
    let tagging = format!("source={}&state=parsed", it.institute);
    let put = it.aws.s3().put_object().bucket(&it.outputs.bucket).key(key).tagging(tagging).body(bytes.to_vec().into());
    Ok(put.send().await?.version_id)
}

async fn delete_version(it: &Harness, bucket: &str, key: &str, version_id: Option<&str>) -> Result<()> {
    let request = it.aws.s3().delete_object().bucket(bucket).key(key).set_version_id(version_id.map(str::to_owned));
    request.send().await?;
    Ok(())
}

/// Gives an object of a message the tags of another institute, as the account's root.
async fn retag(it: &Harness, facts: &StoredFacts) -> Result<()> {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let tagging = Tagging::builder().tag_set(tag("source", "another")?).tag_set(tag("state", "parsed")?).build()?;
    let request = it.aws.s3().put_object_tagging().bucket(&facts.bucket).key(&facts.key).tagging(tagging);
    request.set_version_id(facts.version_id.clone()).send().await?;
    Ok(())
}

async fn delete_record(it: &Harness, message_id: &MessageId) -> Result<()> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let request = aws_sdk_dynamodb::Client::new(it.aws.config()).delete_item().table_name(&it.outputs.table);
    request.key("source", text(&it.institute)).key("message_id", text(message_id.as_str())).send().await?;
    Ok(())
}

/// A submission of that age, recorded and never queued.
async fn never_queued(it: &Harness, age: Duration) -> Result<Envelope> {
    let ago = runtime::now().as_millis() - i64::try_from(age.as_millis())?;
    let mut envelope =
        forge::envelope(it, &it.institute, &adt(&unique(), "DOE"), &forge::unsigned_token(it, forge::VALID)).await?;
    envelope.received_at = Timestamp::from_millis(ago).context("a time")?;
    envelope.submission_id = SubmissionId::from(ulid::Ulid::from_parts(u64::try_from(ago)?, rand_bits()));
    forge::record(it, &envelope).await?;
    Ok(envelope)
}

fn rand_bits() -> u128 {
    ulid::Ulid::generate().random()
}

/// A message that lies in the lake and in the catalog, and was never announced.
async fn never_announced(it: &Harness) -> Result<MessageId> {
    let text = adt(&unique(), "DOE");
    let envelope = forge::envelope(it, &it.institute, &text, &forge::unsigned_token(it, forge::VALID)).await?;
    let (submitted, now): (SubmittedMessage, _) = (forge::submitted(&envelope), runtime::now());
    let claim = it.catalog().claim(&submitted, now, now, Duration::from_secs(60)).await?;
    ensure!(matches!(claim, Claim::New { .. }), "{claim:?}");
    let key = object::er7_key(&submitted.source, &submitted.message_id, now);
    let version_id = put(it, &key, text.as_bytes()).await?;
    let facts = StoredFacts {
        stored_at: now,
        state: domain::State::Parsed,
        bucket: it.outputs.bucket.clone(),
        key,
        version_id,
        json_key: None,
        json_version_id: None,
        raw_key: None,
        raw_version_id: None,
        charset: None,
        summary: domain::Summary::default(),
    };
    it.catalog().finish(&submitted, Stored { received_at: now, facts, error: None }).await?;
    Ok(envelope.message_id)
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, facts) = stored(&it, &admin).await?;
    // Its received bytes are an object of their own.
    it.store(&admin, &adt(&unique(), "DOE").replace('\r', "\n")).await?;
    // So are those of what is no HL7, which has no rendition.
    it.store(&admin, "this is no HL7").await?;
    // A submission that is on its way, or was a moment ago, is not overdue.
    let waiting = never_queued(&it, Duration::from_secs(60)).await?;
    // A step that ran twice wrote the same bytes twice.
    let bytes = it.aws.s3().get_object().bucket(&facts.bucket).key(&facts.key).send().await?.body.collect().await?;
    put(&it, &facts.key, &bytes.into_bytes()).await?;

    let report = clean(&it).await?;
    let checked = report.checked;
    assert_eq!((checked.records, checked.accepted, checked.objects, checked.events), (4, 3, 7, 3));
    assert_eq!(it.record(&message_id).await?.facts, Some(facts), "an audit changes nothing");
    delete_record(&it, &waiting.message_id).await?;
    Ok(())
}

#[tokio::test]
async fn spoiled_objects_and_records_are_found_and_nothing_else() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut messages = Vec::new();
    for _ in 0..8 {
        messages.push(stored(&it, &admin).await?);
    }
    clean(&it).await?;
    let [missing, retagged, covered, marked, deleted, changed, damaged, vanished] = &messages[..] else {
        bail!("eight messages")
    };
    let other = adt(&unique(), "SOMEBODY ELSE");

    delete_version(&it, &missing.1.bucket, &missing.1.key, missing.1.version_id.as_deref()).await?;
    retag(&it, &retagged.1).await?;
    put(&it, &covered.1.key, other.as_bytes()).await?;
    // Without a version, S3 puts a delete marker over the object.
    delete_version(&it, &marked.1.bucket, &marked.1.key, None).await?;
    delete_record(&it, &deleted.0).await?;
    let version_id = put(&it, &changed.1.key, other.as_bytes()).await?.context("a version")?;
    it.set(&changed.0, "version_id", &version_id).await?;
    it.set(&damaged.0, "status", "no status").await?;
    let orphan: MessageId = "0123456789abcdef".repeat(4).parse()?;
    put(&it, &object::er7_key(&it.institute.parse()?, &orphan, runtime::now()), other.as_bytes()).await?;
    put(&it, &format!("source={}/stray.txt", it.institute), b"stray").await?;
    // Of this one only the log knows that it was accepted.
    delete_version(&it, &vanished.1.bucket, &vanished.1.key, vanished.1.version_id.as_deref()).await?;
    let json_key = vanished.1.json_key.as_deref().context("a rendition")?;
    delete_version(&it, &vanished.1.bucket, json_key, vanished.1.json_version_id.as_deref()).await?;
    delete_record(&it, &vanished.0).await?;
    // Of three discarded messages one is as it should be.
    let (discarded, silent, unexplained) = tokio::try_join!(held::expired(&it), held::expired(&it), held::expired(&it))?;
    for envelope in [&discarded, &unexplained] {
        discard(&it.aws, it.outputs, &(envelope.source.clone(), envelope.message_id.clone()), "sent twice").await?;
    }
    it.set(&unexplained.message_id, "discard_reason", "").await?;
    let now = runtime::now().to_string();
    for (name, value) in
        [("discarded_at", now.as_str()), ("discarded_by", "x"), ("discard_reason", "sent twice"), ("status", "discarded")]
    {
        it.set(&silent.message_id, name, value).await?;
    }
    let unannounced = never_announced(&it).await?;
    let lost = never_queued(&it, Duration::from_secs(15 * 24 * 3600)).await?;
    let dead = never_queued(&it, Duration::from_secs(5 * 3600)).await?;
    let failed = never_queued(&it, Duration::ZERO).await?;
    it.set(&failed.message_id, "status", "failed").await?;
    let _no_redrive = REDRIVE.write().await;
    let dead_letters = &it.outputs.dead_letter_queue_url;
    let sqs = Sqs::new(it.aws.config());
    sqs.send_message().queue_url(dead_letters).message_body(serde_json::to_string(&dead)?).send().await?;

    let mut expected = vec![
        (Kind::ObjectMissing, Some(missing.0.clone())),
        (Kind::TagsChanged, Some(retagged.0.clone())),
        (Kind::ObjectCovered, Some(covered.0.clone())),
        (Kind::ObjectCovered, Some(marked.0.clone())),
        (Kind::RecordMissing, Some(deleted.0.clone())),
        (Kind::RecordMissing, Some(deleted.0.clone())),
        (Kind::ObjectChanged, Some(changed.0.clone())),
        (Kind::RecordDamaged, Some(damaged.0.clone())),
        (Kind::RecordMissing, Some(orphan)),
        (Kind::RecordMissing, None),
        (Kind::EventMissing, Some(unannounced.clone())),
        (Kind::EventMissing, Some(silent.message_id.clone())),
        (Kind::RecordDamaged, Some(unexplained.message_id.clone())),
        (Kind::Lost, Some(vanished.0.clone())),
        (Kind::Lost, Some(lost.message_id.clone())),
        (Kind::DeadLetter, Some(dead.message_id.clone())),
        (Kind::Lost, Some(failed.message_id.clone())),
    ];
    expected.sort_unstable();
    let (report, findings) = audited(&it).await?;
    assert_eq!(found(&findings), expected);
    assert_eq!(report.count(), expected.len() as u64);
    let text = serde_json::to_string(&findings)?;
    assert!(!text.contains("DOE") && !text.contains("SOMEBODY"), "a finding quotes no message: {text}");

    let repaired = repair(&it.aws, it.outputs, &findings, &Reporter::default()).await?;
    assert_eq!((repaired.mended, repaired.gone), (3, 0));
    expected.retain(|(kind, _)| !kind.is_repairable());
    let (_, findings) = audited(&it).await?;
    assert_eq!(found(&findings), expected, "what can be mended is mended, and nothing else has changed");

    // What was looked at is where it was.
    crate::failures::dead_letter(&it, &serde_json::to_string(&dead)?, true).await?;
    Ok(())
}

#[tokio::test]
async fn an_interrupted_audit_resumes_where_it_stopped() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (kept, facts) = stored(&it, &admin).await?;
    let (deleted, _) = stored(&it, &admin).await?;
    clean(&it).await?;
    it.set(&kept, "status", "no status").await?;
    delete_record(&it, &deleted).await?;

    let folder = tempfile::tempdir()?;
    let options = Options { resume: Some(folder.path().join("audit")), ..options(&it)? };
    // Broken off among the objects, which come after the records.
    let broken = audit(&it.aws, it.outputs, &options, &Reporter::default(), |finding| {
        ensure!(finding.kind != Kind::RecordMissing, "broken off");
        Ok(())
    })
    .await;
    assert!(broken.is_err());
    // The record is whole again, and it is not looked at again.
    it.set(&kept, "status", "stored").await?;
    let mut findings = Vec::new();
    let report = audit(&it.aws, it.outputs, &options, &Reporter::default(), |finding| {
        findings.push(finding.clone());
        Ok(())
    })
    .await?;
    let mut expected = vec![
        (Kind::RecordDamaged, Some(kept.clone())),
        (Kind::RecordMissing, Some(deleted.clone())),
        (Kind::RecordMissing, Some(deleted)),
    ];
    expected.sort_unstable();
    assert_eq!(found(&findings), expected);
    assert_eq!((report.checked.records, report.checked.objects), (1, 4));

    // Done is done: nothing is looked at once more.
    let again = audit(&it.aws, it.outputs, &options, &Reporter::default(), |_| Ok(())).await?;
    assert_eq!(again, report);
    let other = Options { quick: true, ..options };
    let refused = audit(&it.aws, it.outputs, &other, &Reporter::default(), |_| Ok(())).await;
    assert!(refused.unwrap_err().to_string().contains("belongs to another audit"));
    assert_eq!(it.record(&kept).await?.facts, Some(facts));
    Ok(())
}

#[tokio::test]
async fn a_held_message_without_its_copy_is_found() -> Result<()> {
    let it = Harness::new()?;
    let (gone, changed) = (held::expired(&it).await?, held::expired(&it).await?);
    let report = clean(&it).await?;
    assert_eq!((report.checked.records, report.checked.held_objects, report.checked.events), (2, 2, 2));

    let bucket = it.outputs.held_bucket.as_deref().context("a held bucket")?;
    let facts = it.record(&gone.message_id).await?.held.context("held")?;
    delete_version(&it, bucket, &facts.held_key, facts.held_version_id.as_deref()).await?;
    let facts = it.record(&changed.message_id).await?.held.context("held")?;
    let copy =
        it.held_copy(&changed.source, &changed.message_id).await?.replace(changed.message_id.as_str(), gone.message_id.as_str());
    let written = it.aws.s3().put_object().bucket(bucket).key(&facts.held_key).body(copy.into_bytes().into()).send().await?;
    it.set(&changed.message_id, "held_version_id", written.version_id().context("a version")?).await?;
    let orphan: MessageId = "0123456789abcdef".repeat(4).parse()?;
    let key = object::held_key(&it.institute.parse()?, &orphan);
    it.aws.s3().put_object().bucket(bucket).key(key).body(b"{}".to_vec().into()).send().await?;

    let mut expected = vec![
        (Kind::HeldObjectMissing, Some(gone.message_id)),
        (Kind::HeldObjectChanged, Some(changed.message_id)),
        (Kind::HeldRecordMissing, Some(orphan)),
    ];
    expected.sort_unstable();
    assert_eq!(found(&audited(&it).await?.1), expected);
    Ok(())
}

/// The one detail that was found of a message.
fn detail<'a>(findings: &'a [Finding], message_id: &MessageId) -> Option<&'a str> {
    findings.iter().find(|it| it.message_id.as_ref() == Some(message_id))?.detail.as_deref()
}

#[tokio::test]
async fn what_may_still_be_in_the_queue_and_what_can_be_released_again_is_overdue_and_not_lost() -> Result<()> {
    let it = Harness::new()?;
    let waiting = never_queued(&it, Duration::from_secs(5 * 3600)).await?;
    // A release was recorded and never queued. SQS would not have it any more.
    let released = held::expired(&it).await?;
    let long_ago = Timestamp::from_millis(runtime::now().as_millis() - 15 * 24 * 3_600_000).context("a time")?;
    it.set(&released.message_id, "received_at", &long_ago.to_string()).await?;
    it.set(&released.message_id, "status", "queued").await?;

    let _no_redrive = REDRIVE.write().await;
    // The queue shows it only after the audit.
    let send = Sqs::new(it.aws.config()).send_message().queue_url(&it.outputs.queue_url).delay_seconds(900);
    send.message_body(serde_json::to_string(&waiting)?).send().await?;
    let (_, findings) = audited(&it).await?;
    let mut expected =
        vec![(Kind::Overdue, Some(waiting.message_id.clone())), (Kind::Overdue, Some(released.message_id.clone()))];
    expected.sort_unstable();
    assert_eq!(found(&findings), expected);
    assert_eq!(detail(&findings, &waiting.message_id), Some("queued"));
    assert_eq!(detail(&findings, &released.message_id), Some("a held copy is there: release it again"));
    Ok(())
}

#[tokio::test]
async fn an_event_from_before_the_log_begins_is_counted_and_not_looked_for() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = stored(&it, &admin).await?;
    assert_eq!(clean(&it).await?.checked.events, 1);
    // Of this submission there is no event.
    it.set(&message_id, "claim_submission", &runtime::new_submission_id().to_string()).await?;
    assert_eq!(found(&audited(&it).await?.1), [(Kind::EventMissing, Some(message_id.clone()))]);
    it.set(&message_id, "stored_at", "2020-01-02T03:04:05.000Z").await?;
    let (report, findings) = audited(&it).await?;
    assert_eq!((findings, report.checked.events, report.checked.events_too_old), (vec![], 0, 1));
    Ok(())
}

/// The actions that the operator's manual names for an audit without repairs.
fn documented_actions() -> Result<Vec<String>> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md"))?;
    let (_, chapter) = page.split_once("\n## Auditing a deployment\n").context("the chapter")?;
    let (_, list) = chapter.split_once("\n- It needs ").context("the list")?;
    let (list, _) = list.split_once("; `--repair`").context("the end of the list")?;
    let (mut service, mut actions) = ("", Vec::new());
    for name in list.split('`').skip(1).step_by(2) {
        // `dynamodb:Scan`, `Query`: without a service it is of the one before.
        let action = name.split_once(':').map_or(name, |(named, action)| {
            service = named;
            action
        });
        actions.push(format!("{service}:{action}"));
    }
    Ok(actions)
}

#[tokio::test]
async fn an_auditor_needs_the_documented_actions_and_can_change_nothing() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (retagged, facts) = stored(&it, &admin).await?;
    held::expired(&it).await?;
    clean(&it).await?;
    retag(&it, &facts).await?;
    // Because of this one, the audit looks into both queues.
    let waiting = never_queued(&it, Duration::from_secs(5 * 3600)).await?;

    let actions = documented_actions()?;
    let writes = ["Put", "Update", "Delete", "Write", "Send", "Publish", "Create"];
    assert!(actions.len() > 10 && !actions.iter().any(|it| writes.iter().any(|verb| it.contains(verb))), "{actions:?}");
    let allowed = |actions: &[String]| {
        let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
        [json!({ "Version": "2012-10-17", "Statement": [statement] })]
    };
    let auditor = Twin::with(&it, &allowed(&actions), None).await?;
    let _no_redrive = REDRIVE.write().await;
    let mut findings = Vec::new();
    let report = audit(&auditor.aws, it.outputs, &options(&it)?, &Reporter::default(), |finding| {
        findings.push(finding.clone());
        Ok(())
    })
    .await?;
    let checked = report.checked;
    assert_eq!((checked.records, checked.objects, checked.held_objects, checked.events), (3, 2, 1, 2));
    let of =
        |id: &MessageId| findings.iter().filter(|it| it.message_id.as_ref() == Some(id)).map(|it| it.kind).collect::<Vec<_>>();
    assert_eq!((findings.len(), of(&retagged)), (2, vec![Kind::TagsChanged]));
    // Other tests may have something in the queue.
    assert!(matches!(of(&waiting.message_id)[..], [Kind::Lost | Kind::Overdue]), "{findings:?}");

    // An audit without an institute scans the catalog. This one begins now, so that it checks only other tests' messages.
    let all = Options { from: Some(runtime::now()), quick: true, ..Options::default() };
    let ignored = |_: &Finding| Ok(());
    audit(&auditor.aws, it.outputs, &all, &Reporter::default(), ignored).await?;
    let others: Vec<_> = actions.iter().filter(|it| *it != "dynamodb:Scan").cloned().collect();
    assert_eq!(others.len() + 1, actions.len());
    let without_scan = Twin::with(&it, &allowed(&others), None).await?;
    let refused = audit(&without_scan.aws, it.outputs, &all, &Reporter::default(), ignored).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("AccessDenied"));

    // The same role repairs nothing.
    let refused = repair(&auditor.aws, it.outputs, &findings, &Reporter::default()).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("AccessDenied"));
    assert!(audited(&it).await?.1.iter().any(|it| it.kind == Kind::TagsChanged), "the tags are as they were");
    delete_record(&it, &waiting.message_id).await
}
