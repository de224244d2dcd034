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
        "find",
        "show",
        "hl7",
        "mllp",
        "demo",
        "local",
        "deploy",
        "destroy",
        "redrive",
        "authorize",
        "policies",
        "Exit codes: 0 success",
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
    check(&mut sluice(&["top", "--window", "0s"]), 2, "longer than none");
    check(&mut sluice(&["top", "--every", "0s"]), 2, "longer than none");
}

#[test]
fn options_that_do_not_fit_staff_are_exit_code_2_before_any_request() {
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
        check(&mut sluice(arguments), 2, "the lake's staff cannot sign up");
    }
    check(&mut sluice(&["users", "approve", "eve@lake.example", "--write", "west", "--staff"]), 2, "cannot sign up");
    for action in ["import", "export"] {
        check(&mut sluice(&["users", action, "--staff", "staff.csv"]), 2, "made one by one");
    }
}

#[test]
fn missing_aws_configuration_is_exit_code_3_before_anything_is_built() {
    check(&mut sluice(&["deploy", "--stack", "one"]), 3, "no AWS region is configured");
    let mut command = sluice(&["deploy", "--stack", "one"]);
    check(command.env("AWS_REGION", "eu-central-1"), 3, "there are no valid AWS credentials");
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
    check(&mut command, 3, "this needs Python 3.11 or newer with its `venv` module, and this machine has none");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_machine_without_cargo_is_told_how_to_sign_in_all_the_same() {
    let folder = folder("no-cargo");
    let login = || sluice(&["login", "nurse@west.example", "--password-stdin"]);
    check(login().env("PATH", &folder), 3, "no deployment to sign in to: give the file that describes it");
    // With cargo, but without a toolchain.
    let cargo = folder.join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\necho 'error: no default is configured' >&2\necho 'Stack backtrace:' >&2\nexit 1\n")
        .unwrap();
    std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
    let said = check(login().env("CARGO", &cargo), 3, "--deployment FILE").stderr;
    assert!(!String::from_utf8_lossy(&said).contains("backtrace"));
    let said =
        check(sluice(&["redrive"]).env("CARGO", &cargo), 3, "cargo metadata failed: error: no default is configured").stderr;
    assert!(!String::from_utf8_lossy(&said).contains("backtrace"));

    // A program that knows the deployment names the account, too.
    let names = ["apiUrl", "region", "userPoolId", "clientId", "identityPoolId", "userPoolProviderName"];
    let deployment: serde_json::Map<String, serde_json::Value> =
        names.into_iter().map(|name| (name.to_owned(), "https://x".into())).collect();
    let file = folder.join("deployment.json");
    std::fs::write(&file, serde_json::Value::from(deployment).to_string()).unwrap();
    check(sluice(&["login", "--password-stdin", "--deployment"]).arg(&file), 2, "--password-stdin needs the account");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_damaged_session_is_removed_and_its_tokens_are_said_to_live_on() {
    let session = folder("damaged").join("session.json");
    std::fs::write(&session, "{").unwrap();
    check(
        sluice(&["logout"]).env("SLUICE_SESSION", &session),
        1,
        "the session file is removed, and its tokens could not be revoked",
    );
    assert!(!session.exists());
    check(sluice(&["logout"]).env("SLUICE_SESSION", &session), 0, "");
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

/// A receiver over MLLP that answers each message that asks for it, with these codes. Gives its address; ends with the connection.
fn receiver(codes: &'static [&'static str]) -> (String, std::thread::JoinHandle<usize>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        let (mut peer, _) = listener.accept().unwrap();
        let (mut received, mut count) = (Vec::new(), 0);
        let mut byte = [0];
        while peer.read(&mut byte).unwrap() == 1 {
            received.push(byte[0]);
            if received.ends_with(b"\x1c\r") {
                count += 1;
                if !String::from_utf8_lossy(&received).contains("|NE|NE") {
                    let answer = |code: &&str| format!("\u{b}MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|{code}|1\r\u{1c}\r");
                    peer.write_all(codes.iter().map(answer).collect::<String>().as_bytes()).unwrap();
                }
                received.clear();
            }
        }
        count
    };
    (address, std::thread::spawn(serve))
}

#[test]
fn mllp_send_sends_hl7_alone_and_waits_for_no_answer_that_the_message_does_not_ask_for() {
    let folder = folder("outbox");
    let msh = "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01|1|P|2.5";
    std::fs::write(folder.join("a.hl7"), format!("{msh}\rPID|1\r")).unwrap();
    std::fs::write(folder.join("b.hl7"), format!("{msh}|||NE|NE\rPID|1\r")).unwrap();
    std::fs::write(folder.join("session.json"), "{\"refreshToken\": \"x\"}").unwrap();
    let (address, received) = receiver(&["AA"]);
    let began = std::time::Instant::now();
    let send = ["mllp", "send", folder.to_str().unwrap(), "--timeout", "60", "--to", &address];
    let said = String::from_utf8(check(&mut sluice(&send), 1, "2 accepted, 1 not.").stdout).unwrap();
    assert!(said.contains("b.hl7: no answer, as the message asks"), "{said}");
    assert!(said.contains("session.json: does not begin as HL7 does"), "{said}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "it waited for an answer");
    assert_eq!(received.join().unwrap(), 2);
    let (address, received) = receiver(&["AA"]);
    let any = ["mllp", "send", folder.to_str().unwrap(), "--any", "--to", &address];
    check(&mut sluice(&any), 0, "3 accepted, 0 not.");
    assert_eq!(received.join().unwrap(), 3);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mllp_send_counts_a_message_by_its_last_answer() {
    let file = folder("refused").join("a.hl7");
    let send = |asks: &str, codes: &'static [&'static str], exit_code, said: &str| {
        std::fs::write(&file, format!("MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01|1|P|2.5|||{asks}\rPID|1\r")).unwrap();
        let (address, received) = receiver(codes);
        let arguments = ["mllp", "send", file.to_str().unwrap(), "--json", "--timeout", "60", "--to", &address];
        let output = check(&mut sluice(&arguments), exit_code, said);
        assert_eq!(received.join().unwrap(), 1);
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(rows[0]["accepted"], exit_code == 0, "{rows}");
        let answers: Vec<_> = rows[0]["answers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert!(answers.iter().zip(codes).all(|(answer, code)| answer.contains(&format!("MSA|{code}|1"))), "{rows}");
        assert_eq!(answers.len(), codes.len(), "{rows}");
    };
    send("|", &["AA"], 0, "1 accepted, 0 not.");
    send("|", &["AE"], 1, "0 accepted, 1 not.");
    send("|", &["AR"], 1, "0 accepted, 1 not.");
    // A commit acknowledgment says less than the application acknowledgment behind it.
    send("AL|AL", &["CA", "AA"], 0, "1 accepted, 0 not.");
    send("AL|AL", &["CA", "AE"], 1, "0 accepted, 1 not.");
    send("ER|NE", &["CE"], 1, "0 accepted, 1 not.");
}

#[test]
fn settings_are_read_below_the_environment_and_the_command_line() {
    let folder = folder("settings");
    let file = folder.join("config.toml");
    let with = |text: &str, arguments: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let mut command = sluice(arguments);
        command.env("SLUICE_CONFIG", &file);
        command
    };
    let help = check(&mut with("limit = 7\nwide = true\n", &["list", "--help"]), 0, "").stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(help.contains("[default: 7]") && help.contains("SLUICE_LIMIT"), "{help}");
    check(&mut with("limti = 7\n", &["list"]), 2, "unknown field `limti`, expected one of `institute`, `limit`");
    check(&mut with("limit = \"many\"\n", &["list"]), 2, "line 1");
    check(&mut with("concurrency = 65\n", &["list"]), 2, "`concurrency` is a number from 1 to 64");
    check(sluice(&["list"]).env("SLUICE_CONFIG", folder.join("none.toml")), 1, "none.toml");
    check(with("", &["list"]).env("SLUICE_LIMIT", "many"), 2, "invalid value 'many' for '--limit <COUNT>'");
    let error = check(with("", &["get", "00000000"]).env("SLUICE_JSON", "1"), 1, "").stderr;
    assert!(serde_json::from_slice::<serde_json::Value>(&error).is_ok_and(|it| it["exitCode"] == 1), "1 is true, too");
    // A list of no messages would say that there are none.
    check(&mut with("limit = 0\n", &["list"]), 2, "line 1, column 9");
    check(&mut with("", &["list", "--limit", "0"]), 2, "'0' for '--limit <COUNT>'");
    check(with("", &["find"]).env("SLUICE_LIMIT", "0"), 2, "'0' for '--limit <COUNT>'");
    // A variable forbids no argument, as a setting does not. Each of these only lacks a session.
    let not_signed_in = "nobody is signed in";
    for (variable, value, arguments) in [
        ("SLUICE_INSTITUTE", "west", &["find", "--patient", "4711"] as &[&str]),
        ("SLUICE_LIMIT", "10", &["list", "--all"]),
        ("SLUICE_QUIET", "1", &["-v", "list"]),
        ("SLUICE_WIDE", "1", &["status", "80f0e4221"]),
    ] {
        check(with("limit = 7\n", arguments).env(variable, value), 1, not_signed_in);
    }
    check(&mut with("", &["list", "--all", "--limit", "10"]), 2, "cannot be used with");
    // In JSON every error is an object, those of the command line too.
    let output = check(&mut with("json = true\n", &["get", "x", "--json"]), 2, "\"exitCode\":2");
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("not a message id"), "{error}");
}

#[test]
fn the_statements_for_an_engine_have_the_columns_of_the_mapping() {
    let mapping = folder("sql").join("own.toml");
    let own = "version = 1\n[visits]\nrow = \"ZVN\"\ncolumns = [{ name = \"ward\", from = \"ZVN-3.1\", source = \"own\" }]\n";
    std::fs::write(&mapping, own).unwrap();
    let asked = ["sql", "ddl", "--engine", "athena", "--location", "s3://bucket/t/", "--table", "visits", "--mapping"];
    let output = check(sluice(&asked).arg(&mapping), 0, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("  `ward` string\n)") && text.contains("LOCATION 's3://bucket/t/visits/'"), "{text}");
    std::fs::write(&mapping, own.replace("ZVN-3", "XVN-3")).unwrap();
    check(sluice(&asked).arg(&mapping), 2, "own.toml: line 4, column 37: there is no such segment");
    check(&mut sluice(&["sql", "ddl", "--engine", "oracle", "--location", "x"]), 2, "duckdb, athena, spark, clickhouse");
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(check(&mut sluice(&["completions", shell]), 0, "").stdout).unwrap();
        assert!(script.contains("--control-id") || script.contains("control-id"), "{shell}: {script}");
    }
    let folder = folder("man");
    check(&mut sluice(&["man", folder.to_str().unwrap()]), 0, "sluice.1");
    let page = std::fs::read_to_string(folder.join("sluice-find.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("control"), "{page}");
    assert!(folder.join("sluice-hl7-split.1").exists());
}

/// A full disk is no success, and a reader who has enough is no error.
#[test]
fn an_answer_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    for arguments in [
        ["completions", "bash"].as_slice(),
        &["cost", "--messages-per-day", "1000"],
        &["cost", "--messages-per-day", "1000", "--json"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        check(sluice(arguments).stdout(full), 1, "writing to stdout: No space left on device");
        let mut child = sluice(arguments).arg("-q").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn a_bill_adds_up_and_a_price_that_is_missing_is_named() {
    let bill = |more: &[&str]| sluice(&[&["cost", "--messages-per-day", "100000", "--json"], more].concat());
    let output = check(&mut bill(&[]), 0, "");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = answer["bill"]["parts"].as_array().unwrap();
    let sum: f64 = parts.iter().map(|part| part["month"].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && (sum - answer["bill"]["month"].as_f64().unwrap()).abs() < 1e-6, "{answer}");

    let file = folder("prices").join("prices.json");
    let prices = include_str!("../data/prices.json").replace("\"s3.put\"", "\"s3.putt\"");
    std::fs::write(&file, prices).unwrap();
    check(&mut bill(&["--prices", file.to_str().unwrap()]), 1, "the price file has no price `s3.put`");
    check(&mut bill(&["--institutes", "0"]), 2, "0 institutes send none");
    check(&mut bill(&["--size", "99999999999"]), 2, "were measured");
}

#[test]
fn a_simulation_names_the_quota_that_binds_and_refuses_a_senseless_scenario() {
    let simulate = |more: &[&str]| sluice(&[&["simulate", "--json"], more].concat());
    let output = check(&mut simulate(&["--rate", "300", "--time", "10s"]), 0, "");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["firstBound"]["name"], "the API's rate limit (SubmitRateLimit)");
    assert!(answer["cost"].as_f64().unwrap() > 0.0 && answer["report"]["refused"].as_u64().unwrap() > 1000, "{answer}");
    check(&mut simulate(&["--rate", "0"]), 2, "a rate is more than 0");
    check(&mut simulate(&["--hot", "2"]), 2, "a share from 0 to 1");
    check(&mut simulate(&["--outage", "1h", "--outage-at", "2h"]), 2, "an outage begins while messages come in");
    check(&mut simulate(&["--maximum-concurrency", "1"]), 2, "MaximumConcurrency is from 2 to 1,000");
}
