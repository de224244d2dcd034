//! Compares the catalog, the lake, the held bucket, the queues and the logs of `submit`, `publish` and `dispatch` with each other: every
//! accepted message has a record and an outcome, every outcome has its objects and its event, and every object has a record.
//!
//! An audit changes nothing. It goes through the records, then the 202s in the log, then the lake, then the held bucket, page by page,
//! and keeps of what it has seen only the findings and, for the events, 16 bytes a message. It can be broken off after any page and goes
//! on from there ([`Options::resume`]).
//!
//! The system works on meanwhile. So a finding about a record that has changed since it was read is dropped, and what is younger than
//! [`Options::settle`] is left to the next audit.

mod accepted;
mod content;
mod events;
mod finding;
mod journal;
mod lake;
mod repair;

use std::collections::{BTreeSet, HashSet};
use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use catalog::Item;
use domain::{Charset, Record, Source, State, Status, Timestamp, object};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use super::dead_letters::DeadLetters;
use super::records::{Key, Records, key_of};
use super::redrive::messages_in;
use crate::output::Reporter;
use client::aws::Aws;
use client::outputs::Outputs;

use accepted::Accepted;
use content::Content;
use events::{Dispatched, Events};
use journal::{Checkpoint, Journal, Phase};
use lake::{Listed, Objects};

pub use finding::{Checked, Finding, Kind, Report};
pub(crate) use repair::outcome_of;
pub use repair::{Repaired, repair};

/// How many records are looked at at once.
const CONCURRENCY: usize = 16;

/// How many records the 202s of the log are compared with at once.
const COMPARED: usize = 1_000;

/// How long SQS keeps a message of the queue (`MessageRetentionPeriod` of the template).
pub const QUEUE_RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What to audit, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only these institutes; all if there are none.
    pub sources: Vec<Source>,
    /// Only messages received at or after this time.
    pub from: Option<Timestamp>,
    /// Only messages received before this time.
    pub to: Option<Timestamp>,
    /// How long a message may take until it has an outcome: longer than the pipeline tries.
    pub overdue: Duration,
    /// Skip what ended or was written less than this long ago: its event may not be in the log yet.
    pub settle: Duration,
    /// Do not read what is in the objects, only whether they are there with their tags.
    pub quick: bool,
    /// The file with the progress. An audit that finds one resumes.
    pub resume: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            from: None,
            to: None,
            overdue: Duration::from_secs(4 * 60 * 60),
            // A message that a crashed `dispatch` was working on comes back after 15 minutes.
            settle: Duration::from_secs(20 * 60),
            quick: false,
            resume: None,
        }
    }
}

impl AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.objects += other.objects;
        self.held_objects += other.held_objects;
        self.accepted += other.accepted;
        self.events += other.events;
        self.events_too_old += other.events_too_old;
        self.records_left += other.records_left;
        self.objects_left += other.objects_left;
    }
}

/// The result of one page.
#[derive(Default)]
struct Page {
    findings: Vec<Finding>,
    checked: Checked,
    /// Where the next page begins; `None` after the last one.
    next: Option<Vec<String>>,
}

impl Page {
    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.checked += other.checked;
    }
}

struct Audit<'a> {
    outputs: &'a Outputs,
    options: &'a Options,
    now: Timestamp,
    records: Records,
    objects: Objects,
    sqs: aws_sdk_sqs::Client,
    accepted: Accepted,
    events: Events,
    dispatched: Dispatched,
    /// The messages among the dead letters; read only if a message has no end.
    dead_letters: OnceCell<HashSet<Key>>,
}

