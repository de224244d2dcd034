//! Messages too large to travel in the envelope, kept for a day in a bucket of their own.
//!
//! The worker's own role reads and writes here. The lake bucket is another matter: no worker role reaches it.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use domain::step::Subject;
use domain::{Er7, Payload, Received};
use runtime::StepError;

/// Puts a message there if it is too large for the envelope, and gives what the envelope carries.
///
/// # Errors
/// [`StepError`] of the call.
pub async fn payload(s3: &Client, bucket: &str, subject: &Subject, received: &Received) -> Result<Payload, StepError> {
    if received.bytes().len() <= Payload::MAX_INLINE_BYTES {
        return Ok(Payload::inline(received));
    }
    let (key, charset) = (domain::object::overflow_key(subject), received.charset());
    s3.put_object()
        .bucket(bucket)
        .key(&key)
        .body(ByteStream::from(received.bytes().to_vec()))
        .content_type(domain::object::content_type(charset))
        .send()
        .await
        .map_err(|error| StepError::from_sdk("s3:PutObject", &error))?;
    Ok(Payload::Overflow { bucket: bucket.to_owned(), key, charset })
}

/// The message that an envelope carries or points to, as it was received.
///
/// # Errors
/// [`StepError::PayloadExpired`] once the object is gone, [`StepError::InvalidInput`] for a damaged envelope or a pointer
/// out of the overflow bucket, else those of the call.
pub async fn received(s3: &Client, bucket: &str, payload: &Payload) -> Result<Received, StepError> {
    match payload {
        Payload::Inline { inline, charset } => {
            domain::decode_inline(inline, *charset).ok_or(StepError::InvalidInput { what: "the inline payload" })
        }
        Payload::Overflow { bucket: named, key, charset } if named == bucket => {
            Ok(Received::new(object(s3, bucket, key).await?, *charset))
        }
        Payload::Overflow { .. } => Err(StepError::InvalidInput { what: "the payload's bucket" }),
    }
}

/// The canonical form of a message that came with an envelope.
///
/// # Errors
/// [`StepError::InvalidInput`] if there is none: `submit` queues no such message, so the payload is damaged.
pub fn message(received: &Received) -> Result<Er7, StepError> {
    received.message().map_err(|_| StepError::InvalidInput { what: "the payload, which is no message in its character set" })
}

async fn object(s3: &Client, bucket: &str, key: &str) -> Result<Vec<u8>, StepError> {
    const OPERATION: &str = "s3:GetObject";
    let object = s3.get_object().bucket(bucket).key(key).send().await.map_err(|error| match error.code() {
        Some("NoSuchKey") => StepError::PayloadExpired,
        _ => StepError::from_sdk(OPERATION, &error),
    })?;
    let body = object.body.collect().await.map_err(|_| StepError::Unavailable { operation: OPERATION })?;
    Ok(body.to_vec())
}
