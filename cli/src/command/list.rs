//! `sluice list`

use anyhow::Result;
use domain::Source;
use domain::catalog::MAX_PAGE;

use crate::client::Client;
use crate::error::ExitCode;
use crate::output::Output;
use crate::read::{Listed, Pages, Query};

/// Which messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Received at or after: a date (UTC) or a moment like 2026-11-21T07:00:00Z.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Received before.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Only of this type: ADT, or ADT^A01.
    #[arg(long = "type", value_name = "TYPE")]
    message_type: Option<String>,
    /// Those of this institute, instead of one's own: for the lake's staff.
    #[arg(long, value_name = "NAME")]
    institute: Option<Source>,
    /// The newest so many.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: usize,
    /// All there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let client = Client::open()?;
    let query = Query { from: args.from, to: args.to, message_type: args.message_type, institute: args.institute };
    let mut pages = Pages::new(&client, query);
    let limit = if args.all { usize::MAX } else { args.limit };
    let mut rows = Vec::new();
    let mut count = 0;
    while pages.has_more() && count < limit {
        let page = pages.next(MAX_PAGE.min(limit - count)).await?;
        count += page.len();
        if output.is_json() {
            // A line each, as they come: a list can be longer than memory.
            for message in page {
                output.line(serde_json::to_string(&message)?);
            }
        } else {
            rows.extend(page.iter().map(cells));
        }
    }
    if !output.is_json() {
        output.table(["received", "message", "type", "control id", "status", "state"], rows);
    }
    if pages.has_more() {
        output.reporter.say(format!("There are more than these {count}: --limit COUNT or --all."));
    }
    Ok(ExitCode::Success)
}

fn cells(message: &Listed) -> [String; 6] {
    let (status, summary) = (&message.status, &message.summary);
    let message_type = [&summary.message_type, &summary.trigger_event].into_iter().flatten();
    [
        status.received_at.to_string(),
        status.message_id.to_string(),
        message_type.map(String::as_str).collect::<Vec<_>>().join("^"),
        summary.control_id.clone().unwrap_or_default(),
        status.status.as_str().to_owned(),
        status.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
    ]
}
