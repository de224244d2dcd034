//! The edge that all workers share: environment, SDK set-up, error names, and the one log line of an invocation.

mod aws;
mod env;
mod error;
mod http;
mod identity;
mod log;
pub mod media;
mod serve;

pub use aws::{RequestLog, StripHostPrefix, endpoint_url, sdk_config};
pub use env::{EnvError, required_var, var_parsed};
pub use error::StepError;
pub use http::{HttpProblem, bytes_response, header, json_response, problem_response};
pub use identity::{Identity, bearer};
pub use log::{Field, note, note_message};
pub use serve::{input, serve};
