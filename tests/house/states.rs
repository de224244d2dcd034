//! Checks the state machine for errors that Step Functions refuses or misreads and that statelint does not find: a variable that no path has
//! assigned, a misspelled function, a retry that is no legal one, an ARN of one partition only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::root;

/// The functions of JSONata 2.0.6, which Step Functions has, without `$eval`, which it has not.
const JSONATA: &str = "string length substring substringBefore substringAfter uppercase lowercase trim pad contains split join match \
    replace base64encode base64decode encodeUrlComponent encodeUrl decodeUrlComponent decodeUrl number abs floor ceil round power sqrt \
    random formatNumber formatBase formatInteger parseInteger sum max min average boolean not exists count append sort reverse shuffle \
    distinct zip keys lookup spread merge each error assert type now millis fromMillis toMillis map filter single reduce sift";

/// What Step Functions adds to them.
const OF_STEP_FUNCTIONS: &str = "partition range hash uuid parse";

/// Fields of JSONPath, which a state of JSONata may not have.
const JSONPATH: [&str; 6] = ["InputPath", "OutputPath", "Parameters", "ResultPath", "ResultSelector", "ItemsPath"];

/// An expression, if a text is one.
fn expression(text: &str) -> Option<&str> {
    text.strip_prefix("{%")?.strip_suffix("%}")
}

/// All expressions of a value.
fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => expression(text).into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        Value::Object(members) => members.values().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// An expression without what stands in quotes.
fn without_texts(expression: &str) -> String {
    let (mut code, mut quote) = (String::new(), None);
    for letter in expression.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            None => code.push(letter),
        }
    }
    if quote.is_some() { code + " (" } else { code }
}

/// The names after `$` in an expression, each with what follows it.
fn names(code: &str) -> Vec<(&str, &str)> {
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let parts = code.split('$').skip(1).map(|rest| rest.split_at(rest.find(|it| !is_name(it)).unwrap_or(rest.len())));
    parts.filter(|(name, _)| !name.is_empty()).collect()
}

/// What is wrong with the expressions of a place, where these variables are assigned.
fn in_expressions(place: &str, value: &Value, assigned: &BTreeSet<String>, states: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for expression in expressions(value) {
        let code = without_texts(expression);
        for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
            if code.matches(open).count() != code.matches(close).count() {
                findings.push(format!("{place}: `{open}` and `{close}` do not match, or a quote is open"));
            }
        }
        for (name, rest) in names(&code) {
            let is_called = rest.trim_start().starts_with('(');
            if is_called {
                if !JSONATA.split_whitespace().chain(OF_STEP_FUNCTIONS.split(' ')).any(|it| it == name) {
                    findings.push(format!("{place}: there is no function ${name}"));
                }
            } else if name == "states" {
                let member = rest.trim_start_matches('.').split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
                if !states.contains(&member) {
                    findings.push(format!("{place}: $states has no {member} there"));
                }
            } else if !assigned.contains(name) {
                findings.push(format!("{place}: ${name} is not assigned on every way there"));
            }
        }
    }
    findings
}

/// A way out of a state: what decides it, what it assigns, and where it leads.
struct Way<'a> {
    part: &'a Value,
    next: &'a str,
    states: &'static [&'static str],
    name: &'static str,
}

fn ways(state: &Value) -> Vec<Way<'_>> {
    let list = |name: &str| state[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_task = state["Type"] == "Task";
    let mut ways = Vec::new();
    for next in ["Next", "Default"].into_iter().filter_map(|name| state[name].as_str()) {
        let states: &[&str] = if is_task { &["input", "context", "result"] } else { &["input", "context"] };
        ways.push(Way { part: state, next, states, name: "Next" });
    }
    for (name, states) in [("Choices", &["input", "context"][..]), ("Catch", &["input", "context", "errorOutput"][..])] {
        for part in list(name) {
            ways.push(Way { part, next: part["Next"].as_str().unwrap_or_default(), states, name });
        }
    }
    ways
}

/// The names that a part assigns.
fn assigns(part: &Value) -> BTreeSet<String> {
    part["Assign"].as_object().into_iter().flat_map(|it| it.keys().cloned()).collect()
}

