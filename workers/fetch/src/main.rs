//! Lambda entry of the API's reads, except for the status of the caller's own messages (worker `status`).

use std::time::Duration;

use aws_sdk_s3::config::IdentityCache;
use exchange::Exchange;
use fetch::{CatalogReader, Fetch, LakeReader, Patients};
use lambda_runtime::Error;
use patients::{PatientIndex, PatientKeys};
use runtime::client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // API Gateway waits for 30 seconds, and at most four calls follow each other. A listing makes more calls and limits its time itself.
    let sdk = runtime::sdk_config(Duration::from_secs(3), Duration::from_secs(6)).await;
    // The exchange caches the callers' credentials by token; a second cache in the SDK would grow with every caller.
    let dynamodb = client!(aws_sdk_dynamodb, &sdk, |dynamodb| dynamodb.identity_cache(IdentityCache::no_cache()));
    let s3 = client!(aws_sdk_s3, &sdk, |s3| s3.identity_cache(IdentityCache::no_cache()));

    let has_search_indexes = runtime::var_parsed("SEARCH_INDEXES")?;
    let patients = Patients {
        keys: PatientKeys::new(client!(aws_sdk_kms, &sdk), runtime::required_var("PATIENT_KEY_ARN")?),
        index: PatientIndex::new(dynamodb.clone(), runtime::required_var("PATIENT_TABLE")?),
    };

    let fetch = Fetch {
        exchange: Exchange::new(client!(aws_sdk_cognitoidentity, &sdk), runtime::required_var("IDENTITY_POOL_ID")?),
        catalog: CatalogReader::new(dynamodb, runtime::required_var("CATALOG_TABLE")?, has_search_indexes),
        lake: LakeReader::new(s3),
        patients: has_search_indexes.then_some(patients),
    };

    runtime::serve("fetch", |event| fetch.answer(event)).await
}
