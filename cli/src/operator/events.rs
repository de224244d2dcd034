//! Follows a deployment's events, through its own queue, which it deletes at the end.

use std::collections::HashSet;

use anyhow::{Context, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;
use serde_json::{Value, json};

/// In seconds: how long SQS keeps messages that nobody reads, in case this program cannot remove its queue.
const RETENTION: &str = "3600";

/// A queue that is subscribed to the topic of the events.
#[derive(Debug)]
pub struct Following {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
    subscription_arn: Option<String>,
    /// Ids of the events so far, since an event may come twice.
    seen: HashSet<String>,
}

impl Following {
    /// Creates the queue and subscribes it, with a filter policy (`{"event": ["held"]}`). The queue is named `<topic>-<ULID>`.
    ///
    /// # Errors
    /// When SQS or SNS refuses; the queue is then removed.
    pub async fn begin(aws: &Aws, outputs: &Outputs, filter: &Value) -> Result<Self> {
        let (sqs, sns) = (aws_sdk_sqs::Client::new(aws.config()), aws_sdk_sns::Client::new(aws.config()));
        let topic = outputs.topic_arn.rsplit(':').next().unwrap_or_default();
        let name = format!("{topic}-{}", ulid::Ulid::generate().to_string().to_ascii_lowercase());
        let create = sqs.create_queue().queue_name(&name).attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION);
        let created = create.send().await.map_err(explain(format!("making the queue `{name}`")))?;
        let queue_url = created.queue_url.context("SQS gave no queue URL")?;
        let mut following = Self { sqs, sns, queue_url, subscription_arn: None, seen: HashSet::new() };
        match following.subscribe(&outputs.topic_arn, filter).await {
            Ok(()) => Ok(following),
            Err(error) => {
                following.end().await?;
                Err(error)
            }
        }
    }

    async fn subscribe(&mut self, topic_arn: &str, filter: &Value) -> Result<()> {
        let asked = self.sqs.get_queue_attributes().queue_url(&self.queue_url).attribute_names(QueueAttributeName::QueueArn);
        let found = asked.send().await.map_err(explain("asking for the queue's ARN"))?;
        let arn =
            found.attributes.and_then(|it| it.get(&QueueAttributeName::QueueArn).cloned()).context("SQS gave no queue ARN")?;
        // Without this policy SNS may not send to the queue, and reports no error.
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": topic_arn } },
        }]});
        let set = self.sqs.set_queue_attributes().queue_url(&self.queue_url);
        let set = set.attributes(QueueAttributeName::Policy, policy.to_string());
        set.send().await.map_err(explain("letting the topic send to the queue"))?;
        let subscribe = self.sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(arn).return_subscription_arn(true);
        let subscribe = subscribe.attributes("RawMessageDelivery", "true").attributes("FilterPolicy", filter.to_string());
        let subscribed = subscribe.send().await.map_err(explain("subscribing the queue to the topic"))?;
        self.subscription_arn = subscribed.subscription_arn;
        Ok(())
    }

    /// Waits for up to twenty seconds, and gives the events that are new.
    ///
    /// # Errors
    /// When SQS refuses, or an event is not JSON.
    pub async fn next(&mut self) -> Result<Vec<Value>> {
        let receive = self.sqs.receive_message().queue_url(&self.queue_url).wait_time_seconds(20).max_number_of_messages(10);
        let received = receive.send().await.map_err(explain("waiting for events"))?;
        let mut events = Vec::new();
        for message in received.messages.unwrap_or_default() {
            let event: Value = serde_json::from_str(message.body().unwrap_or_default()).context("an event is not JSON")?;
            if self.seen.insert(event.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()) {
                events.push(event);
            }
            let delete = self.sqs.delete_message().queue_url(&self.queue_url).set_receipt_handle(message.receipt_handle);
            delete.send().await.map_err(explain("deleting what was read"))?;
        }
        Ok(events)
    }

    /// Removes subscription and queue.
    ///
    /// # Errors
    /// When SNS or SQS refuses.
    pub async fn end(self) -> Result<()> {
        if let Some(arn) = self.subscription_arn {
            self.sns.unsubscribe().subscription_arn(arn).send().await.map_err(explain("ending the subscription"))?;
        }
        let delete = self.sqs.delete_queue().queue_url(&self.queue_url).send().await;
        delete.map_err(explain(format!("removing the queue `{}`", self.queue_url)))?;
        Ok(())
    }
}
