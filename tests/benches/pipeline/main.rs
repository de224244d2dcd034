//! The pipeline's numbers, with release workers on the local AWS: `cargo bench -p sluice-tests --bench pipeline`.
//!
//! `-- --minutes 1` shortens the sustained run, which takes ten minutes otherwise. Prints the table of
//! `docs/BENCHMARKS.md`. `-- --backlog 5000` measures in place of it what one institute's backlog does to another's messages. The local AWS is one Python process and takes a share of every number but the workers' own CPU,
//! memory and zips; LOCAL-only waits (150 ms at the start of every execution) are in the latencies.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on ends")]

mod measure;
mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use domain::{MessageId, Source, Status};
use futures_util::future::try_join_all;
use serde_json::Value;
use sluice::Outputs;
use sluice::local::{self, UpOptions};
use sluice::operator::package::{Profile, Worker};
use sluice_tests::{Caller, Harness, adt, unique};

use processes::Processes;

const CLIENTS: usize = 8;

#[derive(Parser)]
struct Args {
    /// How long the sustained run takes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Submissions a second in the sustained run, of all clients together.
    #[arg(long, default_value_t = 12.0)]
    rate: f64,
    /// Only what so many waiting messages of one institute do to the messages of another.
    #[arg(long, value_name = "MESSAGES")]
    backlog: Option<usize>,
    /// Only what each message costs: requests, invocations, bytes of log. Writes it to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "backlog")]
    measure: Option<PathBuf>,
    /// With the local system as it runs, built for tests: the requests and the log are the same, the times are not.
    #[arg(long)]
    running: bool,
    /// Cargo passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    let args = Args::parse();
    let up = match args.running {
        true => local::running().await?,
        false => local::up(UpOptions { profile: Profile::Release, ..UpOptions::default() }).await?,
    };
    let outputs: &'static Outputs = Box::leak(Box::new(up));
    let it = Harness::of(outputs)?;
    let caller = it.admin().await?;
    for _ in 0..10 {
        it.store(&caller, &adt(&unique(), "WARM")).await?;
    }

    println!("| what | measured |\n|---|---|");
    if let Some(messages) = args.backlog {
        return backlog(&it, &caller, messages).await;
    }
    if let Some(file) = &args.measure {
        return measure::measure(&it, file).await;
    }
    alone(&it, &caller).await?;
    side_by_side(&it, &caller).await?;
    to_stored(&it, &caller).await?;
    requests(&it, &caller).await?;
    batch(&it, &caller).await?;
    sustained(&it, &caller, &args).await?;
    zips(&it).await
}

/// 202, one client after the other.
async fn alone(it: &Harness, caller: &Caller) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..200 {
        times.push(post(it, caller).await?.1);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    row("202, one at a time", &mut times);
    it.queue_drained().await
}

/// 202, eight clients at once.
async fn side_by_side(it: &Harness, caller: &Caller) -> Result<()> {
    let clients = (0..CLIENTS).map(|_| async {
        let mut times = Vec::new();
        for _ in 0..25 {
            times.push(post(it, caller).await?.1);
        }
        anyhow::Ok(times)
    });
    let mut times = try_join_all(clients).await?.concat();
    row("202, eight clients", &mut times);
    it.queue_drained().await
}

/// From POST to `stored` in the catalog, with nothing else going on.
async fn to_stored(it: &Harness, caller: &Caller) -> Result<()> {
    row("POST to stored, idle", &mut times_to_stored(it, caller, 50).await?);
    Ok(())
}

/// From POST to `stored`, idle and while another institute's messages wait.
async fn backlog(it: &Harness, caller: &Caller, messages: usize) -> Result<()> {
    const A_POST: usize = 1000;
    row("POST to stored, idle", &mut times_to_stored(it, caller, 50).await?);
    let busy = Harness::of(it.outputs)?;
    let busy_caller = busy.admin().await?;
    let mut queued = 0;
    while queued < messages {
        let posted: Vec<_> = (0..A_POST.min(messages - queued)).map(|_| adt(&unique(), "DOE")).collect();
        busy.submit_batch(&busy_caller, &posted).await?;
        queued += posted.len();
    }
    let waiting = queued - stored(&busy).await?;
    let mut times = times_to_stored(it, caller, 50).await?;
    let left = queued - stored(&busy).await?;
    row(&format!("POST to stored, while {waiting} to {left} messages of another institute wait"), &mut times);
    ensure!(left > 0, "the backlog was gone before the end: choose more messages");
    Ok(())
}

