//! Percentiles of many times in little memory: buckets that grow by 3 %.

const GROWTH: f64 = 1.03;
/// The first bucket ends at a millisecond. The last one covers more than two days.
const FIRST: f64 = 0.001;
const BUCKETS: usize = 640;

/// A histogram of times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    count: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, seconds: f64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let bucket = ((seconds / FIRST).max(1.0).ln() / GROWTH.ln()) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time that this share of values does not exceed, in seconds, to within 3 %; `None` without values.
    pub(crate) fn at(&self, share: f64) -> Option<f64> {
        let wanted = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= wanted
        };
        let bucket = self.counts.iter().position(reached)?;
        Some(FIRST * GROWTH.powf(bucket as f64 + 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_per_cent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.at(0.5), None);
        (1..=10_000).for_each(|n| histogram.add(f64::from(n) / 1000.0));
        for (share, expected) in [(0.5, 5.0), (0.99, 9.9)] {
            let at = histogram.at(share).unwrap();
            assert!((at / expected - 1.0).abs() < 0.03, "{at} for {expected}");
        }
    }
}
