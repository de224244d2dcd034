//! Lambda entry of the states `Deduplicate`, `Reject` and `Release` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use catalog::Catalog;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(4), Duration::from_secs(12)).await;
    let client = Client::from_conf(Builder::from(&sdk).interceptor(runtime::RequestLog).build());
    let catalog = Catalog::new(client, runtime::required_var("CATALOG_TABLE")?);
    let lease = Duration::from_secs(runtime::var_parsed("LEASE_SECONDS")?);

    runtime::serve("deduplicate", |event| deduplicate::answer(&catalog, lease, event)).await
}
