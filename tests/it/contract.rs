//! What two files must agree on, compared: the state machine and the code, the templates and the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runtime::StepError;
use serde_json::Value;

use sluice::operator::package::Worker;
use sluice_tests::template::template;

pub(crate) fn root() -> PathBuf {
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

/// The template of a stack.
fn stack(name: &str) -> Result<Value> {
    template(&root().join(format!("infra/{name}.yaml")))
}

/// The functions of all workers, by name of the worker.
fn functions() -> Result<BTreeMap<String, Value>> {
    let stacks = [stack("pipeline")?, stack("identity")?, stack("api")?, stack("tables")?];
    let functions = Worker::all(&root())?.into_iter().map(|worker| {
        let name = format!("{}Function", worker.logical_name());
        let found = stacks.iter().map(|stack| &stack["Resources"][&name]["Properties"]).find(|it| it.is_object());
        Ok((worker.name, found.with_context(|| format!("no template has {name}"))?.clone()))
    });
    functions.collect()
}

/// A number, which a variable of a function holds as a text.
fn number(value: &Value) -> Result<u64> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or(text).with_context(|| format!("{value} is a number"))
}

#[test]
fn timeouts_contain_each_other() -> Result<()> {
    let (pipeline, functions) = (stack("pipeline")?, functions()?);
    let definition: Value = serde_json::from_str(&read("statemachines/ingest.asl.json")?)?;
    let execution = definition["TimeoutSeconds"].as_u64().context("TimeoutSeconds")?;
    let timeout = |worker: &str| number(&functions[worker]["Timeout"]);
    let variable = |worker: &str, name: &str| number(&functions[worker]["Environment"]["Variables"][name]);
    let (dispatch, queue) = (timeout("dispatch")?, &pipeline["Resources"]["Queue"]["Properties"]);
    assert!(execution < dispatch, "dispatch outlives the execution it waits for");
    assert!(execution < variable("deduplicate", "LEASE_SECONDS")?, "the lease outlives the longest execution");
    assert!(number(&queue["VisibilityTimeout"])? >= 6 * dispatch, "AWS asks for six times the function's timeout");
    assert_eq!(number(&queue["RedrivePolicy"]["maxReceiveCount"])?, variable("dispatch", "MAX_RECEIVES")?);
    for step in ["deduplicate", "parse", "store", "hold", "publish"] {
        assert!(timeout(step)? < 25, "{step} ends before its task's timeout");
    }
    for worker in ["submit", "fetch", "status", "release"] {
        assert!(timeout(worker)? < 30, "API Gateway waits for 30 seconds");
    }
    assert!(variable("tables", "BEGIN_WITHIN_SECONDS")? + 300 <= timeout("tables")?, "the last day has five minutes");
    assert!(timeout("enroll")? <= 5, "Cognito waits for 5 seconds");
    assert!(timeout("authorize")? < 10, "API Gateway waits for 10 seconds");
    Ok(())
}

#[test]
fn an_audit_knows_how_long_the_queue_keeps_a_message() -> Result<()> {
    let kept = number(&stack("pipeline")?["Resources"]["Queue"]["Properties"]["MessageRetentionPeriod"])?;
    assert_eq!(kept, sluice::operator::audit::QUEUE_RETENTION.as_secs());
    Ok(())
}

#[test]
fn every_variable_that_a_worker_reads_is_set_and_no_other() -> Result<()> {
    for (worker, function) in functions()? {
        let main = read(&format!("workers/{worker}/src/main.rs"))?;
        let reads = ["required_var(\"", "var_parsed(\""].iter().flat_map(|call| main.split(call).skip(1));
        let reads: BTreeSet<&str> = reads.filter_map(|rest| rest.split('"').next()).collect();
        let sets = function["Environment"]["Variables"].as_object().context("its variables")?;
        assert_eq!(reads, sets.keys().map(String::as_str).collect(), "{worker}");
    }
    Ok(())
}

