//! Workers are killed at random moments while messages go through, 10 % of them twice. In the end each is stored once and
//! announced; what was held is stored after one release. And without the pipeline: each message that the API accepted is in the queue.
//! And workers are frozen between two invocations, as Lambda freezes them.
//!
//! A test program of its own: it kills the processes of every test that runs beside it. `SLUICE_KILLS=300 cargo test --workspace
//! --test crashes` kills more often, and with `SLUICE_KILL_DISPATCH=1` also `dispatch`. `SLUICE_MESSAGES=20000` says how many messages
//! go through.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a test that panics has failed, and its output is a result"
)]

#[path = "../it/attacks/call.rs"]
mod call;
#[path = "../it/listen.rs"]
mod listen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use domain::{Envelope, Er7, MessageId, Status};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sluice_tests::{Caller, DEADLINE, Harness, WorkerProcess, adt, unique, worker_processes};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use call::Call;
use listen::Listener;

/// One test at a time kills the workers.
static ALONE: Mutex<()> = Mutex::const_new(());

/// For the whole run: each message may be tried five times, and a claim of a killed worker lapses after 150 s. What `dispatch` held
/// when it was killed returns after the queue's visibility timeout, 15 minutes. The local system stores some messages a second.
fn deadline() -> Duration {
    Duration::from_secs(if dispatch_too() { 3600 } else { 300 }) + Duration::from_millis(300) * u32::try_from(messages()).unwrap()
}

/// Whether `dispatch` is killed as well, which takes its time.
fn dispatch_too() -> bool {
    std::env::var_os("SLUICE_KILL_DISPATCH").is_some()
}

/// The worker that takes messages from the queue.
const DISPATCH: &str = "Dispatch";

/// How many messages go through for each process that is killed.
const MESSAGES_A_KILL: usize = 3;

/// How many messages are posted with one ID token. It ends after an hour, in which the local system must store them.
const MESSAGES_A_TOKEN: usize = 1000;

fn number(variable: &str) -> Option<usize> {
    std::env::var_os(variable).and_then(|it| it.to_str()?.parse().ok())
}

fn kills() -> usize {
    number("SLUICE_KILLS").unwrap_or(20)
}

fn messages() -> usize {
    number("SLUICE_MESSAGES").unwrap_or(kills() * MESSAGES_A_KILL)
}

