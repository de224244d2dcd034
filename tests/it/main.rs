//! Tests of the running system: the real binaries, the real templates, IAM enforcement on.
//!
//! Each module is about one promise; [`sluice_tests::Harness`] gives each test an institute of its own.

mod claim_model;
mod deduplicate;
mod submit;
