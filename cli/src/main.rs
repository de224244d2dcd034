//! The command `sluice`: parse, run, exit code. Everything else is in the library, where tests reach it.

fn main() -> Result<sluice::ExitCode, std::io::Error> {
    let cli = match sluice::parse() {
        Ok(cli) => cli,
        Err(code) => return Ok(code),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(sluice::run(cli));
    // Do not wait for a read that may never end: of a pipe, or of a disk that is gone.
    runtime.shutdown_background();
    Ok(code)
}
