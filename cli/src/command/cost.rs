//! `sluice cost`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::error::{ExitCode, Misused};
use crate::operator::cost::{Bill, Load, Measured, Prices, Variant};
use crate::output::Output;

/// The bill of a month, from list prices and from requests that the benchmark measured. Needs no AWS.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Messages a day, of all institutes.
    #[arg(long, value_name = "N")]
    messages_per_day: f64,
    /// The size of a message in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 2048)]
    size: u64,
    /// Number of institutes that send them, each equally many.
    #[arg(long, value_name = "K", default_value_t = 1)]
    institutes: u32,
    /// Messages in a request: 1, 10 or 500.
    #[arg(long, value_name = "MESSAGES", default_value_t = 1)]
    batch: u32,
    /// The functions run on arm64.
    #[arg(long)]
    arm: bool,
    /// A file that the benchmark wrote, instead of the one in this build.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Your own price file, in the format of `cli/data/prices.json`.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    let load =
        Load { messages_per_day: args.messages_per_day, size_bytes: args.size, institutes: args.institutes, batch: args.batch };
    load.check().map_err(|error| Misused::because(error.to_string()))?;
    let measured = Measured::of(args.measured.as_deref())?;
    measured.warm(args.batch, args.size).map_err(|error| Misused::because(error.to_string()))?;
    let prices = match &args.prices {
        Some(path) => Prices::read(&std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?)?,
        None => Prices::built_in()?,
    };
    let ours = Variant { is_standard: false, logs_all: false, is_arm: args.arm };
    let bill = Bill::of(load, ours, &measured, &prices)?;
    let other = |variant| anyhow::Ok(Bill::of(load, variant, &measured, &prices)?.per_million);
    let beside = [
        ("this deployment", bill.per_million),
        ("with the state machine's log at level ALL", other(Variant { logs_all: true, ..ours })?),
        ("with standard workflows", other(Variant { is_standard: true, ..ours })?),
        ("on the other processor", other(Variant { is_arm: !args.arm, ..ours })?),
        ("Google's HL7v2 store, one request and its bytes", Bill::google_per_million(load, &prices)?),
    ];
    if output.is_json() {
        output.json(&json!({
            "load": load,
            "prices": { "region": prices.region, "asOf": prices.as_of, "currency": prices.currency },
            "measuredAt": measured.measured_at,
            "bill": bill,
            "perMillion": beside.map(|(name, amount)| json!({ "name": name, "amount": amount })),
        }))?;
        return Ok(ExitCode::Success);
    }
    let rows = bill.parts.iter().map(|part| {
        let per_message = if part.per_message > 0.0 { number(part.per_message) } else { String::new() };
        [part.price.to_owned(), part.what.to_owned(), per_message, money(part.month)]
    });
    let sum = ["".to_owned(), "a month of 30 days".to_owned(), String::new(), money(bill.month)];
    output.table(["price", "what it buys", "a message", prices.currency.as_str()], rows.chain([sum]));
    output.table(
        ["a million messages, without what is there anyway", prices.currency.as_str()],
        beside.map(|(name, amount)| [name.to_owned(), money(amount)]),
    );
    output
        .reporter
        .say(format!("Prices of {} in {}. {} Measured {}.", prices.as_of, prices.region, prices.note, measured.measured_at));
    Ok(ExitCode::Success)
}

fn money(amount: f64) -> String {
    format!("{amount:.2}")
}

/// Three digits that say something.
fn number(number: f64) -> String {
    if number >= 0.01 { format!("{number:.2}") } else { format!("{number:.2e}") }
}
