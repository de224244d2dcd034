//! Waiting with a deadline. Every wait for something outside this process has one.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::watch;

/// Gives `future` until `limit`; afterwards an error names `what` did not happen in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(anyhow!("{what}: not done after {} s", limit.as_secs())))
}

/// Waits for `pause`, and says whether there was time for all of it: not when `hurry` is true, or becomes so.
pub async fn pauses(pause: Duration, hurry: &watch::Receiver<bool>) -> bool {
    let mut hurry = hurry.clone();
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        // An error: nobody is there who could make it true.
        Ok(_) = hurry.wait_for(|hurry| *hurry) => false,
    }
}
