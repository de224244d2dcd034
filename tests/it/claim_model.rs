//! The claim protocol against a reference model: random interleavings of submissions, crashes, retries and lapsed leases,
//! run with the very writes that the workers use, on the local DynamoDB.
//!
//! What must hold after every step: the answer is the model's; the record is the model's; never does a second submission
//! get the claim while the first one's lease is alive. And at the end: stored exactly once, nothing lost.

use std::time::Duration;

use anyhow::Result;
use catalog::{Catalog, Noted};
use domain::claim::{Claim, Finish, GivenUp};
use domain::step::Subject;
use domain::{Charset, Er7, Record, State, Status, Stored, SubmissionId, Summary, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sluice_tests::{Harness, unique};

const LEASE_MS: i64 = 1000;
const SUBMISSIONS: usize = 3;

/// One thing that happens. A crash is a claim that nothing follows.
#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Claim(usize),
    Finish(usize),
    Reject(usize),
    Release(usize),
    Fail(usize),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..SUBMISSIONS;
    let step = prop_oneof![
        2 => who.clone().prop_map(Step::Submit),
        4 => who.clone().prop_map(Step::Claim),
        2 => who.clone().prop_map(Step::Finish),
        1 => who.clone().prop_map(Step::Reject),
        1 => who.clone().prop_map(Step::Release),
        1 => who.prop_map(Step::Fail),
        3 => prop_oneof![Just(1), Just(400), Just(LEASE_MS), Just(LEASE_MS + 1)].prop_map(Step::Wait),
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
}

impl Model {
    fn submit(&mut self, who: usize, now: i64) -> Noted {
        let first_received_at = Timestamp::from_millis(*self.first.get_or_insert(now)).unwrap();
        if self.status == Some(Status::Stored) {
            return Noted { is_stored: true, first_received_at };
        }
        self.status = Some(Status::Queued);
        self.newest = Some(who);
        Noted { is_stored: false, first_received_at }
    }

    fn claim(&mut self, who: usize, now: i64) -> &'static str {
        let mine = self.claim == Some(who);
        if self.status == Some(Status::Stored) {
            return if mine { "already mine" } else { "duplicate" };
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
        if newest { GivenUp::Recorded } else { GivenUp::QueuedForAnother }
    }
}

/// The real catalog beside the model, with a clock of its own.
struct Run {
    catalog: Catalog,
    subjects: Vec<Subject>,
    model: Model,
    now: i64,
    /// How often a finish was answered with "stored" for the first time.
    times_stored: usize,
}

impl Run {
    fn new(it: &Harness) -> Result<Self> {
        let message_id = Er7::canonical(&unique())?.message_id();
        let source: domain::Source = it.institute.parse()?;
        let subject =
            || Subject { submission_id: SubmissionId::generate(), message_id: message_id.clone(), source: source.clone() };
        let subjects = (0..SUBMISSIONS).map(|_| subject()).collect();
        Ok(Self { catalog: it.catalog(), subjects, model: Model::default(), now: 1_800_000_000_000, times_stored: 0 })
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now).unwrap()
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Wait(ms) => self.now += ms,
            Step::Submit(who) => {
                let noted = self.catalog.note_submission(&self.subjects[who], self.at()).await?;
                assert_eq!(noted, self.model.submit(who, self.now));
            }
            Step::Claim(who) => {
                self.claim(who).await?;
            }
            // A step that never follows a claim in the pipeline is left out: without a record there is nothing to finish.
            Step::Finish(_) | Step::Reject(_) | Step::Release(_) | Step::Fail(_) if self.model.status.is_none() => {}
            Step::Finish(who) => self.finish(who).await?,
            Step::Reject(who) => self.give_up(who, Status::Denied).await?,
            Step::Release(who) => self.give_up(who, Status::Queued).await?,
            Step::Fail(who) => self.give_up(who, Status::Failed).await?,
        }
        self.compare_record().await
    }

    async fn claim(&mut self, who: usize) -> Result<&'static str> {
        let (owner_before, lease_before) = (self.model.claim, self.model.lease_until);
        let claim = self.catalog.claim(&self.subjects[who], self.at(), self.at(), Duration::from_millis(LEASE_MS as u64)).await?;
        let answer = match claim {
            Claim::New { .. } => "new",
            Claim::Duplicate => "duplicate",
            Claim::InProgress { .. } => "in progress",
            Claim::AlreadyMine(_) => "already mine",
        };
        assert_eq!(answer, self.model.claim(who, self.now));
        let alive = lease_before.is_some_and(|until| until >= self.now);
        assert!(answer != "new" || !alive || owner_before == Some(who), "two owners at one time");
        Ok(answer)
    }

    async fn finish(&mut self, who: usize) -> Result<()> {
        let was_stored = self.model.status == Some(Status::Stored);
        let stored = Stored {
            state: State::Parsed,
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            version_id: None,
            json_key: None,
            json_version_id: None,
            raw_key: Some(self.subjects[who].submission_id.to_string()),
            raw_version_id: None,
            charset: Some(Charset::UTF_8),
            received_at: self.at(),
            stored_at: self.at(),
            summary: Summary::default(),
            error: None,
        };
        let answer = match self.catalog.finish(&self.subjects[who], stored).await? {
            Finish::Stored(_) => "stored",
            Finish::Duplicate => "duplicate",
            Finish::Lost => "lost",
        };
        assert_eq!(answer, self.model.finish(who));
        self.times_stored += usize::from(answer == "stored" && !was_stored);
        Ok(())
    }

    async fn give_up(&mut self, who: usize, to: Status) -> Result<()> {
        let given_up = self.catalog.give_up(&self.subjects[who], to, "Denied").await?;
        assert_eq!(given_up, self.model.give_up(who, to));
        Ok(())
    }

    async fn compare_record(&self) -> Result<()> {
        let subject = &self.subjects[0];
        let record: Option<Record> = self.catalog.get(&subject.source, &subject.message_id).await?;
        let id = |who: usize| self.subjects[who].submission_id;
        assert_eq!(record.as_ref().map(|it| it.status), self.model.status);
        assert_eq!(record.as_ref().and_then(|it| it.claim_submission), self.model.claim.map(id));
        assert_eq!(record.as_ref().and_then(|it| it.lease_until), self.model.lease_until);
        let received = record.as_ref().and_then(|it| it.raw_key.clone());
        assert_eq!(received, self.model.stored_by.map(|who| id(who).to_string()), "what the finishing submission received");
        assert_eq!(record.as_ref().and_then(|it| it.charset), self.model.stored_by.map(|_| Charset::UTF_8));
        let expires = record.as_ref().map(|it| it.expires_at.is_some());
        assert_eq!(expires, self.model.status.map(|status| status != Status::Stored), "only what is not stored expires");
        Ok(())
    }

    /// The queue offers every submission again until it is done. If they may store, the message is stored in the end, once;
    /// if they may not, its status is a final one, in whatever order they were refused.
    async fn drain(&mut self, may_store: bool, order: &[usize]) -> Result<()> {
        for &who in order {
            self.now += LEASE_MS + 1;
            if self.claim(who).await? == "new" {
                if may_store { self.finish(who).await? } else { self.give_up(who, Status::Denied).await? }
            }
        }
        self.compare_record().await?;
        if may_store || self.times_stored > 0 {
            assert_eq!((self.model.status, self.times_stored), (Some(Status::Stored), 1));
        }
        assert!(self.model.status.is_some_and(Status::is_final), "nobody is left, and the status is not final");
        Ok(())
    }
}

#[test]
fn random_interleavings_store_a_message_exactly_once() -> Result<()> {
    let it = Harness::new()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let order = Just((0..SUBMISSIONS).collect::<Vec<_>>()).prop_shuffle();
    runner.run(&(steps(), any::<bool>(), order), |(steps, may_store, order)| {
        runtime
            .block_on(async {
                let mut run = Run::new(&it)?;
                for step in &steps {
                    run.step(step).await?;
                }
                run.drain(may_store, &order).await
            })
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}
