//! Stacks of tables of a test's own, from the deployment's template: for what would disturb the runs of other tests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudformation::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::Status;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use sluice::Outputs;
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::tables::Run;
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{DEADLINE, Harness, adt, unique, worker_processes};
use tokio::time::{Instant, sleep};

use super::{manifests, messages, open_days, progress, queued_days_ago, read, tabulate, versions, written, written_from};
use crate::contract::root;
use crate::faults::Faults;
use crate::held;
use crate::logs::{self, TABLES};
use crate::stacks::{OwnStack, parameter};

/// A stack of tables, for the time of a test.
struct Own {
    /// The system, with this stack's tables.
    it: Harness,
    _stack: OwnStack,
}

impl Own {
    /// The deployment's stack of tables once more, with another template and with these parameters.
    async fn deploy(shared: &Harness, changed: impl FnOnce(String) -> String, given: &[(&str, &str)]) -> Result<Self> {
        let client = Client::new(shared.aws.config());
        let deployed = client.describe_stacks().stack_name(format!("{}-tables", shared.outputs.stack)).send().await?;
        let deployed = deployed.stacks().first().context("the stack of tables")?;
        let kept = deployed.parameters().iter().filter(|it| !given.iter().any(|(name, _)| it.parameter_key() == Some(name)));
        let parameters = kept.cloned().chain(given.iter().map(|(name, value)| parameter(name, value))).collect();
        let template = std::fs::read_to_string(root().join("infra/tables.yaml"))?;
        let stack = OwnStack::deploy(&shared.aws, changed(template), parameters).await?;
        let mut outputs: Outputs = shared.outputs.clone();
        outputs.stack_outputs.extend(stack.outputs.clone());
        let mut it = Harness::of(Box::leak(Box::new(outputs)))?;
        it.institute.clone_from(&shared.institute);
        Ok(Self { it, _stack: stack })
    }
}

