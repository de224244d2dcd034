//! An issuer's keys over HTTPS.
//!
//! What answers may be slow, broken or somebody else, so everything about the answer is bounded: time, size, and that it
//! comes from where it was asked for.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::keys::KeySet;

/// The largest answer that is read. A key of 4,096 bits is about 800 bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

pub(super) struct Fetcher(Client);

impl Fetcher {
    /// Fails when there are no certificates to trust.
    pub(super) fn new(connect_timeout: Duration, request_timeout: Duration) -> reqwest::Result<Self> {
        Client::builder()
            .connect_timeout(connect_timeout)
            .timeout(request_timeout)
            .redirect(Policy::none())
            .no_proxy()
            // The next request is half an hour away, and a connection does not survive a frozen sandbox.
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
    }

    /// Nothing unless the answer is a set with at least one usable key: a set without any would only lock everybody out.
    pub(super) async fn keys(&self, url: &str) -> Option<KeySet> {
        let keys = KeySet::read(&self.body(url).await?)?;
        (!keys.is_empty()).then_some(keys)
    }

    async fn body(&self, url: &str) -> Option<Vec<u8>> {
        let mut response = self.0.get(url).send().await.ok()?;
        if response.status() != StatusCode::OK || response.content_length().is_some_and(|length| length > MAX_BODY_BYTES as u64) {
            return None;
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(body)
    }
}
