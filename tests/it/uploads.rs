//! Messages too large for a request: uploaded to S3 by a presigned URL, then submitted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::http::{Answer, JSON};
use domain::{Charset, Er7, MAX_UPLOAD_BYTES, Payload, UploadId};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice_tests::{Caller, Harness, WorkerProcess, adt, unique, worker_processes};

use crate::contract::root;
use crate::forge;

async fn announce(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Answer> {
    let body = json!({ "size": bytes.len(), "sha256": UploadId::of(bytes) });
    client::http::send(it.api.request(Method::POST, "/er7/uploads", Some(&caller.token)).json(&body)).await
}

async fn take(it: &Harness, token: Option<&SecretString>, id: &str) -> Result<Answer> {
    client::http::send(it.api.request(Method::POST, &format!("/er7/uploads/{id}"), token).header("accept", JSON)).await
}

/// Submits what [`put`] has uploaded.
pub(crate) async fn taken(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Answer> {
    take(it, Some(&caller.token), &UploadId::of(bytes).to_string()).await
}

/// The URL of an upload, and the headers that it needs.
struct Presigned {
    url: String,
    headers: BTreeMap<String, String>,
}

impl Presigned {
    async fn of(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Self> {
        let answer = announce(it, caller, bytes).await?;
        ensure!(answer.status == 201, "{}: {}", answer.status, answer.json());
        let headers = serde_json::from_value(answer.json()["headers"].clone())?;
        Ok(Self { url: answer.text("url"), headers })
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.insert(name.to_owned(), value.to_owned());
        Self { url: self.url.clone(), headers }
    }

    fn without(&self, name: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.remove(name);
        Self { url: self.url.clone(), headers }
    }

    /// The status of the PUT.
    async fn put(&self, bytes: &[u8]) -> Result<u16> {
        let request =
            self.headers.iter().fold(reqwest::Client::new().put(&self.url), |put, (name, value)| put.header(name, value));
        Ok(request.body(bytes.to_vec()).send().await?.status().as_u16())
    }
}

/// Uploads these bytes, and does not submit them.
pub(crate) async fn put(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<()> {
    let status = Presigned::of(it, caller, bytes).await?.put(bytes).await?;
    ensure!(status == 200, "S3 answered {status}");
    Ok(())
}

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

#[tokio::test]
async fn a_presigned_url_takes_the_announced_bytes_once_and_no_others() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    let other = adt(&unique(), "ROE").into_bytes();
    let presigned = Presigned::of(&it, &admin, &message).await?;

    assert_eq!((other.len(), presigned.put(&other).await?), (message.len(), 400), "other bytes");
    let hash = UploadId::of(&other).checksum();
    assert_eq!(presigned.with("x-amz-checksum-sha256", &hash).put(&other).await?, 403, "other bytes and their hash");
    assert_eq!(presigned.without("x-amz-checksum-sha256").put(&other).await?, 403, "other bytes without a hash");
    let longer = [message.as_slice(), b"NTE|1\r"].concat();
    assert_eq!(presigned.with("content-length", &longer.len().to_string()).put(&longer).await?, 403, "another size");
    assert_eq!(presigned.without("if-none-match").put(&message).await?, 403, "over what is there");
    let elsewhere = |from: &str, to: &str| Presigned { url: presigned.url.replace(from, to), headers: presigned.headers.clone() };
    assert_eq!(elsewhere("_uploads/", "").put(&message).await?, 403, "another key");
    assert_eq!(elsewhere("X-Amz-Expires=900", "X-Amz-Expires=90000").put(&message).await?, 403, "for longer");
    assert_eq!(taken(&it, &admin, &message).await?.status, 404, "nothing of this is there");

    assert_eq!(presigned.put(&message).await?, 200);
    assert_eq!(presigned.put(&message).await?, 412, "a second time");
    assert_eq!(Presigned::of(&it, &admin, &message).await?.put(&message).await?, 412, "by another URL");
    let answer = taken(&it, &admin, &message).await?;
    assert_eq!(answer.status, 202, "{}", answer.json());
    Ok(())
}

#[tokio::test]
async fn an_upload_is_of_its_uploader_alone() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    put(&it, &admin, &message).await?;
    let id = UploadId::of(&message).to_string();

    let never = "0".repeat(64);
    for other in [it.admin().await?, elsewhere.admin().await?, it.caller("", &elsewhere.institute).await?] {
        let [theirs, nobodys] = [&id, &never].map(|id| take(&it, Some(&other.token), id));
        let (theirs, nobodys) = (theirs.await?, nobodys.await?);
        assert_eq!((theirs.status.as_u16(), theirs.text("type").as_str()), (404, "urn:sluice:problem:no-such-upload"));
        assert_eq!(sluice_tests::without_trace(&theirs), sluice_tests::without_trace(&nobodys));
    }
    let reader = it.caller(&it.institute, "").await?;
    it.is_refused_route(&take(&it, Some(&reader.token), &id).await?)?;
    it.is_refused_route(&announce(&it, &reader, &message).await?)?;
    assert_eq!(take(&it, None, &id).await?.status, 401);
    assert_eq!((it.records().await?, elsewhere.records().await?), (0, 0));
    assert_eq!(taken(&it, &admin, &message).await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_not_completed_leaves_no_record_and_goes_after_a_day() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    assert_eq!(announce(&it, &admin, &message).await?.status, 201);
    assert_eq!(taken(&it, &admin, &message).await?.status, 404);
    put(&it, &admin, &message).await?;
    assert_eq!(it.records().await?, 0);

    // The local S3 has no lifecycle.
    let core = sluice_tests::template::template(&root().join("infra/core.yaml"))?;
    let rules =
        core["Resources"]["OverflowBucket"]["Properties"]["LifecycleConfiguration"]["Rules"].as_array().context("rules")?;
    let uploads: Vec<_> = rules.iter().filter(|it| it["Prefix"] == domain::object::UPLOADS).collect();
    let [rule] = uploads[..] else { panic!("{rules:?}") };
    assert_eq!((&rule["Status"], rule["ExpirationInDays"].to_string().trim_matches('"')), (&json!("Enabled"), "1"));
    Ok(())
}

#[tokio::test]
async fn an_upload_and_a_body_with_the_same_message_are_one_message() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let (message_id, _) = it.store(&admin, &message).await?;
    let framed = format!("\u{b}{message}\u{1c}\r").into_bytes();
    put(&it, &admin, &framed).await?;
    let answer = taken(&it, &admin, &framed).await?;
    assert_eq!((answer.status.as_u16(), answer.text("messageId")), (409, message_id.to_string()));

    let batch = [adt(&unique(), "DOE"), adt(&unique(), "ROE")];
    let body = batch.concat().into_bytes();
    put(&it, &admin, &body).await?;
    let answer = taken(&it, &admin, &body).await?;
    assert_eq!((answer.status.as_u16(), &answer.json()["queued"]), (202, &json!(2)));
    for message in &batch {
        let id = Er7::canonical(message)?.message_id().to_string();
        assert_eq!(it.api.final_status(&id, &admin.token, sluice_tests::DEADLINE).await?["status"], "stored");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_request_for_an_upload_gets_a_problem_document_that_does_not_quote_it() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let ask = async |body: Value| {
        client::http::send(it.api.request(Method::POST, "/er7/uploads", Some(&admin.token)).json(&body)).await
    };
    let hash = "0".repeat(64);
    for (body, status) in [
        (json!({ "size": MAX_UPLOAD_BYTES + 1, "sha256": hash }), 413),
        (json!({ "size": 0, "sha256": hash }), 400),
        (json!({ "size": 7, "sha256": "SECRET" }), 400),
        (json!(["SECRET"]), 400),
    ] {
        let answer = ask(body.clone()).await?;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.text("type").starts_with("urn:sluice:problem:") && !answer.json().to_string().contains("SECRET"));
    }
    assert_eq!(take(&it, Some(&admin.token), "SECRET").await?.text("type"), "urn:sluice:problem:invalid-upload-id");
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

/// Of messages of 64 MiB there is one at a time: the functions have 20 s for each, and one measures the memory of their processes.
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
