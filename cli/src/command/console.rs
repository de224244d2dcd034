//! `sluice console`

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::DeploymentArgs;
use crate::console::{Settings, Site, build};
use crate::error::ExitCode;
use crate::local::{self, ALLOWED_ORIGIN, UpOptions};
use crate::operator::workspace::Workspace;
use crate::output::Output;
use client::outputs::Outputs;

/// Which deployment to show.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The page signs in by itself and reads the lake with the credentials of whoever signs in: this command holds none. The \
                        local system is started if it does not run."
)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: DeploymentArgs,
    /// Print the page's address and do not open a browser.
    #[arg(long)]
    no_open: bool,
    /// Write the page and its settings to this folder, for your own web server, and do not serve them.
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let workspace = Workspace::find().await?;
    let outputs = outputs(&args.deployment, output).await?;
    let settings = Settings::of(&outputs)?;
    let page = build(&workspace, &output.reporter).await?;
    if let Some(folder) = &args.export {
        export(&page.files(), folder, &settings).with_context(|| format!("writing to {}", folder.display()))?;
        output.reporter.say(format!("The console is in {}; docs/CONSOLE.md says how to serve it.", folder.display()));
        return Ok(ExitCode::Success);
    }
    let site = Site::read(&page.files(), &settings)?;
    let listener = Site::listen().await?;
    if output.is_json() {
        output.json(&serde_json::json!({ "url": ALLOWED_ORIGIN }))?;
    } else {
        output.line(format!("The console of `{}` is at {ALLOWED_ORIGIN} until this command ends (Ctrl-C).", outputs.stack));
        if !outputs.users.is_empty() {
            output.line("Users and their passwords: target/local/outputs.json.");
        }
    }
    if !args.no_open {
        open(ALLOWED_ORIGIN);
    }
    tokio::select! {
        ended = site.serve(listener) => ended,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::Success),
    }
}

/// The deployment that was named, or the local one, started if it does not run.
async fn outputs(deployment: &DeploymentArgs, output: &Output) -> Result<Outputs> {
    if !deployment.is_named() && !local::status().await?.running {
        return local::up(UpOptions { reporter: output.reporter.clone(), ..UpOptions::default() }).await;
    }
    Ok(deployment.find().await?.1)
}

fn export(from: &Path, to: &Path, settings: &Settings) -> Result<()> {
    let mut waiting = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        std::fs::create_dir_all(&to)?;
        for entry in std::fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                waiting.push((entry.path(), target));
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
    }
    std::fs::write(to.join("settings.json"), serde_json::to_vec_pretty(settings)?)?;
    Ok(())
}

/// Opens the browser, where there is a program for that. The address was printed, so it does not matter if there is none.
fn open(address: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = std::process::Command::new(program);
    let _ = command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
