//! The Python environment of the local AWS, made once for each state of its requirements.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::operator::workspace::Workspace;
use crate::output::Reporter;
use client::error::Environment;
use client::wait::within;

/// A download of some 20 MB, on a slow line.
const INSTALL_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The names a usable Python may have, the one people call first.
const PYTHONS: [&str; 5] = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];

const NO_PYTHON: &str = "this needs Python 3.11 or newer with its `venv` module, and this machine has none: \
                         install it (on Debian or Ubuntu `apt install python3 python3-venv`, on a Mac \
                         `brew install python`)";

/// Changes when MiniStack or our extension of it does.
pub(super) fn version(workspace: &Workspace) -> Result<String> {
    version_of(&workspace.root().join("cli/local"))
}

/// The hash of the requirements and of the modules of the extension, without its tests.
fn version_of(folder: &Path) -> Result<String> {
    let extension = folder.join("extension");
    let mut files = vec![folder.join("requirements.txt")];
    let entries = std::fs::read_dir(&extension).with_context(|| format!("reading {}", extension.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".py") && !name.starts_with("test_") && name != "conftest.py" {
            files.push(extension.join(name));
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, &content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Ok(const_hex::encode(hash.finalize()))
}

/// The Python of the local AWS's environment, with everything installed.
pub(super) async fn prepare(workspace: &Workspace, reporter: &Reporter) -> Result<PathBuf> {
    let requirements = workspace.root().join("cli/local/requirements.txt");
    environment(&workspace.local().join("venv"), &requirements, "installing the local AWS", reporter).await
}

/// The Python of a virtual environment with what a hash-locked requirements file names; made once for each state of that file.
///
/// # Errors
/// When this machine has no Python, or the registry does not answer in time, or a hash differs.
pub(crate) async fn environment(venv: &Path, requirements: &Path, what: &'static str, reporter: &Reporter) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    let wanted = std::fs::read(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let wanted = const_hex::encode(Sha256::digest(&wanted));
    // Written last: without it an environment counts as incomplete and is made again. An environment stops working when the
    // Python that made it is removed.
    let stamp = venv.join("installed.sha256");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && is_recent(&python).await {
        return Ok(python);
    }

    let step = reporter.step(what);
    if venv.exists() {
        std::fs::remove_dir_all(venv).with_context(|| format!("removing {}", venv.display()))?;
    }
    let mut base = None;
    for name in PYTHONS {
        if is_recent(Path::new(name)).await {
            base = Some(name);
            break;
        }
    }
    let base = base.ok_or_else(|| Environment::lacks(NO_PYTHON))?;
    step.at(format!("{base} -m venv"));
    let made = run(Command::new(base).args(["-m", "venv"]).arg(venv), Duration::from_secs(180)).await;
    if let Err(error) = made {
        return Err(Environment::lacks(format!("{NO_PYTHON} ({error:#})")));
    }
    step.at("downloading");
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes"])
            .arg("--requirement")
            .arg(requirements),
        INSTALL_DEADLINE,
    )
    .await
    .with_context(|| format!("installing {}", requirements.display()))?;
    std::fs::write(&stamp, &wanted).with_context(|| format!("writing {}", stamp.display()))?;
    step.done("");
    Ok(python)
}

/// Whether this is a Python that can be used. A shim may be there and lead nowhere.
async fn is_recent(python: &Path) -> bool {
    let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    run(Command::new(python).args(["-c", check]), Duration::from_secs(20)).await.is_ok()
}

/// Runs a program to its end. An error has the last lines of what it wrote.
pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = within(limit, &program, async {
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.with_context(|| format!("running {program}"))
    })
    .await?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = if text.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { text };
    let last: Vec<_> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
    bail!("{program} failed: {}", last.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" / "))
}
