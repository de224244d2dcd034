//! The facts about an accepted message that cannot be stored now: why it is held, until when, and its copy in the held
//! bucket.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use sha2::{Digest as _, Sha256};
use strum::{Display, EnumString, IntoStaticStr};

use crate::{Charset, MessageId, Received, Source, SubmissionId, Timestamp, TraceParent};

/// Why a message is held. Also the dimension of the metric and the attribute `reason` of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum HoldReason {
    /// The submitter may not write it.
    Denied,
    /// The submitter's token expired before the message was stored.
    Expired,
    /// The deployment refuses it, by a role, a key or a policy. Its operator has to correct that.
    Deployment,
    /// Every try failed.
    Failed,
}

impl HoldReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Denied, Self::Expired, Self::Deployment, Self::Failed];

    /// The text in the catalog, in answers and in events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The owner of a request's ID token: `iss` and `sub`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Requester {
    /// `sub`.
    pub subject: String,
    /// `iss`.
    pub issuer: String,
}

impl Requester {
    /// SHA-256 of issuer and subject, in lower-case hex: a name of the user that says nothing about them.
    pub fn digest(&self) -> String {
        // A line end is in no `iss`, which is a URL.
        const_hex::encode(Sha256::digest(format!("{}\n{}", self.issuer, self.subject)))
    }
}

/// The members of a record that say where the copy of a held message lies. They stay until the message is stored, so that it can
/// be released again if a release gets lost. In the table they are in snake_case.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldFacts {
    /// Why it is held.
    pub held_reason: HoldReason,
    /// The beginning of the hold.
    pub held_since: Timestamp,
    /// The time until which the copy is kept.
    pub held_until: Timestamp,
    /// Key in the held bucket.
    pub held_key: String,
    /// S3 version of the copy.
    pub held_version_id: Option<String>,
}

impl HeldFacts {
    /// The API's form of the facts.
    pub fn answer(&self) -> Held {
        Held { reason: self.held_reason, since: self.held_since, until: self.held_until }
    }
}

/// The member `held` of a status answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Why the message is held.
    pub reason: HoldReason,
    /// The beginning of the hold.
    pub since: Timestamp,
    /// The time until which the copy is kept.
    pub until: Timestamp,
}

/// In an envelope: the tries are over, and the message must be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The reason.
    pub reason: HoldReason,
    /// Name of the step error of the last try.
    pub error: String,
}

/// In an envelope: the message was held and is now released. Names its submitter and the submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The submission that brought the message.
    pub submission_id: SubmissionId,
    /// When that submission arrived.
    pub received_at: Timestamp,
    /// The submitter.
    #[serde(flatten)]
    pub submitter: Requester,
    /// Why the message was held.
    pub reason: HoldReason,
}

/// The JSON object of a message in the held bucket. It has no token.
///
/// `Debug` does not show the message.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldCopy {
    /// The version of this shape, [`HeldCopy::VERSION`].
    pub v: u32,
    /// The submission that brought the message.
    pub submission_id: SubmissionId,
    /// The message.
    pub message_id: MessageId,
    /// The institute.
    pub source: Source,
    /// When the submission arrived.
    pub received_at: Timestamp,
    /// The submitter.
    #[serde(flatten)]
    pub submitter: Requester,
    /// Why the message is held.
    pub reason: HoldReason,
    /// Name of the step error.
    pub error: String,
    /// The beginning of the hold.
    pub since: Timestamp,
    /// The time until which the object is kept.
    pub until: Timestamp,
    /// The trace that the submission is part of, if any.
    #[serde(default, deserialize_with = "TraceParent::if_any")]
    pub traceparent: Option<TraceParent>,
    /// The character set of the bytes. Absent for UTF-8.
    pub charset: Option<Charset>,
    /// Base64 of the bytes as they were received.
    pub payload: String,
}

impl HeldCopy {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;

    /// The bytes as they were received. `None` if the copy is damaged.
    pub fn received(&self) -> Option<Received> {
        Some(Received::new(BASE64_STANDARD.decode(&self.payload).ok()?, self.charset.unwrap_or(Charset::UTF_8)))
    }
}

impl fmt::Debug for HeldCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldCopy")
            .field("submission_id", &self.submission_id)
            .field("message_id", &self.message_id)
            .field("source", &self.source)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// A selection of the held messages of an institute: all of them, unless a member restricts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldQuery {
    /// Held for this reason.
    pub reason: Option<HoldReason>,
    /// Held since this time or later.
    pub from: Option<Timestamp>,
    /// Held since before this time.
    pub to: Option<Timestamp>,
}

/// The place of a message among the held ones of its institute, in the order in which they were held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPosition {
    /// The beginning of the hold.
    pub held_since: Timestamp,
    /// Orders messages of the same millisecond.
    pub message_id: MessageId,
}

/// How long a release counts as on its way. If a recorded release never ended, the message can be released again after this time.
pub const RELEASE_GRACE: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"v":1,"submissionId":"01ARZ3NDEKTSV4RRFFQ69G5FAV","messageId":"0000000000000000000000000000000000000000000000000000000000000000","source":"general-hospital","receivedAt":"2026-11-21T07:21:07.120Z","subject":"s","issuer":"i","reason":"denied","error":"Denied","since":"2026-11-21T07:21:08.120Z","until":"2027-02-19T07:21:08.120Z","charset":"windows-1252","payload":"TVNI"}"#;

    #[test]
    fn a_held_copy_reads_back_as_it_was_written() {
        let copy: HeldCopy = serde_json::from_str(JSON).unwrap();
        assert_eq!(serde_json::to_string(&copy).unwrap(), JSON);
        let received = copy.received().unwrap();
        assert_eq!((received.bytes(), received.charset().name()), (b"MSH".as_slice(), "windows-1252"));
        assert!(!format!("{copy:?}").contains("TVNI"));
        let utf_8 = serde_json::from_str::<HeldCopy>(&JSON.replace(r#""charset":"windows-1252","#, "")).unwrap();
        assert_eq!(utf_8.received().unwrap().charset(), Charset::UTF_8);
        assert_eq!(HeldCopy { payload: "no base64".to_owned(), ..copy }.received(), None);
    }

    #[test]
    fn a_hold_reason_is_one_word() {
        for reason in HoldReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }
}
