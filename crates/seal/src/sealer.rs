//! Seals tokens.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aes_gcm::aead::{Aead as _, Generate as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_sdk_kms::Client;
use aws_sdk_kms::types::DataKeySpec;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{Source, SubmissionId};
use lru::LruCache;
use runtime::StepError;
use secrecy::{ExposeSecret as _, SecretString};

use crate::form::{END, MAX_KEYS, VERSION, additional_data, cipher, key_context};

const OPERATION: &str = "kms:GenerateDataKey";

/// A data key seals no token after this time, which is half of the validity of the tokens.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(30 * 60);

/// A data key seals at most this many tokens. Nonces of AES-GCM are random; NIST SP 800-38D (8.3) allows 2^32 under one key.
pub const MAX_KEY_USES: u32 = 10_000;

/// Seals tokens under a data key of their institute, which it keeps for [`MAX_KEY_AGE`] and [`MAX_KEY_USES`].
pub struct Sealer {
    kms: Client,
    key_arn: String,
    keys: Mutex<LruCache<Source, Arc<DataKey>>>,
}

struct DataKey {
    /// Overwrites the key when it is dropped.
    cipher: Aes256Gcm,
    /// The wrapped key from KMS, in base64.
    wrapped: String,
    made_at: SystemTime,
    uses: AtomicU32,
}

impl DataKey {
    /// Whether it may seal one more token. Counts that use.
    fn take_use(&self, now: SystemTime) -> bool {
        // A clock that was set back makes the key's age unknown.
        let is_young = now.duration_since(self.made_at).is_ok_and(|age| age < MAX_KEY_AGE);
        is_young && self.uses.fetch_add(1, Ordering::Relaxed) < MAX_KEY_USES
    }
}

impl Sealer {
    /// Seals with data keys that the KMS key `key_arn` wraps.
    pub fn new(kms: Client, key_arn: String) -> Self {
        Self { kms, key_arn, keys: Mutex::new(LruCache::new(MAX_KEYS)) }
    }

    /// Seals a token: `2.<wrapped data key>.<nonce and ciphertext>`. Asks KMS only if there is no data key for the institute.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn seal(&self, submission_id: SubmissionId, source: &Source, token: &SecretString) -> Result<String, StepError> {
        self.seal_at(SystemTime::now(), submission_id, source, token).await
    }

    async fn seal_at(
        &self,
        now: SystemTime,
        submission_id: SubmissionId,
        source: &Source,
        token: &SecretString,
    ) -> Result<String, StepError> {
        let unusable = StepError::Unavailable { operation: OPERATION };
        let key = self.key(source, now).await?;
        let nonce = Nonce::try_generate().map_err(|_| unusable.clone())?;
        let additional_data = additional_data(submission_id, source);
        let payload = Payload { msg: token.expose_secret().as_bytes(), aad: &additional_data };
        let sealed = key.cipher.encrypt(&nonce, payload).map_err(|_| unusable)?;
        let sealed = [nonce.as_slice(), &sealed].concat();
        Ok(format!("{VERSION}{END}{}{END}{}", key.wrapped, BASE64_STANDARD.encode(sealed)))
    }

    async fn key(&self, source: &Source, now: SystemTime) -> Result<Arc<DataKey>, StepError> {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned();
        if let Some(key) = known.filter(|key| key.take_use(now)) {
            return Ok(key);
        }
        let made = self
            .kms
            .generate_data_key()
            .key_id(&self.key_arn)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(key_context(source)))
            .send()
            .await
            .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        let (Some(plaintext), Some(wrapped)) = (made.plaintext, made.ciphertext_blob) else {
            return Err(StepError::Unavailable { operation: OPERATION });
        };
        let key = Arc::new(DataKey {
            cipher: cipher(plaintext.as_ref()).map_err(|_| StepError::Unavailable { operation: OPERATION })?,
            wrapped: BASE64_STANDARD.encode(wrapped),
            made_at: now,
            uses: AtomicU32::new(1),
        });
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).put(source.clone(), Arc::clone(&key));
        Ok(key)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key_arn", &self.key_arn).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
    use aws_sdk_kms::primitives::Blob;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    use super::*;

    fn generating() -> Rule {
        mock!(Client::generate_data_key).then_output(|| {
            GenerateDataKeyOutput::builder().plaintext(Blob::new([7; 32])).ciphertext_blob(Blob::new("w")).build()
        })
    }

    fn sealer(rule: &Rule) -> Sealer {
        Sealer::new(mock_client!(aws_sdk_kms, RuleMode::MatchAny, [rule]), "key".to_owned())
    }

    #[tokio::test]
    async fn a_data_key_is_made_anew_when_it_is_old_and_when_the_clock_was_set_back() {
        let rule = generating();
        let sealer = sealer(&rule);
        let (begin, source, token) = (SystemTime::now(), "lab".parse().unwrap(), SecretString::from("token"));
        let seal = async |now| sealer.seal_at(now, runtime::new_submission_id(), &source, &token).await.unwrap();
        let first = seal(begin).await;
        assert_ne!(seal(begin).await, first, "never the same nonce");
        seal(begin + MAX_KEY_AGE - Duration::from_secs(1)).await;
        assert_eq!(rule.num_calls(), 1);
        seal(begin + MAX_KEY_AGE).await;
        assert_eq!(rule.num_calls(), 2);
        seal(begin).await;
        assert_eq!(rule.num_calls(), 3);
    }

    #[tokio::test]
    async fn a_data_key_seals_a_bounded_number_of_tokens() {
        let rule = generating();
        let sealer = sealer(&rule);
        let (now, source) = (SystemTime::now(), "lab".parse().unwrap());
        for _ in 0..MAX_KEY_USES {
            sealer.key(&source, now).await.unwrap();
        }
        assert_eq!(rule.num_calls(), 1);
        sealer.key(&source, now).await.unwrap();
        assert_eq!(rule.num_calls(), 2);
    }

    #[tokio::test]
    async fn each_institute_has_data_keys_of_its_own_and_their_number_is_bounded() {
        let rule = generating();
        let sealer = sealer(&rule);
        let now = SystemTime::now();
        for n in 0..MAX_KEYS.get() + 10 {
            sealer.key(&format!("lab-{n}").parse().unwrap(), now).await.unwrap();
        }
        assert_eq!((rule.num_calls(), sealer.keys.lock().unwrap().len()), (MAX_KEYS.get() + 10, MAX_KEYS.get()));
        assert_eq!(format!("{sealer:?}"), r#"Sealer { key_arn: "key", .. }"#);
    }
}
