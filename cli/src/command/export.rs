//! `sluice export`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use tables::{Mapping, Table};

use super::schema::SchemaArg;
use super::when;
use crate::data_file;
use crate::error::{ExitCode, Misused};
use crate::output::Output;
use crate::user::export::catalog::{Reader, Selection};
use crate::user::export::format::Format;
use crate::user::export::parts::{Parts, ReaderGone, Request, Target};
use crate::user::export::{Options, export};
use client::Client;

/// The most unreadable messages that the report names.
const MOST_NAMED: usize = 10;

/// What to export, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file (`results.parquet`, `.csv`, `.ndjson`, `.er7`), a folder, which has files for each day of arrival, or `-` for stdout.
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// The format of a folder's files, or of stdout. A single file's extension says its format.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What each row is.
    #[arg(long, value_parser = a_table(), default_value = "messages")]
    table: Table,
    /// Your own mapping of the typed tables, instead of this version's (`crates/tables/mapping.toml`).
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    schema: SchemaArg,
    /// Only messages received at or after this time: `yesterday`, `2h`, `2026-11-28 16:00`.
    #[arg(long, visible_alias = "since", value_name = "WHEN", value_parser = said)]
    from: Option<Said>,
    /// Only messages received before this time. Default: the time at which the export began.
    #[arg(long, value_name = "WHEN", value_parser = said)]
    until: Option<Said>,
    /// Only messages of this type: ORU, or ORU^R01.
    #[arg(long = "type", value_name = "TYPE")]
    message_type: Option<String>,
    /// How many messages to read at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=128))]
    concurrency: u8,
    /// Number of messages in one part: an interrupted export resumes behind its last complete part, and each file of a folder is one part.
    #[arg(long, default_value_t = 20_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    part: u32,
}

/// A time, and how it was written.
#[derive(Debug, Clone)]
struct Said {
    words: String,
    at: Timestamp,
}

fn said(text: &str) -> Result<Said, String> {
    Ok(Said { words: text.to_owned(), at: when::when(text)? })
}

/// The names of the tables.
pub(super) fn a_table() -> impl TypedValueParser<Value = Table> {
    let values = Table::ALL.map(|table| PossibleValue::new(table.name()).help(table.about()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Table>())
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (target, format) = target(&args)?;
    let table = table(&args, format)?;
    let mapping = Arc::new(mapping(args.mapping.as_deref())?.with_schema(args.schema.read()?));
    let client = Client::open()?;
    let mut reader = Reader::open(&client).await?;
    let words = [
        args.from.as_ref().map(|it| format!("from {}", it.words)),
        args.until.as_ref().map(|it| format!("until {}", it.words)),
        args.message_type.as_ref().map(|it| format!("type {it}")),
        Some(format!("table {table:?}")),
        Some(format!("format {format:?}")),
        args.mapping.as_deref().map(data_file::identity).transpose()?.map(|it| format!("mapping {it}")),
        args.schema.path.as_deref().map(data_file::identity).transpose()?.map(|it| format!("schema {it}")),
    ];
    let request = Request {
        api_url: reader.api_url.clone(),
        institute: reader.institute.clone(),
        words: words.into_iter().flatten().collect(),
    };
    let parts = Parts::open(target, format, mapping.columns(table), request, selection(&args)?)?;
    if parts.checkpoint.messages > 0 {
        output.reporter.say(format!("Resuming behind {} messages.", parts.checkpoint.messages));
    }
    let progress = output.reporter.progress("exporting");
    let options = Options { concurrency: usize::from(args.concurrency), part: args.part };
    let done = match export(&mut reader, parts, (table, mapping), options, &progress).await {
        Err(error) if error.is::<ReaderGone>() => return Ok(ExitCode::Success),
        done => done?,
    };
    let failed = &done.failed;
    let stored = done.messages - failed.len() as u64;
    if output.is_json() && args.to.as_os_str() != "-" {
        output.json(&serde_json::json!({ "messages": stored, "rows": done.rows, "failed": failed }))?;
    } else {
        output.reporter.say(format!("{stored} messages, {} rows.", done.rows));
    }
    if failed.is_empty() {
        return Ok(ExitCode::Success);
    }
    let named: Vec<&str> = failed.iter().take(MOST_NAMED).map(String::as_str).collect();
    output.reporter.say(format!("{} messages are gone or do not match their records: {}", failed.len(), named.join(", ")));
    Ok(ExitCode::Failed)
}

fn target(args: &Args) -> Result<(Target, Format)> {
    let path = &args.to;
    let form = Format::of(path);
    if path.as_os_str() == "-" {
        let format = args.format.unwrap_or(Format::Ndjson);
        if format == Format::Parquet && std::io::stdout().is_terminal() {
            return Err(Misused::because("Parquet is not for a terminal: redirect stdout, or name a file"));
        }
        return Ok((Target::Stdout, format));
    }
    let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match (is_folder, form) {
        (true, _) => Ok((Target::Folder(path.clone()), args.format.unwrap_or(Format::Ndjson))),
        (false, Some(form)) if args.format.is_none_or(|format| format == form) => Ok((Target::File(path.clone()), form)),
        (false, Some(_)) => Err(Misused::because("the name of the file asks for another format than --format")),
        (false, None) => Err(unnamed(path)),
    }
}

fn unnamed(path: &Path) -> anyhow::Error {
    Misused::because(format!("{} ends in none of .parquet, .csv, .ndjson and .er7; a folder ends in a slash", path.display()))
}

/// The mapping of a file, or that of this version.
pub(super) fn mapping(path: Option<&Path>) -> Result<Mapping> {
    path.map_or_else(|| Ok(Mapping::standard()?.clone()), |path| data_file::read(path, Mapping::read))
}

/// ER7 is the messages themselves, whatever else they could be.
fn table(args: &Args, format: Format) -> Result<Table> {
    match (format, args.table) {
        (Format::Er7, Table::Raw | Table::Messages) => Ok(Table::Raw),
        (Format::Er7, _) => Err(Misused::because("ER7 holds messages and no table: --table raw")),
        (_, table) => Ok(table),
    }
}

fn selection(args: &Args) -> Result<Selection> {
    let (code, event) = match &args.message_type {
        None => (None, None),
        Some(text) => match text.split_once('^') {
            None => (Some(text.clone()), None),
            Some((code, event)) => (Some(code.to_owned()), Some(event.to_owned())),
        },
    };
    let until = args.until.as_ref().map_or_else(Timestamp::now, |it| it.at);
    // The catalog's times are whole milliseconds, and its ranges include their ends.
    let last = until.as_millisecond().saturating_sub(1);
    let text = |millis: i64| domain::Timestamp::from_millis(millis).map(|it| it.to_string()).unwrap_or_default();
    let from = args.from.as_ref().map(|it| it.at.as_millisecond());
    if from.is_some_and(|from| from > last) {
        return Err(Misused::because("--from must be before --until"));
    }
    Ok(Selection { from: from.map(text), to: text(last), message_type: code, trigger_event: event })
}
