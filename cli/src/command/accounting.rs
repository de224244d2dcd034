//! `sluice accounting`

use std::time::SystemTime;

use anyhow::Result;
use domain::{Source, Timestamp};

use super::ids::{self, GivenId};
use super::when;
use crate::error::{ExitCode, Misused};
use crate::operator::accounting::{self, Access, COLUMNS, Of, Question};
use crate::operator::users::roster::guarded;
use crate::output::Output;

/// What to account for, and for which period.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    #[command(flatten)]
    of: OfArgs,
    /// From then on.
    #[arg(long, value_name = "WHEN", value_parser = when::when, default_value = "30d")]
    from: jiff::Timestamp,
    /// Only before this time. Default: now.
    #[arg(long, value_name = "WHEN", value_parser = when::when)]
    to: Option<jiff::Timestamp>,
    /// Write CSV.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct OfArgs {
    /// Show who did something with this message: its id, or the first 8 digits or more.
    #[arg(long, value_name = "ID")]
    message: Option<GivenId>,
    /// Show what this person (the `sub` of their token) did, and who changed their rights.
    #[arg(long, value_name = "SUB")]
    person: Option<String>,
    /// Show what happened at this institute.
    #[arg(long, value_name = "NAME")]
    institute: Option<Source>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    if args.to.is_some_and(|to| args.from >= to) {
        return Err(Misused::because("--from must be before --to"));
    }
    let (aws, outputs) = args.deployment.find().await?;
    let OfArgs { message, person, institute } = args.of;
    let time = |at: jiff::Timestamp| Timestamp::from_millis(at.as_millisecond()).unwrap_or_else(|| SystemTime::now().into());
    let (from, to) = (time(args.from), args.to.map(time));
    let reading = output.reporter.step("Reading the logs");
    let message = match message {
        Some(id) => Some(match id.whole() {
            Some(id) => id,
            None => {
                let found = accounting::beginning_with(&aws, &outputs, &id.to_string(), from, to).await?;
                let nothing = || {
                    format!("no log line of the period names a message whose id begins with {id}: look further back with --from")
                };
                ids::the_only(&id, &found, nothing)?
            }
        }),
        None => None,
    };
    let of = message.map(Of::Message).or(person.map(Of::Person)).or(institute.map(Of::Institute));
    let Some(of) = of else { return Ok(ExitCode::Usage) };
    let question = Question { of, from, to };
    let accesses = accounting::account(&aws, &outputs, &question).await?;
    reading.done(format!("{} entries", accesses.len()));
    if accesses.is_empty() {
        output.reporter.say(nothing(&question));
    }
    if args.csv {
        output.line(csv(&accesses)?.trim_end());
    } else if output.is_json() {
        output.json(&accesses)?;
    } else if !accesses.is_empty() {
        output.table(["at", "who", "from", "action", "outcome", "institute", "message"], accesses.iter().map(cells));
    }
    Ok(ExitCode::Success)
}

/// What an empty account means, as far as it is known.
fn nothing(question: &Question) -> String {
    let to = question.to.map_or_else(|| "now".to_owned(), when::full);
    let of = match &question.of {
        Of::Message(id) => format!("the message {id}. Nor are there of one that nobody has submitted."),
        Of::Person(_) => "this person. Nor are there of a `sub` that nobody has.".to_owned(),
        Of::Institute(source) => format!("the institute {source}. Nor are there of a name that no institute has."),
    };
    format!("From {} to {to} there are no log lines of {of}", when::full(question.from))
}

fn csv(accesses: &[Access]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for access in accesses {
        writer.write_record(access.cells().map(|cell| guarded(&cell)))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn cells(access: &Access) -> [String; 7] {
    let text = |member: &Option<String>| member.clone().unwrap_or_default();
    let who = access.subject.clone().or_else(|| access.operator.clone());
    let outcome =
        access.changes.as_ref().map_or_else(|| access.outcome.clone(), |changes| format!("{}: {changes}", access.outcome));
    [
        when::full(access.at),
        who.unwrap_or_default(),
        text(&access.source_ip),
        access.action.clone(),
        outcome,
        text(&access.source),
        access
            .message_id
            .clone()
            .or_else(|| access.messages.as_ref().map(|count| format!("{count} messages")))
            .unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        let access: Access = Access {
            at: Timestamp::from_millis(0).unwrap(),
            action: "read".to_owned(),
            outcome: "sent".to_owned(),
            subject: Some("=1+1".to_owned()),
            issuer: None,
            operator: None,
            source: None,
            message_id: None,
            submission_id: None,
            messages: None,
            http_status: None,
            source_ip: None,
            route: None,
            api_request_id: None,
            trace_id: None,
            changed: None,
            changes: None,
        };
        let text = csv(&[access]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], COLUMNS.join(","));
        assert!(lines[1].starts_with("1970-01-01T00:00:00.000Z,read,sent,'=1+1,"), "{text}");
    }
}
