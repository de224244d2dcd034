//! The commands: arguments, the call into the library, and what is printed.

pub(crate) mod authorize;
pub(crate) mod credentials;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod domains;
pub(crate) mod get;
pub(crate) mod hl7;
pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod mllp;
pub(crate) mod policies;
pub(crate) mod redrive;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod users;
pub(crate) mod whoami;

use std::io::{BufRead, IsTerminal};

use anyhow::{Result, ensure};

use crate::aws::Aws;
use crate::output::Output;
use crate::outputs::Outputs;

/// Which deployment a command talks to: the local one, unless another is named.
#[derive(Debug, clap::Args)]
pub(crate) struct DeploymentArgs {
    /// A deployment on AWS.
    #[arg(long, value_name = "NAME", value_parser = stack_name, conflicts_with = "local")]
    stack: Option<String>,
    /// The local system, which is also the default.
    #[arg(long)]
    local: bool,
}

impl DeploymentArgs {
    /// Whether one was named, the local one included.
    pub(crate) fn is_named(&self) -> bool {
        self.local || self.stack.is_some()
    }

    pub(crate) async fn find(&self) -> Result<(Aws, Outputs)> {
        match &self.stack {
            Some(stack) => {
                let aws = Aws::from_environment().await;
                aws.account().await?;
                let outputs = crate::deploy::outputs_of(&aws, stack).await?;
                Ok((aws, outputs))
            }
            None => {
                let outputs = crate::local::running().await?;
                let aws = Aws::local(outputs.endpoint_url.as_deref().unwrap_or_default(), &outputs.region);
                Ok((aws, outputs))
            }
        }
    }
}

/// What a deployment may be called: the names of its buckets, which allow no capitals, hold it too.
fn stack_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let good = text.len() <= 24
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.ends_with('-');
    if good {
        Ok(text.to_owned())
    } else {
        Err("it has 1 to 24 lower-case letters, digits and hyphens, and begins with a letter".to_owned())
    }
}

/// Asks the person at the terminal, unless told not to.
///
/// # Errors
/// When the answer is not yes, or nobody is there to give one.
pub(crate) fn confirm(output: &Output, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    output.reporter.say(format!("{question} [y/N]"));
    ensure!(std::io::stdin().is_terminal(), "nobody is there to confirm: use --yes");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "not confirmed: nothing was changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stack_name;

    #[test]
    fn a_deployment_has_a_name_that_a_bucket_can_have() {
        assert!(stack_name("sluice-test2").is_ok());
        for bad in ["", "Sluice", "2sluice", "sluice-", "a_b", "a-name-that-is-longer-than-24"] {
            assert!(stack_name(bad).is_err(), "{bad}");
        }
    }
}
