//! `sluice man`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory as _;

use crate::error::ExitCode;
use crate::output::Output;

/// Where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write to; created if it does not exist.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a manual page for each command: `sluice.1`, `sluice-send.1`.
pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(crate::Cli::command(), &args.folder)
    };
    write().with_context(|| format!("writing to {}", args.folder.display()))?;
    output.reporter.say(format!("`man -l {}/sluice.1` shows the first page.", args.folder.display()));
    Ok(ExitCode::Success)
}
