//! Lambda entry of the API's reads, but for the status of one's own messages.

use std::time::Duration;

use aws_sdk_s3::config::IdentityCache;
use exchange::Exchange;
use fetch::{Catalog, Fetch, Lake};
use lambda_runtime::Error;
use runtime::RequestLog;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // API Gateway waits for 30 seconds, and there are at most four calls one after the other; a listing, which makes more,
    // minds the time itself.
    let sdk = runtime::sdk_config(Duration::from_secs(3), Duration::from_secs(6)).await;
    let cognito = aws_sdk_cognitoidentity::config::Builder::from(&sdk).interceptor(RequestLog).build();
    // The callers' credentials are cached by token, in the exchange; a second cache within the SDK would grow with every
    // caller.
    let dynamodb = aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(RequestLog);
    let dynamodb = dynamodb.identity_cache(IdentityCache::no_cache()).build();
    let s3 = aws_sdk_s3::config::Builder::from(&sdk).interceptor(RequestLog).identity_cache(IdentityCache::no_cache()).build();

    let fetch = Fetch {
        exchange: Exchange::new(aws_sdk_cognitoidentity::Client::from_conf(cognito), runtime::required_var("IDENTITY_POOL_ID")?),
        catalog: Catalog::new(aws_sdk_dynamodb::Client::from_conf(dynamodb), runtime::required_var("CATALOG_TABLE")?),
        lake: Lake::new(aws_sdk_s3::Client::from_conf(s3)),
    };

    runtime::serve("fetch", |event| fetch.answer(event)).await
}
