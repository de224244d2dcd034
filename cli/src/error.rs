//! How a command ends, and the one distinction an error needs for it.

use std::fmt;
use std::process::Termination;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

/// The exit code of `sluice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything happened as asked.
    Success = 0,
    /// The command ran, and the outcome is not the expected one: a demo row, a stack, a system that is not running.
    Failed = 1,
    /// The command line is wrong: clap answers so by itself, and `Misused` what clap cannot know.
    Usage = 2,
    /// This machine or account lacks something the command needs: Python, a Rust target, AWS credentials, a checkout.
    Environment = 3,
}

impl ExitCode {
    /// The code of a command that ended with an error.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<Environment>().is_some() || error.chain().any(|cause| cause.is::<Environment>()) {
            Self::Environment
        } else if error.chain().any(|cause| cause.is::<Misused>()) {
            Self::Usage
        } else {
            Self::Failed
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> std::process::ExitCode {
        std::process::ExitCode::from(self as u8)
    }
}

/// What this machine or account lacks, in one sentence. The process then ends with [`ExitCode::Environment`].
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

/// What is wrong with a command line, in one sentence. The process then ends with [`ExitCode::Usage`].
#[derive(Debug)]
pub(crate) struct Misused(String);

impl Misused {
    /// `sentence` tells a person what cannot be asked for, and what can.
    pub(crate) fn because(sentence: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(sentence.into()))
    }
}

impl fmt::Display for Misused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Misused {}

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

#[cfg(test)]
mod tests {
    use super::{Environment, ExitCode, Misused};

    #[test]
    fn what_the_machine_lacks_is_its_own_exit_code_under_any_context() {
        let lacks = || Environment::lacks("no Python");
        assert_eq!(ExitCode::of(&lacks()), ExitCode::Environment);
        assert_eq!(ExitCode::of(&lacks().context("bringing the local AWS up")), ExitCode::Environment);
        assert_eq!(ExitCode::of(&Misused::because("no such thing")), ExitCode::Usage);
        assert_eq!(ExitCode::of(&anyhow::anyhow!("a stack failed")), ExitCode::Failed);
    }
}
