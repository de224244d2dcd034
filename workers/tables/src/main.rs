//! Lambda entry of the stack `tables`: an institute's messages become Parquet.

use std::time::Duration;

use hl7::Schema;
use lambda_runtime::Error;
use runtime::client;
use sessions::{InstituteSessions, SessionKind};
use tables::Mapping;
use tabulate::{CALL_WITHIN, Disk, Names, Tabulator};

/// The longest session that one role can give another one, and more than an invocation needs.
const SESSION: Duration = Duration::from_secs(60 * 60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // Long enough for a file of a gigabyte on its way to S3.
    let sdk = runtime::sdk_config(Duration::from_secs(60), CALL_WITHIN).await;
    let kind = SessionKind { worker: "tables", tag: "source", lasts: SESSION, needs: Duration::from_secs(15 * 60) };
    let sessions = InstituteSessions::new(client!(aws_sdk_sts, &sdk), runtime::required_var("SESSION_ROLE_ARN")?, kind);
    let names = Names {
        catalog: runtime::required_var("CATALOG_TABLE")?,
        progress: runtime::required_var("PROGRESS_TABLE")?,
        bucket: runtime::required_var("TABLES_BUCKET")?,
    };
    let mapping = Mapping::standard()?.clone().with_schema(Schema::beside(&std::env::current_exe()?)?);
    let begin_within = Duration::from_secs(runtime::var_parsed("BEGIN_WITHIN_SECONDS")?);
    let tabulator = Tabulator { sdk, sessions, names, mapping, disk: Disk::new()?, begin_within };

    runtime::serve("tables", |event| tabulator.run(event)).await
}
