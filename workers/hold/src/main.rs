//! Lambda entry of the state `Hold` (`statemachines/ingest.asl.json`).

use std::time::Duration;

use catalog::Catalog;
use hold::Keeper;
use lambda_runtime::Error;
use runtime::client;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(Duration::from_secs(8), Duration::from_secs(15)).await;
    let held_days: u32 = runtime::var_parsed("HELD_DAYS")?;
    let keeper = Keeper {
        catalog: Catalog::new(client!(aws_sdk_dynamodb, &sdk), runtime::required_var("CATALOG_TABLE")?),
        s3: client!(aws_sdk_s3, &sdk),
        overflow_bucket: runtime::required_var("OVERFLOW_BUCKET")?,
        held_bucket: runtime::required_var("HELD_BUCKET")?,
        keep: DAY * held_days,
    };

    runtime::count_institutes(runtime::required_var("METRICS_INSTITUTES")?);
    runtime::serve("hold", |event| keeper.answer(event)).await
}
