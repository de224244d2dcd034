//! One trace from the POST to the event.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::{MessageId, Timestamp, TraceParent};
use serde_json::{Value, json};
use sluice::operator::trace::{self, Given, Question};
use sluice_tests::template::template;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::contract::root;
use crate::listen::{Listener, event_id};
use crate::{forge, held, logs};

/// A trace as another system would begin it, and its id.
fn sender() -> (String, String) {
    let trace_id = TraceParent::begin(runtime::new_submission_id()).trace_id().to_string();
    (format!("00-{trace_id}-00f067aa0ba902b7-01"), trace_id)
}

async fn post(it: &Harness, caller: &Caller, body: &str, traceparent: &str) -> Result<client::http::Answer> {
    let request = it.api.request(reqwest::Method::POST, "/er7", Some(&caller.token)).header("traceparent", traceparent);
    let request = request.header("content-type", client::http::ER7).header("accept", client::http::JSON);
    client::http::send(request.body(body.to_owned())).await
}

/// Waits until the log of each of these workers has a line with the text, and gives them.
async fn lines(it: &Harness, workers: &[&str], since: i64, text: &str) -> Result<Vec<Value>> {
    let (mut found, began) = (Vec::new(), tokio::time::Instant::now());
    for worker in workers {
        let group = logs::group_of(it, worker)?;
        loop {
            let lines = logs::structured(&logs::lines(it, &group, since, text).await?)?;
            if !lines.is_empty() {
                found.extend(lines);
                break;
            }
            ensure!(began.elapsed() < DEADLINE, "no line of {worker} has {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(found)
}

/// The `traceparent` of an event or answer: of this trace, and not the sender's own place in it.
fn is_of(traceparent: &str, sender: &str, trace_id: &str) -> bool {
    let is_valid = traceparent.parse::<TraceParent>().is_ok_and(|it| it.to_string() == traceparent);
    is_valid && traceparent.starts_with(&format!("00-{trace_id}-")) && traceparent.ends_with("-01") && traceparent != sender
}

#[tokio::test]
async fn one_trace_id_leads_from_the_post_to_the_event() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, (traceparent, trace_id)) = (logs::now(), it.admin().await?, sender());
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let message = adt(&unique(), "DOE");
    let answer = post(&it, &admin, &message, &traceparent).await?;
    assert_eq!(answer.status, 202);
    let ours = answer.headers["traceparent"].to_str()?.to_owned();
    assert!(is_of(&ours, &traceparent, &trace_id), "{ours}");
    it.api.final_status(&answer.text("messageId"), &admin.token, DEADLINE).await?;

    let heard = listener.hear(1).await?;
    assert_eq!(heard[0].event["traceparent"], ours, "a subscriber goes on where the POST was");
    for line in lines(&it, &["Submit", "Dispatch", "Deduplicate", "Parse", "Store", "Publish"], since, &trace_id).await? {
        let of_messages = line["messages"].as_array().into_iter().flatten().map(|message| &message["traceId"]);
        let named: BTreeSet<_> = of_messages.chain([&line["traceId"]]).filter_map(Value::as_str).collect();
        assert!(named.contains(trace_id.as_str()), "{line}");
        assert!(line["worker"] == "dispatch" || named.len() == 1, "{line}");
    }

    // The problem document names it as well, and a POST without a trace begins one of its own.
    let duplicate = post(&it, &admin, &message, &traceparent).await?;
    assert_eq!((duplicate.status.as_u16(), duplicate.text("traceId")), (409, trace_id.clone()));
    let other = it.submit(&admin, &message).await?;
    assert_eq!(other.status, 409);
    let new: TraceParent = other.headers["traceparent"].to_str()?.parse()?;
    assert_eq!(new.trace_id().to_string(), other.text("traceId"));
    assert_ne!(other.text("traceId"), trace_id);
    Ok(())
}

#[tokio::test]
async fn a_held_message_keeps_its_trace_when_it_is_released() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, (traceparent, trace_id)) = (logs::now(), it.admin().await?, sender());
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let mut envelope =
        forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &forge::unsigned_token(&it, forge::EXPIRED)).await?;
    envelope.traceparent = Some(traceparent.parse()?);
    forge::enqueue(&it, &envelope).await?;
    let message_id = envelope.message_id.to_string();
    let held = listener.hear_id(&event_id(envelope.submission_id, &message_id, "held")).await?;
    assert_eq!(held.event["traceparent"], traceparent);

    let released = it.api.release(&message_id, &admin.token).await?;
    assert_eq!(released.status, 202);
    let own: TraceParent = released.headers["traceparent"].to_str()?.parse()?;
    assert_ne!(own.trace_id().to_string(), trace_id, "the release is a request of its own");
    for kind in ["released", "stored"] {
        let heard = listener.hear_id(&event_id(released.text("submissionId"), &message_id, kind)).await?;
        assert_eq!(heard.event["traceparent"], traceparent, "{kind}");
    }
    // The line of the release has both: its own trace, and that of the message.
    for line in lines(&it, &["Release"], since, &trace_id).await? {
        assert_eq!(line["traceId"], own.trace_id().to_string());
        assert_eq!(line["messages"][0]["traceId"], trace_id);
    }
    lines(&it, &["Hold", "Store", "Publish"], since, &trace_id).await?;
    Ok(())
}

