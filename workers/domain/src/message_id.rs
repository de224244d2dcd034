//! The id of a message: what its content hashes to.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Lower-case hexadecimal SHA-256 of a message's canonical form ([`crate::Er7`]), 64 digits.
///
/// Scoped by source: two institutes may send the same bytes, and each has a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: expected 64 lower-case hexadecimal digits")]
pub struct InvalidMessageId;

impl MessageId {
    fn from_digest(digest: [u8; 32]) -> Self {
        use fmt::Write as _;
        Self(digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The id of a message whose bytes are in canonical form already: of an object of the lake. Of any other bytes it is no
    /// message's id.
    pub fn of_canonical(bytes: &[u8]) -> Self {
        Self::from_digest(Sha256::digest(bytes).into())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// MSH-10 of an acknowledgment of this message: the same for the same message, and of the 20 characters that MSH-10 had before
    /// HL7 2.7.
    pub fn control_id(&self) -> &str {
        self.prefix(20)
    }

    /// The first digits, at most so many: enough to tell the messages of one POST apart.
    pub fn prefix(&self, digits: usize) -> &str {
        self.0.get(..digits).unwrap_or(&self.0)
    }
}

impl TryFrom<String> for MessageId {
    type Error = InvalidMessageId;

    fn try_from(text: String) -> Result<Self, InvalidMessageId> {
        let is_hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && is_hexadecimal { Ok(Self(text)) } else { Err(InvalidMessageId) }
    }
}

impl std::str::FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        Self::try_from(text.to_owned())
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Er7, MessageId};

    #[test]
    fn the_id_is_the_sha_256_of_the_canonical_form() {
        // printf 'MSH|^~\\&|A\r' | sha256sum
        let message = Er7::canonical("MSH|^~\\&|A\n").unwrap();
        let id = message.message_id();
        assert_eq!(MessageId::of_canonical(message.as_str().as_bytes()), id);
        assert_eq!(id.as_str(), "bd088584a67239594b5896dcfd1a962e89d9607f0a63381bbdc1ad802625204c");
    }

    #[test]
    fn a_prefix_is_the_first_digits() {
        let id: MessageId = "0123456789abcdef".repeat(4).parse().unwrap();
        assert_eq!([id.prefix(0), id.prefix(12), id.prefix(64), id.prefix(65)], ["", "0123456789ab", id.as_str(), id.as_str()]);
    }

    #[test]
    fn an_id_is_64_lower_case_digits() {
        assert!("0a".repeat(32).parse::<MessageId>().is_ok());
        for bad in ["", "0A", &"0A".repeat(32), &"0a".repeat(33), &"0g".repeat(32)] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }
}
