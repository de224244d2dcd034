//! A message costs what `sluice cost` computes with: the requests and the log that the benchmark measured (`cli/data/measured.json`).

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::logs;

/// The workers that a message passes through.
const WAY: [&str; 6] = ["Submit", "Dispatch", "Deduplicate", "Parse", "Store", "Publish"];

/// The size of the measured message.
const SIZE_BYTES: usize = 2048;

/// AWS requests and bytes of log.
#[derive(Debug)]
struct Cost {
    requests: f64,
    log_bytes: f64,
}

/// What the benchmark measured for a warm message.
fn measured() -> Result<Cost> {
    let file: Value = serde_json::from_str(include_str!("../../cli/data/measured.json"))?;
    let is_it = |case: &&Value| case["messages"] == 1 && case["sizeBytes"] == SIZE_BYTES && case["state"] == "warm";
    let case = file["cases"].as_array().and_then(|cases| cases.iter().find(is_it)).context("the case")?;
    let sum = |member: &str| -> Result<f64> {
        case[member].as_object().context("a map")?.values().map(|it| it.as_f64().context("a number")).sum()
    };
    Ok(Cost { requests: sum("requests")?, log_bytes: sum("logBytes")? })
}

/// Sends a message, and adds up its lines in the log of each worker.
async fn cost(it: &Harness, caller: &Caller) -> Result<Cost> {
    let message = adt(&unique(), "DOE");
    let note = SIZE_BYTES - message.len() - "NTE|1||\r".len();
    let (since, (message_id, _)) = (logs::now(), it.store(caller, &format!("{message}NTE|1||{}\r", "x".repeat(note))).await?);
    let mut cost = Cost { requests: 0.0, log_bytes: 0.0 };
    for worker in WAY {
        let (group, began) = (logs::group_of(it, worker)?, tokio::time::Instant::now());
        let lines = loop {
            let mut lines = logs::lines(it, &group, since, message_id.as_str()).await?;
            lines.retain(|line| line.text.starts_with('{'));
            if !lines.is_empty() || began.elapsed() > DEADLINE {
                break lines;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        anyhow::ensure!(!lines.is_empty(), "{worker} has no line of the message");
        for (line, text) in logs::structured(&lines)?.iter().zip(&lines) {
            cost.requests += line["awsRequests"].as_array().context("the requests of a line")?.len() as f64;
            cost.log_bytes += text.text.trim_end().len() as f64;
        }
    }
    Ok(cost)
}

/// Only the cheapest of ten counts. The local AWS runs several processes of each worker, and each begins with requests for keys and credentials;
/// a busy machine adds tries.
#[tokio::test]
async fn a_message_takes_at_most_a_tenth_more_requests_and_log_than_the_benchmark_measured() -> Result<()> {
    let (it, before) = (Harness::new()?, measured()?);
    let caller = it.admin().await?;
    let mut now = cost(&it, &caller).await?;
    for _ in 1..10 {
        let next = cost(&it, &caller).await?;
        now = Cost { requests: now.requests.min(next.requests), log_bytes: now.log_bytes.min(next.log_bytes) };
    }
    assert!(now.requests <= before.requests * 1.1 && now.log_bytes <= before.log_bytes * 1.1, "{now:?}, and before {before:?}");
    assert!(
        now.requests >= before.requests * 0.9 && now.log_bytes >= before.log_bytes * 0.9,
        "measure again: {now:?}, and before {before:?}"
    );
    Ok(())
}
