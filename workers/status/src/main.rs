//! Lambda entry of `GET /er7/{messageId}/status`.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use catalog::Catalog;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(2), Duration::from_secs(6)).await;
    let client = Client::from_conf(Builder::from(&sdk).interceptor(runtime::RequestLog).build());
    let catalog = Catalog::new(client, runtime::required_var("CATALOG_TABLE")?);

    runtime::serve("status", |event| status::answer(&catalog, event)).await
}
