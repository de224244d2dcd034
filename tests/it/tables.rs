//! Exported tables, read by other people's programs: DuckDB and PyArrow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use domain::{Er7, State, Timestamp, object};
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{Harness, done, python};
use tables::{Cell, Column, Engine, Entry, GlueTable, Layout, Mapping, ParquetFile, Row, Table};
use tokio::process::Command;

use crate::attacks::call::Call;
use crate::contract::root;

/// What PyArrow reads of the tables, and what the queries of the document find and read.
#[derive(serde::Deserialize)]
struct Found {
    tables: BTreeMap<String, Vec<Vec<Value>>>,
    rows: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    files: BTreeMap<String, usize>,
}

/// What Spark reads of the tables, and what the queries find.
#[derive(serde::Deserialize)]
struct BySpark {
    tables: BTreeMap<String, Vec<Vec<Value>>>,
    rows: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
    institutes: BTreeMap<String, BTreeMap<String, usize>>,
}

/// An institute that programs take for a number.
const INSTITUTE: &str = "1e5";

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
        let (message_id, source) = (er7.message_id(), INSTITUTE.parse()?);
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

/// Writes every table, and the statements for each engine into a file; gives all rows.
fn export_all(exported: &Path, ddl: &Path, messages: &[(Entry, Er7)]) -> Result<BTreeMap<&'static str, Vec<Row>>> {
    ensure!(messages.len() > 50, "{} messages", messages.len());
    let mapping = Mapping::standard()?;
    let (mut written, mut statements) = (BTreeMap::new(), BTreeMap::<_, Vec<String>>::new());
    for table in Table::ALL {
        let columns = mapping.columns(table);
        written.insert(table.name(), export(exported, table, &columns, messages)?);
        for engine in Engine::ALL {
            let location = exported.to_str().context("a path")?;
            statements.entry(engine.name()).or_default().push(engine.ddl(table, &columns, location, Layout::Days));
        }
    }
    std::fs::write(ddl, serde_json::to_vec(&statements)?)?;
    Ok(written)
}

