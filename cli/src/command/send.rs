//! `sluice send`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use domain::{State, Status};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::client::Client;
use crate::error::ExitCode;
use crate::messages::{self, describe};
use crate::output::{Output, Reporter};
use crate::send::{self, Fate, Journal, Options, Report, Row};
use crate::session::{Claims, state_folder};

/// Of more messages than these a table shows only what is not accepted, or not stored.
const MOST_ROWS: usize = 50;

/// What to send, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files of ER7, one message or several each; a folder means the files directly in it, `-` means stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The encoding of the files, whatever MSH-18 says. By default a byte order mark says it, else MSH-18, else it is UTF-8.
    #[arg(long, value_parser = charset)]
    charset: Option<String>,
    /// How many messages are under way at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    /// Send also what was accepted before.
    #[arg(long)]
    again: bool,
    /// Wait for the outcome of each message, for up to 300 s or as long as this says.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "300")]
    wait: Option<u64>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let files = messages::files(&args.files)?;
    let (hurry, hurried) = watch::channel(false);
    let client = Client::open_until(hurried.clone())?;
    let session = client.session().await?;
    let claims = Claims::of(&session.tokens.id)?;
    let journal = Journal::open(&state_folder()?.join("sent"), [&session.deployment.api_url, &claims.sub, &claims.write])?;
    let options = Options {
        charset: args.charset,
        concurrency: usize::from(args.concurrency),
        again: args.again,
        wait: args.wait.map(Duration::from_secs),
    };

    let mut interrupts = signal(SignalKind::interrupt())?;
    let progress = output.reporter.progress("sending");
    let report = tokio::select! {
        report = send::send(&client, &journal, &files, &options, &hurried, &progress) => report,
        () = interrupted_twice(&mut interrupts, &hurry, &output.reporter) => bail!("broken off; what was accepted is in the journal"),
    };
    print(&report, output)?;
    if let Some(error) = report.error {
        return Err(error);
    }
    Ok(if report.is_complete() { ExitCode::Success } else { ExitCode::Failed })
}

/// The first Ctrl-C asks to come to an end, the second one is the end.
async fn interrupted_twice(interrupts: &mut Signal, hurry: &watch::Sender<bool>, reporter: &Reporter) {
    interrupts.recv().await;
    hurry.send_replace(true);
    reporter.say("Finishing what is under way; Ctrl-C again ends at once.");
    interrupts.recv().await;
}

fn print(report: &Report, output: &Output) -> Result<()> {
    let [accepted, refused, left] = [Fate::Accepted, Fate::Refused, Fate::Left].map(|fate| report.count(fate));
    if output.is_json() {
        let counts = serde_json::json!({
            "files": report.rows, "accepted": accepted, "refused": refused, "left": left, "batchProblems": report.doubts,
        });
        return output.json(&counts);
    }
    // Of many, only those that somebody has to look at.
    let is_done = |row: &&Row| row.fate == Fate::Accepted && row.status.is_none_or(|it| it == Status::Stored);
    let few = report.rows.len() <= MOST_ROWS;
    let cells = report
        .rows
        .iter()
        .filter(|row| few || !is_done(row))
        .map(|row| [row.file.clone(), row.message_id.clone().unwrap_or_default(), row.answer.clone(), outcome(row)]);
    output.table(["file", "message", "answer", "outcome"], cells);
    output.reporter.say(format!("{accepted} accepted, {refused} refused, {left} left."));
    for doubt in &report.doubts {
        output.reporter.say(format!("Look at {}: {}.", doubt.file, describe(&doubt.problem)));
    }
    if left > 0 {
        output.reporter.say("The same command goes on with those that are left.");
    }
    let is_lost = |row: &Row| row.status.is_some_and(|it| it.is_final() && it != Status::Stored);
    if report.rows.iter().any(is_lost) {
        output.reporter.say("The same command sends those again that were accepted and not stored.");
    }
    Ok(())
}

fn outcome(row: &Row) -> String {
    match (row.status, row.state) {
        (Some(Status::Stored), Some(State::Error)) => "stored, cannot be parsed".to_owned(),
        (Some(status), _) => status.as_str().to_owned(),
        (None, _) => String::new(),
    }
}

/// A token of RFC 9110: anything else would end the header.
fn charset(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
    if !text.is_empty() && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("it is no name of an encoding, such as iso-8859-1".to_owned())
    }
}
