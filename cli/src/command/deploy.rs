//! `sluice deploy --stack NAME`

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::error::ExitCode;
use crate::operator::deploy::{self, Options, Sources};
use crate::operator::package::{self, Architecture, Profile, Purpose};
use crate::operator::workspace::Workspace;
use crate::output::Output;
use client::aws::Aws;

/// What to deploy, and under which name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the deployment; its stacks are called NAME-core, NAME-identity, NAME-pipeline and NAME-api.
    #[arg(long, value_name = "NAME", value_parser = super::stack_name)]
    stack: String,
    /// The processor the workers run on.
    #[arg(long, value_enum, default_value = "x86_64")]
    architecture: Architecture,
    /// A template parameter, as often as needed; all others have the template's default.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    parameters: Vec<(String, String)>,
    /// A tag of everything that has tags, as often as needed. The stacks keep the tags that they have.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = name_and_value)]
    tags: Vec<(String, String)>,
    /// The role that CloudFormation deploys under; without it, your own rights.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Policy folder to deploy, instead of this checkout's workers/authorize/policies. Pass it on every deployment.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Use a debug build; only with a local AWS emulator (AWS_ENDPOINT_URL).
    #[arg(long, hide = true)]
    dev: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let aws = Aws::from_environment().await;
    let account = aws.account().await?;
    let place = aws.endpoint_url().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    output.reporter.say(format!("Deploying `{}` to account {account}, region {}{place}.", args.stack, aws.region()?));

    let workspace = Workspace::find().await?;
    // A stand-in for AWS runs the workers on this machine, as they are built here.
    let purpose = match (aws.endpoint_url(), args.dev) {
        (Some(_), true) => Purpose::Local(Profile::Dev),
        (Some(_), false) if args.architecture == Architecture::host() => Purpose::Local(Profile::Release),
        (_, false) => Purpose::Aws(args.architecture),
        (None, true) => bail!("--dev is for a stand-in for AWS, and AWS_ENDPOINT_URL is not set"),
    };
    let policies = args.policies.unwrap_or_else(|| workspace.policies());
    let packages = package::package(&workspace, purpose, &policies, &output.reporter).await?;
    let sources = Sources::read(&workspace, packages)?;
    let mut parameters: std::collections::BTreeMap<_, _> = args.parameters.into_iter().collect();
    parameters.insert("Architecture".to_owned(), args.architecture.name().to_owned());
    let tags = args.tags.into_iter().collect();
    let options = Options { stack: args.stack, parameters, tags, role_arn: args.role_arn };
    let deployment = deploy::deploy(&aws, &sources, &options, &output.reporter).await?;

    if output.is_json() {
        output.json(&deployment.outputs)?;
    } else {
        let stacks = deployment.changes.iter().map(|(name, change)| [name.clone(), change.name().to_owned()]);
        output.table(["stack", "is"], stacks);
        output.table(["output", "value"], super::local::outputs_rows(&deployment.outputs));
    }
    Ok(ExitCode::Success)
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("Architecture", _)) => Err("use --architecture".to_owned()),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is not of the form NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_value;

    #[test]
    fn a_value_may_hold_an_equals_sign_or_nothing() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(name_and_value("A="), Ok(("A".to_owned(), String::new())));
        assert!(name_and_value("A").is_err());
        assert!(name_and_value("=b").is_err());
        assert!(name_and_value("Architecture=arm64").is_err());
    }
}
