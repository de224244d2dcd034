//! An issuer's keys over HTTPS.
//!
//! The endpoint may be slow, broken or hostile, so the response is limited in time and size, and redirects are not followed. A
//! request that fails is repeated, and one that takes long is overtaken by another, whose answer counts as much: a caller whom
//! nobody knows yet waits for no more than the time limit, and is not refused because of one lost packet.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Options;
use super::key_set::KeySet;

/// The largest answer that is read. A key of 4,096 bits is about 800 bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The pause between the failure of a request and the next one.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Fetcher {
    client: Client,
    within: Duration,
    tries: u32,
    patience: Duration,
}

impl Fetcher {
    /// Fails when there are no certificates to trust.
    pub(super) fn new(options: &Options) -> reqwest::Result<Self> {
        let client = Client::builder()
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .redirect(Policy::none())
            .no_proxy()
            // The next request is half an hour away, and no connection survives a frozen sandbox.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, within: options.request_timeout, tries: options.tries, patience: options.patience })
    }

    /// `None` unless the answer is a set with at least one usable key: a set without any would only lock everybody out.
    pub(super) async fn keys(&self, url: &str) -> Option<KeySet> {
        timeout(self.within, self.first(url)).await.ok().flatten()
    }

    /// The first good answer. It ends requests that are still under way.
    async fn first(&self, url: &str) -> Option<KeySet> {
        let mut tries = JoinSet::new();
        let mut begun = 0;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                Some(answer) = tries.join_next() => {
                    if let Ok(Some(keys)) = answer {
                        return Some(keys);
                    }
                    if tries.is_empty() {
                        if begun >= self.tries {
                            return None;
                        }
                        next = next.min(Instant::now() + PAUSE);
                    }
                }
                () = sleep_until(next), if begun < self.tries => {
                    tries.spawn(once(self.client.clone(), url.to_owned()));
                    begun += 1;
                    next = Instant::now() + self.patience;
                }
                else => return None,
            }
        }
    }
}

async fn once(client: Client, url: String) -> Option<KeySet> {
    let keys = KeySet::read(&body(client, url).await?)?;
    (!keys.is_empty()).then_some(keys)
}

async fn body(client: Client, url: String) -> Option<Vec<u8>> {
    let mut response = client.get(url).send().await.ok()?;
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
