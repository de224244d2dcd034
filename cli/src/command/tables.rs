//! `sluice tables`

use anyhow::Result;
use domain::{Source, Timestamp};

use crate::error::ExitCode;
use crate::operator::tables::{self, Run};
use crate::output::Output;

/// The tables of the stack NAME-tables.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write the days that have changed since the last run, as the schedule does.
    Run {
        #[command(flatten)]
        deployment: super::DeploymentArgs,
        /// Only this institute; may be given several times. Without it, the institutes of the schedule.
        #[arg(long, value_name = "NAME")]
        institute: Vec<Source>,
        /// Write this day and all later days again, changed or not.
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
        from: Option<String>,
    },
}

fn day(text: &str) -> Result<String, String> {
    match Timestamp::day_start(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a day, like 2026-11-28".to_owned()),
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let Action::Run { deployment, institute, from } = args.action;
    let (aws, outputs) = deployment.find().await?;
    let step = output.reporter.step("writing tables");
    let runs = tables::run(&aws, &outputs, &institute, from.as_deref(), &step).await?;
    step.done(format!("institutes: {}", runs.len()));
    let is_done = runs.iter().all(|it| it.outcome == "done");
    if output.is_json() {
        output.json(&runs)?;
    } else {
        output.table(["institute", "tables", "days written", "messages", "unread"], runs.iter().map(row));
        runs.iter().filter_map(note).for_each(|it| output.line(it));
    }
    Ok(if is_done { ExitCode::Success } else { ExitCode::Failed })
}

fn row(run: &Run) -> [String; 5] {
    let outcome = run.error.as_ref().map_or_else(|| run.outcome.clone(), |error| format!("{}: {error}", run.outcome));
    [run.institute.to_string(), outcome, run.days.to_string(), run.messages.to_string(), run.unread.to_string()]
}

/// What a row has no room for: why it is not done and what to do, or which messages are missing.
fn note(run: &Run) -> Option<String> {
    let institute = &run.institute;
    let message = run.message.as_deref().unwrap_or("the worker gave no reason");
    match (run.next.as_deref(), run.outcome.as_str()) {
        (Some(next), _) => Some(format!("{institute}: {message}. Next: {next}.")),
        (None, "running") => {
            let until = run.until.map_or_else(String::new, |it| format!("; if it has died, its lease ends at {it}"));
            Some(format!("{institute}: another run works on it. Next: wait for it{until}."))
        }
        _ if run.unread > 0 => Some(format!(
            "{institute}: {} messages could not be read. The days' manifests name them; a run tries them again (docs/TABLES.md).",
            run.unread
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_is_not_done_says_why_and_what_to_do() {
        let note = |answer| note(&serde_json::from_value::<Run>(answer).unwrap());
        let failed = json!({ "institute": "west", "outcome": "failed", "error": "X", "cause": "it was refused", "next": "ask" });
        assert_eq!(note(failed).unwrap(), "west: it was refused. Next: ask.");
        let running = json!({ "institute": "west", "outcome": "running", "until": "2026-11-29T00:04:00Z" });
        let text = note(running).unwrap();
        assert!(
            text.starts_with("west: another run works on it. Next: wait for it; if it has died, its lease ends at 2026-"),
            "{text}"
        );
        assert!(note(json!({ "institute": "west", "outcome": "done", "unread": 3 })).unwrap().contains("3 messages"));
        assert_eq!(note(json!({ "institute": "west", "outcome": "done" })), None);
    }

    #[test]
    fn a_day_is_a_date_and_nothing_else() {
        assert_eq!(day("2026-11-28"), Ok("2026-11-28".to_owned()));
        for bad in ["2026-11-31", "2026-11-28T10:00:00Z", "yesterday", ""] {
            assert!(day(bad).is_err(), "{bad}");
        }
    }
}
