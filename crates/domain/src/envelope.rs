//! The body of a queue message, which is also the input of the state machine.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Charset, Hold, MessageId, Received, Release, Requester, Source, SubmissionId, Timestamp, TraceParent};

/// One submission on its way: the body of the queue's message and the input of the state machine, as JSON.
///
/// `Debug` shows neither the token nor the message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The version of this shape, [`Envelope::VERSION`].
    pub v: u32,
    /// The POST that brought it, alone or with others.
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
    /// The caller's ID token, sealed for this submission and source (crate `seal`).
    pub token: String,
    /// The message as it was received, or a pointer to it.
    pub payload: Payload,
    /// The trace that the submission is part of. A build before it wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "TraceParent::if_any")]
    pub traceparent: Option<TraceParent>,
    /// The message was held before, and this is its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// How many tries have failed, not counting outages and faults of the deployment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// Set when the tries are over: the message must be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// The bytes of a message as they were received if they are few, else a pointer: Step Functions carries at most 256 KiB from
/// state to state. JSON omits the character set if it is UTF-8.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    /// The bytes in base64: SQS and JSON do not carry every byte.
    Inline {
        /// Base64 of the bytes.
        inline: String,
        /// Their character set.
        #[serde(default = "utf_8", skip_serializing_if = "is_utf_8")]
        charset: Charset,
    },
    /// An object of the overflow bucket, which is removed after 15 days.
    Overflow {
        /// The overflow bucket.
        bucket: String,
        /// `<source>/<submission id>/<message id>.hl7`.
        key: String,
        /// The character set of the object's bytes.
        #[serde(default = "utf_8", skip_serializing_if = "is_utf_8")]
        charset: Charset,
    },
}

fn is_zero(tries: &u32) -> bool {
    *tries == 0
}

fn utf_8() -> Charset {
    Charset::UTF_8
}

fn is_utf_8(charset: &Charset) -> bool {
    *charset == Charset::UTF_8
}

/// A queue message that is no envelope. Names the wrong part, and does not quote it.
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

    /// The caller of the submission.
    pub fn requester(&self) -> Requester {
        Requester { subject: self.subject.clone(), issuer: self.issuer.clone() }
    }

    /// Reads the JSON of a queue message.
    ///
    /// # Errors
    /// [`EnvelopeError`], which never quotes the text.
    pub fn from_json(json: &str) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Version {
            v: Option<serde_json::Value>,
        }
        let is_this = |version: &Version| version.v == Some(Self::VERSION.into());

        match serde_json::from_str::<Self>(json) {
            Ok(envelope) if envelope.v == Self::VERSION => Ok(envelope),
            Ok(_) => Err(EnvelopeError::UnknownVersion),
            // Another version may have another shape, so the error is about the version.
            Err(error) => match serde_json::from_str(json) {
                Ok(version) if !is_this(&version) => Err(EnvelopeError::UnknownVersion),
                _ => Err(EnvelopeError::Unreadable { line: error.line(), column: error.column() }),
            },
        }
    }
}

impl Payload {
    /// Largest message, in bytes as it was received, that travels inside the envelope: 128 KiB as base64, half of what
    /// Step Functions carries.
    pub const MAX_INLINE_BYTES: usize = 96 * 1024;

    /// The message inside the envelope.
    pub fn inline(received: &Received) -> Self {
        Self::Inline { inline: BASE64_STANDARD.encode(received.bytes()), charset: received.charset() }
    }
}

