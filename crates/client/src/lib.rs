//! The client's side of Sluice: signing in, keeping the session fresh, sending messages and reading them back.
//!
//! The command `sluice` is built on it; so are the tests and the MLLP gateway's way to the API. [`sign_in`] and [`session`]
//! get and keep [`tokens`], [`Client`] is the API under such a session, [`send`] and [`read`] are what a user does with it.
//! [`http::Api`] is the API without a session.

#![warn(missing_docs)]

pub mod aws;
mod client;
pub mod deployment;
pub mod error;
pub mod http;
pub mod messages;
pub mod outputs;
pub mod private_file;
pub mod read;
pub mod release;
mod secret;
pub mod send;
pub mod session;
pub mod sign_in;
pub mod submit;
pub mod tokens;
pub mod wait;

pub use client::{Client, ServiceAccount};
pub use outputs::Outputs;
