//! The API for a signed-in user: keeps the token fresh, and repeats a request if that can help.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, watch};

use crate::deployment::Deployment;
use crate::http::{self, Answer, Api};
use crate::private_file;
use crate::session::{Session, SessionFile};
use crate::sign_in::{Person, UserPool};
use crate::tokens::{TokenClaims, Tokens};
use crate::wait::pauses;

/// A token with less left is refreshed before it is used, so that it outlives the request.
const LEAST_SECONDS_LEFT: i64 = 120;

/// How often a request is sent in all if the API asks to come again: for about 30 s if it does not say when.
const TRIES: u32 = 7;

/// How often a request is sent in all if no answer comes: for about 8 s.
const TRIES_WITHOUT_ANSWER: u32 = 5;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// If the API asks for a longer pause, the client does not wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// If the token was refreshed within this time, a 403 does not mean that it has expired. So sending many files without
/// permission costs at most one refresh a minute.
const AS_GOOD_AS_NEW: Duration = Duration::from_secs(60);

/// A program that runs for long refreshes a token with less left before it uses it. Messages submitted under the token may wait
/// in the queue, and must be stored before it ends.
const SECONDS_LEFT_FOR_LONG: i64 = 30 * 60;

/// Minimum refresh interval for tokens whose whole lifetime is shorter than [`SECONDS_LEFT_FOR_LONG`].
const REFRESHED_LATELY: Duration = Duration::from_secs(120);

/// The text for lake staff whom the API refuses.
const STAFF_MAY: &str = "lake staff see which messages an institute has and what became of them: `sluice list --institute NAME`, \
                         `sluice status --institute NAME ID`. What is in a message is for its institute alone, and so are submitting \
                         and releasing";

/// The API under a session.
#[derive(Debug)]
pub struct Client {
    api: Api,
    pool: UserPool,
    source: SessionOrigin,
    state: Mutex<State>,
    stays: bool,
    /// Whether the sign-in is one of the lake's own staff.
    is_staff: bool,
    /// Once true, requests are not retried.
    hurry: watch::Receiver<bool>,
}

/// Where a new session comes from when the refresh token has ended.
#[derive(Debug)]
enum SessionOrigin {
    /// From the file of the user who signs in on this machine.
    File(SessionFile),
    /// From this program itself.
    ServiceAccount(Box<ServiceAccount>),
}

/// An account that a program signs in with by itself.
#[derive(Debug, Clone)]
pub struct ServiceAccount {
    /// Its name.
    pub email: String,
    /// The file with the password, which is read at each sign-in.
    pub password_file: PathBuf,
    /// The deployment of the account.
    pub deployment: Deployment,
}

impl ServiceAccount {
    async fn sign_in(&self, pool: &UserPool) -> Result<Tokens> {
        let password = private_file::read_secret(&self.password_file)?;
        pool.sign_in(&self.email, &password, &mut Nobody).await
    }
}

/// A sign-in without a person: no question gets an answer.
struct Nobody;

impl Person for Nobody {
    fn new_password(&mut self) -> Result<SecretString> {
        bail!("the account's password is a temporary one: sign in once with `sluice login` and choose another")
    }

    fn code(&mut self) -> Result<String> {
        bail!("the account needs a second factor, and a program cannot enter one: use an account without, or `sluice login`")
    }

    fn add_authenticator(&mut self, _: &SecretString) -> Result<()> {
        bail!("the user pool demands a second factor, and a program cannot enter one: use `sluice login`")
    }
}

#[derive(Debug)]
struct State {
    session: Session,
    /// When this process last got new tokens.
    refreshed_at: Option<Instant>,
    /// When it last tried to, long before the old ones end.
    tried_at: Option<Instant>,
    /// When it last failed to.
    failed_at: Option<Instant>,
}

/// The refresh token is used up, or was revoked.
#[derive(Debug, Clone, Copy)]
struct SignInAgain;

impl std::fmt::Display for SignInAgain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the sign-in has ended: sign in again with `sluice login`")
    }
}

impl std::error::Error for SignInAgain {}

impl Client {
    /// The API that somebody is signed in to on this machine.
    ///
    /// # Errors
    /// When nobody is.
    pub fn open() -> Result<Self> {
        // Nobody holds the sender, so it never becomes true.
        Self::open_until(watch::channel(false).1)
    }

