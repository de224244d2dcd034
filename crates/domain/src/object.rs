//! Keys and tags of the lake's objects: Hive partitions, which Athena and Glue read as they are.

use crate::{Charset, MessageId, Requester, Source, State, SubmittedMessage, Timestamp, UploadId};

/// Key of the ER7 object: the message in canonical form.
pub fn er7_key(source: &Source, message_id: &MessageId, received_at: Timestamp) -> String {
    let date = received_at.date();
    format!("source={source}/protocol=hl7v2/format=er7/zone=ingest/date={date}/{message_id}.hl7")
}

/// Key of the JSON rendition, which is compressed with gzip. Athena, Spark, DuckDB and Polars know that by the end of the name.
pub fn json_key(source: &Source, message_id: &MessageId, received_at: Timestamp) -> String {
    let date = received_at.date();
    format!("source={source}/protocol=hl7v2/format=json/zone=staging/date={date}/{message_id}.json.gz")
}

/// Whether the object of a rendition is compressed. Those of version 1 are not, and their keys end in `.json`.
pub fn is_compressed(json_key: &str) -> bool {
    json_key.ends_with(".gz")
}

/// The content type of a compressed rendition (RFC 6713). The object has no Content-Encoding: whoever gets it, gets the file that its
/// key names.
pub const COMPRESSED: &str = "application/gzip";

/// Key of the bytes as they were received. There is no such object if they equal the canonical form.
pub fn raw_key(source: &Source, message_id: &MessageId, received_at: Timestamp) -> String {
    let date = received_at.date();
    format!("source={source}/protocol=hl7v2/format=raw/zone=ingest/date={date}/{message_id}.bin")
}

/// The content type of a message in a character set.
pub fn content_type(charset: Charset) -> String {
    format!("application/hl7-v2; charset={}", charset.name())
}

/// The tags of each object, as the header `x-amz-tagging` has them. Neither value needs URL encoding.
pub fn tagging(source: &Source, state: State) -> String {
    format!("source={source}&state={state}")
}

/// Key of a message in the overflow bucket. It names the message too, because one submission may bring many.
pub fn overflow_key(submitted: &SubmittedMessage) -> String {
    let SubmittedMessage { source, submission_id, message_id } = submitted;
    format!("{source}/{submission_id}/{message_id}.hl7")
}

/// The beginning of the key of every upload. No [`Source`] begins so, and thus no overflow key.
pub const UPLOADS: &str = "_uploads/";

/// Key of an upload in the overflow bucket. It holds the institute and a hash of the uploader, so that nobody reaches another's
/// bytes by an id.
pub fn upload_key(source: &Source, uploader: &Requester, id: &UploadId) -> String {
    format!("{UPLOADS}{source}/{}/{id}", uploader.digest())
}

/// Key of the copy of a held message in the held bucket.
pub fn held_key(source: &Source, message_id: &MessageId) -> String {
    format!("source={source}/{message_id}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Er7;

    #[test]
    fn keys_are_hive_partitions() {
        let source: Source = "general-hospital".parse().unwrap();
        let message_id = Er7::canonical("MSH").unwrap().message_id();
        let day = Timestamp::from_millis(1_795_245_667_120).unwrap();
        assert_eq!(
            er7_key(&source, &message_id, day),
            format!("source=general-hospital/protocol=hl7v2/format=er7/zone=ingest/date=2026-11-21/{message_id}.hl7")
        );
        assert_eq!(
            json_key(&source, &message_id, day),
            format!("source=general-hospital/protocol=hl7v2/format=json/zone=staging/date=2026-11-21/{message_id}.json.gz")
        );
        assert!(is_compressed(&json_key(&source, &message_id, day)) && !is_compressed(&held_key(&source, &message_id)));
        assert_eq!(
            raw_key(&source, &message_id, day),
            format!("source=general-hospital/protocol=hl7v2/format=raw/zone=ingest/date=2026-11-21/{message_id}.bin")
        );
        assert_eq!(tagging(&source, State::Error), "source=general-hospital&state=error");
    }

    #[test]
    fn an_upload_is_of_one_institute_and_one_uploader() {
        let id = UploadId::of(b"MSH|");
        let key = |source: &str, issuer: &str, subject: &str| {
            let uploader = Requester { issuer: issuer.to_owned(), subject: subject.to_owned() };
            upload_key(&source.parse().unwrap(), &uploader, &id)
        };
        let keys = [
            key("west", "https://one", "../7"),
            key("east", "https://one", "../7"),
            key("west", "https://two", "../7"),
            key("west", "https://one", "8"),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(key.starts_with(UPLOADS) && key.ends_with(&format!("/{id}")) && key.matches('/').count() == 3, "{key}");
            assert!(!keys[..n].contains(key), "{key}");
        }
        assert!("_uploads".parse::<Source>().is_err(), "an institute's overflow keys would be uploads");
    }

    #[test]
    fn the_messages_of_one_submission_overflow_side_by_side() {
        let submission_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let key = |text: &str| {
            let message_id = Er7::canonical(text).unwrap().message_id();
            overflow_key(&SubmittedMessage { submission_id, message_id, source: "general-hospital".parse().unwrap() })
        };
        assert_ne!(key("MSH|1"), key("MSH|2"));
        assert!(key("MSH|1").starts_with("general-hospital/01ARZ3NDEKTSV4RRFFQ69G5FAV/"), "{}", key("MSH|1"));
    }
}
