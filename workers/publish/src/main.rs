//! Lambda entry of the states that publish (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::config::Builder;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    let sns = Client::from_conf(Builder::from(&sdk).interceptor(runtime::RequestLog).build());
    let topic_arn = runtime::required_var("TOPIC_ARN")?;

    runtime::serve("publish", |event| publish::publish(&sns, &topic_arn, event)).await
}
