//! A simulation of the pipeline by discrete events: predicts the outcome for a rate of messages from a number of institutes,
//! with measured service times and AWS's documented quotas.
//!
//! Simulated are: the API's rate limit, the queue with its message groups (fair among institutes), dispatch with its bounded number of
//! invocations and batches, the four steps with their sandboxes (warm, cold, and the account's concurrency), the exchange of tokens,
//! the writes to the partition of an institute, an outage of the lake, and the retries with growing delay until a message is held. Not
//! simulated are errors of single calls, the readers, and requests of several messages: each message is a request.
//!
//! The same scenario with the same seed gives the same report.

#![warn(missing_docs)]

mod engine;
mod fair_queue;
mod histogram;
mod quota;
mod report;
mod sandboxes;
mod scenario;

pub use engine::run;
pub use quota::{Limit, Limits};
pub use report::{QuotaUse, Report, Waits};
pub use scenario::{Deployment, Outage, Scenario, Senseless, ServiceTime, Step, Times};
