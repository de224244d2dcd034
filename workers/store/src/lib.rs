//! Puts a message into the lake with the *caller's* AWS credentials, then marks it stored.
//!
//! The worker's own role has no S3 permission on the lake bucket. It opens the sealed ID token, exchanges it for the
//! caller's credentials (Cognito identity pool), and it is the caller's role, through principal tags and object tags, that
//! allows the objects or not. So a defect of this code cannot store a message under another institute.

mod lake;

use std::io::ErrorKind;

use catalog::Catalog;
use domain::claim::Finish;
use domain::step::{StoreAnswer, StoreRequest};
use domain::{Source, Stored, StoredFacts, SubmittedMessage, Timestamp, object};
use exchange::{Exchange, Writers};
use futures_util::future::try_join3;
use hl7::{Origin, Schema};
use patients::{MAX_ENTRIES, PatientIndex, PatientKeys};
use runtime::{Field, StepError, log_field, log_submitted};
use seal::Opener;
use secrecy::SecretString;
use serde_json::Value;

pub use lake::LakeWriter;
use lake::PUT_OBJECT;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Store {
    /// Own role: `UpdateItem`.
    pub catalog: Catalog,
    /// Own role: opens sealed tokens.
    pub opener: Opener,
    /// Own role: reads the overflow bucket, and no other.
    pub own_s3: aws_sdk_s3::Client,
    /// The overflow bucket.
    pub overflow_bucket: String,
    /// Token in, the caller's credentials out.
    pub exchange: Exchange,
    /// Whose institute a token is for: decides who is to blame for a refusal.
    pub writers: Writers,
    /// The lake bucket, only under a caller's credentials.
    pub lake: LakeWriter,
    /// Own role: makes the keys of hashes, and writes them. `None` where the deployment has no index by patient.
    pub patients: Option<Patients>,
    /// Names the institutes' own segments in renditions.
    pub schema: &'static Schema,
}

/// The index by patient, and the keys of its hashes.
#[derive(Debug)]
pub struct Patients {
    /// Makes an institute's key.
    pub keys: PatientKeys,
    /// `BatchWriteItem`.
    pub index: PatientIndex,
}

