//! The claim protocol against a reference model: random interleavings of submissions, crashes, retries and lapsed leases,
//! run with the very writes that the workers use, on the local DynamoDB.
//!
//! What must hold after every step: the answer is the model's; the record is the model's; never does a second submission
//! get the claim while the first one's lease is alive. And at the end: stored exactly once, nothing lost.

use std::time::Duration;

use anyhow::Result;
use catalog::{Catalog, Discard, RecordedSubmission};
use domain::claim::{Claim, Finish, GivenUp, Released};
use domain::held::RELEASE_GRACE;
use domain::{
    Charset, Er7, HeldFacts, HoldReason, Record, Requester, State, Status, Stored, StoredFacts, SubmittedMessage, Summary,
    Timestamp,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sluice_tests::{Harness, unique};

const LEASE_MS: i64 = 1000;
const GRACE_MS: i64 = RELEASE_GRACE.as_millis() as i64 + 1;
const SUBMISSIONS: usize = 3;
const HELD_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// One thing that happens. A crash is a claim that nothing follows.
#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Claim(usize),
    Finish(usize),
    Hold(usize),
    GiveUp(usize),
    Fail(usize),
    Release(usize),
    TakeReleaseBack(usize),
    Discard,
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..SUBMISSIONS;
    let step = prop_oneof![
        2 => who.clone().prop_map(Step::Submit),
        4 => who.clone().prop_map(Step::Claim),
        2 => who.clone().prop_map(Step::Finish),
        2 => who.clone().prop_map(Step::Hold),
        1 => who.clone().prop_map(Step::GiveUp),
        1 => who.clone().prop_map(Step::Fail),
        2 => who.clone().prop_map(Step::Release),
        1 => who.prop_map(Step::TakeReleaseBack),
        1 => Just(Step::Discard),
        3 => prop_oneof![Just(1), Just(400), Just(LEASE_MS), Just(LEASE_MS + 1), Just(GRACE_MS)].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..25)
}

/// What the catalog should say, kept in four variables.
#[derive(Debug, Default)]
struct Model {
    status: Option<Status>,
    claim: Option<usize>,
    lease_until: Option<i64>,
    newest: Option<usize>,
    /// When it was first submitted or claimed.
    first: Option<i64>,
    /// Whose bytes the record names.
    stored_by: Option<usize>,
    /// Whose copy in the held bucket the record names.
    held_by: Option<usize>,
    /// When it was last submitted or released.
    queued_at: i64,
}

impl Model {
    fn submit(&mut self, who: usize, now: i64) -> RecordedSubmission {
        let first_received_at = Timestamp::from_millis(*self.first.get_or_insert(now)).unwrap();
        if self.status == Some(Status::Stored) {
            return RecordedSubmission { is_stored: true, first_received_at };
        }
        self.status = Some(Status::Queued);
        self.newest = Some(who);
        self.queued_at = now;
        RecordedSubmission { is_stored: false, first_received_at }
    }

    fn claim(&mut self, who: usize, now: i64) -> &'static str {
        let mine = self.claim == Some(who);
        if self.status == Some(Status::Stored) {
            return if mine { "already mine" } else { "duplicate" };
        }
        if self.status == Some(Status::Discarded) {
            return "discarded";
        }
        if !mine && self.lease_until.is_some_and(|until| until >= now) {
            return "in progress";
        }
        self.first.get_or_insert(now);
        self.status = Some(Status::Processing);
        self.claim = Some(who);
        self.lease_until = Some(now + LEASE_MS);
        self.newest.get_or_insert(who);
        "new"
    }

    fn finish(&mut self, who: usize) -> &'static str {
        match (self.status, self.claim == Some(who)) {
            (Some(Status::Stored), false) => "duplicate",
            (Some(Status::Stored), true) => "stored",
            (_, true) => {
                self.status = Some(Status::Stored);
                self.lease_until = None;
                self.stored_by = Some(who);
                self.held_by = None;
                "stored"
            }
            (_, false) => "lost",
        }
    }

    fn give_up(&mut self, who: usize, to: Status) -> GivenUp {
        if self.status == Some(Status::Stored) || self.claim != Some(who) {
            return GivenUp::Lost;
        }
        self.lease_until = None;
        let newest = self.newest.is_none_or(|newest| newest == who);
        self.status = Some(if newest { to } else { Status::Queued });
        if newest && to.is_final() {
            self.newest = None;
        }
        if to == Status::Held {
            self.held_by = Some(who);
        }
        if newest { GivenUp::Recorded } else { GivenUp::QueuedForAnother }
    }

    /// Whose copy is released, or the status that forbids it.
    fn release(&mut self, who: usize, now: i64) -> Option<Result<usize, Status>> {
        let status = self.status?;
        let is_held = status == Status::Held;
        let is_lost = matches!(status, Status::Queued | Status::Processing)
            && self.queued_at < now - RELEASE_GRACE.as_millis() as i64
            && self.lease_until.is_none_or(|until| until < now);
        // Asked for again because its answer was lost.
        let is_repeated = status == Status::Queued && self.newest == Some(who);
        if is_repeated && !is_lost {
            return Some(self.held_by.ok_or(status));
        }
        let Some(copy) = self.held_by.filter(|_| is_held || is_lost) else { return Some(Err(status)) };
        self.status = Some(Status::Queued);
        self.newest = Some(who);
        self.queued_at = now;
        Some(Ok(copy))
    }

    fn take_release_back(&mut self, who: usize) {
        if self.status == Some(Status::Queued) && self.newest == Some(who) {
            self.status = Some(Status::Held);
            self.newest = None;
        }
    }
}

