//! `sluice reindex`

use anyhow::Result;
use domain::Source;

use crate::error::ExitCode;
use crate::operator::reindex::{self, Reindexed};
use crate::output::Output;
use client::Client;

/// Whose records are put into the index.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Only messages of this institute.
    #[arg(long, value_name = "NAME")]
    source: Option<Source>,
    /// Fill the index by patient instead, with the messages that whoever is signed in (sluice login) may read. They are read under
    /// that sign-in, and the index is written with your AWS credentials.
    #[arg(long, conflicts_with = "source")]
    patients: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let step = output.reporter.step("indexing");
    let done = if args.patients {
        reindex::reindex_patients(&aws, &outputs, &Client::open()?, &step).await?
    } else {
        reindex::reindex(&aws, &outputs, args.source.as_ref(), &step).await?
    };
    let Reindexed { records, indexed } = done;
    step.done(format!("{records} records, {indexed} put into the index"));
    if output.is_json() {
        output.json(&done)?;
    }
    Ok(ExitCode::Success)
}
