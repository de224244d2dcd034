//! `sluice completions`

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::ExitCode;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that a shell reads: `sluice completions bash > ~/.local/share/bash-completion/completions/sluice`.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "sluice", &mut std::io::stdout());
    Ok(ExitCode::Success)
}
