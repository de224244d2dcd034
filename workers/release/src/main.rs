//! Lambda entry of `POST /er7/{messageId}/release` and `POST /er7/release`.

use std::time::Duration;

use catalog::Catalog;
use lambda_runtime::Error;
use release::Releaser;
use runtime::client;
use seal::Sealer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(5), Duration::from_secs(9)).await;
    let releaser = Releaser {
        catalog: Catalog::new(client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?),
        s3: client!(aws_sdk_s3, &sdk),
        held_bucket: runtime::required_var("HELD_BUCKET")?,
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        sealer: Sealer::new(client!(aws_sdk_kms, &sdk), runtime::required_var("TOKEN_KEY_ARN")?),
        sqs: client!(aws_sdk_sqs, &sdk),
        queue_url: runtime::required_var("QUEUE_URL")?,
        public_url: runtime::required_var("PUBLIC_URL")?,
    };

    runtime::serve("release", |event| releaser.answer(event)).await
}
