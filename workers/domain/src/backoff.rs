//! How long a message that could not be finished stays away before the queue offers it again.

use std::time::Duration;

/// SQS lets a message be hidden for at most 12 hours.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);

/// The delay after a failed try: `base`, doubled with every receive, at most 15 minutes.
///
/// `receives` is SQS's `ApproximateReceiveCount`, from 1.
pub fn after_failure(base: Duration, receives: u32) -> Duration {
    let doublings = receives.saturating_sub(1).min(16);
    base.saturating_mul(1 << doublings).min(Duration::from_secs(15 * 60))
}

/// The delay while another submission holds the claim on the same message.
///
/// Short at first, since the other one is most likely about to finish. But before the last receive it is as long as the
/// other's lease: after that the message is stored or free, so waiting never sends a submission to the dead letters.
pub fn while_in_progress(base: Duration, receives: u32, max_receives: u32, lease_left: Duration) -> Duration {
    let delay = after_failure(base, receives);
    let next_is_last = receives.saturating_add(1) >= max_receives;
    if next_is_last { delay.max(lease_left).min(LONGEST) } else { delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_delay_grows_with_every_receive_and_ends_at_a_quarter_of_an_hour() {
        let delays: Vec<u64> = (1..=8).map(|receives| after_failure(10 * SECOND, receives).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(after_failure(SECOND, u32::MAX).as_secs(), 900);
    }

    #[test]
    fn the_last_wait_for_another_submission_outlasts_its_lease() {
        let lease_left = 150 * SECOND;
        let delays: Vec<u64> = (1..=5).map(|receives| while_in_progress(SECOND, receives, 5, lease_left).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 150, 150]);
    }
}
