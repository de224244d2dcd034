//! The id of a message: the hash of its content.

use std::fmt;

use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::{Digest, Sha256};

/// Lower-case hexadecimal SHA-256 of a message's canonical form ([`crate::Er7`]), 64 digits.
///
/// Scoped by source: two institutes may send the same bytes, and each has a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct MessageId(String);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: expected 64 lower-case hexadecimal digits")]
pub struct InvalidMessageId;

impl MessageId {
    /// The id of a message whose bytes are in canonical form already, such as an ER7 object of the lake. For other bytes the result
    /// is not the id of a message.
    pub fn of_canonical(bytes: &[u8]) -> Self {
        Self(const_hex::encode(Sha256::digest(bytes)))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// MSH-10 of this message's acknowledgment: always the same for one message, and 20 characters long, the limit of MSH-10 before
    /// HL7 2.7.
    pub fn control_id(&self) -> &str {
        self.prefix(20)
    }

    /// The first `digits` digits, or all of them. A few are enough to tell the messages of one POST apart.
    pub fn prefix(&self, digits: usize) -> &str {
        self.0.get(..digits).unwrap_or(&self.0)
    }
}

impl std::str::FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        let is_hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && is_hexadecimal { Ok(Self(text.to_owned())) } else { Err(InvalidMessageId) }
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
