//! The catalog's record of a message: what is known of it, and nothing that identifies a patient.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{Charset, MessageId, Source, SubmissionId, Timestamp};

/// How far a message has come. `duplicate` is the outcome of a submission, never the status of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits in the queue: for its first try, for another one, or a new submission of it does.
    Queued,
    /// A submission holds the claim.
    Processing,
    /// In the lake. Final.
    Stored,
    /// The caller may not write this. A later submission may succeed.
    Denied,
    /// The caller's token ran out (or the overflow object did) before the message could be stored. A later submission
    /// may succeed.
    Expired,
    /// Every try failed; the submission lies in the dead-letter queue.
    Failed,
}

impl Status {
    /// The text in the catalog, in answers and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Stored => "stored",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more happens to the message unless it is submitted (or brought back) again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Stored | Self::Denied | Self::Expired | Self::Failed)
    }
}

/// What parsing a stored message gave. Also the object tag `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its structure is readable from MSH on; there is a JSON rendition.
    Parsed,
    /// No readable MSH. The lake keeps the message as it came.
    Error,
}

impl State {
    /// The text in the catalog, in tags and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parsed => "parsed",
            Self::Error => "error",
        }
    }
}

/// What MSH says of the message and its systems (HL7 2.5.1 §2.15.9). Nothing of the patient.
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
}

/// Why a message is not parsed or not stored, for people. Never quotes the message.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A short constant: a step error's name (`TokenExpired`) or a parse reason (`no-msh`).
    pub code: String,
    /// One sentence.
    pub detail: Option<String>,
    /// The segment that it is about.
    pub segment: Option<SegmentId>,
    /// Which segment of the message that is, from 1.
    pub position: Option<usize>,
    /// Where it is in the canonical message, in bytes from 0.
    pub offset: Option<usize>,
}

impl Problem {
    /// A problem of which no more is known than its name.
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), detail: None, segment: None, position: None, offset: None }
    }
}

/// The id of a segment, `MSH`: a capital letter and two capital letters or digits (HL7 2.5.1 §2.5.2). No other text of a
/// message gets into a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentId(String);

/// The text is not the id of a segment. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a segment: expected a capital letter and two capital letters or digits")]
pub struct InvalidSegmentId;

impl SegmentId {
    /// The three characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SegmentId {
    type Error = InvalidSegmentId;

    fn try_from(text: String) -> Result<Self, InvalidSegmentId> {
        match text.as_bytes() {
            [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9', b'A'..=b'Z' | b'0'..=b'9'] => Ok(Self(text)),
            _ => Err(InvalidSegmentId),
        }
    }
}

impl std::str::FromStr for SegmentId {
    type Err = InvalidSegmentId;

    fn from_str(text: &str) -> Result<Self, InvalidSegmentId> {
        Self::try_from(text.to_owned())
    }
}

impl From<SegmentId> for String {
    fn from(id: SegmentId) -> Self {
        id.0
    }
}

/// Where and as what a message was stored: the part of the record that is written once, at the end.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Whether it parsed.
    pub state: State,
    /// The lake bucket.
    pub bucket: String,
    /// Key of the ER7 object.
    pub key: String,
    /// Its version.
    pub version_id: Option<String>,
    /// Key of the JSON rendition, if it parsed.
    pub json_key: Option<String>,
    /// Its version, as with `version_id`.
    pub json_version_id: Option<String>,
    /// Key of the bytes as they were received; absent if they are those of the ER7 object.
    pub raw_key: Option<String>,
    /// Their version, as with `version_id`.
    pub raw_version_id: Option<String>,
    /// What they are in.
    pub charset: Option<Charset>,
    /// When the message first arrived.
    pub received_at: Timestamp,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// What MSH says.
    pub summary: Summary,
    /// Why it did not parse.
    pub error: Option<Problem>,
}

/// A catalog item: PK `source`, SK `message_id`. The attribute names are the field names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// The institute.
    pub source: Source,
    /// The message.
    pub message_id: MessageId,
    /// How far it has come.
    pub status: Status,
    /// The submission that holds, or last held, the claim. Of a stored message: the one that stored it.
    pub claim_submission: Option<SubmissionId>,
    /// Until when the claim holds, in milliseconds since 1970. Absent: nobody holds it.
    pub lease_until: Option<i64>,
    /// The newest submission of the message that has not come to its end.
    pub last_submission: Option<SubmissionId>,
    /// How many POSTs brought the message.
    #[serde(default)]
    pub submissions: u64,
    /// When the first of them arrived.
    pub received_at: Timestamp,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
    /// Whether it parsed, once stored.
    pub state: Option<State>,
    /// The lake bucket, once stored.
    pub bucket: Option<String>,
    /// Key of the ER7 object, once stored.
    pub key: Option<String>,
    /// Version of the ER7 object.
    pub version_id: Option<String>,
    /// Key of the JSON rendition.
    pub json_key: Option<String>,
    /// Version of the JSON rendition.
    pub json_version_id: Option<String>,
    /// Key of the bytes as they were received; absent if they are those of the ER7 object.
    pub raw_key: Option<String>,
    /// Version of these.
    pub raw_version_id: Option<String>,
    /// What they are in.
    pub charset: Option<Charset>,
    /// What MSH says, once stored.
    pub summary: Option<Summary>,
    /// Why it was not parsed or not stored.
    pub error: Option<Problem>,
    /// DynamoDB's time to live, in seconds since 1970; only on records that were never stored.
    pub expires_at: Option<i64>,
}

/// The most records in one page of a listing.
pub const MAX_PAGE: usize = 100;

/// What the API says of a record: in the status, and with the summary in a listing.
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
}

impl Record {
    /// How far the message has come, as the API says it.
    pub fn progress(&self) -> Progress<'_> {
        Progress {
            message_id: &self.message_id,
            status: self.status,
            state: self.state,
            submissions: self.submissions,
            received_at: self.received_at,
            stored_at: self.stored_at,
            error: self.error.as_ref(),
        }
    }

    /// What was stored, if it was.
    pub fn stored(&self) -> Option<Stored> {
        Some(Stored {
            state: self.state?,
            bucket: self.bucket.clone()?,
            key: self.key.clone()?,
            version_id: self.version_id.clone(),
            json_key: self.json_key.clone(),
            json_version_id: self.json_version_id.clone(),
            raw_key: self.raw_key.clone(),
            raw_version_id: self.raw_version_id.clone(),
            charset: self.charset,
            received_at: self.received_at,
            stored_at: self.stored_at?,
            summary: self.summary.clone().unwrap_or_default(),
            error: self.error.clone(),
        })
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
