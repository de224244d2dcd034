//! `sluice mllp status` and `sluice mllp list`: look into a spool, also while a gateway uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use domain::{Charset, Timestamp};
use mllp::{Contents, Waiting, WaitsFor};
use serde_json::{Value, json};

use super::serve::spool_folder;
use crate::error::ExitCode;
use crate::output::Output;

/// Which spool.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway's spool folder. By default in $XDG_STATE_HOME/sluice.
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
}

impl Args {
    fn contents(&self) -> Result<Contents> {
        let folder = spool_folder(self.spool.as_deref())?;
        mllp::inspect(&folder).with_context(|| format!("reading the spool {}", folder.display()))
    }
}

/// What waits for one feed.
#[derive(Default)]
struct Row {
    /// Messages that wait for the API.
    messages: usize,
    /// Messages that the API has and the lake has not stored yet.
    awaited: usize,
    bytes: usize,
    oldest_ms: Option<u64>,
}

pub(crate) fn status(args: &Args, output: &Output) -> Result<ExitCode> {
    let contents = args.contents()?;
    let mut feeds: BTreeMap<&str, Row> = BTreeMap::new();
    for message in &contents.waiting {
        let row = feeds.entry(&message.origin.feed).or_default();
        match message.waits_for {
            WaitsFor::Api => row.messages += 1,
            WaitsFor::Lake => row.awaited += 1,
        }
        row.bytes += message.bytes;
        row.oldest_ms = Some(row.oldest_ms.map_or(message.received_ms, |oldest| oldest.min(message.received_ms)));
    }
    let (waiting, refused, damaged) = (contents.waiting.len(), contents.refused.len(), contents.damaged.len());
    let awaited = contents.waiting.iter().filter(|message| message.waits_for == WaitsFor::Lake).count();
    if output.is_json() {
        let feeds: Vec<Value> = feeds
            .iter()
            .map(|(feed, row)| json!({ "feed": feed, "waiting": row.messages + row.awaited, "awaited": row.awaited, "bytes": row.bytes, "since": row.oldest_ms.map(time) }))
            .collect();
        output
            .json(&json!({ "waiting": waiting, "awaited": awaited, "feeds": feeds, "refused": refused, "damaged": damaged }))?;
    } else {
        let cells = feeds.iter().map(|(feed, row)| {
            let since = row.oldest_ms.map(time).unwrap_or_default();
            [(*feed).to_owned(), row.messages.to_string(), row.awaited.to_string(), row.bytes.to_string(), since]
        });
        output.table(["feed", "for the API", "for the lake", "bytes", "since"], cells);
        output
            .reporter
            .say(format!("{waiting} waiting, {awaited} of them for the lake, {refused} refused by the API, {damaged} damaged."));
    }
    Ok(ExitCode::Success)
}

pub(crate) fn list(args: &Args, output: &Output) -> Result<ExitCode> {
    let contents = args.contents()?;
    if output.is_json() {
        let waiting: Vec<Value> = contents.waiting.iter().map(waiting).collect::<Result<_>>()?;
        output.json(&json!({
            "waiting": waiting,
            "refused": contents.refused.iter().map(|refused| &refused.path).collect::<Vec<_>>(),
            "damaged": contents.damaged,
        }))?;
        return Ok(ExitCode::Success);
    }
    let cells = contents.waiting.iter().map(|message| {
        let origin = &message.origin;
        [
            time(message.received_ms),
            message.waits_for.as_str().to_owned(),
            origin.feed.clone(),
            origin.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            origin.connection.to_string(),
            origin.charset.map(Charset::name).unwrap_or_default().to_owned(),
            message.bytes.to_string(),
        ]
    });
    output.table(["received", "waits for", "feed", "peer", "connection", "character set", "bytes"], cells);
    for refused in &contents.refused {
        output.line(format!("refused: {} (the reason: {})", refused.path.display(), refused.reason.display()));
    }
    for damaged in &contents.damaged {
        output.line(format!("damaged: {}", damaged.display()));
    }
    Ok(ExitCode::Success)
}

fn waiting(message: &Waiting) -> Result<Value> {
    let mut value = serde_json::to_value(message)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("receivedAt".to_owned(), time(message.received_ms).into());
    }
    Ok(value)
}

fn time(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(Timestamp::from_millis);
    time.map(|time| time.to_string()).unwrap_or_default()
}
