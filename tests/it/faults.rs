//! The fault table: every AWS call on a message's way from the API to its event, and every fault that it may have. In the end the message is
//! stored exactly once, with its event, or it is held, visibly. Never anything else.
//!
//! The faults are made by the local AWS (`cli/local/extension/faults.py`), each for the calls that name the cell's own institute or
//! message, so that all cells run at once. A run of the tests takes a part of the cells and compares them with the table in
//! `docs/FAULTS.md`. `SLUICE_FAULTS=all` takes all cells, and `SLUICE_FAULTS=GetItem,PutObject` all of these calls; with
//! `INSTA_UPDATE=always` beside it, the test writes the rows of the calls that it has made fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_credential_types::Credentials;
use client::http::Answer;
use domain::{Charset, Er7, HeldCopy, MessageId, Payload, Requester, Status, Timestamp};
use futures_util::stream::{self, StreamExt as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{Caller, Harness, adt, unique};
use tokio::time::{Instant, sleep};

use crate::attacks::call::Call;
use crate::authorize::claims;
use crate::contract::root;
use crate::failures::REDRIVE;
use crate::grants;
use crate::listen::{Listener, event_id};
use crate::logs::workers;
use crate::twins::roles;
use crate::{forge, uploads};

/// An AWS call on a message's way.
struct Site {
    worker: &'static str,
    action: &'static str,
    /// What the call is for, where the worker makes it more than once.
    what: &'static str,
    /// Names the call among others of its kind: the end of the object's key.
    suffix: &'static str,
    /// Whose credentials it is made with: the role's logical name; empty for a call that is not signed.
    role: &'static str,
    way: Way,
}

/// How the message comes to the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It is posted.
    Post,
    /// It is posted in a body that is a batch, and is the only message there.
    Batch,
    /// It is uploaded, and then submitted.
    Upload,
    /// It is queued, has waited for hours already, and the deployment refuses it to the end: `dispatch` queues it anew, to be held.
    GiveUp,
    /// It is queued under the token of a user who may not write for its institute, and so it is held.
    Hold,
    /// The same, and a user who may releases it: only then the call has the fault.
    Release,
    /// The same, and that user releases all that is held, without naming a message.
    ReleaseAll,
}

impl Site {
    /// The SDK's name of the call: IAM has a name of its own for GetObject of a version.
    fn call(&self) -> &'static str {
        if self.action == "s3:GetObjectVersion" { "s3:GetObject" } else { self.action }
    }

    /// IAM's name, by which the local AWS knows the call: IAM has none of its own for SendMessageBatch.
    fn permission(&self) -> &'static str {
        if self.action == "sqs:SendMessageBatch" { "sqs:SendMessage" } else { self.action }
    }
}

/// The key under which the catalog has a user's identity id.
fn remembered_under(caller: &Caller) -> Result<String> {
    let claims = claims(caller)?;
    let claim = |name: &str| claims[name].as_str().map(str::to_owned).context("a claim");
    Ok(Requester { issuer: claim("iss")?, subject: claim("sub")? }.digest())
}

const fn site(worker: &'static str, action: &'static str, role: &'static str) -> Site {
    Site { worker, action, what: "", suffix: "", role, way: Way::Post }
}

const fn put(what: &'static str, suffix: &'static str) -> Site {
    Site { worker: "store", action: "s3:PutObject", what, suffix, role: "UserRole", way: Way::Post }
}

const fn hold(action: &'static str) -> Site {
    Site { way: Way::Hold, ..site("hold", action, "HoldRole") }
}

const fn release(action: &'static str) -> Site {
    Site { way: Way::Release, ..site("release", action, "ReleaseRole") }
}

