//! An OpenID Connect provider on this machine, as a partner has one: it can claim anything about its users.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::forge::{EXPIRED, VALID};

/// The client that the provider has registered for the deployment.
pub(super) const CLIENT: &str = "lake";

const KEY_ID: &str = "partner-1";

pub(super) struct Provider {
    key: KeyPair,
    port: u16,
}

/// The path of its issuer. An issuer may have one, and that one holds what its ARN has before the issuer's name.
const PATH: &str = "/oidc-provider/partner";

impl Provider {
    /// A provider with a key of its own, whose documents are served until the process ends.
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let public = key.public_key();
        let jwk = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": part(public.modulus().big_endian_without_leading_zero()),
            "e": part(public.exponent().big_endian_without_leading_zero()) });
        let it = Self { key, port };
        let discovery = json!({ "issuer": it.issuer(), "jwks_uri": format!("{}/keys", it.issuer()) }).to_string();
        let keys = json!({ "keys": [jwk] }).to_string();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // Whoever asked finds out.
                let _ = connection.map_err(Into::into).and_then(|it| answer(it, &discovery, &keys));
            }
        });
        Ok(it)
    }

    /// The `iss` of its tokens.
    pub(super) fn issuer(&self) -> String {
        format!("https://{}", self.login())
    }

    /// Where its keys are for whoever has no TLS on this machine.
    pub(super) fn keys(&self) -> String {
        format!("http://{}/keys", self.login())
    }

    /// What the identity pool calls it in a login.
    pub(super) fn login(&self) -> String {
        format!("127.0.0.1:{}{PATH}", self.port)
    }

    /// A token that says this of its user, beside or in place of the usual. A null takes a claim away.
    pub(super) fn token(&self, claims: &Value) -> SecretString {
        self.signed(json!({ "alg": "RS256", "kid": KEY_ID }), claims, &self.key)
    }

    /// Tokens that are none of this provider's for this deployment, with what is wrong with each.
    pub(super) fn bad_tokens(&self) -> Result<Vec<(&'static str, SecretString)>> {
        let other = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key"))?;
        let (usual, head) = (json!({}), json!({ "alg": "RS256", "kid": KEY_ID }));
        let signed = |head: Value| self.signed(head, &usual, &self.key);
        Ok(vec![
            ("signed with another key", self.signed(head, &usual, &other)),
            ("of a key that the provider does not have", signed(json!({ "alg": "RS256", "kid": "partner-2" }))),
            ("said to be unsigned", signed(json!({ "alg": "none", "kid": KEY_ID }))),
            ("for another client", self.token(&json!({ "aud": "sea" }))),
            ("for nobody", self.token(&json!({ "aud": null }))),
            ("for this client, and yet handed to another", self.token(&json!({ "azp": "sea" }))),
            ("handed to this client, and yet for another", self.token(&json!({ "aud": "sea", "azp": CLIENT }))),
            ("run out", self.token(&json!({ "exp": EXPIRED }))),
            ("without an end", self.token(&json!({ "exp": null }))),
            ("of another issuer", self.token(&json!({ "iss": "https://idp.example" }))),
        ])
    }

    fn signed(&self, head: Value, claims: &Value, key: &KeyPair) -> SecretString {
        let mut all = json!({ "iss": self.issuer(), "aud": CLIENT, "sub": "jane", "exp": VALID });
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        if let Some(all) = all.as_object_mut() {
            all.retain(|_, value| !value.is_null());
        }
        let part = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", part(&head), part(&all));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)).into()
    }
}

/// Answers one request, which has no body.
fn answer(connection: TcpStream, discovery: &str, keys: &str) -> Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().context("a request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match request.split(' ').nth(1).and_then(|it| it.strip_prefix(PATH)) {
        Some("/.well-known/openid-configuration") => ("200 OK", discovery),
        Some("/keys") => ("200 OK", keys),
        _ => ("404 Not Found", ""),
    };
    let length = body.len();
    write!(&connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")?;
    Ok(())
}
