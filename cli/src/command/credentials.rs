//! `sluice credentials`

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::error::ExitCode;
use crate::output::Output;
use client::Client;
use client::sign_in::exchange;

/// The signed-in user's own AWS credentials.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Prints what the AWS CLI and the SDKs take from a `credential_process` (AWS SDKs and Tools reference guide, "Process
/// credential provider").
pub(crate) async fn run(_: Args, output: &Output) -> Result<ExitCode> {
    let session = Client::open()?.session().await?;
    let credentials = exchange(&session.deployment, &session.tokens.id).await?;
    let expiration = credentials.expiry().context("the credentials have no end")?;
    output.json(&serde_json::json!({
        "Version": 1,
        "AccessKeyId": credentials.access_key_id(),
        "SecretAccessKey": credentials.secret_access_key(),
        "SessionToken": credentials.session_token(),
        "Expiration": Timestamp::try_from(expiration)?,
    }))?;
    Ok(ExitCode::Success)
}
