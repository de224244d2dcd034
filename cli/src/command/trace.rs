//! `sluice trace`

use anyhow::Result;
use domain::{Source, Timestamp};

use super::when;
use crate::error::ExitCode;
use crate::operator::trace::{self, Given, Path, Question, Step};
use crate::output::Output;

/// Which message.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// A message id or its first 8 digits or more, a submission id, or a trace id.
    #[arg(value_name = "ID", value_parser = given)]
    id: Given,
    /// The institute, if several have submitted the message.
    #[arg(long, value_name = "NAME")]
    source: Option<Source>,
    /// Read the log from this time on; not needed for a submission id, which contains its time.
    #[arg(long, value_name = "WHEN", value_parser = when::when, default_value = "14d")]
    from: jiff::Timestamp,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let from = Timestamp::from_millis(args.from.as_millisecond()).unwrap_or_else(|| std::time::SystemTime::now().into());
    let reading = output.reporter.step("Reading the workers' logs");
    let path = trace::path(&aws, &outputs, &Question { given: args.id, source: args.source, from }).await?;
    reading.done(format!("{} steps", path.steps.len()));
    if output.is_json() {
        output.json(&path)?;
    } else {
        tell(&path, output);
    }
    Ok(ExitCode::Success)
}

fn tell(path: &Path, output: &Output) {
    match (&path.message_id, &path.source) {
        (Some(message_id), Some(source)) => {
            output.line(format!("Message {message_id} of `{source}`"));
            output.line(format!("Record: {}", path.sentence));
        }
        _ => output.line("A request without a message: it was refused, or nothing was done yet for its messages"),
    }
    let mut traces: Vec<&str> = path.steps.iter().filter_map(|step| step.trace_id.as_deref()).collect();
    traces.dedup();
    let first = path.steps.first().map(|step| step.began_at);
    output.narrow_table(
        ["began", "after ms", "took ms", "worker", "submission", "outcome"],
        path.steps.iter().map(|it| cells(it, first)),
        &[5],
    );
    for (name, values) in [("Trace", &traces), ("Execution", &path.executions.iter().map(String::as_str).collect())] {
        values.iter().for_each(|value| output.line(format!("{name}: {value}")));
    }
    for event in &path.events {
        output.line(format!("Event: {} at {}", event.id, event.at));
    }
}

fn cells(step: &Step, first: Option<Timestamp>) -> [String; 6] {
    let after = step.began_at.as_millis() - first.unwrap_or(step.began_at).as_millis();
    let parts = [
        Some(step.outcome.clone()),
        step.http_status.as_ref().map(|status| format!("HTTP {status}")),
        step.reason.clone(),
        step.tries.as_ref().map(|tries| format!("try {tries}")),
        step.receives.as_ref().map(|receives| format!("receive {receives}")),
        step.error.clone(),
        step.detail.clone(),
    ];
    let outcome: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    [
        when::short(step.began_at),
        after.to_string(),
        format!("{:.0}", step.took_ms),
        step.worker.clone(),
        step.submission_id.as_deref().map(|id| id.chars().skip(18).collect()).unwrap_or_default(),
        outcome.join(", "),
    ]
}

/// A trace id looks like the beginning of a message id, and is taken for either.
fn given(text: &str) -> Result<Given, String> {
    if let Ok(id) = text.parse() {
        return Ok(Given::Submission(id));
    }
    if let Ok(id) = text.parse() {
        return Ok(Given::Trace(id));
    }
    let id: super::ids::GivenId =
        text.parse().map_err(|_| "not a message id (or its first 8 digits), a submission id or a trace id".to_owned())?;
    Ok(Given::Message(id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_a_submission_and_a_trace_id_are_told_apart() {
        assert!(matches!(given("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Ok(Given::Submission(_))));
        assert!(matches!(given("4bf92f3577b34da6a3ce929d0e0e4736"), Ok(Given::Trace(_))));
        assert_eq!(given("4BF92F35"), Ok(Given::Message("4bf92f35".to_owned())));
        assert_eq!(given(&"a".repeat(64)), Ok(Given::Message("a".repeat(64))));
        assert!(!given("SECRET").unwrap_err().contains("SECRET"));
    }
}