async fn times_to_stored(it: &Harness, caller: &Caller, count: usize) -> Result<Vec<Duration>> {
    let (catalog, source) = (it.catalog(), it.institute.parse::<Source>()?);
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let (message_id, _) = post(it, caller).await?;
        while catalog.get(&source, &message_id).await?.is_none_or(|record| record.status != Status::Stored) {
            ensure!(began.elapsed() < Duration::from_secs(30), "a message was not stored");
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(times)
}

/// The AWS requests that the warm workers make for one message, from their own log lines.
async fn requests(it: &Harness, caller: &Caller) -> Result<()> {
    let (message_id, _) = post(it, caller).await?;
    it.queue_drained().await?;
    let mut by_operation: BTreeMap<String, usize> = BTreeMap::new();
    for worker in workers(it)?.iter().filter(|worker| !["status", "fetch", "enroll", "authorize"].contains(&worker.name.as_str()))
    {
        let lines = log_lines(it, worker).await?;
        let of_message = |line: &&Value| line.to_string().contains(message_id.as_str());
        for line in lines.iter().filter(of_message) {
            for request in line.get("awsRequests").and_then(Value::as_array).into_iter().flatten() {
                let operation = request.get("operation").and_then(Value::as_str).unwrap_or_default();
                *by_operation.entry(format!("{}: {operation}", worker.name)).or_default() += 1;
            }
        }
    }
    let total: usize = by_operation.values().sum();
    let list: Vec<String> = by_operation.iter().map(|(operation, count)| format!("{operation} × {count}")).collect();
    println!("| AWS requests of the workers for a message, warm | {total}: {} |", list.join(", "));
    Ok(())
}

/// A file of 4 MiB with 2,000 messages: how long its POST takes, and until all of them are stored.
async fn batch(it: &Harness, caller: &Caller) -> Result<()> {
    const MESSAGES: usize = 2000;
    let before = stored(it).await?;
    let (head, end) = ("BHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101\r", format!("BTS|{MESSAGES}\r"));
    let room = (domain::MAX_MESSAGE_BYTES - head.len() - end.len()) / MESSAGES;
    let messages = (0..MESSAGES).map(|_| {
        let message = adt(&unique(), "DOE");
        let note = format!("NTE|1||{}\r", "x".repeat(room - message.len() - "NTE|1||\r".len()));
        message + &note
    });
    let body = [head, &messages.collect::<String>(), &end].concat();
    let size_mib = body.len() as f64 / 1024.0 / 1024.0;
    let began = Instant::now();
    let answer = it.submit(caller, &body).await?;
    let answered = began.elapsed();
    let queued = answer.json().get("queued").and_then(Value::as_u64);
    ensure!(queued == Some(MESSAGES as u64), "{}: {queued:?} queued", answer.status);
    // The deadline of one wait is shorter than this takes.
    while it.queue_drained().await.is_err() && began.elapsed() < Duration::from_secs(900) {}
    let all = began.elapsed();
    ensure!(stored(it).await? - before == MESSAGES, "not all messages of the file were stored");
    println!(
        "| a file of {size_mib:.1} MiB with {MESSAGES} messages | answered in {:.1} s, all stored after {:.0} s |",
        answered.as_secs_f64(),
        all.as_secs_f64()
    );
    Ok(())
}

/// A fixed rate from eight clients for minutes; all must be stored in the end.
async fn sustained(it: &Harness, caller: &Caller, args: &Args) -> Result<()> {
    let before = stored(it).await?;
    let processes = Processes::watch(it)?;
    let pause = Duration::from_secs_f64(CLIENTS as f64 / args.rate);
    let each = (args.minutes * 60.0 / pause.as_secs_f64()).ceil() as usize;
    let began = Instant::now();
    let clients = (0..CLIENTS).map(|client| async move {
        let mut clock = tokio::time::interval(pause);
        tokio::time::sleep(pause.mul_f64(client as f64 / CLIENTS as f64)).await;
        for _ in 0..each {
            clock.tick().await;
            post(it, caller).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(clients).await?;
    let sent = each * CLIENTS;
    let sending = began.elapsed();
    it.queue_drained().await.context("the queue did not drain")?;
    let drained = began.elapsed().saturating_sub(sending);
    let stored = stored(it).await? - before;
    let used = processes.stop()?;
    let seconds = sending.as_secs_f64();
    println!(
        "| sustained, eight clients | {stored} of {sent} stored in {seconds:.0} s: {:.1}/s, drained {:.1} s after the last POST |",
        stored as f64 / seconds,
        drained.as_secs_f64()
    );
    let cpu: f64 = used.iter().map(|worker| worker.cpu_seconds).sum();
    let list: Vec<String> =
        used.iter().map(|it| format!("{} {:.2}", it.worker, it.cpu_seconds * 1000.0 / stored as f64)).collect();
    println!("| CPU of all workers for a stored message | {:.2} ms: {} |", cpu * 1000.0 / stored as f64, list.join(", "));
    let list: Vec<String> = used.iter().map(|it| format!("{} {:.1}", it.worker, it.peak_resident_mib)).collect();
    let most = used.iter().map(|it| it.peak_resident_mib).fold(0.0, f64::max);
    println!("| resident, largest process of each worker | {most:.1} MiB: {} |", list.join(", "));
    ensure!(stored == sent, "{} messages were not stored", sent - stored);
    Ok(())
}

/// Sizes of the zips that were deployed.
async fn zips(it: &Harness) -> Result<()> {
    let mut list = Vec::new();
    let mut largest = 0.0_f64;
    for worker in workers(it)? {
        let request = it.aws.s3().head_object().bucket(&it.outputs.artifact_bucket).key(code_key(it, &worker)?);
        let size_mib = request.send().await?.content_length().unwrap_or(0) as f64 / 1024.0 / 1024.0;
        largest = largest.max(size_mib);
        list.push(format!("{} {size_mib:.1}", worker.name));
    }
    println!("| zip | {largest:.1} MiB: {} |", list.join(", "));
    Ok(())
}

async fn stored(it: &Harness) -> Result<usize> {
    Ok(it.all_records().await?.iter().filter(|record| record.status == Status::Stored).count())
}

/// The log lines of a worker in the last minute.
async fn log_lines(it: &Harness, worker: &Worker) -> Result<Vec<Value>> {
    let lines = log_lines_since(it, worker, runtime::now().as_millis() - 60_000).await?;
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// The log lines of a worker since then, in milliseconds since 1970: as they are, and read. A worker that has not run has none.
async fn log_lines_since(it: &Harness, worker: &Worker, since: i64) -> Result<Vec<(String, Value)>> {
    let function = it.outputs.stack_outputs.get(&function_output(worker)).context("the worker is not deployed")?;
    let group = format!("/aws/lambda/{function}");
    let client = aws_sdk_cloudwatchlogs::Client::new(it.aws.config());
    let mut pages = client.filter_log_events().log_group_name(group).start_time(since).into_paginator().send();
    let mut lines = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page?;
        let texts = page.events().iter().filter_map(|event| event.message());
        lines.extend(
            texts.filter_map(|text| Some((text.to_owned(), serde_json::from_str::<Value>(text).ok().filter(Value::is_object)?))),
        );
    }
    Ok(lines)
}

/// The workers that are deployed: all but those of optional stacks.
fn workers(it: &Harness) -> Result<Vec<Worker>> {
    let mut workers = Worker::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    workers.retain(|worker| it.outputs.stack_outputs.contains_key(&function_output(worker)));
    Ok(workers)
}

/// The output with the name of a worker's function.
fn function_output(worker: &Worker) -> String {
    format!("{}FunctionName", worker.logical_name())
}

/// Where the zip of a worker is, `<worker>/<hash>.zip`: the local AWS runs it from a folder named after the hash.
fn code_key<'a>(it: &'a Harness, worker: &Worker) -> Result<&'a str> {
    it.outputs.stack_outputs.get(&format!("{}CodeKey", worker.logical_name())).map(String::as_str).context("the worker has a zip")
}

async fn post(it: &Harness, caller: &Caller) -> Result<(MessageId, Duration)> {
    let message = adt(&unique(), "BENCH");
    let began = Instant::now();
    let answer = it.submit(caller, &message).await?;
    let took = began.elapsed();
    ensure!(answer.status == 202, "POST /er7 was answered with {}", answer.status);
    Ok((answer.text("messageId").parse()?, took))
}

/// Posts a body of ER7, of one message or several.
async fn post_bytes(it: &Harness, caller: &Caller, body: &str) -> Result<()> {
    let answer = it.submit(caller, body).await?;
    let status = answer.status.as_u16();
    ensure!([200, 202, 207].contains(&status), "POST /er7 was answered with {status}");
    Ok(())
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, |it| it.as_secs_f64() * 1000.0);
    println!("| {what} | p50 {:.0} ms, p95 {:.0} ms ({} times) |", at(0.5), at(0.95), times.len());
}
