//! The command `sluice`: parse, run, exit code. Everything else is in the library, where tests reach it.

use clap::Parser;
use sluice::Cli;

#[tokio::main]
async fn main() -> sluice::ExitCode {
    sluice::run(Cli::parse()).await
}
