//! `sluice mllp`: the gateway, and the commands that help to run it.

mod config;
mod send;
mod serve;
mod status;

pub(super) use serve::spool_folder;

use anyhow::Result;

use crate::error::ExitCode;
use crate::output::Output;

/// Runs the gateway; with a command, looks into its spool or tries a feed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[group(skip)] // its name would be `Args`, which is that of the group in `serve`
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Box<serve::Args>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print how many messages wait in the spool, and since when, for each feed.
    Status(status::Args),
    /// List the messages that wait in the spool, and those that the API refused; never their content.
    List(status::Args),
    /// Send messages over MLLP and print the acknowledgments, to try a feed.
    Send(send::Args),
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    match args.command {
        None => serve::run(*args.serve, output).await,
        Some(Command::Status(args)) => status::status(&args, output),
        Some(Command::List(args)) => status::list(&args, output),
        Some(Command::Send(args)) => send::run(args, output).await,
    }
}
