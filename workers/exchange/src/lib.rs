//! From a caller's ID token to the caller's AWS credentials: the one way by which a worker reaches the lake.
//!
//! Whatever is done with them is decided by the user's role, through principal tags and object tags, and not by our code.

mod credential_cache;
mod exchange;

pub use credential_cache::CredentialCache;
pub use exchange::Exchange;
