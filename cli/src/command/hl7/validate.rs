//! `sluice hl7 validate`

use anyhow::Result;
use hl7::BatchProblem;
use hl7::validate::{Finding, Report, Severity, validate_with};
use serde::Serialize;

use super::{Input, Run, Which};
use crate::command::schema::SchemaArg;
use client::messages::{self, describe};

/// Which messages, and by what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    schema: SchemaArg,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    which: Which<'a>,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchLine<'a> {
    file: &'a str,
    batch_problems: Vec<BatchProblem>,
}

pub(super) fn run(run: &mut Run<'_>, args: &Args) -> Result<()> {
    let (input, schema) = (&args.input, args.schema.read()?);
    let mut rows = Vec::new();
    let (mut messages, mut counts) = (0, [0; 3]);
    run.each(&input.files, input.charset, |run, file, body| {
        for message in body.messages() {
            let Some(read) = run.read(file, body, &message)? else { continue };
            let report = validate_with(&read.er7, schema);
            messages += 1;
            for finding in &report.findings {
                if let Some(count) = counts.get_mut(finding.severity as usize) {
                    *count += 1;
                }
            }
            // A finding that was only counted may be an error.
            run.failed |= report.worst() == Some(Severity::Error) || report.more > 0;
            if run.output.is_json() {
                run.json_line(&Line { which: Which { file, message: message.number() }, report })?;
            } else {
                let name = messages::name(body, file, message.number());
                rows.extend(report.findings.iter().map(|it| row(&name, it)));
                if report.more > 0 {
                    rows.push([name, String::new(), String::new(), String::new(), format!("and {} more", report.more)]);
                }
            }
        }
        let batch_problems = body.problems();
        run.failed |= !batch_problems.is_empty();
        if run.output.is_json() {
            if !batch_problems.is_empty() {
                run.json_line(&BatchLine { file, batch_problems })?;
            }
        } else {
            let error = Severity::Error.to_string();
            let row = |it: &BatchProblem| [file.to_owned(), String::new(), error.clone(), it.code.to_owned(), describe(it)];
            rows.extend(batch_problems.iter().map(row));
        }
        Ok(())
    })?;
    if !rows.is_empty() {
        run.output.table(["message", "where", "severity", "finding", "detail"], rows);
    }
    let [infos, warnings, errors] = counts;
    run.output.reporter.say(format!("Messages: {messages}; errors: {errors}, warnings: {warnings}, infos: {infos}."));
    Ok(())
}

fn row(name: &str, finding: &Finding) -> [String; 5] {
    let location = finding.location.map(|it| it.to_string()).unwrap_or_default();
    [name.to_owned(), location, finding.severity.to_string(), finding.code.to_string(), finding.detail.clone()]
}
