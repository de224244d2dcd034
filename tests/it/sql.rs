//! The SQL of `docs/SQL.md`, run by DuckDB over what went through the system.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use domain::object::json_key;
use domain::{MessageId, Source, Timestamp};
use hl7::Origin;
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{Caller, Harness, adt, done, python, unique};
use tokio::process::Command;

use crate::renditions;

fn oru(control_id: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260102030405||ORU^R01^ORU_R01|{control_id}|P|2.5.1\r\
         PID|1||4711^^^HIS^MR||ROE^RICHARD~DOE^RICK||19800101|M\rOBR|1|||24323-8^CMP^LN\r\
         OBX|1|NM|2345-7^Glucose^LN||105|mg/dL^^UCUM|70-99|H|||F\r\
         OBX|2|CE|883-9^ABO group^LN||A^Group A^L|\"\"||||F\r\
         OBX|3|DT|11778-8^Delivery date^LN||20260903||||||F\r"
    )
}

/// What the queries of the document find, and how many files each reads.
#[derive(serde::Deserialize)]
struct Found {
    rows: Value,
    files: BTreeMap<String, usize>,
}

async fn run(lake: &Path, source: &str, from: &str, message_id: &str) -> Result<Found> {
    let workspace = Workspace::find().await?;
    let root = workspace.root();
    let python = python("sql", &root.join("tests/it/sql/requirements.txt")).await?;
    let mut command = Command::new(python);
    command.arg(root.join("tests/it/sql/run.py")).args([&root.join("docs/SQL.md"), lake]).args([source, from, message_id]);
    Ok(serde_json::from_str(&done(&mut command).await?)?)
}

/// Puts the rendition of a message into a folder under its key, as the user who reads it.
async fn fetch(it: &Harness, reader: &Caller, id: &MessageId, lake: &Path) -> Result<String> {
    let stored = it.record(id).await?.facts.context("stored")?;
    let key = stored.json_key.context("a rendition")?;
    let object = it.aws_as(reader).await?.s3().get_object().bucket(&stored.bucket).key(&key).send().await?;
    let path = lake.join(&key);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(path, object.body.collect().await?.into_bytes())?;
    let (_, date) = key.split_once("/date=").context("a date")?;
    Ok(date.split('/').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_documented_queries_find_what_was_sent() -> Result<()> {
    let it = Harness::new()?;
    let (admin, reader) = (it.admin().await?, it.caller(&it.institute, "").await?);
    let lake = tempfile::tempdir()?;
    let (mut ids, mut dates) = (Vec::new(), Vec::new());
    for message in [adt(&unique(), "DOE"), adt(&unique(), "ROE"), oru(&unique())] {
        let (id, status) = it.store(&admin, &message).await?;
        ensure!(status["status"] == "stored", "{status}");
        dates.push(fetch(&it, &reader, &id, lake.path()).await?);
        ids.push(id.to_string());
    }
    let ([doe, _, oru], [doe_date, roe_date, oru_date]) = (ids.as_slice(), dates.as_slice()) else {
        unreachable!("three were sent")
    };
    let found = run(lake.path(), &it.institute, "2026-01-01", doe).await?.rows;

    let mut named = vec![
        json!({ "date": doe_date, "message_id": doe, "repetition": 1 }),
        json!({ "date": oru_date, "message_id": oru, "repetition": 2 }),
    ];
    named.sort_by_key(|it| it["message_id"].to_string());
    assert_eq!(found["by position"], json!(named));
    assert_eq!(found["by name"], json!(named));
    let of_result = |result: &Value| ["code", "code_system", "result", "number", "unit", "time"].map(|name| result[name].clone());
    let results: Vec<_> = found["results"].as_array().context("rows")?.iter().map(of_result).collect();
    let glucose = [json!("2345-7"), json!("LN"), json!("105"), json!(105.0), json!("mg/dL"), Value::Null];
    let group = [json!("883-9"), json!("LN"), json!("A"), Value::Null, json!("\"\""), Value::Null];
    let date = [json!("11778-8"), json!("LN"), json!("20260903"), Value::Null, Value::Null, Value::Null];
    assert_eq!(results, [glucose, group, date]);
    let one = found["one message"].as_array().context("rows")?;
    assert!(one.iter().any(|it| it["segment"] == "PID" && it["field"] == 5 && it["value"] == "DOE"), "{one:?}");
    let mut counts = BTreeMap::new();
    for of in [(doe_date, "ADT", "A01"), (roe_date, "ADT", "A01"), (oru_date, "ORU", "R01")] {
        *counts.entry(of).or_insert(0) += 1;
    }
    let of_type = |((date, kind, event), messages)| json!({ "date": date, "message_type": kind, "trigger_event": event, "messages": messages });
    assert_eq!(found["types"], counts.into_iter().map(of_type).collect::<Value>());
    Ok(())
}

/// Names that a program takes for something else than a text when it is left to guess.
const INSTITUTES: [&str; 7] = ["00123", "123", "1e5", "100000", "NaN", "null", "true"];

const DAYS: [&str; 3] = ["2026-11-26", "2026-11-27", "2026-11-28"];

/// How many messages each institute has of each day.
type Counts<'a> = BTreeMap<(&'a str, &'static str), usize>;

/// The renditions of the corpus as objects of these institutes and days, every second one of version 1. Gives how many each has, and
/// which messages.
fn lake_of_corpus<'a>(lake: &Path, institutes: &[&'a str]) -> Result<(Counts<'a>, Vec<MessageId>)> {
    let (mut counts, mut ids) = (BTreeMap::new(), Vec::new());
    for sample in corpus::messages()? {
        let body = hl7::Body::of(sample.bytes, None);
        let Some(Ok(message)) = body.message(1).map(|it| it.read()) else { continue };
        let Ok(delimiters) = hl7::Delimiters::of(&message.er7) else { continue };
        let id = message.er7.message_id();
        if ids.contains(&id) {
            continue;
        }
        let number = ids.len();
        let (institute, day) = (institutes[number % institutes.len()], DAYS[number / institutes.len() % DAYS.len()]);
        let (source, received_at): (Source, _) = (institute.parse()?, Timestamp::range_end(day).context("a day")?);
        let path = lake.join(json_key(&source, &id, received_at));
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        if number % 2 == 0 {
            let origin = Origin { message_id: &id, source: &source, received_at };
            std::fs::write(path, hl7::compressed_json(&message.er7, &delimiters, &origin, hl7::Schema::standard())?)?;
        } else {
            std::fs::write(path.with_extension(""), renditions::of_version_1(&message.er7)?)?;
        }
        *counts.entry((institute, day)).or_default() += 1;
        ids.push(id);
    }
    Ok((counts, ids))
}

