//! `sluice get`

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use domain::MessageId;

use crate::client::Client;
use crate::error::ExitCode;
use crate::output::{Output, for_people};
use crate::private_file;
use crate::read::{self, Format};

/// Which message, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The message's id.
    #[arg(value_name = "ID")]
    id: MessageId,
    /// The message as it is, or its rendition in JSON, which is also what `--json` gives.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The bytes as they were received, in whatever character set and framing.
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// A file instead of stdout. It is there in whole or not at all.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let usual = if output.is_json() { Format::Json } else { Format::Er7 };
    let format = if args.raw { Format::Raw } else { args.format.unwrap_or(usual) };
    let message = read::message(&Client::open()?, &args.id, format).await.with_context(|| args.id.to_string())?;
    match &args.output {
        Some(path) => {
            private_file::write(path, &message)?;
            output.reporter.say(format!("{}: {} bytes", path.display(), message.len()));
        }
        None if std::io::stdout().is_terminal() => output.line(for_people(&message)),
        None => std::io::stdout().lock().write_all(&message).context("writing to stdout")?,
    }
    Ok(ExitCode::Success)
}
