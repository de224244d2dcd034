//! `sluice reindex`

use anyhow::Result;
use domain::Source;

use crate::error::ExitCode;
use crate::operator::reindex::{self, Reindexed};
use crate::output::Output;

/// Whose records are put into the index.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Only messages of this institute.
    #[arg(long, value_name = "NAME")]
    source: Option<Source>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let step = output.reporter.step("indexing");
    let done = reindex::reindex(&aws, &outputs, args.source.as_ref(), &step).await?;
    let Reindexed { records, indexed } = done;
    step.done(format!("{records} records, {indexed} put into the index"));
    if output.is_json() {
        output.json(&done)?;
    }
    Ok(ExitCode::Success)
}
