//! `authorizer.py`, with its packages from their registry by a lock file with hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

pub(crate) struct Python {
    folder: PathBuf,
    python: PathBuf,
}

impl Python {
    /// Makes the environment in the target folder, once for each state of the lock file.
    pub(crate) fn install() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/decision");
        // <target>/<profile>/deps/<this>
        let executable = std::env::current_exe()?;
        let place = executable.ancestors().nth(3).context("a target folder")?.join("decision");
        let it = Self { python: place.join("venv/bin/python"), folder };
        let requirements = it.folder.join("requirements.txt");
        let wanted = std::fs::read(&requirements)?;
        // Written last: without it an installation counts as incomplete and is made again.
        let stamp = place.join("installed.txt");
        if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(it);
        }
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(place.join("venv")))?;
        let mut pip = Command::new(&it.python);
        run(pip
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"])
            .arg(requirements))?;
        std::fs::write(stamp, wanted)?;
        Ok(it)
    }

    /// Keys and tokens for the issuers and claims in the folder.
    pub(crate) fn prepare(&self, folder: &Path) -> Result<()> {
        run(self.program().arg("prepare").arg(folder)).map(drop)
    }

    /// The times of the cases in the folder, in microseconds.
    pub(crate) fn measure(&self, folder: &Path, calls: usize, warm: usize) -> Result<BTreeMap<String, Vec<f64>>> {
        let numbers = [calls, warm].map(|it| it.to_string());
        let output = run(self.program().arg("measure").arg(folder).args(numbers))?;
        serde_json::from_slice(&output).context("the times of Python")
    }

    fn program(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.folder.join("authorizer.py"));
        command
    }
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
