//! The programs of `examples/read-catalog`, run as a user would run them: with an ID token and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use secrecy::ExposeSecret as _;
use sluice::operator::workspace::Workspace;
use sluice_tests::{Caller, Harness, Node, adt, python, unique};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The program of each language, with its packages from their registry by a lock file with hashes.
async fn programs() -> Result<[(&'static str, Command); 3]> {
    let example = Workspace::find().await?.root().join("examples/read-catalog");
    let mut python = Command::new(python("read-catalog", &example.join("requirements.txt")).await?);
    python.arg(example.join("read_catalog.py"));
    // Node looks for packages beside the program.
    let node = Node::install("read-catalog", &example).await?;
    std::fs::copy(example.join("read_catalog.mjs"), node.folder.join("read_catalog.mjs"))?;
    let mut javascript = node.command("node")?;
    javascript.arg("read_catalog.mjs");
    // `cargo test` has built it; built from here, the SDK would be compiled once more with other features.
    let folder = std::env::current_exe()?.parent().and_then(Path::parent).context("a target folder")?.join("examples");
    let program = folder.join("read_catalog");
    let source = example.join("read_catalog.rs");
    let is_fresh = program.exists() && program.metadata()?.modified()? >= source.metadata()?.modified()?;
    ensure!(is_fresh, "`cargo test -p sluice-tests --examples` builds {}", program.display());
    Ok([("Python", python), ("JavaScript", javascript), ("Rust", Command::new(program))])
}

/// Runs a program for an institute, with the token on its standard input and without any AWS credentials.
async fn run(command: &mut Command, it: &Harness, institute: &str, caller: &Caller) -> Result<Output> {
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
    program.stdin.take().context("a standard input")?.write_all(caller.token.expose_secret().as_bytes()).await?;
    Ok(program.wait_with_output().await?)
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

    for (language, mut command) in programs().await? {
        let output = run(&mut command, &own, &own.institute, &admin).await?;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        assert!(lines.iter().all(|line| line[2..] == ["ADT", "stored"]), "{language}: {text}");
        assert_eq!(lines.iter().map(|line| line[1].to_owned()).collect::<BTreeSet<_>>(), stored, "{language}");
        assert!(lines.is_sorted_by(|newer, older| newer[0] >= older[0]), "{language}: {text}");
    }
    for (language, mut command) in programs().await? {
        let output = run(&mut command, &own, &other.institute, &admin).await?;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{language} read another institute's catalog");
        assert!(error.contains("AccessDenied"), "{language}: {error}");
    }
    Ok(())
}
