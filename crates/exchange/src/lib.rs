//! Exchanges a caller's ID token for the caller's AWS credentials: the only way by which a worker reaches the lake.
//!
//! The user's role decides what these credentials allow, by principal tags and object tags. The code of the workers does not.

#![warn(missing_docs)]

mod credential_cache;
mod exchange;
mod writers;

pub use credential_cache::CredentialCache;
pub use exchange::Exchange;
pub use writers::Writers;
