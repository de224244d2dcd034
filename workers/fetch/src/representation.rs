//! Selects the form of a message that the caller gets, and tells whether they have it already (RFC 9110 §12.5.1 and §13.1.2).

use domain::{Charset, MessageId, Received, StoredFacts, object};
use mediatype::MediaType;
use mediatype::names::{APPLICATION, JSON, OCTET_STREAM};
use runtime::media;

/// The content type of the rendition.
static RENDITION: MediaType = MediaType::new(APPLICATION, JSON);

/// The content type of the bytes as they were received, in any character set.
static RAW: MediaType = MediaType::new(APPLICATION, OCTET_STREAM);

/// One form of a stored message: an object of the lake, and how the answer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Representation {
    pub content_type: String,
    /// A strong validator, with its quotes. It identifies the content: by the message id, which is its hash, or by its S3 version.
    pub etag: String,
    pub bucket: String,
    pub key: String,
    pub version_id: Option<String>,
    pub form: Form,
}

/// The form of the message in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The canonical form.
    Canonical,
    /// The bytes as they were received, in that character set.
    Received(Charset),
    /// The JSON rendition.
    Rendition,
}

impl Form {
    /// Whether these bytes are the message, by its id: the hash of the canonical form. A rendition has no such hash, so the answer is
    /// yes.
    pub(crate) fn is_of(self, message_id: &MessageId, bytes: &[u8]) -> bool {
        match self {
            Self::Canonical => MessageId::of_canonical(bytes) == *message_id,
            Self::Received(charset) => {
                Received::new(bytes.to_vec(), charset).message_with_id(message_id).is_ok_and(|message| message.is_some())
            }
            Self::Rendition => true,
        }
    }
}

impl Representation {
    /// The form that the `Accept` header prefers; the canonical form without such a header. `None` if no form is acceptable. A message
    /// that did not parse has no rendition. The bytes as they were received come last among forms of the same weight.
    pub(crate) fn negotiate(accept: Option<&str>, message_id: &MessageId, facts: &StoredFacts) -> Option<Self> {
        let available: Vec<_> = media::ER7.iter().chain(facts.json_key.is_some().then_some(&RENDITION)).chain([&RAW]).collect();
        let chosen = media::negotiate(accept, &available)?;
        Some(match &facts.json_key {
            Some(json_key) if chosen == &RENDITION => Self {
                content_type: chosen.to_string(),
                etag: format!("\"{message_id}.json.{}\"", facts.json_version_id.as_deref().unwrap_or("null")),
                bucket: facts.bucket.clone(),
                key: json_key.clone(),
                version_id: facts.json_version_id.clone(),
                form: Form::Rendition,
            },
            _ if chosen == &RAW => Self::raw(message_id, facts),
            _ => Self {
                content_type: format!("{chosen}; charset=utf-8"),
                etag: format!("\"{message_id}\""),
                bucket: facts.bucket.clone(),
                key: facts.key.clone(),
                version_id: facts.version_id.clone(),
                form: Form::Canonical,
            },
        })
    }

    /// The bytes as they were received: an object of their own, or the ER7 object if they equal the canonical form.
    fn raw(message_id: &MessageId, facts: &StoredFacts) -> Self {
        let (key, version_id, form) = match &facts.raw_key {
            Some(key) => (key, &facts.raw_version_id, Form::Received(facts.charset.unwrap_or(Charset::UTF_8))),
            None => (&facts.key, &facts.version_id, Form::Canonical),
        };
        Self {
            content_type: RAW.to_string(),
            etag: format!("\"{message_id}.raw.{}\"", version_id.as_deref().unwrap_or("null")),
            bucket: facts.bucket.clone(),
            key: key.clone(),
            version_id: version_id.clone(),
            form,
        }
    }

    /// Whether the object is compressed. The answer is not: a rendition of either version is the same JSON to a caller.
    pub(crate) fn is_compressed(&self) -> bool {
        self.form == Form::Rendition && object::is_compressed(&self.key)
    }

