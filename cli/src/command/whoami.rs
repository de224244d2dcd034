//! `sluice whoami`

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::error::ExitCode;
use crate::output::Output;
use client::Client;
use client::outputs::{INSTITUTES, LAKE_STAFF};
use client::session::Session;
use client::tokens::TokenClaims;

/// Who is signed in.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, output: &Output) -> Result<ExitCode> {
    show(&Client::open()?.session().await?, output)
}

/// Prints what the ID token says. It is read here and not verified: the API and IAM do that.
pub(crate) fn show(session: &Session, output: &Output) -> Result<ExitCode> {
    let claims = TokenClaims::of(&session.tokens.id)?;
    let is_staff = session.deployment.is_for_staff();
    if output.is_json() {
        output.json(&serde_json::json!({
            "email": claims.email,
            "subject": claims.sub,
            "pool": if is_staff { LAKE_STAFF } else { INSTITUTES },
            "read": claims.read,
            "write": claims.write,
            "groups": claims.groups,
            "expiresAt": claims.expires_at(),
            "apiUrl": session.deployment.api_url,
        }))?;
        return Ok(ExitCode::Success);
    }
    let or_nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    let left = SignedDuration::from_secs(claims.seconds_left(Timestamp::now()));
    let [who, read, write] = if is_staff {
        ["lake staff, of no institute".to_owned(), String::new(), String::new()]
    } else {
        [String::new(), or_nothing(&claims.read), or_nothing(&claims.write)]
    };
    let rows = [
        ("is", who),
        ("may read", read),
        ("may write", write),
        ("groups", claims.groups.join(", ")),
        ("API", session.deployment.api_url.clone()),
        ("token", format!("ends in {left:#}, and is renewed by itself")),
        ("account", claims.sub),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| [name.to_owned(), value]);
    output.table(["signed in", &claims.email], rows);
    Ok(ExitCode::Success)
}
