//! `sluice redrive`

use anyhow::Result;

use crate::error::ExitCode;
use crate::output::Output;
use crate::redrive;

/// Whose dead letters.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Only say how many there are.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let done = redrive::redrive(&aws, &outputs, args.dry_run, &output.reporter).await?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        output.line(match (done.found, args.dry_run) {
            (0, _) => "The dead-letter queue is empty.".to_owned(),
            (found, true) => format!("About {found} messages lie in the dead-letter queue."),
            (found, false) => format!("{} of about {found} messages are back in the queue.", done.moved),
        });
    }
    Ok(ExitCode::Success)
}
