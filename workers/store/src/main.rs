//! Lambda entry of the state `Store` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use aws_sdk_s3::config::IdentityCache;
use catalog::Catalog;
use exchange::Exchange;
use hl7::Schema;
use lambda_runtime::Error;
use patients::{PatientIndex, PatientKeys};
use runtime::client;
use seal::Opener;
use store::{LakeWriter, Patients, Store};

/// A message takes less CPU with it than with the C library's (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    // The exchange caches the callers' credentials by token; a second cache in the SDK would grow with every caller.
    let lake = client!(aws_sdk_s3, &sdk, |s3| s3.identity_cache(IdentityCache::no_cache()));

    let (kms, dynamodb) = (client!(aws_sdk_kms, &sdk), client!(aws_sdk_dynamodb, &sdk));
    let has_search_indexes: bool = runtime::var_parsed("SEARCH_INDEXES")?;
    let patients = Patients {
        keys: PatientKeys::new(kms.clone(), runtime::required_var("PATIENT_KEY_ARN")?),
        index: PatientIndex::new(dynamodb.clone(), runtime::required_var("PATIENT_TABLE")?),
    };

    let catalog = Catalog::new(dynamodb, runtime::required_var("CATALOG_TABLE")?);
    let exchange = Exchange::new(client!(aws_sdk_cognitoidentity, &sdk), runtime::required_var("IDENTITY_POOL_ID")?);
    let store = Store {
        exchange: exchange.remembering(catalog.clone()),
        catalog,
        opener: Opener::new(kms, runtime::required_var("TOKEN_KEY_ARN")?),
        own_s3: client!(aws_sdk_s3, &sdk),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        writers: runtime::var_parsed("WRITERS")?,
        lake: LakeWriter::new(lake, runtime::required_var("LAKE_BUCKET")?),
        patients: has_search_indexes.then_some(patients),
        schema: Schema::beside(&std::env::current_exe()?)?,
    };

    runtime::serve("store", |event| store.answer(event)).await
}
