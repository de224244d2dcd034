//! Lambda entry of `POST /er7` and of uploads.

use std::time::Duration;

use catalog::{Allowance, Catalog};
use lambda_runtime::Error;
use runtime::client;
use seal::Sealer;
use submit::{BatchTimes, Submit};

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // API Gateway waits for 30 seconds, and there are at most three calls one after the other.
    let sdk = runtime::sdk_config(Duration::from_secs(5), Duration::from_secs(9)).await;
    let per_second = runtime::var_parsed("MESSAGES_PER_SECOND")?;
    let burst = runtime::var_parsed("MESSAGES_BURST")?;
    let submit = Submit {
        catalog: Catalog::new(client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?),
        sealer: Sealer::new(client!(aws_sdk_kms, &sdk), runtime::required_var("TOKEN_KEY_ARN")?),
        s3: client!(aws_sdk_s3, &sdk),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        sqs: client!(aws_sdk_sqs, &sdk),
        queue_url: runtime::required_var("QUEUE_URL")?,
        public_url: runtime::required_var("PUBLIC_URL")?,
        max_message_bytes: runtime::var_parsed("MAX_MESSAGE_BYTES")?,
        max_upload_bytes: runtime::var_parsed("MAX_UPLOAD_BYTES")?,
        allowance: (per_second > 0).then_some(Allowance { per_second, burst }),
        batch_times: BatchTimes::default(),
    };

    runtime::count_institutes(runtime::required_var("METRICS_INSTITUTES")?);
    runtime::serve("submit", |event| submit.answer(event)).await
}
