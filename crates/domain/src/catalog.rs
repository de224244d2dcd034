//! The catalog's record of a message. Nothing in it identifies a patient.

use std::fmt;
use std::str::FromStr;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use serde_with::{DeserializeFromStr, SerializeDisplay, skip_serializing_none};
use strum::{Display, IntoStaticStr};

use crate::{Charset, Held, HeldFacts, MessageId, Requester, Source, SubmissionId, Timestamp};

/// How far a message has come. `duplicate` is the outcome of a submission, never the status of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Status {
    /// A submission of the message waits in the queue, for its first try or for another one.
    Queued,
    /// A submission holds the claim.
    Processing,
    /// The message is in the lake. Final.
    Stored,
    /// The message was accepted and cannot be stored now. Its copy lies in the held bucket, and a writer of the institute may release it.
    Held,
    /// An operator has decided that the message is not to be stored.
    Discarded,
    /// Only in records of earlier builds: the caller was not allowed to write the message.
    Denied,
    /// Only in records of earlier builds: the caller's token, or the overflow object, expired before the message was stored.
    Expired,
    /// No copy of the message could be held: its overflow object was gone, or the envelope is damaged. The envelope lies in the
    /// dead-letter queue. In earlier builds: every try failed.
    Failed,
}

impl Status {
    /// The text in the catalog, in answers and in events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the status stays until somebody does something: submits the message again, or releases it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Processing)
    }

    /// The status in the index by arrival, which a claim does not write: `queued` also while the message is processed.
    #[must_use]
    pub fn listed(self) -> Self {
        if self == Self::Processing { Self::Queued } else { self }
    }
}

/// Whether a stored message parsed. Also the object tag `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// The structure is readable from MSH on; there is a JSON rendition.
    Parsed,
    /// The message has no readable MSH. The lake keeps it as it came.
    Error,
}

impl State {
    /// The text in the catalog, in tags and in events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The facts in MSH about the message and its systems (HL7 2.5.1 §2.15.9). Nothing about the patient.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// MSH-9.1, `ADT`.
    pub message_type: Option<String>,
    /// MSH-9.2, `A01`.
    pub trigger_event: Option<String>,
    /// MSH-9.3, `ADT_A01`.
    pub message_structure: Option<String>,
    /// MSH-10.
    pub control_id: Option<String>,
    /// MSH-12.1, `2.5.1`.
    pub hl7_version: Option<String>,
    /// MSH-3.1.
    pub sending_application: Option<String>,
    /// MSH-4.1.
    pub sending_facility: Option<String>,
    /// MSH-5.1.
    pub receiving_application: Option<String>,
    /// MSH-6.1.
    pub receiving_facility: Option<String>,
    /// MSH-7.1, as it stands in the message.
    pub message_time: Option<String>,
    /// MSH-13: the number of the message under the sequence number protocol (HL7 2.5.1 §2.10.1).
    pub sequence_number: Option<String>,
    /// MSH-14: this message continues the one whose `continuation_pointer` this is (HL7 2.5.1 §2.10.2).
    pub continues: Option<String>,
    /// DSC-1: this message is continued by the one whose `continues` this is.
    pub continuation_pointer: Option<String>,
}

/// Why a message is not parsed or not stored, for people. Never quotes the message.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A short constant: a step error's name (`TokenExpired`) or a parse reason (`no-msh`).
    pub code: String,
    /// One sentence.
    pub detail: Option<String>,
    /// The segment that the problem is in.
    pub segment: Option<SegmentId>,
    /// That segment's position in the message, from 1.
    pub position: Option<usize>,
    /// Offset in the canonical form, in bytes from 0.
    pub offset: Option<usize>,
}

impl Problem {
    /// A problem with a code alone.
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), detail: None, segment: None, position: None, offset: None }
    }
}

/// The id of a segment, `MSH`: a capital letter and two capital letters or digits (HL7 2.5.1 §2.5.2). No other text of a
/// message gets into a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct SegmentId(String);

/// The text is not the id of a segment. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a segment id: expected a capital letter and two capital letters or digits")]
pub struct InvalidSegmentId;

impl SegmentId {
    /// The three characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SegmentId {
    type Err = InvalidSegmentId;

