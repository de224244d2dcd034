//! `sluice demo`

use anyhow::Result;

use crate::error::ExitCode;
use crate::local::demo;
use crate::local::{self, Authorization, UpOptions};
use crate::operator::package::Profile;
use crate::output::Output;

/// How to run the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build the workers as for AWS.
    #[arg(long)]
    release: bool,
    /// Which authorizer decides about requests.
    #[arg(long, value_enum, env = Authorization::VARIABLE, default_value = "unified")]
    authorization: Authorization,
    /// Do not wait for a local system that does not answer: stop it, delete its messages and start a new one.
    #[arg(long)]
    replace: bool,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let authorization = args.authorization;
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let (replace, reporter) = (args.replace, output.reporter.clone());
    let outputs = local::up(UpOptions { profile, authorization, replace, reporter, ..UpOptions::default() }).await?;
    let rows = demo::run(&outputs, &output.reporter).await?;
    let as_expected = rows.iter().all(|row| row.unexpected.is_none());

    if output.is_json() {
        output.json(&serde_json::json!({ "asExpected": as_expected, "rows": rows }))?;
    } else {
        let cells = rows
            .iter()
            .map(|row| [row.user.clone(), row.message.to_owned(), row.answer.clone(), row.status.clone(), shortened(&row.key)]);
        output.table(["user", "message", "answer", "in the end", "object key"], cells);
        for row in &rows {
            if let Some(unexpected) = &row.unexpected {
                output.line(format!("NOT AS EXPECTED: {}, {}: {unexpected}", row.user, row.message));
            }
        }
        if as_expected {
            output.line(format!("All {} rows are as expected.", rows.len()));
        }
        let endpoint = outputs.endpoint_url.as_deref().unwrap_or_default();
        output.line(format!(
            "\nTo look further:\n  \
             cargo run -- console        see it in a browser\n  \
             cargo run -- local status   where everything is (users and passwords: target/local/outputs.json)\n  \
             cargo run -- local down     stop it; the messages are gone then\n\
             and with the AWS CLI, after `export AWS_SHARED_CREDENTIALS_FILE=target/local/credentials \
             AWS_DEFAULT_REGION={region} AWS_ENDPOINT_URL={endpoint}`:\n  \
             aws s3 cp s3://{bucket}/{key} -\n  \
             aws dynamodb scan --table-name {table}\n  \
             aws logs filter-log-events --log-group-name /aws/lambda/{store} --query events[].message",
            region = outputs.region,
            bucket = outputs.bucket,
            table = outputs.table,
            key = rows.iter().map(|row| row.key.as_str()).find(|key| !key.is_empty()).unwrap_or_default(),
            store = outputs.stack_output("StoreFunctionName").unwrap_or_default(),
        ));
    }
    Ok(if as_expected { ExitCode::Success } else { ExitCode::Failed })
}

/// A key without its middle, which is the same for all: the institute, and how the id begins.
fn shortened(key: &str) -> String {
    let (institute, _) = key.split_once('/').unwrap_or_default();
    let (_, file) = key.rsplit_once('/').unwrap_or_default();
    match file.get(..12) {
        Some(id) => format!("{institute}/…/{id}….hl7"),
        None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_shortened_key_shows_institute_and_message() {
        let key = format!("source=st-elsewhere/protocol=hl7v2/format=er7/zone=ingest/date=2026-11-21/{}.hl7", "0a".repeat(32));
        assert_eq!(shortened(&key), "source=st-elsewhere/…/0a0a0a0a0a0a….hl7");
        assert_eq!(shortened(""), "");
    }
}
