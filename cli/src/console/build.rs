//! Builds the page: Node from PyPI, packages from npm, each by a lock file with hashes, all below `target/console`. The validation by the
//! standard is `crates/validator`, compiled by cargo for WebAssembly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::local::lock::Lock;
use crate::local::venv;
use crate::operator::package::is_installed;
use crate::operator::workspace::{Workspace, cargo};
use crate::output::Reporter;

/// Time for some 60 MB on a slow line.
const INSTALL_DEADLINE: Duration = Duration::from_secs(10 * 60);
/// The build takes two seconds on an idle machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// The files that decide which packages are installed.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];
/// The other sources of the page: files, and folders with everything in them.
const SOURCES: [&str; 5] = ["index.html", "tsconfig.json", "vite.config.ts", "public", "src"];

/// What the validation by the standard is built from.
const VALIDATOR_SOURCES: [&str; 6] =
    ["Cargo.lock", "rust-toolchain.toml", "crates/domain/src", "crates/hl7/dictionary", "crates/hl7/src", "crates/validator"];
const VALIDATOR_TARGET: &str = "wasm32-unknown-unknown";
/// The cargo profile of the validation: small.
const VALIDATOR_PROFILE: &str = "wasm";
/// Time for `rustup` to fetch some 20 MB.
const TARGET_DEADLINE: Duration = Duration::from_secs(3 * 60);
/// The build takes a minute on an idle machine.
const VALIDATOR_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// The built page, and the programs that built it.
#[derive(Debug, Clone)]
pub struct Page {
    folder: PathBuf,
    bin: PathBuf,
}

impl Page {
    /// The folder with `package.json`, the sources and `node_modules`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with the files of the page.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.join("dist")
    }

    /// The validation by the standard. A page that was built without the target for WebAssembly does not have it.
    #[must_use]
    pub fn validator(&self) -> Option<PathBuf> {
        Some(self.files().join("validator.wasm")).filter(|it| it.is_file())
    }

    /// `node` or `npm`, to be run in [`Page::folder`].
    ///
    /// # Errors
    /// When `PATH` cannot be extended.
    pub fn program(&self, name: &str) -> Result<Command> {
        // npm is a script that calls `node`.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(self.bin.clone()).chain(std::env::split_paths(&path)))?;
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(&self.folder).env("PATH", path);
        Ok(command)
    }
}

/// Builds the page of a checkout; what has not changed is not built again.
///
/// # Errors
/// When this machine has no Python, a registry does not answer in time, a hash differs, or the page does not build.
pub async fn build(workspace: &Workspace, reporter: &Reporter) -> Result<Page> {
    let (source, place) = (workspace.root().join("console"), workspace.target().join("console"));
    std::fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
    let _lock = Lock::acquire(&place, reporter).await?;
    let requirements = source.join("node-requirements.txt");
    let python = venv::environment(&place.join("node"), &requirements, "installing Node for the console", reporter).await?;
    let bin = python.parent().context("a folder of programs")?.to_owned();
    let page = Page { folder: place.join("page"), bin };

    let (installed_stamp, built_stamp) = (page.folder.join("installed.sha256"), page.folder.join("built.sha256"));
    let installed = hash(&source, &MANIFESTS)?;
    if !is(&installed_stamp, &installed) {
        let step = reporter.step("installing the console's packages from npm");
        if page.folder.exists() {
            std::fs::remove_dir_all(&page.folder).with_context(|| format!("removing {}", page.folder.display()))?;
        }
        copy(&source, &page.folder, &MANIFESTS)?;
        let mut npm = page.program("npm")?;
        // No script of a package runs.
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        venv::run(&mut npm, INSTALL_DEADLINE).await.context("installing console/package-lock.json")?;
        std::fs::write(&installed_stamp, &installed)?;
        step.done("");
    }
    // A machine without Rust has no target either.
    let has_target = is_installed(VALIDATOR_TARGET).await.unwrap_or(false);
    let built = format!("{installed}{}{}", hash(&source, &SOURCES)?, hash(workspace.root(), &VALIDATOR_SOURCES)?);
    // The target may have been installed since a build without it.
    if !is(&built_stamp, &built) || (page.validator().is_none() && has_target) {
        let step = reporter.step("building the console");
        for name in SOURCES {
            let old = page.folder.join(name);
            if old.is_dir() {
                std::fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
            }
        }
        copy(&source, &page.folder, &SOURCES)?;
        let mut npm = page.program("npm")?;
        venv::run(npm.args(["run", "build"]), BUILD_DEADLINE).await.context("building the console")?;
        step.done("");
        if let Some(validator) = validator(workspace, has_target, reporter).await? {
            std::fs::copy(&validator, page.files().join("validator.wasm"))
                .with_context(|| format!("copying {}", validator.display()))?;
        }
        std::fs::write(&built_stamp, &built)?;
    }
    Ok(page)
}

/// Builds the validation by the standard. `None` if this machine cannot get the target for WebAssembly: the page then looks for obvious
/// problems only, and says so.
async fn validator(workspace: &Workspace, has_target: bool, reporter: &Reporter) -> Result<Option<PathBuf>> {
    let installing = async {
        let mut rustup = Command::new("rustup");
        venv::run(rustup.current_dir(workspace.root()).args(["target", "add", VALIDATOR_TARGET]), TARGET_DEADLINE).await
    };
    if !has_target && let Err(error) = installing.await {
        reporter.say(format!(
            "The page has no validation of files by the standard, only simple checks: the Rust target {VALIDATOR_TARGET} is not \
             installed, and `rustup target add {VALIDATOR_TARGET}` failed ({error:#})."
        ));
        return Ok(None);
    }
    let step = reporter.step("building the validation for the console");
    let mut cargo = Command::new(cargo());
    cargo
        .current_dir(workspace.root())
        .args(["build", "--quiet", "--package", "sluice-validator", "--lib"])
        .args(["--profile", VALIDATOR_PROFILE, "--target", VALIDATOR_TARGET, "--target-dir"])
        .arg(workspace.target());
    venv::run(&mut cargo, VALIDATOR_DEADLINE).await.context("building crates/validator")?;
    step.done("");
    Ok(Some(workspace.target().join(VALIDATOR_TARGET).join(VALIDATOR_PROFILE).join("sluice_validator.wasm")))
}

/// Whether the stamp file has this content. It is written last, so unfinished work counts as not done.
fn is(stamp: &Path, wanted: &str) -> bool {
    std::fs::read_to_string(stamp).is_ok_and(|it| it == wanted)
}

/// The files below these names in a folder, as sorted paths relative to the folder.
fn files(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    while let Some(name) = waiting.pop() {
        let path = folder.join(&name);
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))?;
            for entry in entries {
                waiting.push(name.join(entry?.file_name()));
            }
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn hash(folder: &Path, names: &[&str]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files(folder, names)? {
        let path = folder.join(&file);
        let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        for part in [file.as_os_str().as_encoded_bytes(), &content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Ok(const_hex::encode(hash.finalize()))
}

fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    for file in files(from, names)? {
        let target = to.join(&file);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        std::fs::copy(from.join(&file), &target).with_context(|| format!("writing {}", target.display()))?;
    }
    Ok(())
}
