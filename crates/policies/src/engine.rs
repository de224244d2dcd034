//! The policy engine: Cedar in-process or Amazon Verified Permissions.

use aws_sdk_verifiedpermissions::Client;
use cedar_policy::{Authorizer, Decision};
use runtime::StepError;

use crate::policies::Policies;
use crate::question::Question;
use crate::ruling::Ruling;
use crate::verified_permissions;

/// The engine that decides. Both engines have the same schema and policies, get the same questions, and give the same answers.
pub enum Engine {
    /// Cedar in this process, with the policies of the folder.
    InProcess,
    /// Amazon Verified Permissions, with the policies of its store. Routes, providers and known entities are the folder's.
    VerifiedPermissions {
        /// The client.
        client: Client,
        /// The store.
        policy_store_id: String,
    },
}

impl Engine {
    /// Decides.
    ///
    /// # Errors
    /// When Verified Permissions gives no answer. Cedar in this process always gives one.
    pub(crate) async fn decide(&self, policies: &Policies, question: &Question) -> Result<Ruling, StepError> {
        match self {
            Self::InProcess => Ok(decide_here(policies, question)),
            Self::VerifiedPermissions { client, policy_store_id } => {
                verified_permissions::decide(client, policy_store_id, question).await
            }
        }
    }
}

/// Decides with Cedar in this process.
pub(crate) fn decide_here(policies: &Policies, question: &Question) -> Ruling {
    let response = Authorizer::new().is_authorized(&question.request, &policies.set, &question.entities);
    let mut decided_by: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let mut failed: Vec<String> = response
        .diagnostics()
        .errors()
        .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
        .collect();
    decided_by.sort_unstable();
    failed.sort_unstable();
    Ruling { allowed: response.decision() == Decision::Allow, policies: decided_by, failed }
}
