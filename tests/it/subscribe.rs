//! What docs/EVENTS.md says to subscribers, tried: the documents, `sluice events`, and the subscriber of the examples.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::Client as Sqs;
use boon::{Compiler, Schemas};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluice::operator::events::Following;
use sluice_tests::template::template;
use sluice_tests::{DEADLINE, Harness, adt, python, unique};
use tokio::process::Command;

use crate::contract::root;
use crate::forge;
use crate::listen::{Listener, event_id};

fn schema() -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(root().join("docs/event.schema.json"))?)?)
}

#[tokio::test]
async fn events_are_what_the_documents_describe() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let message = adt(&unique(), "DOE");
    it.store(&admin, &message).await?;
    it.store(&admin, &format!("no HL7 {}", unique())).await?;
    let again = forge::envelope(&it, &it.institute, &message, &admin.token).await?;
    forge::enqueue(&it, &again).await?;
    let expired = forge::unsigned_token(&it, forge::EXPIRED);
    forge::enqueue(&it, &forge::envelope(&it, &it.institute, &adt(&unique(), "ROE"), &expired).await?).await?;

    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("event.json", schema()?).map_err(|error| anyhow::anyhow!("{error}"))?;
    let index = compiler.compile("event.json", &mut schemas).map_err(|error| anyhow::anyhow!("{error}"))?;
    let asyncapi = template(&root().join("docs/asyncapi.yaml"))?;
    let attributes = asyncapi["components"]["schemas"]["attributes"].clone();
    compiler.add_resource("attributes.json", attributes.clone()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let of_attributes = compiler.compile("attributes.json", &mut schemas).map_err(|error| anyhow::anyhow!("{error}"))?;
    let described = attributes["properties"].as_object().context("attributes")?;

    let mut kinds = BTreeSet::new();
    for heard in listener.hear(4).await? {
        let valid = schemas.validate(&heard.event, index).map_err(|error| anyhow::anyhow!("{error:#}"));
        valid.with_context(|| heard.kind().to_owned())?;
        let sent = json!(heard.attributes);
        schemas.validate(&sent, of_attributes).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        ensure!(heard.attributes.keys().all(|name| described.contains_key(name)), "{sent}");
        kinds.insert(heard.kind().to_owned());
    }
    assert_eq!(kinds, ["stored", "unparsable", "duplicate", "held"].map(str::to_owned).into());
    Ok(())
}

/// The queues and subscriptions of `sluice events`.
async fn left(it: &Harness) -> Result<BTreeSet<String>> {
    let topic = it.outputs.topic_arn.rsplit(':').next().context("a topic")?;
    let queues = Sqs::new(it.aws.config()).list_queues().queue_name_prefix(format!("{topic}-")).send().await?;
    let mut found: BTreeSet<String> = queues.queue_urls.unwrap_or_default().into_iter().collect();
    let subscriptions = Sns::new(it.aws.config()).list_subscriptions_by_topic().topic_arn(&it.outputs.topic_arn).send().await?;
    let endpoints = subscriptions.subscriptions().iter().filter_map(|it| it.endpoint().map(str::to_owned));
    found.extend(endpoints.filter(|it| it.contains(&format!(":{topic}-"))));
    Ok(found)
}

#[tokio::test]
async fn following_the_events_leaves_nothing_behind() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let before = left(&it).await?;
    let filter = json!({ "source": [it.institute], "event": ["stored"] });
    let mut following = Following::begin(&it.aws, it.outputs, &filter).await?;
    assert_eq!(left(&it).await?.len(), before.len() + 2, "a queue and its subscription");
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let began = tokio::time::Instant::now();
    let events = loop {
        let events = following.next().await?;
        if !events.is_empty() {
            break events;
        }
        ensure!(began.elapsed() < DEADLINE, "no event came");
    };
    assert_eq!((events.len(), &events[0]["subject"]), (1, &json!(message_id)));
    following.end().await?;
    assert_eq!(left(&it).await?, before);
    Ok(())
}

/// An event of the subscriber's queue, as SNS delivers it.
fn event(source: &str, submission: &str, message: &str, kind: &str) -> Value {
    let message_id = message.repeat(64);
    json!({
        "specversion": "1.0", "id": event_id(submission, &message_id, kind), "source": format!("sluice/{source}"), "type": kind,
        "subject": message_id, "time": "2026-01-02T03:04:05.000Z", "datacontenttype": "application/json",
        "data": { "messageId": message_id, "submissionId": submission, "source": source, "receivedAt": "2026-01-02T03:04:05.000Z" },
    })
}

/// The rows of the subscriber's table, as text.
async fn table(python: &Path, database: &Path) -> Result<String> {
    let program = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(\
                   'SELECT substr(message_id,1,1), status, events FROM messages ORDER BY 1').fetchall())";
    let output = Command::new(python).args(["-c", program]).arg(database).output().await?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test]
async fn a_killed_subscriber_keeps_its_table_exactly_once() -> Result<()> {
    let it = Harness::new()?;
    let folder = root().join("examples/event-subscriber");
    let python = python("event-subscriber", &folder.join("requirements.txt")).await?;
    let sqs = Sqs::new(it.aws.config());
    let name = format!("test-{}", unique());
    let create = sqs.create_queue().queue_name(&name);
    // Short, so that what a killed subscriber had taken comes back soon.
    let create = create.attributes(aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout, "1");
    let queue_url = create.send().await?.queue_url.context("a queue")?;
    let [first, second] = ["01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2"];
    // Each message's events backwards, and each event twice.
    let events = [
        event("a", second, "1", "stored"),
        event("a", first, "1", "held"),
        event("a", second, "1", "released"),
        event("a", second, "2", "released"),
        event("a", first, "2", "held"),
        event("a", first, "3", "discarded"),
        event("a", first, "3", "held"),
        event("a", second, "4", "duplicate"),
        event("a", first, "4", "stored"),
    ];
    for event in events.iter().chain(&events) {
        sqs.send_message().queue_url(&queue_url).message_body(event.to_string()).send().await?;
    }
    let scratch = tempfile::tempdir()?;
    let database = scratch.path().join("messages.sqlite");
    let key = it.outputs.root_key.as_ref().context("the local AWS has a root key")?;
    let subscriber = || {
        let mut command = Command::new(&python);
        command.arg(folder.join("subscriber.py")).arg(&queue_url).arg(&database).arg("--until-empty");
        command.env("AWS_ENDPOINT_URL", it.outputs.endpoint_url.as_deref().unwrap_or_default());
        command
            .env("AWS_DEFAULT_REGION", &it.outputs.region)
            .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    // Killed as soon as it has written something.
    let mut killed = subscriber().spawn()?;
    let began = tokio::time::Instant::now();
    while table(&python, &database).await?.len() < 3 {
        ensure!(began.elapsed() < DEADLINE, "the subscriber wrote nothing");
    }
    killed.kill().await?;
    let expected = "[('1', 'stored', 3), ('2', 'released', 2), ('3', 'discarded', 2), ('4', 'stored', 2)]";
    loop {
        let output = subscriber().output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rows = table(&python, &database).await?;
        if rows == expected {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "{rows}");
    }
    // Once more all of it: nothing changes.
    for event in &events {
        sqs.send_message().queue_url(&queue_url).message_body(event.to_string()).send().await?;
    }
    ensure!(subscriber().output().await?.status.success());
    assert_eq!(table(&python, &database).await?, expected);
    sqs.delete_queue().queue_url(&queue_url).send().await?;
    Ok(())
}