/// Audits a deployment. `found` is told each finding once, in the order of the pages; a resumed audit tells those of before again.
///
/// # Errors
/// When AWS refuses a call, or the file of [`Options::resume`] cannot be used. What was found until then has been told.
pub async fn audit(
    aws: &Aws,
    outputs: &Outputs,
    options: &Options,
    reporter: &Reporter,
    mut found: impl FnMut(&Finding) -> Result<()>,
) -> Result<Report> {
    let (mut journal, mut at, findings) = Journal::open(options.resume.as_deref(), &options.what(outputs))?;
    let mut report = Report::default();
    for finding in &findings {
        *report.findings.entry(finding.kind).or_default() += 1;
        found(finding)?;
    }
    let now: Timestamp = SystemTime::now().into();
    let step = reporter.step("reading the log of the events");
    let events = match at.phase {
        Phase::Records => Events::read(aws, outputs, options.from, &options.sources, now, &step).await?,
        _ => Events::default(),
    };
    step.done(format!("{} events", events.len()));
    let audit = Audit {
        outputs,
        options,
        now,
        records: Records::new(aws, outputs),
        objects: Objects::new(aws),
        sqs: aws_sdk_sqs::Client::new(aws.config()),
        accepted: Accepted::new(aws, outputs, options.from, options.to, now)?,
        events,
        dispatched: Dispatched::new(aws, outputs)?,
        dead_letters: OnceCell::new(),
    };
    let scopes: Vec<Option<&Source>> =
        if options.sources.is_empty() { vec![None] } else { options.sources.iter().map(Some).collect() };
    let step = reporter.step("auditing");
    while at.phase != Phase::Done {
        let of = scopes.get(at.scope).copied().flatten();
        let mut page = audit.page(&at, of).await?;
        page.findings
            .sort_unstable_by(|a, b| (&a.source, &a.message_id, a.kind, &a.key).cmp(&(&b.source, &b.message_id, b.kind, &b.key)));
        for finding in &page.findings {
            *report.findings.entry(finding.kind).or_default() += 1;
            found(finding)?;
        }
        at = at.after(page.checked, page.next, scopes.len());
        journal.page(&page.findings, &at)?;
        let Checked { records, objects, held_objects, .. } = at.checked;
        let count: u64 = report.findings.values().sum();
        step.at(format!("{records} records, {objects} objects, {held_objects} held; {count} findings"));
    }
    report.checked = at.checked;
    let Checked { records, objects, held_objects, events, .. } = report.checked;
    step.done(format!("{records} records, {objects} objects, {held_objects} held, {events} events"));
    Ok(report)
}

impl Options {
    /// Identifies an audit: it may resume only from the file of an audit with the same text.
    fn what(&self, outputs: &Outputs) -> String {
        let sources: Vec<_> = self.sources.iter().map(Source::as_str).collect();
        let time = |time: Option<Timestamp>| time.map(|it| it.to_string()).unwrap_or_default();
        let quick = if self.quick { " quick" } else { "" };
        format!("{} [{}] {}..{}{quick}", outputs.table, sources.join(" "), time(self.from), time(self.to))
    }

    fn has(&self, received_at: Timestamp) -> bool {
        self.from.is_none_or(|from| received_at >= from) && self.to.is_none_or(|to| received_at < to)
    }
}

impl Checkpoint {
    /// The checkpoint after a page with these counts.
    fn after(self, checked: Checked, next: Option<Vec<String>>, scopes: usize) -> Self {
        let mut at = self;
        at.checked += checked;
        if next.is_none() {
            at.scope += 1;
            if at.scope >= scopes {
                at.scope = 0;
                at.phase = match at.phase {
                    Phase::Records => Phase::Accepted,
                    Phase::Accepted => Phase::Objects,
                    Phase::Objects => Phase::Held,
                    Phase::Held | Phase::Done => Phase::Done,
                };
            }
        }
        at.after = next;
        at
    }
}

