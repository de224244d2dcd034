//! The institutes' keys.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;
use domain::{PatientIdentifier, Source};
use lru::LruCache;
use runtime::StepError;

const GENERATE_MAC: &str = "kms:GenerateMac";

/// How long an institute's key stays in memory. For this long, workers still make hashes after somebody has disabled the KMS key.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// The maximum number of keys in memory.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// The length of a hash in bytes. Among 2^40 identifiers of an institute, two have the same hash with a probability of 2^-49.
const HASH_BYTES: usize = 16;

/// Derives the institutes' keys from an HMAC key of KMS, and keeps them for [`MAX_KEY_AGE`].
pub struct PatientKeys {
    kms: Client,
    key_arn: String,
    keys: Mutex<LruCache<Source, (Arc<PatientKey>, SystemTime)>>,
}

/// The key of one institute.
pub struct PatientKey(hmac::Key);

impl PatientKeys {
    /// Keys that are derived with the KMS key `key_arn`.
    pub fn new(kms: Client, key_arn: String) -> Self {
        Self { kms, key_arn, keys: Mutex::new(LruCache::new(MAX_KEYS)) }
    }

    /// The key of an institute. Asks KMS only if it is not in memory.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn of(&self, source: &Source) -> Result<Arc<PatientKey>, StepError> {
        self.of_at(SystemTime::now(), source).await
    }

    async fn of_at(&self, now: SystemTime, source: &Source) -> Result<Arc<PatientKey>, StepError> {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned();
        // A clock that was set back makes the key's age unknown.
        if let Some((key, since)) = known
            && now.duration_since(since).is_ok_and(|age| age < MAX_KEY_AGE)
        {
            return Ok(key);
        }
        let made = self
            .kms
            .generate_mac()
            .key_id(&self.key_arn)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(format!("sluice patients 1\n{source}")))
            .send()
            .await
            .map_err(|error| StepError::from_sdk(GENERATE_MAC, &error))?;
        let mac = made.mac.ok_or(StepError::Unavailable { operation: GENERATE_MAC })?;
        let key = Arc::new(PatientKey::new(mac.as_ref()));
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).put(source.clone(), (Arc::clone(&key), now));
        Ok(key)
    }
}

impl fmt::Debug for PatientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientKeys").field("key_arn", &self.key_arn).finish_non_exhaustive()
    }
}

impl PatientKey {
    fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A text for a search that does not disclose the identifier: the hashes of it and of its authority.
    pub fn hash_of(&self, identifier: &PatientIdentifier) -> Vec<String> {
        std::iter::once(self.id(identifier)).chain(self.authorities(identifier)).collect()
    }

    /// The hash of an identifier, regardless of its authority: 32 hexadecimal digits.
    pub(crate) fn id(&self, identifier: &PatientIdentifier) -> String {
        self.hash(&["id", identifier.id()])
    }

    /// The hashes of an identifier with each name of the authority that assigned it.
    pub(crate) fn authorities(&self, identifier: &PatientIdentifier) -> Vec<String> {
        identifier.authorities().iter().map(|it| self.hash(&["authority", identifier.id(), it])).collect()
    }

    /// Hashes a list of texts. No text has a zero character (HL7 has none in a value), so different lists give different bytes.
    fn hash(&self, parts: &[&str]) -> String {
        let tag = hmac::sign(&self.0, parts.join("\0").as_bytes());
        const_hex::encode(tag.as_ref().get(..HASH_BYTES).unwrap_or_default())
    }
}

impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::operation::generate_mac::GenerateMacOutput;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    use super::*;

    /// Stands in for KMS: the same message always gets the same MAC.
    fn kms() -> (PatientKeys, Rule) {
        let rule = mock!(Client::generate_mac).then_compute_output(|request| {
            let message = request.message().unwrap().as_ref().to_vec();
            GenerateMacOutput::builder().mac(Blob::new(message)).build()
        });
        (PatientKeys::new(mock_client!(aws_sdk_kms, RuleMode::MatchAny, [&rule]), "key".to_owned()), rule)
    }

    fn identifier(text: &str) -> PatientIdentifier {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn kms_is_asked_for_an_institutes_key_once_in_a_while_and_keys_are_bounded() {
        let (keys, rule) = kms();
        let (now, source) = (SystemTime::now(), "lab".parse().unwrap());
        let at = async |seconds| keys.of_at(now + Duration::from_secs(seconds), &source).await.unwrap().id(&identifier("1"));
        let first = at(0).await;
        assert_eq!((at(MAX_KEY_AGE.as_secs() - 1).await, rule.num_calls()), (first.clone(), 1));
        assert_eq!((at(MAX_KEY_AGE.as_secs()).await, rule.num_calls()), (first, 2), "the same key again");
        for n in 0..MAX_KEYS.get() {
            keys.of_at(now, &format!("lab-{n}").parse().unwrap()).await.unwrap();
        }
        assert_eq!(keys.keys.lock().unwrap().len(), MAX_KEYS.get());
        assert_eq!(format!("{keys:?} {:?}", PatientKey::new(b"secret")), r#"PatientKeys { key_arn: "key", .. } PatientKey(..)"#);
    }

    #[tokio::test]
    async fn a_hash_is_of_one_institute_one_identifier_and_one_authority() {
        let (keys, _) = kms();
        let of = async |source: &str| keys.of(&source.parse().unwrap()).await.unwrap();
        let (west, east) = (of("west").await, of("east").await);
        let mut seen = std::collections::HashSet::new();
        for (key, text) in [(&west, "1"), (&east, "1"), (&west, "11"), (&west, "01"), (&west, "1a"), (&west, "1A")] {
            assert!(seen.insert(key.id(&identifier(text))), "{text}");
        }
        for (key, text) in [(&west, "1^^^A"), (&east, "1^^^A"), (&west, "1^^^B"), (&west, "2^^^A"), (&west, "1A^^^A")] {
            assert!(key.authorities(&identifier(text)).into_iter().all(|it| seen.insert(it)), "{text}");
        }
        assert_eq!(west.id(&identifier("1^^^A")), west.id(&identifier("1")));
        assert_eq!(west.authorities(&identifier("1^^^A&1.2&ISO")).len(), 2, "by the name and by the OID");
        assert_eq!(west.authorities(&identifier("1")), [""; 0]);
        assert!(seen.iter().all(|it| it.len() == 32));
    }
}
