//! `sluice local up|down|status`

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::error::ExitCode;
use crate::local::{self, Authorization, UpOptions};
use crate::operator::package::Profile;
use crate::output::Output;
use client::outputs::Outputs;

/// What to do with the local system.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, or bring it up to date; quick if it is up to date.
    Up {
        /// Build the workers in release, as for AWS: slow to build, quick to run.
        #[arg(long)]
        release: bool,
        /// Which authorizer decides about requests.
        #[arg(long, value_enum, env = Authorization::VARIABLE, default_value = "unified")]
        authorization: Authorization,
        /// Do not wait for a local system that does not answer: stop it, delete its messages and start a new one.
        #[arg(long)]
        replace: bool,
        /// A TOML file that names the institutes' own segments (`Z..`) in the renditions of the lake. Pass it on every `up`.
        #[arg(long, value_name = "FILE")]
        schema: Option<PathBuf>,
        /// Also deploy the stack that writes what is stored as Parquet. It then stays until `down`.
        #[arg(long)]
        tables: bool,
    },
    /// Stop it and delete its messages and users.
    Down,
    /// Show whether it runs (exit code 0) or not (1), and its endpoints.
    Status,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    match args.action {
        Action::Up { release, authorization, replace, schema, tables } => {
            let profile = if release { Profile::Release } else { Profile::Dev };
            let reporter = output.reporter.clone();
            local::up(UpOptions { profile, authorization, replace, schema, tables, reporter, ..UpOptions::default() }).await?;
            status(output).await
        }
        Action::Down => {
            let ran = local::down(&output.reporter).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "stopped": ran }))?;
            } else {
                output.line(if ran { "The local system is stopped." } else { "The local system did not run." });
            }
            Ok(ExitCode::Success)
        }
        Action::Status => status(output).await,
    }
}

async fn status(output: &Output) -> Result<ExitCode> {
    let status = local::status().await?;
    let code = if status.running { ExitCode::Success } else { ExitCode::Failed };
    if output.is_json() {
        output.json(&status)?;
    } else if status.running {
        let mut rows = vec![["process".to_owned(), status.pid.map(|pid| pid.to_string()).unwrap_or_default()]];
        rows.push(["log".to_owned(), status.log_file.display().to_string()]);
        rows.push(["outputs, users".to_owned(), status.outputs_file.display().to_string()]);
        if let Some(outputs) = &status.outputs {
            rows.extend(outputs_rows(outputs));
        }
        output.table(["local system", "running"], rows);
    } else if let Some(pid) = status.pid {
        output.line(format!(
            "The local system (process {pid}) runs and does not answer: it is busy or stuck. `sluice local up` waits for it; \
             with `--replace` it starts a new one, and the messages are gone then."
        ));
    } else {
        output.line("The local system does not run. `sluice local up` starts it.");
    }
    Ok(code)
}

/// The outputs of a deployment as a table's rows.
pub(crate) fn outputs_rows(outputs: &Outputs) -> Vec<[String; 2]> {
    let endpoint = outputs.endpoint_url.clone().unwrap_or_default();
    let (staff_pool, staff_client) = outputs.staff_pool().unwrap_or_default();
    let (staff_pool, staff_client) = (staff_pool.to_owned(), staff_client.to_owned());
    let rows = [
        ("API", &outputs.api_url),
        ("AWS endpoint", &endpoint),
        ("region", &outputs.region),
        ("user pool", &outputs.user_pool_id),
        ("app client", &outputs.client_id),
        ("staff's user pool", &staff_pool),
        ("staff's app client", &staff_client),
        ("identity pool", &outputs.identity_pool_id),
        ("lake bucket", &outputs.bucket),
        ("catalog table", &outputs.table),
        ("topic", &outputs.topic_arn),
        ("queue", &outputs.queue_url),
        ("dead letters", &outputs.dead_letter_queue_url),
        ("state machine", &outputs.state_machine_arn),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| [name.to_owned(), value.clone()]).collect()
}
