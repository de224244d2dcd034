//! What two files must agree on, compared: the state machine and the code, the templates and the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runtime::StepError;
use serde_json::Value;

use crate::logs::workers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

fn states() -> Result<serde_json::Map<String, Value>> {
    let definition: Value = serde_json::from_str(&read("statemachines/ingest.asl.json")?)?;
    definition["States"].as_object().cloned().context("the definition has states")
}

/// Every name that a Retry or a Catch matches.
fn matched(states: &serde_json::Map<String, Value>) -> BTreeSet<String> {
    let rules =
        states.values().flat_map(|state| ["Retry", "Catch"].map(|kind| state[kind].as_array().cloned().unwrap_or_default()));
    let names = rules.flatten().flat_map(|rule| rule["ErrorEquals"].as_array().cloned().unwrap_or_default());
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// One of each kind. The match has no wildcard, so a new variant does not compile until it is here.
fn all_step_errors() -> Vec<StepError> {
    let (operation, code) = ("s3:PutObject", String::new());
    let all = vec![
        StepError::Denied { operation, code: code.clone() },
        StepError::TokenExpired,
        StepError::TokenInvalid,
        StepError::PayloadExpired,
        StepError::Throttled { operation },
        StepError::Unavailable { operation },
        StepError::Misconfigured { operation, code },
        StepError::ClaimLost,
        StepError::InvalidInput { what: "x" },
        StepError::Panicked { location: String::new() },
    ];
    for error in &all {
        match error {
            StepError::Denied { .. }
            | StepError::TokenExpired
            | StepError::TokenInvalid
            | StepError::PayloadExpired
            | StepError::Throttled { .. }
            | StepError::Unavailable { .. }
            | StepError::Misconfigured { .. }
            | StepError::ClaimLost
            | StepError::InvalidInput { .. }
            | StepError::Panicked { .. } => {}
        }
    }
    all
}

#[test]
fn the_state_machine_matches_on_names_that_the_workers_raise() -> Result<()> {
    let raised: BTreeSet<&str> = all_step_errors().iter().map(StepError::name).collect();
    for name in matched(&states()?) {
        let of_aws = name.starts_with("States.") || name.starts_with("Lambda.");
        assert!(of_aws || raised.contains(name.as_str()), "no worker raises `{name}`");
    }
    let matched = matched(&states()?);
    for name in ["Denied", "TokenExpired", "TokenInvalid", "PayloadExpired", "Throttled", "Unavailable"] {
        assert!(matched.contains(name), "the state machine does not know `{name}`");
    }
    Ok(())
}

#[test]
fn every_task_has_a_timeout_a_catch_and_retries_with_full_jitter() -> Result<()> {
    let states = states()?;
    let tasks = states.iter().filter(|(_, state)| state["Type"] == "Task");
    for (name, task) in tasks {
        assert!(task["TimeoutSeconds"].is_u64(), "{name} has no timeout");
        let catches = task["Catch"].as_array().context("a Catch")?;
        assert!(
            catches.last().is_some_and(|it| it["ErrorEquals"] == serde_json::json!(["States.ALL"])),
            "{name} does not catch all"
        );
        for retry in task["Retry"].as_array().context("a Retry")? {
            assert_eq!((&retry["JitterStrategy"], retry["BackoffRate"].as_f64() > Some(1.0)), (&"FULL".into(), true), "{name}");
        }
    }
    for (name, state) in &states {
        assert!(state["Comment"].is_string(), "{name} does not say why it retries or not");
    }
    Ok(())
}

/// The templates that have workers, without their comments.
fn worker_templates() -> Result<String> {
    let text = read("infra/pipeline.yaml")? + &read("infra/identity.yaml")? + &read("infra/api.yaml")?;
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code).trim_end());
    Ok(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// The part of a template that describes a worker's function.
fn function<'a>(template: &'a str, worker: &str) -> Result<&'a str> {
    let name = worker[..1].to_ascii_uppercase() + &worker[1..];
    let from = template.split(&format!("\n  {name}Function:\n")).nth(1).with_context(|| format!("{name}Function"))?;
    let end = from
        .match_indices("\n  ")
        .map(|(at, _)| at)
        .filter(|at| from.as_bytes().get(at + 3).is_some_and(u8::is_ascii_uppercase))
        .min();
    Ok(&from[..end.unwrap_or(from.len())])
}

/// The number behind `key:` in a template.
fn number(template: &str, key: &str) -> Result<u64> {
    let value = template.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
    value.and_then(|it| it.trim().trim_matches('"').parse().ok()).with_context(|| format!("{key} is a number"))
}

#[test]
fn timeouts_contain_each_other() -> Result<()> {
    let template = worker_templates()?;
    let definition: Value = serde_json::from_str(&read("statemachines/ingest.asl.json")?)?;
    let execution = definition["TimeoutSeconds"].as_u64().context("TimeoutSeconds")?;
    let timeout = |worker: &str| number(function(&template, worker)?, "Timeout");
    let dispatch = timeout("dispatch")?;
    assert!(execution < dispatch, "dispatch outlives the execution it waits for");
    assert!(execution < number(&template, "LEASE_SECONDS")?, "the lease outlives the longest execution");
    assert!(number(&template, "VisibilityTimeout")? >= 6 * dispatch, "AWS asks for six times the function's timeout");
    assert_eq!(number(&template, "maxReceiveCount")?, number(&template, "MAX_RECEIVES")?);
    for step in ["deduplicate", "parse", "store", "publish"] {
        assert!(timeout(step)? < 25, "{step} ends before its task's timeout");
    }
    for worker in ["submit", "fetch", "status"] {
        assert!(timeout(worker)? < 30, "API Gateway waits for 30 seconds");
    }
    assert!(timeout("enroll")? <= 5, "Cognito waits for 5 seconds");
    assert!(timeout("authorize")? < 10, "API Gateway waits for 10 seconds");
    Ok(())
}

