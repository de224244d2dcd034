//! Limits the number of connections, in all and from each address.
//!
//! When a limit is reached, a new connection takes the place of the one that has been idle for longest; connections that have
//! never sent a frame are closed first. So idle connections cannot lock senders out. A connection whose frame is under way or not yet
//! answered keeps its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::Id;

/// The activity of a connection.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    frames: AtomicU64,
    /// The turn of its last activity; see [`Turns`].
    last: AtomicU64,
    unanswered: AtomicUsize,
    is_within_frame: AtomicBool,
    leave: Notify,
}

/// Counts turns, so that connections can be ordered by their last frame.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU64);

impl Turns {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Presence {
    pub(crate) fn new(turn: u64) -> Self {
        Self { last: AtomicU64::new(turn), ..Self::default() }
    }

    pub(crate) fn received(&self, turn: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.last.store(turn, Ordering::Relaxed);
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set_within_frame(&self, is_within: bool) {
        self.is_within_frame.store(is_within, Ordering::Relaxed);
    }

    /// Resolves when the connection has to make room for another.
    pub(crate) async fn leave(&self) {
        self.leave.notified().await;
    }

    /// The rank among idle connections, in the order in which they have to go; `None` while it is at work.
    fn idle_rank(&self) -> Option<(bool, u64)> {
        let is_busy = self.unanswered.load(Ordering::Relaxed) > 0 || self.is_within_frame.load(Ordering::Relaxed);
        (!is_busy).then(|| (self.frames.load(Ordering::Relaxed) > 0, self.last.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
struct Guest {
    address: IpAddr,
    presence: Arc<Presence>,
    is_leaving: bool,
}

/// The decision about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Free,
    /// There is room now: an idle connection was told to leave.
    Evicted,
    /// There is no room, and no connection is idle.
    Full,
}

/// All open connections.
#[derive(Debug)]
pub(crate) struct Guests {
    limit: usize,
    address_limit: usize,
    by_task: HashMap<Id, Guest>,
}

impl Guests {
    pub(crate) fn new(limit: usize, address_limit: usize) -> Self {
        Self { limit, address_limit, by_task: HashMap::new() }
    }

    /// Decides whether a connection from this address may stay, and tells another one to leave if that makes room.
    pub(crate) fn admit(&mut self, address: IpAddr) -> Admission {
        let (mut all, mut of_address, mut leaving) = (0, 0, 0);
        for guest in self.by_task.values() {
            if guest.is_leaving {
                leaving += 1;
            } else {
                all += 1;
                of_address += usize::from(guest.address == address);
            }
        }
        if of_address >= self.address_limit {
            return self.evict(|guest| guest.address == address);
        }
        // Connections that leave have a moment to do so. There must not be many of them.
        if leaving >= self.limit {
            return Admission::Full;
        }
        if all >= self.limit { self.evict(|_| true) } else { Admission::Free }
    }

    fn evict(&mut self, may_go: impl Fn(&Guest) -> bool) -> Admission {
        let idle = self.by_task.values_mut().filter(|guest| !guest.is_leaving && may_go(guest));
        let longest = idle.filter_map(|guest| Some((guest.presence.idle_rank()?, guest))).min_by_key(|(rank, _)| *rank);
        let Some((_, guest)) = longest else { return Admission::Full };
        guest.is_leaving = true;
        guest.presence.leave.notify_one();
        Admission::Evicted
    }

    pub(crate) fn add(&mut self, task: Id, address: IpAddr, presence: Arc<Presence>) {
        self.by_task.insert(task, Guest { address, presence, is_leaving: false });
    }

    pub(crate) fn remove(&mut self, task: Id) {
        self.by_task.remove(&task);
    }
}