    /// Whether an `If-None-Match` header names this form.
    pub(crate) fn is_named_by(&self, if_none_match: &str) -> bool {
        // No entity tag of ours has a comma in it.
        if_none_match.split(',').map(str::trim).any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == self.etag)
    }
}

#[cfg(test)]
mod tests {
    use domain::{State, Summary, Timestamp};

    use super::*;

    fn stored(parsed: bool) -> StoredFacts {
        StoredFacts {
            stored_at: Timestamp::from_millis(0).unwrap(),
            state: if parsed { State::Parsed } else { State::Error },
            bucket: "lake".to_owned(),
            key: "m.hl7".to_owned(),
            version_id: Some("v1".to_owned()),
            json_key: parsed.then(|| "m.json".to_owned()),
            json_version_id: parsed.then(|| "v2".to_owned()),
            raw_key: None,
            raw_version_id: None,
            charset: None,
            summary: Summary::default(),
        }
    }

    fn content_type(accept: Option<&str>, parsed: bool) -> Option<String> {
        let id = MessageId::of_canonical(b"MSH|\r");
        Representation::negotiate(accept, &id, &stored(parsed)).map(|it| it.content_type)
    }

    #[test]
    fn the_accept_header_chooses_the_form() {
        const HL7: &str = "application/hl7-v2; charset=utf-8";
        const RAW: &str = "application/octet-stream";
        let table = [
            (None, Some(HL7)),
            (Some(""), Some(HL7)),
            (Some("*/*"), Some(HL7)),
            (Some("application/*"), Some(HL7)),
            (Some("application/hl7-v2"), Some(HL7)),
            (Some("Application/HL7-V2;q=0.5"), Some(HL7)),
            (Some("application/hl7-v2; charset=utf-8"), Some(HL7)),
            (Some("application/hl7-v2;charset=UTF-8;q=0.1"), Some(HL7)),
            (Some("x-application/hl7-v2+er7"), Some("x-application/hl7-v2+er7; charset=utf-8")),
            (Some("text/plain"), Some("text/plain; charset=utf-8")),
            (Some("text/*"), Some("text/plain; charset=utf-8")),
            (Some("application/json"), Some("application/json")),
            (Some("application/json; charset=utf-8"), Some("application/json")),
            (Some("application/json;q=0.5, application/hl7-v2"), Some(HL7)),
            (Some("application/hl7-v2;q=0.5, application/json"), Some("application/json")),
            (Some("application/json, */*;q=0.1"), Some("application/json")),
            (Some("application/hl7-v2;q=0, */*"), Some("x-application/hl7-v2+er7; charset=utf-8")),
            (Some("application/octet-stream"), Some(RAW)),
            (Some("application/octet-stream;q=0.5, application/hl7-v2"), Some(HL7)),
            (Some("application/octet-stream, */*;q=0.9"), Some(RAW)),
            (Some("application/octet-stream, */*"), Some(RAW)),
            (Some("application/hl7-v2;q=0, application/*"), Some("application/json")),
            (Some("application/hl7-v2;q=0, application/json;q=0, application/*"), Some(RAW)),
            (Some("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), Some(HL7)),
            (Some("application/xml"), None),
            (Some("application/hl7-v2+xml"), None),
            (Some("image/*, text/html"), None),
            (Some("*/*;q=0"), None),
            (Some("klingon"), None),
        ];
        for (accept, expected) in table {
            assert_eq!(content_type(accept, true).as_deref(), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_message_that_did_not_parse_has_no_json() {
        assert_eq!(content_type(Some("application/json"), false), None);
        let er7 = "application/hl7-v2; charset=utf-8";
        assert_eq!(content_type(Some("application/json, application/*;q=0.1"), false).as_deref(), Some(er7));
    }

    #[test]
    fn each_form_has_its_object_and_its_validator() {
        let id = MessageId::of_canonical(b"MSH|\r");
        let form = |accept| Representation::negotiate(Some(accept), &id, &stored(true)).unwrap();
        let (er7, json) = (form("*/*"), form("application/json"));
        assert_eq!((er7.key.as_str(), er7.version_id.as_deref(), er7.form), ("m.hl7", Some("v1"), Form::Canonical));
        assert_eq!((json.key.as_str(), json.version_id.as_deref(), json.form), ("m.json", Some("v2"), Form::Rendition));
        assert!(!er7.is_compressed() && !json.is_compressed());
        let facts = StoredFacts { json_key: Some("m.json.gz".to_owned()), ..stored(true) };
        assert!(Representation::negotiate(Some("application/json"), &id, &facts).unwrap().is_compressed());
        assert_eq!((er7.etag, json.etag), (format!("\"{id}\""), format!("\"{id}.json.v2\"")));
    }

    #[test]
    fn what_was_received_is_an_object_of_its_own_or_that_of_the_canonical_form() {
        let id = MessageId::of_canonical(b"MSH|\r");
        let raw = |stored: &StoredFacts| Representation::negotiate(Some("application/octet-stream"), &id, stored).unwrap();
        let same = raw(&stored(true));
        assert_eq!((same.key.as_str(), same.version_id.as_deref(), same.form), ("m.hl7", Some("v1"), Form::Canonical));
        assert_eq!(same.etag, format!("\"{id}.raw.v1\""));

        let (raw_key, raw_version_id) = (Some("m.bin".to_owned()), Some("v3".to_owned()));
        let latin_1 = Charset::for_label("iso-8859-1");
        let other = raw(&StoredFacts { raw_key, raw_version_id, charset: latin_1, ..stored(false) });
        assert_eq!((other.key.as_str(), other.version_id.as_deref()), ("m.bin", Some("v3")));
        assert_eq!((other.form, other.etag), (Form::Received(latin_1.unwrap()), format!("\"{id}.raw.v3\"")));
    }

    #[test]
    fn bytes_are_the_message_if_its_canonical_form_has_the_id() {
        let latin_1 = Charset::for_label("iso-8859-1").unwrap();
        let id = MessageId::of_canonical("MSH|M\u{fc}ller\r".as_bytes());
        assert!(Form::Canonical.is_of(&id, "MSH|M\u{fc}ller\r".as_bytes()));
        assert!(!Form::Canonical.is_of(&id, b"MSH|M\xfcller\r"));
        for received in [&b"MSH|M\xfcller\r"[..], b"\x0bMSH|M\xfcller\r\n\x1c\r", b"MSH|M\xfcller"] {
            assert!(Form::Received(latin_1).is_of(&id, received), "{received:?}");
            assert!(!Form::Received(Charset::UTF_8).is_of(&id, received), "{received:?}");
        }
        assert!(!Form::Received(latin_1).is_of(&id, b"MSH|Muller\r"));
        assert!(!Form::Received(latin_1).is_of(&id, b""));
    }

    #[test]
    fn what_was_received_is_verified_by_the_id_that_an_earlier_build_gave_it() {
        let received = b"MSH|^~\\&|A\rOBX|1|TX|c||one\ntwo\r\rNTE|1\r";
        for canonical in ["MSH|^~\\&|A\rOBX|1|TX|c||one\ntwo\rNTE|1\r", "MSH|^~\\&|A\rOBX|1|TX|c||one\rtwo\r\rNTE|1\r"] {
            let id = MessageId::of_canonical(canonical.as_bytes());
            assert!(Form::Received(Charset::UTF_8).is_of(&id, received), "{canonical:?}");
        }
    }

    #[test]
    fn if_none_match_names_a_form() {
        let id = MessageId::of_canonical(b"MSH|\r");
        let er7 = Representation::negotiate(None, &id, &stored(true)).unwrap();
        for matching in ["*".to_owned(), format!("\"{id}\""), format!("W/\"{id}\""), format!("\"a\", \"{id}\"")] {
            assert!(er7.is_named_by(&matching), "{matching}");
        }
        for other in [String::new(), id.to_string(), format!("\"{id}.json.v2\""), "\"*\"".to_owned()] {
            assert!(!er7.is_named_by(&other), "{other}");
        }
    }
}
