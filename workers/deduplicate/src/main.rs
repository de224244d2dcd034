//! Lambda entry of the states `Deduplicate`, `GiveUp` and `Abandon` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use catalog::Catalog;
use lambda_runtime::Error;

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    let catalog = Catalog::new(runtime::client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?);
    let lease = Duration::from_secs(runtime::var_parsed("LEASE_SECONDS")?);

    runtime::serve("deduplicate", |event| deduplicate::answer(&catalog, lease, event)).await
}
