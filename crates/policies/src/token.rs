//! A token is verified before anything in it is believed.
//!
//! What the token says of itself (`iss`, `kid`, `alg`) only chooses among what is configured: the issuer by its `iss`, letter
//! for letter, then a key among that issuer's own, then an algorithm that this key is for. So another issuer's key of the
//! same name does not fit, nor a public key as the secret of an HMAC, nor a key that the token brings along (`jwk`, `jku`,
//! `x5u`), which nobody looks at. What costs nothing is checked before what costs a request, and the signature last: all of
//! it must hold, and a token that is no good anyway makes no traffic.

mod fetch;
mod key_set;
mod keys;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use runtime::{Field, log_field};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

pub use runtime::bearer;

use crate::Issuers;
use crate::issuers::is_secure;
use crate::json::Unique;
use fetch::Fetcher;
use keys::KeyCache;

/// The longest `sub` (OpenID Connect Core 1.0 §2).
const MAX_SUBJECT_BYTES: usize = 255;

/// The limit of API Gateway for all headers together.
pub const MAX_TOKEN_BYTES: usize = 10_240;

/// How far an issuer's clock may be ahead of ours (`nbf`, `iat`). It does not extend `exp`.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Verifies tokens of the configured issuers and keeps their keys.
///
/// Create one for the life of the process, because the keys are worth keeping.
pub struct Verifier {
    /// By `iss`.
    providers: BTreeMap<String, Provider>,
    result_ttl_seconds: u64,
    fetcher: Fetcher,
    clock: Clock,
}

/// The options of a deployment. The default is for AWS, with no answer cached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the user pools' keys, if not on AWS (`AWS_ENDPOINT_URL`). HTTPS, or a loopback address.
    pub cognito_endpoint: Option<String>,
    /// How long an answer for a token is cached. The token must live longer.
    pub result_ttl: Duration,
    /// How long a connection to an issuer may take.
    pub connect_timeout: Duration,
    /// How long it may take in all to get an issuer's keys. API Gateway waits ten seconds for the authorizer.
    pub request_timeout: Duration,
    /// The most requests for the keys in that time. At least one.
    pub tries: u32,
    /// How long a request may take before another one is sent in parallel.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cognito_endpoint: None,
            result_ttl: Duration::ZERO,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(7),
            tries: 3,
            patience: Duration::from_secs(2),
        }
    }
}

/// The settings do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// There is no entry about which of its tokens are accepted.
    #[error("the provider `{0}` has an issuer but no entry in providers.json")]
    Undescribed(String),
    /// Keys fetched without TLS could be anybody's.
    #[error("the keys of the issuer `{0}` are not at an https address")]
    Insecure(String),
    /// The HTTP client could not be created, for instance because the machine has no certificates to trust.
    #[error("the HTTPS client cannot be set up")]
    Client,
}

/// A token that its issuer has signed, for one of our clients, and that is valid now.
///
/// Its `Debug` shows the owner and nothing else: claims are personal data.
#[derive(Clone)]
pub struct Verified {
    /// The issuer's name in [`crate::Issuers`].
    pub provider: String,
    /// `iss`.
    pub issuer: String,
    /// `sub`. Not empty.
    pub subject: String,
    /// `token_use`, which Cognito's tokens have: `id` or `access`.
    pub token_use: Option<String>,
    /// `exp`, in whole seconds since 1970.
    pub expires_at: u64,
    /// The whole payload.
    pub claims: Map<String, Value>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verified").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Why a token is refused. Permanent for this token; its sentence goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is too large")]
    TooLarge,
    /// The token is malformed: it is not three base64url parts with JSON in the first two; or a required claim is missing, occurs
    /// twice or has the wrong type (RFC 7519 §4.1); or the header has an unknown critical extension (RFC 7515 §4.1.11).
    #[error("the token is no JSON web token, or lacks a claim that it must have")]
    Malformed,
    /// `iss` is not a configured issuer.
    #[error("the token's issuer is not configured")]
    UnknownIssuer,
    /// `alg` does not fit the issuer's key: it is `none`, HMAC, or for another kind of key.
    #[error("the token's algorithm is not one of its key")]
    Algorithm,
    /// `kid` is missing, or none of the issuer's keys.
    #[error("the token's `kid` is not among its issuer's keys")]
    UnknownKey,
    /// The signature does not belong to this text and key.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is for somebody else (`aud`, or `client_id` in an access token of Cognito).
    #[error("the token is for another audience")]
    Audience,
    /// The token is not of a kind accepted from this provider (`token_use`, or `typ` in the header).
    #[error("tokens of this use are not taken")]
    TokenUse,
    /// `exp` has passed, or is so near that a cached answer would outlive the token.
    #[error("the token has expired, or is about to")]
    Expired,
    /// `nbf` or `iat` is more than [`CLOCK_SKEW`] in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
}

