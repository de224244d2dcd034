//! Decides after a failed execution when to try again, and when to hold the message.

use std::time::Duration;

use crate::{Hold, HoldReason};

/// How often a message is tried if its failures are neither outages nor the deployment's fault.
pub const MAX_TRIES: u32 = 5;

/// The kind of a failure, from the error's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A service did not do its work. An outage passes, and uses up no try.
    Outage,
    /// The deployment is wrong. Its operator corrects it, and it uses up no try.
    Deployment,
    /// Anything else: the message itself, or a defect. It uses up a try.
    Other,
}

/// Names by which Step Functions, Lambda and `dispatch` say that a service did not answer in time.
const OUTAGES: [&str; 6] =
    ["Throttled", "Unavailable", "TimedOut", "States.Timeout", "States.HeartbeatTimeout", "Sandbox.Timedout"];

/// Names by which Lambda says that the call of a step failed, and not the step.
const LAMBDA_OUTAGES: [&str; 5] = [
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
];

impl Failure {
    /// Judges by the name of the error that ended an execution, or kept it from starting.
    pub fn of(error: &str) -> Self {
        if OUTAGES.contains(&error) || LAMBDA_OUTAGES.contains(&error) {
            Self::Outage
        } else if error == "Misconfigured" || error == "States.Permissions" || is_refusal_of_lambda(error) {
            Self::Deployment
        } else {
            Self::Other
        }
    }

    /// The hold of a message whose last try ended with that error.
    pub fn hold(error: &str) -> Hold {
        let reason = if Self::of(error) == Self::Deployment { HoldReason::Deployment } else { HoldReason::Failed };
        Hold { reason, error: error.to_owned() }
    }
}

/// `Lambda.ResourceNotFoundException`, `Lambda.KMSDisabledException` and the like: the deployed function cannot be called.
/// `Lambda.Unknown` does not count: the function ended without an answer, perhaps because of the message.
fn is_refusal_of_lambda(error: &str) -> bool {
    error.starts_with("Lambda.") && error.ends_with("Exception")
}

/// The delay after a failed try: `base`, doubled for each failure before it, at most 15 minutes.
///
/// `failures` counts from 1.
pub fn delay(base: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    base.saturating_mul(1 << doublings).min(Duration::from_secs(15 * 60))
}

/// A delay with full jitter: a random part of [`delay`], at least a second. `random` is in 0..1.
pub fn jittered(base: Duration, failures: u32, random: f64) -> Duration {
    delay(base, failures).mul_f64(random.clamp(0.0, 1.0)).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_delay_grows_with_every_failure_and_ends_at_a_quarter_of_an_hour() {
        let delays: Vec<u64> = (1..=8).map(|failures| delay(10 * SECOND, failures).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(delay(SECOND, u32::MAX).as_secs(), 900);
        assert_eq!(jittered(10 * SECOND, 3, 0.5), 20 * SECOND);
        assert_eq!(jittered(10 * SECOND, 3, 0.0), SECOND);
    }

    #[test]
    fn an_error_is_an_outage_a_fault_of_the_deployment_or_another_failure() {
        let table = [
            ("Throttled", Failure::Outage, HoldReason::Failed),
            ("Unavailable", Failure::Outage, HoldReason::Failed),
            ("States.Timeout", Failure::Outage, HoldReason::Failed),
            ("TimedOut", Failure::Outage, HoldReason::Failed),
            ("Lambda.TooManyRequestsException", Failure::Outage, HoldReason::Failed),
            ("Misconfigured", Failure::Deployment, HoldReason::Deployment),
            ("States.Permissions", Failure::Deployment, HoldReason::Deployment),
            ("Lambda.ResourceNotFoundException", Failure::Deployment, HoldReason::Deployment),
            ("Lambda.Unknown", Failure::Other, HoldReason::Failed),
            ("InvalidInput", Failure::Other, HoldReason::Failed),
            ("ClaimLost", Failure::Other, HoldReason::Failed),
            ("Panicked", Failure::Other, HoldReason::Failed),
            ("", Failure::Other, HoldReason::Failed),
        ];
        for (error, failure, reason) in table {
            assert_eq!((Failure::of(error), Failure::hold(error).reason), (failure, reason), "{error}");
        }
    }
}
