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

/// The most lines of one answer of CloudWatch Logs.
const PAGE: i32 = 10_000;

/// How many log groups are read at once. CloudWatch Logs takes some five such requests a second of an account.
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

/// From when to when, in milliseconds since 1970; without an end until now.
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

    /// The lines of a time that hold this text; all of them for an empty text. In the order of their times.
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
        // Text in quotes is what each pattern language of CloudWatch Logs takes.
        let pattern = (!text.is_empty()).then(|| format!("\"{text}\""));
        let (mut lines, mut from) = (Vec::new(), period.from);
        loop {
            let request =
                self.client.filter_log_events().log_group_name(group).start_time(from).set_end_time(period.to).limit(PAGE);
            let mut pages = request.set_filter_pattern(pattern.clone()).into_paginator().send();
            let (mut count, mut last) = (0, from);
            while let Some(page) = pages.next().await {
                let page = page.map_err(explain(format!("reading the log `{group}`")))?;
                count = page.events().len();
                for event in page.events() {
                    last = last.max(event.timestamp().unwrap_or_default());
                    lines.extend(event.message().and_then(Line::read).map(|line| (event.timestamp().unwrap_or_default(), line)));
                }
            }
            // A full page without a next token is how the local AWS says that there is more.
            if count < PAGE as usize || last == from {
                return Ok(lines.into_iter().map(|(_, line)| line).collect());
            }
            lines.retain(|(timestamp, _)| *timestamp < last);
            from = last;
        }
    }
}

impl Line {
    /// A worker's line. `None` for what Lambda itself writes.
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

    /// A member as it stands.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// When the invocation ended.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        Timestamp::range_end(self.text("time"))
    }

    /// The line once for each message that it names: its own members, and over them those of the message. A line of one message is
    /// itself.
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
    fn a_line_of_several_messages_is_one_of_each() {
        let line =
            r#"{"worker":"dispatch","outcome":"batch","messages":[{"messageId":"a","outcome":"stored"},{"messageId":"b"}]}"#;
        let lines = Line::read(line).unwrap().by_message();
        let facts: Vec<_> = lines.iter().map(|it| (it.text("worker"), it.text("messageId"), it.text("outcome"))).collect();
        assert_eq!(facts, [("dispatch", "a", "stored"), ("dispatch", "b", "batch")]);
        assert_eq!(Line::read("START RequestId: 7"), None);
        assert_eq!(Line::read(r#"{"worker":"store"}"#).unwrap().by_message().len(), 1);
    }
}
