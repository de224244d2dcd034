//! The JSON that the state machine passes to each step, and gets back: `Arguments` and results of `ingest.asl.json`.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::IntoStaticStr;

use crate::catalog::Problem;
use crate::{
    HoldReason, MessageId, Payload, Release, Requester, Source, State, Stored, SubmissionId, Summary, Timestamp, TraceParent,
};

/// One message of one submission of one source: what every step works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmittedMessage {
    /// The submission that the execution runs for.
    pub submission_id: SubmissionId,
    /// The message.
    pub message_id: MessageId,
    /// The institute that submitted it.
    pub source: Source,
}

/// The input of the states `Deduplicate`, `GiveUp` and `Abandon`, which call the worker `deduplicate`, the owner of the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The message.
    #[serde(flatten)]
    pub submitted: SubmittedMessage,
    /// The action on its claim.
    #[serde(flatten)]
    pub action: ClaimAction,
}

/// The action that a [`ClaimRequest`] asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ClaimAction {
    /// Take the claim, if the submission may work on the message.
    Claim {
        /// When the POST arrived.
        received_at: Timestamp,
    },
    /// Give the claim up: this run failed. An execution that began under an earlier build calls this action `release`.
    #[serde(alias = "release")]
    GiveUp {
        /// Name of the step error.
        error: String,
        /// Whether no copy of the message can be kept, so that the envelope goes to the dead-letter queue.
        failed: bool,
    },
}

/// The answer to a [`ClaimRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[strum(serialize_all = "kebab-case")]
pub enum ClaimAnswer {
    /// The submission holds the claim and may go on.
    New {
        /// When the message first arrived: decides the `date=` partition.
        received_at: Timestamp,
    },
    /// Another submission has stored the message.
    Duplicate,
    /// Another submission works on the message.
    InProgress {
        /// The seconds after which the other lease has ended, and it makes sense to ask again.
        retry_after_seconds: u64,
    },
    /// This submission stored the message in an earlier run; only the event is still to be published.
    Stored {
        /// The stored message.
        stored: Box<Stored>,
    },
    /// An operator has discarded the message.
    Discarded,
    /// The catalog says that the claim was given up.
    Recorded,
    /// Another submission holds the claim by now; nothing was changed.
    Lost,
}

/// The input of the state `Parse`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParseRequest {
    /// The message.
    #[serde(flatten)]
    pub submitted: SubmittedMessage,
    /// The message as it was received, or a pointer to it.
    pub payload: Payload,
}

/// The result of the state `Parse`. It does not contain the rendition, which can be larger than the 256 KiB that Step Functions
/// carries.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// Whether the structure is readable from MSH on.
    pub state: State,
    /// The facts in MSH; empty without a readable MSH.
    pub summary: Summary,
    /// Why the structure is not readable.
    pub error: Option<Problem>,
}

/// The input of the state `Store`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRequest {
    /// The message.
    #[serde(flatten)]
    pub submitted: SubmittedMessage,
    /// When the message first arrived, from the answer of the state `Deduplicate`.
    pub received_at: Timestamp,
    /// The caller's sealed ID token.
    pub token: String,
    /// The message as it was received, or a pointer to it.
    pub payload: Payload,
    /// The result of the state `Parse`.
    pub parsed: Parsed,
}

/// The result of the state `Store`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum StoreAnswer {
    /// The message is in the lake, and the catalog says so.
    Stored {
        /// The stored message.
        stored: Box<Stored>,
    },
    /// Another submission stored the message first.
    Duplicate,
}

/// The input of the state `Hold`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldRequest {
    /// The message.
    #[serde(flatten)]
    pub submitted: SubmittedMessage,
    /// When the submission arrived.
    pub received_at: Timestamp,
    /// The submitter.
    #[serde(flatten)]
    pub requester: Requester,
    /// The message as it was received, or a pointer to it.
    pub payload: Payload,
    /// Why it is held.
    pub reason: HoldReason,
    /// Name of the step error.
    pub error: String,
    /// Set if the message was held before and released.
    pub release: Option<Release>,
    /// The trace that the submission is part of, if any.
    #[serde(default, deserialize_with = "TraceParent::if_any")]
    pub traceparent: Option<TraceParent>,
}

/// The result of the state `Hold`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(tag = "outcome", rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum HoldAnswer {
    /// The copy is in the held bucket, and the catalog says so.
    Held {
        /// The reason.
        reason: HoldReason,
    },
}

/// The output of an execution, which the worker `dispatch` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionOutput {
    /// `stored`, `unparsable`, `duplicate`, `held`, `failed` or `in-progress`. Of an earlier build: `denied`, `expired`.
    pub outcome: String,
    /// With `in-progress`: the number of seconds after which the other submission's lease has ended.
    pub retry_after_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_the_state_machine_writes_them() {
        let submitted = r#""submissionId":"01ARZ3NDEKTSV4RRFFQ69G5FAV","source":"a","messageId":"0000000000000000000000000000000000000000000000000000000000000000""#;
        let read = |json: String| serde_json::from_str::<ClaimRequest>(&json).unwrap().action;
        assert!(matches!(
            read(format!(r#"{{"action":"claim",{submitted},"receivedAt":"2026-11-21T07:21:07.120Z"}}"#)),
            ClaimAction::Claim { .. }
        ));
        for action in ["giveUp", "release"] {
            assert!(matches!(
                read(format!(r#"{{"action":"{action}",{submitted},"error":"Unavailable","failed":true}}"#)),
                ClaimAction::GiveUp { failed: true, .. }
            ));
        }
    }

    #[test]
    fn answers_carry_their_outcome() {
        let json = |answer| serde_json::to_string(&answer).unwrap();
        assert_eq!(json(ClaimAnswer::Duplicate), r#"{"outcome":"duplicate"}"#);
        assert_eq!(
            json(ClaimAnswer::InProgress { retry_after_seconds: 7 }),
            r#"{"outcome":"in-progress","retryAfterSeconds":7}"#
        );
    }
}
