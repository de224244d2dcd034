//! A JSON web key set (RFC 7517): which of its keys verify a signature, and with which algorithms.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The usable keys of a JSON web key set (RFC 7517).
pub(super) struct KeySet(Vec<Key>);

/// One key, ready to verify with.
pub(super) struct Key {
    kid: String,
    pub(super) key: DecodingKey,
    /// All algorithms that this key may be used with. Never HMAC.
    pub(super) algorithms: Vec<Algorithm>,
}

impl KeySet {
    /// `None` if it is not a key set. Leaves unusable keys out (RFC 7517 §5).
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }

        let document: Document = serde_json::from_slice(json).ok()?;
        Some(Self(document.keys.into_iter().filter_map(|jwk| Key::read(serde_json::from_value(jwk).ok()?)).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys with this name. Keys of different kinds may have the same name (RFC 7517 §4.5).
    pub(super) fn named(&self, kid: &str) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.kid == kid)
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
}

impl Key {
    fn read(jwk: Jwk) -> Option<Self> {
        let verifies = jwk.usage.as_ref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        // If its private half is published, anybody can sign with it.
        if !verifies || jwk.d.is_some() {
            return None;
        }
        let (key, mut algorithms) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (rsa(jwk.n?, jwk.e?)?, AlgorithmFamily::Rsa.algorithms().to_vec()),
            ("EC", Some("P-256")) => (ec(jwk.x?, jwk.y?, 32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (ec(jwk.x?, jwk.y?, 48)?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => {
                let x = jwk.x.filter(|x| decode(x).is_some_and(|x| x.len() == 32))?;
                (DecodingKey::from_ed_components(&x).ok()?, vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        if let Some(alg) = &jwk.alg {
            let alg: Algorithm = alg.parse().ok()?;
            algorithms.retain(|it| *it == alg);
        }
        (!algorithms.is_empty()).then_some(Self { kid: jwk.kid, key, algorithms })
    }
}

/// A key of 2,048 to 8,192 bits (RFC 7518 §3.3; the limits of aws-lc) with an odd exponent above 1. With the exponent 1, any
/// signature would be valid.
fn rsa(n: String, e: String) -> Option<DecodingKey> {
    let number = |text: &str| -> Option<Vec<u8>> { Some(decode(text)?.into_iter().skip_while(|byte| *byte == 0).collect()) };
    let (n, e) = (number(&n)?, number(&e)?);
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let good_exponent = e.last().is_some_and(|last| last % 2 == 1) && e != [1];
    ((2048..=8192).contains(&bits) && good_exponent).then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

fn ec(x: String, y: String, length: usize) -> Option<DecodingKey> {
    let fits = |coordinate: &str| decode(coordinate).is_some_and(|bytes| bytes.len() == length);
    (fits(&x) && fits(&y)).then(|| DecodingKey::from_ec_components(&x, &y).ok())?
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