    /// The same, but nothing is retried once `hurry` is true.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn open_until(hurry: watch::Receiver<bool>) -> Result<Self> {
        let file = SessionFile::find()?;
        let session = file.signed_in()?;
        Self::with(session, SessionOrigin::File(file), hurry)
    }

    /// The API under an account with which this program signs in by itself, and signs in again when the session has ended. No
    /// file keeps the session.
    ///
    /// # Errors
    /// When the password cannot be read, or the sign-in is refused.
    pub async fn sign_in_until(account: ServiceAccount, hurry: watch::Receiver<bool>) -> Result<Self> {
        let tokens = account.sign_in(&UserPool::of(&account.deployment)).await?;
        let session = Session { deployment: account.deployment.clone(), email: account.email.clone(), tokens };
        Self::with(session, SessionOrigin::ServiceAccount(Box::new(account)), hurry)
    }

    fn with(session: Session, source: SessionOrigin, hurry: watch::Receiver<bool>) -> Result<Self> {
        let (api, pool) = (Api::new(&session.deployment.api_url)?, UserPool::of(&session.deployment));
        let is_staff = session.deployment.is_for_staff();
        Ok(Self {
            api,
            pool,
            source,
            state: Mutex::new(State { session, refreshed_at: None, tried_at: None, failed_at: None }),
            stays: false,
            is_staff,
            hurry,
        })
    }

    /// The same for a program that runs for long: it refreshes a token well before the token ends.
    #[must_use]
    pub fn staying(self) -> Self {
        Self { stays: true, ..self }
    }

    /// Whether the lake's own staff are signed in, who belong to no institute.
    #[must_use]
    pub fn is_staff(&self) -> bool {
        self.is_staff
    }

    /// The API's reason for a refusal, in one line for the signed-in user.
    pub async fn refusal(&self, answer: &Answer) -> String {
        if !answer.is_shut_out() {
            return answer.problem();
        }
        if self.is_staff {
            return format!("{}: {STAFF_MAY}", answer.status);
        }
        let claims = self.session().await.and_then(|session| TokenClaims::of(&session.tokens.id));
        let Ok(claims) = claims else { return answer.problem() };
        let may = match (claims.read.as_str(), claims.write.as_str()) {
            ("", "") => {
                return format!("{}: the account has no institute yet; whoever runs this deployment gives it one", answer.status);
            }
            (read, "") => format!("read the messages of {read}, and neither submit nor release any"),
            ("", write) => format!("submit and release messages of {write}, and read none"),
            _ => return answer.problem(),
        };
        format!("{}: the account may {may}; whoever runs this deployment gives it other rights", answer.status)
    }

    /// The session, with a token that lasts for the next request.
    ///
    /// # Errors
    /// When the token must be refreshed and cannot be.
    pub async fn session(&self) -> Result<Session> {
        let mut state = self.state.lock().await;
        let left = TokenClaims::of(&state.session.tokens.id).map_or(0, |claims| claims.seconds_left(Timestamp::now()));
        let lately = state.tried_at.is_some_and(|at| at.elapsed() < REFRESHED_LATELY);
        if left < LEAST_SECONDS_LEFT {
            self.refresh(&mut state).await?;
        } else if self.stays && left < SECONDS_LEFT_FOR_LONG && !lately {
            // If this fails, there is time to try again.
            state.tried_at = Some(Instant::now());
            let _ = self.refresh(&mut state).await;
        }
        Ok(state.session.clone())
    }

    /// Replaces a token that was not accepted. Does nothing if the session has another token by now.
    ///
    /// # Errors
    /// When the session cannot be refreshed.
    pub async fn replace(&self, token: &SecretString) -> Result<()> {
        let mut state = self.state.lock().await;
        if state.session.tokens.id.expose_secret() == token.expose_secret() {
            self.refresh(&mut state).await?;
        }
        Ok(())
    }

    /// Whether there is another token to try in place of one that was refused.
    async fn has_another(&self, token: &SecretString) -> Result<bool> {
        let mut state = self.state.lock().await;
        if state.session.tokens.id.expose_secret() == token.expose_secret() {
            if state.refreshed_at.is_some_and(|at| at.elapsed() < AS_GOOD_AS_NEW) {
                return Ok(false);
            }
            self.refresh(&mut state).await?;
        }
        Ok(true)
    }

    async fn refresh(&self, state: &mut State) -> Result<()> {
        // Many requests may ask at once, and not each of them may try a wrong password: Cognito would lock the account.
        let failed_lately = state.failed_at.is_some_and(|at| at.elapsed() < REFRESHED_LATELY);
        ensure!(!self.stays || !failed_lately, "the sign-in could not be renewed a moment ago");
        let renewed = self.renew(state).await;
        state.failed_at = renewed.is_err().then(Instant::now);
        renewed
    }

    async fn renew(&self, state: &mut State) -> Result<()> {
        let refreshed = self.pool.refresh(&state.session.tokens.refresh).await?;
        state.session.tokens = match (refreshed, &self.source) {
            (Some(tokens), _) => tokens,
            (None, SessionOrigin::ServiceAccount(account)) => account.sign_in(&self.pool).await?,
            (None, SessionOrigin::File(file)) => {
                // The user may have signed in again meanwhile. Another account does not count, as it would be for another
                // institute.
                let kept = file.read().ok().flatten();
                let is_same = |kept: &Session| kept.email == state.session.email && kept.deployment == state.session.deployment;
                let kept = kept.filter(is_same).ok_or(SignInAgain)?;
                self.pool.refresh(&kept.tokens.refresh).await?.ok_or(SignInAgain)?
            }
        };
        state.refreshed_at = Some(Instant::now());
        match &self.source {
            SessionOrigin::File(file) => file.refresh(&state.session),
            SessionOrigin::ServiceAccount(_) => Ok(()),
        }
    }

    /// Sends a request with the user's token, and retries until the answer is final. Refreshes the token once after a 401, and
    /// also after a 403, because the authorizer answers 403 to an expired token.
    ///
    /// Sending a message again is safe: the API knows it by its content.
    ///
    /// # Errors
    /// When there is no answer, or no valid token any more. An answer that refuses is an answer.
    pub async fn call(&self, request: impl Fn(&Api, &SecretString) -> RequestBuilder) -> Result<Answer> {
        let mut refreshed = false;
        let mut tries = 0;
        loop {
            let token = self.session().await?.tokens.id;
            let answer = http::send(request(&self.api, &token)).await;
            let refused = answer.as_ref().is_ok_and(|it| it.status == StatusCode::UNAUTHORIZED || it.is_shut_out());
            if refused && !refreshed && self.has_another(&token).await? {
                refreshed = true;
                continue;
            }
            tries += 1;
            match pause(&answer, tries) {
                Some(pause) if pauses(pause, &self.hurry).await => {}
                _ => return answer.context("the API does not answer"),
            }
        }
    }

    /// The same for a request without a token.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call_elsewhere(&self, url: &str) -> Result<Answer> {
        self.elsewhere(|api| api.elsewhere(url)).await
    }

    /// The same for any request to S3.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn elsewhere(&self, request: impl Fn(&Api) -> RequestBuilder) -> Result<Answer> {
        let mut tries = 0;
        loop {
            let answer = http::send(request(&self.api)).await;
            tries += 1;
            match pause(&answer, tries) {
                Some(pause) if pauses(pause, &self.hurry).await => {}
                _ => return answer.context("S3 does not answer"),
            }
        }
    }
}

