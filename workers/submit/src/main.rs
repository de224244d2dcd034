//! Lambda entry of `POST /er7`.

use std::time::Duration;

use catalog::Catalog;
use lambda_runtime::Error;
use runtime::RequestLog;
use submit::{BatchTimes, Submit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // API Gateway waits for 30 seconds, and there are at most three calls one after the other.
    let sdk = runtime::sdk_config(Duration::from_secs(5), Duration::from_secs(9)).await;
    let dynamodb = aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(RequestLog).build();
    let submit = Submit {
        catalog: Catalog::new(aws_sdk_dynamodb::Client::from_conf(dynamodb), runtime::required_var("CATALOG_TABLE")?),
        kms: aws_sdk_kms::Client::from_conf(aws_sdk_kms::config::Builder::from(&sdk).interceptor(RequestLog).build()),
        token_key_arn: runtime::required_var("TOKEN_KEY_ARN")?,
        s3: aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&sdk).interceptor(RequestLog).build()),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        sqs: aws_sdk_sqs::Client::from_conf(aws_sdk_sqs::config::Builder::from(&sdk).interceptor(RequestLog).build()),
        queue_url: runtime::required_var("QUEUE_URL")?,
        public_url: runtime::required_var("PUBLIC_URL")?,
        max_message_bytes: runtime::var_parsed("MAX_MESSAGE_BYTES")?,
        batch_times: BatchTimes::default(),
    };

    runtime::serve("submit", |event| submit.answer(event)).await
}
