#!/usr/bin/env bash
# serde 1.0.229: an unreadable member of a flattened `Option<T>` is no error. The whole `T` silently becomes `None`.
#
# `#[serde(flatten)] facts: Option<Facts>` looks like "all of these members, or none of them". If one member has a
# wrong type (or a value that an enum does not know), the other members are dropped too, and the record reads as one
# without facts. The same member in an `Option<Facts>` that is not flattened is an error. A reader must therefore
# check by itself whether a member was there. `record` in `crates/catalog` does so, since a stored message must not
# look like one that was never stored.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "flattened"
version = "0.0.0"
edition = "2024"

[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde_json = "=1.0.154"
TOML
cat >src/main.rs <<'RUST'
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Facts { bucket: String, size: u64 }

#[derive(Debug, Deserialize)]
struct Flattened { #[serde(flatten)] facts: Option<Facts> }

#[derive(Debug, Deserialize)]
struct Nested { facts: Option<Facts> }

fn main() {
    let good = r#"{"bucket":"lake","size":1}"#;
    let bad = r#"{"bucket":"lake","size":"one"}"#;
    println!("good, flattened: {:?}", serde_json::from_str::<Flattened>(good));
    println!("bad, flattened: {:?}", serde_json::from_str::<Flattened>(bad));
    println!("bad, nested: {:?}", serde_json::from_str::<Nested>(&format!(r#"{{"facts":{bad}}}"#)));
}
RUST
cargo run --quiet >output 2>/dev/null
grep -E '^name = "serde"' -A1 Cargo.lock
cat output
grep -qF 'good, flattened: Ok(Flattened { facts: Some(' output || { echo 'changed: a good record has no facts'; exit 1; }
grep -qF 'bad, flattened: Ok(Flattened { facts: None })' output || { echo 'changed: an unreadable member is an error now'; exit 1; }
grep -qF 'bad, nested: Err(' output || { echo 'changed: nested, it is no error'; exit 1; }
