//! The API's Lambda authorizer: whose token it is, by the keys of whoever issued it, and what they may do, by Cedar policies.
//!
//! Nothing here names a provider, a route or a right. Providers, routes and policies are files ([`Policies`]), issuers and
//! their audiences are settings of a deployment ([`Issuers`]); the same binary serves Sluice and
//! `examples/veterinary-clinic`.
//!
//! - [`token`]: a token is verified before anything in it is believed.
//! - [`Policies`]: what stands in the policy folder, validated.
//! - [`Engine`]: who decides, Cedar in this process or Amazon Verified Permissions.
//! - [`Authorizer`]: the way of a request through these.

mod issuers;
pub mod token;

pub use issuers::{Issuer, Issuers, IssuersError};
