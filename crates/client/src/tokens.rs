//! The tokens of a sign-in, and what an ID token says.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::secret;

/// The three tokens of a sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Says who the user is. The API and the identity pool accept this one.
    #[serde(rename = "idToken", with = "secret")]
    pub id: SecretString,
    /// Lets users change their own account: a second factor, for instance.
    #[serde(rename = "accessToken", with = "secret")]
    pub access: SecretString,
    /// Gets new ID and access tokens.
    #[serde(rename = "refreshToken", with = "secret")]
    pub refresh: SecretString,
}

/// The payload of an ID token. It is read and not verified: the recipient of the token verifies it.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenClaims {
    /// The account's identifier, which outlives a change of the e-mail address.
    pub sub: String,
    /// The e-mail address.
    #[serde(default)]
    pub email: String,
    /// The institute whose messages the user may read; empty for none.
    #[serde(default, rename = "custom:read")]
    pub read: String,
    /// The institute the user may submit for; empty for none.
    #[serde(default, rename = "custom:write")]
    pub write: String,
    /// The user's groups in the pool.
    #[serde(default, rename = "cognito:groups")]
    pub groups: Vec<String>,
    /// When the token ends, in seconds since 1970.
    exp: i64,
}

impl TokenClaims {
    /// Reads the claims of an ID token.
    ///
    /// # Errors
    /// When it is no token.
    pub fn of(token: &SecretString) -> Result<Self> {
        let payload = token.expose_secret().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        // The cause would quote the token.
        let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        claims.context("the session holds no ID token that can be read: sign in again with `sluice login`")
    }

    /// When the token ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.exp).unwrap_or(Timestamp::MIN)
    }

    /// Seconds until the token ends; negative when it has.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> i64 {
        self.exp.saturating_sub(now.as_second())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn token(claims: &serde_json::Value) -> SecretString {
        SecretString::from(format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    #[test]
    fn the_claims_of_an_id_token_are_read() {
        let claims = TokenClaims::of(&token(&serde_json::json!({
            "sub": "1", "email": "a@b.example", "custom:read": "west", "cognito:groups": ["night"], "exp": 1_000
        })))
        .unwrap();
        assert_eq!((claims.read.as_str(), claims.write.as_str()), ("west", ""));
        assert_eq!(claims.groups, ["night"]);
        assert_eq!(claims.seconds_left(Timestamp::from_second(1_060).unwrap()), -60);
        for none in ["", "a.b", "a.e30.c", "a.%.c"] {
            assert!(TokenClaims::of(&SecretString::from(none)).is_err(), "{none}");
        }
    }
}
