//! `sluice audit`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use domain::{Source, Timestamp};
use serde_json::json;

use super::confirm;
use crate::error::ExitCode;
use crate::operator::audit::{self, Finding, Kind, Options, Report};
use crate::output::Output;

/// The most findings that a table shows, and that one repair mends.
const MAX_SHOWN: usize = 1_000;

/// What to audit.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Only messages of this institute; may be given several times.
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<Source>,
    /// Only messages received at or after this time: a date (UTC) or a moment like 2026-11-21T07:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Option<Timestamp>,
    /// Only messages received before this time.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    to: Option<Timestamp>,
    /// How long a message may take until it has an outcome.
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = super::duration)]
    overdue: Duration,
    /// Leave everything that ended or was written less than this long ago to the next audit.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = super::duration)]
    settle: Duration,
    /// Check that the objects and their tags exist, but do not read the objects.
    #[arg(long)]
    quick: bool,
    /// Save the audit's progress in this file; if the file exists, resume.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Repair what has only one possible repair, after showing it: wrong tags, and missing events.
    #[arg(long)]
    repair: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "repair")]
    yes: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let options = Options {
        sources: args.sources,
        from: args.from,
        to: args.to,
        overdue: args.overdue,
        settle: args.settle,
        quick: args.quick,
        resume: args.resume,
    };
    let (mut shown, mut repairable) = (Vec::new(), Vec::new());
    let report = audit::audit(&aws, &outputs, &options, &output.reporter, |finding| {
        if output.is_json() {
            // A line each, as they come: there can be more than fit into memory.
            output.json_line(finding)?;
        } else if shown.len() < MAX_SHOWN {
            shown.push(finding.clone());
        }
        if finding.kind.is_repairable() && repairable.len() < MAX_SHOWN {
            repairable.push(finding.clone());
        }
        Ok(())
    })
    .await?;
    if output.is_json() {
        output.json_line(&report)?;
    } else {
        tell(&report, &shown, output);
    }
    if !args.repair || repairable.is_empty() {
        return Ok(if report.is_clean() { ExitCode::Success } else { ExitCode::Failed });
    }
    let tags = repairable.iter().filter(|it| it.kind == Kind::TagsChanged).count();
    let events = repairable.len() - tags;
    let question = format!("Put the tags of {tags} objects right, and publish {events} events?");
    confirm(output, args.yes, &question)?;
    let repaired = audit::repair(&aws, &outputs, &repairable, &output.reporter).await?;
    if output.is_json() {
        output.json_line(&json!({ "repaired": repaired }))?;
    } else {
        output.line(format!("{} of {} findings are mended.", repaired.mended, report.count()));
    }
    let left = report.count() - u64::try_from(repaired.mended + repaired.gone)?;
    Ok(if left == 0 { ExitCode::Success } else { ExitCode::Failed })
}

fn tell(report: &Report, shown: &[Finding], output: &Output) {
    let checked = report.checked;
    if !shown.is_empty() {
        output.table(["finding", "institute", "message", "object", "detail"], shown.iter().map(cells));
        let rows = report.findings.iter().map(|(kind, count)| [kind.to_string(), count.to_string(), kind.advice().to_owned()]);
        output.table(["finding", "count", "what to do"], rows);
    }
    output.line(format!(
        "Looked at {} records, {} 202s in the log, {} objects of the lake, {} held copies and {} events: {} findings.",
        checked.records,
        checked.accepted,
        checked.objects,
        checked.held_objects,
        checked.events,
        report.count()
    ));
    if checked.records_left + checked.objects_left > 0 {
        output.line(format!(
            "Left to the next audit, because they are too young or on their way: the ends of {} records, and {} objects.",
            checked.records_left, checked.objects_left
        ));
    }
    if checked.events_too_old > 0 {
        output.line(format!("{} events are older than the log and were not looked for.", checked.events_too_old));
    }
}

fn cells(finding: &Finding) -> [String; 5] {
    [
        finding.kind.to_string(),
        finding.source.as_ref().map(ToString::to_string).unwrap_or_default(),
        finding.message_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        finding.key.clone().unwrap_or_default(),
        finding.detail.clone().unwrap_or_default(),
    ]
}

fn when(text: &str) -> Result<Timestamp> {
    Timestamp::range_end(text).ok_or_else(|| anyhow!("expected a date or a moment, like 2026-11-21T07:00:00Z"))
}
