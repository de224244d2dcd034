//! What AWS allows: rates as token buckets, and one number of sandboxes.

use serde::{Deserialize, Serialize};

/// The limit of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limit {
    /// The rate per second.
    pub per_second: f64,
    /// The burst.
    pub burst: f64,
}

/// The quotas in the path of a message. Those of an account can be raised; those of a partition and a prefix cannot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Requests to `POST /er7` (`SubmitRateLimit`, `SubmitBurstLimit`).
    pub route: Limit,
    /// Sandboxes of an account that run at once.
    pub lambda_concurrency: u32,
    /// New sandboxes of one function.
    pub lambda_scaling: Limit,
    /// `cognito-identity:GetId` of an account.
    pub get_id: Limit,
    /// `cognito-identity:GetCredentialsForIdentity` of an account.
    pub get_credentials: Limit,
    /// Write units of one partition of the index by arrival.
    pub partition_writes: Limit,
    /// The partitions that an institute's records are spread over there.
    pub index_partitions: u32,
    /// Write units of a message in that index: half of them when it is submitted, half when it is stored.
    pub units_per_message: f64,
    /// PUT requests below one prefix of S3.
    pub prefix_puts: Limit,
    /// `sns:Publish` of an account.
    pub sns_publish: Limit,
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), String> {
        let limits = [
            ("route", self.route),
            ("lambdaScaling", self.lambda_scaling),
            ("getId", self.get_id),
            ("getCredentials", self.get_credentials),
            ("partitionWrites", self.partition_writes),
            ("prefixPuts", self.prefix_puts),
            ("snsPublish", self.sns_publish),
        ];
        for (name, limit) in limits {
            if !(limit.per_second > 0.0 && limit.burst >= 1.0 && limit.per_second.is_finite() && limit.burst.is_finite()) {
                return Err(format!("the quota `{name}` allows nothing"));
            }
        }
        if self.lambda_concurrency == 0 {
            return Err("the quota `lambdaConcurrency` allows nothing".to_owned());
        }
        if self.index_partitions == 0 {
            return Err("an institute has a partition of the index".to_owned());
        }
        if !(self.units_per_message > 0.0 && self.units_per_message <= self.partition_writes.burst) {
            return Err("a message takes write units, and not more than a partition has at once".to_owned());
        }
        Ok(())
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    limit: Limit,
    tokens: f64,
    at: f64,
}

impl Bucket {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, tokens: limit.burst, at: 0.0 }
    }

    fn fill(&mut self, now: f64) {
        self.tokens = (self.tokens + (now - self.at) * self.limit.per_second).min(self.limit.burst);
        self.at = now;
    }

    /// Takes `count` tokens if they are available.
    pub(crate) fn take(&mut self, now: f64, count: f64) -> bool {
        self.fill(now);
        let has = self.tokens >= count;
        if has {
            self.tokens -= count;
        }
        has
    }

    /// Takes `count` tokens, and returns the number of seconds until they are available; callers retry until then. Takes none
    /// if that is longer than `within`.
    pub(crate) fn reserve(&mut self, now: f64, count: f64, within: f64) -> Option<f64> {
        self.fill(now);
        let wait = ((count - self.tokens) / self.limit.per_second).max(0.0);
        if wait > within {
            return None;
        }
        self.tokens -= count;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Limit { per_second: 10.0, burst: 5.0 });
        assert_eq!((0..7).filter(|_| bucket.take(0.0, 1.0)).count(), 5);
        assert!(bucket.take(0.1, 1.0) && !bucket.take(0.1, 1.0));
        assert_eq!((0..70).filter(|_| bucket.take(100.0, 1.0)).count(), 5, "never more than the burst");
        let wait = |it: Option<f64>| it.map(|seconds| (seconds * 10.0).round());
        assert_eq!(wait(bucket.reserve(100.0, 2.0, 5.0)), Some(2.0));
        assert_eq!(wait(bucket.reserve(100.0, 1.0, 5.0)), Some(3.0));
        assert_eq!(wait(bucket.reserve(100.0, 100.0, 5.0)), None, "too long");
        assert_eq!(wait(bucket.reserve(100.0, 1.0, 5.0)), Some(4.0), "and nothing was taken");
    }
}
