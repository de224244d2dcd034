//! The worker `tables`: what institutes have stored as Parquet, by institute and day.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Envelope, MessageId, Status, Timestamp};
use futures_util::future::try_join_all;
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice::operator::tables::{Run, run};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{Harness, adt, done, python, unique};
use tables::{Engine, Layout, Mapping, Table};
use tokio::process::Command;

use crate::faults::Faults;
use crate::{forge, held, logs};

mod own;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the worker for this test's institute.
pub(crate) async fn tabulate(it: &Harness, from: Option<&str>) -> Result<Run> {
    let step = Reporter::silent().step("tables");
    let runs = run(&it.aws, it.outputs, &[it.institute.parse()?], from, &step).await?;
    let [run] = <[Run; 1]>::try_from(runs).map_err(|runs| anyhow::anyhow!("{runs:?}"))?;
    Ok(run)
}

/// The days that a run has written, with their numbers of messages, by their manifests.
async fn written(it: &Harness) -> Result<Vec<(String, u64)>> {
    Ok(written_from(it, None).await?.1)
}

async fn written_from(it: &Harness, from: Option<&str>) -> Result<(Run, Vec<(String, u64)>)> {
    let before = manifests(it).await?;
    let run = tabulate(it, from).await?;
    ensure!(run.outcome == "done", "{run:?}");
    let mut days = Vec::new();
    for (day, (version, manifest)) in manifests(it).await? {
        if before.get(&day).is_none_or(|(earlier, _)| *earlier != version) {
            days.push((day, manifest["messages"].as_u64().context("a number")?));
        }
    }
    let messages = days.iter().map(|day| day.1).sum::<u64>();
    ensure!((run.days, run.messages) == (days.len() as u64, messages), "{run:?}: {days:?}");
    Ok((run, days))
}

/// The manifest of each day, with the version of its object.
async fn manifests(it: &Harness) -> Result<BTreeMap<String, (String, Value)>> {
    let prefix = format!("_commits/source={}/date=", it.institute);
    let s3 = it.aws.s3();
    let mut manifests = BTreeMap::new();
    for key in s3.list_objects_v2().bucket(bucket(it)?).prefix(&prefix).send().await?.contents().iter().filter_map(|it| it.key())
    {
        let object = s3.get_object().bucket(bucket(it)?).key(key).send().await?;
        let version = object.version_id().context("a version")?.to_owned();
        let day = key.strip_prefix(&prefix).and_then(|it| it.strip_suffix(".json")).context("a day")?;
        manifests.insert(day.to_owned(), (version, serde_json::from_slice(&object.body.collect().await?.into_bytes())?));
    }
    Ok(manifests)
}

fn bucket(it: &Harness) -> Result<&str> {
    it.outputs.stack_output("TablesBucketName")
}

/// Every version of an object of this institute in the tables' bucket: key, and whether it is the current one.
async fn versions(it: &Harness) -> Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for table in Table::ALL.map(Table::name).into_iter().chain(["_commits"]) {
        let prefix = format!("{table}/source={}/", it.institute);
        let page = it.aws.s3().list_object_versions().bucket(bucket(it)?).prefix(prefix).send().await?;
        ensure!(page.is_truncated() != Some(true), "too many objects for a test");
        found.extend(page.versions().iter().map(|it| (it.key().unwrap_or_default().to_owned(), it.is_latest() == Some(true))));
    }
    Ok(found)
}

/// Copies this institute's tables to a folder, as an engine finds them.
async fn copied(it: &Harness, folder: &Path) -> Result<usize> {
    let keys: BTreeSet<String> = versions(it).await?.into_iter().map(|(key, _)| key).collect();
    let s3 = it.aws.s3();
    for key in &keys {
        let object = s3.get_object().bucket(bucket(it)?).key(key).send().await?;
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, object.body.collect().await?.into_bytes())?;
    }
    Ok(keys.len())
}

