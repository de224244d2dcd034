//! An issuer's keys, kept.
//!
//! Keys are fresh for an hour. From the half of it on they are asked for again by whoever needs one, so that an issuer may
//! be out of reach for half an hour before anybody notices. A `kid` that is not there is asked for too, for issuers rotate
//! their keys; but anybody can write one, so requests have a distance, whatever arrives. There is one request at a time:
//! those who cannot go on without it wait for it, the others go on with what is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use runtime::{Field, note};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::fetch::Fetcher;
use super::{Clock, Refused, VerifyError};

/// How long keys serve.
pub(super) const FRESH: Duration = Duration::from_secs(60 * 60);
/// How old they are when they are asked for again.
pub(super) const REFRESH_AFTER: Duration = Duration::from_secs(30 * 60);
/// The distance between two requests while there are keys, whatever `kid` arrives.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(30);
/// The distance to a request that failed while there are none.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The keys of one issuer and when they were asked for.
pub(super) struct KeyCache {
    url: String,
    state: Mutex<State>,
    /// Held by whoever makes the request.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    asked: Option<Asked>,
}

struct Held {
    keys: Arc<KeySet>,
    since: Duration,
}

/// The last request. It counts from its beginning; one that failed counts from its end.
struct Asked {
    at: Duration,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// On its way, while somebody holds the flight.
    Pending,
    Failed,
    Fetched,
}

enum Next {
    Use(Arc<KeySet>),
    Refuse(VerifyError),
    /// The issuer should be asked, or is being asked. `meanwhile` is what serves until then, if it does.
    Ask {
        meanwhile: Option<Arc<KeySet>>,
    },
}

impl KeyCache {
    pub(super) fn new(url: String) -> Self {
        Self { url, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// Keys that are fresh and have this one.
    pub(super) async fn with(&self, kid: &str, fetcher: &Fetcher, clock: &Clock) -> Result<Arc<KeySet>, VerifyError> {
        let _flight = match self.next(kid, clock()) {
            Next::Use(keys) => return Ok(keys),
            Next::Refuse(error) => return Err(error),
            Next::Ask { meanwhile: None } => self.flight.lock().await,
            Next::Ask { meanwhile: Some(keys) } => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(keys),
            },
        };
        self.bury();
        // Somebody else may have asked while this one waited.
        if let Next::Ask { .. } = self.next(kid, clock()) {
            self.ask(fetcher, clock).await;
        }
        match self.next(kid, clock()) {
            Next::Use(keys) | Next::Ask { meanwhile: Some(keys) } => Ok(keys),
            Next::Refuse(error) => Err(error),
            Next::Ask { meanwhile: None } => Err(VerifyError::KeysUnavailable),
        }
    }

    fn next(&self, kid: &str, now: Duration) -> Next {
        let state = self.state();
        let since_asked = state.asked.as_ref().map(|asked| elapsed(asked.at, now));
        let outcome = state.asked.as_ref().map(|asked| asked.outcome);
        let Some((held, age)) = state.held.as_ref().map(|held| (held, elapsed(held.since, now))).filter(|(_, age)| *age < FRESH)
        else {
            return match since_asked {
                Some(ago) if outcome == Some(Outcome::Failed) && ago < RETRY_AFTER => Next::Refuse(VerifyError::KeysUnavailable),
                _ => Next::Ask { meanwhile: None },
            };
        };
        let known = held.keys.named(kid).next().is_some();
        let may_ask = since_asked.is_none_or(|ago| ago >= ASK_EVERY);
        match (known, may_ask) {
            (true, true) if age >= REFRESH_AFTER => Next::Ask { meanwhile: Some(Arc::clone(&held.keys)) },
            (true, _) => Next::Use(Arc::clone(&held.keys)),
            (false, true) => Next::Ask { meanwhile: None },
            (false, false) => match outcome {
                Some(Outcome::Pending) => Next::Ask { meanwhile: None },
                // It may be a new key that could not be asked for. The refusal would be cached, and a later try may do better.
                Some(Outcome::Failed) => Next::Refuse(VerifyError::KeysUnavailable),
                Some(Outcome::Fetched) | None => Next::Refuse(Refused::UnknownKey.into()),
            },
        }
    }

    async fn ask(&self, fetcher: &Fetcher, clock: &Clock) {
        let at = clock();
        self.state().asked = Some(Asked { at, outcome: Outcome::Pending });
        let keys = fetcher.keys(&self.url).await;
        note(Field::Keys, if keys.is_some() { "fetched" } else { "failed" });
        let mut state = self.state();
        match keys {
            Some(keys) => {
                *state = State {
                    held: Some(Held { keys: Arc::new(keys), since: at }),
                    asked: Some(Asked { at, outcome: Outcome::Fetched }),
                }
            }
            None => state.asked = Some(Asked { at: clock(), outcome: Outcome::Failed }),
        }
    }

    /// A request on its way while nobody holds the flight is one whose caller gave up. It counts as failed: giving up must
    /// not make the next request free.
    fn bury(&self) {
        if let Some(asked) = self.state().asked.as_mut().filter(|asked| asked.outcome == Outcome::Pending) {
            asked.outcome = Outcome::Failed;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back has told nothing about an age; asking again is the safe answer.
fn elapsed(since: Duration, now: Duration) -> Duration {
    now.checked_sub(since).unwrap_or(Duration::MAX)
}

/// The usable keys of a JSON web key set (RFC 7517).
pub(super) struct KeySet(Vec<Key>);

/// One key, ready to verify with.
pub(super) struct Key {
    kid: String,
    pub(super) key: DecodingKey,
    /// All that this very key may be used with. Never HMAC.
    pub(super) algorithms: Vec<Algorithm>,
}

impl KeySet {
    /// Nothing if it is no key set at all. Keys that cannot be used are left out (RFC 7517 §5).
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

    /// Names need not be unique over the kinds of keys (RFC 7517 §4.5).
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
        // With its private half published, anybody signs with it.
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

/// 2,048 to 8,192 bits (RFC 7518 §3.3; what aws-lc takes) and an odd exponent above 1, with which anything would be signed.
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
