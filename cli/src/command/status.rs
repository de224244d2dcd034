//! `sluice status`

use anyhow::{Result, anyhow};
use domain::{MessageId, Source};

use crate::client::Client;
use crate::error::ExitCode;
use crate::output::Output;
use crate::read;

/// Of which messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of messages.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<MessageId>,
    /// They are of this institute, instead of one's own: for the lake's staff.
    #[arg(long, value_name = "NAME")]
    institute: Option<Source>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let client = Client::open()?;
    let mut found = Vec::new();
    let mut code = ExitCode::Success;
    for id in &args.ids {
        let status = read::status(&client, args.institute.as_ref(), id.as_str()).await;
        match status.and_then(|it| it.map_err(|answer| anyhow!(answer.problem()))) {
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
        let cells = found.iter().map(|it| {
            [
                it.message_id.to_string(),
                it.status.as_str().to_owned(),
                it.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
                it.submissions.to_string(),
                it.received_at.to_string(),
                it.stored_at.map(|at| at.to_string()).unwrap_or_default(),
                it.error.as_ref().map(|error| error.detail.clone().unwrap_or_else(|| error.code.clone())).unwrap_or_default(),
            ]
        });
        output.table(["message", "status", "state", "submissions", "received", "stored", "error"], cells);
    }
    Ok(code)
}
