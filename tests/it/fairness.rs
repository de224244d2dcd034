//! One institute's backlog does not hold up another institute's message.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catalog::Allowance;
use domain::{Status, Timestamp};
use sluice_tests::{DEADLINE, Harness, adt, unique};
use tokio::time::{Instant, sleep};

/// How many messages the first institute has waiting.
const BACKLOG: usize = 200;

/// When each message of the institute was stored, once all of that many are.
async fn all_stored(it: &Harness, count: usize) -> Result<Vec<Timestamp>> {
    let began = Instant::now();
    loop {
        let records = it.all_records().await?;
        let stored = records.iter().filter(|record| record.status == Status::Stored);
        let times: Vec<_> = stored.filter_map(|record| Some(record.facts.as_ref()?.stored_at)).collect();
        if times.len() == count {
            return Ok(times);
        }
        ensure!(began.elapsed() < DEADLINE * 5, "{} of {count} are stored", times.len());
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_message_is_stored_before_most_of_another_institutes_backlog() -> Result<()> {
    let (busy, quiet) = (Harness::new()?, Harness::new()?);
    let (busy_writer, quiet_writer) = (busy.admin().await?, quiet.admin().await?);
    let messages: Vec<String> = (0..BACKLOG).map(|_| adt(&unique(), "DOE")).collect();
    busy.submit_batch(&busy_writer, &messages).await?;

    // It comes last.
    let (message_id, _) = quiet.store(&quiet_writer, &adt(&unique(), "ROE")).await?;
    let stored_at = quiet.record(&message_id).await?.facts.context("stored")?.stored_at;
    let later = all_stored(&busy, BACKLOG).await?.into_iter().filter(|time| *time > stored_at).count();
    assert!(later > BACKLOG / 2, "only {later} of {BACKLOG} were stored after the message that came last");
    Ok(())
}

#[tokio::test]
async fn a_large_body_counts_with_each_of_its_messages() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let (catalog, source) = (it.catalog(), it.institute.parse()?);
    let allowance = Allowance { per_second: 100, burst: 20_000 };
    let now = runtime::now();
    for _ in 0..4 {
        assert_eq!(catalog.take_allowance(&source, 5000, allowance, now).await?, None);
    }
    // All of it is spent: 50 s give as many messages as the body has.
    assert_eq!(catalog.take_allowance(&source, 5000, allowance, now).await?, Some(51));
    assert_eq!(catalog.take_allowance(&source, 5000, allowance, now.plus(Duration::from_secs(51))).await?, None);
    assert_eq!(catalog.take_allowance(&source, 100, allowance, now.plus(Duration::from_secs(51))).await?, None);
    assert_eq!(catalog.take_allowance(&source, 100, allowance, now.plus(Duration::from_secs(51))).await?, Some(2));
    // After a while it is whole again, and another institute has one of its own.
    assert_eq!(catalog.take_allowance(&source, 20_000, allowance, now.plus(Duration::from_secs(600))).await?, None);
    assert_eq!(catalog.take_allowance(&elsewhere.institute.parse()?, 5000, allowance, now).await?, None);
    Ok(())
}