#[test]
fn every_variable_that_a_worker_reads_is_set_and_no_other() -> Result<()> {
    let template = worker_templates()?;
    for worker in sluice::package::WORKERS {
        let main = read(&format!("workers/{worker}/src/main.rs"))?;
        let reads = ["required_var(\"", "var_parsed(\""].iter().flat_map(|call| main.split(call).skip(1));
        let reads: BTreeSet<&str> = reads.filter_map(|rest| rest.split('"').next()).collect();
        let variables = function(&template, worker)?.split("Variables:").nth(1).context("its variables")?;
        let sets = variables.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, _)| name);
        let sets: BTreeSet<&str> = sets.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')).collect();
        assert_eq!(reads, sets, "{worker}");
    }
    Ok(())
}

#[test]
fn domain_knows_no_aws_and_no_worker_knows_another() -> Result<()> {
    let domain = read("workers/domain/Cargo.toml")?;
    assert!(!["aws", "lambda", "tokio"].iter().any(|it| domain.contains(it)));
    for worker in sluice::package::WORKERS {
        let manifest = read(&format!("workers/{worker}/Cargo.toml"))?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        for other in sluice::package::WORKERS {
            assert!(!dependencies.contains(&format!("\n{other}.workspace")), "{worker} depends on {other}");
        }
    }
    Ok(())
}

#[test]
fn no_worker_is_left_out_of_the_tests() {
    let tested: Vec<_> = workers().map(str::to_lowercase).collect();
    assert_eq!(tested, sluice::package::WORKERS);
}

#[test]
fn the_output_says_which_issuers_the_authorizer_takes() -> Result<()> {
    let template = read("infra/api.yaml")?;
    let issuers = |behind: &str| -> Result<String> {
        let (_, text) = template.split_once(behind).with_context(|| behind.to_owned())?;
        let lines = text.lines().skip(1).map(str::trim).take_while(|line| line.starts_with(['{', '"']));
        Ok(lines.collect::<Vec<_>>().join(" "))
    };
    let output = issuers("as its variable ISSUERS\n    Value: !Sub >-")?;
    assert!(output.len() > 100, "{output}");
    assert_eq!(output, issuers("          ISSUERS: !Sub >-")?);
    Ok(())
}

#[test]
fn no_answer_of_the_authorizer_is_remembered_for_another_request() -> Result<()> {
    let template = read("infra/api.yaml")?;
    let (_, sources) = template.split_once("      IdentitySource:\n").context("identity sources")?;
    let sources: Vec<_> = sources.lines().map_while(|line| line.trim().strip_prefix("- ")).collect();
    // The token, the route, and what the path names: all that a policy can be asked about.
    assert_eq!(sources, ["$request.header.Authorization", "$context.routeKey", "$context.path"]);
    Ok(())
}

#[test]
fn the_policies_know_every_route_and_provider_of_the_api() -> Result<()> {
    let policies = authorize::Policies::load(&root().join("workers/authorize/policies"))?;
    let template = read("infra/api.yaml")?;
    let routes: BTreeSet<&str> = template.lines().filter_map(|line| line.trim().strip_prefix("RouteKey: ")).collect();
    assert_eq!(policies.routes().collect::<BTreeSet<_>>(), routes);
    let described: BTreeSet<String> = policies.token_uses().into_keys().collect();
    assert_eq!(described, ["institutes", "lake-staff", "partners"].map(str::to_owned).into());
    for provider in described {
        assert!(template.contains(&format!("\"{provider}\":{{\"issuer\"")), "{provider}");
    }
    Ok(())
}

#[test]
fn no_answer_of_the_authorizer_outlives_its_token() -> Result<()> {
    let template = read("infra/api.yaml")?;
    // API Gateway remembers an answer for as long as the worker wants a token to live on.
    assert!(template.contains("      AuthorizerResultTtlInSeconds: !Ref AuthorizerResultTtlSeconds\n"));
    assert!(template.contains("          RESULT_TTL_SECONDS: !Ref AuthorizerResultTtlSeconds\n"));
    let (_, parameter) = template.split_once("  AuthorizerResultTtlSeconds:\n").context("the parameter")?;
    let (_, token) =
        read("infra/identity.yaml")?.split_once("  IdTokenMinutes:\n").map(|(a, b)| (a.len(), b.to_owned())).context("tokens")?;
    assert!(number(parameter, "MaxValue")? + 10 < 60 * number(&token, "MinValue")?, "the shortest token would never be taken");
    Ok(())
}

#[test]
fn the_template_takes_no_larger_message_than_the_command_sends() -> Result<()> {
    let template = read("infra/pipeline.yaml")?;
    let (_, parameter) = template.split_once("  MaximumMessageBytes:\n").context("the parameter")?;
    let mut members = parameter.lines().take_while(|line| line.starts_with("    "));
    assert!(members.any(|line| line.trim() == format!("MaxValue: {}", domain::MAX_MESSAGE_BYTES)));
    Ok(())
}
