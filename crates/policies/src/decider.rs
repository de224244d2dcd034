//! Makes a decision from a verified token and a route.

use std::collections::BTreeMap;

use runtime::StepError;

use crate::Issuers;
use crate::engine::Engine;
use crate::policies::Policies;
use crate::question::{Principal, Question, Unasked};
use crate::ruling::Ruling;
use crate::token::Verified;

/// Decides what a verified token may do.
pub struct Decider {
    pub(crate) policies: Policies,
    /// Constants of each provider, by provider name.
    pub(crate) constants: BTreeMap<String, BTreeMap<String, String>>,
    engine: Engine,
}

/// Whether a request is allowed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The action of the question, such as `read`, if there was a question.
    pub action: Option<String>,
    /// The ids of the policies that decided.
    pub policies: Vec<String>,
    /// The reason for a denial, or something unusual. It consists of our words and of names in the policy folder.
    pub detail: Option<String>,
    /// Facts about the caller for the API. Empty if the request is denied.
    pub context: BTreeMap<String, String>,
}

impl Decider {
    /// Decides by these policies. The constants of `providers.json` come from `issuers`.
    #[must_use]
    pub fn new(issuers: &Issuers, policies: Policies, engine: Engine) -> Self {
        let constants = issuers.iter().map(|(name, issuer)| (name.to_owned(), issuer.constants.clone())).collect();
        Self { policies, constants, engine }
    }

    /// Decides about a request to `route`, API Gateway's route key, with these path parameters.
    ///
    /// # Errors
    /// When Verified Permissions gives no answer. An unknown token, route or parameter is a denial.
    pub async fn decide(&self, verified: &Verified, route: &str, path: &BTreeMap<String, String>) -> Result<Decision, StepError> {
        let Some(route) = self.policies.routes.get(route) else { return Ok(Decision::denied(None, &Unasked::NoRoute)) };
        let action = Some(route.action.id().unescaped().to_owned());
        let principal = match self.principal(verified) {
            Ok(principal) => principal,
            Err(unasked) => return Ok(Decision::denied(action, &unasked)),
        };
        let question = match Question::of(&principal, route, path, &self.policies) {
            Ok(question) => question,
            Err(unasked) => return Ok(Decision::denied(action, &unasked)),
        };
        let ruling = self.engine.decide(&self.policies, &question).await?;
        let detail = detail(&ruling);
        let context = if ruling.allowed { context(verified, principal) } else { BTreeMap::new() };
        Ok(Decision { allowed: ruling.allowed, action, policies: ruling.policies, detail, context })
    }

    /// The principal of the token.
    pub(crate) fn principal(&self, verified: &Verified) -> Result<Principal, Unasked> {
        let provider = self.policies.providers.get(&verified.provider).ok_or(Unasked::NoProvider)?;
        Principal::of(verified, provider, self.constants.get(&verified.provider))
    }
}

impl Decision {
    fn denied(action: Option<String>, why: &Unasked) -> Self {
        Self { allowed: false, action, policies: Vec::new(), detail: Some(why.to_string()), context: BTreeMap::new() }
    }
}

/// Remarks beside the policies' ids.
fn detail(ruling: &Ruling) -> Option<String> {
    let failed = ruling.failed.iter().map(|id| format!("policy {id} could not be evaluated"));
    let silent = (!ruling.allowed && ruling.policies.is_empty()).then(|| "no policy allows it".to_owned());
    let parts: Vec<String> = silent.into_iter().chain(failed).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn context(verified: &Verified, principal: Principal) -> BTreeMap<String, String> {
    let mut context = principal.texts;
    let caller = [("provider", &verified.provider), ("issuer", &verified.issuer), ("subject", &verified.subject)];
    context.extend(caller.map(|(name, value)| (name.to_owned(), value.clone())));
    context.extend(verified.token_use.clone().map(|token_use| ("tokenUse".to_owned(), token_use)));
    context
}
