//! `sluice destroy --stack NAME`

use std::io::{BufRead, IsTerminal};

use anyhow::{Result, ensure};

use crate::error::ExitCode;
use crate::operator::deploy::{self, With};
use crate::output::Output;
use client::aws::Aws;

/// What to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the deployment.
    #[arg(long, value_name = "NAME", value_parser = super::stack_name)]
    stack: String,
    /// Delete the accounts of the users too, where the user pool is protected from deletion.
    #[arg(long)]
    delete_users: bool,
    /// Delete the messages, the catalog and the keys as well. There is no way back.
    #[arg(long)]
    delete_data: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let aws = Aws::from_environment().await;
    let account = aws.account().await?;
    if !args.yes {
        let users = if args.delete_users { ", its users" } else { "" };
        let data = if args.delete_data { " AND ALL ITS MESSAGES" } else { "" };
        output.reporter.say(format!(
            "This deletes the deployment `{}`{users}{data} in account {account}, region {}, and lifts the termination \
             protection of its stacks.\nType its name to go on:",
            args.stack,
            aws.region()?
        ));
        ensure!(std::io::stdin().is_terminal(), "there is no terminal to ask for confirmation: use --yes");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        ensure!(answer.trim() == args.stack, "not confirmed: nothing was deleted");
    }
    let with = With { users: args.delete_users, data: args.delete_data };
    let kept = deploy::destroy(&aws, &args.stack, with, &output.reporter).await?;
    if output.is_json() {
        let kept: Vec<_> = kept.iter().map(|kept| serde_json::json!({ "what": kept.kind.name(), "name": kept.name })).collect();
        output.json(&serde_json::json!({ "stack": args.stack, "kept": kept }))?;
    } else if kept.is_empty() {
        output.line(format!("`{}` is deleted, and nothing of it is kept.", args.stack));
    } else {
        output.line(format!("`{}` is deleted. Kept, until --delete-data:", args.stack));
        output.table(["what", "name"], kept.into_iter().map(|kept| [kept.kind.name().to_owned(), kept.name]));
    }
    Ok(ExitCode::Success)
}
