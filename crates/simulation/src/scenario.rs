//! The input of a simulation.

use std::f64::consts::TAU;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::quota::Limits;

/// Why a scenario makes no sense, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Senseless(String);

/// The load, the events during the run, and the deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Messages a second, on average.
    pub rate: f64,
    /// The number of institutes.
    pub institutes: u32,
    /// How long messages arrive, in seconds.
    pub seconds: f64,
    /// The first institute's share of all messages; the others send equally many. `None` if all institutes send equally many.
    pub hot_share: Option<f64>,
    /// The extra share of an hour's messages that arrive in its first minute; 0 for none.
    pub burst_share: f64,
    /// A time in which the lake accepts nothing.
    pub outage: Option<Outage>,
    /// Whether functions have sandboxes at the beginning: as many as the average rate needs, with the credentials of every
    /// institute.
    pub is_warm: bool,
    /// The seed of the random numbers.
    pub seed: u64,
    /// Parameters of the deployment.
    pub deployment: Deployment,
    /// Durations.
    pub times: Times,
    /// The quotas of AWS.
    pub limits: Limits,
}

/// A time in which each attempt to store fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// Seconds from the beginning.
    pub from: f64,
    /// Its length in seconds.
    pub seconds: f64,
}

/// Parameters of the templates (docs/CONFIGURATION.md).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deployment {
    /// `MaximumConcurrency`: invocations of dispatch at once.
    pub maximum_concurrency: u32,
    /// `DispatchBatchSize`.
    pub batch_size: u32,
    /// `RetryBaseSeconds`.
    pub retry_base_seconds: f64,
    /// `RetryMinutes`.
    pub retry_minutes: f64,
}

/// The functions in the path of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answers the POST.
    Submit,
    /// Runs the executions of a batch.
    Dispatch,
    /// Claims the message.
    Deduplicate,
    /// Parses the message.
    Parse,
    /// Stores the message in the lake.
    Store,
    /// Publishes the event.
    Publish,
}

impl Step {
    /// All functions.
    pub const ALL: [Self; 6] = [Self::Submit, Self::Dispatch, Self::Deduplicate, Self::Parse, Self::Store, Self::Publish];
}

/// A time that varies: log-normal, by its median and its 95th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// The median in milliseconds.
    pub p50_ms: f64,
    /// The 95th percentile in milliseconds.
    pub p95_ms: f64,
}

impl ServiceTime {
    /// A time in seconds. 1.645 is the 95th percentile of the normal distribution.
    pub(crate) fn sample(self, rng: &mut Rng) -> f64 {
        let sigma = (self.p95_ms / self.p50_ms).ln().max(0.0) / 1.645;
        let (a, b) = (1.0 - rng.f64(), rng.f64());
        let normal = (-2.0 * a.ln()).sqrt() * (TAU * b).cos();
        self.p50_ms / 1000.0 * (sigma * normal).exp()
    }
}

/// The durations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// An invocation of submit in a warm sandbox.
    pub submit: ServiceTime,
    /// An invocation of deduplicate.
    pub deduplicate: ServiceTime,
    /// An invocation of parse.
    pub parse: ServiceTime,
    /// An invocation of store.
    pub store: ServiceTime,
    /// An invocation of publish.
    pub publish: ServiceTime,
    /// The time of an execution outside its steps, in milliseconds: its start, and Step Functions between them.
    pub execution_ms: f64,
    /// The time from the queue to dispatch, in milliseconds.
    pub poll_ms: f64,
    /// The extra time of a new sandbox, in milliseconds.
    pub cold_ms: f64,
}

impl Times {
    pub(crate) fn of(&self, step: Step) -> ServiceTime {
        match step {
            Step::Submit => self.submit,
            // Dispatch itself only waits for its executions.
            Step::Dispatch => ServiceTime { p50_ms: 1.0, p95_ms: 1.0 },
            Step::Deduplicate => self.deduplicate,
            Step::Parse => self.parse,
            Step::Store => self.store,
            Step::Publish => self.publish,
        }
    }
}

/// The most messages of one simulation: each is in memory while it waits.
const MAX_MESSAGES: f64 = 40e6;

impl Scenario {
    /// # Errors
    /// With a sentence, when it makes no sense.
    pub fn check(&self) -> Result<(), Senseless> {
        let refuse = |sentence: String| Err(Senseless(sentence));
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let Self { rate, institutes, seconds, hot_share, burst_share, .. } = *self;
        if !(rate > 0.0 && rate <= 10_000.0) {
            return refuse(format!("a rate is more than 0 and at most 10,000 messages a second, and not {rate}"));
        }
        if !(1..=5_000).contains(&institutes) {
            return refuse(format!("there are 1 to 5,000 institutes, and not {institutes}"));
        }
        if !(seconds > 0.0 && seconds <= 86_400.0) {
            return refuse(format!("messages come in for more than 0 and at most 86,400 seconds, and not for {seconds}"));
        }
        if rate * seconds > MAX_MESSAGES {
            return refuse(format!("{} messages are too many to simulate: at most {MAX_MESSAGES}", (rate * seconds).round()));
        }
        if let Some(share) = hot_share.filter(|share| !is_share(*share)) {
            return refuse(format!("an institute sends a share from 0 to 1 of the messages, and not {share}"));
        }
        if hot_share.is_some_and(|share| institutes == 1 && share < 1.0) {
            return refuse("a single institute sends all messages".to_owned());
        }
        if !is_share(burst_share) {
            return refuse(format!("a share from 0 to 1 of the messages comes at the hour, and not {burst_share}"));
        }
        if let Some(outage) = self.outage {
            if !(outage.from >= 0.0 && outage.seconds > 0.0 && outage.seconds <= 86_400.0) {
                return refuse("an outage begins at a time and lasts for more than 0 and at most 86,400 seconds".to_owned());
            }
            if outage.from >= seconds {
                return refuse("an outage begins while messages come in".to_owned());
            }
        }
        let Deployment { maximum_concurrency, batch_size, retry_base_seconds, retry_minutes } = self.deployment;
        if !(2..=1_000).contains(&maximum_concurrency) {
            return refuse(format!("MaximumConcurrency is from 2 to 1,000, and not {maximum_concurrency}"));
        }
        if !(1..=10).contains(&batch_size) {
            return refuse(format!("DispatchBatchSize is from 1 to 10, and not {batch_size}"));
        }
        if !(0.0..=900.0).contains(&retry_base_seconds) || !(1.0..=1_440.0).contains(&retry_minutes) {
            return refuse("RetryBaseSeconds is from 0 to 900, and RetryMinutes from 1 to 1,440".to_owned());
        }
        for step in Step::ALL {
            let ServiceTime { p50_ms, p95_ms } = self.times.of(step);
            if !(p50_ms > 0.0 && p95_ms >= p50_ms && p95_ms.is_finite()) {
                return refuse(format!("{step:?} takes a time, and rarely less than usual: {p50_ms} and {p95_ms} ms are none"));
            }
        }
        let Times { execution_ms, poll_ms, cold_ms, .. } = self.times;
        if [execution_ms, poll_ms, cold_ms].iter().any(|ms| !(0.0..=60_000.0).contains(ms)) {
            return refuse("an execution, the queue and a cold start take from 0 to 60,000 ms".to_owned());
        }
        self.limits.check().map_err(Senseless)
    }
}
