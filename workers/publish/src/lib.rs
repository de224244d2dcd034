//! Publishes the outcome of a submission: one CloudEvent on the topic, with attributes to filter by.

use aws_sdk_sns::Client;
use aws_sdk_sns::error::BuildError;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::event::{CloudEvent, EventType, Outcome};
use runtime::{Field, StepError, log_field, log_submitted};
use serde::Serialize;
use serde_json::Value;

/// The answer to the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The CloudEvents id: the same if the step is repeated.
    pub event_id: String,
}

/// Publishes the event of one [`Outcome`]. A repeated step publishes the same event, id included, once more.
///
/// # Errors
/// [`StepError::Throttled`] and [`StepError::Unavailable`] may be retried; anything else is a fault of the deployment.
pub async fn publish(sns: &Client, topic_arn: &str, event: Value) -> Result<Published, StepError> {
    let outcome: Outcome = runtime::input("an outcome", event)?;
    log_submitted(&outcome.submitted);
    log_field(Field::Outcome, outcome.event_type);
    if let Some(reason) = outcome.reason {
        log_field(Field::Reason, reason);
    }
    if let Some(stored) =
        outcome.stored.as_ref().filter(|_| matches!(outcome.event_type, EventType::Stored | EventType::Unparsable))
    {
        log_field(Field::StoredAfterMs, stored.facts.stored_at.as_millis().saturating_sub(stored.received_at.as_millis()));
    }

    let event = CloudEvent::of(outcome);
    let body = serde_json::to_string(&event).map_err(|_| StepError::InvalidInput { what: "an outcome" })?;
    let mut request = sns.publish().topic_arn(topic_arn).message(body);
    for (name, value) in event.attributes() {
        request = request.message_attributes(name, string_attribute(value).map_err(|_| StepError::InvalidInput { what: name })?);
    }
    request.send().await.map_err(|error| StepError::from_sdk("sns:Publish", &error))?;
    Ok(Published { event_id: event.id })
}

fn string_attribute(value: String) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}
