//! Lambda entry of the state `Store` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_s3::config::IdentityCache;
use catalog::Catalog;
use exchange::Exchange;
use lambda_runtime::Error;
use runtime::client;
use seal::Opener;
use store::{LakeWriter, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    // The exchange caches the callers' credentials by token; a second cache in the SDK would grow with every caller.
    let lake = client!(aws_sdk_s3, &sdk, |s3| s3.identity_cache(IdentityCache::no_cache()));

    let store = Store {
        catalog: Catalog::new(client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?),
        opener: Opener::new(client!(aws_sdk_kms, &sdk), runtime::required_var("TOKEN_KEY_ARN")?),
        own_s3: client!(aws_sdk_s3, &sdk),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        exchange: Exchange::new(client!(aws_sdk_cognitoidentity, &sdk), runtime::required_var("IDENTITY_POOL_ID")?),
        writers: runtime::var_parsed("WRITERS")?,
        lake: LakeWriter::new(lake, runtime::required_var("LAKE_BUCKET")?),
    };

    runtime::serve("store", |event| store.answer(event)).await
}
