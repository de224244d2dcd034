//! Keeps a message that was accepted and cannot be stored now: puts a copy into the held bucket, then records it as held.
//!
//! The copy holds the bytes as they were received and who submitted them, and no token. Whoever may write for the institute releases it
//! (the worker `release`).

use std::time::Duration;

use aws_sdk_s3::Client as S3;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catalog::Catalog;
use domain::claim::GivenUp;
use domain::step::{HoldAnswer, HoldRequest};
use domain::{Charset, HeldCopy, HeldFacts, Payload, object};
use runtime::{Field, StepError, log_field, log_submitted};
use serde_json::Value;

/// The most bytes that a held copy has besides its payload.
const MORE_BYTES: usize = 8 * 1024;

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Keeper {
    /// Own role: `UpdateItem`.
    pub catalog: Catalog,
    /// Own role: reads the overflow bucket and writes the held bucket.
    pub s3: S3,
    /// The bucket of messages too large for the envelope.
    pub overflow_bucket: String,
    /// The bucket of held messages.
    pub held_bucket: String,
    /// How long the held bucket keeps an object.
    pub keep: Duration,
}

impl Keeper {
    /// Answers one [`HoldRequest`]. Safe to repeat: the copy is put again, and the record names the last version.
    ///
    /// The copy is put first. If the claim was lost meanwhile, the copy stays as a version that no record names.
    ///
    /// # Errors
    /// [`StepError::PayloadExpired`] and [`StepError::InvalidInput`] if there is nothing to hold; [`StepError::ClaimLost`] if
    /// another submission works on the message by now; [`StepError::Throttled`] and [`StepError::Unavailable`] may be retried;
    /// the rest is a fault of the deployment.
    pub async fn answer(&self, event: Value) -> Result<HoldAnswer, StepError> {
        const OPERATION: &str = "s3:PutObject";
        let request: HoldRequest = runtime::input("a hold request", event)?;
        let HoldRequest { submitted, received_at, requester, payload, reason, error, release, traceparent } = request;
        log_submitted(&submitted);
        log_field(Field::Reason, reason);

        let (payload, charset) = self.payload(payload).await?;
        let (submission_id, received_at, submitter) = match release {
            Some(release) => (release.submission_id, release.received_at, release.submitter),
            None => (submitted.submission_id, received_at, requester),
        };
        let since = runtime::now();
        let copy = HeldCopy {
            v: HeldCopy::VERSION,
            submission_id,
            message_id: submitted.message_id.clone(),
            source: submitted.source.clone(),
            received_at,
            submitter,
            reason,
            error,
            since,
            until: since.plus(self.keep),
            traceparent,
            charset: (charset != Charset::UTF_8).then_some(charset),
            payload,
        };
        let key = object::held_key(&submitted.source, &submitted.message_id);
        // A growing vector would take up to three times the memory of a large message.
        let mut body = Vec::with_capacity(copy.payload.len() + MORE_BYTES);
        serde_json::to_writer(&mut body, &copy).map_err(|_| StepError::InvalidInput { what: "a held copy" })?;
        let config = overflow::put_config(body.len());
        let put = self.s3.put_object().bucket(&self.held_bucket).key(&key).content_type("application/json");
        let put = put.body(ByteStream::from(body)).customize().config_override(config);
        let put = put.send().await.map_err(|error| StepError::from_sdk(OPERATION, &error))?;

        let facts = HeldFacts {
            held_reason: reason,
            held_since: since,
            held_until: copy.until,
            held_key: key,
            held_version_id: put.version_id,
        };
        match self.catalog.hold(&submitted, &facts, &copy.error).await? {
            GivenUp::Recorded | GivenUp::QueuedForAnother => {}
            GivenUp::Lost => return Err(StepError::ClaimLost),
        }
        let answer = HoldAnswer::Held { reason };
        log_field(Field::Outcome, <&str>::from(&answer));
        Ok(answer)
    }

    /// The bytes as they were received, in base64. The text in an envelope is kept unchanged.
    async fn payload(&self, payload: Payload) -> Result<(String, Charset), StepError> {
        match payload {
            Payload::Inline { inline, charset } => Ok((inline, charset)),
            Payload::Overflow { .. } => {
                let received = overflow::received(&self.s3, &self.overflow_bucket, &payload).await?;
                Ok((BASE64_STANDARD.encode(received.bytes()), received.charset()))
            }
        }
    }
}
