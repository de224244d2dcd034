//! What users and operators type, as a library. Five rooms: `command` has the arguments and what is printed, `user` what
//! serves a user of an institute, [`operator`] packaging, deployment and accounts, [`local`] the local AWS,
//! [`console`] the page for a browser.
//!
//! The binary is a thin wrapper, so that tests and benchmarks can call what a shell calls. The way in for them is
//! [`local::up`], which brings the local system up (or finds it up) and says where everything is; the crate `client` is how
//! they talk to it.

mod command;
mod config;
pub mod console;
mod data_file;
pub mod error;
pub mod local;
pub mod operator;
pub mod output;
mod user;

use clap::builder::BoolishValueParser;
use clap::{FromArgMatches as _, Parser, Subcommand};
use output::Output;

pub use client::Outputs;
pub use error::ExitCode;

/// Ingests HL7v2 messages into a healthcare data lake: each message is stored once, with the credentials of the user who sent
/// it.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    after_help = "Exit codes: 0 success; 1 failure, nothing found, or an outcome that was not expected; 2 usage error, or an error in \
                  the settings; 3 this machine or account lacks something (Python, a compiler target, AWS credentials)."
)]
pub struct Cli {
    /// Print JSON for programs instead of tables for people; errors too.
    #[arg(long, global = true, env = "SLUICE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Print only the answer and errors.
    #[arg(long, short, global = true, env = "SLUICE_QUIET", value_parser = BoolishValueParser::new())]
    quiet: bool,
    /// Print each request to the API on stderr, with its answer and duration.
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in on this machine, by SRP: the password never leaves it.
    Login(command::login::Args),
    /// Sign out: revoke the tokens and delete the session.
    Logout(command::logout::Args),
    /// Show who is signed in, and what the token allows.
    Whoami(command::whoami::Args),
    /// Print the signed-in user's own AWS credentials, as a `credential_process` of the AWS CLI and the SDKs.
    Credentials(command::credentials::Args),
    /// Send the messages in files; rerun the same command to resume an interrupted send.
    Send(command::send::Args),
    /// Run an MLLP gateway next to a hospital's interface engine: receive messages, spool them to disk and submit them.
    Mllp(command::mllp::Args),
    /// Show the processing status of messages.
    Status(command::status::Args),
    /// Fetch a message from your institute.
    Get(command::get::Args),
    /// Show a message as a tree with HL7's names, and extract the documents in it.
    Show(command::show::Args),
    /// List the messages of an institute.
    List(command::list::Args),
    /// Check the connection from this machine to the lake: clock, host name, certificate, sign-in, rights, disk, backlog.
    Doctor(command::doctor::Args),
    /// Find messages by control id, status, sender, time or the beginning of the id.
    Find(command::find::Args),
    /// Export messages as tables, to Parquet, CSV, NDJSON or ER7.
    Export(command::export::Args),
    /// Print the SQL statements for engines to read exported tables.
    Sql(command::sql::Args),
    /// Work with HL7v2 messages locally: convert to and from JSON, validate, acknowledge, split. Needs no AWS.
    Hl7(command::hl7::Args),
    /// Send real messages through the local system as four users, look at them as the lake's staff, and show the outcome of each.
    Demo(command::demo::Args),
    /// Show the lake in a browser: build the page once and serve it to this machine only.
    Console(command::console::Args),
    /// Run the whole system on this machine, in the background.
    Local(command::local::Args),
    /// Build the workers and deploy everything to AWS.
    Deploy(command::deploy::Args),
    /// Delete a deployment; the data stays unless you pass --delete-data.
    Destroy(command::destroy::Args),
    /// Write down what AWS keeps no copy of: users, sign-up rules, settings.
    Backup(command::backup::BackupArgs),
    /// Restore users and sign-up rules from a backup: shows the changes, asks for confirmation and applies them.
    Restore(command::backup::RestoreArgs),
    /// Manage user accounts and their rights.
    Users(command::users::Args),
    /// Manage sign-up rules: which institute and rights an e-mail domain gets.
    Domains(command::domains::Args),
    /// Ask the policies whether a token may do something, and why.
    Authorize(command::authorize::Args),
    /// Check a policy folder, package an authorizer with it, or generate a policy-store template.
    Policies(command::policies::Args),
    /// Release held messages of your institute; they are then stored under your own rights.
    Release(command::release::Args),
    /// Check that every accepted message has an outcome, every outcome its objects and event, and every object a record.
    Audit(command::audit::Args),
    /// Show who read, listed, submitted, released or changed what, when and from where.
    Accounting(command::accounting::Args),
    /// Move messages from the dead-letter queue back to the queue.
    Redrive(command::redrive::Args),
    /// Decide that a held message will not be stored, with a reason.
    Discard(command::discard::Args),
    /// Add messages that an earlier version stored to the search indexes.
    Reindex(command::reindex::Args),
    /// Bring the tables of the stack NAME-tables up to date.
    Tables(command::tables::Args),
    /// Show a message's whole path: record, each step with its tries and times, executions, events.
    Trace(command::trace::Args),
    /// Show the current activity: intake, stored, lag, held by reason, outcomes by institute.
    Top(command::top::Args),
    /// Compute what a month costs, from list prices and measured requests.
    Cost(command::cost::Args),
    /// Simulate a rate of messages: how long they take, and which quota is reached first.
    Simulate(command::simulate::Args),
    /// Show events as they happen.
    Events(command::events::Args),
    /// Print the completion script of a shell.
    Completions(command::completions::Args),
    /// Write the manual pages.
    Man(command::man::Args),
}

