//! Exported tables, read by other people's programs: DuckDB and PyArrow.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use domain::{Er7, State, Timestamp, object};
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{done, python};
use tables::{Cell, Column, Engine, Entry, Mapping, ParquetFile, Row, Table};
use tokio::process::Command;

/// What PyArrow reads of the tables, and what the queries of the document find and read.
#[derive(serde::Deserialize)]
struct Found {
    tables: BTreeMap<String, Vec<Vec<Value>>>,
    rows: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    files: BTreeMap<String, usize>,
}

const DAYS: [&str; 3] = ["2026-11-26", "2026-11-27", "2026-11-28"];

/// Values that programs take for something else, or cannot hold.
const HOSTILE: &str = "MSH|^~\\&|LAB||||20260103+0100||ORU^R01|7|P|2.5.1\rPID|1||007^^^LAB&1.2&ISO~NaN||null^\u{1F480}||1980|F\r\
                       OBR|1|||p|||20260102\rOBX|1|NM|2951-2^Sodium^LN||140|mmol/L|135-145||||F\r\
                       OBX|2|SN|2951-2^Sodium^LN||>^100\rOBX|3|SN|t^Titer^LN||^1^:^128\rOBX|4|ST|s||\\X0A\\=1+1~1e5~true~\u{2028}\r";

/// The messages of the corpus, and one more, with a record of the catalog for each.
fn messages() -> Result<Vec<(Entry, Er7)>> {
    let bodies = corpus::messages()?.into_iter().map(|sample| sample.bytes).chain([HOSTILE.as_bytes().to_vec()]);
    let mut messages = Vec::new();
    for bytes in bodies {
        let body = hl7::Body::of(bytes, None);
        let Some(Ok(message)) = body.message(1).map(|it| it.read()) else { continue };
        let (er7, number) = (message.er7, messages.len());
        let (message_id, source) = (er7.message_id(), "1e5".parse()?);
        let received_at = Timestamp::range_end(&format!("{}T10:00:00.12Z", DAYS[number % DAYS.len()])).context("a time")?;
        let key = object::er7_key(&source, &message_id, received_at);
        let (stored_at, summary) = (Some(received_at), hl7::summarize(&er7));
        let (version_id, json_key, raw_key, charset) = (Some("null".to_owned()), None, None, None);
        let (state, bucket) = (State::Parsed, "lake".to_owned());
        let entry = Entry {
            message_id,
            source,
            received_at,
            stored_at,
            state,
            bucket,
            key,
            version_id,
            json_key,
            raw_key,
            charset,
            summary,
        };
        messages.push((entry, er7));
    }
    Ok(messages)
}

/// Writes a table as `sluice export --to FOLDER/ --format parquet` does, two row groups a day; gives all of its rows.
fn export(folder: &Path, table: Table, columns: &[Column], messages: &[(Entry, Er7)]) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for day in DAYS {
        let path = folder.join(table.name()).join(format!("date={day}/part-00001.parquet"));
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        let mut file = ParquetFile::new(columns, File::create(path)?)?;
        let of_day: Vec<_> = messages.iter().filter(|(entry, _)| entry.received_at.date() == day).collect();
        for part in of_day.chunks(of_day.len() / 2 + 1) {
            let rows = part.iter().flat_map(|(entry, er7)| Mapping::standard().map(|it| it.rows(table, entry, Some(er7))));
            let rows: Vec<Row> = rows.flatten().collect();
            file.write(&rows)?;
            all.extend(rows);
        }
        file.finish()?;
    }
    Ok(all)
}

fn as_read(row: &Row) -> Vec<Value> {
    let value = |cell: &Cell| match cell {
        Cell::Text(text) => json!(text),
        Cell::Number(number) => json!(number),
        Cell::Integer(number) | Cell::Instant(number) | Cell::Local(number) => json!(number),
    };
    row.iter().map(|cell| cell.as_ref().map_or(Value::Null, value)).collect()
}

fn sorted(rows: impl Iterator<Item = Vec<Value>>) -> Vec<String> {
    let mut texts: Vec<_> = rows.map(|row| Value::from(row).to_string()).collect();
    texts.sort_unstable();
    texts
}

#[tokio::test]
async fn the_documented_queries_run_over_exported_tables() -> Result<()> {
    let (folder, messages) = (tempfile::tempdir()?, messages()?);
    ensure!(messages.len() > 50, "{} messages", messages.len());
    let mapping = Mapping::standard()?;
    let (mut written, mut statements) = (BTreeMap::new(), BTreeMap::<_, Vec<String>>::new());
    let exported = folder.path().join("it's tables");
    for table in Table::ALL {
        let columns = mapping.columns(table);
        written.insert(table.name(), export(&exported, table, &columns, &messages)?);
        for engine in Engine::ALL {
            let location = exported.to_str().context("a path")?;
            statements.entry(engine.name()).or_default().push(engine.ddl(table, &columns, location));
        }
    }
    let ddl = folder.path().join("ddl.json");
    std::fs::write(&ddl, serde_json::to_vec(&statements)?)?;
    let workspace = Workspace::find().await?;
    let root = workspace.root();
    let python = python("sql", &root.join("tests/it/sql/requirements.txt")).await?;
    let mut command = Command::new(python);
    command.arg(root.join("tests/it/sql/tables.py")).arg(root.join("docs/SQL.md")).args([&ddl, &exported]).arg(DAYS[1]);
    let found: Found = serde_json::from_str(&done(&mut command).await?)?;

    // Every cell comes back, of every table, as DuckDB and PyArrow read it.
    for (table, rows) in &written {
        let read = found.tables.get(*table).with_context(|| format!("{table} was not read"))?;
        assert!(!rows.is_empty(), "{table}");
        let (expected, read) = (sorted(rows.iter().map(as_read)), sorted(read.iter().cloned()));
        assert!(expected == read, "{table}: {:?}", expected.iter().zip(&read).find(|(one, other)| one != other));
    }

    // Two of the three days are asked for, and so many files are read: twice for the query over two tables.
    for (name, files) in &found.files {
        assert_eq!(*files, if name == "with patient" { 4 } else { 2 }, "{name}");
    }
    let sodium = found.rows["results"].iter().find(|row| row["patient_id"] == "007");
    let is_hostile_asked_for = messages.last().is_some_and(|(entry, _)| entry.received_at.date().as_str() >= DAYS[1]);
    assert_eq!(sodium.is_some(), is_hostile_asked_for);
    let rows = |name: &str| found.rows[name].len();
    for name in ["numbers", "volume", "by place", "with patient"] {
        assert!(rows(name) > 0, "{name}");
    }
    let count = |row: &BTreeMap<String, Value>, name: &str| row[name].as_u64().unwrap_or_default();
    let asked: u64 = found.rows["volume"].iter().map(|row| count(row, "messages")).sum();
    assert_eq!(
        usize::try_from(asked)?,
        messages.iter().filter(|(entry, _)| entry.received_at.date().as_str() >= DAYS[1]).count()
    );
    let numeric = found.rows["numbers"].iter().filter(|row| row["value_type"] == "NM" || row["value_type"] == "SN");
    let (values, numbers) = numeric.fold((0, 0), |(all, some), row| (all + count(row, "values"), some + count(row, "numbers")));
    assert!(numbers > 0 && numbers * 100 >= values * 90, "{numbers} of {values}");
    Ok(())
}