/// Reads the message out of a [`Payload::Inline`].
///
/// `None` if it is not base64: only `submit` writes envelopes, so the envelope is damaged.
pub fn decode_inline(inline: &str, charset: Charset) -> Option<Received> {
    Some(Received::new(BASE64_STANDARD.decode(inline).ok()?, charset))
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
            Self::Inline { inline, charset } => write!(f, "Inline({} bytes of base64, {charset:?})", inline.len()),
            Self::Overflow { bucket, key, charset } => write!(f, "Overflow({bucket}/{key}, {charset:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#"{"v":1,"submissionId":"01ARZ3NDEKTSV4RRFFQ69G5FAV","messageId":"0000000000000000000000000000000000000000000000000000000000000000",
        "source":"general-hospital","receivedAt":"2026-11-21T07:21:07.120Z","subject":"s","issuer":"i","token":"c2VhbGVk","payload":{"inline":"TVNI"}}"#;

    #[test]
    fn an_envelope_reads_back_as_it_was_written() {
        let envelope = Envelope::from_json(JSON).unwrap();
        assert_eq!((envelope.tries, &envelope.hold, &envelope.release), (0, &None, &None));
        assert_eq!(Envelope::from_json(&serde_json::to_string(&envelope).unwrap()), Ok(envelope.clone()));
        let release = crate::Release {
            submission_id: envelope.submission_id,
            received_at: envelope.received_at,
            submitter: envelope.requester(),
            reason: crate::HoldReason::Denied,
        };
        let hold = crate::retry::Failure::hold("Misconfigured");
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
        let later = Envelope { traceparent: trace, release: Some(release), tries: 2, hold: Some(hold), ..envelope };
        assert_eq!(Envelope::from_json(&serde_json::to_string(&later).unwrap()), Ok(later));
    }

    #[test]
    fn a_trace_that_is_absent_or_damaged_stops_no_message() {
        for text in ["null", r#""""#, r#""00-DOE""#] {
            let json = JSON.replace(r#""v":1,"#, &format!(r#""v":1,"traceparent":{text},"#));
            assert_eq!(Envelope::from_json(&json), Envelope::from_json(JSON), "{text}");
        }
    }

    #[test]
    fn a_pointer_is_a_payload_too() {
        let json = JSON.replace(r#"{"inline":"TVNI"}"#, r#"{"bucket":"b","key":"k"}"#);
        let payload = Payload::Overflow { bucket: "b".into(), key: "k".into(), charset: Charset::UTF_8 };
        assert_eq!(Envelope::from_json(&json).unwrap().payload, payload);
    }

    #[test]
    fn a_payload_names_its_character_set_unless_that_is_utf_8() {
        let latin_1 = Charset::for_label("iso-8859-1").unwrap();
        let inline = |charset| Payload::Inline { inline: "TVNI".into(), charset };
        let overflow = |charset| Payload::Overflow { bucket: "b".into(), key: "k".into(), charset };
        let table = [
            (r#"{"inline":"TVNI"}"#, inline(Charset::UTF_8)),
            (r#"{"inline":"TVNI","charset":"windows-1252"}"#, inline(latin_1)),
            (r#"{"bucket":"b","key":"k"}"#, overflow(Charset::UTF_8)),
            (r#"{"bucket":"b","key":"k","charset":"windows-1252"}"#, overflow(latin_1)),
        ];
        for (json, payload) in table {
            assert_eq!(serde_json::to_string(&payload).unwrap(), json);
            assert_eq!(serde_json::from_str::<Payload>(json).unwrap(), payload, "{json}");
        }
        for damaged in [r#""klingon""#, "[]", "null", "7"] {
            let json = JSON.replace(r#""inline":"TVNI""#, &format!(r#""inline":"TVNI","charset":{damaged}"#));
            assert!(matches!(Envelope::from_json(&json), Err(EnvelopeError::Unreadable { .. })), "{damaged}");
        }
    }

    #[test]
    fn an_invalid_envelope_is_refused_without_being_quoted() {
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
    fn a_payload_that_is_not_base64_is_no_message() {
        assert_eq!(decode_inline("not base64", Charset::UTF_8), None);
    }

    proptest! {
        #[test]
        fn bytes_come_out_of_the_envelope_as_they_went_in(bytes in prop::collection::vec(any::<u8>(), 0..60), utf_8: bool) {
            let charset = if utf_8 { Charset::UTF_8 } else { Charset::for_label("iso-8859-15").unwrap() };
            let received = Received::new(bytes, charset);
            let json = serde_json::to_string(&Payload::inline(&received)).unwrap();
            let Payload::Inline { inline, charset } = serde_json::from_str(&json).unwrap() else { panic!("not inline") };
            prop_assert_eq!(decode_inline(&inline, charset), Some(received));
        }
    }
}
