//! Subscribers: an SQS queue each, subscribed to the topic with a filter policy and raw delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use anyhow::{Context, Result, ensure};
use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use client::aws::Aws;
use serde_json::{Value, json};
use sluice_tests::{DEADLINE, Harness, unique};

/// A queue that is subscribed for as long as this lives.
#[derive(Debug)]
pub(crate) struct Listener {
    aws: Aws,
    queue_url: String,
    subscription_arn: String,
    /// Other tests' events are not looked at.
    sources: Vec<String>,
    heard: Vec<Heard>,
}

/// One event, as the subscriber has it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// The body as it came.
    pub(crate) text: String,
    /// The body as JSON.
    pub(crate) event: Value,
    /// The message attributes.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// The id of the event that tells what became of a message of a submission.
pub(crate) fn event_id(submission_id: impl Display, message_id: &str, kind: &str) -> String {
    format!("{submission_id}.{message_id}.{kind}")
}

impl Heard {
    pub(crate) fn id(&self) -> &str {
        self.event["id"].as_str().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap_or_default()
    }
}

impl Listener {
    /// Subscribes with this filter policy. Of what comes, only events of these sources are kept.
    pub(crate) async fn new(it: &Harness, filter: Value, sources: &[&str]) -> Result<Self> {
        let sqs = Sqs::new(it.aws.config());
        let name = format!("test-{}", unique());
        let created = sqs.create_queue().queue_name(&name).send().await?;
        let queue_url = created.queue_url.context("SQS gave no queue URL")?;
        let sources = sources.iter().map(|it| (*it).to_owned()).collect();
        // From here on `drop` cleans up.
        let mut listener = Self { aws: it.aws.clone(), queue_url, subscription_arn: String::new(), sources, heard: Vec::new() };
        let arn = QueueAttributeName::QueueArn;
        let found = sqs.get_queue_attributes().queue_url(&listener.queue_url).attribute_names(arn.clone()).send().await?;
        let queue_arn = found.attributes().and_then(|it| it.get(&arn)).context("SQS gave no queue ARN")?;
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": it.outputs.topic_arn } },
        }]});
        sqs.set_queue_attributes()
            .queue_url(&listener.queue_url)
            .attributes(QueueAttributeName::Policy, policy.to_string())
            .send()
            .await?;
        let subscribed = Sns::new(it.aws.config())
            .subscribe()
            .topic_arn(&it.outputs.topic_arn)
            .protocol("sqs")
            .endpoint(queue_arn)
            .attributes("RawMessageDelivery", "true")
            .attributes("FilterPolicy", filter.to_string())
            .return_subscription_arn(true)
            .send()
            .await?;
        listener.subscription_arn = subscribed.subscription_arn.context("SNS gave no subscription")?;
        Ok(listener)
    }

    /// Waits for that many events, looks whether more come, and gives them all.
    pub(crate) async fn hear(&mut self, count: usize) -> Result<&[Heard]> {
        let began = tokio::time::Instant::now();
        while self.heard.len() < count {
            ensure!(began.elapsed() < DEADLINE, "heard {} events of {count}: {:?}", self.heard.len(), self.ids());
            self.receive(5).await?;
        }
        while self.receive(1).await? {}
        Ok(&self.heard)
    }

    /// Waits for an event with this id.
    pub(crate) async fn hear_id(&mut self, id: &str) -> Result<Heard> {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(heard) = self.heard.iter().find(|heard| heard.id() == id) {
                return Ok(heard.clone());
            }
            ensure!(began.elapsed() < DEADLINE, "no event {id} among {:?}", self.ids());
            self.receive(5).await?;
        }
    }

    /// Waits for all of these events. Gives the ids of what was heard by source, each once: for a listener to many sources.
    pub(crate) async fn hear_of(&mut self, mut expected: BTreeSet<&str>) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut heard: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let began = tokio::time::Instant::now();
        loop {
            let (is_any, events) = self.receive_all(1).await?;
            for it in events {
                expected.remove(it.id());
                let source = it.event["data"]["source"].as_str().unwrap_or_default().to_owned();
                heard.entry(source).or_default().insert(it.id().to_owned());
            }
            if expected.is_empty() && !is_any {
                return Ok(heard);
            }
            ensure!(is_any || began.elapsed() < DEADLINE, "not heard: {expected:?}");
        }
    }

    /// The ids of what was heard so far, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.heard.iter().map(|heard| heard.id().to_owned()).collect();
        ids.sort_unstable();
        ids
    }

    /// The types of what was heard so far.
    pub(crate) fn kinds(&self) -> BTreeSet<&str> {
        self.heard.iter().map(Heard::kind).collect()
    }

    /// Says whether there was anything, of whomever.
    async fn receive(&mut self, wait_seconds: i32) -> Result<bool> {
        let (is_any, events) = self.receive_all(wait_seconds).await?;
        let is_wanted = |it: &Heard| self.sources.iter().any(|source| it.event["data"]["source"] == source.as_str());
        let wanted: Vec<_> = events.into_iter().filter(is_wanted).collect();
        self.heard.extend(wanted);
        Ok(is_any)
    }

    async fn receive_all(&self, wait_seconds: i32) -> Result<(bool, Vec<Heard>)> {
        let sqs = Sqs::new(self.aws.config());
        let received = sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(wait_seconds)
            .message_attribute_names("All")
            .send()
            .await?;
        let mut events = Vec::new();
        for message in received.messages() {
            sqs.delete_message().queue_url(&self.queue_url).set_receipt_handle(message.receipt_handle.clone()).send().await?;
            events.push(heard(message)?);
        }
        Ok((!events.is_empty(), events))
    }
}

fn heard(message: &Message) -> Result<Heard> {
    let text = message.body().unwrap_or_default().to_owned();
    let event = serde_json::from_str(&text).with_context(|| format!("an event is no JSON: {text}"))?;
    let attributes = message.message_attributes().into_iter().flatten();
    let attributes =
        attributes.map(|(name, value)| (name.clone(), value.string_value().unwrap_or_default().to_owned())).collect();
    Ok(Heard { text, event, attributes })
}

impl Drop for Listener {
    /// Whatever comes of the test, subscription and queue go.
    fn drop(&mut self) {
        let (aws, queue_url, subscription_arn) = (self.aws.clone(), self.queue_url.clone(), self.subscription_arn.clone());
        let clean_up = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let _ = Sns::new(aws.config()).unsubscribe().subscription_arn(subscription_arn).send().await;
                let _ = Sqs::new(aws.config()).delete_queue().queue_url(queue_url).send().await;
            });
        };
        let _ = std::thread::spawn(clean_up).join();
    }
}
