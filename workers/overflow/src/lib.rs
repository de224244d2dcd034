//! Messages too large to travel in the envelope, kept for a day in a bucket of their own.
//!
//! The worker's own role reads and writes here. The lake bucket is another matter: no worker role reaches it.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use domain::{Er7, Payload, Source, SubmissionId};
use runtime::StepError;

/// Puts a message there if it is too large for the envelope, and gives what the envelope carries.
///
/// # Errors
/// [`StepError`] of the call.
pub async fn payload(
    s3: &Client,
    bucket: &str,
    source: &Source,
    submission_id: SubmissionId,
    message: &Er7,
) -> Result<Payload, StepError> {
    if message.size_bytes() <= Payload::MAX_INLINE_BYTES {
        return Ok(Payload::inline(message));
    }
    let key = domain::object::overflow_key(source, submission_id);
    s3.put_object()
        .bucket(bucket)
        .key(&key)
        .body(ByteStream::from(message.as_str().as_bytes().to_vec()))
        .content_type("application/hl7-v2; charset=utf-8")
        .send()
        .await
        .map_err(|error| StepError::from_sdk("s3:PutObject", &error))?;
    Ok(Payload::Overflow { bucket: bucket.to_owned(), key })
}

/// The message that an envelope carries or points to.
///
/// # Errors
/// [`StepError::PayloadExpired`] once the object is gone, [`StepError::InvalidInput`] for a damaged envelope or a pointer
/// out of the overflow bucket, else those of the call.
pub async fn message(s3: &Client, bucket: &str, payload: &Payload) -> Result<Er7, StepError> {
    match payload {
        Payload::Inline { inline } => domain::decode_inline(inline).ok_or(StepError::InvalidInput { what: "the inline payload" }),
        Payload::Overflow { bucket: named, key } if named == bucket => object(s3, bucket, key).await,
        Payload::Overflow { .. } => Err(StepError::InvalidInput { what: "the payload's bucket" }),
    }
}

async fn object(s3: &Client, bucket: &str, key: &str) -> Result<Er7, StepError> {
    const OPERATION: &str = "s3:GetObject";
    let object = s3.get_object().bucket(bucket).key(key).send().await.map_err(|error| match error.code() {
        Some("NoSuchKey") => StepError::PayloadExpired,
        _ => StepError::from_sdk(OPERATION, &error),
    })?;
    let bytes = object.body.collect().await.map_err(|_| StepError::Unavailable { operation: OPERATION })?.into_bytes();
    let text = std::str::from_utf8(&bytes).map_err(|_| StepError::InvalidInput { what: "the overflow object" })?;
    Er7::canonical(text).map_err(|_| StepError::InvalidInput { what: "the overflow object" })
}
