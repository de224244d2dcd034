//! Tests of the running system: the real binaries, the real templates, IAM enforcement on.
//!
//! Each module is about one promise; [`sluice_tests::Harness`] gives each test an institute of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics has failed"
)]

mod acknowledgments;
mod attacks;
mod audiences;
mod authorize;
mod canary;
mod claim_model;
mod clinic;
mod cognito;
mod console;
mod contract;
mod deduplicate;
mod documents;
mod enroll;
mod events;
mod failures;
mod forge;
mod grants;
mod listen;
mod logs;
mod permissions;
mod privacy;
mod read;
mod received;
mod snippets;
mod sql;
mod submit;
