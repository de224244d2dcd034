//! What messages cost, from the workers' own lines: each AWS request, invocations and their time, bytes of log, units of the catalog. Writes
//! the file that `sluice cost` and `sluice simulate` read, `cli/data/measured.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use sluice::local;
use sluice_tests::{Caller, Harness, adt, unique};

use crate::{log_lines_since, post_bytes, workers};

/// Messages of one request, and the bytes of each.
const CASES: [(usize, usize); 7] =
    [(1, 512), (1, 2 * 1024), (1, 20 * 1024), (1, 200 * 1024), (1, 2 * 1024 * 1024), (10, 2 * 1024), (500, 2 * 1024)];

/// How often a case of one message is repeated.
const TIMES: usize = 5;

/// What a case used, all of it together.
#[derive(Default)]
struct Used {
    requests: BTreeMap<String, f64>,
    invocations: BTreeMap<String, Vec<f64>>,
    log_bytes: BTreeMap<String, f64>,
    metrics: BTreeSet<String>,
}

pub(crate) async fn measure(it: &Harness, path: &Path) -> Result<()> {
    let mut cases = Vec::new();
    let mut metrics = BTreeSet::new();
    let fresh = Harness::of(it.outputs)?;
    let caller = fresh.admin().await?;
    // The first message of an institute's user: no data key, no credentials, no identity.
    cases.push(case(&fresh, &caller, (1, 2 * 1024), 1, "first", &mut metrics).await?);
    for _ in 0..12 {
        one(&fresh, &caller, 1, 2 * 1024).await?;
    }
    fresh.queue_drained().await?;
    for (messages, size_bytes) in CASES {
        let times = if messages == 1 { TIMES } else { 1 };
        cases.push(case(&fresh, &caller, (messages, size_bytes), times, "warm", &mut metrics).await?);
    }
    let document = json!({
        "about": "Written by `cargo bench --workspace --bench pipeline -- --measure FILE`, on the local AWS. All numbers are for one message.",
        "measuredAt": runtime::now().to_string(),
        "memoryMb": memory()?,
        "localRun": local_run(it).await?,
        "metrics": metrics.len(),
        "alarms": alarms()?,
        "cases": cases,
    });
    std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n").context("writing what was measured")?;
    println!("| measured | {} cases, {} |", CASES.len() + 1, path.display());
    Ok(())
}

/// A minute at a fixed rate, of one institute: what `sluice simulate` is held against.
async fn local_run(outputs: &Harness) -> Result<Value> {
    const RATE: f64 = 6.0;
    const SECONDS: f64 = 60.0;
    let it = Harness::of(outputs.outputs)?;
    let caller = it.admin().await?;
    for _ in 0..5 {
        one(&it, &caller, 1, 2 * 1024).await?;
    }
    it.queue_drained().await?;
    // What the queue and Step Functions take, one message at a time.
    let (mut executions, mut polls) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let since = runtime::now().as_millis();
        let ids = one(&it, &caller, 1, 2 * 1024).await?;
        it.queue_drained().await?;
        let used = until(&it, since, 1).await?;
        let sum = |workers: &[&str]| workers.iter().flat_map(|it| used.invocations.get(*it)).flatten().sum::<f64>();
        let steps = sum(&["deduplicate", "parse", "store", "publish"]);
        executions.push(sum(&["dispatch"]) - steps);
        // To the lake it goes through all but publish.
        let waited = waited(&it, ids.first().context("a message")?).await? * 1000.0;
        polls.push(waited - sum(&["submit", "deduplicate", "parse", "store"]) - (sum(&["dispatch"]) - steps));
    }
    let since = runtime::now().as_millis();
    let began = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    let mut posts = Vec::new();
    for _ in 0..(RATE * SECONDS) as usize {
        clock.tick().await;
        let (it, caller) = (Harness::of(outputs.outputs)?, caller.clone());
        posts.push(tokio::spawn(async move { one(&it, &caller, 1, 2 * 1024).await }));
    }
    let mut ids = Vec::new();
    for post in posts {
        ids.extend(post.await??);
    }
    it.queue_drained().await?;
    let seconds = began.elapsed().as_secs_f64();
    let used = until(&it, since, ids.len()).await?;
    let mut waits = Vec::new();
    for id in &ids {
        waits.push(waited(&it, id).await?);
    }
    Ok(json!({
        "rate": RATE,
        "seconds": SECONDS,
        "maximumConcurrency": local::MAXIMUM_CONCURRENCY.parse::<u32>()?,
        "batchSize": local::DISPATCH_BATCH_SIZE.parse::<u32>()?,
        "invocations": invocations(&used, ids.len() as f64),
        "executionMs": percentile(&mut executions, 0.5).max(0.0),
        "pollMs": percentile(&mut polls, 0.5).max(0.0),
        "p50Seconds": percentile(&mut waits, 0.5),
        "p99Seconds": percentile(&mut waits, 0.99),
        "storedPerSecond": ids.len() as f64 / seconds,
    }))
}

