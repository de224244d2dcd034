//! What a shell sees of `sluice`: exit codes, stdout, stderr.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The binary in an environment without AWS configuration, in which nobody can be asked.
fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).stdin(Stdio::null()).env_clear();
    command.env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

#[track_caller]
fn check(command: &mut Command, exit_code: i32, stderr: &str) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{said}");
    assert!(said.contains(stderr), "{said}");
    output
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let output = check(&mut sluice(&["--help"]), 0, "");
    let help = String::from_utf8(output.stdout).unwrap();
    for word in [
        "login",
        "send",
        "get",
        "list",
        "hl7",
        "mllp",
        "demo",
        "local",
        "deploy",
        "destroy",
        "redrive",
        "authorize",
        "policies",
        "Exit codes: 0 as asked",
    ] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    check(&mut sluice(&["deplyo"]), 2, "deplyo");
    check(&mut sluice(&["deploy"]), 2, "--stack");
    check(&mut sluice(&["deploy", "--stack", "Capital"]), 2, "lower-case");
    check(&mut sluice(&["deploy", "--stack", "one", "--parameter", "no-value"]), 2, "NAME=VALUE");
    check(&mut sluice(&["redrive", "--stack", "one", "--local"]), 2, "cannot be used with");
}

#[test]
fn what_the_lakes_staff_cannot_have_is_exit_code_2_before_anything_is_asked() {
    for arguments in [
        ["users", "add", "--staff", "eve@lake.example", "--read", "west"].as_slice(),
        &["users", "--staff", "add", "eve@lake.example", "--write", "west"],
        &["users", "--staff", "set", "eve@lake.example", "--no-read"],
        &["users", "--staff", "list", "--institute", "west"],
    ] {
        check(&mut sluice(arguments), 2, "the lake's staff have no institutes to read from or write for");
    }
    for action in ["pending", "reject"] {
        let arguments = ["users", "--staff", action, "eve@lake.example"];
        let arguments = if action == "pending" { &arguments[..3] } else { &arguments };
        check(&mut sluice(arguments), 2, "nobody signs up as the lake's staff");
    }
    check(&mut sluice(&["users", "approve", "eve@lake.example", "--write", "west", "--staff"]), 2, "nobody signs up");
    for action in ["import", "export"] {
        check(&mut sluice(&["users", action, "--staff", "staff.csv"]), 2, "made one by one");
    }
}

#[test]
fn missing_aws_configuration_is_exit_code_3_before_anything_is_built() {
    check(&mut sluice(&["deploy", "--stack", "one"]), 3, "no AWS region is configured");
    let mut command = sluice(&["deploy", "--stack", "one"]);
    check(command.env("AWS_REGION", "eu-central-1"), 3, "AWS does not know who we are");
}

#[test]
fn a_machine_without_python_gets_one_sentence_and_exit_code_3() {
    let folder = folder("no-python");
    // The build of the workers is not what this is about.
    let cargo = folder.join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\nexec /bin/sleep 20\n").unwrap();
    std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = sluice(&["local", "up"]);
    command.env("PATH", &folder).env("CARGO", &cargo).env("CARGO_TARGET_DIR", folder.join("target"));
    check(&mut command, 3, "the local AWS runs on Python 3.11 or newer with its `venv` module, and this machine has none");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_local_system_that_does_not_run_is_exit_code_1() {
    let folder = folder("not-running");
    let mut command = sluice(&["local", "status", "--json"]);
    let output = check(command.env("CARGO_TARGET_DIR", &folder), 1, "");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["running"], false);
    let mut command = sluice(&["redrive"]);
    check(command.env("CARGO_TARGET_DIR", &folder), 1, "start it with `sluice local up`");
    let mut command = sluice(&["local", "down"]);
    check(command.env("CARGO_TARGET_DIR", &folder), 0, "");
    std::fs::remove_dir_all(folder).unwrap();
}
