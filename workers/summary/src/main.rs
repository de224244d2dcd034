//! Lambda entry of `GET /institutes/{source}/summary`.

use std::time::Duration;

use aws_sdk_dynamodb::config::IdentityCache;
use lambda_runtime::Error;
use runtime::client;
use sessions::{InstituteSessions, SessionKind};
use summary::CatalogCounter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(3), Duration::from_secs(6)).await;
    // The shortest session of STS, used until a minute before its end: a request may take half a minute.
    let kind =
        SessionKind { worker: "summary", tag: "read", lasts: Duration::from_secs(15 * 60), needs: Duration::from_secs(60) };
    let sessions = InstituteSessions::new(client!(aws_sdk_sts, &sdk), runtime::required_var("READER_ROLE_ARN")?, kind);
    // Each call brings its institute's credentials.
    let dynamodb = client!(aws_sdk_dynamodb, &sdk, |dynamodb| dynamodb.identity_cache(IdentityCache::no_cache()));
    let counter = CatalogCounter::new(dynamodb, runtime::required_var("CATALOG_TABLE")?);

    runtime::serve("summary", |event| summary::answer(&sessions, &counter, event)).await
}
