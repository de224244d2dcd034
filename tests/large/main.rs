//! Messages of 64 MiB, as large as they may be, go through in three times their memory.
//!
//! A test program of its own: beside other tests the functions, which have 20 s for each message, would be out of time.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that panics has failed")]

#[path = "../it/forge.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod forge;
#[path = "../it/uploads/upload.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod upload;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Charset, MAX_UPLOAD_BYTES, Payload};
use serde_json::json;
use sluice_tests::{Harness, WorkerProcess, adt, unique, worker_processes};

use upload::{put, taken};

/// A message with a document in OBX-5, of `size_bytes` or a few less.
fn document(size_bytes: usize) -> String {
    let head = format!(
        "{}OBR|1||7|11502-2^Laboratory report^LN\rOBX|1|ED|11502-2^Laboratory report^LN||^application^pdf^Base64^",
        adt(&unique(), "DOE")
    );
    let end = "||||||F\r";
    let bytes = (size_bytes - head.len() - end.len()) / 4 * 3;
    let pdf: Vec<u8> = (0..u32::try_from(bytes).unwrap()).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    format!("{head}{}{end}", BASE64_STANDARD.encode(pdf))
}

/// The peak of what a worker's processes had in memory since [`forget_peaks`], in bytes, by the name of the worker.
fn peaks(it: &Harness) -> Result<BTreeMap<String, u64>> {
    let mut peaks = BTreeMap::new();
    for WorkerProcess { pid, worker } in worker_processes(it.outputs)? {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let peak = peaks.entry(worker).or_insert(0);
        *peak = kib.unwrap_or(0).saturating_mul(1024).max(*peak);
    }
    Ok(peaks)
}

fn forget_peaks(it: &Harness) -> Result<()> {
    for WorkerProcess { pid, .. } in worker_processes(it.outputs)? {
        // proc(5): 5 resets the peak. A process that has ended since has none.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
    Ok(())
}

/// Whether no process of these workers had more than three times the largest message in memory since [`forget_peaks`], beside its own
/// code: a worker built for tests has 16 MiB before it has a message.
fn fit_into_memory(it: &Harness, workers: &[&str]) -> Result<()> {
    const MOST_BYTES: u64 = 3 * MAX_UPLOAD_BYTES as u64 + (16 << 20);
    let peaks = peaks(it)?;
    for worker in workers {
        let peak = *peaks.get(*worker).with_context(|| format!("no process of {worker}: {peaks:?}"))?;
        ensure!(peak < MOST_BYTES, "{worker} had {} MiB in memory: {peaks:?}", peak >> 20);
    }
    Ok(())
}

/// One at a time: the functions have 20 s for each message, and the memory of their processes is measured.
static LARGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_message_of_64_mib_is_stored_and_read_byte_for_byte_in_three_times_its_memory() -> Result<()> {
    let _alone = LARGE.lock().await;
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = document(MAX_UPLOAD_BYTES);
    ensure!(message.len() > MAX_UPLOAD_BYTES - 4 && message.len() <= MAX_UPLOAD_BYTES, "{}", message.len());
    forget_peaks(&it)?;
    put(&it, &admin, message.as_bytes()).await?;
    let answer = taken(&it, &admin, message.as_bytes()).await?;
    assert_eq!(answer.status, 202, "{}", answer.json());
    let id = answer.text("messageId");
    let status = it.api.final_status(&id, &admin.token, Duration::from_secs(180)).await?;
    assert_eq!((&status["status"], &status["state"]), (&json!("stored"), &json!("parsed")), "{status}");

    let stored = it.record(&id.parse()?).await?.facts.context("stored")?;
    assert!(stored.json_key.is_some(), "it has a rendition");
    assert_eq!(it.object_versions().await?.len(), 2, "each object is written once");
    let s3 = it.aws.s3();
    let object = s3.get_object().bucket(&stored.bucket).key(&stored.key).send().await?.body.collect().await?.into_bytes();
    assert!(object == message.as_bytes(), "the object differs from what was sent");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let request = client.get(format!("{}/er7/{id}", it.outputs.api_url));
    let answer = client::http::send(request.bearer_auth(secrecy::ExposeSecret::expose_secret(&admin.token))).await?;
    assert_eq!(answer.status, 307);
    let url = answer.headers["location"].to_str()?.to_owned();
    assert!(reqwest::get(url).await?.bytes().await? == message.as_bytes(), "other bytes");

    fit_into_memory(&it, &["Submit", "Parse", "Store", "Fetch"])
}

#[tokio::test]
async fn a_message_of_64_mib_is_held_and_released_in_three_times_its_memory() -> Result<()> {
    let _alone = LARGE.lock().await;
    let it = Harness::new()?;
    let (admin, stranger) = (it.admin().await?, it.caller("", "").await?);
    let message = document(MAX_UPLOAD_BYTES);
    let mut envelope = forge::envelope(&it, &it.institute, &message, &stranger.token).await?;
    let (bucket, key) = (it.outputs.overflow_bucket.clone(), domain::object::overflow_key(&forge::submitted(&envelope)));
    it.aws.s3().put_object().bucket(&bucket).key(&key).body(message.clone().into_bytes().into()).send().await?;
    envelope.payload = Payload::Overflow { bucket, key, charset: Charset::UTF_8 };
    forget_peaks(&it)?;
    forge::enqueue(&it, &envelope).await?;
    let id = envelope.message_id.as_str();
    let ends_as = async |expected: &str| {
        let status = it.api.final_status(id, &admin.token, Duration::from_secs(180)).await?;
        ensure!(status["status"] == expected, "{status}");
        Ok(())
    };
    ends_as("held").await?;
    assert_eq!(it.api.release(id, &admin.token).await?.status, 202);
    ends_as("stored").await?;
    let stored = it.record(&envelope.message_id).await?.facts.context("stored")?;
    let object = it.aws.s3().get_object().bucket(&stored.bucket).key(&stored.key).send().await?.body.collect().await?;
    assert!(object.into_bytes() == message.as_bytes(), "the object differs from what was sent");
    fit_into_memory(&it, &["Parse", "Store", "Hold", "Release"])
}
