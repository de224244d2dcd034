//! What an operator sees happen.

use std::time::Duration;

use anyhow::{Result, ensure};
use sluice::operator::top::{Outcomes, Watch};
use sluice_tests::{DEADLINE, Harness, adt, unique};

use crate::held;

#[tokio::test]
async fn activity_is_counted_as_it_happens() -> Result<()> {
    let it = Harness::new()?;
    let mut watch = Watch::new(&it.aws, it.outputs, Duration::from_secs(1200));
    assert!(!watch.look().await?.institutes.contains_key(&it.institute));
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    it.store(&admin, &message).await?;
    assert_eq!(it.submit(&admin, &message).await?.status, 409);
    held::expired(&it).await?;
    // The held message came without the API.
    let expected = Outcomes { accepted: 1, stored: 1, duplicates: 1, held: 1, failed: 0 };
    let began = tokio::time::Instant::now();
    loop {
        let numbers = watch.look().await?;
        let found = numbers.institutes.get(&it.institute).copied().unwrap_or_default();
        if found == expected {
            assert!(
                numbers.accepted >= 1 && numbers.stored >= 1 && numbers.held["expired"] >= 1 && numbers.bytes > 0,
                "{numbers:?}"
            );
            assert!(numbers.lag_ms.is_some_and(|lag| lag.p50 > 0 && lag.p50 <= lag.p99), "{numbers:?}");
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nothing is counted twice, and in a new window it is the same.
    assert_eq!(watch.look().await?.institutes[&it.institute], expected);
    let mut other = Watch::new(&it.aws, it.outputs, Duration::from_secs(1200));
    assert_eq!(other.look().await?.institutes[&it.institute], expected);
    Ok(())
}