impl Audit<'_> {
    async fn page(&self, at: &Checkpoint, of: Option<&Source>) -> Result<Page> {
        match at.phase {
            Phase::Records => self.page_of_records(at, of).await,
            Phase::Accepted => self.page_of_accepted(at, of).await,
            Phase::Objects => self.page_of_objects(&self.outputs.bucket, at, of, false).await,
            Phase::Held => match &self.outputs.held_bucket {
                Some(bucket) => self.page_of_objects(bucket, at, of, true).await,
                None => Ok(Page::default()),
            },
            Phase::Done => Ok(Page::default()),
        }
    }

    async fn page_of_records(&self, at: &Checkpoint, of: Option<&Source>) -> Result<Page> {
        let after = match at.after.as_deref() {
            Some([source, message_id]) => Some((source.clone(), message_id.clone())),
            _ => None,
        };
        let (items, next) = self.records.page(of, after.as_ref()).await?;
        let queued = OnceCell::new();
        let checks = stream::iter(items).map(|item| self.item(item, &queued)).buffer_unordered(CONCURRENCY);
        let mut page: Page = checks
            .try_fold(Page::default(), async |mut page, other| {
                page.add(other);
                Ok(page)
            })
            .await?;
        page.next = next.map(|(source, message_id)| vec![source, message_id]);
        Ok(page)
    }

    /// Checks one item of the table.
    async fn item(&self, item: Item, queued: &OnceCell<i64>) -> Result<Page> {
        let mut page = Page { checked: Checked { records: 1, ..Checked::default() }, ..Page::default() };
        if is_no_record(&item) {
            return Ok(Page::default());
        }
        let Ok(key) = key_of(&item) else {
            page.findings.push(Finding::new(Kind::RecordDamaged));
            return Ok(page);
        };
        let Ok(record) = catalog::record(item) else {
            page.findings.push(Finding::of(Kind::RecordDamaged, &key));
            return Ok(page);
        };
        if !self.options.has(record.received_at) {
            return Ok(Page::default());
        }
        match record.status {
            Status::Stored => page.add(self.stored(&key, &record).await?),
            Status::Held => page.add(self.held(&key, &record).await?),
            Status::Queued | Status::Processing => page.add(self.without_end(&key, &record, queued).await?),
            Status::Failed => page.findings.push(self.failed(&key).await?),
            Status::Discarded => page.add(self.discarded(&key, &record).await?),
            Status::Denied | Status::Expired => {}
        }
        // The record may have changed since the audit read it. A stored one never does.
        if !page.findings.is_empty() && record.status != Status::Stored && self.records.get(&key).await?.as_ref() != Some(&record)
        {
            page.findings.clear();
        }
        Ok(page)
    }

    async fn stored(&self, key: &Key, record: &Record) -> Result<Page> {
        let mut page = Page::default();
        let Some(facts) = &record.facts else {
            page.findings.push(Finding::of(Kind::RecordDamaged, key).with("stored, without saying where"));
            return Ok(page);
        };
        let is_compressed = facts.json_key.as_deref().is_some_and(object::is_compressed);
        let named = [
            (Some(&facts.key), &facts.version_id, Content::Er7),
            (facts.json_key.as_ref(), &facts.json_version_id, Content::Json { is_compressed }),
            (facts.raw_key.as_ref(), &facts.raw_version_id, Content::Raw(facts.charset.unwrap_or(Charset::UTF_8))),
        ];
        for (object, version_id, content) in named {
            let Some(object) = object else { continue };
            let object = lake::Object { bucket: &facts.bucket, key: object, version_id: version_id.as_deref() };
            page.findings.extend(self.objects.check(key, object, content, facts.state, self.options.quick).await?);
        }
        let outcome = match facts.state {
            State::Parsed => "stored",
            State::Error => "unparsable",
        };
        page.add(self.event(key, record, outcome, facts.stored_at).await?);
        Ok(page)
    }

    /// Whether the log tells of the event.
    async fn event(&self, key: &Key, record: &Record, outcome: &str, ended_at: Timestamp) -> Result<Page> {
        let mut page = Page::default();
        let Some(submission_id) = record.claim_submission.map(|it| it.to_string()) else { return Ok(page) };
        if ended_at.plus(self.options.settle) > self.now {
            page.checked.records_left = 1;
            return Ok(page);
        }
        if !self.events.tell_of(ended_at) {
            page.checked.events_too_old = 1;
            return Ok(page);
        }
        page.checked.events = 1;
        // `sluice discard` publishes this one itself. An execution with that outcome has only met a discarded message.
        let is_of_execution = record.status != Status::Discarded;
        let is_told = self.events.has(&submission_id, &key.1, outcome)
            || (is_of_execution && self.dispatched.has(&submission_id, &key.1, outcome, ended_at).await?);
        if !is_told {
            page.findings.push(Finding::of(Kind::EventMissing, key).with(outcome));
        }
        Ok(page)
    }

    async fn held(&self, key: &Key, record: &Record) -> Result<Page> {
        let mut page = Page::default();
        let since = record.held.as_ref().map_or(record.received_at, |held| held.held_since);
        match (&self.outputs.held_bucket, &record.held) {
            (Some(bucket), Some(held)) => {
                let object = lake::Object { bucket, key: &held.held_key, version_id: held.held_version_id.as_deref() };
                page.findings.extend(self.objects.check_held(key, object, self.options.quick).await?);
            }
            _ => page.findings.push(Finding::of(Kind::HeldObjectMissing, key).with("the record does not say where")),
        }
        page.add(self.event(key, record, "held", since).await?);
        Ok(page)
    }

    /// Checks that the record says why the message was discarded, and that its event was published. The copy may have expired.
    async fn discarded(&self, key: &Key, record: &Record) -> Result<Page> {
        let Some(facts) = record.discarded.as_ref().filter(|it| !it.discard_reason.is_empty()) else {
            let finding = Finding::of(Kind::RecordDamaged, key).with("discarded, without saying why");
            return Ok(Page { findings: vec![finding], ..Page::default() });
        };
        self.event(key, record, Status::Discarded.as_str(), facts.discarded_at).await
    }

    /// Finds where a message is that was accepted and has not ended.
    async fn without_end(&self, key: &Key, record: &Record, queued: &OnceCell<i64>) -> Result<Page> {
        let newest = [
            Some(record.received_at),
            record.last_submission.and_then(submitted_at),
            record.lease_until.and_then(Timestamp::from_millis),
        ];
        let newest = newest.into_iter().flatten().max().unwrap_or(record.received_at);
        if newest.plus(self.options.overdue) > self.now {
            return Ok(Page { checked: Checked { records_left: 1, ..Checked::default() }, ..Page::default() });
        }
        let dead_letters = self.dead_letters.get_or_try_init(|| self.read_dead_letters()).await?;
        let kind = if dead_letters.contains(key) {
            Kind::DeadLetter
        } else if newest.plus(QUEUE_RETENTION) < self.now
            || *queued.get_or_try_init(|| messages_in(&self.sqs, &self.outputs.queue_url)).await? == 0
        {
            Kind::Lost
        } else {
            Kind::Overdue
        };
        // A release that got lost leaves the copy behind, so nothing is lost.
        let finding = match (&record.held, kind) {
            (Some(_), Kind::Lost) => Finding::of(Kind::Overdue, key).with("a held copy is there: release it again"),
            _ => Finding::of(kind, key).with(record.status.as_str()),
        };
        Ok(Page { findings: vec![finding], ..Page::default() })
    }

    /// Finds where a message is of which no copy could be held.
    async fn failed(&self, key: &Key) -> Result<Finding> {
        let dead_letters = self.dead_letters.get_or_try_init(|| self.read_dead_letters()).await?;
        let kind = if dead_letters.contains(key) { Kind::DeadLetter } else { Kind::Lost };
        Ok(Finding::of(kind, key).with(Status::Failed.as_str()))
    }

    async fn read_dead_letters(&self) -> Result<HashSet<Key>> {
        let mut letters = DeadLetters::new(&self.sqs, &self.outputs.dead_letter_queue_url);
        let mut keys = HashSet::new();
        loop {
            let messages = letters.next().await?;
            if messages.is_empty() {
                break;
            }
            for message in messages {
                if let Ok(envelope) = domain::Envelope::from_json(message.body().unwrap_or_default()) {
                    keys.insert((envelope.source, envelope.message_id));
                }
                letters.keep(message);
            }
        }
        letters.put_back().await?;
        Ok(keys)
    }

    /// A page of the log of `submit`: each message that was answered with 202 must have a record.
    async fn page_of_accepted(&self, at: &Checkpoint, of: Option<&Source>) -> Result<Page> {
        let begin = at.after.as_deref().and_then(|it| it.first()?.parse().ok());
        let (accepted, next) = self.accepted.page(of, begin).await?;
        let mut page = Page { next: next.map(|it| vec![it.to_string()]), ..Page::default() };
        page.checked.accepted = accepted.len() as u64;
        for accepted in accepted.chunks(COMPARED) {
            let records = self.records.get_many(accepted.iter().map(|(key, _)| key.clone()).collect()).await?;
            for (key, accepted_at) in accepted.iter().filter(|(key, _)| !records.contains_key(key)) {
                if !self.has_object(key, *accepted_at).await? {
                    page.findings.push(Finding::of(Kind::Lost, key).with("answered with 202, and there is no record"));
                }
            }
        }
        Ok(page)
    }

    /// Whether the lake has the message, or the held bucket a copy: a later phase finds an object without a record.
    async fn has_object(&self, (source, message_id): &Key, accepted_at: Timestamp) -> Result<bool> {
        const MINUTE: i64 = 60_000;
        // The line was written at the end of the invocation, which may be on the next day.
        let received_at = Timestamp::from_millis(accepted_at.as_millis() - MINUTE).unwrap_or(accepted_at);
        let keys = BTreeSet::from([received_at, accepted_at].map(|at| object::er7_key(source, message_id, at)));
        for key in &keys {
            if self.objects.has(&self.outputs.bucket, key).await? {
                return Ok(true);
            }
        }
        match &self.outputs.held_bucket {
            Some(bucket) => self.objects.has(bucket, &object::held_key(source, message_id)).await,
            None => Ok(false),
        }
    }

    /// A page of a bucket's objects: each must belong to a record.
    async fn page_of_objects(&self, bucket: &str, at: &Checkpoint, of: Option<&Source>, is_held: bool) -> Result<Page> {
        let after = at.after.as_deref().and_then(|it| it.first()).map(String::as_str);
        let (objects, next) = self.objects.list(bucket, of, after).await?;
        let (old, young): (Vec<Listed>, Vec<Listed>) =
            objects.into_iter().partition(|it| it.written_at.plus(self.options.settle) <= self.now);
        let keys: BTreeSet<Key> = old.iter().filter_map(Listed::message).collect();
        let records = self.records.get_many(keys.into_iter().collect()).await?;
        let mut page = Page { next: next.map(|key| vec![key]), ..Page::default() };
        page.checked.objects_left = young.len() as u64;
        for object in old {
            let count = if is_held { &mut page.checked.held_objects } else { &mut page.checked.objects };
            *count += 1;
            let kind = if is_held { Kind::HeldRecordMissing } else { Kind::RecordMissing };
            let message: Option<Key> = object.message();
            let detail = match message.as_ref().map(|it| records.get(it)) {
                None => Some("its key is of no message"),
                Some(None) => Some("there is no record of the message"),
                // The first phase has reported the damaged record already.
                Some(Some(None)) => None,
                Some(Some(Some(record))) if is_held || !self.options.has(record.received_at) => None,
                Some(Some(Some(record))) => not_named(&object.key, record),
            };
            let Some(detail) = detail else { continue };
            let finding = message.as_ref().map_or_else(|| Finding::new(kind), |key| Finding::of(kind, key));
            page.findings.push(finding.at(bucket, &object.key, None).with(detail));
        }
        Ok(page)
    }
}