static SITES: [Site; 32] = [
    site("submit", "dynamodb:UpdateItem", "SubmitRole"),
    site("submit", "kms:GenerateDataKey", "SubmitRole"),
    Site { way: Way::Upload, what: "an upload", ..site("submit", "s3:GetObject", "SubmitRole") },
    site("submit", "s3:PutObject", "SubmitRole"),
    site("submit", "sqs:SendMessage", "SubmitRole"),
    Site { way: Way::Batch, ..site("submit", "sqs:SendMessageBatch", "SubmitRole") },
    site("dispatch", "states:StartSyncExecution", "DispatchRole"),
    site("dispatch", "sqs:ChangeMessageVisibility", "DispatchRole"),
    Site { way: Way::GiveUp, what: "a message to be held", ..site("dispatch", "sqs:SendMessage", "DispatchRole") },
    site("deduplicate", "dynamodb:UpdateItem", "DeduplicateRole"),
    site("parse", "s3:GetObject", "ParseRole"),
    site("store", "kms:Decrypt", "StoreRole"),
    site("store", "dynamodb:GetItem", "StoreRole"),
    site("store", "cognito-identity:GetId", ""),
    site("store", "cognito-identity:GetCredentialsForIdentity", ""),
    site("store", "s3:GetObject", "StoreRole"),
    put("the message", ".hl7"),
    put("its rendition", ".json.gz"),
    put("the received bytes", ".bin"),
    site("store", "kms:GenerateMac", "StoreRole"),
    site("store", "dynamodb:BatchWriteItem", "StoreRole"),
    site("store", "dynamodb:UpdateItem", "StoreRole"),
    site("publish", "sns:Publish", "PublishRole"),
    hold("s3:GetObject"),
    hold("s3:PutObject"),
    hold("dynamodb:UpdateItem"),
    release("s3:GetObjectVersion"),
    release("kms:GenerateDataKey"),
    release("s3:PutObject"),
    release("sqs:SendMessage"),
    release("dynamodb:UpdateItem"),
    Site { way: Way::ReleaseAll, ..release("dynamodb:Query") },
];

/// Calls of these workers that are not in the table, and why.
const LEFT_OUT: [(&str, &str); 1] = [("s3:CreateSession", "the S3 client calls it for directory buckets, and there are none")];

/// The workers that no message passes.
const OTHER_WORKERS: [&str; 6] = ["Authorize", "Enroll", "Fetch", "Status", "Summary", "Tables"];

/// The faults, as the local AWS calls them, and what the table says.
const KINDS: [(&str, &str); 9] = [
    ("500", "500"),
    ("503", "503"),
    ("throttle", "throttled"),
    ("denied", "access denied"),
    ("expired", "expired token"),
    ("cut-before", "cut before"),
    ("cut-after", "cut after"),
    ("hang", "hangs"),
    ("delay", "late"),
];

/// How many calls in a row have the fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    /// One. The SDK's next attempt finds it gone.
    Once,
    /// As many as it takes to fail an execution: three attempts of each of the state machine's four tries.
    Long,
    /// All, until the end, of a message that has waited for hours already: its tries come to their end.
    Lasting,
}

struct Cell {
    site: &'static Site,
    kind: &'static str,
    length: Length,
}

/// Cells of every run, beside those that [`Cell::some`] counts off: worker, call, fault and length. Of several calls of that name, the
/// first is meant. Of the faults that last, the state machine retries the second within each execution, and the first not.
const CHOSEN: [(&str, &str, &str, Length); 4] = [
    ("dispatch", "sqs:ChangeMessageVisibility", "503", Length::Once),
    ("parse", "s3:GetObject", "hang", Length::Once),
    ("parse", "s3:GetObject", "denied", Length::Lasting),
    ("store", "s3:PutObject", "cut-after", Length::Lasting),
];

