//! The numbers in the workers' lines, as CloudWatch reads them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::logs;

/// Metric, dimensions with their values, and value of each number in a line; an error where it is not the embedded metric format.
fn numbers(line: &Value) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let Some(aws) = line.get("_aws") else { return Ok(found) };
    ensure!(aws["Timestamp"].is_u64(), "the time is a number of milliseconds");
    for directive in aws["CloudWatchMetrics"].as_array().context("directives")? {
        ensure!(directive["Namespace"] == "Sluice");
        for metric in directive["Metrics"].as_array().context("metrics")? {
            let name = metric["Name"].as_str().context("a name")?;
            let value = &line[name];
            ensure!(value.is_number() || value.is_array(), "{name} has a number");
            for set in directive["Dimensions"].as_array().context("dimensions")? {
                let set = set.as_array().context("a set")?;
                let set: Result<Vec<String>> = set
                    .iter()
                    .map(|it| {
                        let key = it.as_str().context("a dimension")?;
                        Ok(format!("{key}={}", line[key].as_str().context("a dimension's value is a text")?))
                    })
                    .collect();
                let value = if metric["Unit"] == "Count" { value.to_string() } else { metric["Unit"].to_string() };
                found.insert(format!("{name} {} {value}", set?.join(",")));
            }
        }
    }
    Ok(found)
}

/// The numbers in the lines of a worker that hold this text, once there are some.
async fn of(it: &Harness, worker: &str, since: i64, text: &str) -> Result<BTreeSet<String>> {
    let group = logs::group_of(it, worker)?;
    let began = tokio::time::Instant::now();
    loop {
        let lines = logs::structured(&logs::lines(it, &group, since, text).await?)?;
        let found: Result<Vec<BTreeSet<String>>> = lines.iter().map(numbers).collect();
        let found: BTreeSet<String> = found?.into_iter().flatten().filter(|it| !it.starts_with("ColdStart")).collect();
        if !found.is_empty() || began.elapsed() > DEADLINE {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn set(rows: &[&str]) -> BTreeSet<String> {
    rows.iter().map(|&row| row.to_owned()).collect()
}

#[tokio::test]
async fn each_message_is_counted_by_stage_and_listed_institute() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let listed = it.outputs.user("admin@general-hospital.example").context("a user")?;
    let listed = Caller { token: client::sign_in::sign_in(&it.aws, &it.outputs.client_id, listed).await? };
    for (caller, institute) in [(it.admin().await?, "other"), (listed, "general-hospital")] {
        let message = adt(&unique(), "DOE");
        let (message_id, _) = it.store(&caller, &message).await?;
        let by = |metric: &str, value: &str| {
            ["".to_owned(), format!(",institute={institute}")].map(|more| format!("{metric} stage=sluice{more} {value}"))
        };
        let expected = [by("Accepted", "1"), by("Bytes", "\"Bytes\"")].concat().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(of(&it, "Submit", since, message_id.as_str()).await?, expected);
        let expected = [by("Stored", "1"), by("TimeToStored", "\"Milliseconds\"")].concat().into_iter().collect();
        assert_eq!(of(&it, "Publish", since, message_id.as_str()).await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn refusals_are_counted_by_their_status() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let answer = it.api.submit(b"%%%".to_vec(), "image/png", Some(&it.admin().await?.token)).await?;
    assert_eq!(answer.status, 415);
    let expected = set(&["Rejected stage=sluice 1", "Rejected stage=sluice,httpStatus=415 1"]);
    assert!(of(&it, "Submit", since, &answer.text("traceId")).await?.is_superset(&expected));
    Ok(())
}
