//! `sluice get`

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::ids::GivenId;
use crate::error::ExitCode;
use crate::output::{Output, for_people};
use client::Client;
use client::private_file;
use client::read::{self, Format};

/// Which message, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The message's id, or its first 8 digits or more.
    #[arg(value_name = "ID")]
    id: GivenId,
    /// The message itself, or its JSON rendition (as with `--json`).
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// The bytes as received, in their own character set and framing.
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Write to this file instead of stdout, completely or not at all.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    /// The message itself.
    Er7,
    /// The JSON rendition. A message that did not parse has no rendition.
    Json,
}

impl From<Form> for Format {
    fn from(form: Form) -> Self {
        match form {
            Form::Er7 => Self::Er7,
            Form::Json => Self::Json,
        }
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let usual = if output.is_json() { Format::Json } else { Format::Er7 };
    let format = if args.raw { Format::Raw } else { args.format.map_or(usual, Format::from) };
    let client = Client::open()?;
    let id = args.id.resolve(&client, None).await?;
    let message = read::message(&client, &id, format).await.with_context(|| id.to_string())?;
    match &args.output {
        Some(path) => {
            private_file::write(path, &message)?;
            output.reporter.say(format!("{}: {} bytes", path.display(), message.len()));
        }
        None if std::io::stdout().is_terminal() => output.line(for_people(&message)),
        None => output.bytes(&message),
    }
    Ok(ExitCode::Success)
}
