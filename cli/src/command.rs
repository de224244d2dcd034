//! The commands: arguments, the call into the library, and what is printed.

pub(crate) mod accounting;
pub(crate) mod audit;
pub(crate) mod authorize;
pub(crate) mod backup;
mod cells;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod cost;
pub(crate) mod credentials;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod discard;
pub(crate) mod doctor;
pub(crate) mod domains;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod get;
pub(crate) mod hl7;
pub(crate) mod ids;
pub(crate) mod list;
mod listing;
pub(crate) mod local;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod mllp;
pub(crate) mod policies;
pub(crate) mod redrive;
pub(crate) mod reindex;
pub(crate) mod release;
mod schema;
pub(crate) mod send;
pub(crate) mod show;
pub(crate) mod simulate;
pub(crate) mod sql;
pub(crate) mod status;
pub(crate) mod tables;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod users;
mod when;
pub(crate) mod whoami;

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use anyhow::{Result, ensure};
use domain::Source;

use crate::output::Output;
use client::aws::Aws;
use client::outputs::Outputs;

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
    /// Whether the command line names a deployment; `--local` counts.
    pub(crate) fn is_named(&self) -> bool {
        self.local || self.stack.is_some()
    }

    pub(crate) async fn find(&self) -> Result<(Aws, Outputs)> {
        match &self.stack {
            Some(stack) => {
                let aws = Aws::from_environment().await;
                aws.account().await?;
                let outputs = crate::operator::deploy::outputs_of(&aws, stack).await?;
                Ok((aws, outputs))
            }
            None => {
                let outputs = crate::local::running().await?;
                Ok((outputs.local_aws()?, outputs))
            }
        }
    }
}

/// Valid deployment names: bucket names contain them, so no upper-case letters.
fn stack_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let good = text.len() <= 24
        && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.ends_with('-');
    if good {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 24 lower-case letters, digits or hyphens, and begin with a letter".to_owned())
    }
}

/// Reads a duration like `90m` or `36h`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok());
    duration.ok_or_else(|| "expected a duration, like 90m or 36h".to_owned())
}

/// Reads a duration in which something can happen.
fn positive_duration(text: &str) -> Result<Duration, String> {
    Some(duration(text)?).filter(|it| !it.is_zero()).ok_or_else(|| "expected a duration that is longer than none".to_owned())
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
    ensure!(std::io::stdin().is_terminal(), "there is no terminal to ask for confirmation: use --yes");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "not confirmed: nothing was changed");
    Ok(())
}

/// Warns about institutes' names that other programs may read as a number, a date or the like.
pub(crate) fn warn_of_names<'a>(output: &Output, institutes: impl IntoIterator<Item = &'a Source>) {
    let mut names: Vec<_> = institutes.into_iter().filter_map(|it| Some((it.as_str(), it.is_taken_for()?))).collect();
    names.sort_unstable();
    names.dedup();
    for (name, taken_for) in names {
        output.reporter.say(format!(
            "The institute `{name}` looks like {taken_for}: programs that guess types mix it up with another one. Another name, \
             such as `institute-{name}`, is safer."
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, stack_name};

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("36h"), Ok(Duration::from_secs(129_600)));
        for bad in ["", "5", "-1h", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deployment_has_a_name_that_a_bucket_can_have() {
        assert!(stack_name("sluice-test2").is_ok());
        for bad in ["", "Sluice", "2sluice", "sluice-", "a_b", "a-name-that-is-longer-than-24"] {
            assert!(stack_name(bad).is_err(), "{bad}");
        }
    }
}
