//! From the spool to the API, in the background: several at a time, and again until there is a final answer.
//!
//! The order of messages is not kept: a message that has to wait would hold up all others, and the lake does not depend on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Charset;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::lake::{Lake, Outcome, Part, Submission};
use crate::report::{Counters, Log, count};
use crate::spool::{Content, Entry, Reason, Spool, Waiter};

/// The first pause when the API does not answer; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// An API that wants to be left alone for longer is asked earlier.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How often the outcome of a message is asked for.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// What became of one message, as far as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The lake has come to an end with it.
    Ended(Outcome),
    /// The API does not take it, for this reason.
    Refused(String),
    /// The disk has damaged it before it was delivered.
    Damaged,
}

/// Delivers until it is told to stop.
#[derive(Debug)]
pub(crate) struct Delivery<L> {
    pub(crate) lake: Arc<L>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Log,
    pub(crate) pace: Pace,
    /// That of all messages; else each says so itself.
    pub(crate) charset: Option<Charset>,
    /// When true, nothing more is begun.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Keeps everybody from asking an API that cannot answer just now.
#[derive(Debug)]
pub(crate) struct Pace {
    longest: Duration,
    pauses: Mutex<Pauses>,
}

#[derive(Debug)]
struct Pauses {
    /// In a row.
    failures: u32,
    until: Instant,
    /// Of all time.
    successes: u64,
}

impl Pace {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, pauses: Mutex::new(Pauses { failures: 0, until: Instant::now(), successes: 0 }) }
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self) -> Instant {
        self.pauses().until
    }

    /// Says whether it is the first failure after a success. Those that come while a pause is on were under way when it began, and
    /// count no further.
    fn failed(&self, after: Option<Duration>, now: Instant) -> bool {
        let mut pauses = self.pauses();
        if now < pauses.until {
            return false;
        }
        pauses.failures = pauses.failures.saturating_add(1);
        let doubled = FIRST_PAUSE.saturating_mul(1 << (pauses.failures - 1).min(10)).min(self.longest);
        // Half of it at random, so that many gateways do not come at the same time.
        let pause = doubled.mul_f64(fastrand::f64().midpoint(1.0));
        pauses.until = now + after.map_or(pause, |after| pause.max(after.min(LONGEST_RETRY_AFTER)));
        pauses.failures == 1
    }

    fn successes(&self) -> u64 {
        self.pauses().successes
    }

    /// How long a message is put off that fails while others do not.
    fn alone(&self, put_off: u32) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << put_off.min(10)).min(self.longest);
        doubled.mul_f64(fastrand::f64().midpoint(1.0))
    }

    /// Says whether it is the first success after a failure.
    fn succeeded(&self) -> bool {
        let mut pauses = self.pauses();
        pauses.successes += 1;
        std::mem::take(&mut pauses.failures) > 0
    }
}

