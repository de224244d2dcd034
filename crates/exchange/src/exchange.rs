//! From the caller's ID token to the caller's AWS credentials (Cognito identity pool, enhanced flow).

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::Client;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use catalog::Catalog;
use domain::Requester;
use lru::LruCache;
use runtime::{Field, StepError, log_field};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::CredentialCache;

/// The maximum number of identity ids in a warm worker. An identity id has 50 bytes and is not secret.
const MAX_IDENTITIES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The time to read what is remembered, or to keep it. Neither is needed.
const REMEMBERING: Duration = Duration::from_secs(2);

/// Exchanges tokens for credentials, and caches both identity ids and credentials.
#[derive(Debug)]
pub struct Exchange {
    client: Client,
    identity_pool_id: String,
    credentials: CredentialCache,
    /// Identity ids: GetId allows 25 requests a second in an account.
    identities: Mutex<LruCache<Requester, String>>,
    /// Where they are kept beyond this process.
    remembered: Option<Catalog>,
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
        Self { client, identity_pool_id, credentials: CredentialCache::default(), identities, remembered: None }
    }

    /// The same, which also keeps identity ids in the catalog and reads them there before it asks Cognito.
    #[must_use]
    pub fn remembering(self, catalog: Catalog) -> Self {
        Self { remembered: Some(catalog), ..self }
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
        let user = Requester { subject: claims.sub, issuer: claims.iss };
        let known = self.identities.lock().unwrap_or_else(PoisonError::into_inner).get(&user).cloned();
        let credentials = match known {
            Some(identity_id) => self.exchange_of(&user, &identity_id, &provider, token).await?,
            None => self.first_exchange(&user, &provider, token).await?,
        };
        self.credentials.put(token, credentials.clone(), now);
        Ok(credentials)
    }

    /// The credentials of a user whose identity id this process does not know yet.
    async fn first_exchange(&self, user: &Requester, provider: &str, token: &SecretString) -> Result<Credentials, StepError> {
        let (remembered, mut identity) = (self.remembered(user).await, "new");
        // Without what was remembered there is still GetId.
        let remembered = remembered.unwrap_or_else(|error| {
            identity = error.name();
            None
        });
        if let Some(identity_id) = &remembered {
            match self.exchange(identity_id, provider, token).await {
                Ok(credentials) => {
                    log_field(Field::Identity, "remembered");
                    self.know(user, identity_id);
                    return Ok(credentials);
                }
                Err(error @ (StepError::Throttled { .. } | StepError::Unavailable { .. })) => return Err(error),
                // The identity is gone, or it is not this user's, or the token is to blame, which GetId says as well.
                Err(_) => {}
            }
        }
        let identity_id = self.identity_id(provider, token).await?;
        self.know(user, &identity_id);
        let credentials = self.exchange_of(user, &identity_id, provider, token).await?;
        log_field(Field::Identity, identity);
        if let Some(catalog) = &self.remembered
            && remembered.as_ref() != Some(&identity_id)
        {
            let kept = catalog.remember_identity(user, &identity_id, remembered.as_deref(), runtime::now());
            let kept = tokio::time::timeout(REMEMBERING, kept).await;
            if let Err(error) = kept.unwrap_or(Err(StepError::Unavailable { operation: "dynamodb:UpdateItem" })) {
                log_field(Field::Identity, error.name());
            }
        }
        Ok(credentials)
    }

    /// The credentials of a user whose identity id this process knows.
    async fn exchange_of(
        &self,
        user: &Requester,
        identity_id: &str,
        provider: &str,
        token: &SecretString,
    ) -> Result<Credentials, StepError> {
        self.exchange(identity_id, provider, token).await.inspect_err(|error| {
            // `ResourceNotFoundException`: somebody deleted the identity. The next try asks for the new one.
            if matches!(error, StepError::Misconfigured { .. }) {
                self.identities.lock().unwrap_or_else(PoisonError::into_inner).pop(user);
            }
        })
    }

    /// The identity id that is kept in the catalog.
    async fn remembered(&self, user: &Requester) -> Result<Option<String>, StepError> {
        let Some(catalog) = &self.remembered else { return Ok(None) };
        let read = tokio::time::timeout(REMEMBERING, catalog.identity(user)).await;
        read.unwrap_or(Err(StepError::Unavailable { operation: "dynamodb:GetItem" }))
    }

    fn know(&self, user: &Requester, identity_id: &str) {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner).put(user.clone(), identity_id.to_owned());
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

    async fn identity_id(&self, provider: &str, token: &SecretString) -> Result<String, StepError> {
        const OPERATION: &str = "cognito-identity:GetId";
        let answer = self
            .client
            .get_id()
            .identity_pool_id(&self.identity_pool_id)
            .logins(provider, token.expose_secret())
            .send()
            .await
            .map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        answer.identity_id.ok_or(StepError::Unavailable { operation: OPERATION })
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

#[cfg(test)]
mod tests {
    use aws_sdk_cognitoidentity::config::http::HttpResponse;
    use aws_sdk_cognitoidentity::operation::get_credentials_for_identity::GetCredentialsForIdentityOutput;
    use aws_sdk_cognitoidentity::operation::get_id::GetIdOutput;
    use aws_sdk_cognitoidentity::types::Credentials as Given;
    use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
    use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
    use aws_sdk_dynamodb::types::AttributeValue::S;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use serde_json::json;

    use super::*;

    type Dynamodb = aws_sdk_dynamodb::Client;

    fn token() -> SecretString {
        let claims = json!({ "iss": "https://idp.example/pool", "sub": "user", "exp": 4_000_000_000_u64 });
        format!("header.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())).into()
    }

    /// Cognito, for which `id` is the user's identity.
    fn cognito(id: &'static str) -> [Rule; 3] {
        let given = Given::builder().access_key_id("A").secret_key("B").build();
        let refused = || {
            let body = json!({ "__type": "NotAuthorizedException", "message": "SECRET" }).to_string();
            HttpResponse::new(400.try_into().unwrap(), body.into())
        };
        [
            mock!(Client::get_id).then_output(move || GetIdOutput::builder().identity_id(id).build()),
            mock!(Client::get_credentials_for_identity)
                .match_requests(move |it| it.identity_id() == Some(id))
                .then_output(move || GetCredentialsForIdentityOutput::builder().credentials(given.clone()).build()),
            mock!(Client::get_credentials_for_identity)
                .match_requests(move |it| it.identity_id() != Some(id))
                .then_http_response(refused),
        ]
    }

    fn remembered(id: Option<&'static str>) -> Rule {
        mock!(Dynamodb::get_item)
            .match_requests(|it| {
                let texts: Vec<_> = it.key().unwrap().values().map(|it| it.as_s().unwrap().as_str()).collect();
                texts.contains(&"#identities") && !texts.iter().any(|it| it.contains("user"))
            })
            .then_output(move || {
                let item = id.map(|id| [("identity_id".to_owned(), S(id.to_owned()))].into());
                GetItemOutput::builder().set_item(item).build()
            })
    }

    /// The numbers of calls to GetId, GetCredentialsForIdentity and UpdateItem, and the identity id that is replaced.
    async fn exchanged(cognito: [Rule; 3], read: Rule) -> (usize, usize, usize, Option<String>) {
        let stale: std::sync::Arc<Mutex<Option<String>>> = std::sync::Arc::default();
        let seen = std::sync::Arc::clone(&stale);
        let write = mock!(Dynamodb::update_item).then_compute_output(move |it| {
            let value = |name: &str| Some(it.expression_attribute_values()?.get(name)?.as_s().ok()?.clone());
            assert_eq!(value(":identity_id").as_deref(), Some("pool:mine"));
            *seen.lock().unwrap() = value(":stale");
            UpdateItemOutput::builder().build()
        });
        let [get_id, give, refuse] = &cognito;
        let client = mock_client!(aws_sdk_cognitoidentity, RuleMode::MatchAny, [get_id, give, refuse]);
        let dynamodb = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [&read, &write], |conf| {
            conf.retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
        });
        let exchange = Exchange::new(client, "pool".to_owned()).remembering(Catalog::new(dynamodb, "catalog".to_owned()));
        assert_eq!(exchange.credentials(&token()).await.unwrap().access_key_id(), "A");
        let stale = stale.lock().unwrap().clone();
        (get_id.num_calls(), give.num_calls() + refuse.num_calls(), write.num_calls(), stale)
    }

    #[tokio::test]
    async fn a_remembered_identity_spares_get_id_and_a_new_one_is_remembered() {
        assert_eq!(exchanged(cognito("pool:mine"), remembered(Some("pool:mine"))).await, (0, 1, 0, None));
        assert_eq!(exchanged(cognito("pool:mine"), remembered(None)).await, (1, 1, 1, None));
    }

    #[tokio::test]
    async fn a_stale_or_wrong_identity_is_asked_for_again_and_replaced() {
        let wrong = exchanged(cognito("pool:mine"), remembered(Some("pool:of-another"))).await;
        assert_eq!(wrong, (1, 2, 1, Some("pool:of-another".to_owned())));
    }

    #[tokio::test]
    async fn without_the_catalog_there_is_still_get_id() {
        let out = mock!(Dynamodb::get_item)
            .then_http_response(|| HttpResponse::new(400.try_into().unwrap(), r#"{"__type":"AccessDeniedException"}"#.into()));
        assert_eq!(exchanged(cognito("pool:mine"), out).await, (1, 1, 1, None));
    }
}