#[test]
fn domain_has_no_clock_and_no_randomness() -> Result<()> {
    let text = crate::documents::rust(&root().join("crates/domain/src"))?;
    for call in ["now()", "Instant", "generate()", "rand::"] {
        let calls = text.lines().filter(|line| line.contains(call) && !line.trim_start().starts_with("//"));
        assert_eq!(calls.collect::<Vec<_>>(), [""; 0], "`{call}`");
    }
    Ok(())
}

#[test]
fn the_output_says_which_issuers_the_authorizer_takes() -> Result<()> {
    let api = stack("api")?;
    let variable = &functions()?["authorize"]["Environment"]["Variables"]["ISSUERS"]["Fn::Sub"];
    assert!(variable.as_str().context("issuers")?.len() > 100, "{variable}");
    let outputs = api["Outputs"].as_object().context("outputs")?;
    let same: Vec<_> = outputs.values().filter(|it| it["Value"]["Fn::Sub"] == *variable).collect();
    assert_eq!(same.len(), 1, "one output has the issuers as the authorizer has them");
    Ok(())
}

/// The functions that every message needs.
#[test]
fn four_functions_may_have_concurrency_of_their_own_each_by_its_parameter() -> Result<()> {
    let names = [("api", "Authorize"), ("pipeline", "Submit"), ("pipeline", "Dispatch"), ("pipeline", "Store")];
    for (name, worker) in names {
        let stack = stack(name)?;
        let (parameter, condition) = (format!("{worker}ReservedConcurrency"), format!("Reserves{worker}"));
        let reference = serde_json::json!({ "Ref": parameter });
        let function = &stack["Resources"][format!("{worker}Function")]["Properties"];
        let reserved = serde_json::json!({ "Fn::If": [condition, reference, { "Ref": "AWS::NoValue" }] });
        assert_eq!(function["ReservedConcurrentExecutions"], reserved, "{worker}");
        let not_zero = serde_json::json!({ "Fn::Not": [{ "Fn::Equals": [reference, "0"] }] });
        assert_eq!(stack["Conditions"][&condition], not_zero, "{worker}");
        let declared = &stack["Parameters"][&parameter];
        assert_eq!((&declared["Type"], &declared["Default"], &declared["MinValue"]), (&"Number".into(), &0.into(), &0.into()));
    }
    let reserving = functions()?.into_iter().filter(|(_, function)| !function["ReservedConcurrentExecutions"].is_null());
    let reserving: BTreeSet<String> = reserving.map(|(worker, _)| worker).collect();
    assert_eq!(reserving, names.map(|(_, worker)| worker.to_lowercase()).into());
    Ok(())
}

#[test]
fn the_held_bucket_keeps_a_message_as_long_as_its_record_says() -> Result<()> {
    let core = stack("core")?;
    let days = serde_json::json!({ "Ref": "HeldDays" });
    let rules = core["Resources"]["HeldBucket"]["Properties"]["LifecycleConfiguration"]["Rules"].as_array().context("rules")?;
    let [rule] = rules.as_slice() else { panic!("one rule: {rules:?}") };
    assert_eq!(
        (&rule["Status"], &rule["ExpirationInDays"], &rule["NoncurrentVersionExpiration"]["NoncurrentDays"]),
        (&"Enabled".into(), &days, &days)
    );
    assert_eq!(core["Parameters"]["HeldDays"]["Default"], 90);
    // `hold` writes the end into the record, from the parameter that the output of the same name fills.
    assert_eq!(core["Outputs"]["HeldDays"]["Value"], days);
    assert_eq!(functions()?["hold"]["Environment"]["Variables"]["HELD_DAYS"], days);
    Ok(())
}

