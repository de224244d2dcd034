//! Runs the worker `tables` for institutes, as the schedule does.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_sfn::Client;
use aws_sdk_sfn::types::ExecutionStatus;
use domain::{Source, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::output::Step;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;
use client::wait::within;

/// A first run over years of messages takes many invocations.
const DEADLINE: Duration = Duration::from_secs(12 * 60 * 60);

/// What became of an institute's tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The institute.
    pub institute: Source,
    /// `done`; `running`, if another run works on the institute; `failed`.
    pub outcome: String,
    /// The name of the step error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the worker, or AWS for it, says of the error.
    #[serde(default, rename(deserialize = "cause"), deserialize_with = "sentence", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// If another run works on the institute: until then at the latest, unless it says again that it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What to do, if it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many days were written.
    #[serde(default)]
    pub days: u64,
    /// How many messages they have.
    #[serde(default)]
    pub messages: u64,
    /// How many of them could not be read, and are in the table `messages` alone.
    #[serde(default)]
    pub unread: u64,
    /// How many rows all tables of these days have.
    #[serde(default)]
    pub rows: u64,
}

/// The sentence in a cause, as Step Functions has it: what Lambda says of the function's error, as JSON in a text, or a text.
fn sentence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cause {
        error_message: String,
    }
    let cause = String::deserialize(deserializer)?;
    let sentence = serde_json::from_str::<Cause>(&cause).map_or(cause, |it| it.error_message);
    Ok(Some(sentence).filter(|it| !it.is_empty()))
}

/// What to do about an error of this name.
fn next_step(error: &str) -> &'static str {
    match error {
        "Throttled" | "Unavailable" => "run it again: what was committed stays",
        "Misconfigured" => {
            "the deployment refuses the operation: deploy the stack again with --tables; if it stays refused, a policy outside of the \
             templates refuses it"
        }
        "InvalidInput" | "Panicked" => "a defect of Sluice: report this sentence",
        _ if error == "States.Timeout"
            || error == "Lambda.Unknown"
            || error.starts_with("Runtime.")
            || error.starts_with("Sandbox.") =>
        {
            "AWS ended the worker: run it again in four minutes; if it ends again, a day is too large for it (docs/TABLES.md, Limits)"
        }
        _ => "look at the log of the worker `tables`",
    }
}

/// The state machine's input, as the schedule has it too.
#[must_use]
pub fn input(institutes: &[&str], from: Option<&str>) -> Value {
    let item = |name: &&str| from.map_or_else(|| json!({ "institute": name }), |from| json!({ "institute": name, "from": from }));
    json!({ "institutes": institutes.iter().map(item).collect::<Vec<_>>() })
}

/// Brings the tables of these institutes up to date; without any, those of the schedule's. Days from `from` on (`YYYY-MM-DD`) are
/// written again.
///
/// # Errors
/// When the deployment has no such stack, there is no institute, or AWS refuses.
pub async fn run(aws: &Aws, outputs: &Outputs, institutes: &[Source], from: Option<&str>, step: &Step) -> Result<Vec<Run>> {
    let machine = outputs.stack_outputs.get("TablesStateMachineArn");
    let machine =
        machine.context("the deployment has no stack of tables: `sluice deploy --tables` or `sluice local up --tables`")?;
    let scheduled = outputs.stack_outputs.get("TablesScheduled").map(String::as_str).unwrap_or_default();
    let names: Vec<&str> = match institutes {
        [] => scheduled.split(',').filter(|it| !it.is_empty()).collect(),
        named => named.iter().map(Source::as_str).collect(),
    };
    ensure!(!names.is_empty(), "no institute is named, and the schedule has none (TablesInstitutes)");
    let client = Client::new(aws.config());
    let input = input(&names, from).to_string();
    let started = client.start_execution().state_machine_arn(machine).input(input).send().await;
    let execution = started.map_err(explain("starting the worker"))?.execution_arn;
    step.at(format!("institutes: {}", names.len()));
    within(DEADLINE, "the tables", async {
        loop {
            let found = client.describe_execution().execution_arn(&execution).send().await;
            let found = found.map_err(explain("looking at the run"))?;
            match found.status() {
                ExecutionStatus::Running => tokio::time::sleep(aws.poll_interval()).await,
                ExecutionStatus::Succeeded => {
                    let output = found.output().context("a run without an answer")?;
                    let mut runs: Vec<Run> = serde_json::from_str(output).context("the answer of a run")?;
                    for run in &mut runs {
                        run.next = run.error.as_deref().map(|error| next_step(error).to_owned());
                    }
                    return Ok(runs);
                }
                other => {
                    bail!("the run ended as {other}: {} {}", found.error().unwrap_or_default(), found.cause().unwrap_or_default())
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: Value) -> Run {
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn a_failed_run_says_the_workers_sentence() {
        let failed =
            |cause: &str| read(json!({ "institute": "west", "outcome": "failed", "error": "X", "cause": cause })).message;
        let cause = r#"{"errorType":"Misconfigured","errorMessage":"s3:PutObject was refused","stackTrace":[]}"#;
        assert_eq!(failed(cause).as_deref(), Some("s3:PutObject was refused"));
        assert_eq!(failed("Task timed out").as_deref(), Some("Task timed out"));
        assert_eq!(failed(""), None);
        let done = read(json!({ "institute": "west", "outcome": "done", "days": 1, "messages": 2, "unread": 0, "rows": 9 }));
        assert_eq!((done.message, done.until, done.days), (None, None, 1));
    }

    #[test]
    fn each_error_has_a_next_step() {
        for (error, says) in [
            ("Unavailable", "run it again"),
            ("Misconfigured", "deploy the stack again"),
            ("Panicked", "report"),
            ("Runtime.ExitError", "AWS ended the worker"),
            ("Sandbox.Timedout", "AWS ended the worker"),
            ("States.Timeout", "AWS ended the worker"),
            ("Lambda.TooManyRequestsException", "look at the log"),
        ] {
            assert!(next_step(error).contains(says), "{error}");
        }
    }
}
