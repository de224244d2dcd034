//! The API's Lambda authorizer: whose token it is, by the keys of whoever issued it, and what they may do, by Cedar policies.
//!
//! Nothing here names a provider, a route or a right. Providers, routes and policies are files ([`Policies`]), issuers and
//! their audiences are settings of a deployment ([`Issuers`]); the same binary serves Sluice and
//! `examples/veterinary-clinic`.
//!
//! - [`token`]: a token is verified before anything in it is believed.
//! - [`Policies`]: what stands in the policy folder, validated.
//! - [`Engine`]: who decides, Cedar in this process or Amazon Verified Permissions.
//! - [`Decider`]: from a verified token and a route to a decision.
//! - [`Authorizer`]: the way of a request through these.

mod authorizer;
mod decider;
mod engine;
mod entities;
mod event;
mod explain;
mod issuers;
mod json;
mod policies;
mod problems;
mod providers;
mod question;
mod routes;
mod schema;
mod store_template;
pub mod token;
mod verified_permissions;

pub use authorizer::Authorizer;
pub use decider::{Decider, Decision};
pub use engine::Engine;
pub use explain::{ConsideredPolicy, Explanation};
pub use issuers::{Issuer, Issuers, IssuersError};
pub use policies::{Policies, PolicySource};
pub use problems::{PolicyError, PolicyErrors};
pub use store_template::store_template;