impl<L: Lake> Delivery<L> {
    /// One of several that deliver at the same time.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut stop = self.stop.clone();
        loop {
            let next = async {
                tokio::time::sleep_until(self.pace.until()).await;
                self.spool.take().await
            };
            let entry = tokio::select! {
                biased;
                // An error: nobody is there who could say so.
                _ = stop.wait_for(|stop| *stop) => return,
                entry = next => entry,
            };
            // A pause may have begun while there was nothing to take.
            if self.pace.until() > Instant::now() {
                self.spool.put_back(entry);
                continue;
            }
            self.deliver(entry).await;
        }
    }

    async fn deliver(self: &Arc<Self>, mut entry: Entry) {
        let body = match self.spool.read(&entry).await {
            Ok(Content::Message(body)) => body,
            Ok(Content::Damaged) => {
                count(&self.counters.damaged);
                if let Some(waiter) = entry.waiter.take() {
                    // Nobody wants to know.
                    let _ = waiter.send(vec![Fate::Damaged]);
                }
                self.log.say_seldom(
                    "damaged",
                    json!({ "detail": "a record of the spool is not what was written: see its folder `damaged`" }),
                );
                return;
            }
            Err(error) => {
                self.log.say_seldom("disk", json!({ "detail": "the spool cannot be read", "error": error.to_string() }));
                self.put_off(entry);
                return;
            }
        };
        let parts = match self.lake.submit(&body).await {
            Submission::Final(parts) => parts,
            Submission::Later { after, reason } => {
                count(&self.counters.tries_again);
                // What fails while others succeed is no sign that the API does not answer, and holds up nobody.
                if entry.failed_after.is_some_and(|before| before < self.pace.successes()) {
                    self.log.say_seldom("putOff", json!({ "detail": "a message fails while others do not", "reason": reason }));
                    return self.put_off(entry);
                }
                entry.failed_after = Some(self.pace.successes());
                if self.later(entry, after) {
                    self.log.say("api", json!({ "answers": false, "reason": reason }));
                }
                return;
            }
        };
        if self.pace.succeeded() {
            self.log.say("api", json!({ "answers": true }));
        }
        let refusal = parts.iter().find_map(|part| match part {
            Part::Refused { status, detail } => Some((*status, detail.clone())),
            _ => None,
        });
        if let Some((status, detail)) = refusal {
            let reason = Reason {
                status,
                detail: detail.clone(),
                charset: self.charset.map(|charset| charset.name().to_owned()),
                received_at: time(i64::try_from(entry.received_ms).unwrap_or_default()),
                refused_at: Timestamp::now().to_string(),
            };
            if let Err(error) = self.spool.refuse(body, reason).await {
                self.log
                    .say_seldom("disk", json!({ "detail": "a refused message cannot be set aside", "error": error.to_string() }));
                self.put_off(entry);
                return;
            }
            count(&self.counters.refused);
            self.log.say_seldom("refused", json!({ "status": status, "detail": detail }));
        } else {
            count(&self.counters.delivered);
            if parts.iter().all(|part| *part == Part::Duplicate) {
                count(&self.counters.duplicates);
            }
        }
        self.spool.done(&entry);
        if let Some(waiter) = entry.waiter.take() {
            // It may take as long as the sender waits; the next message need not.
            tokio::spawn(Arc::clone(self).watch(parts, waiter));
        }
    }

    /// Gives a message back later, and holds up no other.
    fn put_off(&self, mut entry: Entry) {
        let (spool, pause) = (Arc::clone(&self.spool), self.pace.alone(entry.put_off));
        entry.put_off += 1;
        entry.failed_after = Some(self.pace.successes());
        // If the gateway ends meanwhile, the next one takes it.
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            spool.put_back(entry);
        });
    }

    /// Gives a message back. Says whether all was well before.
    fn later(&self, entry: Entry, after: Option<Duration>) -> bool {
        let is_first = self.pace.failed(after, Instant::now());
        self.spool.put_back(entry);
        is_first
    }

    /// Asks what becomes of messages until all have come to an end, or nobody wants to know any more.
    async fn watch(self: Arc<Self>, parts: Vec<Part>, mut waiter: Waiter) {
        let fates = async {
            let mut fates = Vec::with_capacity(parts.len());
            for part in parts {
                fates.push(match part {
                    Part::Queued { id } => Fate::Ended(self.outcome(&id).await),
                    Part::Duplicate => Fate::Ended(Outcome::Stored),
                    Part::Refused { detail, .. } => Fate::Refused(detail),
                });
            }
            fates
        };
        let fates = tokio::select! {
            fates = fates => fates,
            () = waiter.closed() => return,
        };
        // Nobody wants to know.
        let _ = waiter.send(fates);
    }

    async fn outcome(&self, id: &str) -> Outcome {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            if let Some(outcome) = self.lake.outcome(id).await {
                return outcome;
            }
            pause = pause.mul_f64(1.5).min(LONGEST_LOOK);
        }
    }
}

fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_a_success() {
        let longest = Duration::from_secs(60);
        let pace = Pace::new(longest);
        let mut now = pace.until();
        let mut last = Duration::ZERO;
        for nth in 0..20 {
            assert_eq!(pace.failed(None, now), nth == 0);
            let pause = pace.until() - now;
            let doubled = FIRST_PAUSE.saturating_mul(1 << nth.min(10)).min(longest);
            assert!(doubled / 2 <= pause && pause <= doubled, "{nth}: {pause:?}");
            assert!(!pace.failed(None, now + pause / 2) && pace.until() == now + pause, "one that was under way");
            (now, last) = (pace.until(), pause);
        }
        assert!(last >= longest / 2);
        assert!(pace.succeeded() && !pace.succeeded());
        assert!(pace.failed(Some(Duration::from_secs(7)), now));
        assert_eq!(pace.until(), now + Duration::from_secs(7));
        now = pace.until();
        pace.failed(Some(Duration::from_secs(3600)), now);
        assert_eq!(pace.until(), now + LONGEST_RETRY_AFTER);
    }
}