/// Says so if the record names another object of the lake than this one.
///
/// Two kinds of leftovers are no findings. A submission that lost its claim in its last step leaves received bytes that the
/// record does not name. A failed try leaves objects of a message that is not stored, and the next try overwrites them.
fn not_named(key: &str, record: &Record) -> Option<&'static str> {
    let facts = record.facts.as_ref()?;
    let is_named = facts.key == key || facts.json_key.as_deref() == Some(key) || facts.raw_key.as_deref() == Some(key);
    (!is_named && !key.contains("/format=raw/")).then_some("the record names another object")
}

/// Whether an item is no record but an institute's allowance, or a user's identity id.
fn is_no_record(item: &Item) -> bool {
    let source = item.get("source").and_then(|it| it.as_s().ok());
    source.is_some_and(|it| [catalog::ALLOWANCES, catalog::IDENTITIES].contains(&it.as_str()))
}

/// When a submission arrived: its id has the time.
fn submitted_at(submission_id: domain::SubmissionId) -> Option<Timestamp> {
    let ulid: ulid::Ulid = submission_id.to_string().parse().ok()?;
    Timestamp::from_millis(i64::try_from(ulid.timestamp_ms()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_id_has_its_time() {
        let id = "01JADE0FZZCHECKBYHAND00000".parse().unwrap();
        assert_eq!(submitted_at(id).unwrap().date(), "2024-10-17");
    }

    #[test]
    fn an_audit_goes_through_each_institute_in_each_phase() {
        let mut at = Checkpoint::default();
        let mut seen = Vec::new();
        while at.phase != Phase::Done {
            seen.push((at.phase, at.scope, at.after.is_some()));
            // Each first page has a second one.
            let next = at.after.is_none().then(|| vec!["x".to_owned()]);
            at = at.after(Checked { records: 1, ..Checked::default() }, next, 2);
        }
        let expected: Vec<_> = [Phase::Records, Phase::Accepted, Phase::Objects, Phase::Held]
            .into_iter()
            .flat_map(|phase| [0, 1].into_iter().flat_map(move |scope| [false, true].map(|more| (phase, scope, more))))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(at.checked.records, 16);
    }
}