impl Cell {
    /// All cells of the table.
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for site in &SITES {
            for (kind, _) in KINDS {
                for length in [Length::Once, Length::Long, Length::Lasting] {
                    // If a message cannot be hidden in the end, the queue's own visibility timeout applies, of many minutes.
                    let is_hidden = site.action != "sqs:ChangeMessageVisibility"
                        || (length == Length::Once && !["denied", "expired"].contains(&kind));
                    let is_there = is_hidden
                        && match length {
                            Length::Once => true,
                            // A late answer is one.
                            Length::Long => kind != "delay",
                            // A call that hangs differs from one that is cut by nothing but the time that it takes.
                            Length::Lasting => !["delay", "hang"].contains(&kind) && ["parse", "store"].contains(&site.worker),
                        };
                    if is_there {
                        cells.push(Self { site, kind, length });
                    }
                }
            }
        }
        cells
    }

    /// The cells of every run: each call with a fault or two, each fault with some calls, and [`CHOSEN`]. Among these are the only ones
    /// that hang or last, since they take their time (`every_run_has_each_call_each_fault_and_each_length`).
    fn some() -> Vec<Self> {
        let is_quick = |cell: &Self| cell.kind != "hang" && cell.length != Length::Lasting;
        let is = |cell: &Self, chosen: &(&str, &str, &str, Length)| {
            (cell.site.worker, cell.site.action, cell.kind, cell.length) == *chosen
        };
        let is_chosen = |cell: &Self| CHOSEN.iter().any(|it| is(cell, it));
        let mut cells: Vec<Self> =
            Self::all().into_iter().filter(|cell| is_quick(cell) && !is_chosen(cell)).step_by(11).collect();
        cells.extend(CHOSEN.iter().filter_map(|it| Self::all().into_iter().find(|cell| is(cell, it))));
        cells
    }

    /// Those of calls with these names, between commas.
    fn of(calls: &str) -> Vec<Self> {
        let is_named = |it: &Self| calls.split(',').any(|call| it.site.action.split(':').next_back() == Some(call));
        Self::all().into_iter().filter(is_named).collect()
    }

    fn calls(&self) -> Option<u32> {
        match self.length {
            Length::Once => Some(1),
            // Each is over after the time limit of an attempt; what is refused is not attempted again, and dispatch has no attempts but
            // the queue's.
            Length::Long if ["hang", "denied", "expired"].contains(&self.kind) || self.site.worker == "dispatch" => Some(3),
            Length::Long => Some(12),
            Length::Lasting => None,
        }
    }

    fn name(&self) -> String {
        format!("{} {} {} × {} {:?}", self.site.worker, self.site.action, self.site.what, self.kind, self.length)
    }
}

/// Faults of the local AWS, as the account's root sets them.
pub(crate) struct Faults {
    endpoint: String,
    region: String,
    root: Credentials,
}

impl Faults {
    pub(crate) fn of(it: &Harness) -> Result<Self> {
        let endpoint = it.outputs.endpoint_url.clone().context("the local system has an endpoint")?;
        let root = it.outputs.root_key.as_ref().context("a root key")?.credentials();
        Ok(Self { endpoint, region: it.outputs.region.clone(), root })
    }

    pub(crate) async fn ask(&self, method: &'static str, body: &Value) -> Result<Value> {
        self.administer(method, "/_sluice/faults", body).await
    }

    /// A recording of requests to DynamoDB: POST begins it, DELETE ends it.
    pub(crate) async fn record(&self, method: &'static str, body: &Value) -> Result<Value> {
        self.administer(method, "/_sluice/recordings", body).await
    }