/// From the POST to the lake, in seconds, by the record.
async fn waited(it: &Harness, id: &domain::MessageId) -> Result<f64> {
    let record = it.record(id).await?;
    let stored_at = record.facts.context("stored")?.stored_at;
    Ok((stored_at.as_millis() - record.received_at.as_millis()) as f64 / 1000.0)
}

fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default()
}

/// What was used since then, once so many messages were announced.
async fn until(it: &Harness, since: i64, count: usize) -> Result<Used> {
    let began = Instant::now();
    loop {
        let used = used(it, since).await?;
        let announced = used.invocations.get("publish").map_or(0, Vec::len);
        if announced >= count {
            return Ok(used);
        }
        ensure!(began.elapsed() < Duration::from_secs(120), "{announced} of {count} lines of publish");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn invocations(used: &Used, count: f64) -> BTreeMap<String, Value> {
    let per = |number: f64| (number / count * 1e4).round() / 1e4;
    let of = |(name, times): (&String, &Vec<f64>)| {
        let mut times = times.clone();
        let (p50, p95) = (percentile(&mut times, 0.5), percentile(&mut times, 0.95));
        let sum: f64 = times.iter().sum();
        (name.clone(), json!({ "count": per(times.len() as f64), "ms": per(sum), "p50Ms": p50, "p95Ms": p95 }))
    };
    used.invocations.iter().map(of).collect()
}

/// Sends a case and waits for its end. `state` says whether the workers know the user already.
async fn case(
    it: &Harness,
    caller: &Caller,
    (messages, size_bytes): (usize, usize),
    times: usize,
    state: &str,
    metrics: &mut BTreeSet<String>,
) -> Result<Value> {
    // Lines are asked for by the millisecond, and those of the case before are all there: it was waited for.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let since = runtime::now().as_millis();
    let mut ids = Vec::new();
    for _ in 0..times {
        ids = one(it, caller, messages, size_bytes).await?;
        // The deadline of one wait is shorter than a large batch takes.
        let began = Instant::now();
        while it.queue_drained().await.is_err() && began.elapsed() < Duration::from_secs(600) {}
    }
    let count = messages * times;
    let used = until(it, since, count).await?;
    let per = |number: f64| (number / count as f64 * 1e4).round() / 1e4;
    let mut requests = used.requests.clone();
    // A line names a hundred requests and counts the rest: of a batch, each message is recorded once and ten are queued at a time.
    if let Some(rest) = requests.remove("more") {
        let named = requests.get("submit dynamodb:UpdateItem").copied().unwrap_or(0.0);
        let updates = (messages as f64 - named).max(0.0);
        *requests.entry("submit dynamodb:UpdateItem".to_owned()).or_default() += updates;
        *requests.entry("submit sqs:SendMessageBatch".to_owned()).or_default() += rest - updates;
    }
    let total: f64 = requests.values().sum();
    println!(
        "| {messages} × {size_bytes} bytes, {state} | {:.2} requests, {:.0} bytes of log a message |",
        per(total),
        per(used.log_bytes.values().sum())
    );
    metrics.extend(used.metrics.iter().cloned());
    let id = ids.first().context("a message")?;
    let (item, objects) = (item_bytes(it, id).await?, objects(it, id).await?);
    Ok(json!({
        "messages": messages,
        "sizeBytes": size_bytes,
        "state": state,
        "requests": requests.into_iter().map(|(name, number)| (name, per(number))).collect::<BTreeMap<_, _>>(),
        "invocations": invocations(&used, count as f64),
        "logBytes": used.log_bytes.iter().map(|(name, bytes)| (name.clone(), per(*bytes))).collect::<BTreeMap<_, _>>(),
        "itemBytes": item,
        "objects": objects.len(),
        "objectBytes": objects.iter().sum::<i64>(),
    }))
}

/// Posts a request of so many messages, and waits until it is answered. Gives the ids.
async fn one(it: &Harness, caller: &Caller, messages: usize, size_bytes: usize) -> Result<Vec<domain::MessageId>> {
    let texts: Vec<String> = (0..messages)
        .map(|_| {
            let message = adt(&unique(), "BENCH");
            let frame = "NTE|1||\r".len();
            let note = size_bytes.saturating_sub(message.len() + frame);
            format!("{message}NTE|1||{}\r", "x".repeat(note))
        })
        .collect();
    let ids = texts.iter().map(|text| domain::Er7::canonical(text).map(|it| it.message_id())).collect::<Result<Vec<_>, _>>()?;
    let body = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("BHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101\r{}BTS|{messages}\r", many.concat()),
    };
    post_bytes(it, caller, &body).await?;
    Ok(ids)
}

async fn used(it: &Harness, since: i64) -> Result<Used> {
    let mut used = Used::default();
    for worker in workers(it)? {
        for (text, line) in log_lines_since(it, &worker, since).await? {
            let duration = line.get("durationMs").and_then(Value::as_f64).unwrap_or_default();
            used.invocations.entry(worker.name.clone()).or_default().push(duration);
            *used.log_bytes.entry(worker.name.clone()).or_default() += text.len() as f64;
            for request in line.get("awsRequests").and_then(Value::as_array).into_iter().flatten() {
                let operation = request.get("operation").and_then(Value::as_str).unwrap_or_default();
                *used.requests.entry(format!("{} {}:{operation}", worker.name, service(operation)?)).or_default() += 1.0;
            }
            if let Some(more) = line.get("moreAwsRequests").and_then(Value::as_f64) {
                *used.requests.entry("more".to_owned()).or_default() += more;
            }
            for directive in line.get("_aws").and_then(|aws| aws.get("CloudWatchMetrics")?.as_array()).into_iter().flatten() {
                let metrics = directive.get("Metrics").and_then(Value::as_array).into_iter().flatten();
                for metric in metrics.filter_map(|it| it.get("Name")) {
                    for set in directive.get("Dimensions").and_then(Value::as_array).into_iter().flatten() {
                        let values = set.as_array().into_iter().flatten().filter_map(|name| line.get(name.as_str()?));
                        used.metrics.insert(format!("{metric} {set} {}", values.map(Value::to_string).collect::<String>()));
                    }
                }
            }
        }
    }
    Ok(used)
}

/// The service of an operation, as IAM spells it.
fn service(operation: &str) -> Result<&'static str> {
    Ok(match operation {
        "UpdateItem" | "GetItem" | "Query" | "BatchWriteItem" => "dynamodb",
        "PutObject" | "GetObject" => "s3",
        "Encrypt" | "Decrypt" | "GenerateDataKey" | "GenerateMac" => "kms",
        "SendMessage" | "SendMessageBatch" | "ChangeMessageVisibility" => "sqs",
        "StartSyncExecution" => "states",
        "Publish" | "PublishBatch" => "sns",
        "GetId" | "GetCredentialsForIdentity" => "cognito-identity",
        other => anyhow::bail!("no service is known for the request `{other}`"),
    })
}

