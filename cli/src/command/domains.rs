//! `sluice domains`

use std::time::SystemTime;

use anyhow::{Context, Result};
use domain::Source;
use domain::enrollment::{DomainRule, EmailDomain};

use super::{DeploymentArgs, confirm, warn_of_names};
use crate::error::ExitCode;
use crate::operator::enrollment::Enrollment;
use crate::output::Output;

/// What to do with the rules for those who sign up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the rules.
    List {
        #[command(flatten)]
        deployment: DeploymentArgs,
    },
    /// Create or replace the rule of a domain.
    Set {
        #[command(flatten)]
        deployment: DeploymentArgs,
        /// The domain part of the e-mail addresses (after the @).
        domain: EmailDomain,
        /// The institute whose addresses these are. You vouch for it.
        #[arg(long)]
        institute: Source,
        #[command(flatten)]
        rights: Rights,
        /// The identity provider of these users. Default: users who sign up in the user pool itself.
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Remove the rule of a domain. Users who got their rights by it keep them.
    Remove {
        #[command(flatten)]
        deployment: DeploymentArgs,
        /// The domain.
        domain: EmailDomain,
    },
}

/// At least one is required: a rule must grant something.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Rights {
    /// Its users may read the institute's messages.
    #[arg(long)]
    read: bool,
    /// Its users may submit for the institute.
    #[arg(long)]
    write: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    match args.action {
        Action::List { deployment } => {
            let rules = enrollment(&deployment).await?.rules().await?;
            if output.is_json() {
                output.json(&rules)?;
            } else {
                let rows = rules.iter().map(|rule| {
                    let provider = rule.provider.clone().unwrap_or_default();
                    [
                        rule.domain.to_string(),
                        rule.institute.to_string(),
                        rights(rule).to_owned(),
                        provider,
                        rule.added_at.to_string(),
                    ]
                });
                output.table(["domain", "institute", "rights", "provider", "since"], rows);
            }
        }
        Action::Set { deployment, domain, institute, rights: Rights { read, write }, provider, yes } => {
            let enrollment = enrollment(&deployment).await?;
            warn_of_names(output, [&institute]);
            let rule = DomainRule { domain, institute, read, write, provider, added_at: SystemTime::now().into() };
            confirm(output, yes, &format!("{} Is the domain theirs alone?", meaning(&rule)))?;
            let replaced = enrollment.put_rule(&rule).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "rule": rule, "replaced": replaced }))?;
            } else {
                output.line(meaning(&rule));
                if let Some(old) = replaced {
                    output.line(format!("Before: {}", meaning(&old)));
                }
            }
        }
        Action::Remove { deployment, domain } => {
            let removed = enrollment(&deployment).await?.remove_rule(&domain).await?;
            let removed = removed.with_context(|| format!("there is no rule for `{domain}`"))?;
            if output.is_json() {
                output.json(&removed)?;
            } else {
                output.line(format!("No longer: {}", meaning(&removed)));
            }
        }
    }
    Ok(ExitCode::Success)
}

async fn enrollment(deployment: &DeploymentArgs) -> Result<Enrollment> {
    let (aws, outputs) = deployment.find().await?;
    Enrollment::new(&aws, &outputs)
}

fn rights(rule: &DomainRule) -> &'static str {
    match (rule.read, rule.write) {
        (true, true) => "read, write",
        (true, false) => "read",
        (false, true) => "write",
        (false, false) => "none",
    }
}

/// A rule as a sentence.
pub(super) fn meaning(rule: &DomainRule) -> String {
    let DomainRule { domain, institute, .. } = rule;
    let who = match &rule.provider {
        None => format!("Everybody who signs up and proves to have an address @{domain}"),
        Some(provider) => format!("Everybody whom the identity provider `{provider}` sends with an address @{domain}"),
    };
    let what = match (rule.read, rule.write) {
        (true, true) => "reads all messages of and submits for",
        (true, false) => "reads all messages of",
        (false, true) => "submits for",
        (false, false) => "has no rights in",
    };
    format!("{who} {what} `{institute}`.")
}