    async fn administer(&self, method: &'static str, path: &str, body: &Value) -> Result<Value> {
        let answer = Call::rest("sluice", method, path, body).send(&self.endpoint, &self.region, &self.root).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// How many calls had the fault.
    async fn hits(&self, id: &str) -> Result<u64> {
        let all = self.ask("GET", &json!({})).await?;
        let found = all.as_array().into_iter().flatten().find(|it| it["id"] == id).context("the fault is set")?;
        found["hits"].as_u64().context("a number")
    }
}

/// What a cell came to.
struct End {
    /// What the table says.
    outcome: String,
    source: String,
    /// The ids of the events that say how the message ended, and when it was held before.
    events: BTreeSet<String>,
}

/// Bytes of more than what an envelope carries, that are not in canonical form.
fn message(institute: &str) -> String {
    let note = "NTE|1||".to_owned() + &"x".repeat(500) + "\n";
    adt(&unique(), institute).replace('\r', "\n") + &note.repeat(250)
}

/// Queues a message as `submit` does, received four hours ago.
async fn queue(it: &Harness, message: &str, token: &SecretString) -> Result<MessageId> {
    let mut envelope = forge::envelope(it, &it.institute, message, token).await?;
    let submitted = forge::submitted(&envelope);
    envelope.received_at = Timestamp::from_millis(runtime::now().as_millis() - 4 * 60 * 60 * 1000).context("a time")?;
    let (bucket, key) = (it.outputs.overflow_bucket.clone(), domain::object::overflow_key(&submitted));
    it.aws.s3().put_object().bucket(&bucket).key(&key).body(message.to_owned().into_bytes().into()).send().await?;
    envelope.payload = Payload::Overflow { bucket, key, charset: Charset::UTF_8 };
    forge::enqueue(it, &envelope).await?;
    Ok(envelope.message_id)
}

async fn run(cell: &Cell, roles: &BTreeMap<String, String>) -> Result<End> {
    let it = Harness::new()?;
    let faults = Faults::of(&it)?;
    let caller = it.admin().await?;
    let message = message(&it.institute);
    let message_id = Er7::canonical(&message)?.message_id();
    let marker = match cell.site {
        // Of all that identifies the message or its sender, this request has the key of the remembered identity id alone.
        Site { action: "dynamodb:GetItem", .. } => remembered_under(&caller)?,
        Site { suffix: "", .. } => it.institute.clone(),
        Site { suffix, .. } => format!("{message_id}{suffix}"),
    };
    let principal = if cell.site.role.is_empty() { "" } else { roles.get(cell.site.role).context(cell.site.role)? };
    // Longer than any attempt.
    let seconds = if cell.kind == "hang" { 40.0 } else { 1.0 };
    let fault = json!({
        "id": it.institute, "action": cell.site.permission(), "kind": cell.kind, "calls": cell.calls(), "seconds": seconds,
        "principal": principal, "marker": marker,
    });
    let mut events = BTreeSet::new();
    if [Way::Hold, Way::Release, Way::ReleaseAll].contains(&cell.site.way) {
        // Somebody who may not write for this institute.
        let stranger = it.caller("", "").await?;
        if cell.site.way == Way::Hold {
            faults.ask("POST", &fault).await?;
        }
        queue(&it, &message, &stranger.token).await?;
        let end = ended(&it, &message_id, &message).await?;
        ensure!(end.outcome == "held (Denied)", "{}", end.outcome);
        events.extend(end.events);
    }
    if cell.site.way == Way::Upload {
        uploads::put(&it, &caller, message.as_bytes()).await?;
    }
    if cell.site.way != Way::Hold {
        faults.ask("POST", &fault).await?;
    }
    if cell.site.action == "sqs:ChangeMessageVisibility" {
        // A message is hidden only after a failure.
        let id = format!("{}-failure", it.institute);
        let action = "states:StartSyncExecution";
        faults
            .ask("POST", &json!({ "id": id, "action": action, "kind": "throttle", "calls": 1, "marker": it.institute }))
            .await?;
    }
    if cell.site.way == Way::GiveUp {
        // It stays when the cell is over: a copy of the message that is delivered late must find it too.
        let (id, principal) = (format!("{}-failure", it.institute), roles.get("StoreRole").context("a role")?);
        let failure =
            json!({ "id": id, "action": "kms:Decrypt", "kind": "denied", "principal": principal, "marker": it.institute });
        faults.ask("POST", &failure).await?;
    }
    let batch = format!("BHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101\r{message}BTS|1\r");
    let refusals = match (cell.site.way, cell.length) {
        (Way::Post, Length::Lasting) | (Way::GiveUp, _) => queue(&it, &message, &caller.token).await.map(|_| Vec::new())?,
        (Way::Post, _) => accepted(async || it.submit(&caller, &message).await).await?,
        (Way::Batch, _) => accepted(async || it.submit(&caller, &batch).await).await?,
        (Way::Upload, _) => accepted(async || uploads::taken(&it, &caller, message.as_bytes()).await).await?,
        (Way::Release, _) => accepted(async || it.api.release(message_id.as_str(), &caller.token).await).await?,
        (Way::ReleaseAll, _) => accepted(async || it.api.release_held(&json!({}), &caller.token).await).await?,
        (Way::Hold, _) => Vec::new(),
    };
    let end = ended(&it, &message_id, &message).await?;
    ensure!(faults.hits(&it.institute).await? > 0, "the call was never made");
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    events.extend(end.events);
    let refused = if refusals.is_empty() { String::new() } else { format!("{}, then ", refusals.join(", ")) };
    Ok(End { outcome: format!("{refused}{}", end.outcome), source: end.source, events })
}

/// Repeats a request until it is accepted, as any client does. Gives the refusals' statuses, each once.
async fn accepted(request: impl AsyncFn() -> Result<Answer>) -> Result<Vec<String>> {
    let (began, mut refusals) = (Instant::now(), Vec::new());
    loop {
        let answer = request().await?;
        match answer.status.as_u16() {
            // 409: it was accepted, and the answer that said so was lost.
            202 | 409 => return Ok(refusals),
            429 | 500 | 502 | 503 | 504 => {
                let status = answer.status.as_u16().to_string();
                if !refusals.contains(&status) {
                    refusals.push(status);
                }
            }
            other => bail!("answered with {other}: {}", String::from_utf8_lossy(&answer.body)),
        }
        ensure!(began.elapsed() < LIMIT, "never accepted");
        sleep(Duration::from_millis(200)).await;
    }
}

/// How long a cell may take. The whole table runs at once, on whatever machine there is.
const LIMIT: Duration = Duration::from_secs(900);

/// Waits for the end of a message, and looks whether it is one of the two that there may be.
async fn ended(it: &Harness, message_id: &MessageId, message: &str) -> Result<End> {
    let (began, source) = (Instant::now(), it.institute.parse()?);
    let record = loop {
        // Until the first POST is recorded there is none.
        match it.catalog().get(&source, message_id).await? {
            Some(record) if record.status.is_final() => break record,
            other => ensure!(began.elapsed() < LIMIT, "after {LIMIT:?} {:?}", other.map(|it| (it.status, it.error))),
        }
        sleep(Duration::from_millis(300)).await;
    };
    ensure!(it.records().await? == 1, "one record");
    let claim = record.claim_submission.context("a claim")?;
    let end = |outcome: &str, kind: &str| End {
        outcome: outcome.to_owned(),
        source: it.institute.clone(),
        events: [event_id(claim, message_id.as_str(), kind)].into(),
    };
    if record.status == Status::Held {
        let copy: HeldCopy = serde_json::from_str(&it.held_copy(&source, message_id).await?)?;
        ensure!(copy.received().context("bytes")?.bytes() == message.as_bytes(), "held as it was received");
        return Ok(end(&format!("held ({})", record.error.context("an error")?.code), "held"));
    }
    ensure!(record.status == Status::Stored, "{:?}: {:?}", record.status, record.error);
    let facts = record.facts.context("facts")?;
    let versions = it.object_versions().await?;
    let objects = [
        (Some(&facts.key), &facts.version_id),
        (facts.json_key.as_ref(), &facts.json_version_id),
        (facts.raw_key.as_ref(), &facts.raw_version_id),
    ];
    for (key, version) in &objects {
        let (key, version) = (key.context("three objects")?, version.as_ref().context("a version")?);
        ensure!(versions.contains(&(key.clone(), version.clone())), "the record names a version of {key} that there is not");
    }
    let keys: Vec<_> = objects.iter().filter_map(|(key, _)| *key).collect();
    ensure!(versions.iter().all(|(key, _)| keys.contains(&key)), "and no other object: {versions:?}");
    let er7 = it.aws.s3().get_object().bucket(&facts.bucket).key(&facts.key).set_version_id(facts.version_id.clone());
    let er7 = er7.send().await?.body.collect().await?.into_bytes();
    ensure!(er7 == Er7::canonical(message)?.as_str().as_bytes(), "the message itself");
    Ok(end("stored", "stored"))
}

/// The outcomes of the cells, by their names; all of them have come to a permitted end.
async fn outcomes(cells: &[Cell]) -> Result<Vec<String>> {
    let it = Harness::new()?;
    let mut found = roles(&it, "pipeline").await?;
    found.extend(roles(&it, "identity").await?);
    let mut listener = Listener::new(&it, json!({ "protocol": ["hl7v2"] }), &[]).await?;
    let roles = &found;
    let mut ends: Vec<(usize, Result<End>)> = stream::iter(cells.iter().enumerate())
        .map(|(index, cell)| async move { (index, run(cell, roles).await.with_context(|| cell.name())) })
        .buffer_unordered(48)
        .collect()
        .await;
    ends.sort_unstable_by_key(|(index, _)| *index);
    let ends: Vec<Result<End>> = ends.into_iter().map(|(_, end)| end).collect();
    let failed: Vec<String> = ends.iter().filter_map(|it| it.as_ref().err().map(|it| format!("{it:#}"))).collect();
    ensure!(failed.is_empty(), "{} of {} cells:\n{}", failed.len(), ends.len(), failed.join("\n"));
    let ends: Vec<End> = ends.into_iter().collect::<Result<_>>()?;

    let heard = listener.hear_of(ends.iter().flat_map(|it| &it.events).map(String::as_str).collect()).await?;
    for (cell, end) in cells.iter().zip(&ends) {
        let heard = heard.get(&end.source).context("events of every institute")?;
        // Other submissions of a message whose POST seemed to fail are duplicates.
        let ends: BTreeSet<_> =
            heard.iter().filter(|id| !id.ends_with(".duplicate") && !id.ends_with(".released")).cloned().collect();
        ensure!(ends == end.events, "{}: {ends:?} instead of {:?}", cell.name(), end.events);
    }
    let sources = ends.iter().map(|end| Ok(end.source.parse()?)).collect::<Result<_>>()?;
    let report = it.audit_until_clean(sources).await?;
    ensure!(report.checked.records == ends.len() as u64, "the audit looked at {} records", report.checked.records);
    let letters = {
        let _undisturbed = REDRIVE.read().await;
        it.dead_letters().await?
    };
    for end in &ends {
        ensure!(!letters.iter().any(|body| body.contains(&end.source)), "{}: and a dead letter", end.outcome);
    }
    Ok(ends.into_iter().map(|it| it.outcome).collect())
}

const BEGIN: &str = "<!-- written by the test `faults`: begin -->\n";
const END: &str = "<!-- end -->\n";

/// The table: new rows for the calls of these cells, and for the others the rows that it `said` before.
fn table(said: &str, cells: &[Cell], outcomes: &[String]) -> String {
    let mut text = format!("| worker | call | {} |\n|---|---|{}\n", KINDS.map(|it| it.1).join(" | "), "---|".repeat(KINDS.len()));
    for site in &SITES {
        if !cells.iter().any(|cell| std::ptr::eq(cell.site, site)) {
            let row = said.lines().find(|line| row_of(line, site));
            text.extend(row.into_iter().flat_map(|row| [row, "\n"]));
            continue;
        }
        let what = if site.what.is_empty() { String::new() } else { format!(": {}", site.what) };
        let _ = write!(text, "| {} | `{}`{what} |", site.worker, site.action);
        for (kind, _) in KINDS {
            let mine = cells.iter().zip(outcomes).filter(|(cell, _)| std::ptr::eq(cell.site, site) && cell.kind == kind);
            let (mut said, mut last) = (String::new(), "");
            for (cell, outcome) in mine {
                let label = match cell.length {
                    Length::Once => "",
                    Length::Long => "; long: ",
                    Length::Lasting => "; lasting: ",
                };
                if outcome != last {
                    said += label;
                    said += outcome;
                }
                last = outcome;
            }
            let _ = write!(text, " {said} |");
        }
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn whatever_call_fails_a_message_is_stored_once_or_held() -> Result<()> {
    let asked = std::env::var_os("SLUICE_FAULTS").and_then(|it| it.into_string().ok());
    let is_all = asked.as_deref() == Some("all");
    let cells = match &asked {
        None => Cell::some(),
        Some(_) if is_all => Cell::all(),
        Some(calls) => Cell::of(calls),
    };
    ensure!(!cells.is_empty(), "no call of SLUICE_FAULTS is on a message's way");
    let outcomes = outcomes(&cells).await?;
    let path = root().join("docs/FAULTS.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table begins")?;
    let (said, after) = rest.split_once(END).context("the table ends")?;
    if asked.is_some() && std::env::var_os("INSTA_UPDATE").is_some_and(|it| it == "always") {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table(said, &cells, &outcomes)))?;
        return Ok(());
    }
    if is_all {
        assert_eq!(said, table(said, &cells, &outcomes));
        return Ok(());
    }
    for (cell, outcome) in cells.iter().zip(&outcomes) {
        let row = said.lines().find(|line| row_of(line, cell.site)).with_context(|| format!("{}: no row", cell.name()))?;
        let column = KINDS.iter().position(|it| it.0 == cell.kind).context("a kind")?;
        let text = row.split(" | ").nth(column + 2).context("a cell")?.trim_end_matches(" |");
        // How often the API refused it first depends on how busy the machine is.
        let expected = end_of(outcome_of(text, cell.length));
        ensure!(end_of(outcome) == expected, "{}: {outcome}, and the table has {text}", cell.name());
    }
    Ok(())
}

/// What a cell of the table says of so many failures. The table leaves a label out where the outcome is that of fewer failures.
fn outcome_of(text: &str, length: Length) -> &str {
    let once = text.split("; ").next().unwrap_or_default();
    let labelled = |label: &str| text.split("; ").find_map(|it| it.strip_prefix(label));
    let long = || labelled("long: ").unwrap_or(once);
    match length {
        Length::Once => once,
        Length::Long => long(),
        Length::Lasting => labelled("lasting: ").unwrap_or_else(long),
    }
}

#[test]
fn a_cell_says_the_outcome_of_each_length() {
    let outcomes = |text| [Length::Once, Length::Long, Length::Lasting].map(|length| outcome_of(text, length).to_owned());
    assert_eq!(outcomes("stored"), ["stored"; 3]);
    assert_eq!(outcomes("stored; lasting: held (Denied)"), ["stored", "stored", "held (Denied)"]);
    assert_eq!(outcomes("stored; long: 503, then stored"), ["stored", "503, then stored", "503, then stored"]);
    assert_eq!(outcomes("a; long: b; lasting: c"), ["a", "b", "c"]);
}

#[test]
fn every_run_has_each_call_each_fault_and_each_length() {
    let cells = Cell::some();
    for site in &SITES {
        assert!(cells.iter().any(|it| std::ptr::eq(it.site, site)), "{} {} {}", site.worker, site.action, site.what);
    }
    for (kind, _) in KINDS {
        assert!(cells.iter().any(|it| it.kind == kind), "{kind}");
    }
    for length in [Length::Once, Length::Long, Length::Lasting] {
        assert!(cells.iter().filter(|it| it.length == length).count() > 1, "{length:?}");
    }
}

#[tokio::test]
async fn the_table_has_every_aws_call_of_the_workers_that_a_message_passes() -> Result<()> {
    // Brings the system up, which builds the workers.
    let _it = Harness::new()?;
    let workspace = Workspace::find().await?;
    let known: BTreeSet<&str> = workers().collect();
    assert!(OTHER_WORKERS.iter().all(|it| known.contains(it)), "{known:?}");
    let mut called = BTreeSet::new();
    for worker in workers().filter(|it| !OTHER_WORKERS.contains(it)) {
        let calls = grants::calls(&workspace, worker)?;
        called.extend(calls.into_iter().map(|call| (worker.to_lowercase(), call)));
    }
    for (call, why) in LEFT_OUT {
        assert!(called.iter().any(|it| it.1 == call), "no worker calls {call}, which is left out because {why}");
    }
    called.retain(|(_, call)| !LEFT_OUT.iter().any(|it| it.0 == call.as_str()));
    let sites: BTreeSet<_> = SITES.iter().map(|it| (it.worker.to_owned(), it.call().to_owned())).collect();
    assert_eq!(sites, called, "the table, and the calls in the binaries");
    Ok(())
}

/// `stored` of `503, then stored`.
fn end_of(outcome: &str) -> &str {
    outcome.rsplit_once("then ").map_or(outcome, |(_, end)| end)
}

fn row_of(line: &str, site: &Site) -> bool {
    let what = if site.what.is_empty() { String::new() } else { format!(": {}", site.what) };
    line.starts_with(&format!("| {} | `{}`{what} |", site.worker, site.action))
}
