//! The programs of `examples/read-catalog`, run as a user would run them: with an ID token and nothing else.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use sluice::operator::workspace::Workspace;
use sluice_tests::download::download;
use sluice_tests::{Caller, Harness, adt, unique};

/// Python with boto3, and Node with the AWS SDK, each from its registry by a lock file with hashes.
struct Tools {
    examples: PathBuf,
    bin: PathBuf,
    javascript: PathBuf,
}

impl Tools {
    async fn install() -> Result<Self> {
        let workspace = Workspace::find().await?;
        let (examples, place) = (workspace.root().join("examples/read-catalog"), workspace.target().join("snippets"));
        let tools = Self { bin: place.join("venv/bin"), javascript: place.join("javascript"), examples };
        let mut wanted = Sha256::new();
        for lock in ["requirements.txt", "package-lock.json"] {
            wanted.update(std::fs::read(tools.examples.join(lock))?);
        }
        let wanted = wanted.finalize().to_vec();
        // Written last, so that half an installation is none.
        let stamp = place.join("installed.sha256");
        if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(tools);
        }
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir_all(&tools.javascript)?;
        let mut venv = tokio::process::Command::new("python3");
        download("a virtual environment", venv.args(["-m", "venv"]).arg(place.join("venv"))).await?;
        let requirements = tools.examples.join("requirements.txt");
        let mut pip = tokio::process::Command::new(tools.bin.join("pip"));
        let install = pip.args(["install", "--quiet", "--require-hashes", "-r"]).arg(requirements);
        download("Python packages of examples/read-catalog", install).await?;
        for manifest in ["package.json", "package-lock.json"] {
            std::fs::copy(tools.examples.join(manifest), tools.javascript.join(manifest))?;
        }
        // npm is a script that calls `node`.
        let path = std::env::join_paths(std::iter::once(tools.bin.clone()).chain(std::env::split_paths(&path())))?;
        let mut npm = tokio::process::Command::new(tools.bin.join("npm"));
        let install = npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        download("npm packages of examples/read-catalog", install.current_dir(&tools.javascript).env("PATH", path)).await?;
        std::fs::write(stamp, wanted)?;
        Ok(tools)
    }

    /// The program of each language.
    fn programs(&self) -> Result<[(&'static str, Command); 3]> {
        let mut python = Command::new(self.bin.join("python"));
        python.arg(self.examples.join("read_catalog.py"));
        // Node looks for packages beside the program.
        let program = self.javascript.join("read_catalog.mjs");
        std::fs::copy(self.examples.join("read_catalog.mjs"), &program)?;
        let mut javascript = Command::new(self.bin.join("node"));
        javascript.arg(program);
        // `cargo test` has built it; built from here, the SDK would be compiled once more with other features.
        let folder = std::env::current_exe()?.parent().and_then(Path::parent).context("a target folder")?.join("examples");
        let program = folder.join("read_catalog");
        let source = self.examples.join("read_catalog.rs");
        let is_fresh = program.exists() && program.metadata()?.modified()? >= source.metadata()?.modified()?;
        ensure!(is_fresh, "`cargo test -p sluice-tests --examples` builds {}", program.display());
        let rust = Command::new(program);
        Ok([("Python", python), ("JavaScript", javascript), ("Rust", rust)])
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Runs a program for an institute, with the token on its standard input and without any AWS credentials.
fn run(command: &mut Command, it: &Harness, institute: &str, caller: &Caller) -> Result<Output> {
    let provider = it.outputs.stack_outputs.get("UserPoolProviderName").context("a provider")?;
    command
        .args([&it.outputs.identity_pool_id, provider, &it.outputs.table])
        .arg(institute)
        .env("AWS_ENDPOINT_URL", it.outputs.endpoint_url.as_deref().context("an endpoint")?)
        .env("AWS_REGION", &it.outputs.region)
        .env("AWS_DEFAULT_REGION", &it.outputs.region)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"] {
        command.env_remove(variable);
    }
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    program.stdin.take().context("a standard input")?.write_all(caller.token.expose_secret().as_bytes())?;
    Ok(program.wait_with_output()?)
}

#[tokio::test]
async fn each_language_reads_the_own_institutes_catalog_and_no_other() -> Result<()> {
    let (own, other) = (Harness::new()?, Harness::new()?);
    let admin = own.admin().await?;
    let mut stored = BTreeSet::new();
    for _ in 0..3 {
        stored.insert(own.store(&admin, &adt(&unique(), "DOE")).await?.0.to_string());
    }
    other.store(&other.admin().await?, &adt(&unique(), "ROE")).await?;
    let tools = Tools::install().await?;

    for (language, mut command) in tools.programs()? {
        let output = run(&mut command, &own, &own.institute, &admin)?;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        assert!(lines.iter().all(|line| line[2..] == ["ADT", "stored"]), "{language}: {text}");
        assert_eq!(lines.iter().map(|line| line[1].to_owned()).collect::<BTreeSet<_>>(), stored, "{language}");
        assert!(lines.is_sorted_by(|newer, older| newer[0] >= older[0]), "{language}: {text}");
    }
    for (language, mut command) in tools.programs()? {
        let output = run(&mut command, &own, &other.institute, &admin)?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{language} read another institute's catalog");
        assert!(error.contains("AccessDenied"), "{language}: {error}");
    }
    Ok(())
}
