//! The text format of a sealed token.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Source, SubmissionId};
use runtime::StepError;

/// The version prefix of a token that is sealed with a shared data key: `2.<wrapped data key>.<nonce and ciphertext>`, both in
/// base64. The first version has no prefix, and a single character is not base64, so the two cannot be confused.
pub(crate) const VERSION: &str = "2";

/// Separates the parts. Not in the base64 alphabet.
pub(crate) const END: char = '.';

/// The bytes of a nonce of AES-GCM (NIST SP 800-38D, 5.2.1.1).
pub(crate) const NONCE_BYTES: usize = 12;

/// The maximum number of data keys in memory, some 1 KiB each.
pub(crate) const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// The name of the institute in KMS's encryption context.
const SOURCE: &str = "source";

/// The encryption context to which KMS binds a data key.
pub(crate) fn key_context(source: &Source) -> HashMap<String, String> {
    HashMap::from([(SOURCE.to_owned(), source.to_string())])
}

/// The encryption context of the first version, in which KMS bound a token or a data key to one submission.
pub(crate) fn submission_context(submission_id: SubmissionId, source: &Source) -> HashMap<String, String> {
    HashMap::from([("submissionId".to_owned(), submission_id.to_string()), (SOURCE.to_owned(), source.to_string())])
}

/// The data to which AES-GCM binds a token. An institute's name has no line break, so different pairs give different data.
pub(crate) fn additional_data(submission_id: SubmissionId, source: &Source) -> Vec<u8> {
    format!("sluice token {VERSION}\n{submission_id}\n{source}").into_bytes()
}

pub(crate) fn cipher(key: &[u8]) -> Result<Aes256Gcm, StepError> {
    Aes256Gcm::new_from_slice(key).map_err(|_| StepError::TokenInvalid)
}

pub(crate) fn decode(base64: &str) -> Result<Vec<u8>, StepError> {
    BASE64_STANDARD.decode(base64).map_err(|_| StepError::TokenInvalid)
}