#[test]
fn an_alarm_hears_of_throttled_invocations_of_every_function() -> Result<()> {
    let mut heard = BTreeSet::new();
    for name in ["pipeline", "identity", "api", "tables"] {
        for alarm in of_type(&stack(name)?, "AWS::CloudWatch::Alarm") {
            if alarm["MetricName"] == "Throttles" {
                heard.extend(alarm["Dimensions"][0]["Value"]["Ref"].as_str().map(str::to_owned));
            }
        }
    }
    let workers = Worker::all(&root())?;
    let functions: BTreeSet<_> = workers.iter().map(|worker| format!("{}Function", worker.logical_name())).collect();
    assert_eq!(heard, functions);
    Ok(())
}

#[test]
fn an_alarm_hears_of_messages_held_for_each_reason_and_of_what_the_deployment_refuses() -> Result<()> {
    let pipeline = stack("pipeline")?;
    let metrics: BTreeMap<_, _> = of_type(&pipeline, "AWS::Logs::MetricFilter")
        .map(|it| (it["LogGroupName"]["Ref"].as_str().unwrap(), (&it["FilterPattern"], &it["MetricTransformations"][0])))
        .collect();
    // What the line of `hold` counts in the embedded metric format (`metrics`), and no metric filter a second time.
    assert!(!metrics.contains_key("HoldLogGroup"));
    let held = serde_json::json!({ "MetricName": "Held", "MetricNamespace": "Sluice" });
    let (pattern, refused) = metrics["DispatchLogGroup"];
    assert_eq!(pattern, "{ $.failure = \"deployment\" }");
    let alarms = |metric: &Value| -> BTreeSet<String> {
        let alarms = of_type(&pipeline, "AWS::CloudWatch::Alarm").filter(|it| it["MetricName"] == metric["MetricName"]);
        let alarms = alarms.filter(|it| it["Namespace"] == metric["MetricNamespace"]);
        alarms
            .map(|it| {
                let mut dimensions = it["Dimensions"].as_array().into_iter().flatten();
                let names: Vec<_> = dimensions.clone().map(|it| it["Name"].as_str().unwrap()).collect();
                assert!(names.is_empty() || names == ["stage", "reason"], "{names:?}");
                dimensions.next_back().and_then(|it| it["Value"].as_str()).unwrap_or("all").to_owned()
            })
            .collect()
    };
    assert_eq!(alarms(&held), domain::HoldReason::ALL.map(|it| it.to_string()).into());
    assert_eq!(alarms(refused), ["all".to_owned()].into());
    Ok(())
}

/// The resources of a template that are of this type.
fn of_type<'a>(template: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let resources = template["Resources"].as_object().into_iter().flat_map(|it| it.values());
    resources.filter(move |it| it["Type"] == kind).map(|it| &it["Properties"])
}

#[test]
fn no_answer_of_the_authorizer_is_remembered_for_another_request() -> Result<()> {
    let api = stack("api")?;
    let custom = of_type(&api, "AWS::ApiGatewayV2::Authorizer").filter(|it| it["AuthorizerType"] == "REQUEST");
    let sources: Vec<_> = custom.map(|it| &it["IdentitySource"]).collect();
    // The token, the route, and what the path names: all that a policy can be asked about.
    assert_eq!(sources, [&serde_json::json!(["$request.header.Authorization", "$context.routeKey", "$context.path"])]);
    Ok(())
}

#[test]
fn the_policies_know_every_route_and_provider_of_the_api() -> Result<()> {
    let policies = policies::Policies::load(&root().join("workers/authorize/policies"))?;
    let api = stack("api")?;
    let routes = of_type(&api, "AWS::ApiGatewayV2::Route").filter(|it| it["AuthorizationType"] != "AWS_IAM");
    let routes = routes.filter_map(|it| it["RouteKey"].as_str());
    assert_eq!(policies.routes().collect::<BTreeSet<_>>(), routes.collect());
    let described: BTreeSet<String> = policies.token_uses().into_keys().collect();
    assert_eq!(described, ["institutes", "lake-staff", "partners"].map(str::to_owned).into());
    let template = read("infra/api.yaml")?;
    for provider in described {
        assert!(template.contains(&format!("\"{provider}\":{{\"issuer\"")), "{provider}");
    }
    Ok(())
}