/// The real catalog beside the model, with a clock of its own.
struct Run {
    catalog: Catalog,
    submissions: Vec<SubmittedMessage>,
    model: Model,
    now: i64,
    /// How often a finish was answered with "stored" for the first time.
    times_stored: usize,
}

impl Run {
    fn new(it: &Harness) -> Result<Self> {
        let message_id = Er7::canonical(&unique())?.message_id();
        let source: domain::Source = it.institute.parse()?;
        let submitted = || SubmittedMessage {
            submission_id: runtime::new_submission_id(),
            message_id: message_id.clone(),
            source: source.clone(),
        };
        let submissions = (0..SUBMISSIONS).map(|_| submitted()).collect();
        Ok(Self { catalog: it.catalog(), submissions, model: Model::default(), now: 1_800_000_000_000, times_stored: 0 })
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now).unwrap()
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Wait(ms) => self.now += ms,
            Step::Submit(who) => {
                let recorded = self.catalog.record_submission(&self.submissions[who], self.at(), &somebody()).await?;
                assert_eq!(recorded, self.model.submit(who, self.now));
            }
            Step::Claim(who) => {
                self.claim(who).await?;
            }
            // A step that never follows a claim in the pipeline is left out: without a record there is nothing to finish.
            Step::Finish(_) | Step::Hold(_) | Step::GiveUp(_) | Step::Fail(_) if self.model.status.is_none() => {}
            Step::Finish(who) => self.finish(who).await?,
            Step::Hold(who) => self.hold(who).await?,
            Step::GiveUp(who) => self.give_up(who, Status::Queued).await?,
            Step::Fail(who) => self.give_up(who, Status::Failed).await?,
            Step::Release(who) => self.release(who).await?,
            // Only a release is taken back, and a submission whose copy is not there has none.
            Step::TakeReleaseBack(_) if self.model.held_by.is_none() => {}
            Step::TakeReleaseBack(who) => {
                self.model.take_release_back(who);
                self.catalog.take_release_back(&self.submissions[who], None).await?;
            }
            Step::Discard => self.discard().await?,
        }
        self.compare_record().await
    }

    async fn claim(&mut self, who: usize) -> Result<&'static str> {
        let (owner_before, lease_before) = (self.model.claim, self.model.lease_until);
        let claim =
            self.catalog.claim(&self.submissions[who], self.at(), self.at(), Duration::from_millis(LEASE_MS as u64)).await?;
        let answer = match claim {
            Claim::New { .. } => "new",
            Claim::Duplicate => "duplicate",
            Claim::InProgress { .. } => "in progress",
            Claim::AlreadyMine(_) => "already mine",
            Claim::Discarded => "discarded",
        };
        assert_eq!(answer, self.model.claim(who, self.now));
        let alive = lease_before.is_some_and(|until| until >= self.now);
        assert!(answer != "new" || !alive || owner_before == Some(who), "two owners at one time");
        Ok(answer)
    }

    async fn finish(&mut self, who: usize) -> Result<()> {
        let was_stored = self.model.status == Some(Status::Stored);
        let facts = StoredFacts {
            stored_at: self.at(),
            state: State::Parsed,
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            version_id: None,
            json_key: None,
            json_version_id: None,
            raw_key: Some(self.submissions[who].submission_id.to_string()),
            raw_version_id: None,
            charset: Some(Charset::UTF_8),
            summary: Summary::default(),
        };
        let stored = Stored { received_at: self.at(), facts, error: None };
        let answer = match self.catalog.finish(&self.submissions[who], stored).await? {
            Finish::Stored(_) => "stored",
            Finish::Duplicate => "duplicate",
            Finish::Lost => "lost",
        };
        assert_eq!(answer, self.model.finish(who));
        self.times_stored += usize::from(answer == "stored" && !was_stored);
        Ok(())
    }

    async fn give_up(&mut self, who: usize, to: Status) -> Result<()> {
        let given_up = self.catalog.give_up(&self.submissions[who], to, "Denied").await?;
        assert_eq!(given_up, self.model.give_up(who, to));
        Ok(())
    }

    async fn hold(&mut self, who: usize) -> Result<()> {
        let held = self.held(who);
        let given_up = self.catalog.hold(&self.submissions[who], &held, "Denied").await?;
        assert_eq!(given_up, self.model.give_up(who, Status::Held));
        Ok(())
    }

    async fn discard(&mut self) -> Result<()> {
        let SubmittedMessage { source, message_id, .. } = &self.submissions[0];
        let discarded = match self.catalog.discard(source, message_id, "operator", "reason", self.at()).await? {
            Discard::Discarded(_) => Some(Status::Discarded),
            Discard::NotHeld(status) => Some(status),
            Discard::Unknown => None,
        };
        if self.model.status == Some(Status::Held) {
            self.model.status = Some(Status::Discarded);
        }
        assert_eq!(discarded, self.model.status);
        Ok(())
    }

    /// The facts of the copy that this submission made.
    fn held(&self, who: usize) -> HeldFacts {
        HeldFacts {
            held_reason: HoldReason::Denied,
            held_since: self.at(),
            held_until: self.at().plus(HELD_FOR),
            held_key: self.submissions[who].submission_id.to_string(),
            held_version_id: None,
        }
    }

    async fn release(&mut self, who: usize) -> Result<()> {
        let released = match self.catalog.release(&self.submissions[who], &somebody(), self.at()).await? {
            Released::Queued(held) => Some(Ok(held.held_key)),
            Released::NotHeld(status) => Some(Err(status)),
            Released::Unknown => None,
        };
        let id = |who: usize| self.submissions[who].submission_id.to_string();
        assert_eq!(released, self.model.release(who, self.now).map(|it| it.map(id)));
        Ok(())
    }

    async fn compare_record(&self) -> Result<()> {
        let submitted = &self.submissions[0];
        let record: Option<Record> = self.catalog.get(&submitted.source, &submitted.message_id).await?;
        let id = |who: usize| self.submissions[who].submission_id;
        assert_eq!(record.as_ref().map(|it| it.status), self.model.status);
        let item = self.catalog.items(vec![catalog::key(&submitted.source, &submitted.message_id)]).await?.pop();
        let text = |name: &str| item.as_ref().and_then(|it| it.get(name)?.as_s().ok()).map(String::as_str);
        assert_eq!(text("listed"), self.model.status.map(|it| it.listed().as_str()), "the status in the index by arrival");
        let shard = domain::arrivals::shard(&submitted.source, &submitted.message_id);
        assert_eq!(text(domain::arrivals::SHARD), self.model.status.map(|_| shard.as_str()));
        assert_eq!(record.as_ref().and_then(|it| it.claim_submission), self.model.claim.map(id));
        assert_eq!(record.as_ref().and_then(|it| it.lease_until), self.model.lease_until);
        let held = record.as_ref().and_then(|it| it.held.as_ref()).map(|it| it.held_key.clone());
        assert_eq!(held, self.model.held_by.map(|who| id(who).to_string()), "the copy stays known until the message is stored");
        let facts = record.as_ref().and_then(|it| it.facts.as_ref());
        let received = facts.and_then(|it| it.raw_key.clone());
        assert_eq!(received, self.model.stored_by.map(|who| id(who).to_string()), "what the finishing submission received");
        assert_eq!(facts.and_then(|it| it.charset), self.model.stored_by.map(|_| Charset::UTF_8));
        let expires = record.as_ref().map(|it| it.expires_at.is_some());
        assert_eq!(expires, self.model.status.map(|status| status != Status::Stored), "only what is not stored expires");
        if let Some(Record { held: Some(held), expires_at: Some(expires_at), .. }) = &record {
            assert!(*expires_at > held.held_until.as_seconds(), "the record outlives the copy");
        }
        Ok(())
    }

    /// The queue offers every submission again until it is done. If they may store, the message is stored in the end, once;
    /// if they may not, its status is a final one, in whatever order they were refused.
    async fn drain(&mut self, may_store: bool, order: &[usize]) -> Result<()> {
        for &who in order {
            self.now += LEASE_MS + 1;
            if self.claim(who).await? == "new" {
                if may_store { self.finish(who).await? } else { self.hold(who).await? }
            }
        }
        self.compare_record().await?;
        // What was discarded, and was not submitted since, nobody claims.
        if (may_store && self.model.status != Some(Status::Discarded)) || self.times_stored > 0 {
            assert_eq!((self.model.status, self.times_stored), (Some(Status::Stored), 1));
        }
        assert!(self.model.status.is_some_and(Status::is_final), "nobody is left, and the status is not final");
        Ok(())
    }
}

fn somebody() -> Requester {
    Requester { subject: "s".to_owned(), issuer: "i".to_owned() }
}

/// So many random interleavings, each about a message of its own of this test's institute.
pub(crate) fn interleave(it: &Harness, cases: u32) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let order = Just((0..SUBMISSIONS).collect::<Vec<_>>()).prop_shuffle();
    runner.run(&(steps(), any::<bool>(), order), |(steps, may_store, order)| {
        runtime
            .block_on(async {
                let mut run = Run::new(it)?;
                for step in &steps {
                    run.step(step).await?;
                }
                run.drain(may_store, &order).await
            })
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

#[test]
fn random_interleavings_store_a_message_exactly_once() -> Result<()> {
    interleave(&Harness::new()?, 60)
}