/// The variables that are assigned whenever a state begins. A state that is not there cannot be reached.
fn assigned(machine: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut assigned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let start = machine["StartAt"].as_str().unwrap_or_default().to_owned();
    let mut waiting = VecDeque::from([(start, BTreeSet::new())]);
    while let Some((name, reaching)) = waiting.pop_front() {
        let now = match assigned.get(&name) {
            Some(before) => before.intersection(&reaching).cloned().collect(),
            None => reaching,
        };
        if assigned.get(&name) == Some(&now) {
            continue;
        }
        for way in ways(&machine["States"][&name]) {
            waiting.push_back((way.next.to_owned(), now.union(&assigns(way.part)).cloned().collect()));
        }
        assigned.insert(name, now);
    }
    assigned
}

/// What is wrong with one retry.
fn in_retry(place: &str, retry: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let mut wrong = |what: &str| findings.push(format!("{place}: {what}"));
    if !retry["JitterStrategy"].is_null() && !matches!(retry["JitterStrategy"].as_str(), Some("FULL" | "NONE")) {
        wrong("JitterStrategy is FULL or NONE");
    }
    if !retry["BackoffRate"].is_null() && retry["BackoffRate"].as_f64().is_none_or(|it| it < 1.0) {
        wrong("BackoffRate is a number of at least 1");
    }
    let whole = |name: &str, least: u64, most: u64| {
        retry[name].is_null() || retry[name].as_u64().is_some_and(|it| (least..=most).contains(&it))
    };
    if !whole("IntervalSeconds", 1, 99_999_999)
        || !whole("MaxAttempts", 0, 99_999_999)
        || !whole("MaxDelaySeconds", 1, 31_622_399)
    {
        wrong("IntervalSeconds, MaxAttempts and MaxDelaySeconds are whole numbers in their range");
    }
    if retry["MaxDelaySeconds"].as_u64().is_some_and(|most| most <= retry["IntervalSeconds"].as_u64().unwrap_or(1)) {
        wrong("MaxDelaySeconds is more than IntervalSeconds");
    }
    findings
}

/// All that is wrong with a state machine.
fn findings(machine: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    if machine.to_string().contains("arn:aws:") {
        findings.push("an ARN of the partition aws: other partitions refuse it".to_owned());
    }
    let reached = assigned(machine);
    for (name, state) in machine["States"].as_object().into_iter().flatten() {
        let Some(before) = reached.get(name) else {
            findings.push(format!("{name}: nothing leads there"));
            continue;
        };
        findings.extend(JSONPATH.iter().filter(|it| !state[**it].is_null()).map(|field| format!("{name}: {field} is JSONPath")));
        for field in ["Arguments", "Error", "Cause", "TimeoutSeconds", "Seconds"] {
            findings.extend(in_expressions(&format!("{name}.{field}"), &state[field], before, &["input", "context"]));
        }
        let ends = Way { part: state, next: "", states: &["input", "context", "result"], name: "End" };
        for way in ways(state).into_iter().chain((state["End"] == true).then_some(ends)) {
            let place = format!("{name}.{}", way.name);
            if !way.next.is_empty() && machine["States"][way.next].is_null() {
                findings.push(format!("{place}: there is no state {}", way.next));
            }
            for field in ["Condition", "Assign", "Output"] {
                findings.extend(in_expressions(&place, &way.part[field], before, way.states));
            }
        }
        let list = |field: &str| state[field].as_array().cloned().unwrap_or_default();
        for choice in list("Choices") {
            if choice["Condition"].as_str().is_none_or(|it| expression(it).is_none()) {
                findings.push(format!("{name}: a Condition is no expression"));
            }
        }
        for field in ["Retry", "Catch"] {
            let rules = list(field);
            for (n, rule) in rules.iter().enumerate() {
                let errors = rule["ErrorEquals"].as_array().cloned().unwrap_or_default();
                let of_all = errors.iter().any(|it| it == "States.ALL");
                if errors.is_empty() || of_all && (errors.len() > 1 || n + 1 < rules.len()) {
                    findings.push(format!("{name}: States.ALL stands alone and last in {field}"));
                }
            }
        }
        findings.extend(list("Retry").iter().flat_map(|retry| in_retry(name, retry)));
    }
    findings
}

fn machine() -> Result<Value> {
    let path = root().join("statemachines/ingest.asl.json");
    serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| format!("{} is not JSON", path.display()))
}

#[test]
fn the_state_machine_has_nothing_that_step_functions_refuses_or_misreads() -> Result<()> {
    assert_eq!(findings(&machine()?), [""; 0]);
    Ok(())
}

