//! An update that an alarm rolls back, while messages come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::StackStatus;
use domain::Status;
use sluice::Outputs;
use sluice::operator::deploy::{Change, Options, Sources, With, deploy, destroy};
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};
use tokio::time::{Instant, sleep};

use crate::attacks::call::Call;
use crate::{forge, logs};

/// Sets the state of an alarm by hand. The local AWS has no data that would.
async fn set_off(it: &Harness, alarm: &str) -> Result<()> {
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let root = it.outputs.root_key.as_ref().context("a root key")?.credentials();
    let fields = [("AlarmName", alarm), ("StateValue", "ALARM"), ("StateReason", "a test")];
    let call = Call::form("monitoring", "2010-08-01", "SetAlarmState", &fields);
    let answer = call.send(endpoint, &it.outputs.region, &root).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    Ok(())
}

/// Posts a message after the other until told to end, each until it is accepted: the local AWS kills a function at work when it updates
/// it, which AWS does not. Gives how many were accepted.
async fn post(it: &Harness, caller: &Caller, ended: &AtomicBool) -> Result<usize> {
    let mut accepted = 0;
    while !ended.load(Ordering::SeqCst) {
        let message = adt(&unique(), "DOE");
        loop {
            let answer = it.submit(caller, &message).await?;
            match answer.status.as_u16() {
                202 | 409 => break,
                500..=599 => sleep(Duration::from_millis(100)).await,
                status => bail!("{status}: {}", answer.json()),
            }
        }
        accepted += 1;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(accepted)
}

/// Posts as many messages at once that `dispatch` gets several in an invocation, and one that cannot be stored. Gives how many can.
///
/// The shared system has a `DispatchBatchSize` of 1; this one has the template's.
async fn whole_batches(it: &Harness) -> Result<usize> {
    const MESSAGES: usize = 40;
    let admin = it.admin().await?;
    let messages: Vec<String> = (0..MESSAGES).map(|_| adt(&unique(), "DOE")).collect();
    it.submit_batch(&admin, &messages, DEADLINE).await?;
    let failing = forge::envelope(it, &it.institute, "MSH|", &"no token".into()).await?;
    forge::enqueue(it, &failing).await?;

    let (group, began) = (logs::group_of(it, "Dispatch")?, Instant::now());
    loop {
        let lines = logs::structured(&logs::lines(it, &group, 0, "").await?)?;
        let parts = lines.iter().filter_map(|line| line["messages"].as_array());
        let most = parts.max_by_key(|parts| parts.len()).context("no batch")?;
        let is_held = it.record(&failing.message_id).await?.status == Status::Held;
        if most.len() > 1 && is_held {
            return Ok(MESSAGES);
        }
        ensure!(began.elapsed() < DEADLINE, "at most {} messages in an invocation; held: {is_held}", most.len());
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_rolls_an_update_back_and_messages_pass_meanwhile() -> Result<()> {
    let (shared, reporter) = (Harness::new()?, Reporter::silent());
    let workspace = Workspace::find().await?;
    let packages = package(&workspace, Purpose::Local(Profile::Dev), &workspace.policies(), None, &reporter).await?;
    let sources = Sources::read(&workspace, packages)?;
    let parameters = BTreeMap::from([("PasswordSignIn".to_owned(), "true".to_owned())]);
    let plain = Options { stack: format!("brake{}", std::process::id()), parameters, ..Options::default() };
    let made = deploy(&shared.aws, &sources, &plain, &reporter).await?;
    let outputs = Outputs { root_key: shared.outputs.root_key.clone(), ..made.outputs };
    let it = Arc::new(Harness::of(Box::leak(Box::new(outputs)))?);
    let admin = it.admin().await?;

    let ended = Arc::new(AtomicBool::new(false));
    let posting = {
        let (it, ended) = (Arc::clone(&it), Arc::clone(&ended));
        tokio::spawn(async move { post(&it, &admin, &ended).await })
    };
    // A variable of `submit`.
    let mut changed = Options { monitor_minutes: 30, ..plain.clone() };
    changed.parameters.insert("InstituteMessagesBurst".to_owned(), "19999".to_owned());
    let pipeline = format!("{}-pipeline", plain.stack);
    let stacks = Client::new(it.aws.config());
    let alarm = async {
        let status = async || {
            let answer = stacks.describe_stacks().stack_name(&pipeline).send().await?;
            anyhow::Ok(answer.stacks().first().and_then(|it| it.stack_status().cloned()))
        };
        let began = Instant::now();
        while status().await? != Some(StackStatus::UpdateInProgress) {
            ensure!(began.elapsed() < DEADLINE * 2, "no update has begun");
            sleep(it.aws.poll_interval()).await;
        }
        let alarm = it.outputs.stack_outputs.get("SubmitErrorsAlarmName").context("the alarm")?;
        set_off(&it, alarm).await
    };
    let (updated, set_off) = tokio::join!(deploy(&it.aws, &sources, &changed, &reporter), alarm);
    set_off?;
    let error = updated.err().context("an update under an alarm")?.to_string();
    assert!(error.contains(&format!("the stack `{pipeline}` ended as UPDATE_ROLLBACK_COMPLETE")), "{error}");
    assert!(error.contains("PipelineRollbackAlarm") && error.contains("--monitor 0"), "{error}");
    let again = deploy(&it.aws, &sources, &plain, &reporter).await?;
    assert!(again.changes.iter().all(|(_, change)| *change == Change::Unchanged), "{:?}", again.changes);

    // The alarm is still off; the repair ignores it.
    let repair = Options { monitor_minutes: 0, ..changed };
    let repaired = deploy(&it.aws, &sources, &repair, &reporter).await?;
    assert_eq!(repaired.changes.iter().filter(|(_, change)| *change == Change::Updated).count(), 1);

    ended.store(true, Ordering::SeqCst);
    let mut accepted = posting.await??;
    accepted += whole_batches(&it).await?;
    let began = Instant::now();
    while it.all_records().await?.iter().filter(|record| record.status == Status::Stored).count() < accepted {
        ensure!(began.elapsed() < DEADLINE, "{accepted} messages were accepted, and not all are stored");
        sleep(Duration::from_millis(200)).await;
    }
    destroy(&it.aws, &plain.stack, With { users: true, data: true }, &reporter).await?;
    Ok(())
}