/// Reads the command line, the environment and the settings of `$XDG_CONFIG_HOME/sluice/config.toml`. Prints mistakes in them,
/// and the answer to `--help`, by itself.
///
/// # Errors
/// The exit code, if the process should end without running a command.
pub fn parse() -> Result<Cli, ExitCode> {
    let in_json = std::env::args_os().any(|argument| argument == "--json");
    let command = config::command().map_err(|error| {
        Output::new(in_json).error(&error);
        ExitCode::of(&error)
    })?;
    let parsed = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.exit_code() == 0 {
            let _ = error.print();
            return ExitCode::Success;
        }
        if in_json {
            Output::new(true).error(&error::Misused::because(error.to_string().trim_end()));
        } else {
            let _ = error.print();
        }
        ExitCode::Usage
    })
}

/// Runs one command and says how the process should end. Errors are printed here, once.
pub async fn run(cli: Cli) -> ExitCode {
    let output = Output::new(cli.json);
    // `-q` and `-v` together are an error; a setting of `quiet` gives way.
    let output = if cli.quiet && !cli.verbose { output.quiet() } else { output };
    if cli.verbose {
        client::http::tell_requests(|line| output::Reporter::for_stderr().say(line));
    }
    let result = match cli.command {
        Command::Login(args) => command::login::run(args, &output).await,
        Command::Logout(args) => command::logout::run(args, &output).await,
        Command::Whoami(args) => command::whoami::run(args, &output).await,
        Command::Credentials(args) => command::credentials::run(args, &output).await,
        Command::Send(args) => command::send::run(args, &output).await,
        Command::Mllp(args) => command::mllp::run(args, &output).await,
        Command::Status(args) => command::status::run(args, &output).await,
        Command::Get(args) => command::get::run(args, &output).await,
        Command::Show(args) => command::show::run(args, &output).await,
        Command::List(args) => command::list::run(args, &output).await,
        Command::Doctor(args) => command::doctor::run(args, &output).await,
        Command::Find(args) => command::find::run(args, &output).await,
        Command::Export(args) => command::export::run(args, &output).await,
        Command::Sql(args) => command::sql::run(args, &output),
        Command::Hl7(args) => command::hl7::run(args, &output),
        Command::Demo(args) => command::demo::run(args, &output).await,
        Command::Console(args) => command::console::run(args, &output).await,
        Command::Local(args) => command::local::run(args, &output).await,
        Command::Deploy(args) => command::deploy::run(args, &output).await,
        Command::Destroy(args) => command::destroy::run(args, &output).await,
        Command::Backup(args) => command::backup::backup(args, &output).await,
        Command::Restore(args) => command::backup::restore(args, &output).await,
        Command::Users(args) => command::users::run(args, &output).await,
        Command::Domains(args) => command::domains::run(args, &output).await,
        Command::Authorize(args) => command::authorize::run(args, &output).await,
        Command::Policies(args) => command::policies::run(args, &output).await,
        Command::Release(args) => command::release::run(args, &output).await,
        Command::Accounting(args) => command::accounting::run(args, &output).await,
        Command::Audit(args) => command::audit::run(args, &output).await,
        Command::Redrive(args) => command::redrive::run(args, &output).await,
        Command::Discard(args) => command::discard::run(args, &output).await,
        Command::Reindex(args) => command::reindex::run(args, &output).await,
        Command::Tables(args) => command::tables::run(args, &output).await,
        Command::Trace(args) => command::trace::run(args, &output).await,
        Command::Top(args) => command::top::run(args, &output).await,
        Command::Cost(args) => command::cost::run(&args, &output),
        Command::Simulate(args) => command::simulate::run(&args, &output),
        Command::Events(args) => command::events::run(args, &output).await,
        Command::Completions(args) => command::completions::run(&args, &output),
        Command::Man(args) => command::man::run(&args, &output),
    };
    let result = result.and_then(|code| output.finish().map(|()| code));
    result.unwrap_or_else(|error| {
        output.error(&error);
        ExitCode::of(&error)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn verify_cli() {
        super::Cli::command().debug_assert();
    }
}
