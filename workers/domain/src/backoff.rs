//! How long a message that could not be finished stays away before the queue offers it again.

use std::time::Duration;

/// The delay after a failed try: `base`, doubled with every receive, at most 15 minutes.
///
/// `receives` is SQS's `ApproximateReceiveCount`, from 1.
pub fn after_failure(base: Duration, receives: u32) -> Duration {
    let doublings = receives.saturating_sub(1).min(16);
    base.saturating_mul(1 << doublings).min(Duration::from_secs(15 * 60))
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
}
