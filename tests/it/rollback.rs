//! An update that an alarm rolls back, while messages come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::StackStatus;
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::Status;
use serde_json::Value;
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

/// Queues good and bad entries together until an invocation of `dispatch` has one of each: the good ones are stored, and the bad ones
/// become dead letters. Gives how many good ones there were.
///
/// The shared system has a `DispatchBatchSize` of 1; this one has the template's.
async fn mixed_batches(it: &Harness) -> Result<usize> {
    let (admin, sqs) = (it.admin().await?, Sqs::new(it.aws.config()));
    let (group, since, began) = (logs::group_of(it, "Dispatch")?, logs::now(), Instant::now());
    let (mut good, mut bad) = (BTreeSet::new(), 0);
    loop {
        let mut bodies = vec!["null".to_owned(), "no JSON".to_owned()];
        bad += bodies.len();
        for _ in 0..8 {
            let envelope = forge::envelope(it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?;
            forge::record(it, &envelope).await?;
            good.insert(envelope.message_id.to_string());
            bodies.insert(1, serde_json::to_string(&envelope)?);
        }
        let entries = bodies
            .iter()
            .enumerate()
            .map(|(n, body)| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body).build());
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        let sent = sqs.send_message_batch().queue_url(&it.outputs.queue_url).set_entries(Some(entries)).send().await?;
        assert_eq!((sent.successful().len(), sent.failed().len()), (bodies.len(), 0));
        it.queue_drained().await?;

        let lines = logs::structured(&logs::lines(it, &group, since, "").await?)?;
        let is_mixed = |line: &Value| {
            let parts: Vec<_> = line["messages"].as_array().into_iter().flatten().collect();
            let is_good = |part: &&Value| part["messageId"].as_str().is_some_and(|id| good.contains(id));
            parts.iter().any(|part| part["error"] == "NotAnEnvelope") && parts.iter().any(is_good)
        };
        if lines.iter().any(is_mixed) {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "no invocation had a good entry and a bad one");
    }
    let letters = it.dead_letters().await?;
    assert_eq!((letters.len(), letters.iter().filter(|body| ["null", "no JSON"].contains(&body.as_str())).count()), (bad, bad));
    Ok(good.len())
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
    accepted += mixed_batches(&it).await?;
    let began = Instant::now();
    while it.all_records().await?.iter().filter(|record| record.status == Status::Stored).count() < accepted {
        ensure!(began.elapsed() < DEADLINE, "{accepted} messages were accepted, and not all are stored");
        sleep(Duration::from_millis(200)).await;
    }
    destroy(&it.aws, &plain.stack, With { users: true, data: true }, &reporter).await?;
    Ok(())
}