impl Store {
    /// Answers one [`StoreRequest`]. Safe to repeat: the same objects are put again, the record is finished once.
    ///
    /// The received bytes are stored as an object of their own unless they equal the canonical form. Another submission may have
    /// received the same message in other bytes: the record names the version of the submission that finishes it.
    ///
    /// # Errors
    /// [`StepError::Denied`], [`StepError::TokenExpired`], [`StepError::TokenInvalid`] and [`StepError::PayloadExpired`] are not
    /// retried; [`StepError::Throttled`] and [`StepError::Unavailable`] may be at once; the rest fails the execution.
    pub async fn answer(&self, event: Value) -> Result<StoreAnswer, StepError> {
        let StoreRequest { submitted, received_at, token, payload, parsed } = runtime::input("a store request", event)?;
        log_submitted(&submitted);

        let token = self.opener.open(&submitted, &token).await?;
        let credentials = self.exchange.credentials(&token).await?;
        let received = overflow::received(&self.own_s3, &self.overflow_bucket, &payload).await?;
        let message = overflow::message(&received, &submitted.message_id)?;
        log_field(Field::SizeBytes, message.size_bytes());

        let key = object::er7_key(&submitted.source, &submitted.message_id, received_at);
        let json_key = object::json_key(&submitted.source, &submitted.message_id, received_at);
        let raw_key = object::raw_key(&submitted.source, &submitted.message_id, received_at);
        let tagging = object::tagging(&submitted.source, parsed.state);
        let origin = Origin { message_id: &submitted.message_id, source: &submitted.source, received_at };
        let charset = received.charset();
        let raw = (received.bytes() != message.as_str().as_bytes()).then(|| received.into_bytes().into());
        let er7 = async {
            let content_type = "application/hl7-v2; charset=utf-8";
            self.lake.put(&credentials, &key, message.as_str().into(), content_type, &tagging).await
        };
        let json = async {
            match rendition(&message, &origin, self.schema)? {
                Some(json) => self.lake.put(&credentials, &json_key, json, object::COMPRESSED, &tagging).await.map(Some),
                None => Ok(None),
            }
        };
        let raw = async {
            match raw {
                Some(bytes) => {
                    let content_type = object::content_type(charset);
                    self.lake.put(&credentials, &raw_key, bytes, &content_type, &tagging).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let put = async {
            if message.size_bytes() < overflow::LARGE_BYTES {
                return try_join3(er7, json, raw).await;
            }
            // One after the other, so that there are never more than two of them in memory.
            let (raw, json) = (raw.await?, json.await?);
            Ok((er7.await?, json, raw))
        };
        let (version_id, json_version_id, raw_version_id) =
            put.await.map_err(|error| self.explained(error, &token, &submitted.source))?;

        // Before the record says `stored`: nobody comes back to a message that does.
        self.index(&submitted, received_at, &message).await?;
        let facts = StoredFacts {
            stored_at: runtime::now(),
            state: parsed.state,
            bucket: self.lake.bucket().to_owned(),
            key,
            version_id,
            json_key: json_version_id.is_some().then_some(json_key),
            json_version_id: json_version_id.flatten(),
            raw_key: raw_version_id.is_some().then_some(raw_key),
            charset: raw_version_id.is_some().then_some(charset),
            raw_version_id: raw_version_id.flatten(),
            summary: parsed.summary,
        };
        let stored = Stored { received_at, facts, error: parsed.error };
        let answer = match self.catalog.finish(&submitted, stored).await? {
            Finish::Stored(stored) => StoreAnswer::Stored { stored },
            Finish::Duplicate => StoreAnswer::Duplicate,
            Finish::Lost => return Err(StepError::ClaimLost),
        };
        log_field(Field::Outcome, <&str>::from(&answer));
        Ok(answer)
    }

    /// Puts the message into the index by patient, if there is one and the message names a patient.
    async fn index(&self, submitted: &SubmittedMessage, received_at: Timestamp, message: &domain::Er7) -> Result<(), StepError> {
        let Some(Patients { keys, index }) = &self.patients else { return Ok(()) };
        let identifiers = hl7::patient_identifiers(message, MAX_ENTRIES);
        if identifiers.is_empty() {
            return Ok(());
        }
        let key = keys.of(&submitted.source).await?;
        index.add(&submitted.source, &key, (received_at, &submitted.message_id), &identifiers).await.map(drop)
    }

    /// Says who is to blame for a refused write. The caller is only if the caller's own claims explain it: then the token is for
    /// another institute than the message's, or for none. S3 also answers `AccessDenied` when a key policy, an SCP, a bucket policy
    /// or the map of principal tags is wrong.
    fn explained(&self, error: StepError, token: &SecretString, source: &Source) -> StepError {
        match error {
            StepError::Denied { operation, code } if self.writers.institute(token).as_ref() == Some(source) => {
                StepError::Misconfigured { operation, code }
            }
            StepError::TokenExpired => self.exchange.outdated(token, PUT_OBJECT),
            other => other,
        }
    }
}

/// The compressed JSON rendition of a message; `None` if its MSH is not readable, or the rendition would be too large.
fn rendition(message: &domain::Er7, origin: &Origin<'_>, schema: &'static Schema) -> Result<Option<Vec<u8>>, StepError> {
    let Ok(delimiters) = hl7::Delimiters::of(message) else { return Ok(None) };
    match hl7::compressed_json(message, &delimiters, origin, schema) {
        Ok(compressed) => Ok(Some(compressed)),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(None),
        Err(_) => Err(StepError::InvalidInput { what: "the rendition" }),
    }
}

#[cfg(test)]
mod tests {
    use domain::Er7;

    use super::*;

    #[test]
    fn a_message_whose_rendition_would_be_too_large_has_none() {
        let source = "west".parse().unwrap();
        let of = |fields: usize| {
            let message = Er7::canonical(&format!("MSH|^~\\&|A\rZZZ{}\r", "|a^b".repeat(fields))).unwrap();
            let origin = Origin { message_id: &message.message_id(), source: &source, received_at: runtime::now() };
            rendition(&message, &origin, Schema::standard()).unwrap()
        };
        assert!(of(1000).is_some());
        assert_eq!(of(3 << 20), None);
    }
}
