//! What subscribers are told: a CloudEvents 1.0 envelope with a pointer and the summary, and nothing of the patient.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::catalog::Problem;
use crate::{MessageId, Source, State, Stored, SubmissionId, Summary, Timestamp};

/// What happened: the CloudEvents `type` and the message attribute `event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// The message is in the lake, with a JSON rendition.
    Stored,
    /// The message is in the lake as it came; it has no readable MSH.
    Unparsable,
    /// A submission brought a message that is in the lake already.
    Duplicate,
    /// The caller may not write it.
    Denied,
    /// The caller's token ran out first.
    Expired,
    /// Every try failed; the submission lies in the dead-letter queue.
    Failed,
}

impl EventType {
    /// The text in events and message attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unparsable => "unparsable",
            Self::Duplicate => "duplicate",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// What a submission came to: the facts an event is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The submission it happened to.
    pub submission_id: SubmissionId,
    /// Its message.
    pub message_id: MessageId,
    /// Its institute.
    pub source: Source,
    /// When the message arrived.
    pub received_at: Timestamp,
    /// Where it lies, if it was stored.
    pub stored: Option<Stored>,
    /// Why it was not: a step error's name.
    pub error: Option<String>,
}

/// A CloudEvents 1.0 event in its JSON format (`application/cloudevents+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloudEvent {
    specversion: &'static str,
    /// `<submission id>.<message id>.<type>`: the same when a step is repeated, so a subscriber can drop a
    /// redelivery, and another one for each message that a submission brought.
    pub id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: &'static str,
    subject: MessageId,
    time: Timestamp,
    datacontenttype: &'static str,
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
    stored_at: Option<Timestamp>,
    state: Option<State>,
    bucket: Option<String>,
    key: Option<String>,
    version_id: Option<String>,
    json_key: Option<String>,
    json_version_id: Option<String>,
    raw_key: Option<String>,
    raw_version_id: Option<String>,
    summary: Option<Summary>,
    error: Option<Problem>,
}

impl CloudEvent {
    /// The event that tells of an outcome. The same outcome gives the same event.
    pub fn of(outcome: Outcome) -> Self {
        let Outcome { event_type, submission_id, message_id, source, received_at, stored, error } = outcome;
        let error = error.map(Problem::new);
        let error = error.or_else(|| stored.as_ref().and_then(|stored| stored.error.clone()));
        let time = stored.as_ref().map_or(received_at, |stored| stored.stored_at);
        let (received_at, stored_at, state) =
            stored.as_ref().map_or((received_at, None, None), |s| (s.received_at, Some(s.stored_at), Some(s.state)));
        let mut data = Data {
            message_id: message_id.clone(),
            submission_id,
            source: source.clone(),
            received_at,
            stored_at,
            state,
            bucket: None,
            key: None,
            version_id: None,
            json_key: None,
            json_version_id: None,
            raw_key: None,
            raw_version_id: None,
            summary: None,
            error,
        };
        if let Some(stored) = stored {
            data.bucket = Some(stored.bucket);
            data.key = Some(stored.key);
            data.version_id = stored.version_id;
            data.json_key = stored.json_key;
            data.json_version_id = stored.json_version_id;
            data.raw_key = stored.raw_key;
            data.raw_version_id = stored.raw_version_id;
            data.summary = Some(stored.summary);
        }
        Self {
            specversion: "1.0",
            id: format!("{submission_id}.{message_id}.{}", event_type.as_str()),
            source: format!("sluice/{source}"),
            event_type: event_type.as_str(),
            subject: message_id,
            time,
            datacontenttype: "application/json",
            data,
        }
    }

    /// Message attributes for filter policies, name and value. An attribute without a value is left out: SNS takes no
    /// empty ones.
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let summary = self.data.summary.clone().unwrap_or_default();
        let candidates = [
            ("event", Some(self.event_type.to_owned())),
            ("protocol", Some("hl7v2".to_owned())),
            ("format", Some("er7".to_owned())),
            ("source", Some(self.data.source.to_string())),
            ("state", self.data.state.map(|state| state.as_str().to_owned())),
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
    use crate::Er7;

    fn outcome(event_type: EventType, stored: Option<Stored>) -> Outcome {
        Outcome {
            event_type,
            submission_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned().try_into().unwrap(),
            message_id: Er7::canonical("MSH").unwrap().message_id(),
            source: "general-hospital".parse().unwrap(),
            received_at: Timestamp::from_millis(0).unwrap(),
            stored,
            error: None,
        }
    }

    fn stored() -> Stored {
        let summary = Summary { message_type: Some("ADT".into()), control_id: Some("7".into()), ..Summary::default() };
        Stored {
            state: State::Parsed,
            bucket: "lake".into(),
            key: "source=general-hospital/x.hl7".into(),
            version_id: Some("v".into()),
            json_key: None,
            json_version_id: None,
            raw_key: Some("source=general-hospital/x.bin".into()),
            raw_version_id: Some("w".into()),
            charset: Some(crate::Charset::UTF_8),
            received_at: Timestamp::from_millis(0).unwrap(),
            stored_at: Timestamp::from_millis(1000).unwrap(),
            summary,
            error: None,
        }
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
        let id = |text: &str, event_type| {
            let message_id = Er7::canonical(text).unwrap().message_id();
            CloudEvent::of(Outcome { message_id, ..outcome(event_type, None) }).id
        };
        assert_eq!(id("MSH|1", EventType::Stored), id("MSH|1", EventType::Stored));
        assert_ne!(id("MSH|1", EventType::Stored), id("MSH|2", EventType::Stored));
        assert_ne!(id("MSH|1", EventType::Stored), id("MSH|1", EventType::Duplicate));
        // printf 'MSH\r' | sha256sum
        let sha256 = "c313461aa2f84f863700d53d3e0d3fd02028a79b3346796cab06f905ecd7015d";
        assert_eq!(id("MSH", EventType::Denied), format!("01ARZ3NDEKTSV4RRFFQ69G5FAV.{sha256}.denied"));
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
        assert_eq!(json["time"], "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn attributes_without_a_value_are_left_out() {
        let names = |event: CloudEvent| event.attributes().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(CloudEvent::of(outcome(EventType::Stored, Some(stored())))),
            ["event", "protocol", "format", "source", "state", "message_type"]
        );
        assert_eq!(names(CloudEvent::of(outcome(EventType::Denied, None))), ["event", "protocol", "format", "source"]);
    }
}
