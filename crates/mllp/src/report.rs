//! The gateway's log and counts: a line of JSON for each event that an operator should know. Neither holds anything of a message,
//! nor a control id.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::feed::Line;
use crate::origin::Origin;
use crate::spool::Backlog;

/// Repeated log events are limited to one per this interval; the next line tells how many were suppressed.
const QUIET: Duration = Duration::from_secs(5);

/// The same for peers that do not speak MLLP: each is logged once in this interval.
pub(crate) const QUIET_STRANGER: Duration = Duration::from_secs(60);

/// For how many events and addresses the log remembers when it last logged them.
const REMEMBERED: usize = 4096;

/// The receiver of lines of JSON. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    sink: Arc<dyn Fn(&str) + Send + Sync>,
    said: Arc<Mutex<HashMap<Key, Said>>>,
}

/// An event, the address of the peer that caused it, and the cause without its numbers.
type Key = (&'static str, Option<IpAddr>, String);

struct Said {
    at: Instant,
    /// For how long it is not said again.
    quiet: Duration,
    /// How many lines were suppressed since then.
    held_back: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Log")
    }
}

impl Log {
    /// A log that passes each line, without its end, to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { sink: Arc::new(sink), said: Arc::default() }
    }

    /// Logs an event; `members` is a JSON object.
    pub(crate) fn say(&self, event: &str, mut members: Value) {
        if let Some(members) = members.as_object_mut() {
            members.insert("event".to_owned(), event.into());
            members.insert("time".to_owned(), Timestamp::now().to_string().into());
        }
        (self.sink)(&members.to_string());
    }

    /// Logs an event that may happen often.
    pub(crate) fn say_seldom(&self, event: &'static str, members: Value) {
        self.say_limited((event, None, String::new()), QUIET, members);
    }

    /// Logs an event that a peer can cause as often as it likes, and names the peer.
    pub(crate) fn say_of(&self, origin: &Origin, event: &'static str, members: Value) {
        self.say_of_each(QUIET, origin, event, "", members);
    }

    /// The same, once in `quiet` for each address and cause. The cause is in our own words. Its numbers make no other cause, because
    /// peers can choose some of them.
    pub(crate) fn say_of_each(&self, quiet: Duration, origin: &Origin, event: &'static str, cause: &str, members: Value) {
        let address = origin.peer.map(|peer| peer.ip().to_canonical());
        let cause = cause.chars().filter(|it| !it.is_ascii_digit()).collect();
        self.say_limited((event, address, cause), quiet, origin.add_to(members));
    }

    /// Logs an event that a peer can cause as often as it likes, for different reasons: each of them is logged.
    pub(crate) fn say_why(&self, origin: &Origin, event: &'static str, reason: &str) {
        self.say_of_each(QUIET, origin, event, reason, json!({ "reason": reason }));
    }

    fn say_limited(&self, key: Key, quiet: Duration, mut members: Value) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let event = key.0;
        let held_back = match said.get_mut(&key) {
            Some(said) if now.duration_since(said.at) < quiet => {
                said.held_back += 1;
                return;
            }
            Some(said) => std::mem::replace(said, Said { at: now, quiet, held_back: 0 }).held_back,
            None => {
                // Many addresses must not cost much memory. Forgetting one means at most one early line.
                if said.len() >= REMEMBERED {
                    said.retain(|_, said| now.duration_since(said.at) < said.quiet);
                }
                if said.len() >= REMEMBERED {
                    said.clear();
                }
                said.insert(key, Said { at: now, quiet, held_back: 0 });
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

/// The counters since the gateway's start.
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
    pub(crate) questions: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) not_allowed: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) foreign: AtomicU64,
    pub(crate) astm: AtomicU64,
    pub(crate) unframed: AtomicU64,
    pub(crate) mismatched: AtomicU64,
    pub(crate) large: AtomicU64,
    pub(crate) crowded: AtomicU64,
    pub(crate) uploaded: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One line of the gateway's report: counters since the start, and the present state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// Frames that were read to their end, and then given to the spool or refused.
    pub received: u64,
    /// Messages that are kept: CA, AA, or no answer where the sender asks for none.
    pub acknowledged: u64,
    /// Frames that were answered with another code.
    pub rejected: u64,
    /// Frames that began and did not end: the peer left, started over, or was too slow.
    pub cut: u64,
    /// Messages delivered to the API.
    pub delivered: u64,
    /// Messages delivered that the lake had before.
    pub duplicates: u64,
    /// Messages that the API refused for good; they are in the spool's folder `refused`.
    pub refused: u64,
    /// Damaged records of the spool; they are in its folder `damaged`.
    pub damaged: u64,
    /// Submissions that had no final answer.
    pub tries_again: u64,
    /// Status requests to the API, each about many messages.
    pub questions: u64,
    /// Messages that the lake has stored, if the spool kept them until then.
    pub stored: u64,
    /// How often the lake held a message, which was then submitted again.
    pub held: u64,
    /// How often the lake had lost a message, which was then submitted again.
    pub lost: u64,
    /// Connections that were closed at once because there were too many, and none of them idle.
    pub turned_away: u64,
    /// Connections that ended before TLS was agreed on: no certificate, a wrong one, no TLS.
    pub handshakes_failed: u64,
    /// Connections that were closed at once because the feed does not allow the peer's address.
    pub not_allowed: u64,
    /// Idle connections that were closed to make room for new ones.
    pub evicted: u64,
    /// Connections that were closed because the peer spoke another protocol: HTTP, TLS on a plain port, SMTP, Redis, SSH.
    pub foreign: u64,
    /// Connections whose peer sent ENQ: it speaks ASTM.
    pub astm: u64,
    /// Connections whose peer sent a message without a frame.
    pub unframed: u64,
    /// Frames of the hybrid protocol whose size or checksum does not fit.
    pub mismatched: u64,
    /// Frames of more bytes than a request to the API may have that were read whole; `crowded` counts the others.
    pub large: u64,
    /// Large frames that were passed over because there was no memory for them.
    pub crowded: u64,
    /// Large messages delivered to the API.
    pub uploaded: u64,
    /// Messages acknowledged and not delivered, now.
    pub spooled: usize,
    /// Bytes of the spool on disk, now.
    pub spool_bytes: u64,
    /// How long the oldest of these has been waiting, in seconds.
    pub oldest_seconds: u64,
    /// Messages delivered, and kept until the lake has stored them, now.
    pub awaited: usize,
    /// How long ago the oldest of these was received, in seconds.
    pub oldest_awaited_seconds: u64,
    /// Open connections, now.
    pub connections: u64,
    /// The same for each feed.
    pub feeds: Vec<FeedReport>,
}

