//! What users and operators type, as a library: the command line, signing in and sending, the local AWS, packaging and
//! deployment.
//!
//! The binary is a thin wrapper, so that tests and benchmarks can call what a shell calls. The way in for them is
//! [`local::up`], which brings the local system up (or finds it up) and says where everything is; [`http::Api`] and
//! [`sign_in::sign_in`] are how they talk to it.

pub mod aws;
pub mod client;
mod command;
pub mod demo;
pub mod deploy;
mod enrollment;
pub mod error;
mod gateway;
pub mod http;
pub mod local;
mod messages;
pub mod output;
pub mod outputs;
pub mod package;
mod policies;
mod private_file;
pub mod read;
pub mod redrive;
pub mod send;
pub mod session;
pub mod sign_in;
pub mod users;
mod wait;
pub mod workspace;

use clap::{Parser, Subcommand};

pub use error::ExitCode;
pub use outputs::Outputs;

/// The gate of a healthcare data lake: HL7v2 messages in, each stored once, under the sign-in of the user who sent it.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    after_help = "Exit codes: 0 as asked; 1 it ran, and the outcome is not the expected one; 2 the command line is \
                  wrong; 3 this machine or account lacks something (Python, a compiler target, AWS credentials)."
)]
pub struct Cli {
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in on this machine, by SRP: the password is not sent.
    Login(command::login::Args),
    /// Sign out: revoke the tokens and forget them.
    Logout(command::logout::Args),
    /// Say who is signed in, and what the token allows.
    Whoami(command::whoami::Args),
    /// Print the signed-in user's own AWS credentials, as a `credential_process` of the AWS CLI and the SDKs.
    Credentials(command::credentials::Args),
    /// Send the messages of files; the same command goes on where it was broken off.
    Send(command::send::Args),
    /// Take messages over MLLP beside a hospital's engine, keep them on disk and submit them, until told to stop.
    Mllp(command::mllp::Args),
    /// Say how far messages are.
    Status(command::status::Args),
    /// Fetch a message of one's own institute.
    Get(command::get::Args),
    /// List the messages of an institute, newest first.
    List(command::list::Args),
    /// Read HL7v2 messages on this machine: as JSON and back, checked, answered. Nothing of AWS is needed.
    Hl7(command::hl7::Args),
    /// Send real messages through the local system as four users, look at them as the lake's staff, and show what became of each.
    Demo(command::demo::Args),
    /// Run the whole system on this machine, in the background.
    Local(command::local::Args),
    /// Build the workers and deploy everything to AWS.
    Deploy(command::deploy::Args),
    /// Delete a deployment; the data stays unless told otherwise.
    Destroy(command::destroy::Args),
    /// Say who may do what: the accounts of the user pool.
    Users(command::users::Args),
    /// Say whose e-mail domain is whose: what a user who signs up may do.
    Domains(command::domains::Args),
    /// Ask the policies whether a token may do something, and why.
    Authorize(command::authorize::Args),
    /// Check a folder of policies, pack it for an API of one's own, or make a policy store of it.
    Policies(command::policies::Args),
    /// Bring the messages of the dead-letter queue back into the pipeline.
    Redrive(command::redrive::Args),
}

/// Runs one command and says how the process should end. Errors are printed here, once.
pub async fn run(cli: Cli) -> ExitCode {
    let output = output::Output::new(cli.json);
    let result = match cli.command {
        Command::Login(args) => command::login::run(args, &output).await,
        Command::Logout(args) => command::logout::run(args, &output).await,
        Command::Whoami(args) => command::whoami::run(args, &output).await,
        Command::Credentials(args) => command::credentials::run(args, &output).await,
        Command::Send(args) => command::send::run(args, &output).await,
        Command::Mllp(args) => command::mllp::run(args, &output).await,
        Command::Status(args) => command::status::run(args, &output).await,
        Command::Get(args) => command::get::run(args, &output).await,
        Command::List(args) => command::list::run(args, &output).await,
        Command::Hl7(args) => command::hl7::run(args, &output),
        Command::Demo(args) => command::demo::run(args, &output).await,
        Command::Local(args) => command::local::run(args, &output).await,
        Command::Deploy(args) => command::deploy::run(args, &output).await,
        Command::Destroy(args) => command::destroy::run(args, &output).await,
        Command::Users(args) => command::users::run(args, &output).await,
        Command::Domains(args) => command::domains::run(args, &output).await,
        Command::Authorize(args) => command::authorize::run(args, &output).await,
        Command::Policies(args) => command::policies::run(args, &output).await,
        Command::Redrive(args) => command::redrive::run(args, &output).await,
    };
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
