//! `sluice logout`

use anyhow::{Context as _, Result};

use crate::error::ExitCode;
use crate::output::Output;
use client::session::SessionFile;
use client::sign_in::UserPool;

/// Ends the sign-in of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, output: &Output) -> Result<ExitCode> {
    let file = SessionFile::find()?;
    let session = file.read();
    // The tokens leave this machine first, whatever happens to the revocation.
    file.remove()?;
    let Some(session) = session.context("the session file is removed, and its tokens could not be revoked")? else {
        output.line(if output.is_json() { r#"{"signedOut": false}"# } else { "Nobody was signed in." });
        return Ok(ExitCode::Success);
    };
    let revoked = UserPool::of(&session.deployment).revoke(&session.tokens.refresh).await;
    if output.is_json() {
        output.json(&serde_json::json!({ "signedOut": true, "email": session.email, "revoked": revoked.is_ok() }))?;
    } else {
        output.line(format!("{} is signed out on this machine.", session.email));
    }
    match revoked {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => Err(error.context("a copy of the session file could still be used, because its tokens were not revoked")),
    }
}
