//! Workers are killed at random moments while messages go through, 10 % of them twice. In the end each is stored once and
//! announced; what was held is stored after one release.
//!
//! A test program of its own: it kills the processes of every test that runs beside it. `SLUICE_KILLS=300 cargo test --workspace
//! --test crashes` kills more often, and with `SLUICE_KILL_DISPATCH=1` also `dispatch`.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "a test that panics has failed")]

#[path = "../it/listen.rs"]
mod listen;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::{Er7, MessageId, Status};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sluice_tests::{Caller, Harness, adt, unique};
use tokio::time::{Instant, sleep};

use listen::Listener;

/// For the whole run: each message may be tried five times, and a claim of a killed worker lapses after 150 s. What `dispatch` held
/// when it was killed returns after the queue's visibility timeout, 15 minutes.
fn deadline() -> Duration {
    Duration::from_secs(if dispatch_too() { 3600 } else { 300 })
}

/// Whether `dispatch` is killed as well, which takes its time.
fn dispatch_too() -> bool {
    std::env::var_os("SLUICE_KILL_DISPATCH").is_some()
}

/// How many messages go through for each process that is killed.
const MESSAGES_A_KILL: usize = 3;

fn kills() -> usize {
    std::env::var_os("SLUICE_KILLS").and_then(|it| it.to_str()?.parse().ok()).unwrap_or(20)
}

/// The processes of this system's workers.
fn workers(it: &Harness) -> Result<Vec<Pid>> {
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let port = endpoint.rsplit(':').next().unwrap_or_default().trim_end_matches('/');
    let folder = format!("ministack-provided-code-{port}/");
    let is_worker = |process: &Path| {
        let read =
            |name| std::fs::read(process.join(name)).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
        let function = read("environ").split('\0').find_map(|it| it.strip_prefix("AWS_LAMBDA_FUNCTION_NAME=").map(str::to_owned));
        read("cmdline").contains(&folder) && function.is_some_and(|name| dispatch_too() || !name.ends_with("-dispatch"))
    };
    let processes = std::fs::read_dir("/proc")?.flatten().filter(|entry| is_worker(&entry.path()));
    Ok(processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect())
}

/// Kills one process after the other, at random moments, until so many were killed.
async fn kill(it: &Harness, count: usize, killed: &AtomicUsize) -> Result<()> {
    while killed.load(Ordering::Relaxed) < count {
        sleep(Duration::from_secs_f64(0.05 + 0.4 * runtime::random())).await;
        let workers = workers(it)?;
        let chosen = (runtime::random() * workers.len() as f64) as usize;
        // One that has ended by itself meanwhile does not count.
        if workers.get(chosen).is_some_and(|pid| kill_process(*pid, Signal::KILL).is_ok()) {
            killed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Posts a message as a sender does: again, until the API has it.
async fn post(it: &Harness, caller: &Caller, message: &str) -> Result<MessageId> {
    let began = Instant::now();
    loop {
        match it.submit(caller, message).await {
            Ok(answer) if [202, 409].contains(&answer.status.as_u16()) => return Ok(Er7::canonical(message)?.message_id()),
            Ok(answer) => ensure!(answer.is_busy(), "{}: {}", answer.status, answer.json()),
            Err(_) => {}
        }
        ensure!(began.elapsed() < deadline(), "the API does not take the message");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_stored_and_announced_though_workers_are_killed() -> Result<()> {
    let it = Arc::new(Harness::new()?);
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute], "event": ["stored"] }), &[&it.institute]).await?;
    let kills = kills();
    let mut messages: Vec<String> = (0..kills * MESSAGES_A_KILL).map(|_| adt(&unique(), "DOE")).collect();
    messages.extend_from_within(..messages.len() / 10);

    let killed = Arc::new(AtomicUsize::new(0));
    let killing = {
        let (it, killed) = (Arc::clone(&it), Arc::clone(&killed));
        tokio::spawn(async move { kill(&it, kills, &killed).await })
    };
    let posting = stream::iter(&messages).map(|message| post(&it, &admin, message)).buffer_unordered(4);
    let accepted: BTreeSet<MessageId> = posting.try_collect().await?;
    killing.await??;
    assert_eq!((accepted.len(), killed.load(Ordering::Relaxed)), (kills * MESSAGES_A_KILL, kills));

    let began = Instant::now();
    loop {
        let records = it.all_records().await?;
        assert_eq!(records.len(), accepted.len(), "a record for each message, and no other");
        let left: Vec<_> = records.iter().filter(|it| it.status != Status::Stored).map(|it| (it.status, &it.error)).collect();
        if left.is_empty() {
            break;
        }
        ensure!(began.elapsed() < deadline(), "{} are not stored: {left:?}", left.len());
        // What ran out of tries is held, and released by whoever may write.
        it.api.release_held(&json!({}), &admin.token).await.ok();
        sleep(Duration::from_secs(1)).await;
    }
    for record in it.all_records().await? {
        let facts = record.facts.context("stored")?;
        let get = it.aws.s3().get_object().bucket(&facts.bucket).key(&facts.key).set_version_id(facts.version_id);
        let object = get.send().await?.body.collect().await?.into_bytes();
        assert_eq!(MessageId::of_canonical(&object), record.message_id, "the record names the message");
    }
    // Keys, not versions: a step that was killed has written its objects again.
    let prefix = format!("source={}/protocol=hl7v2/format=er7/", it.institute);
    let keys = it.aws.s3().list_objects_v2().bucket(&it.outputs.bucket).prefix(prefix).into_paginator().send();
    let pages = keys.try_collect().await?;
    assert_eq!(pages.iter().map(|page| page.contents().len()).sum::<usize>(), accepted.len());
    loop {
        let told: BTreeSet<_> = listener.hear(0).await?.iter().filter_map(|it| it.event["subject"].as_str()).collect();
        if told == accepted.iter().map(MessageId::as_str).collect() {
            break;
        }
        ensure!(began.elapsed() < deadline(), "{} of {} were announced", told.len(), accepted.len());
    }
    assert_eq!(it.dead_letters_of_institute().await?, 0);
    let report = it.audit_until_clean(vec![it.institute.parse()?]).await?;
    assert_eq!(report.checked.records, accepted.len() as u64);
    Ok(())
}