#[tokio::test]
async fn an_envelope_of_an_earlier_build_is_stored_without_a_trace() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let envelope = forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?;
    assert!(serde_json::to_value(&envelope)?.get("traceparent").is_none());
    forge::enqueue(&it, &envelope).await?;
    let id = event_id(envelope.submission_id, envelope.message_id.as_str(), "stored");
    assert_eq!(listener.hear_id(&id).await?.event.get("traceparent"), None);
    Ok(())
}

#[tokio::test]
async fn a_malformed_traceparent_begins_a_new_trace() -> Result<()> {
    let it = Harness::new()?;
    let (admin, (traceparent, trace_id)) = (it.admin().await?, sender());
    let malformed = [traceparent.to_uppercase(), format!("{traceparent}-x"), "00-DOE^JANE-01".to_owned(), "x".repeat(2000)];
    let mut seen = BTreeSet::from([trace_id]);
    for bad in malformed {
        let answer = post(&it, &admin, &adt(&unique(), "DOE"), &bad).await?;
        assert_eq!(answer.status, 202, "{bad}");
        let new: TraceParent = answer.headers["traceparent"].to_str()?.parse()?;
        assert!(seen.insert(new.trace_id().to_string()), "{bad}");
    }
    Ok(())
}

/// The path of a message as an operator sees it, once it has an event of this kind, and the lines of so many executions.
async fn path_to(it: &Harness, given: Given, since: i64, kind: &str, executions: usize) -> Result<trace::Path> {
    let from = Timestamp::from_millis(since).context("a time")?;
    let (question, began) = (Question { given, source: Some(it.institute.parse()?), from }, tokio::time::Instant::now());
    loop {
        match trace::path(&it.aws, it.outputs, &question).await {
            Ok(path) if path.executions.len() == executions && path.events.iter().any(|event| event.id.ends_with(kind)) => {
                return Ok(path);
            }
            other => ensure!(began.elapsed() < DEADLINE, "no event {kind}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Worker and outcome of each step, by time.
fn steps(path: &trace::Path) -> Vec<(&str, &str)> {
    path.steps.iter().map(|step| (step.worker.as_str(), step.outcome.as_str())).collect()
}

#[tokio::test]
async fn an_operator_sees_the_whole_path_of_a_message() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, (traceparent, trace_id)) = (logs::now(), it.admin().await?, sender());
    let message = adt(&unique(), "DOE");
    let answer = post(&it, &admin, &message, &traceparent).await?;
    let (message_id, submission_id) = (answer.text("messageId"), answer.text("submissionId"));
    it.api.final_status(&message_id, &admin.token, DEADLINE).await?;

    // By whatever an operator has of it.
    let names = [
        Given::Trace(trace_id.parse()?),
        Given::Submission(submission_id.parse()?),
        Given::Message(message_id[..8].to_owned()),
        Given::Message(message_id.clone()),
    ];
    for given in names {
        let began = tokio::time::Instant::now();
        // The lines of the workers come to the log a moment after what they tell of.
        let path = loop {
            let path = path_to(&it, given.clone(), since, "stored", 1).await?;
            let is_there = |worker: &str| path.steps.iter().any(|step| step.worker == worker);
            if ["deduplicate", "dispatch", "parse", "publish", "store", "submit"].into_iter().all(is_there)
                || began.elapsed() > DEADLINE
            {
                break path;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(path.message_id.as_ref().map(MessageId::as_str), Some(message_id.as_str()), "{given:?}");
        let mut found = steps(&path);
        found.sort_unstable();
        let of_pipeline =
            ["deduplicate new", "dispatch stored", "parse parsed", "publish stored", "store stored", "submit queued"];
        let found: Vec<String> =
            found.iter().filter(|it| it.0 != "status" && it.0 != "authorize").map(|it| format!("{} {}", it.0, it.1)).collect();
        assert_eq!(found, of_pipeline, "{given:?}");
        assert!(path.steps.iter().all(|step| step.took_ms > 0.0 && step.took_ms < 60_000.0), "{:?}", path.steps);
        let execution = format!("{submission_id}-{}-0-1", &message_id[..12]);
        assert_eq!((path.executions, path.record.context("a record")?["status"].clone()), (vec![execution], json!("stored")));
        assert_eq!(
            path.events.iter().map(|it| it.id.clone()).collect::<Vec<_>>(),
            [event_id(&submission_id, &message_id, "stored")]
        );
        let store = path.steps.iter().find(|step| step.worker == "store").context("a step")?;
        assert!(store.aws_requests.as_array().is_some_and(|it| !it.is_empty()), "{store:?}");
    }

    // The duplicate belongs to it, as another POST.
    let duplicate = it.submit(&admin, &message).await?;
    assert_eq!(duplicate.status, 409);
    let began = tokio::time::Instant::now();
    loop {
        let path = path_to(&it, Given::Message(message_id.clone()), since, "stored", 1).await?;
        if steps(&path).contains(&("submit", "Duplicate")) {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "{:?}", steps(&path));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The id that stands in the problem document leads to the line of the refusal.
#[tokio::test]
async fn an_operator_finds_a_refused_request_by_its_trace() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, (traceparent, trace_id)) = (logs::now(), it.admin().await?, sender());
    let answer = post(&it, &admin, "\u{b}\r\n\u{1c}\r", &traceparent).await?;
    assert_eq!((answer.status.as_u16(), answer.text("traceId")), (400, trace_id.clone()));
    lines(&it, &["Submit"], since, &trace_id).await?;
    let from = Timestamp::from_millis(since).context("a time")?;
    let question = Question { given: Given::Trace(trace_id.parse()?), source: None, from };
    let path = trace::path(&it.aws, it.outputs, &question).await?;
    let refusal = path.steps.iter().find(|step| step.worker == "submit").context("a line of submit")?;
    assert_eq!((path.message_id, refusal.http_status.as_deref()), (None, Some("400")));
    assert_eq!(refusal.trace_id.as_deref(), Some(trace_id.as_str()));
    Ok(())
}

#[tokio::test]
async fn the_path_of_a_released_message_has_both_ways() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin) = (logs::now(), it.admin().await?);
    let envelope = held::expired(&it).await?;
    let id = || Given::Message(envelope.message_id.to_string());
    let path = path_to(&it, id(), since, "held", 1).await?;
    let held = path.steps.iter().find(|step| step.worker == "hold").context("a step")?;
    assert_eq!((held.reason.as_deref(), held.submission_id.clone()), (Some("expired"), Some(envelope.submission_id.to_string())));
    assert!(path.sentence.starts_with("held: expired (TokenExpired), submitted once"), "{}", path.sentence);

    let released = it.api.release(envelope.message_id.as_str(), &admin.token).await?;
    assert_eq!(released.status, 202);
    let path = path_to(&it, id(), since, "stored", 2).await?;
    let kinds: Vec<_> = path.events.iter().filter_map(|event| event.id.rsplit('.').next()).collect();
    assert_eq!(kinds, ["held", "released", "stored"]);
    assert!(steps(&path).contains(&("release", "released")), "{:?}", steps(&path));
    Ok(())
}

#[tokio::test]
async fn an_id_that_fits_several_messages_names_them_to_the_operator() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin) = (logs::now(), it.admin().await?);
    let bodies = [adt(&unique(), "DOE"), adt(&unique(), "DOE")];
    let answer = it.submit(&admin, &bodies.concat()).await?;
    assert_eq!(answer.status, 202);
    let ids: Vec<String> = answer.json()["messages"]
        .as_array()
        .context("messages")?
        .iter()
        .filter_map(|it| it["messageId"].as_str().map(str::to_owned))
        .collect();
    for id in &ids {
        let path = path_to(&it, Given::Message(id.clone()), since, "stored", 1).await?;
        assert!(steps(&path).contains(&("submit", "batch")), "{:?}", steps(&path));
    }
    let question = Question {
        given: Given::Submission(answer.text("submissionId").parse()?),
        source: None,
        from: Timestamp::from_millis(since).context("a time")?,
    };
    let refusal = trace::path(&it.aws, it.outputs, &question).await.unwrap_err().to_string();
    assert!(ids.iter().all(|id| refusal.contains(id)), "{refusal}");
    let unknown = Question { given: Given::Message("0".repeat(64)), ..question };
    assert!(trace::path(&it.aws, it.outputs, &unknown).await.unwrap_err().to_string().contains("--from"));
    Ok(())
}

