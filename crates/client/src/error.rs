//! Errors for people: what this machine lacks, or what AWS answered.

use std::fmt;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

/// A thing that this machine or account lacks, in one sentence. `sluice` then ends with exit code 3.
#[derive(Debug)]
pub struct Environment(String);

impl Environment {
    /// `sentence` tells a person what is missing and what to do about it.
    pub fn lacks(sentence: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(sentence.into()))
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Environment {}

/// Turns a failed AWS call into one sentence: the operation, the service's code and message, and the request id to
/// quote to AWS. A call without an answer gives its causes instead.
pub fn explain<E, R>(operation: impl fmt::Display) -> impl FnOnce(SdkError<E, R>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + 'static,
    SdkError<E, R>: RequestId,
{
    move |error| {
        let Some(service) = error.as_service_error() else {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |cause| cause.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            return anyhow::anyhow!("{operation}: {}", causes.join(": "));
        };
        let code = service.code().unwrap_or("unknown error");
        let message = service.message().unwrap_or("no message");
        match error.request_id() {
            Some(request_id) => anyhow::anyhow!("{operation}: {code}: {message} (request id {request_id})"),
            None => anyhow::anyhow!("{operation}: {code}: {message}"),
        }
    }
}
