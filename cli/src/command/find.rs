//! `sluice find`

use anyhow::{Context as _, Result, anyhow};
use domain::PatientIdentifier;

use super::ids::GivenId;
use super::listing::{self, Shown, Which};
use crate::error::{ExitCode, Misused};
use crate::output::Output;
use client::Client;
use client::read::Query;

/// What is known of the messages. All of it must be true of one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id of the message, or its first 8 digits or more.
    #[arg(value_name = "ID")]
    id: Option<GivenId>,
    /// The control id (MSH-10).
    #[arg(long, value_name = "TEXT")]
    control_id: Option<String>,
    /// A patient's identifier (PID-3), and who assigned it: 4711, or 4711^^^HIS. `-` reads it from standard input, so that no other
    /// program of this machine sees it. Goes with --from and --to.
    #[arg(long, value_name = "ID[^^^AUTHORITY]", conflicts_with_all = [
        "id", "control_id", "status", "sender", "receiver", "event", "message_from", "message_to", "submission", "message_type",
        "institute",
    ])]
    patient: Option<String>,
    /// How far the messages have come.
    #[arg(long, value_parser = ["queued", "processing", "stored", "held", "discarded", "denied", "expired", "failed"])]
    status: Option<String>,
    /// The sending application or facility (MSH-3, MSH-4).
    #[arg(long, value_name = "NAME")]
    sender: Option<String>,
    /// The receiving application or facility (MSH-5, MSH-6).
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// The trigger event, whatever the type is: A01.
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// Only messages whose MSH-7 is this time or later, on the sender's own clock: 2026-11-28, or 202611281600.
    #[arg(long, value_name = "TIME")]
    message_from: Option<String>,
    /// Only messages whose MSH-7 is before this time.
    #[arg(long, value_name = "TIME")]
    message_to: Option<String>,
    /// The id of the submission that brought the message.
    #[arg(long, value_name = "ID")]
    submission: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shown: Shown,
}

/// The identifier that was given, or that stands on standard input.
fn identifier(given: String) -> Result<PatientIdentifier> {
    let text = if given == "-" { std::io::read_to_string(std::io::stdin()).context("reading standard input")? } else { given };
    text.trim_end_matches(['\r', '\n'])
        .parse::<PatientIdentifier>()
        .map_err(|error| Misused::because(format!("--patient: {error}")))
}

/// Exit code 1 says that nothing was found.
pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let query = Query {
        id_prefix: args.id.map(|it| it.to_string()),
        control_id: args.control_id,
        patient: args.patient.map(identifier).transpose()?,
        status: args.status,
        sender: args.sender,
        receiver: args.receiver,
        event: args.event,
        message_from: args.message_from,
        message_to: args.message_to,
        submission: args.submission,
        ..args.which.query()?
    };
    if let Some(nothing) = listing::show(&Client::open()?, query, &args.shown, output).await? {
        if output.is_json() {
            return Err(anyhow!(nothing));
        }
        output.reporter.say(nothing);
        return Ok(ExitCode::Failed);
    }
    Ok(ExitCode::Success)
}
