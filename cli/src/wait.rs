//! Waiting with a deadline. Nothing outside this process is waited for without one.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// Gives `future` until `limit`; afterwards an error names `what` did not happen in time.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(anyhow!("{what}: not done after {} s", limit.as_secs())))
}