#[tokio::test]
async fn the_documented_queries_run_over_exported_tables() -> Result<()> {
    let (folder, messages) = (tempfile::tempdir()?, messages()?);
    let (exported, ddl) = (folder.path().join("it's tables"), folder.path().join("ddl.json"));
    let written = export_all(&exported, &ddl, &messages)?;
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

    if std::env::var_os("SLUICE_SPARK").is_some() {
        spark_agrees(root, &exported, &ddl, &found).await?;
    } else {
        eprintln!("SLUICE_SPARK is not set: Spark did not run the queries");
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
    let (values, numbers) = numeric.fold((0, 0), |(all, some), row| (all + count(row, "observed"), some + count(row, "numbers")));
    assert!(numbers > 0 && numbers * 100 >= values * 90, "{numbers} of {values}");
    Ok(())
}

/// Spark reads the same cells, and finds the same rows. Below folders of institutes, it takes their names for texts.
async fn spark_agrees(root: &Path, exported: &Path, ddl: &Path, found: &Found) -> Result<()> {
    let by_institute = exported.with_file_name("by institute");
    let mut statements: BTreeMap<String, Vec<String>> = serde_json::from_slice(&std::fs::read(ddl)?)?;
    let mapping = Mapping::standard()?;
    for table in Table::ALL {
        std::fs::create_dir_all(by_institute.join(table.name()))?;
        std::os::unix::fs::symlink(
            exported.join(table.name()),
            by_institute.join(table.name()).join(format!("source={INSTITUTE}")),
        )?;
        let location = by_institute.to_str().context("a path")?;
        let statement = Engine::Spark.ddl(table, &mapping.columns(table), location, Layout::Institutes);
        statements.entry("spark by institute".to_owned()).or_default().push(statement);
    }
    std::fs::write(ddl, serde_json::to_vec(&statements)?)?;
    let spark = python("spark", &root.join("tests/it/sql/spark/requirements.txt")).await?;
    let mut command = Command::new(spark);
    command.arg(root.join("tests/it/sql/spark/spark.py")).arg(root.join("docs/SQL.md")).arg(ddl).arg(DAYS[1]);
    let by_spark: BySpark = serde_json::from_str(&done(&mut command).await?)?;
    for (table, rows) in &found.tables {
        let (one, other) = (sorted(rows.iter().cloned()), sorted(by_spark.tables[table].iter().cloned()));
        assert!(one == other, "{table}: {:?}", one.iter().zip(&other).find(|(one, other)| one != other));
        let of_institute = BTreeMap::from([(INSTITUTE.to_owned(), rows.len())]);
        assert_eq!(by_spark.institutes[table], of_institute, "{table}");
    }
    for (name, rows) in &found.rows {
        let as_values = |rows: &[BTreeMap<String, Value>]| sorted(rows.iter().map(|row| row.values().cloned().collect()));
        assert_eq!(as_values(&by_spark.rows[name]), as_values(rows), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_notebook_plots_exported_tables() -> Result<()> {
    let (folder, messages) = (tempfile::tempdir()?, messages()?);
    let exported = folder.path().join("it's tables");
    export_all(&exported, &folder.path().join("ddl.json"), &messages)?;
    let root = root();
    let python = python("notebook", &root.join("examples/notebook/requirements.txt")).await?;
    let mut command = Command::new(python);
    command.arg(root.join("tests/it/sql/notebook.py")).arg(root.join("examples/notebook/results.ipynb"));
    command.env("TABLES", &exported).env("IPYTHONDIR", folder.path()).env("MPLCONFIGDIR", folder.path());
    let notebook: Value = serde_json::from_str(&done(&mut command).await?)?;
    let cells = notebook["cells"].as_array().context("cells")?;
    let outputs: Vec<_> = cells.iter().flat_map(|it| it["outputs"].as_array().into_iter().flatten()).collect();
    assert_eq!(outputs.iter().filter(|it| it["data"]["image/png"].is_string()).count(), 3, "a plot each: {outputs:?}");
    assert!(outputs.iter().all(|it| it["output_type"] == "display_data"), "no warning and no error: {outputs:?}");
    Ok(())
}

/// A table of the Glue catalog, as infra/tables.yaml has it.
fn in_template(table: Table, columns: &[Column]) -> String {
    let glue = GlueTable::new(table, columns, "s3://${TablesBucket}", Layout::Institutes);
    let name = format!("{}{}", table.name()[..1].to_uppercase(), &table.name()[1..]);
    let field = |name: &str, kind: &str| format!("- {{ Name: {name}, Type: {kind} }}");
    let lines = |indent: &str, lines: Vec<String>| lines.iter().map(|line| format!("{indent}{line}\n")).collect::<String>();
    // The engine's own variables are not the template's.
    let substituted =
        |text: &str| format!("!Sub \"{}\"", text.replace("${", "${!").replace("${!TablesBucket}", "${TablesBucket}"));
    let property = |(name, value): &(&str, String)| match value.contains('$') {
        true => format!("{name}: {}", substituted(value)),
        false => format!("{name}: \"{value}\""),
    };
    format!(
        "  {name}GlueTable:\n    Type: AWS::Glue::Table\n    Properties:\n      CatalogId: !Ref AWS::AccountId\n      \
         DatabaseName: !Ref TablesDatabase\n      TableInput:\n        Name: {table}\n        TableType: EXTERNAL_TABLE\n        \
         PartitionKeys:\n{}        Parameters:\n          EXTERNAL: \"TRUE\"\n          classification: parquet\n{}        \
         StorageDescriptor:\n          Location: {}\n          \
         InputFormat: org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat\n          \
         OutputFormat: org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat\n          SerdeInfo:\n            \
         SerializationLibrary: org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe\n          Columns:\n{}",
        lines("          ", glue.partitions.iter().map(|name| field(name, "string")).collect()),
        lines("          ", glue.properties.iter().map(property).collect()),
        substituted(&glue.location),
        lines("            ", glue.columns.iter().map(|it| field(&it.name, Engine::Athena.type_name(it.kind))).collect()),
    )
}

/// The statements of `sluice sql ddl --engine athena --by-institute` are made of the same [`GlueTable`].
#[test]
fn the_glue_tables_are_those_of_the_statements() -> Result<()> {
    let path = root().join("infra/tables.yaml");
    let (template, mapping) = (std::fs::read_to_string(&path)?, Mapping::standard()?);
    let (begin, end) = ("`tables::the_glue_tables_are_those_of_the_statements`: begin\n", "  # Written by the test: end");
    let (before, rest) = template.split_once(begin).context("where they begin")?;
    let (said, after) = rest.split_once(end).context("where they end")?;
    let tables = Table::ALL.map(|table| in_template(table, &mapping.columns(table))).join("\n");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|it| it == "always") {
        std::fs::write(path, format!("{before}{begin}{tables}{end}{after}"))?;
    } else {
        assert_eq!(said, tables, "infra/tables.yaml: INSTA_UPDATE=always writes it");
    }
    Ok(())
}

/// The catalog of the deployment says what the statements say, whatever CloudFormation made of the template.
#[tokio::test]
async fn the_deployed_glue_tables_are_those_of_the_statements() -> Result<()> {
    let it = Harness::new()?;
    let (endpoint, root) = (it.outputs.endpoint_url.as_deref().context("an endpoint")?, it.outputs.root_key.as_ref());
    let root = root.context("a root key")?.credentials();
    let database = it.outputs.stack_output("TablesDatabaseName")?;
    let location = format!("s3://{}", it.outputs.stack_output("TablesBucketName")?);
    let mapping = Mapping::standard()?;
    for table in Table::ALL {
        let call = Call::json("glue", "AWSGlue.GetTable", &json!({ "DatabaseName": database, "Name": table.name() }));
        let answer = call.send(endpoint, &it.outputs.region, &root).await?;
        ensure!(answer.status == 200, "{table}: {}", answer.body);
        let found = &serde_json::from_str::<Value>(&answer.body)?["Table"];
        let columns = |list: &Value| -> Vec<String> {
            let columns = list.as_array().into_iter().flatten();
            columns.map(|it| format!("`{}` {}", it["Name"].as_str().unwrap(), it["Type"].as_str().unwrap())).collect()
        };
        let statement = Engine::Athena.ddl(table, &mapping.columns(table), &location, Layout::Institutes);
        let text = format!(
            "CREATE EXTERNAL TABLE {table} (\n  {}\n)\nPARTITIONED BY ({})\nSTORED AS PARQUET\nLOCATION '{}'\nTBLPROPERTIES (\n",
            columns(&found["StorageDescriptor"]["Columns"]).join(",\n  "),
            columns(&found["PartitionKeys"]).join(", "),
            found["StorageDescriptor"]["Location"].as_str().context("a location")?,
        );
        ensure!(statement.starts_with(&text), "{statement}\n{text}");
        let properties = found["Parameters"].as_object().context("properties")?.iter();
        let properties = properties.filter(|(name, _)| !["EXTERNAL", "classification"].contains(&name.as_str()));
        let said: BTreeSet<_> = properties.map(|(name, value)| format!("'{name}' = '{}'", value.as_str().unwrap())).collect();
        let rest = statement.split_once("TBLPROPERTIES (\n").context("properties")?.1;
        let rest = rest.lines().filter(|it| it.starts_with("  ")).map(|it| it.trim().trim_end_matches(',').to_owned());
        assert_eq!(said, rest.collect::<BTreeSet<_>>(), "{table}");
    }
    Ok(())
}
