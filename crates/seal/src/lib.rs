//! The caller's ID token, sealed for its way through the queue.
//!
//! `submit` and `release` may seal but not open, `store` may open but not seal: KMS decides this by their roles. KMS makes a data key for an
//! institute, and gives it out twice: plain to who seals, who keeps it in memory for a while and for a bounded number of tokens,
//! and wrapped, which travels with each token that it sealed. Who opens has KMS unwrap it, once for many tokens.
//!
//! Two things bind a token to its place. The encryption context `{source}` of the wrapped key: KMS unwraps it for no other institute.
//! And the additional data of AES-256-GCM, submission and institute: moved to another envelope, the token cannot be opened, also not by a
//! worker that has the data key in memory.

#![warn(missing_docs)]

mod form;
mod opener;
mod sealer;

pub use opener::Opener;
pub use sealer::{MAX_KEY_AGE, MAX_KEY_USES, Sealer};
