//! Checks whether bytes are the message that they should be.

use domain::{Charset, HeldCopy, MessageId, Received};
use hl7::NotDecompressed;

use crate::operator::records::Key;

/// The largest object that is read into memory, compressed or not. A rendition can be fifty times as large as its message; the audit
/// checks only that a larger one exists.
pub(super) const MAX_READ_BYTES: usize = 96 * 1024 * 1024;

/// The expected content of an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// The canonical form.
    Er7,
    /// The JSON rendition.
    Json {
        /// With gzip. Those of version 1 are not.
        is_compressed: bool,
    },
    /// The received bytes.
    Raw(Charset),
}

impl Content {
    /// Whether the bytes are that form of the message with this id. A rendition of more than [`MAX_READ_BYTES`] is not read.
    pub(super) fn is_of(self, bytes: &[u8], id: &MessageId) -> bool {
        match self {
            Self::Er7 => MessageId::of_canonical(bytes) == *id,
            Self::Raw(charset) => is_received(bytes, charset, id),
            Self::Json { is_compressed: false } => is_rendition(bytes, id),
            Self::Json { is_compressed: true } => match hl7::decompressed(bytes, MAX_READ_BYTES) {
                Ok(json) => is_rendition(&json, id),
                // Only looked for.
                Err(NotDecompressed::TooLarge) => true,
                Err(NotDecompressed::Damaged) => false,
            },
        }
    }
}

fn is_rendition(json: &[u8], id: &MessageId) -> bool {
    hl7::read_json(json).is_ok_and(|message| is_received(message.as_str().as_bytes(), Charset::UTF_8, id))
}

fn is_received(bytes: &[u8], charset: Charset, id: &MessageId) -> bool {
    matches!(Received::new(bytes.to_vec(), charset).message_with_id(id), Ok(Some(_)))
}

/// Whether the bytes are the copy of that held message.
pub(super) fn is_held_copy(bytes: &[u8], (source, message_id): &Key) -> bool {
    let Ok(copy) = serde_json::from_slice::<HeldCopy>(bytes) else { return false };
    let is_message = copy.received().is_some_and(|received| matches!(received.message_with_id(message_id), Ok(Some(_))));
    is_message && copy.v == HeldCopy::VERSION && copy.source == *source && copy.message_id == *message_id
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use domain::Er7;

    use super::*;

    const MESSAGE: &str = "MSH|^~\\&|A|B|C|D|20260102||ADT^A01|1|P|2.5.1\rPID|1||4711\r";

    #[test]
    fn each_form_of_a_message_is_told_from_another_message() {
        let message = Er7::canonical(MESSAGE).unwrap();
        let id = message.message_id();
        let mut json = Vec::new();
        hl7::write_json(&message, &hl7::Delimiters::of(&message).unwrap(), &mut json).unwrap();
        let raw = MESSAGE.replace('\r', "\r\n");
        let utf_8 = Charset::UTF_8;
        let plain = Content::Json { is_compressed: false };
        let forms = [(Content::Er7, MESSAGE.as_bytes()), (plain, &json), (Content::Raw(utf_8), raw.as_bytes())];
        for (content, bytes) in forms {
            assert!(content.is_of(bytes, &id), "{content:?}");
            let other = String::from_utf8(bytes.to_vec()).unwrap().replace("4711", "4712");
            assert!(!content.is_of(other.as_bytes(), &id), "{content:?}");
            assert!(!content.is_of(b"", &id), "{content:?}");
        }
    }

    #[test]
    fn a_compressed_rendition_is_told_from_that_of_another_message_and_from_a_damaged_one() {
        let message = Er7::canonical(MESSAGE).unwrap();
        let (id, source) = (message.message_id(), "west".parse().unwrap());
        let origin = hl7::Origin { message_id: &id, source: &source, received_at: "2026-11-21T07:21:07.120Z".parse().unwrap() };
        let bytes =
            hl7::compressed_json(&message, &hl7::Delimiters::of(&message).unwrap(), &origin, hl7::Schema::standard()).unwrap();
        let content = Content::Json { is_compressed: true };
        assert!(content.is_of(&bytes, &id));
        assert!(!content.is_of(&bytes, &MessageId::of_canonical(b"another")));
        assert!(!content.is_of(&bytes[..bytes.len() - 1], &id));
        assert!(!content.is_of(&hl7::decompressed(&bytes, MAX_READ_BYTES).unwrap(), &id), "as its key says");
    }

    #[test]
    fn a_held_copy_is_of_one_message_of_one_institute() {
        let id = Er7::canonical(MESSAGE).unwrap().message_id();
        let key: Key = ("west".parse().unwrap(), id.clone());
        let copy = |source: &str, payload: &str| {
            let payload = BASE64_STANDARD.encode(payload);
            let (at, submission_id) = ("2026-11-21T07:21:07.120Z", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
            serde_json::json!({
                "v": 1, "submissionId": submission_id, "messageId": id, "source": source, "receivedAt": at, "subject": "s", "issuer": "i",
                "reason": "denied", "error": "Denied", "since": at, "until": at, "payload": payload,
            })
            .to_string()
        };
        assert!(is_held_copy(copy("west", MESSAGE).as_bytes(), &key));
        assert!(!is_held_copy(copy("east", MESSAGE).as_bytes(), &key));
        assert!(!is_held_copy(copy("west", "MSH|^~\\&|").as_bytes(), &key));
        assert!(!is_held_copy(b"{}", &key));
    }
}
