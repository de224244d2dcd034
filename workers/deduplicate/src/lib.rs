//! Owns the claim on a message: takes it for a submission, and gives it up with a new status.
//!
//! The rules are in [`domain::claim`], the conditional writes in [`catalog`].

use std::time::Duration;

use catalog::Catalog;
use domain::claim::{Claim, GivenUp};
use domain::step::{ClaimAction, ClaimAnswer, ClaimRequest};
use domain::{Status, SubmittedMessage, Timestamp};
use runtime::{Field, StepError, log_field, log_submitted};
use serde_json::Value;

/// Answers one [`ClaimRequest`]. Safe to repeat: the same submission gets the same answer.
///
/// # Errors
/// [`StepError::Throttled`] and [`StepError::Unavailable`] may be retried; anything else is a fault of the deployment.
pub async fn answer(catalog: &Catalog, lease: Duration, event: Value) -> Result<ClaimAnswer, StepError> {
    let ClaimRequest { submitted, action } = runtime::input("a claim request", event)?;
    log_submitted(&submitted);
    let answer = match action {
        ClaimAction::Claim { received_at } => {
            let now = runtime::now();
            claim_answer(catalog.claim(&submitted, received_at, now, lease).await?, now)
        }
        ClaimAction::GiveUp { error, failed } => {
            give_up(catalog, &submitted, if failed { Status::Failed } else { Status::Queued }, &error).await?
        }
    };
    log_field(Field::Outcome, <&str>::from(&answer));
    Ok(answer)
}

fn claim_answer(claim: Claim, now: Timestamp) -> ClaimAnswer {
    match claim {
        Claim::New { received_at } => ClaimAnswer::New { received_at },
        Claim::Duplicate => ClaimAnswer::Duplicate,
        Claim::Discarded => ClaimAnswer::Discarded,
        Claim::AlreadyMine(stored) => ClaimAnswer::Stored { stored },
        Claim::InProgress { lease_until } => {
            let left_ms = lease_until.as_millis().saturating_sub(now.as_millis());
            // Rounded up, so that the lease has lapsed when the time is over.
            ClaimAnswer::InProgress { retry_after_seconds: u64::try_from(left_ms).unwrap_or(0) / 1000 + 1 }
        }
    }
}

async fn give_up(catalog: &Catalog, submitted: &SubmittedMessage, to: Status, error: &str) -> Result<ClaimAnswer, StepError> {
    match catalog.give_up(submitted, to, error).await? {
        GivenUp::Recorded | GivenUp::QueuedForAnother => Ok(ClaimAnswer::Recorded),
        GivenUp::Lost => Ok(ClaimAnswer::Lost),
    }
}
