//! Lambda entry of the state `Parse` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    let s3 = Client::from_conf(Builder::from(&sdk).interceptor(runtime::RequestLog).build());
    let overflow_bucket = runtime::required_var("OVERFLOW_BUCKET")?;

    runtime::serve("parse", |event| parse::answer(&s3, &overflow_bucket, event)).await
}
