//! Puts a message into the lake with the *caller's* AWS credentials, then marks it stored.
//!
//! The worker's own role has no S3 permission on the lake bucket. It opens the sealed ID token, exchanges it for the
//! caller's credentials (Cognito identity pool), and it is the caller's role, through principal tags and object tags, that
//! allows the objects or not. So this code cannot misfile a message, whatever it believes the source to be.

mod lake;

use aws_sdk_kms::Client as Kms;
use catalog::Catalog;
use domain::claim::Finish;
use domain::step::{StoreAnswer, StoreRequest};
use domain::{Stored, Timestamp, object};
use exchange::Exchange;
use runtime::{Field, StepError, note};
use serde_json::Value;

pub use lake::Lake;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Store {
    /// Own role: `UpdateItem`.
    pub catalog: Catalog,
    /// Own role: opens sealed tokens.
    pub kms: Kms,
    /// The key they are sealed with.
    pub token_key_arn: String,
    /// Own role: reads the overflow bucket, and no other.
    pub own_s3: aws_sdk_s3::Client,
    /// The overflow bucket.
    pub overflow_bucket: String,
    /// Token in, the caller's credentials out.
    pub exchange: Exchange,
    /// The lake bucket, only under a caller's credentials.
    pub lake: Lake,
}

impl Store {
    /// Answers one [`StoreRequest`]. Safe to repeat: the same objects are put again, the record is finished once.
    ///
    /// What was received is an object of its own unless its bytes are the canonical ones. Another submission may have received
    /// the same message in other bytes: the record names the version of the one that finishes it.
    ///
    /// # Errors
    /// [`StepError::Denied`], [`StepError::TokenExpired`], [`StepError::TokenInvalid`] and [`StepError::PayloadExpired`] are
    /// permanent; [`StepError::Throttled`] and [`StepError::Unavailable`] may be retried; the rest fails the execution.
    pub async fn answer(&self, event: Value) -> Result<StoreAnswer, StepError> {
        let StoreRequest { subject, received_at, token, payload, parsed } = runtime::input("a store request", event)?;
        Field::note_subject(&subject);

        let token = seal::open(&self.kms, &self.token_key_arn, &subject, &token).await?;
        let credentials = self.exchange.credentials(&token).await?;
        let received = overflow::received(&self.own_s3, &self.overflow_bucket, &payload).await?;
        let message = overflow::message(&received)?;
        note(Field::SizeBytes, message.size_bytes());

        let key = object::er7_key(&subject.source, &subject.message_id, received_at);
        let json_key = object::json_key(&subject.source, &subject.message_id, received_at);
        let raw_key = object::raw_key(&subject.source, &subject.message_id, received_at);
        let tagging = object::tagging(&subject.source, parsed.state);
        let rendition = rendition(&message)?;
        let charset = received.charset();
        let raw = (received.bytes() != message.as_str().as_bytes()).then(|| received.into_bytes());
        let er7 = self.lake.put(&credentials, &key, message.as_str().into(), "application/hl7-v2; charset=utf-8", &tagging);
        let json = async {
            match rendition {
                Some(json) => self.lake.put(&credentials, &json_key, json, "application/json", &tagging).await.map(Some),
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
        let (version_id, json_version_id, raw_version_id) = futures_util::future::try_join3(er7, json, raw).await?;

        let stored = Stored {
            state: parsed.state,
            bucket: self.lake.bucket().to_owned(),
            key,
            version_id,
            json_key: json_version_id.is_some().then_some(json_key),
            json_version_id: json_version_id.flatten(),
            raw_key: raw_version_id.is_some().then_some(raw_key),
            charset: raw_version_id.is_some().then_some(charset),
            raw_version_id: raw_version_id.flatten(),
            received_at,
            stored_at: Timestamp::now(),
            summary: parsed.summary,
            error: parsed.error,
        };
        let answer = match self.catalog.finish(&subject, stored).await? {
            Finish::Stored(stored) => StoreAnswer::Stored { stored },
            Finish::Duplicate => StoreAnswer::Duplicate,
            Finish::Lost => return Err(StepError::ClaimLost),
        };
        note(Field::Outcome, if answer == StoreAnswer::Duplicate { "duplicate" } else { "stored" });
        Ok(answer)
    }
}

/// The rendition of a message of this size is measured before it is made.
const LARGE_BYTES: usize = 256 * 1024;

/// Counts what is written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The JSON rendition of a message that can be read; `None` for one that cannot.
fn rendition(message: &domain::Er7) -> Result<Option<Vec<u8>>, StepError> {
    let Ok(delimiters) = hl7::Delimiters::of(message) else { return Ok(None) };
    let failed = |_| StepError::InvalidInput { what: "the rendition" };
    // A vector that grows takes up to three times what it holds, and a message of nothing but delimiters and single letters has a
    // rendition fifty times as long.
    let size_bytes = if message.size_bytes() < LARGE_BYTES {
        message.size_bytes() * 8
    } else {
        let mut counter = Counter(0);
        hl7::write_json(message, &delimiters, &mut counter).map_err(failed)?;
        counter.0 + 1
    };
    let mut json = Vec::with_capacity(size_bytes);
    hl7::write_json(message, &delimiters, &mut json).map_err(failed)?;
    json.push(b'\n');
    Ok(Some(json))
}
