//! `sluice mllp send`

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::Charset;
use mllp::Sender;
use serde_json::json;

use crate::error::ExitCode;
use crate::output::{Output, for_people};
use client::messages;

/// Which messages to send, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files of ER7 with one message or several each, or recorded MLLP; a folder means the files directly in it, `-` means stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Host and port of the receiver, such as 127.0.0.1:2575.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Seconds to wait for an acknowledgment.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let files = messages::files(&args.files, None)?;
    let connected = Sender::connect(&args.to, Duration::from_secs(args.timeout)).await;
    let mut sender = connected.with_context(|| format!("connecting to {}", args.to))?;
    let (mut accepted, mut others) = (0, 0);
    let mut rows = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let mut bytes = Vec::new();
        let read = messages::open(&path).and_then(|mut source| source.read_to_end(&mut bytes));
        read.with_context(|| format!("reading {file}"))?;
        for message in split(bytes) {
            let answers = sender.exchange(&message).await.with_context(|| format!("sending to {}", args.to))?;
            let is_accepted = answers.last().is_some_and(|answer| matches!(mllp::code(answer), b"AA" | b"CA"));
            if is_accepted {
                accepted += 1
            } else {
                others += 1
            }
            if output.is_json() {
                let texts: Vec<_> = answers.iter().map(|answer| String::from_utf8_lossy(answer)).collect();
                rows.push(json!({ "file": file, "accepted": is_accepted, "answers": texts }));
            } else if answers.is_empty() {
                output.line(format!("{file}: no answer within {} s", args.timeout));
            } else {
                answers.iter().for_each(|answer| output.line(format!("{file}:\n{}\n", for_people(answer))));
            }
        }
    }
    if output.is_json() {
        output.json(&rows)?;
    }
    output.reporter.say(format!("{accepted} accepted, {others} not."));
    Ok(if others == 0 { ExitCode::Success } else { ExitCode::Failed })
}

/// The messages of a file, each for a frame of its own.
fn split(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if let Some(messages) = mllp::unframed(&bytes) {
        return messages;
    }
    let charset = Charset::of_message(&bytes).unwrap_or(Charset::UTF_8);
    let split = hl7::split(&bytes, charset);
    if !split.is_batch() {
        return vec![bytes];
    }
    split.messages().map(|range| bytes.get(range).unwrap_or_default().to_vec()).collect()
}
