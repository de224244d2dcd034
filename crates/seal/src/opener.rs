//! Opens sealed tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use domain::{Source, SubmittedMessage};
use lru::LruCache;
use runtime::StepError;
use secrecy::SecretString;

use crate::form::{END, MAX_KEYS, NONCE_BYTES, VERSION, additional_data, cipher, decode, key_context, submission_context};
use crate::sealer::MAX_KEY_AGE;

const OPERATION: &str = "kms:Decrypt";

/// Opens tokens. Keeps each unwrapped data key for [`MAX_KEY_AGE`]. For this long, the worker still opens tokens after somebody
/// has disabled the KMS key.
pub struct Opener {
    kms: Client,
    key_arn: String,
    /// By institute and wrapped key. A key that was moved to another institute is not found here, and KMS refuses it.
    keys: Mutex<LruCache<(Source, String), Unwrapped>>,
}

struct Unwrapped {
    /// Overwrites the key when it is dropped.
    cipher: Arc<Aes256Gcm>,
    since: SystemTime,
}

impl Opener {
    /// Opens with the KMS key `key_arn`.
    pub fn new(kms: Client, key_arn: String) -> Self {
        Self { kms, key_arn, keys: Mutex::new(LruCache::new(MAX_KEYS)) }
    }

    /// Opens a token that was sealed for the same submission and source. Asks KMS only for a data key that it does not have.
    ///
    /// Also opens the first version, which KMS sealed for each submission: envelopes wait for up to 14 days.
    ///
    /// # Errors
    /// [`StepError::TokenInvalid`] if the token was sealed for another submission or source, or is damaged; else those of the call.
    pub async fn open(&self, submitted: &SubmittedMessage, sealed: &str) -> Result<SecretString, StepError> {
        self.open_at(SystemTime::now(), submitted, sealed).await
    }

    async fn open_at(&self, now: SystemTime, submitted: &SubmittedMessage, sealed: &str) -> Result<SecretString, StepError> {
        let token = match sealed.split_once(END) {
            Some((VERSION, rest)) => {
                let (wrapped, text) = rest.split_once(END).ok_or(StepError::TokenInvalid)?;
                let text = decode(text)?;
                let (nonce, text) = text.split_at_checked(NONCE_BYTES).ok_or(StepError::TokenInvalid)?;
                let nonce = Nonce::try_from(nonce).map_err(|_| StepError::TokenInvalid)?;
                let additional_data = additional_data(submitted.submission_id, &submitted.source);
                let cipher = self.key(&submitted.source, wrapped, now).await?;
                cipher.decrypt(&nonce, Payload { msg: text, aad: &additional_data }).map_err(|_| StepError::TokenInvalid)?
            }
            Some((data_key, text)) => {
                let (data_key, text) = (decode(data_key)?, decode(text)?);
                let key = self.decrypt(data_key, submission_context(submitted.submission_id, &submitted.source)).await?;
                cipher(key.as_ref())?.decrypt(&Nonce::default(), text.as_slice()).map_err(|_| StepError::TokenInvalid)?
            }
            None => {
                let context = submission_context(submitted.submission_id, &submitted.source);
                self.decrypt(decode(sealed)?, context).await?.into_inner()
            }
        };
        String::from_utf8(token).map(SecretString::from).map_err(|_| StepError::TokenInvalid)
    }

