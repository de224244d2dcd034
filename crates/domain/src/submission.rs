//! The id of one POST.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};
use ulid::Ulid;

use crate::Timestamp;

/// A ULID: 26 characters that sort by time of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct SubmissionId(Ulid);

/// The text is not a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a submission id: expected a ULID")]
pub struct InvalidSubmissionId;

impl SubmissionId {
    /// Its time in milliseconds of Unix time (48 bits), and its 80 random bits.
    pub(crate) fn parts(self) -> (u64, u128) {
        (self.0.timestamp_ms(), self.0.random())
    }

    /// The time in the id. Whoever sent the id may have made it up.
    pub fn time(self) -> Option<Timestamp> {
        Timestamp::from_millis(self.0.timestamp_ms().try_into().ok()?)
    }

    /// MSH-10 of an acknowledgment that does not answer one message: the random end of the id, cut to 20 characters, the limit of
    /// MSH-10 before HL7 2.7.
    pub fn control_id(self) -> String {
        self.0.to_string().split_off(ulid::ULID_LEN - 20)
    }
}

/// A new id is `Ulid::generate().into()`. The caller makes it, because this crate has neither a clock nor randomness.
impl From<Ulid> for SubmissionId {
    fn from(ulid: Ulid) -> Self {
        Self(ulid)
    }
}

impl FromStr for SubmissionId {
    type Err = InvalidSubmissionId;

    fn from_str(text: &str) -> Result<Self, InvalidSubmissionId> {
        text.parse().map(Self).map_err(|_| InvalidSubmissionId)
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
