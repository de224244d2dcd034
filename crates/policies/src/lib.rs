//! Who may do what: whose token it is, by the keys of its issuer, and what its holder may do, by Cedar policies.
//!
//! Nothing here names a provider, a route or a right. Providers, routes and policies are files ([`Policies`]), issuers and
//! their audiences are settings of a deployment ([`Issuers`]). The worker `authorize` answers API Gateway with this library,
//! and `sluice authorize` answers an operator.
//!
//! - [`token`]: a token is verified before anything in it is believed.
//! - [`Policies`]: what stands in the policy folder, validated.
//! - [`Engine`]: who decides, Cedar in this process or Amazon Verified Permissions.
//! - [`Decider`]: from a verified token and a route to a decision.

#![warn(missing_docs)]

mod decider;
mod engine;
mod entities;
mod explain;
mod issuers;
mod json;
mod policies;
mod problems;
mod providers;
mod question;
mod routes;
mod ruling;
mod schema;
mod store_template;
pub mod token;
mod verified_permissions;

pub use decider::{Decider, Decision};
pub use engine::Engine;
pub use explain::{ConsideredPolicy, Explanation};
pub use issuers::{Issuer, Issuers, IssuersError};
pub use policies::{Policies, PolicySource};
pub use problems::{PolicyError, PolicyErrors};
pub use store_template::store_template;
