//! What the templates grant to a worker is what its code calls, no more and no less.
//!
//! What the code calls is read from the binaries: an operation of the SDK that a worker can reach is a symbol in its
//! binary, and one that it cannot reach was thrown out by the linker.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use object::{Object as _, ObjectSymbol as _};
use serde_json::Value;
use sluice::operator::workspace::Workspace;
use sluice_tests::Harness;

use crate::logs::workers;
use crate::permissions::texts;
use crate::twins::{policies, roles};

/// Calls that need no grant in the worker's own role, and why.
const WITHOUT_A_GRANT: [(&str, &str, &str); 20] = [
    ("*", "s3:CreateSession", "the S3 client calls it for directory buckets, and there are none"),
    ("Store", "cognito-identity:GetId", "is not signed: the token is all it takes"),
    ("Store", "cognito-identity:GetCredentialsForIdentity", "is not signed"),
    ("Store", "s3:PutObject", "is called with the caller's credentials alone"),
    ("Fetch", "cognito-identity:GetId", "is not signed"),
    ("Fetch", "cognito-identity:GetCredentialsForIdentity", "is not signed"),
    ("Fetch", "dynamodb:GetItem", "is called with the caller's credentials, as all that Fetch reads"),
    ("Fetch", "dynamodb:Query", "as the caller"),
    ("Fetch", "dynamodb:UpdateItem", "keeps identity ids, for which only the exchange of Store is given a catalog"),
    ("Fetch", "dynamodb:TransactGetItems", "as the caller: IAM is asked for dynamodb:GetItem of each"),
    ("Fetch", "s3:GetObject", "as the caller"),
    ("Fetch", "s3:HeadObject", "as the caller"),
    ("Release", "s3:GetObject", "names the version: that is s3:GetObjectVersion"),
    ("Summary", "dynamodb:Query", "is called by a session of SummaryReaderRole"),
    ("Tables", "dynamodb:Query", "is called by a session of TablesSessionRole, as all that Tables reads and writes"),
    ("Tables", "dynamodb:UpdateItem", "by that session"),
    ("Tables", "s3:GetObject", "by that session"),
    ("Tables", "s3:PutObject", "by that session"),
    ("Submit", "sqs:SendMessageBatch", "is allowed by sqs:SendMessage"),
    ("Authorize", "verifiedpermissions:IsAuthorized", "is granted where there is a PolicyStoreId"),
];

/// Grants that no code of ours calls, and why.
const WITHOUT_A_CALL: [(&str, &str, &str); 13] = [
    ("*", "logs:CreateLogStream", "Lambda writes the log"),
    ("*", "logs:PutLogEvents", "Lambda writes the log"),
    ("Dispatch", "sqs:ReceiveMessage", "the event source mapping polls with the function's role"),
    ("Dispatch", "sqs:DeleteMessage", "the event source mapping"),
    ("Dispatch", "sqs:GetQueueAttributes", "the event source mapping"),
    ("Parse", "s3:ListBucket", "without it S3 answers 403, not 404, for an object that has expired"),
    ("Submit", "s3:ListBucket", "as for Parse"),
    ("Store", "s3:ListBucket", "as for Parse"),
    ("Hold", "s3:ListBucket", "as for Parse"),
    ("Release", "s3:ListBucket", "as for Parse"),
    ("Summary", "sts:TagSession", "is asked for by sts:AssumeRole with tags"),
    ("Tables", "sts:TagSession", "is asked for by sts:AssumeRole with tags"),
    ("Release", "s3:GetObjectVersion", "is s3:GetObject with a version"),
];

fn exceptions(table: &[(&str, &str, &str)], worker: &str) -> BTreeSet<String> {
    let of_worker = table.iter().filter(|(who, _, _)| ["*", worker].contains(who));
    of_worker.map(|(_, action, _)| (*action).to_owned()).collect()
}

/// The IAM actions of the SDK operations that a binary can reach.
pub(crate) fn calls(workspace: &Workspace, worker: &str) -> Result<BTreeSet<String>> {
    let path = workspace.target().join("debug").join(worker.to_lowercase());
    let binary = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
    let file = object::File::parse(binary.as_slice())?;
    let mut calls = BTreeSet::new();
    for symbol in file.symbols() {
        let name = rustc_demangle::demangle(symbol.name().unwrap_or_default()).to_string();
        // aws_sdk_sqs::operation::send_message::SendMessage::orchestrate
        let Some((sdk, rest)) = name.strip_prefix("aws_sdk_").and_then(|it| it.split_once("::operation::")) else { continue };
        let mut parts = rest.split("::").skip(1);
        if let (Some(operation), Some("orchestrate")) = (parts.next(), parts.next()) {
            let service = match sdk {
                "cognitoidentity" => "cognito-identity",
                "cognitoidentityprovider" => "cognito-idp",
                "sfn" => "states",
                other => other,
            };
            calls.insert(format!("{service}:{operation}"));
        }
    }
    Ok(calls)
}

/// The actions that a role's policies grant, but for the use of a key through the service that holds the data: that is
/// the service's call.
pub(crate) fn grants(policies: &[Value]) -> Result<BTreeSet<String>> {
    let mut grants = BTreeSet::new();
    for statement in policies.iter().flat_map(|policy| policy["Statement"].as_array().into_iter().flatten()) {
        ensure!(statement["Effect"] == "Allow", "{statement}");
        let actions = texts(&statement["Action"]);
        if statement["Condition"]["StringEquals"]["kms:ViaService"].is_string() {
            ensure!(actions.iter().all(|it| it.starts_with("kms:")), "{statement}");
        } else {
            grants.extend(actions);
        }
    }
    Ok(grants)
}

async fn worker_roles(it: &Harness) -> Result<BTreeMap<String, String>> {
    let mut workers = roles(it, "pipeline").await?;
    workers.extend(roles(it, "identity").await?);
    workers.extend(roles(it, "api").await?);
    workers.extend(roles(it, "tables").await?);
    Ok(workers)
}

#[tokio::test]
async fn a_worker_is_granted_the_actions_that_its_binary_calls() -> Result<()> {
    let it = Harness::new()?;
    let workspace = Workspace::find().await?;
    let roles = worker_roles(&it).await?;
    for worker in workers() {
        let role = roles.get(&format!("{worker}Role")).with_context(|| format!("`{worker}` has no role of its own"))?;
        let granted = grants(&policies(&it, role).await?)?;
        let called = calls(&workspace, worker)?;
        assert!(!called.is_empty(), "{worker} calls nothing: are its symbols where they were?");
        let (no_grant, no_call) = (exceptions(&WITHOUT_A_GRANT, worker), exceptions(&WITHOUT_A_CALL, worker));
        let needed: BTreeSet<_> = called.difference(&no_grant).chain(&no_call).cloned().collect();
        assert_eq!(granted, needed, "{worker}: granted, and called");
    }
    Ok(())
}

#[tokio::test]
async fn every_exception_is_needed() -> Result<()> {
    let (it, workspace) = (Harness::new()?, Workspace::find().await?);
    let roles = worker_roles(&it).await?;
    for (who, action, why) in WITHOUT_A_GRANT.iter().chain(&WITHOUT_A_CALL).filter(|(who, _, _)| *who != "*") {
        let granted = grants(&policies(&it, &roles[&format!("{who}Role")]).await?)?.contains(*action);
        let called = calls(&workspace, who)?.contains(*action);
        assert!(granted != called, "{who}, {action}: {why}");
    }
    Ok(())
}
