//! `sluice doctor`

use std::path::PathBuf;

use anyhow::Result;

use super::mllp::spool_folder;
use crate::error::ExitCode;
use crate::output::Output;
use crate::user::doctor::{self, Outcome};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also send a made-up message (MSH-11 is D), wait until it is stored, and read it back. It stays in the lake.
    #[arg(long)]
    send_test: bool,
    /// The MLLP gateway's spool folder. By default in $XDG_STATE_HOME/sluice.
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let checks = doctor::examine(&spool_folder(args.spool.as_deref())?, args.send_test).await;
    let is_well = doctor::is_well(&checks);
    if output.is_json() {
        output.json(&serde_json::json!({ "well": is_well, "checks": checks }))?;
    } else {
        let mark = |outcome| match outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "-",
        };
        let cells = checks.iter().map(|check| [check.name.to_owned(), mark(check.outcome).to_owned(), check.detail.clone()]);
        output.table(["check", "", "what was found"], cells);
        for check in &checks {
            if let Some(next) = &check.next {
                output.line(format!("{}: go on with\n  {next}", check.name));
            }
        }
    }
    Ok(if is_well { ExitCode::Success } else { ExitCode::Failed })
}
