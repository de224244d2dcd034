//! `sluice deploy --stack NAME`

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::error::ExitCode;
use crate::operator::deploy::{self, Change, Options, Plan, Planned, Sources};
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
    /// Show what would change in each stack, and change nothing.
    #[arg(long)]
    plan: bool,
    /// Allow the replacement or deletion of what holds data: a table, bucket, user pool, key, queue or log.
    #[arg(long)]
    allow_replacement: bool,
    /// For how many minutes after the update of each stack an alarm rolls it back; 0 monitors nothing.
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u16).range(..=180))]
    monitor: u16,
    /// Policy folder to deploy, instead of this checkout's workers/authorize/policies. Pass it on every deployment.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// A TOML file that names the institutes' own segments (`Z..`) in the renditions of the lake. Pass it on every deployment.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Also deploy the stack NAME-tables, which writes what is stored as Parquet. A deployment that has it keeps it up to date without
    /// this option.
    #[arg(long)]
    tables: bool,
    /// Use a debug build; only with a local AWS emulator (AWS_ENDPOINT_URL).
    #[arg(long, hide = true)]
    dev: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let aws = Aws::from_environment().await;
    let account = aws.account().await?;
    let place = aws.endpoint_url().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    let doing = if args.plan { "Planning the deployment of" } else { "Deploying" };
    output.reporter.say(format!("{doing} `{}` to account {account}, region {}{place}.", args.stack, aws.region()?));

    let workspace = Workspace::find().await?;
    // A stand-in for AWS runs the workers on this machine, as they are built here.
    let purpose = match (aws.endpoint_url(), args.dev) {
        (Some(_), true) => Purpose::Local(Profile::Dev),
        (Some(_), false) if args.architecture == Architecture::host() => Purpose::Local(Profile::Release),
        (_, false) => Purpose::Aws(args.architecture),
        (None, true) => bail!("--dev needs a stand-in for AWS, but AWS_ENDPOINT_URL is not set"),
    };
    let policies = args.policies.unwrap_or_else(|| workspace.policies());
    let packages = package::package(&workspace, purpose, &policies, args.schema.as_deref(), &output.reporter).await?;
    let sources = Sources::read(&workspace, packages)?;
    let mut parameters: std::collections::BTreeMap<_, _> = args.parameters.into_iter().collect();
    parameters.insert("Architecture".to_owned(), args.architecture.name().to_owned());
    let tags = args.tags.into_iter().collect();
    let options = Options {
        stack: args.stack,
        parameters,
        tags,
        role_arn: args.role_arn,
        tables: args.tables,
        allow_replacement: args.allow_replacement,
        monitor_minutes: args.monitor,
    };
    if args.plan {
        let plans = deploy::plan(&aws, &sources, &options, &output.reporter).await?;
        show(&plans, &options, output)?;
        return Ok(ExitCode::Success);
    }
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

/// The plan: a table of the stacks, one of what happens in them, and a line for each resource whose data would be lost.
fn show(plans: &[Plan], options: &Options, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json(&serde_json::json!({ "stack": options.stack, "plan": plans }));
    }
    let stacks = plans.iter().map(|plan| {
        let protection = if plan.protects { "is switched on" } else { "is on" };
        [plan.stack.clone(), plan.change.name().to_owned(), protection.to_owned()]
    });
    output.table(["stack", "would be", "termination protection"], stacks);
    let resources = plans.iter().filter(|plan| plan.change == Change::Updated).flat_map(|plan| {
        let row = |it: &Planned| {
            [plan.stack.clone(), it.action.name().to_owned(), it.resource.clone(), it.kind.clone(), it.changes.join(", ")]
        };
        plan.resources.iter().map(row).collect::<Vec<_>>()
    });
    let resources: Vec<_> = resources.collect();
    if !resources.is_empty() {
        output.table(["stack", "action", "resource", "type", "changes"], resources);
    }
    for plan in plans {
        if let Some(unknown) = &plan.unknown {
            output.line(format!("{}: not known before the stacks above are deployed: {unknown}", plan.stack));
        }
        if plan.change == Change::Created {
            output.line(format!("{}: all {} resources of its template are added", plan.stack, plan.resources.len()));
        }
    }
    let lost: Vec<_> = plans.iter().flat_map(|plan| &plan.resources).filter(|it| it.loses_data()).collect();
    lost.iter().for_each(|it| output.line(it.warning()));
    if !lost.is_empty() && !options.allow_replacement {
        output.line("A deployment is refused where data would be lost, unless --allow-replacement is given.");
    }
    Ok(())
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("Architecture", _)) => Err("use --architecture".to_owned()),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
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
