//! JavaScript programs of the tests: Node from PyPI, packages from npm, each by a lock file with hashes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use sluice::operator::workspace::Workspace;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::download::download;
use crate::python::python;

/// Two tests may want the same packages at once.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// A folder under the target folder with the packages of a `package-lock.json`, and Node.
#[derive(Debug, Clone)]
pub struct Node {
    bin: PathBuf,
    /// Where `node_modules` is. A program that imports packages is copied to it.
    pub folder: PathBuf,
}

impl Node {
    /// Installs what a folder's `package-lock.json` names; once.
    ///
    /// # Errors
    /// When Python or a registry is not there or does not answer in time, or a hash differs.
    pub async fn install(name: &str, source: &Path) -> Result<Self> {
        let _alone = INSTALLING.lock().await;
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../console/node-requirements.txt");
        let bin = python("node", &requirements).await?.parent().context("a folder of programs")?.to_owned();
        let folder = Workspace::find().await?.target().join("node").join(name);
        let node = Self { bin, folder };
        let manifests = ["package.json", "package-lock.json"];
        let mut wanted = Sha256::new();
        for manifest in manifests {
            wanted.update(std::fs::read(source.join(manifest))?);
        }
        let wanted = wanted.finalize().to_vec();
        // Written last, so that half an installation is none.
        let stamp = node.folder.join("installed.sha256");
        if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(node);
        }
        if node.folder.exists() {
            std::fs::remove_dir_all(&node.folder)?;
        }
        std::fs::create_dir_all(&node.folder)?;
        for manifest in manifests {
            std::fs::copy(source.join(manifest), node.folder.join(manifest))?;
        }
        let mut npm = node.command("npm")?;
        download(name, npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])).await?;
        std::fs::write(stamp, wanted)?;
        Ok(node)
    }

    /// `node` or `npm`, in [`Node::folder`].
    ///
    /// # Errors
    /// When `PATH` cannot be extended.
    pub fn command(&self, program: &str) -> Result<Command> {
        // npm is a script that calls `node`.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(self.bin.clone()).chain(std::env::split_paths(&path)))?;
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.folder).env("PATH", path);
        Ok(command)
    }

    /// A program of an installed package, by its file under `node_modules`.
    ///
    /// # Errors
    /// When `PATH` cannot be extended.
    pub fn package(&self, file: &str) -> Result<Command> {
        let mut command = self.command("node")?;
        command.arg(self.folder.join("node_modules").join(file));
        Ok(command)
    }
}
