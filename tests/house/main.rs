//! The rules of the repository itself: what may depend on what, and that each fact has one place. No test here needs a
//! running system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics has failed"
)]

mod circles;
mod dependencies;
mod keys;
mod modules;
mod states;
mod strict;
mod workers;

use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
