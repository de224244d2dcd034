//! The claim on a message: one submission at a time may work on it, until it is stored.
//!
//! The catalog's record carries a claim: a submission id and a lease. Taking the claim, finishing, holding and giving up are one
//! conditional write each (crate `catalog`). Nothing is read first, because two submissions that arrive together would both read
//! "free". If a condition fails, DynamoDB returns the record, and this module reads the reason from it: it is the pure half of
//! each write.
//!
//! A submission takes the claim if the message is not stored and nobody else's lease is alive. It recognizes its own claim again,
//! since a repeated step must get the same answer. Another submission takes the claim over once the lease has lapsed, since a
//! crashed submission must not hold a message for ever. The lease therefore outlives the longest execution.

use std::time::Duration;

use crate::{HeldFacts, Record, Status, Stored, SubmissionId, Timestamp};

/// How long the record of a message that is never stored is kept: longer than the queue and the dead-letter queue keep messages.
pub const RECORD_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The answer to a submission that wants the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This submission may go on. The record's first arrival decides the `date=` partition, so a submission that takes over
    /// writes the same key.
    New {
        /// When the message first arrived.
        received_at: Timestamp,
    },
    /// Another submission has stored the message.
    Duplicate,
    /// Another submission's lease is alive.
    InProgress {
        /// When that lease ends.
        lease_until: Timestamp,
    },
    /// This submission stored the message in an earlier run; only the event is still to be published.
    AlreadyMine(Box<Stored>),
    /// An operator has discarded the message, and nobody has submitted it since: SQS has delivered an earlier submission once more.
    Discarded,
}

impl Claim {
    /// The answer, from the record that refused the claim.
    ///
    /// `None` if nothing in the record refuses the claim at `now`: the lease ended in between, and the claim should be tried
    /// again.
    pub fn refused_by(record: &Record, submission_id: SubmissionId, now: Timestamp) -> Option<Self> {
        if record.status == Status::Stored {
            let mine = record.claim_submission == Some(submission_id);
            return Some(match record.stored() {
                Some(stored) if mine => Self::AlreadyMine(Box::new(stored)),
                _ => Self::Duplicate,
            });
        }
        if record.status == Status::Discarded {
            return Some(Self::Discarded);
        }
        let lease_until = record.lease_until.and_then(Timestamp::from_millis)?;
        (lease_until >= now).then_some(Self::InProgress { lease_until })
    }
}

/// The answer to a submission that marks the message stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The record says stored, by this submission (now or in an earlier run of the step).
    Stored(Box<Stored>),
    /// Another submission took the claim over and stored the message first.
    Duplicate,
    /// Another submission holds the claim now. This run has failed.
    Lost,
}

impl Finish {
    /// The answer, from the record that refused the write.
    pub fn refused_by(record: &Record, submission_id: SubmissionId) -> Self {
        match (record.status, record.stored()) {
            (Status::Stored, Some(stored)) if record.claim_submission == Some(submission_id) => Self::Stored(Box::new(stored)),
            (Status::Stored, _) => Self::Duplicate,
            _ => Self::Lost,
        }
    }
}

/// The answer to a submission that gives the claim up (`Hold`, `GiveUp`, `Abandon`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The record has the new status.
    Recorded,
    /// A newer submission of the same message waits, so the record says `queued` for it.
    QueuedForAnother,
    /// Another submission holds the claim by now, or the message is stored: nothing was changed.
    Lost,
}

/// The answer to whoever releases a held message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The record says `queued`. The facts say where the copy lies.
    Queued(Box<HeldFacts>),
    /// The message is not held, or somebody else has just released it.
    NotHeld(Status),
    /// The institute has submitted no such message.
    Unknown,
}