#[test]
fn no_answer_of_the_authorizer_outlives_its_token() -> Result<()> {
    let (api, identity) = (stack("api")?, stack("identity")?);
    // API Gateway remembers an answer for as long as the worker wants a token to live on.
    let seconds = serde_json::json!({ "Ref": "AuthorizerResultTtlSeconds" });
    let custom = of_type(&api, "AWS::ApiGatewayV2::Authorizer").filter(|it| it["AuthorizerType"] == "REQUEST");
    assert_eq!(custom.map(|it| &it["AuthorizerResultTtlInSeconds"]).collect::<Vec<_>>(), [&seconds]);
    assert_eq!(functions()?["authorize"]["Environment"]["Variables"]["RESULT_TTL_SECONDS"], seconds);
    let longest = number(&api["Parameters"]["AuthorizerResultTtlSeconds"]["MaxValue"])?;
    let shortest = number(&identity["Parameters"]["IdTokenMinutes"]["MinValue"])?;
    assert!(longest + 10 < 60 * shortest, "the shortest token would never be taken");
    Ok(())
}

#[test]
fn the_template_takes_no_larger_message_than_the_command_sends() -> Result<()> {
    let largest = number(&stack("pipeline")?["Parameters"]["MaximumMessageBytes"]["MaxValue"])?;
    assert_eq!(largest, domain::MAX_MESSAGE_BYTES as u64);
    let largest = number(&stack("pipeline")?["Parameters"]["MaximumUploadBytes"]["MaxValue"])?;
    assert_eq!(largest, domain::MAX_UPLOAD_BYTES as u64);
    Ok(())
}

/// The dashboard asks for the metrics that OPERATIONS lists, by dimensions that they have.
#[test]
fn the_dashboard_shows_the_metrics_that_there_are() -> Result<()> {
    let page = read("docs/OPERATIONS.md")?;
    let section = page.split("\n## Numbers\n").nth(1).and_then(|it| it.split("\n## ").next()).context("a section")?;
    let mut listed = BTreeSet::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (names, rest) = row.split_once(" | ").context("a row")?;
        let dimensions = rest.split(" | ").next().context("dimensions")?;
        listed.extend(names.split(", ").map(|name| (name.trim_matches('`').to_owned(), dimensions.to_owned())));
    }
    let pipeline = stack("pipeline")?;
    let dashboard = of_type(&pipeline, "AWS::CloudWatch::Dashboard").next().context("a dashboard")?;
    let body = dashboard["DashboardBody"]["Fn::Sub"][0].as_str().context("a body")?;
    let body: Value = serde_json::from_str(body)?;
    let mut shown = BTreeSet::new();
    for widget in body["widgets"].as_array().context("widgets")? {
        for metric in widget["properties"]["metrics"].as_array().context("metrics")? {
            match metric[0]["expression"].as_str() {
                Some(search) => {
                    let name = search.split("MetricName=\"").nth(1).and_then(|it| it.split('"').next()).context("a metric")?;
                    let set = search.split("{Sluice,").nth(1).and_then(|it| it.split('}').next()).context("dimensions")?;
                    let has = |all: &str| set.split(',').all(|one| all.split(", ").any(|it| it == one));
                    assert!(listed.iter().any(|(it, all)| it == name && has(all)), "{search}");
                    shown.insert(name.to_owned());
                }
                None if metric[0] == "Sluice" => drop(shown.insert(metric[1].as_str().context("a metric")?.to_owned())),
                None => {}
            }
        }
    }
    let names: BTreeSet<String> = listed.into_iter().map(|(name, _)| name).collect();
    assert!(shown.is_subset(&names), "{shown:?} {names:?}");
    for name in ["Accepted", "Stored", "Held", "Rejected", "TimeToStored", "Error"] {
        assert!(shown.contains(name), "{name}");
    }
    Ok(())
}
