//! The id of one POST.

use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A ULID: 26 characters that sort by time of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubmissionId(Ulid);

/// The text is no ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a submission id: expected a ULID")]
pub struct InvalidSubmissionId;

impl SubmissionId {
    /// A new id, of now.
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }

    /// MSH-10 of an acknowledgment of a submission that is of no one message: the random end, of the 20 characters that MSH-10 had
    /// before HL7 2.7.
    pub fn control_id(self) -> String {
        self.0.to_string().split_off(ulid::ULID_LEN - 20)
    }
}

impl TryFrom<String> for SubmissionId {
    type Error = InvalidSubmissionId;

    fn try_from(text: String) -> Result<Self, InvalidSubmissionId> {
        text.parse().map(Self).map_err(|_| InvalidSubmissionId)
    }
}

impl From<SubmissionId> for String {
    fn from(id: SubmissionId) -> Self {
        id.0.to_string()
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
