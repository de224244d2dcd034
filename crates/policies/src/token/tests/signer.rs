//! Keys made here and now, and tokens with any header and payload.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// Two RSA keys for all tests of a process: making one takes a while.
static RSA: LazyLock<[RsaKeyPair; 2]> = LazyLock::new(|| [(); 2].map(|()| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

/// A private key, its name and the algorithm that it signs with.
pub(super) struct Signer {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub(super) fn rsa(kid: &str) -> Self {
        Self::of_rsa(kid, &RSA[0])
    }

    /// Another RSA key.
    pub(super) fn stranger(kid: &str) -> Self {
        Self::of_rsa(kid, &RSA[1])
    }

    fn of_rsa(kid: &str, pair: &RsaKeyPair) -> Self {
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(pair).unwrap();
        // PKCS#1 stands behind PKCS#8's first 26 bytes for a key of 2,048 bits.
        Self { kid: kid.to_owned(), algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]) }
    }

    pub(super) fn with(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    pub(super) fn p256(kid: &str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(pkcs8.as_ref()) }
    }

    pub(super) fn p384(kid: &str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::ES384, key: EncodingKey::from_ec_der(pkcs8.as_ref()) }
    }

    pub(super) fn ed25519(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        Self { kid: kid.to_owned(), algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(pkcs8.as_ref()) }
    }

    /// The public key as an issuer publishes it. It has no `alg`, so that all that fits the key may be used.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The same with these members in place of what was there.
    pub(super) fn jwk_but(&self, changes: Value) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid, "typ": "JWT" })
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// With any header: what it says is not what is done.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// With a header and a payload that a JSON value cannot be.
    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// All that an attacker might take for the secret: the public half of [`Signer::rsa`] as everybody can have it.
pub(super) fn public_forms() -> Vec<(&'static str, Vec<u8>)> {
    let public = RSA[0].public_key();
    let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(public).unwrap();
    let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
    let pem = |label: &str, der: &[u8], end: &str| {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----{end}", lines.join("\n")).into_bytes()
    };
    vec![
        ("PEM", pem("PUBLIC KEY", spki.as_ref(), "\n")),
        ("PEM without its last line end", pem("PUBLIC KEY", spki.as_ref(), "")),
        ("PEM of PKCS#1", pem("RSA PUBLIC KEY", public.as_ref(), "\n")),
        ("DER", spki.as_ref().to_vec()),
        ("DER of PKCS#1", public.as_ref().to_vec()),
        ("the modulus", modulus.clone()),
        ("the modulus as in the key set", URL_SAFE_NO_PAD.encode(modulus).into_bytes()),
        ("nothing", Vec::new()),
    ]
}

/// A token with an HMAC by this secret.
pub(super) fn hmac(algorithm: Algorithm, kid: &str, secret: &[u8], claims: &Value) -> String {
    Signer { kid: kid.to_owned(), algorithm, key: EncodingKey::from_secret(secret) }.token(claims)
}
