//! Messages too large for the envelope, kept for 15 days in a bucket of their own: longer than the queue keeps a message.
//!
//! Workers read and write this bucket under their own roles. No worker role reaches the lake bucket.

#![warn(missing_docs)]

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use domain::{Er7, MessageId, Payload, Received, SubmittedMessage};
use runtime::StepError;

/// From this size on, a body may take longer than the SDK's limits of an attempt, which are for small requests.
pub const LARGE_BYTES: usize = 8 * 1024 * 1024;

/// What a PUT of so many bytes overrides in the client's configuration. With [`LARGE_BYTES`] or more it is one attempt of at most 20
/// seconds, since API Gateway waits for 30, and a state of the state machine for 25. With less it is nothing.
pub fn put_config(size_bytes: usize) -> aws_sdk_s3::config::Builder {
    const MOST: Duration = Duration::from_secs(20);
    let config = Config::builder();
    if size_bytes < LARGE_BYTES {
        return config;
    }
    config.timeout_config(TimeoutConfig::builder().operation_attempt_timeout(MOST).operation_timeout(MOST).build())
}

/// The payload of the envelope: the message itself or, if it is too large, a pointer to the object that this function puts.
///
/// # Errors
/// [`StepError`] of the call.
pub async fn payload(s3: &Client, bucket: &str, submitted: &SubmittedMessage, received: &Received) -> Result<Payload, StepError> {
    if received.bytes().len() <= Payload::MAX_INLINE_BYTES {
        return Ok(Payload::inline(received));
    }
    let (key, charset) = (domain::object::overflow_key(submitted), received.charset());
    // Shares the memory of the message.
    let bytes = received.clone().into_bytes();
    let config = put_config(bytes.len());
    let put = s3.put_object().bucket(bucket).key(&key).content_type(domain::object::content_type(charset));
    let put = put.body(ByteStream::from(bytes)).customize().config_override(config);
    put.send().await.map_err(|error| StepError::from_sdk("s3:PutObject", &error))?;
    Ok(Payload::Overflow { bucket: bucket.to_owned(), key, charset })
}

/// The bytes that an envelope carries or points to, as they were received.
///
/// # Errors
/// [`StepError::PayloadExpired`] if the object is gone, [`StepError::InvalidInput`] for a damaged envelope or a pointer to
/// another bucket, else those of the call.
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

/// The canonical form of a message from an envelope: the form that has the envelope's id, which an earlier build may have
/// computed.
///
/// # Errors
/// [`StepError::InvalidInput`] if the bytes are not a message with that id. `submit` queues no such bytes, so the payload is
/// damaged.
pub fn message(received: &Received, id: &MessageId) -> Result<Er7, StepError> {
    let message = received
        .message_with_id(id)
        .map_err(|_| StepError::InvalidInput { what: "the payload, which is no message in its character set" })?;
    message.ok_or(StepError::InvalidInput { what: "the message id, which is not that of the payload" })
}

/// The bytes of an object of the overflow bucket. They are in memory once.
///
/// # Errors
/// [`StepError::PayloadExpired`] if there is no such object, else those of the call.
pub async fn object(s3: &Client, bucket: &str, key: &str) -> Result<Vec<u8>, StepError> {
    const OPERATION: &str = "s3:GetObject";
    let unavailable = || StepError::Unavailable { operation: OPERATION };
    let object = s3.get_object().bucket(bucket).key(key).send().await.map_err(|error| StepError::from_sdk(OPERATION, &error))?;
    let size_bytes = object.content_length.and_then(|it| it.try_into().ok()).unwrap_or(0);
    let (mut bytes, mut body) = (Vec::with_capacity(size_bytes), object.body);
    while let Some(chunk) = body.try_next().await.map_err(|_| unavailable())? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
