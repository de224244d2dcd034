//! Compares the table of workers with the templates and the state machine.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use sluice::operator::package::Worker;
use sluice_tests::template::template;

use crate::root;

/// The rows of the table in `workers/README.md`, each as its cells.
fn rows() -> Result<Vec<Vec<String>>> {
    let page = std::fs::read_to_string(root().join("workers/README.md")).context("workers/README.md")?;
    let rows = page.lines().filter(|line| line.starts_with("| [`"));
    Ok(rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect())
}

/// What stands in backticks in a cell.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The resources of the stacks that have workers, by name.
fn resources() -> Result<BTreeMap<String, Value>> {
    let mut resources = BTreeMap::new();
    for stack in ["identity", "pipeline", "api", "tables"] {
        let template = template(&root().join(format!("infra/{stack}.yaml")))?;
        let members = template["Resources"].as_object().context("resources")?;
        resources.extend(members.iter().map(|(name, resource)| (name.clone(), resource.clone())));
    }
    Ok(resources)
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        // A condition of the template: both of what it may be.
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The actions that a role is granted, without those that every worker has for its log, and without the use of a key through
/// the service that holds the data.
fn grants(name: &str, resources: &BTreeMap<String, Value>) -> Result<BTreeSet<String>> {
    let role = resources.get(name).with_context(|| format!("no template has {name}"))?;
    let mut statements = Vec::new();
    collect(&role["Properties"]["Policies"], &mut statements);
    // A policy that stands beside its role.
    for beside in resources.values().filter(|it| it["Properties"]["Roles"][0]["Ref"] == name) {
        collect(&beside["Properties"]["PolicyDocument"], &mut statements);
    }
    let own = statements.iter().filter(|it| it["Condition"]["StringEquals"]["kms:ViaService"].is_null());
    Ok(own.flat_map(|it| texts(&it["Action"])).filter(|it| !it.starts_with("logs:") && !it.starts_with("xray:")).collect())
}

/// The statements of policies, however deep conditions of the template put them.
pub(crate) fn collect<'a>(value: &'a Value, statements: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) if members.contains_key("Action") => statements.push(value),
        Value::Object(members) => members.values().for_each(|it| collect(it, statements)),
        Value::Array(items) => items.iter().for_each(|it| collect(it, statements)),
        _ => {}
    }
}

/// The states of the pipeline and the routes of the API that end in a function.
fn triggers(worker: &Worker, resources: &BTreeMap<String, Value>) -> Result<BTreeSet<String>> {
    let machine: Value = serde_json::from_slice(&std::fs::read(root().join("statemachines/ingest.asl.json"))?)?;
    let arn = format!("{}FunctionArn", worker.logical_name());
    let states = machine["States"].as_object().context("states")?.iter();
    let states = states.filter(|(_, state)| state["Arguments"]["FunctionName"] == format!("${{{arn}}}"));
    let integrations = resources.iter().filter(|(_, it)| it["Properties"]["IntegrationUri"]["Ref"] == arn);
    let targets: Vec<String> = integrations.map(|(name, _)| format!("integrations/${{{name}}}")).collect();
    let routes = resources.values().filter(|it| targets.iter().any(|target| it["Properties"]["Target"]["Fn::Sub"] == *target));
    let routes = routes.filter_map(|it| it["Properties"]["RouteKey"].as_str());
    Ok(states.map(|(name, _)| name.as_str()).chain(routes).map(str::to_owned).collect())
}

#[test]
fn the_table_of_workers_says_what_the_templates_say() -> Result<()> {
    let (rows, resources) = (rows()?, resources()?);
    let workers = Worker::all(&root())?;
    let names: Vec<_> = rows.iter().map(|row| quoted(&row[0]).into_iter().collect::<String>()).collect();
    assert_eq!(names, workers.iter().map(|it| it.name.clone()).collect::<Vec<_>>(), "a row for each folder, in their order");
    for (worker, row) in workers.iter().zip(&rows) {
        let [_, runs_on, role, may_call, _, tests] = row.as_slice() else { panic!("{}: six columns", worker.name) };
        let role_name = format!("{}Role", worker.logical_name());
        assert_eq!(quoted(role), BTreeSet::from([role_name.clone()]), "{}", worker.name);
        let granted = grants(&role_name, &resources)?;
        assert_eq!(quoted(may_call), granted, "{}: what the table says it may call, and what its role is granted", worker.name);
        let function = resources.get(&format!("{}Function", worker.logical_name())).context("a function")?;
        assert_eq!(function["Properties"]["Role"]["Fn::GetAtt"], format!("{role_name}.Arn"), "{}", worker.name);
        let triggers = triggers(worker, &resources)?;
        let named = quoted(runs_on);
        assert!(named.is_superset(&triggers), "{}: {triggers:?} call it, and the table says {named:?}", worker.name);
        for test in quoted(tests) {
            assert!(root().join(&test).exists(), "{}: there is no {test}", worker.name);
        }
    }
    Ok(())
}
