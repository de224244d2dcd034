//! `sluice discard`

use anyhow::Result;
use domain::{MessageId, Source};

use super::confirm;
use crate::error::ExitCode;
use crate::operator::discard::{self, Discarded};
use crate::output::Output;

/// Which held message is not to be stored, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// The message.
    #[arg(value_name = "ID")]
    message_id: MessageId,
    /// The institute that submitted it.
    #[arg(long, value_name = "NAME")]
    source: Source,
    /// Why; the record keeps it. Nothing of the message or a patient, in at most 200 characters.
    #[arg(long, value_name = "TEXT", value_parser = discard::reason)]
    reason: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    confirm(output, args.yes, &format!("Discard the message {} of `{}`? It will not be stored.", args.message_id, args.source))?;
    let done = discard::discard(&aws, &outputs, &(args.source, args.message_id), &args.reason).await?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        let Discarded { message_id, source, facts } = &done;
        let (at, by) = (facts.discarded_at, &facts.discarded_by);
        output.line(format!("The message {message_id} of `{source}` is discarded, since {at}, by {by}."));
    }
    Ok(ExitCode::Success)
}