/// The report of one feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedReport {
    /// Its name.
    pub name: String,
    /// Frames that were read to their end, since the start.
    pub received: u64,
    /// Seconds since the last of these, or since the start if there is none.
    pub last_seconds: u64,
    /// Whether that is longer than the feed's `silent-after`.
    pub is_silent: bool,
    /// Open connections, now.
    pub connections: u64,
    /// Messages acknowledged and not delivered, now.
    pub spooled: usize,
    /// How long the oldest of these has been waiting, in seconds.
    pub oldest_seconds: u64,
    /// Messages delivered, and kept until the lake has stored them, now.
    pub awaited: usize,
    /// Days until the gateway's certificate for the feed expires, negative when it has; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<i64>,
}

impl GatewayReport {
    pub(crate) fn of(counters: &Counters, lines: &[Arc<Line>], spool: &Backlog, now_ms: u64) -> Self {
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
            questions: get(&counters.questions),
            stored: get(&counters.stored),
            held: get(&counters.held),
            lost: get(&counters.lost),
            turned_away: get(&counters.turned_away),
            handshakes_failed: get(&counters.handshakes_failed),
            not_allowed: get(&counters.not_allowed),
            evicted: get(&counters.evicted),
            foreign: get(&counters.foreign),
            astm: get(&counters.astm),
            unframed: get(&counters.unframed),
            mismatched: get(&counters.mismatched),
            large: get(&counters.large),
            crowded: get(&counters.crowded),
            uploaded: get(&counters.uploaded),
            spooled: spool.messages,
            spool_bytes: spool.bytes,
            oldest_seconds: seconds_since(spool.oldest_ms, now_ms),
            awaited: spool.awaited,
            oldest_awaited_seconds: seconds_since(spool.oldest_awaited_ms, now_ms),
            connections: get(&counters.connections),
            feeds: lines.iter().map(|line| FeedReport::of(line, spool, now_ms)).collect(),
        }
    }
}

impl FeedReport {
    fn of(line: &Line, spool: &Backlog, now_ms: u64) -> Self {
        let backlog = spool.feeds.get(line.feed.name.as_str()).copied().unwrap_or_default();
        let last_seconds = line.activity.silent_ms(now_ms) / 1000;
        Self {
            name: line.feed.name.clone(),
            received: line.activity.received.load(Ordering::Relaxed),
            last_seconds,
            is_silent: line.is_silent(now_ms),
            connections: line.activity.connections.load(Ordering::Relaxed),
            spooled: backlog.messages,
            oldest_seconds: seconds_since(backlog.oldest_ms, now_ms),
            awaited: backlog.awaited,
            certificate_days: line.certificate_days(now_ms),
        }
    }
}

fn seconds_since(then_ms: Option<u64>, now_ms: u64) -> u64 {
    then_ms.map_or(0, |then_ms| now_ms.saturating_sub(then_ms) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log, and the lines that it has written.
    fn log() -> (Log, Arc<Mutex<Vec<Value>>>) {
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sink = Arc::clone(&lines);
        (Log::new(move |line| sink.lock().unwrap().push(serde_json::from_str(line).unwrap())), lines)
    }

    fn origin(address: [u8; 4]) -> Origin {
        Origin { peer: Some((address, 2575).into()), ..Origin::default() }
    }

    #[test]
    fn each_reason_of_a_peer_is_logged_and_its_numbers_make_no_other_reason() {
        let (log, lines) = log();
        for reason in ["byte 7 is bad", "byte 19 is bad", "the spool is full", "the spool is full"] {
            log.say_why(&origin([10, 0, 0, 1]), "rejected", reason);
        }
        log.say_why(&origin([10, 0, 0, 2]), "rejected", "byte 7 is bad");
        let said: Vec<_> = lines.lock().unwrap().iter().map(|it| format!("{} {}", it["peer"], it["reason"])).collect();
        let expected = [("10.0.0.1", "byte 7 is bad"), ("10.0.0.1", "the spool is full"), ("10.0.0.2", "byte 7 is bad")];
        assert_eq!(said, expected.map(|(address, reason)| format!("\"{address}:2575\" \"{reason}\"")));
    }

    #[test]
    fn a_peer_that_was_named_is_not_named_again_because_many_others_were() {
        let (log, lines) = log();
        let stranger = || log.say_of_each(QUIET_STRANGER, &origin([10, 0, 0, 1]), "stranger", "ENQ", json!({}));
        stranger();
        for nth in 0..u16::try_from(REMEMBERED).unwrap() {
            let [high, low] = nth.to_be_bytes();
            log.say_of_each(Duration::ZERO, &origin([10, 1, high, low]), "closed", "", json!({}));
        }
        stranger();
        let named = lines.lock().unwrap().iter().filter(|it| it["event"] == "stranger").count();
        assert_eq!(named, 1);
    }
}
