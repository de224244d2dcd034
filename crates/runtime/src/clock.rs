//! The clock and the source of randomness of the workers: `domain` has neither.

use std::time::SystemTime;

use domain::{SubmissionId, Timestamp};
use ulid::Ulid;

/// The system clock's instant.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A random number in 0..1, to spread retries.
pub fn random() -> f64 {
    fastrand::f64()
}

/// The id of a submission that arrives now.
pub fn new_submission_id() -> SubmissionId {
    Ulid::generate().into()
}
