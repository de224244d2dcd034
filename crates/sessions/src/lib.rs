//! Sessions of a role that reaches one institute's data: IAM compares the institute with the session's tag.
//!
//! A worker whose callers bring no credentials has no right to any institute's data itself. It assumes such a role for the institute
//! that it works for, and all that it does then, it does under the session.

#![warn(missing_docs)]

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::types::Tag;
use domain::Source;
use lru::LruCache;
use runtime::StepError;

const ASSUME_ROLE: &str = "sts:AssumeRole";

/// The maximum number of institutes whose sessions a warm worker keeps.
const MOST: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// What sessions of a worker are like.
#[derive(Debug, Clone, Copy)]
pub struct SessionKind {
    /// The worker, whose name CloudTrail shows as the session's.
    pub worker: &'static str,
    /// The session tag that holds the institute. The role's policies compare it.
    pub tag: &'static str,
    /// How long a session lasts: 15 minutes to an hour, which is the most that one role can get of another.
    pub lasts: Duration,
    /// A session with less time left is not used again: an invocation may take that long.
    pub needs: Duration,
}

/// Assumes a role for an institute, and keeps the session while it lasts.
#[derive(Debug)]
pub struct InstituteSessions {
    client: Client,
    role_arn: String,
    kind: SessionKind,
    kept: Mutex<LruCache<Source, Credentials>>,
}

impl InstituteSessions {
    /// Sessions of the role `role_arn`, whose policies depend on the tag of this kind of session.
    pub fn new(client: Client, role_arn: String, kind: SessionKind) -> Self {
        Self { client, role_arn, kind, kept: Mutex::new(LruCache::new(MOST)) }
    }

    /// Credentials for the institute `source` and no other. They last for as long as an invocation needs.
    ///
    /// # Errors
    /// When STS refuses or does not answer.
    pub async fn of(&self, source: &Source) -> Result<Credentials, StepError> {
        if let Some(kept) = self.kept(source, SystemTime::now()) {
            return Ok(kept);
        }
        let tag = Tag::builder().key(self.kind.tag).value(source.as_str()).build();
        let tag = tag.map_err(|_| StepError::InvalidInput { what: "a session tag" })?;
        let assumed = self
            .client
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name(self.kind.worker)
            .duration_seconds(i32::try_from(self.kind.lasts.as_secs()).unwrap_or(i32::MAX))
            .tags(tag)
            .send()
            .await
            .map_err(|error| StepError::from_sdk(ASSUME_ROLE, &error))?;
        let given = assumed.credentials.ok_or(StepError::Unavailable { operation: ASSUME_ROLE })?;
        let expiry = SystemTime::try_from(given.expiration).map_err(|_| StepError::Unavailable { operation: ASSUME_ROLE })?;
        let (key, secret, token) = (given.access_key_id, given.secret_access_key, given.session_token);
        let credentials = Credentials::new(key, secret, Some(token), Some(expiry), self.kind.worker);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(source.clone(), credentials.clone());
        Ok(credentials)
    }

    fn kept(&self, source: &Source, now: SystemTime) -> Option<Credentials> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(source).filter(|it| it.expiry().is_some_and(|expiry| expiry > now + self.kind.needs)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_kept_for_its_institute_until_a_minute_before_its_end() {
        let config = aws_sdk_sts::Config::builder().behavior_version_latest().build();
        let kind =
            SessionKind { worker: "summary", tag: "read", lasts: Duration::from_secs(15 * 60), needs: Duration::from_secs(60) };
        let sessions = InstituteSessions::new(Client::from_conf(config), "role".to_owned(), kind);
        let (now, source) = (SystemTime::now(), "west".parse::<Source>().unwrap());
        let credentials = Credentials::new("key", "secret", None, Some(now + kind.lasts), "test");
        sessions.kept.lock().unwrap().put(source.clone(), credentials);
        let kept = |name: &str, seconds| sessions.kept(&name.parse().unwrap(), now + Duration::from_secs(seconds)).is_some();
        assert!(kept("west", 0) && kept("west", 839) && !kept("west", 840));
        assert!(!kept("WEST", 0) && !kept("wes", 0));
    }
}
