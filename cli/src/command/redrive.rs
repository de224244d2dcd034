//! `sluice redrive`

use std::time::Duration;

use anyhow::Result;
use domain::{MessageId, Source};

use crate::error::ExitCode;
use crate::operator::redrive::{self, DeadLetter, Pace, Redriven, Selection};
use crate::output::Output;

/// Which dead letters to bring back; all of them, unless something is said of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Only these messages.
    #[arg(value_name = "ID")]
    message_ids: Vec<MessageId>,
    /// Only messages of this institute.
    #[arg(long, value_name = "NAME")]
    source: Option<Source>,
    /// Only messages whose record has this error, for example InvalidInput.
    #[arg(long, value_name = "NAME")]
    error: Option<String>,
    /// Only messages submitted at least this long ago: 90m, 36h.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    older_than: Option<Duration>,
    /// Only messages submitted less than this long ago.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    newer_than: Option<Duration>,
    /// Only list them, and what would happen to each.
    #[arg(long, visible_alias = "list")]
    dry_run: bool,
    /// At most this many messages a second.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let selection = Selection {
        message_ids: args.message_ids.into_iter().collect(),
        source: args.source,
        error: args.error,
        older_than: args.older_than,
        newer_than: args.newer_than,
    };
    let pace = Pace { dry_run: args.dry_run, rate: args.rate };
    let done = redrive::redrive(&aws, &outputs, &selection, pace, &output.reporter).await?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        tell(&done, args.dry_run, output);
    }
    Ok(ExitCode::Success)
}

fn tell(done: &Redriven, dry_run: bool, output: &Output) {
    if done.found == 0 {
        return output.line("The dead-letter queue is empty.");
    }
    if !done.dead_letters.is_empty() {
        output.table(["received", "institute", "message", "error", "action"], done.dead_letters.iter().map(cells));
    }
    let Redriven { found, moved, held, not_envelopes, not_selected, .. } = done;
    output.line(match dry_run {
        true => format!("{moved} of {found} dead letters would go back into the queue."),
        false => format!("{moved} of {found} dead letters are back in the queue."),
    });
    let staying = [
        (*held, "are held: a writer of the institute stores them with `sluice release`"),
        (*not_envelopes, "are no envelopes: look at them in the SQS console, and delete them there"),
        (*not_selected, "were not selected"),
    ];
    for (count, why) in staying.into_iter().filter(|(count, _)| *count > 0) {
        output.line(format!("{count} stay: they {why}."));
    }
}

fn cells(letter: &DeadLetter) -> [String; 5] {
    [
        letter.received_at.map(|it| it.to_string()).unwrap_or_default(),
        letter.source.as_ref().map(ToString::to_string).unwrap_or_default(),
        letter.message_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        letter.error.clone().unwrap_or_default(),
        letter.action.as_str().to_owned(),
    ]
}
