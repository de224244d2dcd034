//! Delivers from the spool to the API in the background, several messages at a time. Each is delivered again until the lake has
//! stored it or, with [`Keep::UntilQueued`], until the API has given a final answer.
//!
//! Large messages have tasks of their own, since an upload may take minutes and another route than a request: neither its
//! slowness nor its failure holds up the others.
//!
//! The order of messages is not kept: a message that has to wait would hold up all others, and the lake does not depend on their order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::{Charset, MAX_MESSAGE_BYTES, MessageId};
use hl7::Body;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::awaited::{Awaited, AwaitedMessage, AwaitedQueue, Due};
use crate::destination::{Destination, Ending, MOST_ASKED, Receipt, Reply, Standing};
use crate::origin::Origin;
use crate::report::{Counters, Log, count};
use crate::spool::{Content, Entry, Lane, Reason, Spool};

/// The first pause when the API does not answer; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is honored.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The pause before a message is submitted again grows to this many times the first: an hour, if that is ten seconds.
const LONGEST_AGAIN: u32 = 360;

/// From this many resubmissions on, each moves the message to the newest file of the spool: it may stay for long, and would keep
/// its whole old file on the disk.
const MOVED_AFTER: u32 = 3;

/// After this time the gateway resubmits a message that is not stored, even though the API says that it is on its way. The lake
/// itself tries for three hours, and a second submission does no harm.
const PENDING_FOR_LONG: Duration = Duration::from_secs(12 * 60 * 60);

/// The status recorded for a message that an operator has discarded.
const GONE: u16 = 410;

/// How long the spool keeps a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Until the lake has stored it. A message that the lake holds or loses is submitted again.
    #[default]
    UntilStored,
    /// Until the API has it.
    UntilQueued,
}

/// Delivers messages until it is told to stop.
#[derive(Debug)]
pub(crate) struct Delivery<L> {
    pub(crate) destination: Arc<L>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Log,
    pub(crate) pace: Pace,
    pub(crate) keep: Keep,
    /// The first pause before a held or lost message is submitted again; each further one is twice as long.
    pub(crate) again_after: Duration,
    /// Messages that the API has and the lake has not stored yet.
    pub(crate) awaited: AwaitedQueue,
    /// Once true, no new work begins.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Keeps all tasks from calling an API that does not answer now.
#[derive(Debug)]
pub(crate) struct Pace {
    longest: Duration,
    pauses: Mutex<Pauses>,
}

#[derive(Debug)]
struct Pauses {
    /// Failures in a row.
    failures: u32,
    until: Instant,
    /// Successes since the start.
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

    /// Records a failure. Returns whether it is the first after a success. Failures reported during a pause belong to requests
    /// already in flight and do not count.
    fn failed(&self, after: Option<Duration>, now: Instant) -> bool {
        let mut pauses = self.pauses();
        if now < pauses.until {
            return false;
        }
        pauses.failures = pauses.failures.saturating_add(1);
        let doubled = FIRST_PAUSE.saturating_mul(1 << (pauses.failures - 1).min(10)).min(self.longest);
        // Half of the pause is random, so that many gateways do not come at the same time.
        let pause = doubled.mul_f64(fastrand::f64().midpoint(1.0));
        pauses.until = now + after.map_or(pause, |after| pause.max(after.min(LONGEST_RETRY_AFTER)));
        pauses.failures == 1
    }

    fn successes(&self) -> u64 {
        self.pauses().successes
    }

    /// The delay of a message that fails while others succeed.
    fn alone(&self, put_off: u32) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << put_off.min(10)).min(self.longest);
        doubled.mul_f64(fastrand::f64().midpoint(1.0))
    }

    /// Records a success. Returns whether it is the first after a failure.
    fn succeeded(&self) -> bool {
        let mut pauses = self.pauses();
        pauses.successes += 1;
        std::mem::take(&mut pauses.failures) > 0
    }
}

