//! The SQL of `docs/SQL.md`, run by DuckDB over what went through the system.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use domain::MessageId;
use serde_json::{Value, json};
use sluice::workspace::Workspace;
use sluice_tests::{Caller, Harness, adt, python, unique};
use tokio::process::Command;

fn oru(control_id: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|WEST|LAKE|HUB|20260102030405||ORU^R01^ORU_R01|{control_id}|P|2.5.1\r\
         PID|1||4711^^^HIS^MR||ROE^RICHARD~DOE^RICK||19800101|M\rOBR|1|||24323-8^CMP^LN\r\
         OBX|1|NM|2345-7^Glucose^LN||105|mg/dL^^UCUM|70-99|H|||F\r\
         OBX|2|CE|883-9^ABO group^LN||A^Group A^L|\"\"||||F\r"
    )
}

/// Puts the rendition of a message into a folder under its key, as the user who reads it.
async fn fetch(it: &Harness, reader: &Caller, id: &MessageId, lake: &Path) -> Result<String> {
    let stored = it.record(id).await?.stored().context("stored")?;
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
    let workspace = Workspace::find().await?;
    let lake = workspace.target().join("tmp").join(format!("sql-{}", unique()));
    let mut ids = Vec::new();
    let mut date = String::new();
    for message in [adt(&unique(), "DOE"), adt(&unique(), "ROE"), oru(&unique())] {
        let (id, status) = it.store(&admin, &message).await?;
        ensure!(status["status"] == "stored", "{status}");
        date = fetch(&it, &reader, &id, &lake).await?;
        ids.push(id.to_string());
    }
    let root = workspace.root();
    let python = python("sql", &root.join("tests/it/sql/requirements.txt")).await?;
    let output = Command::new(python)
        .arg(root.join("tests/it/sql/run.py"))
        .args([&root.join("docs/SQL.md"), &lake])
        .arg(&it.institute)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&lake)?;
    let found: Value = serde_json::from_slice(&output.stdout)?;

    let [doe, _, oru] = ids.as_slice() else { unreachable!("three were sent") };
    let mut named = vec![
        json!({ "date": date, "message_id": doe, "repetition": 1 }),
        json!({ "date": date, "message_id": oru, "repetition": 2 }),
    ];
    named.sort_by_key(|it| it["message_id"].to_string());
    assert_eq!(found["by position"], json!(named));
    assert_eq!(found["by name"], json!(named));
    let result = |number, code, test, result, unit| json!({ "message_id": oru, "segment_number": number, "code": code, "test": test, "result": result, "unit": unit });
    assert_eq!(
        found["results"],
        json!([result(4, "2345-7", "Glucose", "105", "mg/dL"), result(5, "883-9", "ABO group", "A", "\"\"")])
    );
    let of_type =
        |kind, event, messages| json!({ "date": date, "message_type": kind, "trigger_event": event, "messages": messages });
    assert_eq!(found["types"], json!([of_type("ADT", "A01", 2), of_type("ORU", "R01", 1)]));
    Ok(())
}
