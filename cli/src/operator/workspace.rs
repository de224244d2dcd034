//! The checkout: templates, workers and the target folder belong to one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use client::error::Environment;
use client::wait::within;

/// A checkout of this project and the folder cargo builds it in.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the checkout around the current folder, or else the one this program was built from.
    ///
    /// # Errors
    /// When neither is there any more, or cargo cannot say where it builds.
    pub async fn find() -> Result<Self> {
        let current = std::env::current_dir().context("reading the current folder")?;
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let root = current
            .ancestors()
            .chain(built_from)
            .find(|folder| is_checkout(folder))
            .ok_or_else(|| {
                Environment::lacks(
                    "this is not a checkout of sluice (no infra/core.yaml beside a Cargo.toml): run the command inside one",
                )
            })?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => current.join(folder),
            None => target_of(&root).await?,
        };
        Ok(Self { root, target })
    }

    /// The same checkout with another target folder.
    #[must_use]
    pub fn with_target(self, target: PathBuf) -> Self {
        Self { target, ..self }
    }

    /// The folder with `infra/`, `workers/` and the rest.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder of this checkout.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Everything the local AWS keeps: its environment, log, state and outputs.
    #[must_use]
    pub fn local(&self) -> PathBuf {
        self.target.join("local")
    }

    /// The policies of the authorizer.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.root.join("workers/authorize/policies")
    }

    /// The folder of the workers' zips.
    #[must_use]
    pub fn lambda(&self) -> PathBuf {
        self.target.join("lambda")
    }
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("Cargo.toml").is_file() && folder.join("infra/core.yaml").is_file()
}

/// The cargo program: the one that runs us, if any.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

async fn target_of(root: &Path) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = within(Duration::from_secs(60), "cargo metadata", async {
        Command::new(cargo())
            .args(["metadata", "--format-version", "1", "--no-deps", "--quiet"])
            .current_dir(root)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Environment::lacks(format!("cargo could not be run ({error}): install Rust from https://rustup.rs")))
    })
    .await?;
    if !output.status.success() {
        // Without a toolchain rustup says so in its first line, and may print a backtrace behind it.
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        return Err(Environment::lacks(format!("cargo metadata failed: {reason}")));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading the answer of cargo metadata")?;
    Ok(metadata.target_directory)
}
