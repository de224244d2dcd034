//! `sluice completions`

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::ExitCode;
use crate::output::Output;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script that a shell reads: `sluice completions bash > ~/.local/share/bash-completion/completions/sluice`.
pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode> {
    // It panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "sluice", &mut script);
    output.bytes(&script);
    Ok(ExitCode::Success)
}