/// The outcomes in the worker's log of a stack of one's own, in order.
async fn outcomes(it: &Harness) -> Result<Vec<String>> {
    let mut lines = logs::lines(it, &logs::group_of(it, logs::TABLES)?, 0, "").await?;
    lines.sort_by_key(|line| line.timestamp);
    Ok(logs::structured(&lines)?.iter().filter_map(|line| line["outcome"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn a_run_that_is_out_of_time_goes_on_where_it_ended() -> Result<()> {
    let (shared, elsewhere) = (Harness::new()?, Harness::new()?);
    let admin = shared.admin().await?;
    // A held message keeps each of these days open.
    let mut days = Vec::new();
    for ago in [6, 5, 4] {
        let stored = queued_days_ago(&shared, ago, &admin.token).await?;
        let late = queued_days_ago(&shared, ago, &elsewhere.admin().await?.token).await?;
        held::until(&shared, &stored, Status::Stored).await?;
        held::until(&shared, &late, Status::Held).await?;
        days.push(stored.received_at.date());
    }
    // So each invocation has time for one day.
    let own =
        Own::deploy(&shared, |it| it.replace(r#"BEGIN_WITHIN_SECONDS: "600""#, r#"BEGIN_WITHIN_SECONDS: "0""#), &[]).await?;
    let it = &own.it;
    assert_eq!(written(it).await?, days.iter().map(|day| (day.clone(), 1)).collect::<Vec<_>>());
    let first = outcomes(it).await?;
    // Each day as a new one, the last of them with the first of the open ones.
    assert!(first.len() >= 5 && first[..first.len() - 1].iter().all(|it| it == "more"), "{first:?}");
    assert_eq!(first.last().map(String::as_str), Some("done"));

    let there = versions(it).await?;
    assert_eq!(written(it).await?, []);
    let (all, open) = (outcomes(it).await?, open_days(it).await?);
    assert_eq!(all.len() - first.len(), open.len(), "{all:?}: each open day is looked at once, {open:?}");
    assert_eq!(versions(it).await?, there);

    let from = days[1].clone();
    assert_eq!(written_from(it, Some(&from)).await?.1, [(from, 1), (days[2].clone(), 1)], "`from` is asked for once");
    assert_eq!(read(it).await?["messages"].len(), 3);
    Ok(())
}

/// Waits until a run has the lease of the institute's progress.
async fn begun(it: &Harness) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !progress(it).await?.is_some_and(|item| item.contains_key("run")) {
        ensure!(Instant::now() < deadline, "no run has begun");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Sets attributes of the institute's progress.
async fn set_progress(it: &Harness, run: &str, until: i64) -> Result<()> {
    let client = aws_sdk_dynamodb::Client::new(it.aws.config());
    let update = client.update_item().table_name(it.outputs.stack_output("TablesProgressTableName")?);
    let update =
        update.key("source", AttributeValue::S(it.institute.clone())).update_expression("SET run = :run, run_until = :until");
    let update = update.expression_attribute_values(":run", AttributeValue::S(run.to_owned()));
    update.expression_attribute_values(":until", AttributeValue::N(until.to_string())).send().await?;
    Ok(())
}

#[tokio::test]
async fn the_lease_of_a_killed_worker_ends_in_minutes() -> Result<()> {
    let shared = Harness::new()?;
    let (id, _) = shared.store(&shared.admin().await?, &adt(&unique(), "DOE")).await?;
    let own = Own::deploy(&shared, |it| it, &[]).await?;
    let (it, faults) = (&own.it, Faults::of(&own.it)?);
    let fault = json!({ "id": it.institute, "action": "s3:GetObjectVersion", "kind": "delay", "seconds": 30,
        "marker": format!("source={}/", it.institute) });
    faults.ask("POST", &fault).await?;
    let kill = async {
        begun(it).await?;
        let mut found = worker_processes(it.outputs)?;
        found.retain(|it| it.worker == TABLES);
        ensure!(!found.is_empty(), "no process of the worker");
        found.iter().try_for_each(|it| kill_process(it.pid, Signal::KILL))?;
        Ok(())
    };
    let (run, killed) = tokio::join!(tabulate(it, None), kill);
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    killed?;
    let run = run?;
    assert_eq!(run.outcome, "failed", "{run:?}");
    assert!(run.message.is_some() && run.next.as_ref().is_some_and(|it| it.contains("AWS ended the worker")), "{run:?}");

    let run: Run = tabulate(it, None).await?;
    assert_eq!((run.outcome.as_str(), run.days), ("running", 0), "{run:?}");
    let until = run.until.context("until")?.as_millis();
    assert!(until - runtime::now().as_millis() <= 240_000, "{run:?}");
    // These minutes are over.
    let item = progress(it).await?.context("progress")?;
    let holder = item["run"].as_s().map_err(|_| anyhow::anyhow!("a text"))?;
    set_progress(it, holder, runtime::now().as_millis() - 1).await?;
    assert_eq!(written(it).await?.iter().map(|day| day.1).sum::<u64>(), 1);
    assert_eq!(messages(it).await?, [id.to_string()]);
    Ok(())
}

#[tokio::test]
async fn a_run_that_was_taken_for_dead_writes_nothing_more() -> Result<()> {
    let it = Harness::new()?;
    it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let faults = Faults::of(&it)?;
    // Longer than its word that it works is fresh.
    let fault = json!({ "id": it.institute, "action": "s3:GetObjectVersion", "kind": "delay", "seconds": 22,
        "marker": format!("source={}/", it.institute) });
    faults.ask("POST", &fault).await?;
    let take = async {
        begun(&it).await?;
        set_progress(&it, "another", runtime::now().as_millis() + 60_000).await
    };
    let (run, taken) = tokio::join!(tabulate(&it, None), take);
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    taken?;
    let run = run?;
    assert_eq!((run.outcome.as_str(), run.days), ("running", 0), "{run:?}");
    assert_eq!(versions(&it).await?, []);
    let item = progress(&it).await?.context("progress")?;
    assert_eq!(item["run"], AttributeValue::S("another".to_owned()), "the other run still has the lease");
    Ok(())
}

#[tokio::test]
async fn the_schedule_brings_the_tables_of_its_institutes_up_to_date() -> Result<()> {
    let (shared, second) = (Harness::new()?, Harness::new()?);
    for it in [&shared, &second] {
        it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    }
    let institutes = format!("{},{}", shared.institute, second.institute);
    let parameters = [("TablesInstitutes", institutes.as_str()), ("TablesSchedule", "rate(1 minute)")];
    let mut own = Own::deploy(&shared, |it| it, &parameters).await?;
    assert_eq!(own.it.outputs.stack_output("TablesScheduled")?, institutes);
    let deadline = Instant::now() + DEADLINE * 3;
    for institute in [&shared.institute, &second.institute] {
        own.it.institute.clone_from(institute);
        while manifests(&own.it).await?.is_empty() {
            ensure!(Instant::now() < deadline, "the schedule has not run");
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(messages(&own.it).await?.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn the_fields_of_a_sites_own_segments_have_the_names_of_the_deployments_schema() -> Result<()> {
    let shared = Harness::new()?;
    let message = format!("{}ZPI|1|x|de^German^L\r", adt(&unique(), "DOE"));
    shared.store(&shared.admin().await?, &message).await?;
    let workspace = Workspace::find().await?;
    let schema = root().join("examples/z-segments/schema.toml");
    let purpose = Purpose::Local(Profile::Dev);
    let packages = package(&workspace, purpose, &workspace.policies(), Some(Path::new(&schema)), &Reporter::silent()).await?;
    let tables = packages.into_iter().find(|it| it.worker.name == "tables").context("the worker")?;
    let put = shared.aws.s3().put_object().bucket(&shared.outputs.artifact_bucket).key(&tables.key);
    put.body(std::fs::read(&tables.zip)?.into()).send().await?;
    let own = Own::deploy(&shared, |it| it, &[("TablesCodeKey", &tables.key)]).await?;
    for (it, expected) in [(&own.it, Some("Preferred Language")), (&shared, None)] {
        assert_eq!(written(it).await?.len(), 1);
        let rows = read(it).await?;
        let of_field = rows["fields"].iter().filter(|row| row["segment"] == json!("ZPI") && row["field"] == json!(3));
        let names: Vec<_> = of_field.filter(|row| row["component"] == json!(1)).map(|row| row["field_name"].as_str()).collect();
        assert_eq!(names, [expected]);
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_can_be_read_again_comes_into_the_files_of_its_closed_day() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (stays, withdrawn) = (queued_days_ago(&it, 5, &admin.token).await?, queued_days_ago(&it, 5, &admin.token).await?);
    for envelope in [&stays, &withdrawn] {
        held::until(&it, envelope, Status::Stored).await?;
    }
    let facts = it.record(&withdrawn.message_id).await?.facts.context("stored")?;
    let tag = async |source: &str| {
        let tag = aws_sdk_s3::types::Tag::builder().key("source").value(source).build()?;
        let tagging = aws_sdk_s3::types::Tagging::builder().tag_set(tag).build()?;
        let put = it.aws.s3().put_object_tagging().bucket(&facts.bucket).key(&facts.key).tagging(tagging);
        put.set_version_id(facts.version_id.clone()).send().await?;
        anyhow::Ok(())
    };
    // An operator withdraws a message by its tag.
    tag("withdrawn").await?;
    let day = stays.received_at.date();
    let (run, days) = written_from(&it, None).await?;
    assert_eq!((days, run.unread), (vec![(day.clone(), 2)], 1));
    assert!(!open_days(&it).await?.contains(&day), "the day is closed");
    assert_eq!(written(&it).await?, []);
    tag(&it.institute).await?;
    let (run, days) = written_from(&it, None).await?;
    assert_eq!((days, run.unread), (vec![(day, 2)], 0));
    assert_eq!(read(&it).await?["raw"].len(), 2);
    assert_eq!(written(&it).await?, []);
    Ok(())
}
