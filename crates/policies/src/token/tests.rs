//! Real keys, real tokens, and issuers on real sockets that count what they are asked.

mod bounds;
mod caching;
mod issuer;
mod mutations;
mod refusals;
mod retries;
mod signer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Options, Refused, Verified, Verifier, VerifyError};
use crate::Issuers;
use issuer::Issuer;
use signer::Signer;

/// When all of this happens, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const A: &str = "https://a.example";
const B: &str = "https://b.example";

/// One request each time, for tests that count them.
fn once() -> Options {
    Options { tries: 1, ..Options::default() }
}

/// A verifier of the providers `a` (takes ID tokens) and `b` (its tokens have no `token_use`), and a clock that stands still.
struct World {
    verifier: Verifier,
    clock: Arc<AtomicU64>,
}

impl World {
    fn new(a: &Issuer, b: &Issuer) -> Self {
        Self::with(a, b, &["id"], &once())
    }

    /// Only of `a`, and `b` is nowhere.
    fn of(a: &Issuer, options: &Options) -> Self {
        Self::of_uses(a, &["id"], options)
    }

    fn of_uses(a: &Issuer, token_uses: &[&str], options: &Options) -> Self {
        let issuers = json!({ "a": { "issuer": A, "audiences": ["client", "other-client"], "jwksUri": a.url() } });
        Self::build(&issuers, token_uses, options)
    }

    fn with(a: &Issuer, b: &Issuer, token_uses: &[&str], options: &Options) -> Self {
        let issuers = json!({
            "a": { "issuer": A, "audiences": ["client", "other-client"], "jwksUri": a.url() },
            "b": { "issuer": B, "audiences": ["client"], "jwksUri": b.url() },
        });
        Self::build(&issuers, token_uses, options)
    }

    fn build(issuers: &Value, token_uses: &[&str], options: &Options) -> Self {
        let issuers: Issuers = issuers.to_string().parse().unwrap();
        let uses = token_uses.iter().map(|&it| it.to_owned()).collect();
        let uses = BTreeMap::from([("a".to_owned(), uses), ("b".to_owned(), Vec::new())]);
        let clock = Arc::new(AtomicU64::new(NOW));
        let read = Arc::clone(&clock);
        let verifier =
            Verifier::with_clock(&issuers, &uses, options, Arc::new(move || Duration::from_secs(read.load(Ordering::SeqCst))));
        Self { verifier: verifier.unwrap(), clock }
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        self.verifier.verify(&SecretString::from(token)).await
    }

    /// What became of a token, without what is in it.
    async fn outcome(&self, token: &str) -> Result<(), VerifyError> {
        self.verify(token).await.map(drop)
    }

    #[track_caller]
    fn refuses(&self, token: &str, why: Refused) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.outcome(token).await;
            assert_eq!(outcome, Err(VerifyError::Refused(why)), "{caller}");
        }
    }
}

/// What a good ID token of `a` says.
fn claims() -> Value {
    json!({ "iss": A, "sub": "user-1", "aud": "client", "token_use": "id", "iat": NOW, "exp": NOW + 10 * 24 * 3600 })
}

/// The same with this in place of what was there; `null` is nothing there.
fn claims_but(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            _ => claims[name] = value.clone(),
        }
    }
    claims
}