/// The statements of a role that name X-Ray, each with whether it depends on the parameter.
fn of_x_ray(role: &Value) -> Vec<(bool, BTreeSet<String>)> {
    let statements = role["Properties"]["Policies"].as_array().into_iter().flatten();
    let statements = statements.filter_map(|policy| policy["PolicyDocument"]["Statement"].as_array()).flatten();
    let found = statements.filter_map(|statement| {
        let chosen = statement.pointer("/Fn::If/1");
        let is_conditional = statement.pointer("/Fn::If/0") == Some(&json!("IsTraced"));
        let actions = chosen.unwrap_or(statement)["Action"].clone();
        let actions: Vec<String> = serde_json::from_value(actions).unwrap_or_default();
        let actions: BTreeSet<String> = actions.into_iter().filter(|action| action.starts_with("xray:")).collect();
        (!actions.is_empty()).then_some((is_conditional, actions))
    });
    found.collect()
}

#[test]
fn x_ray_is_allowed_only_to_roles_whose_resource_is_traced() -> Result<()> {
    let write = BTreeSet::from(["xray:PutTraceSegments", "xray:PutTelemetryRecords"].map(str::to_owned));
    let sample = BTreeSet::from(["xray:GetSamplingRules", "xray:GetSamplingTargets"].map(str::to_owned));
    let mut traced = 0;
    for stack in ["core", "identity", "pipeline", "api", "tables"] {
        let template = template(&root().join(format!("infra/{stack}.yaml")))?;
        let resources = template["Resources"].as_object().context("resources")?;
        let role_of = |it: &Value, property: &str| {
            let role = it["Properties"][property]["Fn::GetAtt"].clone();
            role.as_str().map_or_else(|| role[0].as_str().unwrap_or_default().to_owned(), |it| it.replace(".Arn", ""))
        };
        let mut expected: Vec<(String, BTreeSet<String>)> = Vec::new();
        for (name, resource) in resources {
            match resource["Type"].as_str() {
                Some("AWS::Lambda::Function") => {
                    assert_eq!(resource["Properties"]["TracingConfig"]["Mode"], json!({ "Ref": "Tracing" }), "{name}");
                    expected.push((role_of(resource, "Role"), write.clone()));
                }
                Some("AWS::StepFunctions::StateMachine") => {
                    let is_on = &resource["Properties"]["TracingConfiguration"]["Enabled"];
                    assert_eq!(*is_on, json!({ "Fn::If": ["IsTraced", true, false] }), "{name}");
                    expected.push((role_of(resource, "RoleArn"), write.union(&sample).cloned().collect()));
                }
                _ => {}
            }
        }
        for (name, role) in resources.iter().filter(|(_, it)| it["Type"] == "AWS::IAM::Role") {
            let wanted: Vec<_> =
                expected.iter().filter(|(it, _)| it == name).map(|(_, actions)| (true, actions.clone())).collect();
            assert_eq!(of_x_ray(role), wanted, "{stack}: {name}");
        }
        traced += expected.len();
    }
    ensure!(traced > 10, "only {traced} functions and state machines were found");
    Ok(())
}