    async fn key(&self, source: &Source, wrapped: &str, now: SystemTime) -> Result<Arc<Aes256Gcm>, StepError> {
        let place = (source.clone(), wrapped.to_owned());
        if let Some(known) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&place)
            && now.duration_since(known.since).is_ok_and(|age| age < MAX_KEY_AGE)
        {
            return Ok(Arc::clone(&known.cipher));
        }
        let plaintext = self.decrypt(decode(wrapped)?, key_context(source)).await?;
        let cipher = Arc::new(cipher(plaintext.as_ref())?);
        let unwrapped = Unwrapped { cipher: Arc::clone(&cipher), since: now };
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).put(place, unwrapped);
        Ok(cipher)
    }

    async fn decrypt(&self, blob: Vec<u8>, context: HashMap<String, String>) -> Result<Blob, StepError> {
        if blob.is_empty() {
            return Err(StepError::TokenInvalid);
        }
        let decrypt = self.kms.decrypt().key_id(&self.key_arn).set_encryption_context(Some(context));
        let opened = decrypt.ciphertext_blob(Blob::new(blob)).send().await;
        let opened = opened.map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        opened.plaintext.ok_or(StepError::Unavailable { operation: OPERATION })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("key_arn", &self.key_arn).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_kms::config::http::HttpResponse;
    use aws_sdk_kms::config::retry::RetryConfig;
    use aws_sdk_kms::operation::decrypt::DecryptOutput;
    use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
    use aws_smithy_mocks::{MockResponse, Rule, RuleMode, mock, mock_client};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;
    use crate::Sealer;

    /// Data keys by their wrapped form: the number of the key, and its context.
    type Made = HashMap<Vec<u8>, (u8, HashMap<String, String>)>;

    /// Stands in for KMS: a ciphertext contains the plain text and the context, and only that context decrypts it.
    fn kms() -> (Client, Rule) {
        let made: Arc<Mutex<Made>> = Arc::default();
        let known = Arc::clone(&made);
        let generate = mock!(Client::generate_data_key).then_compute_output(move |request| {
            let mut made = made.lock().unwrap();
            let n = u8::try_from(made.len() + 1).unwrap();
            let wrapped = vec![0xC0, n];
            made.insert(wrapped.clone(), (n, request.encryption_context().unwrap().clone()));
            GenerateDataKeyOutput::builder().plaintext(Blob::new([n; 32])).ciphertext_blob(Blob::new(wrapped)).build()
        });
        let decrypt = mock!(Client::decrypt).then_compute_response(move |request| {
            let known = known.lock().unwrap();
            let found = known.get(request.ciphertext_blob().unwrap().as_ref());
            let fits = found.filter(|(_, context)| request.encryption_context() == Some(context));
            let (status, body) = match fits {
                Some((n, _)) => (200, json!({ "Plaintext": BASE64_STANDARD.encode([*n; 32]) })),
                None => (400, json!({ "__type": "InvalidCiphertextException" })),
            };
            MockResponse::Http(HttpResponse::new(status.try_into().unwrap(), body.to_string().into()))
        });
        let no_retry = RetryConfig::disabled();
        let kms =
            mock_client!(aws_sdk_kms, RuleMode::MatchAny, [&generate, &decrypt], |conf| conf.retry_config(no_retry.clone()));
        (kms, decrypt)
    }

    fn submitted(source: &str) -> SubmittedMessage {
        let message_id = domain::Er7::canonical("MSH|").unwrap().message_id();
        SubmittedMessage { submission_id: runtime::new_submission_id(), message_id, source: source.parse().unwrap() }
    }

    const INVALID: Option<StepError> = Some(StepError::TokenInvalid);

    #[tokio::test]
    async fn many_tokens_cost_one_call_to_kms_and_each_opens_for_its_submission_alone() {
        let (kms, decrypt) = kms();
        let (sealer, opener) = (Sealer::new(kms.clone(), "key".to_owned()), Opener::new(kms, "key".to_owned()));
        let mut sealed = Vec::new();
        for n in 0..100 {
            let submitted = submitted("lab");
            let token = SecretString::from(format!("header.{n}.{}", "x".repeat(100 * n)));
            let text = sealer.seal(submitted.submission_id, &submitted.source, &token).await.unwrap();
            assert_eq!(opener.open(&submitted, &text).await.unwrap().expose_secret(), token.expose_secret());
            sealed.push((submitted, text));
        }
        assert_eq!(decrypt.num_calls(), 1);
        for ((one, _), (_, another)) in sealed.iter().zip(sealed.iter().skip(1)) {
            assert_eq!(opener.open(one, another).await.err(), INVALID);
        }
        assert_eq!(decrypt.num_calls(), 1, "refused without KMS");
    }

    #[tokio::test]
    async fn a_token_that_was_moved_to_another_institute_is_refused_with_and_without_the_key_in_memory() {
        let (kms, _) = kms();
        let sealer = Sealer::new(kms.clone(), "key".to_owned());
        let (one, token) = (submitted("lab"), SecretString::from("a.b.c"));
        let text = sealer.seal(one.submission_id, &one.source, &token).await.unwrap();
        let moved = SubmittedMessage { source: "another".parse().unwrap(), ..one.clone() };
        for is_warm in [false, true] {
            let opener = Opener::new(kms.clone(), "key".to_owned());
            if is_warm {
                opener.open(&one, &text).await.unwrap();
            }
            assert_eq!(opener.open(&moved, &text).await.err(), INVALID, "warm: {is_warm}");
        }
    }

    #[tokio::test]
    async fn a_token_with_another_key_a_damaged_one_and_a_plain_one_are_refused() {
        let (kms, _) = kms();
        let sealer = Sealer::new(kms.clone(), "key".to_owned());
        let opener = Opener::new(kms, "key".to_owned());
        let (one, other, token) = (submitted("lab"), submitted("another"), SecretString::from("a.b.c"));
        let text = sealer.seal(one.submission_id, &one.source, &token).await.unwrap();
        let others = sealer.seal(other.submission_id, &other.source, &token).await.unwrap();
        opener.open(&one, &text).await.unwrap();
        let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let ([_, wrapped, sealed], [_, others_key, others_text]) = (&parts(&text)[..], &parts(&others)[..]) else { panic!() };
        let mut damaged = BASE64_STANDARD.decode(sealed).unwrap();
        damaged[NONCE_BYTES] ^= 1;
        for bad in [
            format!("2.{others_key}.{sealed}"),
            format!("2.{wrapped}.{others_text}"),
            format!("2.{}.{sealed}", BASE64_STANDARD.encode([0xC0, 99])),
            format!("2.{wrapped}.{}", BASE64_STANDARD.encode(damaged)),
            format!("2.{wrapped}.{}", BASE64_STANDARD.encode([0; 5])),
            format!("2.{wrapped}"),
            format!("2.{wrapped}.{sealed}.{sealed}"),
            // Looks like the first version, but KMS does not accept its context.
            format!("{wrapped}.{sealed}"),
            wrapped.clone(),
            token.expose_secret().to_owned(),
            String::new(),
        ] {
            assert_eq!(opener.open(&one, &bad).await.err(), INVALID, "{bad}");
        }
        opener.open(&one, &text).await.unwrap();
    }

    #[tokio::test]
    async fn an_unwrapped_key_is_asked_for_again_after_a_while_and_their_number_is_bounded() {
        let (kms, decrypt) = kms();
        let sealer = Sealer::new(kms.clone(), "key".to_owned());
        let (one, token, now) = (submitted("lab"), SecretString::from("a.b.c"), SystemTime::now());
        let text = sealer.seal(one.submission_id, &one.source, &token).await.unwrap();
        let opener = Opener::new(kms, "key".to_owned());
        for (seconds, calls) in [(0, 1), (1, 1), (MAX_KEY_AGE.as_secs() - 1, 1), (MAX_KEY_AGE.as_secs(), 2)] {
            opener.open_at(now + Duration::from_secs(seconds), &one, &text).await.unwrap();
            assert_eq!(decrypt.num_calls(), calls, "after {seconds} s");
        }
        assert_eq!(opener.keys.lock().unwrap().cap(), MAX_KEYS);
    }

    #[tokio::test]
    async fn the_first_version_of_a_sealed_token_is_still_opened() {
        let one = submitted("lab");
        let blob = BASE64_STANDARD.encode("blob");
        let long = cipher(&[7; 32]).unwrap().encrypt(&Nonce::default(), b"a.b.c".as_slice()).unwrap();
        // KMS itself sealed a short token, and a data key sealed a longer one.
        let table = [(blob.clone(), b"a.b.c".to_vec()), (format!("{blob}.{}", BASE64_STANDARD.encode(long)), vec![7; 32])];
        for (text, plaintext) in table {
            let context = submission_context(one.submission_id, &one.source);
            let decrypt = mock!(Client::decrypt)
                .match_requests(move |request| request.encryption_context() == Some(&context))
                .then_output(move || DecryptOutput::builder().plaintext(Blob::new(plaintext.clone())).build());
            let opener = Opener::new(mock_client!(aws_sdk_kms, RuleMode::MatchAny, [&decrypt]), "key".to_owned());
            assert_eq!(opener.open(&one, &text).await.unwrap().expose_secret(), "a.b.c");
        }
    }
}
