//! A token is verified before anything in it is believed.

use serde_json::{Map, Value};

/// A token that its issuer has signed, for one of our clients, and that is good now.
#[derive(Clone)]
pub struct Verified {
    /// The issuer's name in [`crate::Issuers`].
    pub provider: String,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `token_use`, which Cognito's tokens have: `id` or `access`.
    pub token_use: Option<String>,
    /// `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// All of the payload.
    pub claims: Map<String, Value>,
}

/// Why a token is no good. Permanent for this token; [`Refused::name`] goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Longer than [`MAX_TOKEN_BYTES`].
    TooLarge,
    /// Not three parts of base64url with JSON in the first two, or a claim is not of its kind (RFC 7519 §4.1).
    Malformed,
    /// `iss` is none of ours.
    UnknownIssuer,
    /// `alg` is none of the issuer's key: `none`, HMAC, or another kind of key.
    Algorithm,
    /// `kid` is missing, or none of the issuer's keys.
    UnknownKey,
    /// The signature is not of this text and key.
    Signature,
    /// It is for somebody else (`aud`, or `client_id` in an access token of Cognito).
    Audience,
    /// It is no token of the kind that the provider's are taken (`token_use`).
    TokenUse,
    /// `exp` is over, or so near that an answer cached for it would outlive it.
    Expired,
    /// `nbf` or `iat` lies ahead by more than clocks differ.
    NotYetValid,
}

/// Why there is no [`Verified`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The token is no good.
    Refused(Refused),
    /// The issuer's keys could not be had, so nobody knows. Another try may.
    KeysUnavailable,
}

/// What API Gateway lets through in all headers together.
pub const MAX_TOKEN_BYTES: usize = 10_240;
