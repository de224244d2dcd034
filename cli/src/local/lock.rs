//! One process at a time changes the local system, or builds the console.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::output::Reporter;
use client::wait::within;

/// Long, because the holder may have to build everything.
const DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Held until it is dropped, or its process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) async fn acquire(folder: &Path, reporter: &Reporter) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let mut waiting = None;
        within(DEADLINE, "waiting for another sluice on this checkout", async {
            loop {
                match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => return Ok(()),
                    Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
                }
                waiting.get_or_insert_with(|| reporter.step("waiting for another sluice on this checkout"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await?;
        if let Some(step) = waiting {
            step.done("");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_holder_of_the_lock_waits_for_the_first() {
        let folder = std::env::temp_dir().join(format!("sluice-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let reporter = Reporter::silent();
        let first = Lock::acquire(&folder, &reporter).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), Lock::acquire(&folder, &reporter));
        assert!(early.await.is_err());
        drop(first);
        Lock::acquire(&folder, &reporter).await.unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
