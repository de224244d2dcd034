//! The events for subscribers: CloudEvents 1.0 with a pointer to the message and its summary. They hold no patient data.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr};

use crate::catalog::{Problem, without_nulls};
use crate::{HoldReason, MessageId, Source, Stored, StoredFacts, SubmissionId, SubmittedMessage, Timestamp, TraceParent};

/// The kind of event: the CloudEvents `type` and the message attribute `event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum EventType {
    /// The message is in the lake, with a JSON rendition.
    Stored,
    /// The message is in the lake as it came; it has no readable MSH.
    Unparsable,
    /// A submission brought a message that is in the lake already.
    Duplicate,
    /// The message cannot be stored now, and is held.
    Held,
    /// Somebody has released a held message: it is on its way again.
    Released,
    /// An operator has decided that a held message is not to be stored.
    Discarded,
    /// The message could not even be held.
    Failed,
}

/// The outcome of one submission of a message: the input of the step that publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The kind of event.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The message and the submission.
    #[serde(flatten)]
    pub submitted: SubmittedMessage,
    /// When the submission arrived.
    pub received_at: Timestamp,
    /// The stored message, if it was stored.
    pub stored: Option<Stored>,
    /// Name of the step error that kept the message from being stored.
    pub error: Option<String>,
    /// Why the message is or was held.
    pub reason: Option<HoldReason>,
    /// The trace that the submission is part of. A build before it wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "TraceParent::if_any")]
    pub traceparent: Option<TraceParent>,
}

/// A CloudEvents 1.0 event in its JSON format (`application/cloudevents+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloudEvent {
    specversion: &'static str,
    /// `<submission id>.<message id>.<type>`: the same when a step is repeated, so that a subscriber can drop a redelivery, and
    /// different for each message of a submission.
    pub id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: EventType,
    subject: MessageId,
    time: Timestamp,
    datacontenttype: &'static str,
    /// CloudEvents' extension "Distributed Tracing".
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
    data: Data,
}

#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    message_id: MessageId,
    submission_id: SubmissionId,
    source: Source,
    received_at: Timestamp,
    #[serde(flatten, serialize_with = "without_nulls")]
    facts: Option<StoredFacts>,
    error: Option<Problem>,
    reason: Option<HoldReason>,
}

impl CloudEvent {
    /// The event of an outcome. The same outcome always gives the same event.
    pub fn of(outcome: Outcome) -> Self {
        let Outcome { event_type, submitted, received_at, stored, error, reason, traceparent } = outcome;
        let SubmittedMessage { submission_id, message_id, source } = submitted;
        let (first_received_at, facts, parse_error) = match stored {
            Some(Stored { received_at, facts, error }) => (received_at, Some(facts), error),
            None => (received_at, None, None),
        };
        Self {
            specversion: "1.0",
            id: format!("{submission_id}.{message_id}.{event_type}"),
            source: format!("sluice/{source}"),
            event_type,
            subject: message_id.clone(),
            time: facts.as_ref().map_or(received_at, |facts| facts.stored_at),
            datacontenttype: "application/json",
            traceparent,
            data: Data {
                message_id,
                submission_id,
                source,
                received_at: first_received_at,
                facts,
                error: error.map(Problem::new).or(parse_error),
                reason,
            },
        }
    }