    fn from_str(text: &str) -> Result<Self, InvalidSegmentId> {
        match text.as_bytes() {
            [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9', b'A'..=b'Z' | b'0'..=b'9'] => Ok(Self(text.to_owned())),
            _ => Err(InvalidSegmentId),
        }
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place of a message in the lake, and its form there. Written once, with the status `stored`.
///
/// The members are public names: attributes of the table (in snake_case), members of the events and of the state machine's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredFacts {
    /// When the message was stored.
    pub stored_at: Timestamp,
    /// Whether it parsed.
    pub state: State,
    /// The lake bucket.
    pub bucket: String,
    /// Key of the ER7 object: the message in canonical form.
    pub key: String,
    /// S3 version of the ER7 object.
    pub version_id: Option<String>,
    /// Key of the JSON rendition, if the message parsed.
    pub json_key: Option<String>,
    /// S3 version of the JSON rendition.
    pub json_version_id: Option<String>,
    /// Key of the bytes as they were received. Absent if they equal the ER7 object.
    pub raw_key: Option<String>,
    /// S3 version of the bytes as they were received.
    pub raw_version_id: Option<String>,
    /// Character set of the bytes as they were received. Absent if they equal the ER7 object.
    pub charset: Option<Charset>,
    /// The facts in MSH about the message.
    #[serde(default)]
    pub summary: Summary,
}

/// A stored message, as the steps of the state machine pass it on.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// When the message first arrived.
    pub received_at: Timestamp,
    /// Its place and its form in the lake.
    #[serde(flatten, serialize_with = "without_nulls")]
    pub facts: StoredFacts,
    /// Why it did not parse.
    pub error: Option<Problem>,
}

/// Leaves out the members that are null: absent facts are `NULL` in the table, and have no member in JSON.
pub(crate) fn without_nulls<S: Serializer>(facts: &impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
    let members = match serde_json::to_value(facts).map_err(S::Error::custom)? {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    serializer.collect_map(members.iter().filter(|(_, value)| !value.is_null()))
}

/// The catalog's item of a message: PK `source`, SK `message_id`. In the table the names are in snake_case (crate `catalog`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The institute.
    pub source: Source,
    /// The message.
    pub message_id: MessageId,
    /// How far the message has come.
    pub status: Status,
    /// The submission that holds, or last held, the claim. For a stored message: the submission that stored it.
    pub claim_submission: Option<SubmissionId>,
    /// The end of the lease, in milliseconds since 1970. Absent if nobody holds the claim.
    pub lease_until: Option<i64>,
    /// The newest submission of the message that has not ended.
    pub last_submission: Option<SubmissionId>,
    /// How many POSTs brought the message.
    #[serde(default)]
    pub submissions: u64,
    /// When the first of them arrived.
    pub received_at: Timestamp,
    /// The place and the form of the message in the lake, once it is stored.
    #[serde(flatten)]
    pub facts: Option<StoredFacts>,
    /// Why the message was not parsed or not stored.
    pub error: Option<Problem>,
    /// The place of the copy, if the message was held and has not been stored since.
    #[serde(flatten)]
    pub held: Option<HeldFacts>,
    /// The caller of the newest submission.
    pub submitter: Option<Requester>,
    /// Who released the message last.
    pub releaser: Option<Requester>,
    /// Who discarded the message, when and why. Stays if the message is submitted again.
    #[serde(flatten)]
    pub discarded: Option<DiscardFacts>,
    /// When the message was last submitted or released, in milliseconds since 1970.
    pub queued_at: Option<i64>,
    /// DynamoDB's time to live, in seconds since 1970. Only on records that were never stored.
    pub expires_at: Option<i64>,
}

/// An operator's decision that a held message is not to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscardFacts {
    /// The time of the decision.
    pub discarded_at: Timestamp,
    /// The ARN of the operator.
    pub discarded_by: String,
    /// The reason, in the operator's words.
    pub discard_reason: String,
}

/// The maximum number of records in one page of a listing.
pub const MAX_PAGE: usize = 100;

/// The status of a message, as the API answers it. A listing adds the summary.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress<'a> {
    message_id: &'a MessageId,
    status: Status,
    state: Option<State>,
    submissions: u64,
    received_at: Timestamp,
    stored_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

impl Record {
    /// How far the message has come, as the API answers it.
    pub fn progress(&self) -> Progress<'_> {
        Progress {
            message_id: &self.message_id,
            status: self.status,
            state: self.facts.as_ref().map(|facts| facts.state),
            submissions: self.submissions,
            received_at: self.received_at,
            stored_at: self.facts.as_ref().map(|facts| facts.stored_at),
            error: self.error.as_ref(),
            held: self.held.as_ref().filter(|_| self.status == Status::Held).map(HeldFacts::answer),
        }
    }

    /// The stored message. `None` if the record has no stored facts.
    pub fn stored(&self) -> Option<Stored> {
        Some(Stored { received_at: self.received_at, facts: self.facts.clone()?, error: self.error.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_a_segment_and_never_another_text() {
        for id in ["MSH", "PV1", "ZZ9", "Z01"] {
            assert_eq!(id.parse::<SegmentId>().unwrap().as_str(), id);
        }
        for other in ["", "MS", "MSHX", "msh", "1SH", "M H", "DÖ", "M|H", "DOE^JANE"] {
            assert_eq!(other.parse::<SegmentId>(), Err(InvalidSegmentId), "{other}");
        }
        let read = |json| serde_json::from_str::<Problem>(json);
        assert!(read(r#"{"code":"c","segment":"PID","position":3,"offset":71}"#).is_ok());
        assert!(!read(r#"{"code":"c","segment":"SECRET"}"#).unwrap_err().to_string().contains("SECRET"));
    }

    #[test]
    fn a_problem_says_what_is_known_of_it() {
        let json = |problem: &Problem| serde_json::to_string(problem).unwrap();
        let plain = Problem::new("no-msh");
        assert_eq!(json(&plain), r#"{"code":"no-msh"}"#);
        let segment = "PID".parse().ok();
        let placed = Problem { segment, position: Some(3), offset: Some(71), ..plain };
        assert_eq!(json(&placed), r#"{"code":"no-msh","segment":"PID","position":3,"offset":71}"#);
        assert_eq!(serde_json::from_str::<Problem>(&json(&placed)).unwrap(), placed);
    }
}
