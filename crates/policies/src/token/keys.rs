//! An issuer's keys, kept.
//!
//! Keys are valid for one hour. After 30 minutes the next caller that needs one refreshes them, so an issuer may be down for
//! half an hour without effect. An unknown `kid` also causes a request, because issuers rotate their keys. Anybody can invent a
//! `kid`, so there is a minimum interval between two requests. Only one request runs at a time: callers that cannot continue
//! without it wait for it, the others use the keys that are there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::{Field, log_field};

use super::fetch::Fetcher;
use super::key_set::KeySet;
use super::{Clock, Refused, VerifyError};

/// How long keys are used.
pub(super) const FRESH: Duration = Duration::from_secs(60 * 60);
/// The age at which keys are requested again.
pub(super) const REFRESH_AFTER: Duration = Duration::from_secs(30 * 60);
/// The interval between two requests while there are keys, whatever `kid` arrives.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(30);
/// The interval after a failed request while there are none.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The keys of one issuer, and the time of the request for them.
pub(super) struct KeyCache {
    url: String,
    state: Mutex<State>,
    /// Held by the task that makes the request.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    last_request: Option<KeyRequest>,
}

struct Held {
    keys: Arc<KeySet>,
    since: Duration,
}

/// The last request. Its time is its beginning, or its end if it failed.
struct KeyRequest {
    at: Duration,
    outcome: LastFetch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LastFetch {
    /// In progress, while somebody holds the lock `flight`.
    Pending,
    Failed,
    Fetched,
}

enum Next {
    Use(Arc<KeySet>),
    Refuse(VerifyError),
    /// The issuer should be asked, or is being asked. `meanwhile` are keys that can be used until then.
    Ask {
        meanwhile: Option<Arc<KeySet>>,
    },
}

impl KeyCache {
    pub(super) fn new(url: String) -> Self {
        Self { url, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// Fresh keys that include this one.
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
        // Another task may have asked while this one waited.
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
        let since_asked = state.last_request.as_ref().map(|request| elapsed(request.at, now));
        let outcome = state.last_request.as_ref().map(|request| request.outcome);
        let Some((held, age)) = state.held.as_ref().map(|held| (held, elapsed(held.since, now))).filter(|(_, age)| *age < FRESH)
        else {
            return match since_asked {
                Some(ago) if outcome == Some(LastFetch::Failed) && ago < RETRY_AFTER => {
                    Next::Refuse(VerifyError::KeysUnavailable)
                }
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
                Some(LastFetch::Pending) => Next::Ask { meanwhile: None },
                // It may be a new key that could not be requested. A refusal would be cached, although a later try may succeed.
                Some(LastFetch::Failed) => Next::Refuse(VerifyError::KeysUnavailable),
                Some(LastFetch::Fetched) | None => Next::Refuse(Refused::UnknownKey.into()),
            },
        }
    }

    async fn ask(&self, fetcher: &Fetcher, clock: &Clock) {
        let at = clock();
        self.state().last_request = Some(KeyRequest { at, outcome: LastFetch::Pending });
        let keys = fetcher.keys(&self.url).await;
        log_field(Field::Keys, if keys.is_some() { "fetched" } else { "failed" });
        let mut state = self.state();
        match keys {
            Some(keys) => {
                *state = State {
                    held: Some(Held { keys: Arc::new(keys), since: at }),
                    last_request: Some(KeyRequest { at, outcome: LastFetch::Fetched }),
                }
            }
            None => state.last_request = Some(KeyRequest { at: clock(), outcome: LastFetch::Failed }),
        }
    }

    /// If a request is pending while nobody holds the flight, its caller gave up. It counts as failed: giving up must not allow
    /// the next request at once.
    fn bury(&self) {
        if let Some(request) = self.state().last_request.as_mut().filter(|request| request.outcome == LastFetch::Pending) {
            request.outcome = LastFetch::Failed;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time since a moment. If the clock was set back, the age is unknown, and it is safe to ask again.
fn elapsed(since: Duration, now: Duration) -> Duration {
    now.checked_sub(since).unwrap_or(Duration::MAX)
}
