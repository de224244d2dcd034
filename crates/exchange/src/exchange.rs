//! From the caller's ID token to the caller's AWS credentials (Cognito identity pool, enhanced flow).

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::Client;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lru::LruCache;
use runtime::{Field, StepError, log_field};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::CredentialCache;

/// The maximum number of identity ids in a warm worker. An identity id has 50 bytes and is not secret.
const MAX_IDENTITIES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Exchanges tokens for credentials, and caches both identity ids and credentials.
#[derive(Debug)]
pub struct Exchange {
    client: Client,
    identity_pool_id: String,
    credentials: CredentialCache,
    /// Identity ids by the token's `iss` and `sub`: GetId allows 25 requests a second in an account.
    identities: Mutex<LruCache<(String, String), String>>,
}

/// The claims that are read here, without verification: Cognito verifies the token.
#[derive(Deserialize)]
pub(crate) struct TokenClaims {
    pub(crate) iss: String,
    sub: String,
    exp: u64,
    /// All others.
    #[serde(flatten)]
    pub(crate) others: Map<String, Value>,
}

impl TokenClaims {
    fn has_expired(&self, now: SystemTime) -> bool {
        UNIX_EPOCH + Duration::from_secs(self.exp) <= now
    }
}

impl Exchange {
    /// An exchange for the users of all providers of one identity pool.
    pub fn new(client: Client, identity_pool_id: String) -> Self {
        let identities = Mutex::new(LruCache::new(MAX_IDENTITIES));
        Self { client, identity_pool_id, credentials: CredentialCache::default(), identities }
    }

    /// The credentials of the owner of an ID token.
    ///
    /// # Errors
    /// [`StepError::TokenExpired`] and [`StepError::TokenInvalid`] blame the token; the other errors do not.
    pub async fn credentials(&self, token: &SecretString) -> Result<Credentials, StepError> {
        let claims = claims(token).ok_or(StepError::TokenInvalid)?;
        let now = SystemTime::now();
        // Credentials of the enhanced flow live for an hour, also if the token expires earlier. So a warm worker must refuse an expired
        // token itself, as a cold one does.
        if claims.has_expired(now) {
            return Err(StepError::TokenExpired);
        }
        if let Some(credentials) = self.credentials.get(token, now) {
            log_field(Field::CredentialCache, "hit");
            return Ok(credentials);
        }
        log_field(Field::CredentialCache, "miss");
        let provider = provider(&claims.iss).ok_or(StepError::TokenInvalid)?.to_owned();
        let user = (claims.iss, claims.sub);
        let identity_id = self.identity_id(&user, &provider, token).await?;
        let credentials = self.exchange(&identity_id, &provider, token).await.inspect_err(|error| {
            // `ResourceNotFoundException`: somebody deleted the identity. The next try asks for the new one.
            if matches!(error, StepError::Misconfigured { .. }) {
                self.identities.lock().unwrap_or_else(PoisonError::into_inner).pop(&user);
            }
        })?;
        self.credentials.put(token, credentials.clone(), now);
        Ok(credentials)
    }

    /// Forgets the credentials of a token that AWS calls expired, and returns the reason.
    ///
    /// [`StepError::TokenExpired`] if the token has expired too. Otherwise the credentials ended too early and the next try gets
    /// new ones, hence [`StepError::Unavailable`].
    pub fn outdated(&self, token: &SecretString, operation: &'static str) -> StepError {
        self.credentials.forget(token);
        match claims(token) {
            Some(claims) if !claims.has_expired(SystemTime::now()) => StepError::Unavailable { operation },
            _ => StepError::TokenExpired,
        }
    }

    async fn identity_id(&self, user: &(String, String), provider: &str, token: &SecretString) -> Result<String, StepError> {
        const OPERATION: &str = "cognito-identity:GetId";
        let known = self.identities.lock().unwrap_or_else(PoisonError::into_inner).get(user).cloned();
        if let Some(identity_id) = known {
            return Ok(identity_id);
        }
        let answer = self
            .client
            .get_id()
            .identity_pool_id(&self.identity_pool_id)
            .logins(provider, token.expose_secret())
            .send()
            .await
            .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        let identity_id = answer.identity_id.ok_or(StepError::Unavailable { operation: OPERATION })?;
        self.identities.lock().unwrap_or_else(PoisonError::into_inner).put(user.clone(), identity_id.clone());
        Ok(identity_id)
    }

    async fn exchange(&self, identity_id: &str, provider: &str, token: &SecretString) -> Result<Credentials, StepError> {
        const OPERATION: &str = "cognito-identity:GetCredentialsForIdentity";
        let answer = self
            .client
            .get_credentials_for_identity()
            .identity_id(identity_id)
            .logins(provider, token.expose_secret())
            .send()
            .await
            .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        let unusable = StepError::Unavailable { operation: OPERATION };
        let given = answer.credentials.ok_or(unusable.clone())?;
        let (Some(access_key_id), Some(secret_key)) = (given.access_key_id, given.secret_key) else { return Err(unusable) };
        let expiration = given.expiration.and_then(|it| SystemTime::try_from(it).ok());
        Ok(Credentials::new(access_key_id, secret_key, given.session_token, expiration, "cognito-identity"))
    }
}

/// The key of `Logins`: the issuer without its scheme, for a user pool `cognito-idp.<region>.amazonaws.com/<pool id>` (Amazon
/// Cognito Developer Guide, "Integrating a user pool with an identity pool" and "OpenID Connect (OIDC) providers"). If a token
/// claims an issuer that the identity pool does not have, the pool refuses it.
fn provider(issuer: &str) -> Option<&str> {
    issuer.strip_prefix("https://").filter(|name| !name.is_empty())
}

pub(crate) fn claims(token: &SecretString) -> Option<TokenClaims> {
    let payload = token.expose_secret().split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
