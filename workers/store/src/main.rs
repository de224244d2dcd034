//! Lambda entry of the state `Store` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_s3::config::IdentityCache;
use catalog::Catalog;
use exchange::Exchange;
use lambda_runtime::Error;
use runtime::RequestLog;
use store::{Lake, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    let dynamodb =
        aws_sdk_dynamodb::Client::from_conf(aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(RequestLog).build());
    let cognito = aws_sdk_cognitoidentity::config::Builder::from(&sdk).interceptor(RequestLog).build();
    let s3 = || aws_sdk_s3::config::Builder::from(&sdk).interceptor(RequestLog);
    // The callers' credentials are cached by token, here; a second cache within the SDK would grow with every caller.
    let as_caller = s3().identity_cache(IdentityCache::no_cache()).build();

    let store = Store {
        catalog: Catalog::new(dynamodb, runtime::required_var("CATALOG_TABLE")?),
        kms: aws_sdk_kms::Client::from_conf(aws_sdk_kms::config::Builder::from(&sdk).interceptor(RequestLog).build()),
        token_key_arn: runtime::required_var("TOKEN_KEY_ARN")?,
        own_s3: aws_sdk_s3::Client::from_conf(s3().build()),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        exchange: Exchange::new(aws_sdk_cognitoidentity::Client::from_conf(cognito), runtime::required_var("IDENTITY_POOL_ID")?),
        lake: Lake::new(aws_sdk_s3::Client::from_conf(as_caller), runtime::required_var("LAKE_BUCKET")?),
    };

    runtime::serve("store", |event| store.answer(event)).await
}
