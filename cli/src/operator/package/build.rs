//! Cargo builds the workers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::purpose::{Architecture, Profile};
use super::worker::Worker;
use crate::operator::workspace::{Workspace, cargo};
use crate::output::Step;
use client::error::Environment;
use client::wait::within;

/// Whether the libraries of a target are installed.
///
/// # Errors
/// When rustc is not there or gives no answer.
pub(crate) async fn is_installed(target: &str) -> Result<bool> {
    let output = within(Duration::from_secs(30), "rustc --print target-libdir", async {
        Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .kill_on_drop(true)
            .output()
            .await
            .context("running rustc")
    })
    .await?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.status.success() && libraries.is_dir())
}

/// Checks that the target for another processor is installed.
pub(super) async fn check_installed(target: &str) -> Result<()> {
    if is_installed(target).await? {
        return Ok(());
    }
    Err(Environment::lacks(format!(
        "the Rust target `{target}` is not installed: run `rustup target add {target}` and install a linker for it \
         (on Debian `apt install gcc-aarch64-linux-gnu` for arm64)"
    )))
}

/// Runs cargo and gives the path of each worker's binary.
pub(super) async fn build(
    workspace: &Workspace,
    profile: Profile,
    target: Option<&str>,
    workers: &[Worker],
    step: &Step,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = Command::new(cargo());
    command
        .current_dir(workspace.root())
        .args(["build", "--message-format=json-render-diagnostics", "--bins"])
        .arg("--target-dir")
        .arg(workspace.target())
        .args(workers.iter().flat_map(|worker| ["--package", worker.name.as_str()]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    match profile {
        Profile::Release => command.arg("--release"),
        // With the features that the tests build them with: see crates/workspace-hack.
        Profile::Dev => command.args(["--package", "workspace-hack", "--features", "workspace-hack/tests"]),
    };
    if let Some(target) = target {
        command.args(["--target", target]);
        // Use Debian's cross linker where it is installed and the user names no other one.
        let (variable, linker) = ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        if target == Architecture::Arm64.target() && std::env::var_os(variable).is_none() && on_path(linker) {
            command.env(variable, linker);
        }
    }
    let mut child = command
        .spawn()
        .map_err(|error| Environment::lacks(format!("cargo could not be run ({error}): install Rust from https://rustup.rs")))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;

    let messages = async {
        let mut text = Vec::new();
        BufReader::new(stdout).read_to_end(&mut text).await.map(|_| text)
    };
    let story = async {
        let mut lines = BufReader::new(stderr).lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await? {
            step.at(line.trim().to_owned());
            all.push(line);
        }
        std::io::Result::Ok(all)
    };
    let (messages, story) = tokio::try_join!(messages, story).context("reading what cargo says")?;
    let status = child.wait().await.context("waiting for cargo")?;
    if !status.success() {
        let errors: Vec<_> = story.iter().filter(|line| !line.trim_start().starts_with("Compiling ")).collect();
        let shown = errors.iter().take(80).map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
        bail!("the workers do not build:\n{shown}");
    }
    Ok(executables(&messages))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The binaries that cargo reports, by name.
fn executables(messages: &[u8]) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: PathBuf,
    }
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .map(|message| (message.target.name, message.executable))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_executables_count_among_the_messages_of_cargo() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"domain","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"submit","kind":["bin"]},"executable":"/t/debug/submit"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["submit"], Path::new("/t/debug/submit"));
    }
}
