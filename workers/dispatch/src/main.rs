//! Lambda entry of the queue's event source mapping.

use std::time::Duration;

use aws_sdk_sfn::config::retry::RetryConfig;
use dispatch::{Dispatch, Executions};
use lambda_runtime::Error;

const MINUTE: Duration = Duration::from_secs(60);

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    // StartSyncExecution answers when the execution has ended. The queue retries it, not the SDK.
    let pooled = runtime::sdk_config(Duration::from_secs(125), Duration::from_secs(125)).await;
    let [client, unpooled] = [&pooled, &runtime::without_pool(&pooled)].map(|config| {
        runtime::client!(aws_sdk_sfn, config, |sfn| {
            let sfn = sfn.retry_config(RetryConfig::disabled());
            if config.endpoint_url().is_some() { sfn.interceptor(runtime::StripHostPrefix) } else { sfn }
        })
    });
    let retry_minutes: u32 = runtime::var_parsed("RETRY_MINUTES")?;
    let dispatch = Dispatch {
        executions: Executions { client, unpooled, state_machine_arn: runtime::required_var("STATE_MACHINE_ARN")? },
        sqs: runtime::client!(aws_sdk_sqs, &sdk),
        queue_url: runtime::required_var("QUEUE_URL")?,
        dead_letter_queue_url: runtime::required_var("DEAD_LETTER_QUEUE_URL")?,
        retry_base: Duration::from_secs(runtime::var_parsed("RETRY_BASE_SECONDS")?),
        retry_time: MINUTE * retry_minutes,
        max_receives: runtime::var_parsed("MAX_RECEIVES")?,
    };

    runtime::serve("dispatch", |event| dispatch.batch(event)).await
}