/// How long to wait before the next try; `None` if another try would not help.
fn pause(answer: &Result<Answer>, tries: u32) -> Option<Duration> {
    let (most, asked) = match answer {
        Err(_) => (TRIES_WITHOUT_ANSWER, None),
        Ok(answer) if answer.is_busy() => {
            let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            (TRIES, seconds.map(Duration::from_secs))
        }
        Ok(_) => return None,
    };
    let doubled = FIRST_PAUSE * 2_u32.pow(tries.saturating_sub(1));
    let pause = asked.map_or(doubled, |asked| asked.max(FIRST_PAUSE));
    (tries < most && pause <= LONGEST_PAUSE).then_some(pause)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(status: StatusCode, retry_after: Option<&'static str>) -> Result<Answer> {
        let headers = retry_after.map(|value| (RETRY_AFTER, HeaderValue::from_static(value)));
        Ok(Answer { status, headers: HeaderMap::from_iter(headers), body: Vec::new() })
    }

    #[test]
    fn the_pause_is_what_the_server_asks_for_or_else_grows() {
        let throttled = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(pause(&answer(throttled, Some("7")), 1), Some(Duration::from_secs(7)));
        assert_eq!(pause(&answer(throttled, Some("0")), 1), Some(FIRST_PAUSE));
        assert_eq!(pause(&answer(throttled, Some("3600")), 1), None);
        assert_eq!(pause(&answer(StatusCode::SERVICE_UNAVAILABLE, None), 3), Some(Duration::from_secs(2)));
        assert_eq!(pause(&Err(anyhow::anyhow!("no answer")), 2), Some(Duration::from_secs(1)));
        assert_eq!(pause(&Err(anyhow::anyhow!("no answer")), TRIES_WITHOUT_ANSWER), None);
        assert_eq!(pause(&answer(throttled, None), TRIES - 1), Some(Duration::from_secs(16)));
        assert_eq!(pause(&answer(throttled, Some("1")), TRIES), None);
        for final_answer in [StatusCode::ACCEPTED, StatusCode::CONFLICT, StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN] {
            assert_eq!(pause(&answer(final_answer, Some("1")), 1), None);
        }
    }
}