impl Refused {
    /// One word for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "TooLarge",
            Self::Malformed => "Malformed",
            Self::UnknownIssuer => "UnknownIssuer",
            Self::Algorithm => "Algorithm",
            Self::UnknownKey => "UnknownKey",
            Self::Signature => "Signature",
            Self::Audience => "Audience",
            Self::TokenUse => "TokenUse",
            Self::Expired => "Expired",
            Self::NotYetValid => "NotYetValid",
        }
    }
}

/// Why there is no [`Verified`] token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The issuer's keys are unavailable, so nobody can decide. Another try may succeed.
    #[error("the keys of the token's issuer could not be had")]
    KeysUnavailable,
}

/// Time since 1970.
///
/// The age of keys uses it too. The monotonic clock may stop while a Lambda is frozen between two invocations, and an hour-old
/// key would then look fresh.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// One issuer, prepared.
struct Provider {
    name: String,
    audiences: Vec<String>,
    token_uses: Vec<String>,
    keys: KeyCache,
}

impl Verifier {
    /// Verifies tokens of these issuers. Requests no key before a token needs one.
    ///
    /// `token_uses` has, for every provider, the accepted values of `token_use`: for Cognito `id`, `access` or both. It is empty
    /// for a provider whose tokens have no such claim; an access token that declares itself (`typ: at+jwt`, RFC 9068) is then
    /// refused.
    ///
    /// # Errors
    /// [`VerifierError`] is a mistake in the settings: a provider without `token_uses`, or an [`Options::cognito_endpoint`] that
    /// is neither HTTPS nor on this machine.
    pub fn new(issuers: &Issuers, token_uses: &BTreeMap<String, Vec<String>>, options: &Options) -> Result<Self, VerifierError> {
        Self::with_clock(issuers, token_uses, options, Arc::new(since_1970))
    }

    fn with_clock(
        issuers: &Issuers,
        token_uses: &BTreeMap<String, Vec<String>>,
        options: &Options,
        clock: Clock,
    ) -> Result<Self, VerifierError> {
        let mut providers = BTreeMap::new();
        for (name, issuer) in issuers.iter() {
            let token_uses = token_uses.get(name).ok_or_else(|| VerifierError::Undescribed(name.to_owned()))?;
            let url = issuer.keys_at(options.cognito_endpoint.as_deref());
            if !is_secure(&url) {
                return Err(VerifierError::Insecure(name.to_owned()));
            }
            let provider = Provider {
                name: name.to_owned(),
                audiences: issuer.audiences.clone(),
                token_uses: token_uses.clone(),
                keys: KeyCache::new(url),
            };
            providers.insert(issuer.issuer.clone(), provider);
        }
        let fetcher = Fetcher::new(options).map_err(|_| VerifierError::Client)?;
        // Part of a second counts as a second: an answer must not outlive its token.
        let result_ttl_seconds = options.result_ttl.as_secs().saturating_add(u64::from(options.result_ttl.subsec_nanos() > 0));
        Ok(Self { providers, result_ttl_seconds, fetcher, clock })
    }

    /// Verifies a token: who has signed it, for whom, and until when.
    ///
    /// Sends requests only to the token's issuer, and only if its keys are not in memory.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] is final. [`VerifyError::KeysUnavailable`] is not the token's fault: the request is denied, and a
    /// later try may succeed.
    pub async fn verify(&self, token: &SecretString) -> Result<Verified, VerifyError> {
        let token = token.expose_secret();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLarge.into());
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refused::Malformed)?;
        let (header, claims) = (object(header)?, object(payload)?);

        let algorithm = algorithm(&header)?;
        let issuer = required_text(&claims, "iss")?;
        let provider = self.providers.get(issuer).ok_or(Refused::UnknownIssuer)?;
        let kid = header.get("kid").and_then(Value::as_str).ok_or(Refused::UnknownKey)?;
        let expires_at = self.good_until(&claims)?;
        let token_use = provider.token_use(&header, &claims)?;
        provider.check_audience(&claims, token_use)?;

        let keys = provider.keys.with(kid, &self.fetcher, &self.clock).await.inspect_err(|error| {
            if *error == VerifyError::KeysUnavailable {
                log_field(Field::Provider, &provider.name);
            }
        })?;
        let mut fitting = keys.named(kid).filter(|key| key.algorithms.contains(&algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(Refused::Algorithm.into());
        }
        for key in fitting {
            match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm) {
                Ok(true) => {
                    return Ok(Verified {
                        provider: provider.name.clone(),
                        issuer: issuer.to_owned(),
                        subject: required_text(&claims, "sub")?.to_owned(),
                        token_use: token_use.map(str::to_owned),
                        expires_at,
                        claims,
                    });
                }
                Err(error) if matches!(error.kind(), ErrorKind::Base64(_)) => return Err(Refused::Malformed.into()),
                Ok(false) | Err(_) => {}
            }
        }
        Err(Refused::Signature.into())
    }

    /// `exp`, if it leaves enough time, and if the token is valid already.
    fn good_until(&self, claims: &Map<String, Value>) -> Result<u64, Refused> {
        if required_text(claims, "sub")?.len() > MAX_SUBJECT_BYTES {
            return Err(Refused::Malformed);
        }
        let now = (self.clock)().as_secs();
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|date| date.ceil() as u64 > now.saturating_add(CLOCK_SKEW.as_secs())) {
                return Err(Refused::NotYetValid);
            }
        }
        let expires_at = date(claims, "exp")?.ok_or(Refused::Malformed)?.floor() as u64;
        if now.saturating_add(self.result_ttl_seconds) < expires_at { Ok(expires_at) } else { Err(Refused::Expired) }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("issuers", &self.providers.keys()).finish_non_exhaustive()
    }
}

