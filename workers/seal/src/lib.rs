//! The caller's ID token, sealed for its way through the queue.
//!
//! `submit` may seal and not open, `store` may open and not seal: KMS decides, by their roles. The encryption context
//! `{submissionId, source}` binds a token to its submission: moved to another envelope it does not open.

use std::collections::HashMap;

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::step::Subject;
use domain::{Source, SubmissionId};
use runtime::StepError;
use secrecy::{ExposeSecret, SecretString};

/// What KMS Encrypt takes, in bytes. A longer token is encrypted under a data key of its own.
const KMS_ENCRYPT_MAX_BYTES: usize = 4096;

/// Between the data key and the text encrypted under it. Not of the base64 alphabet.
const DATA_KEY_END: char = '.';

/// Seals a token. Gives the base64 of KMS's ciphertext, or `<encrypted data key>.<ciphertext>`, both base64.
///
/// # Errors
/// [`StepError`] of the call.
pub async fn seal(
    kms: &Client,
    key_arn: &str,
    submission_id: SubmissionId,
    source: &Source,
    token: &SecretString,
) -> Result<String, StepError> {
    let context = context(submission_id, source);
    let token = token.expose_secret().as_bytes();
    if token.len() > KMS_ENCRYPT_MAX_BYTES {
        return seal_with_data_key(kms, key_arn, context, token).await;
    }
    const OPERATION: &str = "kms:Encrypt";
    let sealed = kms
        .encrypt()
        .key_id(key_arn)
        .set_encryption_context(Some(context))
        .plaintext(Blob::new(token))
        .send()
        .await
        .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
    let blob = sealed.ciphertext_blob.ok_or(StepError::Unavailable { operation: OPERATION })?;
    Ok(BASE64_STANDARD.encode(blob))
}

/// Opens what [`seal`] gave for the same submission and source.
///
/// # Errors
/// [`StepError::TokenInvalid`] if it was sealed for another submission or source, or damaged; else those of the call.
pub async fn open(kms: &Client, key_arn: &str, subject: &Subject, sealed: &str) -> Result<SecretString, StepError> {
    let (blob, under_data_key) = match sealed.split_once(DATA_KEY_END) {
        Some((data_key, text)) => (decode(data_key)?, Some(decode(text)?)),
        None => (decode(sealed)?, None),
    };
    const OPERATION: &str = "kms:Decrypt";
    let opened = kms
        .decrypt()
        .key_id(key_arn)
        .set_encryption_context(Some(context(subject.submission_id, &subject.source)))
        .ciphertext_blob(Blob::new(blob))
        .send()
        .await
        .map_err(|error| match error.code() {
            Some("InvalidCiphertextException" | "IncorrectKeyException") => StepError::TokenInvalid,
            _ => StepError::from_sdk(OPERATION, &error),
        })?;
    let plaintext = opened.plaintext.ok_or(StepError::Unavailable { operation: OPERATION })?;
    let token = match under_data_key {
        None => plaintext.into_inner(),
        Some(text) => {
            cipher(plaintext.as_ref())?.decrypt(&Nonce::default(), text.as_slice()).map_err(|_| StepError::TokenInvalid)?
        }
    };
    String::from_utf8(token).map(SecretString::from).map_err(|_| StepError::TokenInvalid)
}

async fn seal_with_data_key(
    kms: &Client,
    key_arn: &str,
    context: HashMap<String, String>,
    token: &[u8],
) -> Result<String, StepError> {
    const OPERATION: &str = "kms:GenerateDataKey";
    let unusable = StepError::Unavailable { operation: OPERATION };
    let data_key = kms
        .generate_data_key()
        .key_id(key_arn)
        .key_spec(DataKeySpec::Aes256)
        .set_encryption_context(Some(context))
        .send()
        .await
        .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
    let (Some(plaintext), Some(encrypted)) = (data_key.plaintext, data_key.ciphertext_blob) else { return Err(unusable) };
    // A data key encrypts one token, so the nonce may be constant; KMS binds the data key to the submission.
    let text = cipher(plaintext.as_ref())?.encrypt(&Nonce::default(), token).map_err(|_| unusable)?;
    Ok(format!("{}{DATA_KEY_END}{}", BASE64_STANDARD.encode(encrypted), BASE64_STANDARD.encode(text)))
}

fn cipher(key: &[u8]) -> Result<Aes256Gcm, StepError> {
    Aes256Gcm::new_from_slice(key).map_err(|_| StepError::TokenInvalid)
}

fn decode(base64: &str) -> Result<Vec<u8>, StepError> {
    BASE64_STANDARD.decode(base64).map_err(|_| StepError::TokenInvalid)
}

fn context(submission_id: SubmissionId, source: &Source) -> HashMap<String, String> {
    HashMap::from([("submissionId".to_owned(), submission_id.to_string()), ("source".to_owned(), source.to_string())])
}
