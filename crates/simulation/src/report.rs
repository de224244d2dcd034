//! What came of a scenario.

use serde::Serialize;

/// How long messages took from their POST to the lake.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// Of so many messages.
    pub stored: u64,
    /// Seconds, half of them less.
    pub p50_seconds: f64,
    /// Seconds, one in a hundred more.
    pub p99_seconds: f64,
}

/// A quota, and how far it was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaUse {
    /// Which.
    pub name: &'static str,
    /// How often somebody was told to slow down, or had to wait for it.
    pub throttles: u64,
    /// When first, in seconds from the beginning.
    pub first_at_seconds: f64,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Messages that were posted.
    pub posted: u64,
    /// Those that were answered with 429 or 503: their senders would send them again.
    pub refused: u64,
    /// Those in the lake at the end.
    pub stored: u64,
    /// Those that were held, since their tries were over.
    pub held: u64,
    /// Stored messages a second, from the beginning until the last one was.
    pub stored_per_second: f64,
    /// When the last message came to its end, in seconds.
    pub ended_at_seconds: f64,
    /// All messages; `None` if none was stored.
    pub all: Option<Waits>,
    /// The first institute's: the hot one, if there is one.
    pub first: Option<Waits>,
    /// The institute in the middle of the others, by p99.
    pub middle: Option<Waits>,
    /// The one of the others that waits longest, by p99.
    pub worst: Option<Waits>,
    /// The most messages that waited in the queue.
    pub most_waiting: usize,
    /// The longest that a message waited before its first try, in seconds.
    pub oldest_seconds: f64,
    /// The most sandboxes that were busy at once.
    pub most_busy: u32,
    /// Sandboxes of the functions: name, the most busy ones, how many were made.
    pub sandboxes: Vec<(String, u32, u32)>,
    /// Calls to Cognito for identities.
    pub identities: u64,
    /// Quotas that somebody met, in the order in which they were met.
    pub quotas: Vec<QuotaUse>,
}

impl Report {
    /// The first quota that binds.
    pub fn first_bound(&self) -> Option<&QuotaUse> {
        self.quotas.first()
    }
}