impl Provider {
    /// The token's `token_use`, if such tokens are accepted.
    fn token_use<'a>(&self, header: &Map<String, Value>, claims: &'a Map<String, Value>) -> Result<Option<&'a str>, Refused> {
        let token_use = match claims.get("token_use") {
            None => None,
            Some(value) => Some(value.as_str().ok_or(Refused::Malformed)?),
        };
        let taken = match token_use {
            // An OIDC provider may in fact be a Cognito user pool. Its access tokens are refused all the same.
            _ if self.token_uses.is_empty() => token_use.is_none_or(|token_use| token_use == "id") && is_plain(header),
            Some(token_use) => self.token_uses.iter().any(|it| it == token_use),
            None => false,
        };
        if taken { Ok(token_use) } else { Err(Refused::TokenUse) }
    }

    /// `aud` is a text or a list of them (RFC 7519 §4.1.3). Cognito's access tokens have `client_id` instead.
    fn check_audience(&self, claims: &Map<String, Value>, token_use: Option<&str>) -> Result<(), Refused> {
        let ours = |audience: &str| self.audiences.iter().any(|it| it == audience);
        let good = match claims.get("aud") {
            Some(Value::String(audience)) => ours(audience),
            Some(Value::Array(audiences)) => {
                let audiences: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
                audiences.ok_or(Refused::Malformed)?.into_iter().any(ours)
            }
            Some(_) => return Err(Refused::Malformed),
            None if token_use == Some("access") => claims.get("client_id").and_then(Value::as_str).is_some_and(ours),
            None => false,
        };
        // If there are several audiences, the client for which the token was made (OpenID Connect Core 1.0 §2). The identity pool
        // uses it as well.
        let for_us = match claims.get("azp") {
            None => true,
            Some(party) => ours(party.as_str().ok_or(Refused::Malformed)?),
        };
        if good && for_us { Ok(()) } else { Err(Refused::Audience) }
    }
}

/// Whether the header declares nothing more than a JWT. Logout tokens, access tokens and the like declare their kind (RFC 8725
/// §3.11), so that nobody mistakes them for another.
fn is_plain(header: &Map<String, Value>) -> bool {
    match header.get("typ") {
        None => true,
        Some(Value::String(typ)) => typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt"),
        Some(_) => false,
    }
}

/// The header's `alg`, if a public key can verify it.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Refused> {
    if header.contains_key("crit") {
        return Err(Refused::Malformed);
    }
    let named = header.get("alg").and_then(Value::as_str).and_then(|name| name.parse::<Algorithm>().ok());
    named.filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac).ok_or(Refused::Algorithm)
}

/// A required text that is not empty.
fn required_text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refused> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(Refused::Malformed)
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refused> {
    /// The last number up to which whole seconds are exact.
    const LAST: f64 = 9_007_199_254_740_991.0;
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|date| (0.0..=LAST).contains(date)).map(Some).ok_or(Refused::Malformed),
    }
}

/// A part of the token as a JSON object without duplicate names: of two members with one name, another reader may use the other.
fn object(part: &str) -> Result<Map<String, Value>, Refused> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)?;
    let Unique(members) = serde_json::from_slice(&json).map_err(|_| Refused::Malformed)?;
    Ok(members.into_iter().collect())
}

fn since_1970() -> Duration {
    // A clock before 1970 accepts nothing, because nothing was issued yet.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}
