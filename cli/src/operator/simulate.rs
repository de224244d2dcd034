//! Builds the simulation's scenarios from measured times and AWS's quotas.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use simulation::{Deployment, Limits, Scenario, ServiceTime, Times};

use super::cost::{Invocations, LocalRun, Measured};

/// The file of quotas.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Quotas {
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "asOf")]
    _as_of: String,
    limits: Limits,
    #[serde(rename = "sources")]
    _sources: BTreeMap<String, String>,
}

/// The quotas that come with the command, `cli/data/quotas.json`.
///
/// # Errors
/// Never, as a test shows.
pub(crate) fn built_in_limits() -> Result<Limits> {
    limits(include_str!("../../data/quotas.json"))
}

/// Reads a file of quotas.
///
/// # Errors
/// With the place of the mistake. A missing quota is a mistake, and does not mean unlimited.
pub(crate) fn limits(json: &str) -> Result<Limits> {
    Ok(serde_json::from_str::<Quotas>(json).context("the file of quotas cannot be read")?.limits)
}

/// The times of a warm message of 2 KiB, and of an execution without its steps on the local AWS, less its fixed sleep.
///
/// # Errors
/// When a worker was not measured.
pub(crate) fn times(measured: &Measured, cold_ms: f64) -> Result<Times> {
    let case = measured.warm(1, 2048)?;
    let execution_ms = before_the_lake((measured.local_run.execution_ms - LOCAL_SLEEP_MS).max(0.0));
    steps(&case.invocations, execution_ms, 10.0, cold_ms)
}

/// The measured run as a scenario: the same rate, parameters and times, and practically no quotas.
///
/// # Errors
/// When a worker was not measured.
pub(crate) fn local_run(run: &LocalRun, seed: u64) -> Result<Scenario> {
    let plenty = simulation::Limit { per_second: 1e6, burst: 1e6 };
    Ok(Scenario {
        rate: run.rate,
        institutes: 1,
        seconds: run.seconds,
        hot_share: None,
        burst_share: 0.0,
        outage: None,
        is_warm: true,
        seed,
        deployment: Deployment {
            maximum_concurrency: run.maximum_concurrency,
            batch_size: run.batch_size,
            retry_base_seconds: 30.0,
            retry_minutes: 180.0,
        },
        times: steps(
            &run.invocations,
            LOCAL_SLEEP_MS + before_the_lake((run.execution_ms - LOCAL_SLEEP_MS).max(0.0)),
            run.poll_ms,
            0.0,
        )?,
        limits: Limits {
            route: plenty,
            lambda_concurrency: 1_000,
            lambda_scaling: plenty,
            get_id: plenty,
            get_credentials: plenty,
            partition_writes: plenty,
            index_partitions: 4,
            units_per_message: 2.0,
            prefix_puts: plenty,
            sns_publish: plenty,
        },
    })
}

/// The local AWS begins each execution with a sleep, which AWS does not.
const LOCAL_SLEEP_MS: f64 = 150.0;

/// The part of an execution's time outside its steps that passes until the lake has the message: three of the five transitions,
/// those to the first three of four steps.
fn before_the_lake(between_ms: f64) -> f64 {
    between_ms * 3.0 / 5.0
}

fn steps(invocations: &BTreeMap<String, Invocations>, execution_ms: f64, poll_ms: f64, cold_ms: f64) -> Result<Times> {
    let of = |worker: &str| {
        let used = invocations.get(worker).with_context(|| format!("no time of `{worker}` was measured"))?;
        anyhow::Ok(ServiceTime { p50_ms: used.p50_ms, p95_ms: used.p95_ms.max(used.p50_ms) })
    };
    Ok(Times {
        submit: of("submit")?,
        deduplicate: of("deduplicate")?,
        parse: of("parse")?,
        store: of("store")?,
        publish: of("publish")?,
        execution_ms,
        poll_ms,
        cold_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_quotas_that_misses_one_is_refused() {
        let file = include_str!("../../data/quotas.json");
        assert!(built_in_limits().is_ok());
        for name in ["getId", "lambdaConcurrency", "unitsPerMessage"] {
            let (from, to) = (format!("    \"{name}\": {{"), format!("    \"x{name}\": {{"));
            let without = file.replacen(&from, &to, 1).replacen(&format!("    \"{name}\": 1"), &format!("    \"x{name}\": 1"), 1);
            let without = without.replacen(&format!("    \"{name}\": 2"), &format!("    \"x{name}\": 2"), 1);
            assert_eq!(limits(&without).unwrap_err().to_string(), "the file of quotas cannot be read", "{name}");
        }
    }

    /// Both are printed by `sluice simulate --local-run`; docs/SCALE.md has them.
    #[test]
    fn median_and_throughput_of_the_measured_run_are_predicted_within_15_per_cent() {
        let run = Measured::built_in().unwrap().local_run;
        let report = simulation::run(&local_run(&run, 1).unwrap()).unwrap();
        let all = report.all.unwrap();
        for (what, predicted, measured) in
            [("p50", all.p50_seconds, run.p50_seconds), ("stored a second", report.stored_per_second, run.stored_per_second)]
        {
            assert!((predicted / measured - 1.0).abs() <= 0.15, "{what}: {predicted} predicted, {measured} measured");
        }
    }
}
