//! What the gateway says of itself: counts, and a line of JSON for what an operator should know. Nothing of a message is in
//! either, nor a control id.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::spool::Status;

/// The same thing is said once in so long, and how often it was not.
const QUIET: Duration = Duration::from_secs(5);

/// Where lines of JSON go. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    sink: Arc<dyn Fn(&str) + Send + Sync>,
    said: Arc<Mutex<HashMap<&'static str, Said>>>,
}

struct Said {
    at: Instant,
    /// Since then, and not said.
    held_back: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Log")
    }
}

impl Log {
    /// A log that gives each line, without its end, to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), said: Arc::default() }
    }

    /// Says something; `members` is a JSON object.
    pub(crate) fn say(&self, event: &str, mut members: Value) {
        if let Some(members) = members.as_object_mut() {
            members.insert("event".to_owned(), event.into());
            members.insert("time".to_owned(), Timestamp::now().to_string().into());
        }
        (self.sink)(&members.to_string());
    }

    /// Says something that a peer can bring about as often as it likes.
    pub(crate) fn say_seldom(&self, event: &'static str, mut members: Value) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let held_back = match said.get_mut(event) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.held_back += 1;
                return;
            }
            Some(said) => std::mem::replace(said, Said { at: now, held_back: 0 }).held_back,
            None => {
                said.insert(event, Said { at: now, held_back: 0 });
                0
            }
        };
        drop(said);
        if let Some(members) = members.as_object_mut().filter(|_| held_back > 0) {
            members.insert("heldBack".to_owned(), json!(held_back));
        }
        self.say(event, members);
    }
}

/// What was counted since the gateway began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) tries_again: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One line of the gateway's report. All counts but the last five are of frames since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Frames that were read to their end.
    pub received: u64,
    /// Answered with CA or AA.
    pub acknowledged: u64,
    /// Answered with another code.
    pub rejected: u64,
    /// Begun and not ended: the peer went away, began anew, or was too slow.
    pub cut: u64,
    /// The API has them.
    pub delivered: u64,
    /// Of those, the ones that the lake had before.
    pub duplicates: u64,
    /// The API will never take them; they are in the spool's `refused`.
    pub refused: u64,
    /// Records of the spool that are not what was written; they are in its `damaged`.
    pub damaged: u64,
    /// Submissions that had no final answer.
    pub tries_again: u64,
    /// Connections that were closed because there were too many.
    pub turned_away: u64,
    /// Connections that ended before TLS was agreed on: no certificate, a wrong one, no TLS.
    pub handshakes_failed: u64,
    /// Acknowledged and not delivered, now.
    pub spooled: usize,
    /// Of the spool, on disk, now.
    pub spool_bytes: u64,
    /// How long the oldest of them waits.
    pub oldest_seconds: u64,
    /// Open connections, now.
    pub connections: u64,
}

impl Report {
    pub(crate) fn of(counters: &Counters, spool: Status, now_ms: u64) -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            received: get(&counters.received),
            acknowledged: get(&counters.acknowledged),
            rejected: get(&counters.rejected),
            cut: get(&counters.cut),
            delivered: get(&counters.delivered),
            duplicates: get(&counters.duplicates),
            refused: get(&counters.refused),
            damaged: get(&counters.damaged),
            tries_again: get(&counters.tries_again),
            turned_away: get(&counters.turned_away),
            handshakes_failed: get(&counters.handshakes_failed),
            spooled: spool.messages,
            spool_bytes: spool.bytes,
            oldest_seconds: spool.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest) / 1000),
            connections: get(&counters.connections),
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
