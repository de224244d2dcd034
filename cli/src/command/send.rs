//! `sluice send`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use domain::{Charset, State, Status};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::ids;
use crate::error::ExitCode;
use crate::output::{Output, Reporter};
use client::Client;
use client::messages::{self, describe};
use client::send::{self, Fate, Journal, Options, Row, Sent};
use client::session::state_folder;
use client::tokens::TokenClaims;

/// If there are more messages than this, a table shows only those that were not accepted or not stored.
const MOST_ROWS: usize = 50;

/// What to send, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files of ER7 with one or several messages each; a folder means the files directly in it, `-` means stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The character set of the files, whatever MSH-18 says: an IANA name (`iso-8859-1`) or a value of HL7 table 0211 (`8859/1`).
    /// Default: byte order mark, then MSH-18, then UTF-8.
    #[arg(long, value_name = "LABEL", value_parser = messages::charset)]
    charset: Option<Charset>,
    /// Only files of a folder with such a name: '*.hl7'.
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Also send files that do not begin as HL7 does. You cannot take anything back out of a lake.
    #[arg(long)]
    any: bool,
    /// Only show what the command would send.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// How many messages to send at a time.
    #[arg(long, default_value_t = 4, env = "SLUICE_CONCURRENCY", value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    /// Also send messages that were accepted before.
    #[arg(long)]
    again: bool,
    /// Wait for the outcome of each message, for up to 300 s or this long.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "300")]
    wait: Option<u64>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let files = messages::files(&args.files, args.name.as_deref())?;
    let (hurry, hurried) = watch::channel(false);
    let client = Client::open_until(hurried.clone())?;
    let session = client.session().await?;
    let claims = TokenClaims::of(&session.tokens.id)?;
    let journal = Journal::open(&state_folder()?.join("sent"), [&session.deployment.api_url, &claims.sub, &claims.write])?;
    let options = Options {
        charset: args.charset,
        concurrency: usize::from(args.concurrency),
        again: args.again,
        any: args.any,
        dry_run: args.dry_run,
        wait: args.wait.map(Duration::from_secs),
    };

    let mut interrupts = signal(SignalKind::interrupt())?;
    let progress = output.reporter.progress("sending");
    let report = tokio::select! {
        report = send::send(&client, &journal, &files, &options, &hurried, &progress) => report,
        () = interrupted_twice(&mut interrupts, &hurry, &output.reporter) => bail!("interrupted; the journal has the accepted messages, and the same command sends the rest"),
    };
    print(&report, output)?;
    if let Some(error) = report.error {
        return Err(error);
    }
    Ok(if report.is_complete() { ExitCode::Success } else { ExitCode::Failed })
}

/// The first Ctrl-C asks the command to finish, the second one ends it at once.
async fn interrupted_twice(interrupts: &mut Signal, hurry: &watch::Sender<bool>, reporter: &Reporter) {
    interrupts.recv().await;
    hurry.send_replace(true);
    reporter.say("Finishing the messages under way; Ctrl-C again stops at once.");
    interrupts.recv().await;
}

fn print(report: &Sent, output: &Output) -> Result<()> {
    let fates = [Fate::Accepted, Fate::Before, Fate::Planned, Fate::Refused, Fate::Left];
    let [accepted, before, planned, refused, left] = fates.map(|fate| report.count(fate));
    if output.is_json() {
        let counts = serde_json::json!({
            "files": report.rows, "accepted": accepted, "before": before, "planned": planned, "refused": refused, "left": left,
            "batchProblems": report.doubts,
        });
        return output.json(&counts);
    }
    // Of many rows, show only those that somebody has to look at.
    let is_done = |row: &&Row| row.fate.is_well() && row.status.is_none_or(|it| it == Status::Stored);
    let few = report.rows.len() <= MOST_ROWS;
    let cells = report.rows.iter().filter(|row| few || !is_done(row)).map(|row| {
        let id = shortened(row.message_id.as_deref().unwrap_or_default());
        [row.file.clone(), id, row.answer.clone(), outcome(row)]
    });
    output.table(["file", "message", "answer", "outcome"], cells);
    let before = if before > 0 { format!("{before} sent or stored before, ") } else { String::new() };
    let planned = if planned > 0 { format!("{planned} would be sent, ") } else { String::new() };
    output.reporter.say(format!("{accepted} accepted, {before}{planned}{refused} refused, {left} left."));
    for doubt in &report.doubts {
        output.reporter.say(format!("Look at {}: {}.", doubt.file, describe(&doubt.problem)));
    }
    if left > 0 {
        output.reporter.say("The same command sends the rest.");
    }
    let is_lost = |row: &Row| row.status.is_some_and(|it| it.is_final() && it != Status::Stored);
    if report.rows.iter().any(is_lost) {
        output.reporter.say("The same command resends messages that were accepted but not stored.");
    }
    Ok(())
}

/// The first digits of an id, which the other commands take.
fn shortened(id: &str) -> String {
    id.chars().take(ids::SHORT).collect()
}

fn outcome(row: &Row) -> String {
    match (row.status, row.state) {
        (Some(Status::Stored), Some(State::Error)) => "stored, cannot be parsed".to_owned(),
        (Some(status), _) => status.as_str().to_owned(),
        (None, _) => String::new(),
    }
}
