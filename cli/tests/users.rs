//! What an operator does with users: the real binary against the local system, and what the users can do afterwards.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "users/accounts.rs"]
mod accounts;
#[path = "users/files.rs"]
mod files;
#[path = "users/setting.rs"]
mod setting;
#[path = "users/sign_ups.rs"]
mod sign_ups;
