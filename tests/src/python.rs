//! Python programs of the tests, with packages from their registry by lock files with hashes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use sluice::workspace::Workspace;
use tokio::process::Command;
use tokio::sync::Mutex;

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
    done(Command::new("python3").args(["-m", "venv"]).arg(&place)).await?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
    done(Command::new(&python).args(arguments).arg(requirements)).await?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

async fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(std::process::Stdio::null()).output().await.with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
