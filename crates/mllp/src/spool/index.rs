//! The index of the spool's messages, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use domain::MAX_MESSAGE_BYTES;
use tokio::sync::oneshot;

use super::disk::DiskFile;
use super::record::Place;
use crate::destination::Ending;

/// Receives the outcome of each message of a frame.
pub(crate) type Waiter = oneshot::Sender<Vec<Ending>>;

/// The queue of a message. Large messages take long to deliver, so they have one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Of messages that fit into a request.
    Small,
    /// Of those that have to be uploaded.
    Large,
}

/// The amount of messages in the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that are not delivered.
    pub messages: usize,
    /// Bytes on disk, including refused and damaged messages.
    pub bytes: u64,
    /// When the oldest undelivered message was received, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Messages that are delivered and kept until the lake has stored them.
    pub awaited: usize,
    /// When the oldest of these was received, in milliseconds since 1970.
    pub oldest_awaited_ms: Option<u64>,
    /// The same for each feed, by its name. A feed with nothing in the spool may be missing.
    pub feeds: BTreeMap<Arc<str>, FeedBacklog>,
}

/// The amount of messages of one feed in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedBacklog {
    /// Messages that are not delivered.
    pub messages: usize,
    /// When the oldest of them was received, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Messages that are delivered and kept until the lake has stored them.
    pub awaited: usize,
}

/// A message that is in the spool.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) place: Place,
    pub(super) length: u32,
    /// The queue that it belongs to.
    pub(crate) lane: Lane,
    /// When it was received, in milliseconds since 1970.
    pub(crate) received_ms: u64,
    /// The number of its feed; see [`Index::feed`].
    pub(super) feed: u32,
    /// Set while its sender waits for the outcome.
    pub(crate) waiter: Option<Waiter>,
    /// How often it was postponed while other messages were delivered.
    pub(crate) put_off: u32,
    /// How many messages had been delivered when it last failed.
    pub(crate) failed_after: Option<u64>,
    /// Whether an earlier gateway has submitted it.
    pub(crate) is_submitted: bool,
    /// How often it was submitted again because the lake held it or had lost it.
    pub(crate) again: u32,
}

/// A message that was taken and is not done.
#[derive(Clone, Copy, Debug)]
pub(super) struct InHand {
    pub(super) received_ms: u64,
    /// The number of its feed; see [`Index::feed`].
    pub(super) feed: u32,
    /// Whether it is delivered, and kept until the lake has stored it.
    pub(super) is_awaited: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Small messages with a waiting sender, and the others; see [`Index::next_small`].
    pub(super) waited: VecDeque<Entry>,
    pub(super) others: VecDeque<Entry>,
    pub(super) large: VecDeque<Entry>,
    others_turn: bool,
    /// Messages that were taken and are not done.
    pub(super) in_hand: BTreeMap<Place, InHand>,
    /// Names of feeds; an entry has the number of its own.
    feeds: Vec<Arc<str>>,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// The bytes in `refused` and `damaged`.
    pub(super) aside_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
    pub(super) pending: u32,
}

impl Lane {
    /// The queue of a message of so many bytes.
    pub(super) fn of(message_bytes: usize) -> Self {
        if message_bytes > MAX_MESSAGE_BYTES { Self::Large } else { Self::Small }
    }
}

impl Entry {
    pub(super) fn new(place: Place, length: u32, lane: Lane, received_ms: u64, feed: u32, waiter: Option<Waiter>) -> Self {
        Self { place, length, lane, received_ms, feed, waiter, put_off: 0, failed_after: None, is_submitted: false, again: 0 }
    }
}

#[cfg(test)]
impl Entry {
    /// A message for tests.
    pub(crate) fn of_test(nth: usize) -> Self {
        Self::new(Place { segment: 1, offset: u32::try_from(nth).unwrap() }, 1, Lane::Small, 1, 0, None)
    }
}

impl Index {
    /// The number of a feed.
    pub(super) fn feed(&mut self, name: &str) -> u32 {
        let known = self.feeds.iter().position(|known| **known == *name);
        let number = known.unwrap_or_else(|| {
            self.feeds.push(name.into());
            self.feeds.len() - 1
        });
        u32::try_from(number).unwrap_or_default()
    }

    /// Adds a message, and returns its queue.
    pub(super) fn push(&mut self, entry: Entry) -> Lane {
        let lane = entry.lane;
        match lane {
            Lane::Large => self.large.push_back(entry),
            Lane::Small if entry.waiter.is_some() => self.waited.push_back(entry),
            Lane::Small => self.others.push_back(entry),
        }
        lane
    }

    /// The next message of a queue.
    pub(super) fn next(&mut self, lane: Lane) -> Option<Entry> {
        match lane {
            Lane::Large => self.large.pop_front(),
            Lane::Small => self.next_small(),
        }
    }

    /// Messages with a waiting sender alternate with the backlog, so that neither starves the other.
    fn next_small(&mut self) -> Option<Entry> {
        self.others_turn = !self.others_turn;
        let queues = [&mut self.waited, &mut self.others];
        let [first, second] = queues;
        let (first, second) = if self.others_turn { (first, second) } else { (second, first) };
        first.pop_front().or_else(|| second.pop_front())
    }

    pub(super) fn backlog(&self) -> Backlog {
        let mut feeds = vec![FeedBacklog::default(); self.feeds.len()];
        let queued = self.waited.iter().chain(&self.others).chain(&self.large);
        let queued = queued.map(|entry| InHand { received_ms: entry.received_ms, feed: entry.feed, is_awaited: false });
        let mut oldest_awaited_ms = None;
        for InHand { received_ms, feed, is_awaited } in queued.chain(self.in_hand.values().copied()) {
            let Some(feed) = usize::try_from(feed).ok().and_then(|feed| feeds.get_mut(feed)) else { continue };
            let oldest_ms = if is_awaited {
                feed.awaited += 1;
                &mut oldest_awaited_ms
            } else {
                feed.messages += 1;
                &mut feed.oldest_ms
            };
            *oldest_ms = Some(oldest_ms.map_or(received_ms, |oldest: u64| oldest.min(received_ms)));
        }
        Backlog {
            messages: feeds.iter().map(|feed| feed.messages).sum(),
            bytes: self.bytes(),
            oldest_ms: feeds.iter().filter_map(|feed| feed.oldest_ms).min(),
            awaited: feeds.iter().map(|feed| feed.awaited).sum(),
            oldest_awaited_ms,
            feeds: self.feeds.iter().map(Arc::clone).zip(feeds).collect(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.aside_bytes + self.segments.values().map(|segment| segment.bytes).sum::<u64>()
    }
}