/// The size of a stored record.
async fn item_bytes(it: &Harness, message_id: &domain::MessageId) -> Result<usize> {
    let client = aws_sdk_dynamodb::Client::new(it.aws.config());
    let table = &it.outputs.table;
    let get = client.get_item().table_name(table).key("source", AttributeValue::S(it.institute.clone()));
    let item = get.key("message_id", AttributeValue::S(message_id.to_string())).send().await?.item.context("a record")?;
    Ok(sluice_tests::item_bytes(&item))
}

/// The sizes of a message's objects in the lake.
async fn objects(it: &Harness, message_id: &domain::MessageId) -> Result<Vec<i64>> {
    let prefix = format!("source={}/", it.institute);
    let mut pages = it.aws.s3().list_objects_v2().bucket(&it.outputs.bucket).prefix(prefix).into_paginator().send();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page?;
        let its = page.contents().iter().filter(|object| object.key().is_some_and(|key| key.contains(message_id.as_str())));
        sizes.extend(its.filter_map(|object| object.size()));
    }
    Ok(sizes)
}

fn template(name: &str) -> Result<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra").join(name)).context("a template")
}

/// The memory of each worker, from the templates.
fn memory() -> Result<BTreeMap<String, u32>> {
    let mut memory = BTreeMap::new();
    for name in ["pipeline.yaml", "api.yaml", "identity.yaml"] {
        let mut function = String::new();
        for line in template(name)?.lines() {
            if let Some(worker) = line.strip_prefix("      FunctionName: !Sub \"${AWS::StackName}-") {
                function = worker.trim_end_matches('"').to_owned();
            }
            if let Some(size) = line.strip_prefix("      MemorySize: ") {
                memory.insert(function.clone(), size.split_whitespace().next().unwrap_or_default().parse()?);
            }
        }
    }
    ensure!(!memory.is_empty(), "no function in the templates");
    Ok(memory)
}

/// How many alarms a deployment has.
fn alarms() -> Result<usize> {
    let names = ["core.yaml", "pipeline.yaml", "api.yaml", "identity.yaml"];
    let texts: Result<Vec<String>> = names.iter().map(|name| template(name)).collect();
    Ok(texts?.iter().map(|text| text.matches("Type: AWS::CloudWatch::Alarm").count()).sum())
}
