//! Who may work on a message: one submission at a time, until it is stored.
//!
//! The catalog's record carries a claim: a submission id and a lease. Taking it, finishing, rejecting and releasing are
//! one conditional write each (crate `catalog`); nothing is read first, because two submissions that arrive together
//! would both read "free". The condition is the question, and a refused condition brings the record back with it, from
//! which this module reads *why*: these are the pure halves of the four writes.
//!
//! A claim is taken when the message is not stored and nobody else's lease is alive. It is recognised again by its own
//! submission (a repeated step must get the same answer), and taken over once it has lapsed (a crashed submission must
//! not hold a message for ever). The lease therefore outlives the longest execution.

use std::time::Duration;

use crate::{Record, Status, Stored, SubmissionId, Timestamp};

/// How long a record that never becomes a stored message is kept: longer than queue and dead-letter queue can hold it.
pub const RECORD_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What `Deduplicate` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This submission may go on. The instant is the record's first arrival: it decides the `date=` partition, so that
    /// a submission that takes over writes the very same key.
    New {
        /// When the message first arrived.
        received_at: Timestamp,
    },
    /// Another submission has stored it.
    Duplicate,
    /// Another submission's lease is alive.
    InProgress {
        /// When that lease ends.
        lease_until: Timestamp,
    },
    /// This very submission has stored it in an earlier run: what is left is to say so.
    AlreadyMine(Box<Stored>),
}

impl Claim {
    /// Reads the answer out of the record that refused the claim.
    ///
    /// `None` if nothing in the record refuses it: it changed between the write and this look, so the claim is to be
    /// tried again.
    pub fn refused_by(record: &Record, submission_id: SubmissionId, now: Timestamp) -> Option<Self> {
        if record.status == Status::Stored {
            let mine = record.claim_submission == Some(submission_id);
            return Some(match record.stored() {
                Some(stored) if mine => Self::AlreadyMine(Box::new(stored)),
                _ => Self::Duplicate,
            });
        }
        let lease_until = record.lease_until.and_then(Timestamp::from_millis)?;
        (lease_until >= now).then_some(Self::InProgress { lease_until })
    }
}

/// What became of `Store`'s last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The record says stored, by this submission (now or in an earlier run of the step).
    Stored(Box<Stored>),
    /// Another submission took the claim over and stored it first.
    Duplicate,
    /// Another submission holds the claim now. This run has failed.
    Lost,
}

impl Finish {
    /// Reads the answer out of the record that refused the write.
    pub fn refused_by(record: &Record, submission_id: SubmissionId) -> Self {
        match (record.status, record.stored()) {
            (Status::Stored, Some(stored)) if record.claim_submission == Some(submission_id) => Self::Stored(Box::new(stored)),
            (Status::Stored, _) => Self::Duplicate,
            _ => Self::Lost,
        }
    }
}

/// What became of giving the claim up (`Reject`, `Release`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The record has the new status.
    Recorded,
    /// A newer submission of the same message waits, so the record says `queued` for it.
    QueuedForAnother,
    /// The claim is somebody else's by now, or the message is stored: nothing was changed.
    Lost,
}
