//! `sluice top`

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::ExitCode;
use crate::operator::top::{Numbers, Outcomes, Watch};
use crate::output::Output;

/// Which deployment, and how often to look.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// How far back to count.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::positive_duration)]
    window: Duration,
    /// How often to refresh.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = super::positive_duration)]
    every: Duration,
    /// Print once and exit.
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let mut watch = Watch::new(&aws, &outputs, args.window);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let numbers = watch.look().await?;
        if output.is_json() {
            output.json_line(&numbers)?;
        } else {
            if !args.once {
                output.clear();
            }
            tell(&outputs.stack, &numbers, output);
        }
        if args.once {
            return Ok(ExitCode::Success);
        }
        tokio::select! {
            () = tokio::time::sleep(args.every) => {}
            _ = interrupt.recv() => return Ok(ExitCode::Success),
            _ = terminate.recv() => return Ok(ExitCode::Success),
        }
    }
}

fn tell(stack: &str, numbers: &Numbers, output: &Output) {
    let seconds = numbers.window_seconds.max(1);
    let rate = |count: u64| format!("{}.{} a second", count / seconds, count * 10 / seconds % 10);
    let lag =
        numbers.lag_ms.map_or_else(|| "-".to_owned(), |lag| format!("half within {} ms, 99 % within {} ms", lag.p50, lag.p99));
    let list = |counts: &std::collections::BTreeMap<String, u64>| match counts.is_empty() {
        true => "0".to_owned(),
        false => counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", "),
    };
    let queues = numbers.queues;
    output.line(format!("{stack}, the last {} seconds", numbers.window_seconds));
    let rows = [
        ("accepted", format!("{} ({}, {} bytes)", numbers.accepted, rate(numbers.accepted), numbers.bytes)),
        ("stored", format!("{} ({})", numbers.stored, rate(numbers.stored))),
        ("lag, from 202 to the lake", lag),
        (
            "in the queue",
            format!("{} waiting, {} at work, {} dead letters", queues.waiting, queues.in_flight, queues.dead_letters),
        ),
        ("duplicates", numbers.duplicates.to_string()),
        ("held, by reason", list(&numbers.held)),
        ("not even held", numbers.failed.to_string()),
        ("refused, by HTTP status", list(&numbers.refused)),
        ("failed tries, by error", list(&numbers.errors)),
    ];
    output.table(["", "messages"], rows.map(|(name, value)| [name.to_owned(), value]));
    let mut institutes: Vec<(&String, &Outcomes)> = numbers.institutes.iter().collect();
    institutes.sort_by_key(|(_, it)| std::cmp::Reverse(it.accepted + it.stored + it.held + it.failed));
    let rows = institutes.into_iter().map(|(name, it)| {
        let [accepted, stored, duplicates, held, failed] =
            [it.accepted, it.stored, it.duplicates, it.held, it.failed].map(|count| count.to_string());
        [name.clone(), accepted, stored, duplicates, held, failed]
    });
    output.narrow_table(["institute", "accepted", "stored", "duplicates", "held", "failed"], rows, &[0]);
}
