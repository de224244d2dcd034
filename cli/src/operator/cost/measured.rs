//! What the benchmark measured: `cargo bench --workspace --bench pipeline -- --measure cli/data/measured.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The file that the benchmark writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// The time of the measurement.
    pub(crate) measured_at: String,
    /// The memory of each worker, in MB.
    pub(crate) memory_mb: BTreeMap<String, f64>,
    /// How many series of custom metrics the lines made.
    pub(crate) metrics: f64,
    /// How many alarms the templates have.
    pub(crate) alarms: f64,
    /// A run of the local system.
    pub(crate) local_run: LocalRun,
    cases: Vec<Case>,
}

/// One message of a case. All numbers are averages of the case's messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    /// How many messages a request has.
    pub(crate) messages: u32,
    /// The size of each message.
    pub(crate) size_bytes: u64,
    /// `first` of an institute's user, or `warm`.
    pub(crate) state: String,
    /// `store s3:PutObject`, and how often.
    pub(crate) requests: BTreeMap<String, f64>,
    /// By worker.
    pub(crate) invocations: BTreeMap<String, Invocations>,
    /// Bytes in the workers' log groups.
    pub(crate) log_bytes: BTreeMap<String, f64>,
    /// The record of a stored message, as DynamoDB counts it.
    pub(crate) item_bytes: f64,
    /// The number of objects of one message in the lake.
    pub(crate) objects: f64,
    /// The size of these objects in bytes.
    pub(crate) object_bytes: f64,
}

/// Invocations of a worker for one message.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invocations {
    /// The number of invocations; less than one where a batch shares them.
    pub(crate) count: f64,
    /// The sum of their times.
    pub(crate) ms: f64,
    /// The median time.
    pub(crate) p50_ms: f64,
    /// The time that one in twenty exceeds.
    pub(crate) p95_ms: f64,
}

/// A minute at a fixed rate on the local AWS, which the simulation is compared with.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LocalRun {
    /// Messages a second, of one institute.
    pub(crate) rate: f64,
    /// The length of the run.
    pub(crate) seconds: f64,
    /// `MaximumConcurrency` of the local system.
    pub(crate) maximum_concurrency: u32,
    /// Its `DispatchBatchSize`.
    pub(crate) batch_size: u32,
    /// The invocations during the run, by worker.
    pub(crate) invocations: BTreeMap<String, Invocations>,
    /// The time of an execution without its steps, on an idle system, in milliseconds.
    pub(crate) execution_ms: f64,
    /// The time from the 202 to `dispatch`, on an idle system, in milliseconds.
    pub(crate) poll_ms: f64,
    /// The median time from POST to the lake, in seconds.
    pub(crate) p50_seconds: f64,
    /// The time from POST to the lake that one message in a hundred exceeds, in seconds.
    pub(crate) p99_seconds: f64,
    /// Stored messages a second.
    pub(crate) stored_per_second: f64,
}

impl Case {
    /// All requests of an operation, whichever worker makes them: `s3:PutObject`. Compares whole names, since one name may be the
    /// beginning of another.
    pub(crate) fn requests(&self, operation: &str) -> f64 {
        let made = self.requests.iter().filter(|(name, _)| name.split(' ').nth(1).is_some_and(|it| it.starts_with(operation)));
        made.map(|(_, count)| count).sum()
    }
}

impl Measured {
    /// The measurement that this build contains.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub(crate) fn built_in() -> Result<Self> {
        Self::read(include_str!("../../../data/measured.json"))
    }

    /// The measurement in a file, or else the one that this build contains.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn of(file: Option<&Path>) -> Result<Self> {
        match file {
            Some(path) => Self::read(&std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?),
            None => Self::built_in(),
        }
    }

    /// Reads a file that the benchmark wrote.
    ///
    /// # Errors
    /// With the place of the mistake in the file.
    pub(crate) fn read(json: &str) -> Result<Self> {
        let measured: Self = serde_json::from_str(json).context("the file of measured requests cannot be read")?;
        ensure!(!measured.cases.is_empty(), "nothing was measured");
        Ok(measured)
    }

    /// The smallest measured message that is at least this large, in requests of this many messages.
    ///
    /// # Errors
    /// When only smaller messages were measured.
    pub(crate) fn warm(&self, messages: u32, size_bytes: u64) -> Result<&Case> {
        let cases =
            self.cases.iter().filter(|case| case.state == "warm" && case.messages == messages && case.size_bytes >= size_bytes);
        cases.min_by_key(|case| case.size_bytes).with_context(|| {
            let most =
                self.cases.iter().filter(|case| case.state == "warm" && case.messages == messages).map(|it| it.size_bytes).max();
            match most {
                Some(most) => format!("messages of at most {most} bytes were measured, {messages} in a request"),
                None => format!("requests of {messages} messages were not measured"),
            }
        })
    }
}