/// The rows of each table by DuckDB, over the statements of `sluice sql ddl --by-institute`.
async fn read(it: &Harness) -> Result<BTreeMap<String, Vec<BTreeMap<String, Value>>>> {
    let folder = tempfile::tempdir()?;
    copied(it, folder.path()).await?;
    let location = folder.path().to_str().context("a path")?;
    let mapping = Mapping::standard()?;
    let statements: BTreeMap<_, Vec<String>> = Engine::ALL
        .iter()
        .map(|engine| {
            let ddl = |table: &Table| engine.ddl(*table, &mapping.columns(*table), location, Layout::Institutes);
            (engine.name(), Table::ALL.iter().map(ddl).collect())
        })
        .collect();
    let ddl = folder.path().join("ddl.json");
    std::fs::write(&ddl, serde_json::to_vec(&statements)?)?;
    let workspace = Workspace::find().await?;
    let tests = workspace.root().join("tests/it/sql");
    let python = python("sql", &tests.join("requirements.txt")).await?;
    let mut command = Command::new(python);
    command.arg(tests.join("institutes.py")).args([&ddl, folder.path()]);
    Ok(serde_json::from_str(&done(&mut command).await?)?)
}

/// The ids of the messages in the table `messages`, each as often as it is there.
async fn messages(it: &Harness) -> Result<Vec<String>> {
    let rows = read(it).await?;
    let mut ids: Vec<_> = rows["messages"].iter().filter_map(|row| row["message_id"].as_str().map(str::to_owned)).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn report(family_name: &str) -> String {
    let id = unique();
    format!(
        "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260103||ORU^R01|{id}|P|2.5.1\rPID|1||4711||{family_name}^JANE\rOBR|1|||p\r\
         OBX|1|NM|2951-2^Sodium^LN||140|mmol/L|135-145||||F\rOBX|2|SN|t^Titer^LN||^1^:^128\r"
    )
}

/// The time from which days are counted back. All messages have the same one, so that midnight does not come between two of them.
static NOW: LazyLock<Timestamp> = LazyLock::new(runtime::now);

/// A message that came so many days ago, queued.
async fn queued_days_ago(it: &Harness, days: u32, token: &SecretString) -> Result<Envelope> {
    let mut envelope = forge::envelope(it, &it.institute, &adt(&unique(), "DOE"), token).await?;
    let days = i64::from(days) * i64::try_from(DAY.as_millis())?;
    envelope.received_at = Timestamp::from_millis(NOW.as_millis() - days).context("a time")?;
    forge::enqueue(it, &envelope).await?;
    Ok(envelope)
}

#[tokio::test]
async fn what_is_stored_is_in_a_file_for_each_table_and_day_exactly_once() -> Result<()> {
    // A name that programs take for a number.
    let mut it = Harness::new()?;
    it.institute = format!("{}e5", it.institute.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>());
    let (admin, family_name) = (it.admin().await?, format!("CANARY{}", unique()));
    let mut ids = BTreeSet::new();
    for message in [report(&family_name), adt(&unique(), &family_name), format!("NOT HL7 {}", unique())] {
        ids.insert(it.store(&admin, &message).await?.0.to_string());
    }
    let earlier = queued_days_ago(&it, 3, &admin.token).await?;
    held::until(&it, &earlier, Status::Stored).await?;
    ids.insert(earlier.message_id.to_string());

    let began = logs::now();
    let days = written(&it).await?;
    assert_eq!(days.first(), Some(&(earlier.received_at.date(), 1)));
    assert_eq!(days.iter().map(|(_, messages)| messages).sum::<u64>(), 4);
    let first = versions(&it).await?;
    // The manifest stands outside the tables.
    assert_eq!(first.len(), days.len() * (Table::ALL.len() + 1), "{first:?}");
    for table in Table::ALL {
        let key = format!("{table}/source={}/date={}/part-00001.parquet", it.institute, earlier.received_at.date());
        assert!(first.contains(&(key, true)), "{table}: {first:?}");
    }

    let rows = read(&it).await?;
    let of = |table: Table| &rows[table.name()];
    assert_eq!(of(Table::Messages).len(), 4);
    let read_ids: BTreeSet<_> = of(Table::Messages).iter().filter_map(|row| row["message_id"].as_str()).collect();
    assert_eq!(read_ids, ids.iter().map(String::as_str).collect());
    for row in rows.values().flatten() {
        let day = row["received_at"].as_str().and_then(|it| it.get(..10));
        assert_eq!((row["source"].as_str(), row["date"].as_str()), (Some(it.institute.as_str()), day), "{row:?}");
    }
    let numbers: Vec<_> = of(Table::Observations).iter().map(|row| (&row["value_number"], &row["value_second"])).collect();
    assert_eq!(numbers, [(&json!(140.0), &Value::Null), (&Value::Null, &json!(128.0))]);
    assert_eq!((of(Table::Patients).len(), of(Table::Raw).len(), of(Table::Documents).len()), (3, 4, 0));

    // Nothing has changed, so nothing is written; what comes is written with its day as a whole.
    assert_eq!(written(&it).await?, []);
    assert_eq!(versions(&it).await?, first);
    let (id, _) = it.store(&admin, &adt(&unique(), &family_name)).await?;
    ids.insert(id.to_string());
    let again = written(&it).await?;
    assert!(again.len() == 1 && again[0].1 > 1 || days.len() > 2, "{again:?}: a day is written as a whole");
    assert_eq!(messages(&it).await?, ids.iter().cloned().collect::<Vec<_>>());
    // On request everything is.
    let (all, _) = written_from(&it, Some("2026-01-01")).await?;
    assert_eq!((all.messages, all.unread), (5, 0), "{all:?}");
    assert_eq!(messages(&it).await?, ids.into_iter().collect::<Vec<_>>());

    // A line of the log is about the institute, and nothing of a message is in it.
    let group = logs::group_of(&it, logs::TABLES)?;
    let lines = logs::lines(&it, &group, began, "").await?;
    assert!(lines.iter().any(|line| line.text.contains(&it.institute)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.text.contains(&family_name)));
    Ok(())
}

#[tokio::test]
async fn a_run_that_breaks_off_is_repeated_and_nothing_is_there_twice() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (id, _) = it.store(&admin, &report("DOE")).await?;
    let faults = Faults::of(&it)?;
    // Between two tables; and when all files are written and nothing is committed.
    for (name, marker) in [("table", "visits"), ("manifest", "_commits")] {
        let marker = format!("{marker}/source={}/", it.institute);
        let fault =
            json!({ "id": format!("{}-{name}", it.institute), "action": "s3:PutObject", "kind": "denied", "marker": marker });
        faults.ask("POST", &fault).await?;
        let run = tabulate(&it, None).await;
        faults.ask("DELETE", &json!({ "id": fault["id"] })).await?;
        let run = run?;
        assert_eq!((run.outcome.as_str(), run.error.as_deref()), ("failed", Some("Misconfigured")), "{name}");
        let says = run.message.as_deref();
        assert_eq!(says, Some("s3:PutObject was refused, and the caller is not to blame: AccessDenied"), "{name}");
        assert!(run.next.as_deref().is_some_and(|it| it.starts_with("the deployment refuses the operation")), "{run:?}");
        // `messages` comes after all other tables.
        let has = |all: &[(String, bool)], table: &str| all.iter().any(|(key, _)| key.starts_with(table));
        let there = versions(&it).await?;
        assert_eq!((has(&there, "observations/"), has(&there, "messages/")), (true, name == "manifest"), "{there:?}");
    }
    assert_eq!(written(&it).await?.iter().map(|day| day.1).sum::<u64>(), 1, "the day was not committed");
    let current: Vec<_> = versions(&it).await?.into_iter().filter(|it| it.1).collect();
    assert_eq!(current.len(), Table::ALL.len() + 1, "{current:?}");
    assert_eq!(messages(&it).await?, [id.to_string()]);
    assert_eq!(read(&it).await?["observations"].len(), 2);
    assert_eq!(written(&it).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_released_days_later_comes_into_the_file_of_its_day() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let admin = it.admin().await?;
    let stored = queued_days_ago(&it, 5, &admin.token).await?;
    let late = queued_days_ago(&it, 5, &elsewhere.admin().await?.token).await?;
    let behind = queued_days_ago(&it, 4, &admin.token).await?;
    held::until(&it, &stored, Status::Stored).await?;
    held::until(&it, &behind, Status::Stored).await?;
    held::until(&it, &late, Status::Held).await?;
    let (day, next) = (stored.received_at.date(), behind.received_at.date());
    assert_eq!(written(&it).await?, [(day.clone(), 1), (next.clone(), 1)]);
    assert_eq!(written(&it).await?, []);
    assert!(open_days(&it).await?.contains(&day), "the held message keeps its day open");
    assert!(!open_days(&it).await?.contains(&next));

    assert_eq!(it.api.release(late.message_id.as_str(), &admin.token).await?.status, 202);
    held::until(&it, &late, Status::Stored).await?;
    assert_eq!(written(&it).await?, [(day.clone(), 2)]);
    let mut expected = [&stored, &late, &behind].map(|it| it.message_id.to_string());
    expected.sort_unstable();
    assert_eq!(messages(&it).await?, expected);
    assert!(!open_days(&it).await?.contains(&day), "the day is closed");
    assert_eq!(written(&it).await?, []);
    Ok(())
}

/// Deletes a message's object from the lake, as the account's root.
async fn delete_object(it: &Harness, message_id: &MessageId) -> Result<()> {
    let facts = it.record(message_id).await?.facts.context("stored")?;
    let delete = it.aws.s3().delete_object().bucket(&facts.bucket).key(&facts.key).set_version_id(facts.version_id);
    delete.send().await?;
    Ok(())
}

#[tokio::test]
async fn a_day_of_which_no_message_can_be_read_is_written_with_its_records() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let gone = queued_days_ago(&it, 4, &admin.token).await?;
    held::until(&it, &gone, Status::Stored).await?;
    delete_object(&it, &gone.message_id).await?;
    let began = logs::now();
    let (run, days) = written_from(&it, None).await?;
    let day = gone.received_at.date();
    assert_eq!((days, run.unread, run.rows), (vec![(day.clone(), 1)], 1, 1));
    let manifests = manifests(&it).await?;
    assert_eq!(manifests[&day].1["unread"], json!([gone.message_id]));
    assert_eq!(messages(&it).await?, [gone.message_id.to_string()]);
    let lines = logs::lines(&it, &logs::group_of(&it, logs::TABLES)?, began, "").await?;
    let lines: Vec<_> = lines.iter().filter(|line| line.text.contains(&it.institute)).collect();
    assert!(lines.iter().any(|line| line.text.contains(r#""unread":"1""#)), "{lines:?}");
    assert_eq!(written(&it).await?, []);
    Ok(())
}

#[tokio::test]
async fn without_the_right_to_read_messages_a_run_fails_and_writes_nothing() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    // Fewer might all be deleted.
    try_join_all((0..20).map(async |_| it.store(&admin, &adt(&unique(), "DOE")).await)).await?;
    let faults = Faults::of(&it)?;
    let marker = format!("source={}/", it.institute);
    faults
        .ask("POST", &json!({ "id": it.institute, "action": "s3:GetObjectVersion", "kind": "denied", "marker": marker }))
        .await?;
    let run = tabulate(&it, None).await;
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    let run = run?;
    assert_eq!((run.outcome.as_str(), run.error.as_deref()), ("failed", Some("Misconfigured")));
    assert_eq!(versions(&it).await?, []);
    assert_eq!(written_from(&it, None).await?.0.messages, 20);
    Ok(())
}

#[tokio::test]
async fn a_day_whose_records_have_gone_has_empty_files_once_it_is_written_again() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let gone = queued_days_ago(&it, 5, &admin.token).await?;
    let stays = queued_days_ago(&it, 4, &admin.token).await?;
    for envelope in [&gone, &stays] {
        held::until(&it, envelope, Status::Stored).await?;
    }
    let (day, next) = (gone.received_at.date(), stays.received_at.date());
    assert_eq!(written(&it).await?, [(day.clone(), 1), (next.clone(), 1)]);

    delete_object(&it, &gone.message_id).await?;
    let delete = aws_sdk_dynamodb::Client::new(it.aws.config()).delete_item().table_name(&it.outputs.table);
    let delete = delete.key("source", AttributeValue::S(it.institute.clone()));
    delete.key("message_id", AttributeValue::S(gone.message_id.to_string())).send().await?;
    assert_eq!(written(&it).await?, []);
    assert_eq!(messages(&it).await?.len(), 2);

    // The request is kept also when this run fails.
    let faults = Faults::of(&it)?;
    let marker = format!("messages/source={}/", it.institute);
    faults.ask("POST", &json!({ "id": it.institute, "action": "s3:PutObject", "kind": "denied", "marker": marker })).await?;
    let run = tabulate(&it, Some(&day)).await;
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    assert_eq!(run?.outcome, "failed");
    assert_eq!(written(&it).await?, [(day, 0), (next, 1)]);
    assert_eq!(messages(&it).await?, [stays.message_id.to_string()]);
    let rows = read(&it).await?;
    assert!(rows.values().flatten().all(|row| row["message_id"] == json!(stays.message_id)), "{rows:?}");
    assert_eq!(written(&it).await?, []);
    Ok(())
}

/// The institute's item in the table of progress.
async fn progress(it: &Harness) -> Result<Option<std::collections::HashMap<String, AttributeValue>>> {
    let client = aws_sdk_dynamodb::Client::new(it.aws.config());
    let get = client.get_item().table_name(it.outputs.stack_output("TablesProgressTableName")?);
    Ok(get.key("source", AttributeValue::S(it.institute.clone())).send().await?.item)
}

async fn open_days(it: &Harness) -> Result<BTreeSet<String>> {
    let item = progress(it).await?.context("progress")?;
    Ok(item["open"].as_m().map_err(|_| anyhow::anyhow!("a map"))?.keys().cloned().collect())
}

#[tokio::test]
async fn of_two_runs_of_an_institute_one_does_nothing() -> Result<()> {
    let it = Harness::new()?;
    it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let client = aws_sdk_dynamodb::Client::new(it.aws.config());
    let hold_until = async |until: i64| {
        let put = client.put_item().table_name(it.outputs.stack_output("TablesProgressTableName")?);
        let put =
            put.item("source", AttributeValue::S(it.institute.clone())).item("run", AttributeValue::S("another".to_owned()));
        anyhow::Ok(put.item("run_until", AttributeValue::N(until.to_string())).send().await?)
    };
    hold_until(runtime::now().as_millis() + 60_000).await?;
    let run = tabulate(&it, None).await?;
    assert_eq!((run.outcome.as_str(), run.days), ("running", 0));
    assert!(run.until.is_some_and(|it| it > runtime::now()), "{run:?}");
    assert_eq!(versions(&it).await?, []);
    // The other run ended without a word, and its lease is over.
    hold_until(runtime::now().as_millis() - 1).await?;
    assert_eq!(written(&it).await?.len(), 1);
    let item = progress(&it).await?.context("progress")?;
    assert!(!item.contains_key("run") && !item.contains_key("run_until"), "{item:?}");
    Ok(())
}
