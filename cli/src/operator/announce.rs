//! Publishes an event instead of the worker `publish`, and writes the log line that `publish` would write.

use anyhow::Result;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::SubmittedMessage;
use domain::event::{CloudEvent, Outcome};
use serde_json::json;

use super::journal::Journal;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// Publishes the event of an outcome, and says so in the log of `publish` as the worker named `by`. A repeated call publishes the
/// same event, id included, once more.
///
/// # Errors
/// When SNS or CloudWatch Logs refuses.
pub(crate) async fn announce(aws: &Aws, outputs: &Outputs, by: &'static str, outcome: Outcome) -> Result<()> {
    let (submitted, event_type, reason) = (outcome.submitted.clone(), outcome.event_type, outcome.reason);
    let event = CloudEvent::of(outcome);
    let mut request = aws_sdk_sns::Client::new(aws.config()).publish().topic_arn(&outputs.topic_arn);
    request = request.message(serde_json::to_string(&event)?);
    for (name, value) in event.attributes() {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build()?;
        request = request.message_attributes(name, value);
    }
    request.send().await.map_err(explain("publishing an event"))?;

    let SubmittedMessage { submission_id, message_id, source } = submitted;
    let mut facts = vec![("submissionId", json!(submission_id)), ("messageId", json!(message_id)), ("source", json!(source))];
    facts.extend(reason.map(|reason| ("reason", json!(reason))));
    Journal::new(aws, outputs, "Publish", by)?.write(event_type.into(), facts).await
}
