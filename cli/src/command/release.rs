//! `sluice release`

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::ids::GivenId;
use super::when;
use crate::error::ExitCode;
use crate::output::Output;
use client::Client;
use client::release::{self, Held, Refused, Released};

/// Which held messages to release.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub(crate) struct Args {
    /// Ids of messages, or the first 8 digits or more of each.
    #[arg(value_name = "ID")]
    ids: Vec<GivenId>,
    /// All held messages of your institute.
    #[arg(long)]
    all: bool,
    /// Only messages held for this reason.
    #[arg(long, value_name = "REASON", requires = "all", value_parser = ["denied", "expired", "deployment", "failed"])]
    reason: Option<String>,
    /// Only messages held since this time or later: `yesterday`, `2h`, `2026-11-28 16:00`.
    #[arg(long, visible_alias = "since", value_name = "WHEN", requires = "all", value_parser = when::when)]
    from: Option<Timestamp>,
    /// Only messages held since before this time.
    #[arg(long, visible_alias = "until", value_name = "WHEN", requires = "all", value_parser = when::when)]
    to: Option<Timestamp>,
}

/// The outcome of a release.
#[derive(Default, Serialize)]
struct Report {
    released: Vec<Released>,
    refused: Vec<Refused>,
}

async fn one(client: &Client, id: &GivenId) -> Result<Released> {
    let id = id.resolve(client, None).await?;
    match release::one(client, &id).await? {
        Ok(released) => Ok(released),
        Err(answer) => bail!("{}", client.refusal(&answer).await),
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let client = Client::open()?;
    let mut report = Report::default();
    let mut code = ExitCode::Success;
    if args.all {
        let reason = args.reason.as_deref().map(str::parse).transpose()?;
        let text = |at: Option<Timestamp>| at.map(|it| it.to_string());
        let held = Held { reason, from: text(args.from), to: text(args.to) };
        let step = output.reporter.step("releasing what is held");
        let mut cursor = None;
        loop {
            let page = release::page(&client, &held, cursor.as_deref()).await?;
            report.released.extend(page.released);
            report.refused.extend(page.refused);
            step.at(format!("{} released", report.released.len()));
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        step.done(format!("{} released, {} refused", report.released.len(), report.refused.len()));
    }
    for id in &args.ids {
        match one(&client, id).await {
            Ok(released) => report.released.push(released),
            Err(error) => {
                output.error(&error.context(id.to_string()));
                code = ExitCode::Failed;
            }
        }
    }
    if !report.refused.is_empty() {
        code = ExitCode::Failed;
    }
    if output.is_json() {
        output.json(&report)?;
    } else if report.released.is_empty() && report.refused.is_empty() {
        if args.all {
            output.line("Nothing is held.");
        }
    } else {
        let released = report.released.iter().map(|it| [it.message_id.to_string(), "on its way again".to_owned()]);
        let refused = report.refused.iter().map(|it| {
            let said = ["title", "detail"].map(|name| it.problem.get(name).and_then(Value::as_str).unwrap_or_default());
            [it.message_id.to_string(), said.join(": ")]
        });
        output.table(["message", "outcome"], released.chain(refused));
    }
    Ok(code)
}
