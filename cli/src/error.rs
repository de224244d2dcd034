//! The exit codes of the command, and the error types that decide between them.

use std::fmt;
use std::process::Termination;

use client::error::Environment;

/// The exit code of `sluice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything happened as asked.
    Success = 0,
    /// The command ran, and the outcome is not the expected one: a demo row, a stack, a system that is not running.
    Failed = 1,
    /// Usage error; raised by clap, or as `Misused` for checks clap cannot make.
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

/// The mistake in a command line, in one sentence. The process then ends with [`ExitCode::Usage`].
#[derive(Debug)]
pub(crate) struct Misused(String);

impl Misused {
    /// `sentence` tells a person which request is impossible, and what to ask for instead.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_prerequisite_has_its_own_exit_code_in_any_context() {
        let lacks = || Environment::lacks("no Python");
        assert_eq!(ExitCode::of(&lacks()), ExitCode::Environment);
        assert_eq!(ExitCode::of(&lacks().context("bringing the local AWS up")), ExitCode::Environment);
        assert_eq!(ExitCode::of(&Misused::because("no such thing")), ExitCode::Usage);
        assert_eq!(ExitCode::of(&anyhow::anyhow!("a stack failed")), ExitCode::Failed);
    }
}
