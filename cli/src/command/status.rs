//! `sluice status`

use anyhow::{Result, bail};
use clap::builder::BoolishValueParser;
use domain::Source;

use super::cells::outcome;
use super::ids::{self, GivenId};
use super::when;
use crate::error::ExitCode;
use crate::output::Output;
use client::Client;
use client::read::{self, MessageStatus};

/// Which messages to ask about.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of messages, or the first 8 digits or more of each.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<GivenId>,
    /// The messages' institute (lake staff only).
    #[arg(long, value_name = "NAME", env = "SLUICE_INSTITUTE")]
    institute: Option<Source>,
    /// Show whole ids and times.
    #[arg(long, env = "SLUICE_WIDE", value_parser = BoolishValueParser::new())]
    wide: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let client = Client::open()?;
    let mut found = Vec::new();
    let mut code = ExitCode::Success;
    for id in &args.ids {
        match status(&client, id, args.institute.as_ref()).await {
            Ok(status) => found.push(status),
            Err(error) => {
                output.error(&error.context(id.to_string()));
                code = ExitCode::Failed;
            }
        }
    }
    if output.is_json() {
        output.json(&found)?;
    } else if !found.is_empty() {
        table(&found, args.wide, output);
    }
    Ok(code)
}

async fn status(client: &Client, id: &GivenId, institute: Option<&Source>) -> Result<MessageStatus> {
    let id = id.resolve(client, institute).await?;
    match read::status(client, institute, id.as_str()).await? {
        Ok(status) => Ok(status),
        Err(answer) => bail!("{}", client.refusal(&answer).await),
    }
}

fn table(found: &[MessageStatus], wide: bool, output: &Output) {
    let digits = if wide { 64 } else { ids::digits(found.iter().map(|it| &it.message_id)) };
    let time = if wide { when::full } else { when::short };
    let detail = |it: &MessageStatus| {
        let error = it.error.as_ref();
        error.map(|error| error.detail.clone().unwrap_or_else(|| error.code.clone())).unwrap_or_default()
    };
    let cells = found.iter().map(|it| {
        [
            ids::shortened(&it.message_id, digits),
            outcome(it),
            it.submissions.to_string(),
            time(it.received_at),
            it.stored_at.map(time).unwrap_or_default(),
            detail(it),
        ]
    });
    let header = ["message", "status", "sent", "received", "stored", "error"];
    if wide { output.table(header, cells) } else { output.narrow_table(header, cells, &[1, 5]) }
}
