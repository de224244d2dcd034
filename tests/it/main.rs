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

mod accounting;
mod acknowledgments;
mod alarms;
mod api;
mod attacks;
mod audiences;
mod audit;
mod authorize;
mod browser;
mod canary;
mod claim_model;
mod clinic;
mod cognito;
mod connections;
mod console;
mod contract;
mod costs;
mod deduplicate;
mod discard;
mod documents;
mod engines;
mod enroll;
mod envelopes;
mod errors;
mod events;
mod expressions;
mod failures;
mod fairness;
mod faults;
mod find;
mod forge;
mod grants;
mod held;
mod identities;
mod listen;
mod logs;
mod loopback;
mod metrics;
mod patients;
mod permissions;
mod privacy;
mod read;
mod received;
mod renditions;
mod restore;
mod rollback;
mod seals;
mod snippets;
mod sql;
mod stacks;
mod statuses;
mod submit;
mod subscribe;
mod summary;
mod tables;
mod tabulate;
mod top;
mod trace;
mod twins;
mod uploads;
