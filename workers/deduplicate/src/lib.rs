//! Owns the claim on a message: takes it for a submission, and gives it up with what became of it.
//!
//! The rules are in [`domain::claim`], the conditional writes in [`catalog`].

use std::time::Duration;

use catalog::Catalog;
use domain::claim::{Claim, GivenUp};
use domain::step::{ClaimAnswer, ClaimRequest, Rejection, Subject};
use domain::{Status, Timestamp};
use runtime::{Field, StepError, note};
use serde_json::Value;

/// Answers one [`ClaimRequest`]. Safe to repeat: the same submission gets the same answer.
///
/// # Errors
/// [`StepError::Throttled`] and [`StepError::Unavailable`] may be retried; anything else is a fault of the deployment.
pub async fn answer(catalog: &Catalog, lease: Duration, event: Value) -> Result<ClaimAnswer, StepError> {
    let answer = match runtime::input("a claim request", event)? {
        ClaimRequest::Claim { subject, received_at } => {
            Field::note_subject(&subject);
            let now = Timestamp::now();
            claim_answer(catalog.claim(&subject, received_at, now, lease).await?, now)
        }
        ClaimRequest::Reject { subject, status: Rejection::Denied, error } => {
            give_up(catalog, &subject, Status::Denied, &error).await?
        }
        ClaimRequest::Reject { subject, status: Rejection::Expired, error } => {
            give_up(catalog, &subject, Status::Expired, &error).await?
        }
        ClaimRequest::Release { subject, error, failed } => {
            give_up(catalog, &subject, if failed { Status::Failed } else { Status::Queued }, &error).await?
        }
    };
    note(
        Field::Outcome,
        match &answer {
            ClaimAnswer::New { .. } => "new",
            ClaimAnswer::Duplicate => "duplicate",
            ClaimAnswer::InProgress { .. } => "in-progress",
            ClaimAnswer::Stored { .. } => "stored",
            ClaimAnswer::Recorded => "recorded",
            ClaimAnswer::Lost => "lost",
        },
    );
    Ok(answer)
}

fn claim_answer(claim: Claim, now: Timestamp) -> ClaimAnswer {
    match claim {
        Claim::New { received_at } => ClaimAnswer::New { received_at },
        Claim::Duplicate => ClaimAnswer::Duplicate,
        Claim::AlreadyMine(stored) => ClaimAnswer::Stored { stored },
        Claim::InProgress { lease_until } => {
            let left_ms = lease_until.as_millis().saturating_sub(now.as_millis());
            // Rounded up, so that the lease has lapsed once the time is over.
            ClaimAnswer::InProgress { retry_after_seconds: u64::try_from(left_ms).unwrap_or(0) / 1000 + 1 }
        }
    }
}

async fn give_up(catalog: &Catalog, subject: &Subject, to: Status, error: &str) -> Result<ClaimAnswer, StepError> {
    Field::note_subject(subject);
    match catalog.give_up(subject, to, error).await? {
        GivenUp::Recorded | GivenUp::QueuedForAnother => Ok(ClaimAnswer::Recorded),
        GivenUp::Lost => Ok(ClaimAnswer::Lost),
    }
}
