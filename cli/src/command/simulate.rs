//! `sluice simulate`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use simulation::{Deployment, Outage, Report, Scenario, Waits};

use super::duration;
use crate::error::{ExitCode, Misused};
use crate::operator::cost::{Bill, Load, Measured, Prices, Variant};
use crate::operator::simulate;
use crate::output::Output;

/// What becomes of so many messages a second, by a simulation with measured times and AWS's quotas. Needs no AWS.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Messages a second, of all institutes; up to 10,000.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    rate: f64,
    /// Institutes that send them; up to 5,000.
    #[arg(long, value_name = "K", default_value_t = 10)]
    institutes: u32,
    /// How long messages come in, such as 10m.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    time: Duration,
    /// The first institute's share of the messages, from 0 to 1. Default: all send equally many.
    #[arg(long, value_name = "SHARE")]
    hot: Option<f64>,
    /// The share of an hour's messages that come in its first minute, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    burst: f64,
    /// How long the lake is down, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    outage: Option<Duration>,
    /// When the outage begins.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration, requires = "outage")]
    outage_at: Duration,
    /// Start without any sandboxes.
    #[arg(long)]
    cold: bool,
    /// The extra time that a new sandbox takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 250.0)]
    cold_ms: f64,
    /// `MaximumConcurrency` of the deployment.
    #[arg(long, value_name = "N", default_value_t = 10)]
    maximum_concurrency: u32,
    /// `DispatchBatchSize` of the deployment.
    #[arg(long, value_name = "N", default_value_t = 10)]
    batch_size: u32,
    /// `RetryMinutes` of the deployment.
    #[arg(long, value_name = "MINUTES", default_value_t = 180.0)]
    retry_minutes: f64,
    /// `SubmitRateLimit` of the deployment; the burst limit is twice that.
    #[arg(long, value_name = "N")]
    submit_rate_limit: Option<f64>,
    /// A file that the benchmark wrote, instead of the one in this build.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Your own quotas file, in the format of `cli/data/quotas.json`.
    #[arg(long, value_name = "FILE")]
    quotas: Option<PathBuf>,
    /// The seed of the random numbers: the same seed gives the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Compare the measured run of the local system with its prediction.
    #[arg(long, conflicts_with_all = ["rate", "institutes", "time", "hot", "burst", "outage", "cold", "quotas"])]
    local_run: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    let measured = Measured::of(args.measured.as_deref())?;
    if args.local_run {
        return compare(&measured, args.seed, output);
    }
    let scenario = scenario(args, &measured)?;
    let report = simulation::run(&scenario).map_err(|senseless| Misused::because(senseless.to_string()))?;
    let load = Load { messages_per_day: args.rate * 86_400.0, size_bytes: 2048, institutes: args.institutes, batch: 1 };
    let ours = Variant { is_standard: false, logs_all: false, is_arm: false };
    let per_million = Bill::of(load, ours, &measured, &Prices::built_in()?)?.per_million;
    let cost = per_million * report.stored as f64 / 1e6;
    if output.is_json() {
        output.json(&json!({ "report": report, "cost": cost, "firstBound": report.first_bound() }))?;
        return Ok(ExitCode::Success);
    }
    output.table(["what", "comes of it"], rows(&report, cost));
    let quotas = report.quotas.iter().map(|it| [it.name.to_owned(), seconds(it.first_at_seconds), it.throttles.to_string()]);
    output.table(["what binds, in the order in which it did", "first at", "times"], quotas);
    Ok(ExitCode::Success)
}

fn scenario(args: &Args, measured: &Measured) -> Result<Scenario> {
    let mut limits = match &args.quotas {
        Some(path) => simulate::limits(&std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)?,
        None => simulate::built_in_limits()?,
    };
    if let Some(rate) = args.submit_rate_limit {
        limits.route = simulation::Limit { per_second: rate, burst: rate * 2.0 };
    }
    Ok(Scenario {
        rate: args.rate,
        institutes: args.institutes,
        seconds: args.time.as_secs_f64(),
        hot_share: args.hot,
        burst_share: args.burst,
        outage: args.outage.map(|it| Outage { from: args.outage_at.as_secs_f64(), seconds: it.as_secs_f64() }),
        is_warm: !args.cold,
        seed: args.seed,
        deployment: Deployment {
            maximum_concurrency: args.maximum_concurrency,
            batch_size: args.batch_size,
            retry_base_seconds: 30.0,
            retry_minutes: args.retry_minutes,
        },
        times: simulate::times(measured, args.cold_ms)?,
        limits,
    })
}

fn rows(report: &Report, cost: f64) -> Vec<[String; 2]> {
    let mut rows = vec![
        ["posted".to_owned(), report.posted.to_string()],
        ["refused, to be sent again".to_owned(), report.refused.to_string()],
        ["stored".to_owned(), format!("{}, {:.1} a second", report.stored, report.stored_per_second)],
        ["held".to_owned(), report.held.to_string()],
        ["everything at its end after".to_owned(), seconds(report.ended_at_seconds)],
    ];
    for (whose, waits) in [
        ("from POST to the lake", report.all),
        ("of the first institute", report.first),
        ("of the institute in the middle of the others", report.middle),
        ("of the one that waits longest", report.worst),
    ] {
        if let Some(Waits { p50_seconds, p99_seconds, .. }) = waits {
            rows.push([whose.to_owned(), format!("p50 {}, p99 {}", seconds(p50_seconds), seconds(p99_seconds))]);
        }
    }
    rows.push(["most that waited in the queue".to_owned(), report.most_waiting.to_string()]);
    rows.push(["longest wait before the first try".to_owned(), seconds(report.oldest_seconds)]);
    let busy = report.sandboxes.iter().map(|(name, most, _)| format!("{name} {most}")).collect::<Vec<_>>().join(", ");
    rows.push(["most sandboxes busy".to_owned(), format!("{}: {busy}", report.most_busy)]);
    rows.push(["cost by list prices".to_owned(), format!("{cost:.2} USD")]);
    rows
}

/// Prints the measured and the simulated figures side by side.
fn compare(measured: &Measured, seed: u64, output: &Output) -> Result<ExitCode> {
    let run = &measured.local_run;
    let report = simulation::run(&simulate::local_run(run, seed)?)?;
    let all = report.all.context("nothing was stored")?;
    let pairs = [
        ("p50Seconds", all.p50_seconds, run.p50_seconds),
        ("p99Seconds", all.p99_seconds, run.p99_seconds),
        ("storedPerSecond", report.stored_per_second, run.stored_per_second),
    ];
    if output.is_json() {
        let pair = |(name, predicted, measured)| json!({ "name": name, "predicted": predicted, "measured": measured });
        output.json(&pairs.map(pair))?;
        return Ok(ExitCode::Success);
    }
    output.table(
        ["a run of the local system", "predicted", "measured", "ratio"],
        pairs.map(|(name, predicted, measured)| {
            [name.to_owned(), format!("{predicted:.3}"), format!("{measured:.3}"), format!("{:.2}", predicted / measured)]
        }),
    );
    Ok(ExitCode::Success)
}

fn seconds(seconds: f64) -> String {
    match seconds {
        it if it < 1.0 => format!("{:.0} ms", it * 1000.0),
        it if it < 120.0 => format!("{it:.1} s"),
        it => format!("{:.1} min", it / 60.0),
    }
}
