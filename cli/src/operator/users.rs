//! The accounts of a deployment's user pool: what an operator does with them.
//!
//! What a user may do is in two attributes, `custom:read` and `custom:write`. They are a user's right only through the
//! tokens that are issued with them, so a change reaches a user who is signed in with the next token.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod directory;
pub(crate) mod roster;