/// Kills one process after the other, at random moments, until so many were killed. `longest` is the longest pause between two, in
/// seconds.
async fn kill(it: &Harness, count: usize, longest: f64, killed: &AtomicUsize) -> Result<()> {
    while killed.load(Ordering::Relaxed) < count {
        sleep(Duration::from_secs_f64(longest * (0.1 + 0.9 * runtime::random()))).await;
        let mut workers = worker_processes(it.outputs)?;
        workers.retain(|it| dispatch_too() || it.worker != DISPATCH);
        let chosen = (runtime::random() * workers.len() as f64) as usize;
        // One that has ended by itself meanwhile does not count.
        if workers.get(chosen).is_some_and(|it| kill_process(it.pid, Signal::KILL).is_ok()) {
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
    let _alone = ALONE.lock().await;
    let it = Arc::new(Harness::new()?);
    let mut listener = Listener::new(&it, json!({ "source": [it.institute], "event": ["stored"] }), &[&it.institute]).await?;
    let kills = kills();
    let mut messages: Vec<String> = (0..messages()).map(|_| adt(&unique(), "DOE")).collect();
    messages.extend_from_within(..messages.len() / 10);

    let killed = Arc::new(AtomicUsize::new(0));
    let killing = {
        let (it, killed) = (Arc::clone(&it), Arc::clone(&killed));
        tokio::spawn(async move { kill(&it, kills, 0.45, &killed).await })
    };
    let mut accepted = BTreeSet::new();
    for messages in messages.chunks(MESSAGES_A_TOKEN) {
        let admin = it.admin().await?;
        let posting = stream::iter(messages).map(|message| post(&it, &admin, message)).buffer_unordered(4);
        accepted.extend(posting.try_collect::<Vec<MessageId>>().await?);
    }
    killing.await??;
    assert_eq!((accepted.len(), killed.load(Ordering::Relaxed)), (self::messages(), kills));

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
        if left.iter().any(|(status, _)| *status == Status::Held) {
            it.api.release_held(&json!({}), &it.admin().await?.token).await.ok();
        }
        // Its queue does not grow, nor is the table read all the time.
        listener.hear(0).await?;
        sleep(Duration::from_millis(1000 + records.len() as u64)).await;
    }
    let (stored, s3) = (it.all_records().await?, &it.aws.s3());
    let objects = stream::iter(stored).map(|record| async move {
        let facts = record.facts.context("stored")?;
        let get = s3.get_object().bucket(&facts.bucket).key(&facts.key).set_version_id(facts.version_id);
        let object = get.send().await?.body.collect().await?.into_bytes();
        ensure!(MessageId::of_canonical(&object) == record.message_id, "the record names the message");
        Ok(())
    });
    objects.buffer_unordered(4).try_collect::<()>().await?;
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
    // A repeated step publishes its event again under the same id. Two ids would be two ends of one message.
    let mut ends: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for heard in listener.hear(0).await? {
        ends.entry(heard.event["subject"].as_str().context("a subject")?).or_default().insert(heard.id());
    }
    let doubled: Vec<_> = ends.values().filter(|ids| ids.len() != 1).collect();
    ensure!(doubled.is_empty(), "stored more than once: {doubled:?}");
    assert_eq!(ends.len(), accepted.len());
    Ok(())
}

/// How many connections of a process to the endpoint are open at both ends.
fn open_connections(pid: Pid, port: u16) -> usize {
    let inodes: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| Some(it.path().read_link().ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    // proc(5), /proc/net/tcp: number, local address, remote address, state (01 is ESTABLISHED), and the inode as the tenth.
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let is_open = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(2).is_some_and(|it| it.ends_with(&format!(":{port:04X}")))
            && columns.get(3) == Some(&"01")
            && columns.get(9).is_some_and(|it| inodes.contains(*it))
    };
    table.lines().filter(is_open).count()
}

/// All workers, frozen; `drop` continues them. If this program is killed meanwhile, `kill -CONT` does.
struct Frozen(Vec<WorkerProcess>);

impl Frozen {
    fn all(it: &Harness) -> Result<Self> {
        let frozen = Self(worker_processes(it.outputs)?);
        for worker in &frozen.0 {
            match kill_process(worker.pid, Signal::STOP) {
                // The local AWS has ended it since, for it was idle.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for worker in &self.0 {
            let _ = kill_process(worker.pid, Signal::CONT);
        }
    }
}

/// What `dispatch` logged of a message: how often it was received, which try this was, and its outcome.
async fn dispatched(it: &Harness, message_id: &MessageId) -> Result<Vec<[String; 3]>> {
    let client = aws_sdk_cloudwatchlogs::Client::new(it.aws.config());
    let group = format!("/aws/lambda/{}", it.outputs.stack_output("DispatchFunctionName")?);
    let lines = client.filter_log_events().log_group_name(group).filter_pattern(format!("\"{message_id}\"")).send().await?;
    let mut found = Vec::new();
    for line in lines.events() {
        let line: Value = serde_json::from_str(line.message().unwrap_or_default())?;
        let parts = line["messages"].as_array().context("messages")?.iter();
        let text = |part: &Value, name: &str| part[name].as_str().map_or_else(|| part[name].to_string(), str::to_owned);
        let mine = parts.filter(|part| part["messageId"] == message_id.as_str());
        found.extend(mine.map(|part| ["receives", "tries", "outcome"].map(|name| text(part, name))));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_needs_one_try_though_all_workers_were_frozen_until_their_connections_died() -> Result<()> {
    let _alone = ALONE.lock().await;
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let port = endpoint.trim_end_matches('/').rsplit(':').next().context("a port")?.parse()?;
    it.store(&admin, &adt(&unique(), "DOE")).await?;
    it.queue_drained().await?;

    let frozen = Frozen::all(&it)?;
    let open = || frozen.0.iter().map(|it| open_connections(it.pid, port)).sum::<usize>();
    ensure!(open() > 0, "no worker kept a connection, so that none could die");
    let began = Instant::now();
    while open() > 0 {
        ensure!(began.elapsed() < DEADLINE, "the local AWS keeps connections on which nothing comes");
        sleep(Duration::from_millis(100)).await;
    }
    drop(frozen);

    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let began = Instant::now();
    let tries = loop {
        let found = dispatched(&it, &message_id).await?;
        if !found.is_empty() {
            break found;
        }
        ensure!(began.elapsed() < DEADLINE, "dispatch logs nothing of the message");
        sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(tries, [["1", "1", "stored"]]);
    Ok(())
}

/// The mapping from the queue to `dispatch`, which AWS calls an event source: on or off.
async fn deliver(it: &Harness, is_on: bool) -> Result<()> {
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let root = it.outputs.root_key.as_ref().context("a root key")?.credentials();
    let ask = async |method, path: &str, body: Value| {
        let answer = Call::rest("lambda", method, path, &body).send(endpoint, &it.outputs.region, &root).await?;
        ensure!(answer.status < 300, "{}: {}", answer.status, answer.body);
        Ok(serde_json::from_str::<Value>(&answer.body)?)
    };
    let all = ask("GET", "/2015-03-31/event-source-mappings", json!({})).await?;
    let queue = it.outputs.stack_outputs.get("QueueArn").context("the queue")?;
    let is_of_queue = |mapping: &&Value| mapping["EventSourceArn"] == queue.as_str();
    let mapping = all["EventSourceMappings"].as_array().context("mappings")?.iter().find(is_of_queue).context("the mapping")?;
    let id = mapping["UUID"].as_str().context("an id")?;
    ask("PUT", &format!("/2015-03-31/event-source-mappings/{id}"), json!({ "Enabled": is_on })).await.map(drop)
}

/// The most messages that one POST has.
const BATCH: usize = 500;
/// The most messages of an institute here: as many come at once without being refused (`InstituteMessagesBurst`).
const OF_AN_INSTITUTE: usize = 10_000;

/// So many accepted messages may wait in the queue. The local AWS goes through all of them for each delivery.
const WAITING: usize = 4 * BATCH;

/// Waits until so few of the posted messages are still in the queue that it may take another batch.
async fn room(posted: &AtomicUsize, read: &AtomicUsize) -> Result<()> {
    let began = Instant::now();
    while posted.load(Ordering::SeqCst) > read.load(Ordering::SeqCst) + WAITING {
        ensure!(began.elapsed() < Duration::from_secs(900), "the queue does not give back what the API has accepted");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Posts a batch until the API has each of its messages. Gives their ids.
async fn post_batch(it: &Harness, caller: &Caller, messages: &[String]) -> Result<Vec<MessageId>> {
    let began = Instant::now();
    // A killed worker is a 5xx, or no answer.
    while let Err(error) = it.submit_batch(caller, messages).await {
        ensure!(began.elapsed() < deadline(), "{error:#}");
        sleep(Duration::from_millis(200)).await;
    }
    messages.iter().map(|message| Ok(Er7::canonical(message)?.message_id())).collect()
}

/// Takes all messages of these institutes off the queue, as the pipeline would, and counts those that it sees for the first time.
/// Gives how often each was in the queue.
async fn read_queue(
    it: &Harness,
    institutes: &BTreeSet<String>,
    read: &AtomicUsize,
    ended: &AtomicBool,
) -> Result<BTreeMap<MessageId, usize>> {
    let (sqs, url) = (Sqs::new(it.aws.config()), &it.outputs.queue_url);
    let mut found = BTreeMap::new();
    loop {
        // Before the question: what comes after it is found by the next one.
        let is_last = ended.load(Ordering::SeqCst);
        let received = sqs.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(1).send().await?;
        if received.messages().is_empty() && is_last {
            return Ok(found);
        }
        let mut entries = Vec::new();
        for (nth, message) in received.messages().iter().enumerate() {
            let envelope = Envelope::from_json(message.body().unwrap_or_default()).context("an envelope")?;
            if institutes.contains(envelope.source.as_str()) {
                *found.entry(envelope.message_id).or_default() += 1;
                let entry = DeleteMessageBatchRequestEntry::builder().id(nth.to_string());
                entries.push(entry.set_receipt_handle(message.receipt_handle.clone()).build()?);
            }
        }
        if !entries.is_empty() {
            sqs.delete_message_batch().queue_url(url).set_entries(Some(entries)).send().await?;
        }
        read.store(found.len(), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_that_the_api_accepts_is_in_the_queue_though_workers_are_killed() -> Result<()> {
    let _alone = ALONE.lock().await;
    let it = Arc::new(Harness::new()?);
    it.queue_drained().await?;
    deliver(&it, false).await?;
    let found = accepted_and_queued(Arc::clone(&it)).await;
    deliver(&it, true).await?;
    let (accepted, queued) = found?;
    assert_eq!(accepted.len(), messages());
    let lost = accepted.iter().filter(|id| !queued.contains_key(id)).count();
    let invented = queued.keys().filter(|id| !accepted.contains(id)).count();
    assert_eq!((lost, invented), (0, 0));
    println!("{} messages accepted, {} entries in the queue", accepted.len(), queued.values().sum::<usize>());
    Ok(())
}

/// The ids of what the API has accepted, and how often each was in the queue.
async fn accepted_and_queued(it: Arc<Harness>) -> Result<(BTreeSet<MessageId>, BTreeMap<MessageId, usize>)> {
    let senders = messages().div_ceil(OF_AN_INSTITUTE);
    let institutes = (0..senders).map(|_| Harness::new()).collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<String> = institutes.iter().map(|it| it.institute.clone()).collect();
    let ended = Arc::new(AtomicBool::new(false));
    let (posted, read) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let reading = {
        let (it, read, ended) = (Arc::clone(&it), Arc::clone(&read), Arc::clone(&ended));
        tokio::spawn(async move { read_queue(&it, &names, &read, &ended).await })
    };
    let killed = Arc::new(AtomicUsize::new(0));
    let killing = {
        let (it, killed) = (Arc::clone(&it), Arc::clone(&killed));
        // A body of many messages takes seconds, and there are few processes.
        tokio::spawn(async move { kill(&it, usize::MAX, 10.0, &killed).await })
    };
    let mut accepted = BTreeSet::new();
    let mut left = messages();
    for institute in &institutes {
        let admin = institute.admin().await?;
        let count = left.min(OF_AN_INSTITUTE);
        left -= count;
        let messages: Vec<String> = (0..count).map(|_| adt(&unique(), "DOE")).collect();
        // A tenth of the batches comes twice.
        let batches: Vec<_> = messages.chunks((count / 20).clamp(1, BATCH)).collect();
        let again = batches.iter().take(batches.len().div_ceil(10));
        let (posted, read) = (&posted, &*read);
        let once = batches.iter().map(|batch| (batch, batch.len()));
        let posts = once.chain(again.map(|batch| (batch, 0))).map(async |(batch, new)| {
            room(posted, read).await?;
            posted.fetch_add(new, Ordering::SeqCst);
            post_batch(institute, &admin, batch).await
        });
        let ids: Vec<Vec<MessageId>> = stream::iter(posts).buffer_unordered(2).try_collect().await?;
        accepted.extend(ids.into_iter().flatten());
    }
    killing.abort();
    println!("{} workers killed", killed.load(Ordering::Relaxed));
    ended.store(true, Ordering::SeqCst);
    Ok((accepted, reading.await??))
}
