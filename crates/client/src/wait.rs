//! Waiting with a deadline. Every wait for something outside this process has one.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::watch;

/// Waits for `future` until `limit`. After that, an error names `what` did not happen in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(anyhow!("{what}: not done after {} s", limit.as_secs())))
}

/// Waits for `pause`, and says whether it passed completely: it ends early when `hurry` is or becomes true.
pub async fn pauses(pause: Duration, hurry: &watch::Receiver<bool>) -> bool {
    let mut hurry = hurry.clone();
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        // An error means that nobody is left to set it.
        Ok(_) = hurry.wait_for(|hurry| *hurry) => false,
    }
}