#[tokio::test]
async fn the_documented_queries_read_the_named_partitions_alone() -> Result<()> {
    let lake = tempfile::tempdir()?;
    let (counts, ids) = lake_of_corpus(lake.path(), &INSTITUTES)?;
    ensure!(ids.len() > 50, "{} messages", ids.len());
    for institute in ["00123", "1e5"] {
        let found = run(lake.path(), institute, DAYS[1], &ids[0].to_string()).await?;
        let own = counts.iter().filter(|((of, day), _)| *of == institute && *day >= DAYS[1]);
        let own: usize = own.map(|(_, count)| count).sum();
        ensure!(own > 0 && own * 4 < ids.len(), "{own}");
        for (name, files) in &found.files {
            // One message is looked up in the names of the objects as well, and this one is of another day.
            let expected = if name == "one message" { 0 } else { own };
            assert_eq!(*files, expected, "{name} of {institute}: {} files are in the lake", ids.len());
        }
        let messages =
            found.rows["types"].as_array().context("rows")?.iter().map(|it| it["messages"].as_u64().unwrap_or_default());
        assert_eq!(usize::try_from(messages.sum::<u64>())?, own, "{institute} has its own messages and those of no namesake");
    }
    Ok(())
}

#[tokio::test]
async fn the_documented_queries_find_the_numbers_of_the_corpus() -> Result<()> {
    let lake = tempfile::tempdir()?;
    let (_, ids) = lake_of_corpus(lake.path(), &["null"])?;
    let (mut numeric, mut numbers, mut systems) = (0, 0, 0);
    let found = run(lake.path(), "null", DAYS[0], &ids[0].to_string()).await?;
    for row in found.rows["results"].as_array().context("rows")? {
        let is_numeric = matches!(row["value_type"].as_str(), Some("NM" | "SN"));
        numeric += usize::from(is_numeric);
        numbers += usize::from(is_numeric && (row["number"].is_f64() || row["first_number"].is_f64()));
        systems += usize::from(row["code_system"] == "LN");
        let may_be_number = is_numeric || matches!(row["value_type"].as_str(), None | Some("\"\"" | "ST" | "TX" | "FT"));
        assert!(may_be_number || row["number"].is_null(), "a date or an identifier is none: {row}");
        // A range or a ratio is no number: 1:128 is not 1.
        assert!(row["number"].is_null() || row["first_number"].is_null(), "{row}");
    }
    let is_whole = std::env::var_os(corpus::VARIABLE).is_some();
    let (least, of) = if is_whole { (985, 998) } else { (10, 10) };
    assert!(numeric >= of && numbers >= least && systems > 0, "{numbers} of {numeric}, {systems} LOINC");
    assert!(found.rows["one message"].as_array().is_some_and(|it| !it.is_empty()));
    assert_eq!(found.files["one message"], 1);
    Ok(())
}
