//! A message as it was received.

use std::fmt;

use crate::er7::EmptyMessage;
use crate::{Charset, Er7, Undecodable};

/// Bytes and the character set that they are in. They stay as they are; the message is read out of them where it is needed.
///
/// `Debug` shows a length, never content.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    bytes: Vec<u8>,
    charset: Charset,
}

/// There is no message in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreceivable {
    /// They are not of their character set.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// Nothing but framing and blanks.
    #[error(transparent)]
    Empty(#[from] EmptyMessage),
}

impl Received {
    /// Bytes of which the character set is known.
    pub fn new(bytes: Vec<u8>, charset: Charset) -> Self {
        Self { bytes, charset }
    }

    /// As they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As they came.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What they are in.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// The message, in canonical form.
    ///
    /// # Errors
    /// [`Unreceivable`], with an offset into the bytes.
    pub fn message(&self) -> Result<Er7, Unreceivable> {
        Ok(Er7::canonical(&self.charset.decode(&self.bytes)?)?)
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes of {})", self.bytes.len(), self.charset.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_in_two_character_sets_has_one_id() {
        let text = "MSH|^~\\&|A\nPID|1||7||M\u{fc}ller\n";
        let of = |label| {
            let charset = Charset::for_label(label).unwrap();
            Received::new(charset.encode(text).unwrap(), charset).message().unwrap()
        };
        assert_eq!(of("utf-8"), of("iso-8859-1"));
        assert_eq!(of("utf-8"), of("utf-16le"));
    }

    #[test]
    fn bytes_without_a_message_are_refused() {
        let of = |bytes: &[u8]| Received::new(bytes.to_vec(), Charset::UTF_8).message();
        assert_eq!(of(b"\x0b\x1c\r"), Err(Unreceivable::Empty(EmptyMessage)));
        assert_eq!(of(b"MSH|\xff").unwrap_err().to_string(), "the message is not valid UTF-8: byte 4 cannot be decoded");
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Received::new(b"MSH|secret".to_vec(), Charset::UTF_8)), "Received(10 bytes of UTF-8)");
    }
}
