//! The callers' credentials that a warm worker holds.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use lru::LruCache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Credentials by the SHA-256 of the token they belong to. The token itself is not kept.
///
/// The cache is bounded, and entries are not used in their last five minutes. The SDK's [`Credentials`] overwrite their secrets when
/// the last copy is dropped.
#[derive(Debug)]
pub struct CredentialCache {
    entries: Mutex<LruCache<[u8; 32], Credentials>>,
}

impl CredentialCache {
    /// The maximum number of callers in the cache.
    pub const MAX_ENTRIES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
    /// Credentials are no longer used this long before they expire.
    pub const EXPIRY_MARGIN: Duration = Duration::from_secs(5 * 60);

    /// The credentials of a token, if they last longer than [`CredentialCache::EXPIRY_MARGIN`].
    pub fn get(&self, token: &SecretString, now: SystemTime) -> Option<Credentials> {
        let key = key(token);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.get(&key)?;
        if found.expiry().is_some_and(|expiry| expiry > now + Self::EXPIRY_MARGIN) {
            return Some(found.clone());
        }
        entries.pop(&key);
        None
    }

    /// Keeps the credentials of a token, if they last longer than [`CredentialCache::EXPIRY_MARGIN`].
    pub fn put(&self, token: &SecretString, credentials: Credentials, now: SystemTime) {
        if credentials.expiry().is_some_and(|expiry| expiry > now + Self::EXPIRY_MARGIN) {
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).put(key(token), credentials);
        }
    }

    /// Drops the credentials of a token.
    pub fn forget(&self, token: &SecretString) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).pop(&key(token));
    }
}

impl Default for CredentialCache {
    fn default() -> Self {
        Self { entries: Mutex::new(LruCache::new(Self::MAX_ENTRIES)) }
    }
}

fn key(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, expiry: SystemTime) -> Credentials {
        Credentials::new(name, "secret", None, Some(expiry), "test")
    }

    fn token(n: usize) -> SecretString {
        format!("token {n}").into()
    }

    #[test]
    fn credentials_are_given_out_until_five_minutes_before_they_expire() {
        let (cache, now) = (CredentialCache::default(), SystemTime::now());
        cache.put(&token(1), credentials("a", now + Duration::from_secs(3600)), now);
        let id_at = |seconds| cache.get(&token(1), now + Duration::from_secs(seconds)).map(|it| it.access_key_id().to_owned());
        assert_eq!(id_at(0).as_deref(), Some("a"));
        assert_eq!(id_at(3600 - 301).as_deref(), Some("a"));
        assert_eq!(id_at(3600 - 300), None);
        assert_eq!(id_at(0), None, "an entry that has expired is gone");
    }

    #[test]
    fn one_token_never_gets_the_credentials_of_another() {
        let (cache, now) = (CredentialCache::default(), SystemTime::now());
        cache.put(&token(1), credentials("a", now + Duration::from_secs(3600)), now);
        assert!(cache.get(&token(2), now).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_nothing_short_lived() {
        let (cache, now) = (CredentialCache::default(), SystemTime::now());
        for n in 0..1000 {
            cache.put(&token(n), credentials("a", now + Duration::from_secs(3600)), now);
        }
        cache.put(&token(1000), credentials("a", now + Duration::from_secs(300)), now);
        assert_eq!(cache.entries.lock().unwrap().len(), CredentialCache::MAX_ENTRIES.get());
        assert!(
            cache.get(&token(0), now).is_none()
                && cache.get(&token(999), now).is_some()
                && cache.get(&token(1000), now).is_none()
        );
    }
}
