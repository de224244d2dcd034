//! `sluice list`

use anyhow::Result;

use super::listing::{self, Shown, Which};
use crate::error::ExitCode;
use crate::output::Output;
use client::Client;

/// Which messages to list.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shown: Shown,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    if let Some(nothing) = listing::show(&Client::open()?, args.which.query()?, &args.shown, output).await? {
        output.reporter.say(nothing);
    }
    Ok(ExitCode::Success)
}
