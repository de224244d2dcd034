//! What a user of a hospital does with `sluice`: the real binary against the local system.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

#[path = "client/doctor.rs"]
mod doctor;
#[path = "client/finding.rs"]
mod finding;
#[path = "client/held.rs"]
mod held;
#[path = "client/hold.rs"]
mod hold;
#[path = "client/person.rs"]
mod person;
#[path = "client/reading.rs"]
mod reading;
#[path = "client/schema.rs"]
mod schema;
#[path = "client/scripted.rs"]
mod scripted;
#[path = "client/sending.rs"]
mod sending;
#[path = "client/signing_in.rs"]
mod signing_in;
#[path = "client/terminal.rs"]
mod terminal;
#[path = "client/uploads.rs"]
mod uploads;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// An ID token with another end, which nobody has signed.
fn with_end(token: &str, seconds: i64) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["exp"] = json!(seconds);
    format!("{}.{}.{}", parts[0], BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
