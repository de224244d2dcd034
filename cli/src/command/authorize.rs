//! `sluice authorize`

use std::io::Read;
use std::path::{Path, PathBuf};

use ::policies::Explanation;
use anyhow::{Context, Result, ensure};
use secrecy::SecretString;

use crate::error::ExitCode;
use crate::local::Authorization;
use crate::operator::policies::{self, AuthorizeAnswer};
use crate::operator::workspace::Workspace;
use crate::output::{Output, one_line};
use client::Client;
use client::outputs::Outputs;

/// Longer than any real token: the command reads no further.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// The token, and the request to decide about.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show which policies decided, and why the others did not apply.
    #[arg(long)]
    explain: bool,
    /// The file with the token; `-` means stdin. Default: the token of the current session.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Method and path: a route, as in `GET /er7/{messageId}`, or a request, as in `GET /institutes/west/er7`.
    #[arg(long, value_name = "ROUTE", value_parser = route)]
    route: Route,
    /// Policy folder to evaluate, instead of this checkout's workers/authorize/policies. The deployed policies may differ.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    #[command(flatten)]
    deployment: super::DeploymentArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    method: String,
    path: String,
}

fn route(text: &str) -> Result<Route, String> {
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        [method, path] if path.starts_with('/') && method.bytes().all(|it| it.is_ascii_alphabetic()) => {
            Ok(Route { method: method.to_ascii_uppercase(), path: (*path).to_owned() })
        }
        _ => Err("expected a method and a path, such as `GET /er7/{messageId}`".to_owned()),
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let folder = match args.policies {
        Some(folder) => folder,
        None => Workspace::find().await?.policies(),
    };
    let token = match &args.token_file {
        Some(path) => read_token(path)?,
        None => Client::open()?.session().await?.tokens.id,
    };
    let (_, outputs) = args.deployment.find().await?;
    if let Some(warning) = not_what_decides(&outputs) {
        output.reporter.say(warning);
    }
    match policies::ask(&folder, &outputs, &token, &args.route.method, &args.route.path).await? {
        AuthorizeAnswer::Decided(explanation) => {
            if output.is_json() {
                output.json(&explanation)?;
            } else {
                show(&explanation, args.explain, output);
            }
            Ok(if explanation.decision == "allow" { ExitCode::Success } else { ExitCode::Failed })
        }
        AuthorizeAnswer::Refused(refused) => {
            let reason = refused.to_string();
            if output.is_json() {
                output.json(&serde_json::json!({ "decision": "refused", "refused": refused.name(), "reason": reason }))?;
            } else {
                output.table(["decision", "refused"], [["reason".to_owned(), reason]]);
            }
            Ok(ExitCode::Failed)
        }
    }
}

/// The warning for a deployment that does not decide by a folder of policies; `None` for one that does.
fn not_what_decides(outputs: &Outputs) -> Option<&'static str> {
    let output = |name: &str| outputs.stack_output(name).unwrap_or_default();
    if output("Authorization") == Authorization::Jwt.name() {
        return Some("This deployment has Authorization=jwt: it asks no policies. Under Authorization=unified it would be so:");
    }
    (!output("PolicyStoreId").is_empty()).then_some(
        "This deployment decides by the policies of its store in Verified Permissions. By those of the folder it is so:",
    )
}

/// Reads a token, as it is or as the header `Authorization` has it. No error quotes it.
fn read_token(path: &Path) -> Result<SecretString> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LONGEST_TOKEN).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
        file.take(LONGEST_TOKEN).read_to_string(&mut text)
    };
    read.with_context(|| format!("{} holds no token", path.display()))?;
    let text = SecretString::from(text);
    let token = bare(&text);
    ensure!(!token.is_empty(), "{} holds no token", path.display());
    Ok(SecretString::from(token))
}

fn bare(text: &SecretString) -> &str {
    use secrecy::ExposeSecret;
    ::policies::token::bearer(text.expose_secret())
}

/// Prints the explanation for a person. No claim of a token can control the terminal.
fn show(explanation: &Explanation, with_policies: bool, output: &Output) {
    let or_none = |text: &Option<String>| one_line(text.as_deref().unwrap_or("none"));
    let who = match &explanation.token_use {
        Some(token_use) => format!("{} (its {token_use} token)", explanation.subject),
        None => explanation.subject.clone(),
    };
    let rows = [
        ("reason", explanation.reason.clone()),
        ("provider", explanation.provider.clone()),
        ("subject", one_line(&who)),
        ("route", or_none(&explanation.route)),
        ("action", or_none(&explanation.action)),
        ("principal", or_none(&explanation.principal)),
        ("resource", or_none(&explanation.resource)),
    ];
    output.table(["decision", explanation.decision], rows.map(|(name, value)| [name.to_owned(), value]));
    if !with_policies {
        return;
    }
    for policy in &explanation.policies {
        output.line(format!("\nDecided by `{}` ({}), a {}:\n{}", policy.id, policy.file, policy.effect, indented(&policy.text)));
    }
    if explanation.considered.is_empty() {
        output.line(match explanation.policies.is_empty() {
            true => "\nNo policy is about such a request.",
            false => "\nNo other policy is about such a request.",
        });
    }
    for considered in &explanation.considered {
        let policy = &considered.policy;
        let (id, file, effect, why) = (&policy.id, &policy.file, &policy.effect, &considered.why);
        output.line(format!("\nNot by `{id}` ({file}), a {effect}: {why}.\n{}", indented(&policy.text)));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {}", one_line(line))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_method_and_a_path() {
        let good = route("get  /er7/{id}").unwrap();
        assert_eq!((good.method.as_str(), good.path.as_str()), ("GET", "/er7/{id}"));
        for bad in ["", "GET", "/er7", "GET er7", "GET /er7 /status", "G=T /er7"] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_may_come_as_the_header_has_it() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c\r\n", "bearer  a.b.c"] {
            assert_eq!(bare(&SecretString::from(text)), "a.b.c");
        }
    }

    #[test]
    fn a_file_without_a_token_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for content in [b"\xff\xfecanary".as_slice(), b"  \n"] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", read_token(&path).unwrap_err());
            assert!(error.contains("holds no token") && !error.contains("canary"), "{error}");
        }
    }
}
