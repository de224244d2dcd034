//! A message as it was received.

use std::fmt;

use bytes::Bytes;

use crate::er7::EmptyMessage;
use crate::{Charset, Er7, MessageId, Undecodable};

/// Bytes and their charset. The bytes stay as they are, and clones share them; the message is read out of them where it is needed.
///
/// `Debug` shows a length, never content.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    bytes: Bytes,
    charset: Charset,
}

/// There is no message in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreceivable {
    /// The bytes do not belong to their character set.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// Nothing but framing and blanks.
    #[error(transparent)]
    Empty(#[from] EmptyMessage),
}

impl Received {
    /// Bytes whose charset is known.
    pub fn new(bytes: impl Into<Bytes>, charset: Charset) -> Self {
        Self { bytes: bytes.into(), charset }
    }

    /// The bytes as they were received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as they were received.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Their charset.
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

    /// The message in the canonical form that has this id: today's, or the one of builds before line feeds were content of a field
    /// (`Er7::earlier_canonical`). `None` if the bytes are another message.
    ///
    /// # Errors
    /// As [`Received::message`].
    pub fn message_with_id(&self, id: &MessageId) -> Result<Option<Er7>, Unreceivable> {
        let text = self.charset.decode(&self.bytes)?;
        let today = Er7::canonical(&text)?;
        let has_id = |message: &Er7| message.message_id() == *id;
        if has_id(&today) {
            return Ok(Some(today));
        }
        Ok(Er7::earlier_canonical(&text).ok().filter(has_id))
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
        let of = |bytes: &'static [u8]| Received::new(bytes, Charset::UTF_8).message();
        assert_eq!(of(b"\x0b\x1c\r"), Err(Unreceivable::Empty(EmptyMessage)));
        let refusal = of(b"MSH|\xff").unwrap_err().to_string();
        assert!(refusal.starts_with("the message is not valid UTF-8: byte 4 cannot be decoded"), "{refusal}");
    }

    #[test]
    fn a_message_of_an_earlier_build_is_found_by_the_id_that_it_has() {
        let text = "MSH|^~\\&|A\rOBX|1|TX|c||one\ntwo\r\n\rOBX|2\r";
        let received = Received::new(text, Charset::UTF_8);
        let (today, earlier) = (Er7::canonical(text).unwrap(), Er7::earlier_canonical(text).unwrap());
        assert_eq!(today.as_str(), "MSH|^~\\&|A\rOBX|1|TX|c||one\ntwo\rOBX|2\r");
        assert_eq!(earlier.as_str(), "MSH|^~\\&|A\rOBX|1|TX|c||one\rtwo\r\rOBX|2\r");
        for message in [today, earlier] {
            assert_eq!(received.message_with_id(&message.message_id()), Ok(Some(message)));
        }
        assert_eq!(received.message_with_id(&Er7::canonical("MSH|x").unwrap().message_id()), Ok(None));
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Received::new(b"MSH|secret".to_vec(), Charset::UTF_8)), "Received(10 bytes of UTF-8)");
    }
}
