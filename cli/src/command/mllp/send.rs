//! `sluice mllp send`

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::Charset;
use hl7::{AckHeader, Verdict};
use mllp::Sender;
use serde_json::json;

use crate::error::ExitCode;
use crate::output::{Output, for_people};
use client::messages::{self, NOT_HL7};

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
    /// Also send what does not begin as HL7 does. What a gateway takes nobody can take back out of a lake.
    #[arg(long)]
    any: bool,
}

/// What a message asks its receiver to answer (MSH-15, MSH-16; an ACK asks for nothing).
enum Asks {
    /// An acknowledgment in any case.
    Always,
    /// An acknowledgment only of a refusal: silence says that it is accepted.
    IfRefused,
    /// Nothing.
    Nothing,
}

impl Asks {
    fn of(message: &[u8]) -> Self {
        let header = AckHeader::of_received(message, Charset::of_message(message).unwrap_or(Charset::UTF_8));
        let answers = |verdict| header.answers(verdict).next().is_some();
        match (answers(Verdict::Accepted), answers(Verdict::Error)) {
            (true, _) => Self::Always,
            (false, true) => Self::IfRefused,
            (false, false) => Self::Nothing,
        }
    }
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
            if !args.any && !messages::begins_as_hl7(&message) {
                others += 1;
                if output.is_json() {
                    rows.push(json!({ "file": file, "accepted": false, "answers": [], "error": NOT_HL7 }));
                } else {
                    output.line(format!("{file}: {NOT_HL7}"));
                }
                continue;
            }
            let asks = Asks::of(&message);
            let answered = match asks {
                Asks::Nothing => sender.tell(&message).await,
                Asks::Always | Asks::IfRefused => sender.exchange(&message).await,
            };
            let answers = answered.with_context(|| format!("sending to {}", args.to))?;
            let is_accepted = match answers.last() {
                Some(answer) => matches!(mllp::code(answer), b"AA" | b"CA"),
                None => !matches!(asks, Asks::Always),
            };
            if is_accepted {
                accepted += 1
            } else {
                others += 1
            }
            if output.is_json() {
                let texts: Vec<_> = answers.iter().map(|answer| String::from_utf8_lossy(answer)).collect();
                rows.push(json!({ "file": file, "accepted": is_accepted, "answers": texts }));
            } else if answers.is_empty() && is_accepted {
                output.line(format!("{file}: no answer, as the message asks"));
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
    hl7::Body::of(bytes, None).messages().map(|message| message.bytes().to_vec()).collect()
}
