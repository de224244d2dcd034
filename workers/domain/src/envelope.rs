//! What waits in the queue, and what the state machine is started with.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Er7, MessageId, Source, SubmissionId, Timestamp};

/// One submission on its way: the body of the queue's message and the input of the state machine, as JSON.
///
/// `Debug` shows neither the token nor the message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The version of this shape, [`Envelope::VERSION`].
    pub v: u32,
    /// The POST that brought it.
    pub submission_id: SubmissionId,
    /// The id of the message's content.
    pub message_id: MessageId,
    /// The institute it comes from.
    pub source: Source,
    /// When the POST arrived.
    pub received_at: Timestamp,
    /// The caller, `sub` of the ID token.
    pub subject: String,
    /// Who signed the ID token, `iss`.
    pub issuer: String,
    /// The caller's ID token, sealed by KMS with the encryption context `{submissionId, source}`.
    pub token: String,
    /// The message, or where it lies.
    pub payload: Payload,
}

/// The message itself when it is small, else a pointer: Step Functions carries at most 256 KiB from state to state.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    /// The canonical message, base64: SQS and JSON do not carry every byte.
    Inline {
        /// Base64 of the canonical form.
        inline: String,
    },
    /// An object of the overflow bucket, which is removed after a day.
    Overflow {
        /// The overflow bucket.
        bucket: String,
        /// `<source>/<submission id>.hl7`.
        key: String,
    },
}

/// A queue message that is no envelope. Says which part is wrong, not what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or a field is missing or has another shape.
    #[error("not an envelope: unreadable at line {line}, column {column}")]
    Unreadable {
        /// Line of the JSON text, from 1.
        line: usize,
        /// Column of that line, from 1.
        column: usize,
    },
    /// A version that this build does not know.
    #[error("not an envelope of version 1")]
    UnknownVersion,
}

impl Envelope {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 1;

    /// Reads the JSON of a queue message.
    ///
    /// # Errors
    /// [`EnvelopeError`], which never quotes the text.
    pub fn from_json(json: &str) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Version {
            v: Option<serde_json::Value>,
        }
        let unreadable = |error: serde_json::Error| EnvelopeError::Unreadable { line: error.line(), column: error.column() };

        let version: Version = serde_json::from_str(json).map_err(unreadable)?;
        if version.v != Some(Self::VERSION.into()) {
            return Err(EnvelopeError::UnknownVersion);
        }
        serde_json::from_str(json).map_err(unreadable)
    }
}

impl Payload {
    /// Largest message, in bytes of canonical form, that travels inside the envelope: 128 KiB as base64, half of what
    /// Step Functions carries.
    pub const MAX_INLINE_BYTES: usize = 96 * 1024;

    /// The message inside the envelope.
    pub fn inline(message: &Er7) -> Self {
        Self::Inline { inline: BASE64_STANDARD.encode(message.as_str()) }
    }
}

/// Reads the message out of a [`Payload::Inline`].
///
/// `None` if it is not base64, not UTF-8 or empty: nobody but `submit` writes envelopes, so this is a damaged one.
pub fn decode_inline(inline: &str) -> Option<Er7> {
    let bytes = BASE64_STANDARD.decode(inline).ok()?;
    Er7::canonical(std::str::from_utf8(&bytes).ok()?).ok()
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("submission_id", &self.submission_id)
            .field("message_id", &self.message_id)
            .field("source", &self.source)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline { inline } => write!(f, "Inline({} bytes of base64)", inline.len()),
            Self::Overflow { bucket, key } => write!(f, "Overflow({bucket}/{key})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"v":1,"submissionId":"01ARZ3NDEKTSV4RRFFQ69G5FAV","messageId":"0000000000000000000000000000000000000000000000000000000000000000",
        "source":"general-hospital","receivedAt":"2026-11-21T07:21:07.120Z","subject":"s","issuer":"i","token":"c2VhbGVk","payload":{"inline":"TVNI"}}"#;

    #[test]
    fn an_envelope_reads_back_as_it_was_written() {
        let envelope = Envelope::from_json(JSON).unwrap();
        assert_eq!(Envelope::from_json(&serde_json::to_string(&envelope).unwrap()), Ok(envelope));
    }

    #[test]
    fn a_pointer_is_a_payload_too() {
        let json = JSON.replace(r#"{"inline":"TVNI"}"#, r#"{"bucket":"b","key":"k"}"#);
        assert_eq!(Envelope::from_json(&json).unwrap().payload, Payload::Overflow { bucket: "b".into(), key: "k".into() });
    }

    #[test]
    fn what_is_no_envelope_is_refused_without_being_quoted() {
        let cases = [
            "",
            "hello SECRET",
            "{}",
            r#"{"v":"1"}"#,
            r#"{"v":2,"secret":"SECRET"}"#,
            r#"{"v":1,"source":"SECRET SOURCE"}"#,
            "[1]",
        ];
        for json in cases {
            let error = Envelope::from_json(json).unwrap_err();
            assert!(!error.to_string().contains("SECRET") && !format!("{error:?}").contains("SECRET"), "{error}");
        }
        assert_eq!(Envelope::from_json(&JSON.replace(r#""v":1"#, r#""v":2"#)), Err(EnvelopeError::UnknownVersion));
    }

    #[test]
    fn debug_shows_neither_token_nor_message() {
        let shown = format!("{:?}", Envelope::from_json(JSON).unwrap());
        assert!(!shown.contains("c2VhbGVk") && !shown.contains("TVNI"), "{shown}");
    }

    #[test]
    fn the_message_comes_out_of_the_envelope_as_it_went_in() {
        let message = Er7::canonical("MSH|^~\\&|é\rPID|1").unwrap();
        let Payload::Inline { inline } = Payload::inline(&message) else { panic!("not inline") };
        assert_eq!(decode_inline(&inline), Some(message));
        assert_eq!(decode_inline("not base64"), None);
    }
}
