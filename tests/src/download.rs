//! Programs that download: each has a time limit, and says what is waited for.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::Instant;

/// How long a download may take. A registry that does not answer would hold a run of the tests up for as long as it likes.
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// How often it is said that somebody still waits.
const WORD_EVERY: Duration = Duration::from_secs(20);

/// Runs a command that downloads `what`.
///
/// # Errors
/// When it fails, or has not ended after five minutes. It is stopped then, with every process that it started.
pub async fn download(what: &str, command: &mut Command) -> Result<()> {
    within(DEADLINE, what, command).await
}

async fn within(limit: Duration, what: &str, command: &mut Command) -> Result<()> {
    let began = Instant::now();
    say(what, "downloading");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("{what}: {command:?}"))?;
    let group = child.id().context("a process id")?;
    let mut output = std::pin::pin!(child.wait_with_output());
    loop {
        let next = WORD_EVERY.min(limit.saturating_sub(began.elapsed()));
        if let Ok(output) = tokio::time::timeout(next, &mut output).await {
            let output = output?;
            ensure!(output.status.success(), "{what}: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
            return Ok(());
        }
        if began.elapsed() >= limit {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
            bail!("{what}: the download was not done after {limit:?} and was stopped: {command:?}");
        }
        say(what, &format!("still downloading after {} s of at most {} s", began.elapsed().as_secs(), limit.as_secs()));
    }
}

/// Past the harness, which shows what a test writes only when the test is over.
fn say(what: &str, how: &str) {
    let _ = writeln!(std::io::stderr(), "{what}: {how}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_download_that_hangs_is_stopped_with_all_that_it_started_and_says_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let hanging = tokio::spawn(async move { within(Duration::from_secs(3), "packages of nobody", &mut command).await });
        let error = hanging.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("packages of nobody") && error.contains("3s"), "{error}");
        // The process that it started is gone, or is collected in a moment.
        let pid = std::fs::read_to_string(pid).unwrap().trim().to_owned();
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        tokio::time::timeout(Duration::from_secs(20), async {
            while is_alive() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it goes on");
    }

    #[tokio::test]
    async fn a_download_that_fails_says_why() {
        let mut command = Command::new("sh");
        let error = download("packages of nobody", command.args(["-c", "echo no such package >&2; exit 1"])).await.unwrap_err();
        assert!(error.to_string().contains("packages of nobody") && error.to_string().contains("no such package"), "{error}");
        assert!(download("nothing", &mut Command::new("true")).await.is_ok());
    }
}
