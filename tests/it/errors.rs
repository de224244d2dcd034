//! The table of errors: the class of every error that the SDK knows of every AWS call of every worker, as the code decides it.
//!
//! The calls are read from the workers' binaries, their errors from the sources of the SDK. `INSTA_UPDATE=always` writes the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;
use runtime::{Refusal, StepError};
use sluice::operator::workspace::Workspace;
use sluice_tests::Harness;

use crate::contract::root;
use crate::grants::calls;
use crate::logs::workers;

/// The calls that are made with the caller's credentials.
fn is_as_caller(worker: &str, call: &str) -> bool {
    match worker {
        "Fetch" => !call.starts_with("cognito-identity:") && call != "kms:GenerateMac",
        "Store" => call == "s3:PutObject",
        _ => false,
    }
}

/// Answers above 499, by the services' API references; the SDK's sources do not name the status of an error.
const FAULTS: [&str; 9] = [
    "InternalError",
    "InternalErrorException",
    "InternalServerError",
    "InternalServerException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "DependencyTimeoutException",
    "ServiceUnavailable",
];

/// Answers to a question, which no code takes for errors: the record that refuses a condition.
const ANSWERS: [&str; 1] = ["ConditionalCheckFailedException"];

fn class(call: &'static str, as_caller: bool, code: &str) -> &'static str {
    let status = if FAULTS.contains(&code) { 500 } else { 400 };
    let error = StepError::of_refusal(call, Refusal { status, code, message: "" });
    if as_caller { error.as_caller() } else { error }.name()
}

/// `GetCredentialsForIdentity` as a file's name has it.
fn snake(name: &str) -> String {
    let mut found = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !found.is_empty() {
            found.push('_');
        }
        found.extend(letter.to_lowercase());
    }
    found
}

/// The folders of the SDK's crates, by the prefix of their calls.
fn sdks() -> Result<BTreeMap<String, PathBuf>> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(["--locked".into()]).exec()?;
    let crates = metadata.packages.iter().filter_map(|package| {
        let service = match package.name.strip_prefix("aws-sdk-")? {
            "cognitoidentity" => "cognito-identity",
            "cognitoidentityprovider" => "cognito-idp",
            "sfn" => "states",
            other => other,
        };
        Some((service.to_owned(), package.manifest_path.parent()?.as_std_path().to_owned()))
    });
    Ok(crates.collect())
}

/// The codes that the SDK has a type for, as errors of one call.
fn codes(sdks: &BTreeMap<String, PathBuf>, call: &str) -> Result<BTreeSet<String>> {
    let (service, operation) = call.split_once(':').context(call.to_owned())?;
    let folder = sdks.get(service).with_context(|| format!("no SDK for {service}"))?;
    // The SDK has two ways to generate it.
    let paths = [format!("src/protocol_serde/shape_{}.rs", snake(operation)), format!("src/operation/{}.rs", snake(operation))];
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(folder.join(path)).ok());
    let text = texts.collect::<String>();
    ensure!(!text.is_empty(), "no source of {call} in {}", folder.display());
    let Some((_, text)) = text.split_once("match error_code {") else { return Ok(BTreeSet::new()) };
    let text = text.split("_ => ").next().unwrap_or_default();
    let arms = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
    Ok(arms.map(|(code, _)| code.to_owned()).collect())
}

/// The classes in the order of the page's columns.
const CLASSES: [&str; 7] =
    ["Throttled", "Unavailable", "TokenExpired", "TokenInvalid", "PayloadExpired", "Denied", "Misconfigured"];

fn row(call: &'static str, workers: &BTreeSet<&str>, as_caller: bool, codes: &BTreeSet<String>) -> String {
    let mut by_class: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for code in codes.iter().filter(|code| !ANSWERS.contains(&code.as_str())) {
        by_class.entry(class(call, as_caller, code)).or_default().push(code);
    }
    let said = CLASSES.iter().filter_map(|name| {
        Some(format!("{name}: {}", by_class.get(name)?.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(" ")))
    });
    let said: Vec<_> = said.collect();
    let workers: Vec<_> = workers.iter().map(|it| it.to_lowercase()).collect();
    let who = if as_caller {
        "the caller"
    } else if call.starts_with("cognito-identity:") {
        "nobody"
    } else {
        "the worker"
    };
    format!("| `{call}` | {} | {who} | {} |\n", workers.join(", "), said.join("<br>"))
}

/// What any call may be answered: status and code.
const ANY: [(u16, &str); 14] = [
    (429, "Unknown"),
    (400, "ThrottlingException"),
    (503, "SlowDown"),
    (400, "KMS.ThrottlingException"),
    (500, "Unknown"),
    (503, "ServiceUnavailable"),
    (400, "RequestTimeout"),
    (403, "AccessDenied"),
    (400, "AccessDeniedException"),
    (400, "ExpiredToken"),
    (400, "ExpiredTokenException"),
    (403, "InvalidAccessKeyId"),
    (400, "ValidationException"),
    (400, "Unknown"),
];

const BEGIN: &str = "<!-- written by the test `errors`: begin -->\n";
const END: &str = "<!-- end -->\n";

#[tokio::test]
async fn the_table_of_errors_says_what_the_code_does() -> Result<()> {
    // Builds the workers.
    Harness::new()?;
    let (workspace, sdks) = (Workspace::find().await?, sdks()?);
    let mut made: BTreeMap<(&'static str, bool), BTreeSet<&'static str>> = BTreeMap::new();
    for worker in workers() {
        for call in calls(&workspace, worker)?.into_iter().filter(|it| it != "s3:CreateSession") {
            let as_caller = is_as_caller(worker, &call);
            made.entry((String::leak(call), as_caller)).or_default().insert(worker);
        }
    }
    let mut table = "| status, code | under the worker's role | under the caller's credentials |\n|---|---|---|\n".to_owned();
    for (status, code) in ANY {
        let own = StepError::of_refusal("any:Call", Refusal { status, code, message: "" });
        let _ = writeln!(table, "| {status} `{code}` | {} | {} |", own.name(), own.clone().as_caller().name());
    }
    table.push_str("\n| call | workers | credentials | class: codes |\n|---|---|---|---|\n");
    for ((call, as_caller), workers) in &made {
        table.push_str(&row(call, workers, *as_caller, &codes(&sdks, call)?));
    }
    let path = root().join("docs/ERRORS.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table begins")?;
    let (said, after) = rest.split_once(END).context("the table ends")?;
    if std::env::var_os("INSTA_UPDATE").is_some_and(|it| it == "always") {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    } else {
        assert_eq!(said, table, "docs/ERRORS.md: INSTA_UPDATE=always writes it");
    }
    Ok(())
}
