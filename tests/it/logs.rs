//! What the run wrote to CloudWatch Logs.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::filter_log_events::FilterLogEventsError;
use serde_json::Value;
use sluice::operator::package::Worker;
use sluice_tests::Harness;

use crate::contract::root;

/// The worker of the identity stack.
pub(crate) const ENROLL: &str = "Enroll";

/// The worker that reads as a session of another role.
pub(crate) const SUMMARY: &str = "Summary";

/// The worker of the stack of tables, which works as sessions of another role.
pub(crate) const TABLES: &str = "Tables";

/// The worker of the API stack.
pub(crate) const AUTHORIZE: &str = "Authorize";

/// The workers by the names of their resources, `Submit` for example: the folders of `workers/`, sorted.
pub(crate) fn workers() -> impl Iterator<Item = &'static str> {
    static WORKERS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let workers = Worker::all(&root()).expect("workers/ can be read");
        workers.iter().map(Worker::logical_name).collect()
    });
    WORKERS.iter().map(String::as_str)
}

/// The workers of the pipeline stack.
pub(crate) fn pipeline_workers() -> impl Iterator<Item = &'static str> {
    workers().filter(|worker| ![ENROLL, AUTHORIZE, TABLES].contains(worker))
}

/// One log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) timestamp: i64,
    pub(crate) text: String,
}

/// The clock of log events.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The log group of a worker, `Store` for example.
pub(crate) fn group_of(it: &Harness, worker: &str) -> Result<String> {
    let function = it.outputs.stack_outputs.get(&format!("{worker}FunctionName")).context("the worker has no function")?;
    Ok(format!("/aws/lambda/{function}"))
}

/// The names of all log groups there are.
pub(crate) async fn groups(it: &Harness) -> Result<Vec<String>> {
    let client = Client::new(it.aws.config());
    let mut pages = client.describe_log_groups().into_paginator().items().send();
    let mut names = Vec::new();
    while let Some(group) = pages.next().await {
        names.extend(group?.log_group_name);
    }
    Ok(names)
}

/// All events of a group since then that hold this text; all events for an empty text.
pub(crate) async fn lines(it: &Harness, group: &str, since: i64, text: &str) -> Result<Vec<Line>> {
    let client = Client::new(it.aws.config());
    let pattern = (!text.is_empty()).then(|| format!("\"{text}\""));
    let request = client.filter_log_events().log_group_name(group).start_time(since).set_filter_pattern(pattern);
    let mut pages = request.into_paginator().send();
    let mut lines = Vec::new();
    while let Some(page) = pages.next().await {
        lines.extend(page?.events().iter().map(|event| Line {
            stream: event.log_stream_name().unwrap_or_default().to_owned(),
            timestamp: event.timestamp().unwrap_or_default(),
            text: event.message().unwrap_or_default().to_owned(),
        }));
    }
    Ok(lines)
}

/// Whether a group could not be read because it is no longer there.
pub(crate) fn is_deleted(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|it| it.downcast_ref::<FilterLogEventsError>())
        .any(FilterLogEventsError::is_resource_not_found_exception)
}

/// The workers' own lines among these, as JSON. `Err` for one that is neither theirs nor Lambda's.
pub(crate) fn structured(lines: &[Line]) -> Result<Vec<Value>> {
    let own = lines.iter().filter(|line| !["START ", "END ", "REPORT "].iter().any(|it| line.text.starts_with(it)));
    own.map(|line| {
        let value: Value = serde_json::from_str(&line.text).context("a worker's line is no JSON")?;
        anyhow::ensure!(value.is_object(), "a worker's line is no JSON object");
        Ok(value)
    })
    .collect()
}