impl<L: Destination> Delivery<L> {
    /// Delivers the messages of a queue; several of these tasks run at the same time.
    pub(crate) async fn run(self: Arc<Self>, lane: Lane) {
        let mut stop = self.stop.clone();
        loop {
            let next = async {
                tokio::time::sleep_until(self.pace.until()).await;
                self.spool.take(lane).await
            };
            let entry = tokio::select! {
                biased;
                // An error means that the gateway has ended.
                _ = stop.wait_for(|stop| *stop) => return,
                entry = next => entry,
            };
            // A pause may have begun while this task waited for an entry.
            if self.pace.until() > Instant::now() {
                self.spool.put_back(entry);
                continue;
            }
            self.deliver(entry).await;
        }
    }

    async fn deliver(self: &Arc<Self>, mut entry: Entry) {
        let (origin, body) = match self.spool.read(&entry).await {
            Ok(Content::Message { origin, message }) => (origin, Bytes::from(message)),
            Ok(Content::Damaged) => {
                count(&self.counters.damaged);
                if let Some(waiter) = entry.waiter.take() {
                    // The sender may have gone.
                    let _ = waiter.send(vec![Ending::Damaged]);
                }
                self.log.say_seldom(
                    "damaged",
                    json!({ "detail": "a spool record is damaged and was moved to the folder `damaged`" }),
                );
                return;
            }
            Err(error) => {
                self.log.say_seldom("disk", json!({ "detail": "the spool cannot be read", "error": error.to_string() }));
                self.put_off(entry, None);
                return;
            }
        };
        if entry.is_submitted {
            // An earlier gateway has submitted it: ask the lake before submitting it again.
            match self.keep {
                Keep::UntilQueued => return self.spool.done(&entry),
                Keep::UntilStored => {
                    let ids = ids(body.clone(), origin.charset).await;
                    if !ids.is_empty() {
                        let messages = ids.into_iter().map(AwaitedMessage::Open).collect();
                        self.spool.submitted(&entry);
                        let awaited = Awaited { waiter: None, entry: Some(entry), messages, since: Instant::now(), looks: 0 };
                        return self.awaited.ask(awaited, true);
                    }
                }
            }
        }
        let receipts = match self.destination.submit(&body, origin.charset).await {
            Reply::Final(receipts) => receipts,
            Reply::Later { after, reason } => {
                count(&self.counters.tries_again);
                // If a message fails while others succeed, the API is not down. The message must hold up no other. An upload that fails
                // says nothing about the requests of others.
                let detail = match entry.lane {
                    Lane::Large => Some("a large message is not delivered"),
                    Lane::Small if entry.failed_after.is_some_and(|before| before < self.pace.successes()) => {
                        Some("a message fails while others are delivered")
                    }
                    Lane::Small => None,
                };
                if let Some(detail) = detail {
                    self.log.say_of(&origin, "putOff", json!({ "detail": detail, "reason": reason }));
                    return self.put_off(entry, after);
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
        let is_large = body.len() > MAX_MESSAGE_BYTES;
        let refusal = receipts.iter().find_map(|receipt| match receipt {
            Receipt::Refused { status, detail } => Some((*status, detail.clone())),
            _ => None,
        });
        if let Some((status, detail)) = refusal {
            self.log.say_of(&origin, "refused", json!({ "status": status, "detail": detail }));
            if !self.set_aside(&entry, &origin, body, status, detail).await {
                return self.put_off(entry, None);
            }
            count(&self.counters.refused);
        } else if entry.again == 0 {
            count(&self.counters.delivered);
            if is_large {
                count(&self.counters.uploaded);
            }
            if !receipts.is_empty() && receipts.iter().all(|receipt| *receipt == Receipt::Duplicate) {
                count(&self.counters.duplicates);
            }
        }
        let waiter = entry.waiter.take();
        let is_open = receipts.iter().any(|receipt| matches!(receipt, Receipt::Queued { .. }));
        let entry = match self.keep {
            Keep::UntilStored => {
                if is_open {
                    self.spool.submitted(&entry);
                }
                Some(entry)
            }
            Keep::UntilQueued => {
                self.spool.done(&entry);
                None
            }
        };
        let messages = receipts.into_iter().map(|receipt| match receipt {
            Receipt::Queued { id } => AwaitedMessage::Open(id),
            Receipt::Duplicate => AwaitedMessage::Ended(Ending::Stored),
            Receipt::Refused { detail, .. } => AwaitedMessage::Ended(Ending::Refused(detail)),
        });
        let awaited = Awaited { entry, waiter, messages: messages.collect(), since: Instant::now(), looks: 0 };
        if is_open {
            self.awaited.ask(awaited, false);
        } else {
            self.end(awaited).await;
        }
    }

    /// Asks for the status of submitted messages, until it is told to stop. Several of these tasks run at the same time.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut stop = self.stop.clone();
        loop {
            let Due { ask, submit } = tokio::select! {
                biased;
                // An error means that the gateway has ended.
                _ = stop.wait_for(|stop| *stop) => return,
                due = self.awaited.due() => due,
            };
            for entry in submit {
                self.spool.put_back(entry);
            }
            self.ask(ask).await;
        }
    }

    async fn ask(&self, mut frames: Vec<Awaited>) {
        let ids: Vec<MessageId> = frames.iter().flat_map(Awaited::open).cloned().collect();
        let mut standings = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_ASKED) {
            count(&self.counters.questions);
            match self.destination.standings(ids).await {
                Ok(found) if found.len() == ids.len() => standings.extend(found),
                Ok(_) => standings.extend(ids.iter().map(|_| Standing::Pending)),
                Err(reason) => {
                    self.log
                        .say_seldom("status", json!({ "detail": "the API does not say how far messages are", "reason": reason }));
                    standings.extend(ids.iter().map(|_| Standing::Pending));
                }
            }
        }
        let mut standings = standings.into_iter();
        for mut frame in frames.drain(..) {
            frame.looks += 1;
            let is_kept = frame.entry.is_some();
            for message in &mut frame.messages {
                if matches!(message, AwaitedMessage::Open(_)) {
                    let ending = match standings.next() {
                        Some(Standing::Pending) | None => continue,
                        Some(Standing::Stored) => Ending::Stored,
                        Some(Standing::Unparsable) => Ending::Unparsable,
                        Some(Standing::Held(reason)) => Ending::Held(reason),
                        Some(Standing::Discarded) => Ending::Discarded,
                        Some(Standing::Lost) => Ending::Lost { is_kept },
                    };
                    *message = AwaitedMessage::Ended(ending);
                }
            }
            if frame.since.elapsed() > PENDING_FOR_LONG && is_kept {
                for message in frame.messages.iter_mut().filter(|message| matches!(message, AwaitedMessage::Open(_))) {
                    *message = AwaitedMessage::Ended(Ending::Lost { is_kept });
                }
            }
            self.end(frame).await;
        }
    }

    /// Acts on the outcomes of a frame's messages, or keeps waiting while one is unknown.
    async fn end(&self, mut frame: Awaited) {
        let Some(endings) = frame.endings() else { return self.awaited.ask(frame, false) };
        if let Some(mut entry) = frame.entry.take() {
            let is_held = endings.iter().any(|ending| matches!(ending, Ending::Held(_)));
            let is_lost = endings.iter().any(|ending| matches!(ending, Ending::Lost { .. }));
            if is_held || is_lost {
                count(if is_held { &self.counters.held } else { &self.counters.lost });
                let what = endings.iter().find_map(|ending| match ending {
                    Ending::Held(reason) => Some(reason.as_str()),
                    _ => None,
                });
                let members = json!({ "detail": "the lake has not stored a message: it is submitted again", "held": what });
                self.log.say_seldom("again", members);
                if entry.again >= MOVED_AFTER {
                    entry = self.spool.moved(entry).await;
                }
                let pause = self.again(entry.again);
                entry.again = entry.again.saturating_add(1);
                entry.is_submitted = false;
                self.awaited.submit(entry, pause);
            } else {
                if endings.contains(&Ending::Discarded) && !self.set_discarded_aside(&entry).await {
                    frame.entry = Some(entry);
                    return self.awaited.ask(frame, false);
                }
                if endings.iter().any(|ending| matches!(ending, Ending::Stored | Ending::Unparsable)) {
                    count(&self.counters.stored);
                }
                self.spool.done(&entry);
            }
        }
        if let Some(waiter) = frame.waiter.take() {
            // The sender may have gone.
            let _ = waiter.send(endings);
        }
    }

    /// The delay before a message is submitted again, by the number of earlier resubmissions.
    fn again(&self, again: u32) -> Duration {
        let times = (1 << again.min(10)).min(LONGEST_AGAIN);
        self.again_after.saturating_mul(times).mul_f64(fastrand::f64().midpoint(1.0))
    }

    /// Writes a message to the folder of messages that the API refuses. Returns whether that succeeded.
    async fn set_aside(&self, entry: &Entry, origin: &Origin, body: Bytes, status: u16, detail: String) -> bool {
        let reason = Reason {
            status,
            detail,
            charset: origin.charset.map(|charset| charset.name().to_owned()),
            received_at: time(i64::try_from(entry.received_ms).unwrap_or_default()),
            refused_at: Timestamp::now().to_string(),
        };
        let written = self.spool.refuse(body, reason).await;
        if let Err(error) = &written {
            let members = json!({ "detail": "a refused message cannot be set aside", "error": error.to_string() });
            self.log.say_of(origin, "disk", members);
        }
        written.is_ok()
    }

    /// The same for a message that an operator of the lake has discarded, so that nobody loses it without knowing.
    async fn set_discarded_aside(&self, entry: &Entry) -> bool {
        match self.spool.read(entry).await {
            Ok(Content::Message { origin, message }) => {
                let detail = "an operator of the lake has discarded the message".to_owned();
                self.log.say_of(&origin, "refused", json!({ "status": GONE, "detail": detail }));
                count(&self.counters.refused);
                self.set_aside(entry, &origin, message.into(), GONE, detail).await
            }
            // It is in the folder `damaged`.
            Ok(Content::Damaged) => true,
            Err(_) => false,
        }
    }

    /// Gives a message back after a pause, without holding up others. The pause is at least `after`, if the API asks for one.
    fn put_off(&self, mut entry: Entry, after: Option<Duration>) {
        let pause = self.pace.alone(entry.put_off).max(after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
        // It does not keep the spool's lock when the gateway has ended.
        let spool = Arc::downgrade(&self.spool);
        entry.put_off += 1;
        entry.failed_after = Some(self.pace.successes());
        // If the gateway ends meanwhile, the next one takes it.
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            if let Some(spool) = spool.upgrade() {
                spool.put_back(entry);
            }
        });
    }

    /// Gives a message back and begins a pause for all. Returns whether the API answered before.
    fn later(&self, entry: Entry, after: Option<Duration>) -> bool {
        let is_first = self.pace.failed(after, Instant::now());
        self.spool.put_back(entry);
        is_first
    }
}

/// The ids of the messages of a frame, as the API computes them. Unreadable messages have none: the API has refused them.
async fn ids(body: Bytes, charset: Option<Charset>) -> Vec<MessageId> {
    // For a large message this takes up to seconds, in which others are delivered.
    let reading = tokio::task::spawn_blocking(move || {
        Body::of(body, charset).messages().filter_map(|piece| Some(piece.read().ok()?.id)).collect()
    });
    // Without ids the message is submitted again, which is safe.
    reading.await.unwrap_or_default()
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