#[test]
fn each_mistake_in_a_state_machine_is_found() {
    let correct = json!({
        "StartAt": "Work",
        "States": {
            "Work": {
                "Type": "Task",
                "Resource": "arn:${Partition}:states:::lambda:invoke",
                "Arguments": {"Payload": "{% $merge([$states.input, {'a$': $states.context.Execution.Input.id}]) %}"},
                "Retry": [{"ErrorEquals": ["Throttled"], "IntervalSeconds": 1, "BackoffRate": 2.0, "MaxAttempts": 3,
                           "MaxDelaySeconds": 10, "JitterStrategy": "FULL"}],
                "Catch": [
                    {"ErrorEquals": ["Denied"], "Assign": {"failure": "{% $states.errorOutput.Error %}"}, "Next": "Failed"},
                    {"ErrorEquals": ["States.ALL"], "Assign": {"failure": "other"}, "Next": "Failed"}
                ],
                "Assign": {"at": "{% $states.result.at %}"},
                "Output": {},
                "Next": "Which"
            },
            "Which": {
                "Type": "Choice",
                "Choices": [{"Condition": "{% $at = 1 %}", "Next": "Done"}],
                "Assign": {"failure": "none"},
                "Default": "Failed"
            },
            "Done": {"Type": "Pass", "Output": {"at": "{% $at %}"}, "End": true},
            "Failed": {"Type": "Fail", "Error": "{% $failure %}"}
        }
    });
    assert_eq!(findings(&correct), [""; 0]);
    let mistakes = [
        ("/States/Work/Resource", json!("arn:aws:states:::lambda:invoke"), "partition"),
        ("/States/Work/Arguments/Payload", json!("{% $merg([$states.input]) %}"), "no function $merg"),
        ("/States/Work/Arguments/Payload", json!("{% $eval('1') %}"), "no function $eval"),
        ("/States/Work/Arguments/Payload", json!("{% $merge([$states.input %}"), "do not match"),
        ("/States/Work/Arguments/Payload", json!("{% 'open %}"), "a quote is open"),
        ("/States/Work/Arguments/Payload", json!("{% $at %}"), "$at is not assigned"),
        ("/States/Work/Arguments/Payload", json!("{% $states.result %}"), "$states has no result"),
        ("/States/Work/Arguments/Payload", json!("{% $states.imput %}"), "$states has no imput"),
        ("/States/Work/Output", json!("{% $states.errorOutput %}"), "$states has no errorOutput"),
        ("/States/Work/Assign", json!({"at": 1, "other": "{% $at %}"}), "$at is not assigned"),
        ("/States/Work/Assign", json!({"att": 1}), "$at is not assigned"),
        ("/States/Work/Catch/0/Assign", json!({}), "$failure is not assigned"),
        ("/States/Work/Catch/0/ErrorEquals", json!(["States.ALL"]), "alone and last"),
        ("/States/Work/Catch/1/ErrorEquals", json!(["States.ALL", "Denied"]), "alone and last"),
        ("/States/Work/Retry/0/JitterStrategy", json!("full"), "JitterStrategy"),
        ("/States/Work/Retry/0/BackoffRate", json!(0.5), "BackoffRate"),
        ("/States/Work/Retry/0/IntervalSeconds", json!(0), "whole numbers"),
        ("/States/Work/Retry/0/MaxDelaySeconds", json!(1), "more than IntervalSeconds"),
        ("/States/Work/Next", json!("Whether"), "no state Whether"),
        ("/States/Work/Next", json!("Failed"), "Which: nothing leads there"),
        ("/States/Which/Choices/0/Condition", json!("$at = 1"), "no expression"),
        ("/States/Which/Choices/0/Condition", json!("{% $failure = 1 %}"), "$failure is not assigned"),
        ("/States/Which/Assign", json!({}), "$failure is not assigned"),
        ("/States/Failed/Error", json!("{% $failing %}"), "$failing is not assigned"),
    ];
    for (place, value, expected) in mistakes {
        let mut machine = correct.clone();
        *machine.pointer_mut(place).unwrap() = value.clone();
        let found = findings(&machine);
        assert!(found.iter().any(|it| it.contains(expected)), "{place} = {value}: {found:?}");
    }
    let mut machine = correct;
    machine["States"]["Done"]["ResultPath"] = json!("$");
    assert!(findings(&machine).iter().any(|it| it.contains("JSONPath")));
}
