//! The command `sluice`: parse, run, exit code. Everything else is in the library, where tests reach it.

use clap::Parser;
use sluice::Cli;

fn main() -> Result<sluice::ExitCode, std::io::Error> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(sluice::run(cli));
    // Without waiting for a read that may never end: of a pipe, or of a disk that is gone.
    runtime.shutdown_background();
    Ok(code)
}
