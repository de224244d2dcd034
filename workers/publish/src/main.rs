//! Lambda entry of the states that publish (`statemachines/ingest.asl.json`).

use std::time::Duration;

use lambda_runtime::Error;

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    let sns = runtime::client!(aws_sdk_sns, &sdk);
    let topic_arn = runtime::required_var("TOPIC_ARN")?;

    runtime::count_institutes(runtime::required_var("METRICS_INSTITUTES")?);
    runtime::serve("publish", |event| publish::publish(&sns, &topic_arn, event)).await
}
