//! `hl7apy_json.py`, with its package from its registry by a lock file with hashes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

pub(crate) struct Python {
    folder: PathBuf,
    python: PathBuf,
}

/// How hl7apy looks at a message.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// Its default, and the sample's.
    Tolerant,
    Strict,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tolerant => "tolerant",
            Self::Strict => "strict",
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Measured {
    pub(crate) read: usize,
    pub(crate) written: usize,
    pub(crate) seconds: f64,
}

impl Python {
    /// Makes the environment in the target folder, once for each state of the lock file.
    pub(crate) fn install() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rendition");
        // <target>/<profile>/deps/<this>
        let executable = std::env::current_exe()?;
        let place = executable.ancestors().nth(3).context("a target folder")?.join("rendition");
        let it = Self { python: place.join("venv/bin/python"), folder };
        let requirements = it.folder.join("requirements.txt");
        let wanted = std::fs::read(&requirements)?;
        // Written last, so that half an installation is none.
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

    /// Goes once through the messages of a folder, or as far as the time allows.
    pub(crate) fn measure(&self, folder: &Path, seconds: u64, level: Level) -> Result<Measured> {
        let mut command = Command::new(&self.python);
        command.arg(self.folder.join("hl7apy_json.py")).arg(folder).args([&seconds.to_string(), level.as_str()]);
        serde_json::from_slice(&run(&mut command)?).context("the times of Python")
    }
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
