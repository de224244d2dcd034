//! What came of a scenario.

use serde::Serialize;

/// The times from POST to the lake.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// The number of messages.
    pub stored: u64,
    /// The median, in seconds.
    pub p50_seconds: f64,
    /// The time that one in a hundred exceeds, in seconds.
    pub p99_seconds: f64,
}

/// A quota, and how often it was hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaUse {
    /// Its name.
    pub name: &'static str,
    /// How often a call was throttled, or had to wait.
    pub throttles: u64,
    /// The first time, in seconds from the beginning.
    pub first_at_seconds: f64,
}

/// The result of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Messages that were posted.
    pub posted: u64,
    /// Messages that were answered with 429 or 503; their senders would send them again.
    pub refused: u64,
    /// Messages in the lake at the end.
    pub stored: u64,
    /// Messages that were held, because their tries were over.
    pub held: u64,
    /// Stored messages per second, from the beginning until the last one was stored.
    pub stored_per_second: f64,
    /// The end of the last message, in seconds.
    pub ended_at_seconds: f64,
    /// The times of all messages; `None` if none was stored.
    pub all: Option<Waits>,
    /// The times of the first institute, which is the hot one if there is one.
    pub first: Option<Waits>,
    /// The times of the median institute among the others, by p99.
    pub middle: Option<Waits>,
    /// The times of the slowest institute among the others, by p99.
    pub worst: Option<Waits>,
    /// The most messages that waited in the queue.
    pub most_waiting: usize,
    /// The longest wait of a message before its first try, in seconds.
    pub oldest_seconds: f64,
    /// The most sandboxes that were busy at once.
    pub most_busy: u32,
    /// Sandboxes of the functions: name, the most that were busy, the number created.
    pub sandboxes: Vec<(String, u32, u32)>,
    /// Calls to Cognito for identities.
    pub identities: u64,
    /// Quotas that were hit, in the order in which that happened.
    pub quotas: Vec<QuotaUse>,
}

impl Report {
    /// The first quota that binds.
    pub fn first_bound(&self) -> Option<&QuotaUse> {
        self.quotas.first()
    }
}