    /// Message attributes for filter policies, name and value. SNS refuses empty ones, so they are left out.
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let facts = self.data.facts.as_ref();
        let summary = facts.map(|facts| facts.summary.clone()).unwrap_or_default();
        let candidates = [
            ("event", Some(self.event_type.to_string())),
            ("protocol", Some("hl7v2".to_owned())),
            ("format", Some("er7".to_owned())),
            ("source", Some(self.data.source.to_string())),
            ("state", facts.map(|facts| facts.state.to_string())),
            ("reason", self.data.reason.map(|reason| reason.to_string())),
            ("message_type", summary.message_type),
            ("trigger_event", summary.trigger_event),
            ("hl7_version", summary.hl7_version),
        ];
        candidates.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Charset, Er7, State, Summary};

    fn submitted(message: &str) -> SubmittedMessage {
        SubmittedMessage {
            submission_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            message_id: Er7::canonical(message).unwrap().message_id(),
            source: "general-hospital".parse().unwrap(),
        }
    }

    fn outcome(event_type: EventType, stored: Option<Stored>) -> Outcome {
        Outcome {
            event_type,
            submitted: submitted("MSH"),
            received_at: Timestamp::from_millis(0).unwrap(),
            stored,
            error: None,
            reason: None,
            traceparent: None,
        }
    }

    fn stored() -> Stored {
        let facts = StoredFacts {
            stored_at: Timestamp::from_millis(1000).unwrap(),
            state: State::Parsed,
            bucket: "lake".into(),
            key: "source=general-hospital/x.hl7".into(),
            version_id: Some("v".into()),
            json_key: None,
            json_version_id: None,
            raw_key: Some("source=general-hospital/x.bin".into()),
            raw_version_id: Some("w".into()),
            charset: Charset::for_label("iso-8859-1"),
            summary: Summary { message_type: Some("ADT".into()), control_id: Some("7".into()), ..Summary::default() },
        };
        Stored { received_at: Timestamp::from_millis(0).unwrap(), facts, error: None }
    }

    #[test]
    fn a_repeated_step_makes_the_same_event() {
        assert_eq!(
            CloudEvent::of(outcome(EventType::Stored, Some(stored()))),
            CloudEvent::of(outcome(EventType::Stored, Some(stored())))
        );
    }

    #[test]
    fn the_messages_of_one_submission_have_an_event_each() {
        let id = |text: &str, event_type| CloudEvent::of(Outcome { submitted: submitted(text), ..outcome(event_type, None) }).id;
        assert_eq!(id("MSH|1", EventType::Stored), id("MSH|1", EventType::Stored));
        assert_ne!(id("MSH|1", EventType::Stored), id("MSH|2", EventType::Stored));
        assert_ne!(id("MSH|1", EventType::Stored), id("MSH|1", EventType::Duplicate));
        // printf 'MSH\r' | sha256sum
        let sha256 = "c313461aa2f84f863700d53d3e0d3fd02028a79b3346796cab06f905ecd7015d";
        assert_eq!(id("MSH", EventType::Held), format!("01ARZ3NDEKTSV4RRFFQ69G5FAV.{sha256}.held"));
    }

    #[test]
    fn the_event_is_a_cloud_event_with_a_pointer() {
        let json = serde_json::to_value(CloudEvent::of(outcome(EventType::Stored, Some(stored())))).unwrap();
        for name in ["specversion", "id", "source", "type"] {
            assert!(json[name].as_str().is_some_and(|value| !value.is_empty()), "CloudEvents requires `{name}`");
        }
        assert_eq!(json["data"]["key"], "source=general-hospital/x.hl7");
        assert_eq!(
            (&json["data"]["rawKey"], &json["data"]["rawVersionId"]),
            (&"source=general-hospital/x.bin".into(), &"w".into())
        );
        assert_eq!(json["data"]["charset"], "windows-1252");
        assert_eq!(json["data"].get("jsonKey"), None);
        assert_eq!(json["time"], "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn attributes_without_a_value_are_left_out() {
        let names = |event: CloudEvent| event.attributes().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(CloudEvent::of(outcome(EventType::Stored, Some(stored())))),
            ["event", "protocol", "format", "source", "state", "message_type"]
        );
        assert_eq!(names(CloudEvent::of(outcome(EventType::Failed, None))), ["event", "protocol", "format", "source"]);
        let held = Outcome { reason: Some(HoldReason::Expired), ..outcome(EventType::Held, None) };
        assert_eq!(names(CloudEvent::of(held)), ["event", "protocol", "format", "source", "reason"]);
    }
}
