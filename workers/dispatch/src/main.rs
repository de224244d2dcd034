//! Lambda entry of the queue's event source mapping.

use std::time::Duration;

use aws_sdk_sfn::config::retry::RetryConfig;
use dispatch::Dispatch;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    // An execution answers when it is over. The queue is what tries again.
    let executions = runtime::sdk_config(Duration::from_secs(125), Duration::from_secs(125)).await;
    let mut sfn =
        aws_sdk_sfn::config::Builder::from(&executions).retry_config(RetryConfig::disabled()).interceptor(runtime::RequestLog);
    if executions.endpoint_url().is_some() {
        sfn = sfn.interceptor(runtime::StripHostPrefix);
    }
    let dispatch = Dispatch {
        sfn: aws_sdk_sfn::Client::from_conf(sfn.build()),
        sqs: aws_sdk_sqs::Client::from_conf(aws_sdk_sqs::config::Builder::from(&sdk).interceptor(runtime::RequestLog).build()),
        state_machine_arn: runtime::required_var("STATE_MACHINE_ARN")?,
        queue_url: runtime::required_var("QUEUE_URL")?,
        retry_base: Duration::from_secs(runtime::var_parsed("RETRY_BASE_SECONDS")?),
        max_receives: runtime::var_parsed("MAX_RECEIVES")?,
    };

    runtime::serve("dispatch", |event| dispatch.batch(event)).await
}
