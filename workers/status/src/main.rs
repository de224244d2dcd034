//! Lambda entry of `GET /er7/{messageId}/status` and `POST /er7/status`.

use std::time::Duration;

use catalog::Catalog;
use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(2), Duration::from_secs(6)).await;
    let catalog = Catalog::new(runtime::client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?);

    runtime::serve("status", |event| status::answer(&catalog, event)).await
}
