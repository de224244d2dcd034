//! What the state machine hands to each step and gets back: the `Arguments` and results of `ingest.asl.json`, as JSON.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::catalog::Problem;
use crate::{MessageId, Payload, Source, State, Stored, SubmissionId, Summary, Timestamp};

/// Which message, and for which submission: every step gets these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The submission the execution runs for.
    pub submission_id: SubmissionId,
    /// Its message.
    pub message_id: MessageId,
    /// Its institute.
    pub source: Source,
}

/// What the worker `deduplicate` is asked: the states `Deduplicate`, `Reject` and `Release`. It owns the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ClaimRequest {
    /// May this submission work on the message?
    Claim {
        /// Which.
        #[serde(flatten)]
        subject: Subject,
        /// When the POST arrived.
        received_at: Timestamp,
    },
    /// It never will be stored by this submission.
    Reject {
        /// Which.
        #[serde(flatten)]
        subject: Subject,
        /// `denied` or `expired`.
        status: Rejection,
        /// The step error's name.
        error: String,
    },
    /// This run failed.
    Release {
        /// Which.
        #[serde(flatten)]
        subject: Subject,
        /// The step error's name.
        error: String,
        /// Whether this was the last try: the submission goes to the dead-letter queue.
        failed: bool,
    },
}

/// The two ways in which a submission ends without being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rejection {
    /// The caller may not write it.
    Denied,
    /// Its token ran out.
    Expired,
}

/// The answer to a [`ClaimRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ClaimAnswer {
    /// Go on.
    New {
        /// When the message first arrived: decides the `date=` partition.
        received_at: Timestamp,
    },
    /// Another submission has stored it.
    Duplicate,
    /// Another submission works on it.
    InProgress {
        /// How long its lease has left, at most.
        retry_after_seconds: u64,
    },
    /// This submission has stored it before: only the event is missing.
    Stored {
        /// What it stored.
        stored: Box<Stored>,
    },
    /// The rejection, or the release, is in the catalog.
    Recorded,
    /// The claim was somebody else's by then; nothing was changed.
    Lost,
}

/// What the state `Parse` asks.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParseRequest {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// The message, or where it lies.
    pub payload: Payload,
}

/// What parsing gave. The rendition itself is no part of it: Step Functions carries 256 KiB, and renditions are larger.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// Whether the structure is readable from MSH on.
    pub state: State,
    /// What MSH says; empty without one.
    pub summary: Summary,
    /// Why it is not readable.
    pub error: Option<Problem>,
}

/// What the state `Store` asks.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRequest {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// When the message first arrived, as the claim said.
    pub received_at: Timestamp,
    /// The caller's sealed ID token.
    pub token: String,
    /// The message, or where it lies.
    pub payload: Payload,
    /// What `Parse` found.
    pub parsed: Parsed,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum StoreAnswer {
    /// In the lake and in the catalog.
    Stored {
        /// Where and as what.
        stored: Box<Stored>,
    },
    /// Another submission was first.
    Duplicate,
}

/// What the whole execution came to: its output, which `dispatch` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionOutput {
    /// `stored`, `unparsable`, `duplicate`, `denied`, `expired` or `in-progress`.
    pub outcome: String,
    /// With `in-progress`: how long the other submission's lease has left.
    pub retry_after_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_the_state_machine_writes_them() {
        let subject = r#""submissionId":"01ARZ3NDEKTSV4RRFFQ69G5FAV","source":"a","messageId":"0000000000000000000000000000000000000000000000000000000000000000""#;
        let read = |json: String| serde_json::from_str::<ClaimRequest>(&json).unwrap();
        assert!(matches!(
            read(format!(r#"{{"action":"claim",{subject},"receivedAt":"2026-11-21T07:21:07.120Z"}}"#)),
            ClaimRequest::Claim { .. }
        ));
        assert!(matches!(
            read(format!(r#"{{"action":"reject",{subject},"status":"denied","error":"Denied"}}"#)),
            ClaimRequest::Reject { status: Rejection::Denied, .. }
        ));
        assert!(matches!(
            read(format!(r#"{{"action":"release",{subject},"error":"Unavailable","failed":true}}"#)),
            ClaimRequest::Release { failed: true, .. }
        ));
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
