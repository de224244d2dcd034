//! The workers' log lines, read with the operator's own AWS credentials.

use anyhow::Result;
use aws_sdk_cloudwatchlogs::Client;
use domain::Timestamp;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Map, Value};

use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// How many log groups are read at once. CloudWatch Logs takes some five such requests a second from an account.
const CONCURRENCY: usize = 4;

/// The log groups of the workers.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    client: Client,
    groups: Vec<String>,
}

/// One line of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Line(Map<String, Value>);

/// A period, in milliseconds since 1970; without an end it lasts until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// The first millisecond.
    pub(crate) from: i64,
    /// The last one.
    pub(crate) to: Option<i64>,
}

impl Lines {
    /// The groups of all workers that the deployment's stacks name.
    pub(crate) fn of_all(aws: &Aws, outputs: &Outputs) -> Self {
        Self::of(aws, outputs, |_| true)
    }

    /// The groups of the workers whose names are chosen: `Submit`, for example.
    pub(crate) fn of(aws: &Aws, outputs: &Outputs, chosen: impl Fn(&str) -> bool) -> Self {
        let functions = outputs.stack_outputs.iter().filter_map(|(name, function)| {
            let worker = name.strip_suffix("FunctionName")?;
            chosen(worker).then(|| format!("/aws/lambda/{function}"))
        });
        Self { client: Client::new(aws.config()), groups: functions.collect() }
    }

    /// The lines of a period that hold this text, ordered by time; all lines for an empty text.
    ///
    /// # Errors
    /// When CloudWatch Logs refuses.
    pub(crate) async fn find(&self, text: &str, period: Period) -> Result<Vec<Line>> {
        let found: Vec<Vec<Line>> = stream::iter(&self.groups)
            .map(|group| self.of_group(group, text, period))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut lines: Vec<Line> = found.into_iter().flatten().collect();
        lines.sort_by(|one, other| one.text("time").cmp(other.text("time")));
        Ok(lines)
    }

    async fn of_group(&self, group: &str, text: &str, period: Period) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        let keep = |line: &str| {
            lines.extend(Line::read(line));
            Ok(())
        };
        each(&self.client, group, text, period, keep).await?;
        Ok(lines)
    }
}

/// Calls `handle` with each line of a log group that holds this text, ordered by time; with every line for an empty text.
///
/// # Errors
/// When CloudWatch Logs refuses, and the errors of `handle`.
pub(crate) async fn each(
    client: &Client,
    group: &str,
    text: &str,
    period: Period,
    mut handle: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    // Every pattern language of CloudWatch Logs takes a text in quotes.
    let pattern = (!text.is_empty()).then(|| format!("\"{text}\""));
    let request = client.filter_log_events().log_group_name(group).start_time(period.from).set_end_time(period.to);
    let mut pages = request.set_filter_pattern(pattern).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(explain(format!("reading the log `{group}`")))?;
        page.events().iter().filter_map(|event| event.message()).try_for_each(&mut handle)?;
    }
    Ok(())
}

impl Line {
    /// Reads a worker's line. `None` for the lines that Lambda itself writes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// A member that is text; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A member that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// A member as raw JSON.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// When the invocation ended.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        Timestamp::range_end(self.text("time"))
    }

    /// Splits a line by the messages that it names: each part has the line's own members, overridden by those of the message. A
    /// line about one message stays as it is.
    pub(crate) fn by_message(&self) -> Vec<Self> {
        let messages: Vec<_> = self.0.get("messages").and_then(Value::as_array).into_iter().flatten().collect();
        if messages.is_empty() {
            return vec![self.clone()];
        }
        let one = |message: &Value| {
            let mut line = self.0.clone();
            line.remove("messages");
            line.extend(message.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
            Self(line)
        };
        messages.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_several_messages_becomes_one_line_for_each() {
        let line =
            r#"{"worker":"dispatch","outcome":"batch","messages":[{"messageId":"a","outcome":"stored"},{"messageId":"b"}]}"#;
        let lines = Line::read(line).unwrap().by_message();
        let facts: Vec<_> = lines.iter().map(|it| (it.text("worker"), it.text("messageId"), it.text("outcome"))).collect();
        assert_eq!(facts, [("dispatch", "a", "stored"), ("dispatch", "b", "batch")]);
        assert_eq!(Line::read("START RequestId: 7"), None);
        assert_eq!(Line::read(r#"{"worker":"store"}"#).unwrap().by_message().len(), 1);
    }
}
