//! The edge that all workers share: environment, SDK clients, clock, error names, HTTP answers, and the one log line of an invocation.

#![warn(missing_docs)]

mod aws;
mod caller;
mod clock;
mod env;
mod error;
mod http;
mod log;
pub mod media;
mod metrics;
mod serve;
mod trace;

pub use aws::{MAX_IDLE, RequestLog, StripHostPrefix, endpoint_url, http_client, sdk_config, without_pool};
pub use caller::{Caller, bearer};
pub use clock::{new_submission_id, now, random};
pub use env::{EnvError, required_var, var_parsed};
pub use error::{Refusal, StepError};
pub use http::{HttpProblem, base_url, bytes_response, header, json_response, message_id, problem_response, problem_type};
pub use log::{Field, log_field, log_message, log_subject, log_submitted, logged_subject, trace};
pub use metrics::count_institutes;
pub use serve::{input, serve};
