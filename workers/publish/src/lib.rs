//! Tells subscribers what became of a submission: one CloudEvent on the topic, with attributes to filter by.

use aws_sdk_sns::Client;
use aws_sdk_sns::error::BuildError;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::event::{CloudEvent, Outcome};
use domain::step::Subject;
use runtime::{Field, StepError, note};
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
    let Outcome { submission_id, message_id, source, .. } = outcome.clone();
    Field::note_subject(&Subject { submission_id, message_id, source });
    note(Field::Outcome, outcome.event_type.as_str());

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
