//! Lambda entry of the state `Parse` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use lambda_runtime::Error;

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    let s3 = runtime::client!(aws_sdk_s3, &sdk);
    let overflow_bucket = runtime::required_var("OVERFLOW_BUCKET")?;

    runtime::serve("parse", |event| parse::answer(&s3, &overflow_bucket, event)).await
}
