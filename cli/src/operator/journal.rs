//! Logs each action of an operator as a line in the log of the worker that the command replaces, in that worker's format.

use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use domain::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The log group of a worker, `Publish` for example.
///
/// # Errors
/// When no stack names the worker.
pub(crate) fn log_group(outputs: &Outputs, worker: &str) -> Result<String> {
    let output = format!("{worker}FunctionName");
    let function = outputs.stack_outputs.get(&output).with_context(|| format!("no stack has the output `{output}`"))?;
    Ok(format!("/aws/lambda/{function}"))
}

/// Writes lines of one command into the log of one worker.
#[derive(Debug)]
pub(crate) struct Journal {
    aws: Aws,
    group: String,
    command: &'static str,
    /// The log stream, and the operator's ARN.
    begun: OnceCell<(String, String)>,
}

impl Journal {
    /// The journal of a command, in the log of a worker.
    ///
    /// # Errors
    /// When no stack names the worker.
    pub(crate) fn new(aws: &Aws, outputs: &Outputs, worker: &str, command: &'static str) -> Result<Self> {
        Ok(Self { aws: aws.clone(), group: log_group(outputs, worker)?, command, begun: OnceCell::new() })
    }

    /// Writes a line about a finished action, with the time and the operator's ARN. It must not hold a patient's data or a
    /// person's name.
    ///
    /// # Errors
    /// When CloudWatch Logs refuses, or there are no valid credentials.
    pub(crate) async fn write(&self, outcome: &str, facts: Vec<(&'static str, Value)>) -> Result<()> {
        let client = Client::new(self.aws.config());
        let now: Timestamp = SystemTime::now().into();
        let (stream, operator) = self.begun.get_or_try_init(async || self.begin(&client, now).await).await?;
        let mut line: Map<String, Value> = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let texts = [("time", now.to_string()), ("level", "INFO".to_owned()), ("worker", self.command.to_owned())];
        line.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
        line.insert("outcome".to_owned(), outcome.into());
        line.insert("operator".to_owned(), operator.as_str().into());
        let event = InputLogEvent::builder().timestamp(now.as_millis()).message(Value::Object(line).to_string()).build()?;
        let put = client.put_log_events().log_group_name(&self.group).log_stream_name(stream).log_events(event);
        put.send().await.map_err(explain("writing into the log"))?;
        Ok(())
    }

    async fn begin(&self, client: &Client, now: Timestamp) -> Result<(String, String)> {
        let operator = self.aws.caller_arn().await?;
        let stream = format!("sluice-{}/{}-{}", self.command, now.date(), ulid::Ulid::generate());
        let made = client.create_log_stream().log_group_name(&self.group).log_stream_name(&stream).send().await;
        made.map_err(explain("making a log stream"))?;
        Ok((stream, operator))
    }
}
