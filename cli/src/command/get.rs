//! `sluice get`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use domain::MessageId;

use crate::client::Client;
use crate::error::ExitCode;
use crate::output::Output;
use crate::read::{self, Format};

/// Which message, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The message's id.
    #[arg(value_name = "ID")]
    id: MessageId,
    /// The message as it is, or its rendition in JSON.
    #[arg(long, value_enum, default_value_t = Format::Er7)]
    format: Format,
    /// A file instead of stdout. It is there in whole or not at all.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let message = read::message(&Client::open()?, &args.id, args.format).await.with_context(|| args.id.to_string())?;
    match &args.output {
        Some(path) => {
            read::write_file(path, &message)?;
            output.reporter.say(format!("{}: {} bytes", path.display(), message.len()));
        }
        None => std::io::stdout().lock().write_all(&message).context("writing to stdout")?,
    }
    Ok(ExitCode::Success)
}
