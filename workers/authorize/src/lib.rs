//! The API's Lambda authorizer: API Gateway's events in, its answers out. What is decided, and why, is in the crate
//! `policies`; the same binary serves Sluice and `examples/veterinary-clinic`.

mod authorizer;
mod event;

pub use authorizer::Authorizer;
