//! Sessions of the role that reads one institute's part of the catalog.

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

/// The shortest session of STS.
const SESSION: Duration = Duration::from_secs(15 * 60);

/// A session with less time left is not used: a request may take half a minute.
const MARGIN: Duration = Duration::from_secs(60);

/// The maximum number of institutes whose sessions a warm worker keeps.
const MOST: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Assumes the reader's role for an institute, and keeps the session while it lasts.
#[derive(Debug)]
pub struct InstituteSessions {
    client: Client,
    role_arn: String,
    kept: Mutex<LruCache<Source, Credentials>>,
}

impl InstituteSessions {
    /// Sessions of the role `role_arn`, whose policies depend on the session tag `read`.
    pub fn new(client: Client, role_arn: String) -> Self {
        Self { client, role_arn, kept: Mutex::new(LruCache::new(MOST)) }
    }

    /// Credentials that read the messages of the institute `source` and of no other.
    pub(crate) async fn of(&self, source: &Source) -> Result<Credentials, StepError> {
        if let Some(kept) = self.kept(source, SystemTime::now()) {
            return Ok(kept);
        }
        let tag = Tag::builder().key("read").value(source.as_str()).build();
        let tag = tag.map_err(|_| StepError::InvalidInput { what: "a session tag" })?;
        let assumed = self
            .client
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name("summary")
            .duration_seconds(i32::try_from(SESSION.as_secs()).unwrap_or(i32::MAX))
            .tags(tag)
            .send()
            .await
            .map_err(|error| StepError::from_sdk(ASSUME_ROLE, &error))?;
        let given = assumed.credentials.ok_or(StepError::Unavailable { operation: ASSUME_ROLE })?;
        let expiry = SystemTime::try_from(given.expiration).map_err(|_| StepError::Unavailable { operation: ASSUME_ROLE })?;
        let (key, secret, token) = (given.access_key_id, given.secret_access_key, given.session_token);
        let credentials = Credentials::new(key, secret, Some(token), Some(expiry), "summary");
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(source.clone(), credentials.clone());
        Ok(credentials)
    }

    fn kept(&self, source: &Source, now: SystemTime) -> Option<Credentials> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(source).filter(|it| it.expiry().is_some_and(|expiry| expiry > now + MARGIN)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_kept_for_its_institute_until_a_minute_before_its_end() {
        let config = aws_sdk_sts::Config::builder().behavior_version_latest().build();
        let sessions = InstituteSessions::new(Client::from_conf(config), "role".to_owned());
        let (now, source) = (SystemTime::now(), "west".parse::<Source>().unwrap());
        let credentials = Credentials::new("key", "secret", None, Some(now + SESSION), "test");
        sessions.kept.lock().unwrap().put(source.clone(), credentials);
        let kept = |name: &str, seconds| sessions.kept(&name.parse().unwrap(), now + Duration::from_secs(seconds)).is_some();
        assert!(kept("west", 0) && kept("west", 839) && !kept("west", 840));
        assert!(!kept("WEST", 0) && !kept("wes", 0));
    }
}
