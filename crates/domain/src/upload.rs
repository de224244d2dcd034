//! The id of an upload: the hash of its bytes.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::{Digest, Sha256};

/// SHA-256 of the bytes that a caller uploads; 64 lower-case hexadecimal digits as text.
///
/// Whoever has the bytes can compute the id, so nobody has to remember anything to resume an upload. It is not the
/// [`crate::MessageId`], which is the hash of the canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct UploadId([u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id: expected 64 lower-case hexadecimal digits")]
pub struct InvalidUploadId;

impl UploadId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash in base64, as S3 has it in `x-amz-checksum-sha256`.
    pub fn checksum(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }
}

impl std::str::FromStr for UploadId {
    type Err = InvalidUploadId;

    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        // The decoder takes `0x` and upper case as well, and an id has one form.
        let is_lower_case = text.len() == 64 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let hash = const_hex::decode_to_array(text).ok().filter(|_| is_lower_case);
        hash.map(Self).ok_or(InvalidUploadId)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_id_is_the_hash_of_the_bytes_in_lower_case() {
        let id = UploadId::of(b"MSH|\r");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(UploadId::of(b"").checksum(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        let digits = id.to_string();
        let prefixed = format!("0x{}", digits.split_at(2).1);
        for text in ["", "0", &digits.to_uppercase(), digits.split_at(1).1, &format!("{digits}0"), &prefixed, &"g".repeat(64)] {
            assert_eq!(text.parse::<UploadId>(), Err(InvalidUploadId), "{text}");
        }
    }
}
