//! Python programs of the tests, with packages from their registry by lock files with hashes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use sluice::operator::workspace::Workspace;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::download::download;

/// Two tests may want the same packages at once.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// The Python of a virtual environment under the target folder that has what a requirements file names; made once.
///
/// # Errors
/// When Python or the registry is not there, or a hash differs.
pub async fn python(name: &str, requirements: &Path) -> Result<PathBuf> {
    let _alone = INSTALLING.lock().await;
    let place = Workspace::find().await?.target().join("python").join(name);
    let python = place.join("bin/python");
    let wanted = Sha256::digest(std::fs::read(requirements)?).to_vec();
    // Written last, so that half an installation is none.
    let stamp = place.join("installed.sha256");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    let what = format!("Python packages of {}", requirements.display());
    download(&what, Command::new("python3").args(["-m", "venv"]).arg(&place)).await?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
    download(&what, Command::new(&python).args(arguments).arg(requirements)).await?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// How long a program may take. An installation from a registry that does not answer would else hang silently.
const TIME_LIMIT: Duration = Duration::from_secs(900);

/// Runs a program to its end, and gives what it wrote to its standard output.
///
/// # Errors
/// When it cannot be started, fails, or takes longer than fifteen minutes; with what it wrote.
pub async fn done(command: &mut Command) -> Result<String> {
    // Without the environment, in which a token may stand.
    let called = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
    let called = called.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(TIME_LIMIT, running).await.with_context(|| format!("fifteen minutes were not enough for {called}"))?;
    let output = output.with_context(|| called.clone())?;
    let [text, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    ensure!(output.status.success(), "{called}: {errors}{text}");
    Ok(text.into_owned())
}
