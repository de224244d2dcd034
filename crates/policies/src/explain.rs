//! Why a token may do something, or may not, for a person to read.

use cedar_policy::RequestEnv;
use serde::Serialize;

use crate::decider::Decider;
use crate::engine::decide_here;
use crate::policies::PolicySource;
use crate::question::{Question, Unasked};
use crate::token::Verified;

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The issuer's name in the deployment.
    pub provider: String,
    /// `sub`.
    pub subject: String,
    /// `token_use`, if the token has it.
    pub token_use: Option<String>,
    /// The route key, if the folder knows the route.
    pub route: Option<String>,
    /// The action of the question, such as `read`.
    pub action: Option<String>,
    /// In Cedar's notation, `Sluice::InstituteUser::"…"`.
    pub principal: Option<String>,
    /// In Cedar's notation, if the request names one.
    pub resource: Option<String>,
    /// `allow` or `deny`.
    pub decision: &'static str,
    /// One sentence.
    pub reason: String,
    /// The policies that decided.
    pub policies: Vec<PolicySource>,
    /// The other policies about this action, for principals and resources of these types.
    pub considered: Vec<ConsideredPolicy>,
}

/// A policy that did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsideredPolicy {
    /// The policy.
    #[serde(flatten)]
    pub policy: PolicySource,
    /// Why it did not decide.
    pub why: String,
}

impl Decider {
    /// Explains the decision about a request with a verified token.
    #[must_use]
    pub fn explain(&self, verified: &Verified, method: &str, path: &str) -> Explanation {
        let mut explanation = Explanation {
            provider: verified.provider.clone(),
            subject: verified.subject.clone(),
            token_use: verified.token_use.clone(),
            route: None,
            action: None,
            principal: None,
            resource: None,
            decision: "deny",
            reason: String::new(),
            policies: Vec::new(),
            considered: Vec::new(),
        };
        let found = self.policies.routes.find(method, path);
        if let Some(found) = &found {
            explanation.route = Some(found.key.to_owned());
            explanation.action = Some(found.route.action.id().unescaped().to_owned());
        }
        let principal = match self.principal(verified) {
            Ok(principal) => principal,
            Err(unasked) => return Explanation { reason: unasked.to_string(), ..explanation },
        };
        explanation.principal = Some(principal.entity.uid().to_string());
        let Some(found) = found else {
            return Explanation { reason: Unasked::NoRoute.to_string(), ..explanation };
        };
        let types = (principal.entity.uid().type_name().clone(), found.route.resource.clone());
        let about = RequestEnv::new(types.0, found.route.action.clone(), types.1);
        let question = match Question::of(&principal, found.route, &found.path, &self.policies) {
            Ok(question) => question,
            Err(unasked) => {
                let considered = self.about(&about).map(|policy| policy.not("it was not evaluated"));
                return Explanation { reason: unasked.to_string(), considered: considered.collect(), ..explanation };
            }
        };
        explanation.resource = Some(question.resource.to_string());

        let ruling = decide_here(&self.policies, &question);
        let decided = |policy: &PolicySource| ruling.policies.contains(&policy.id);
        let considered = self.about(&about).filter(|policy| !decided(policy)).map(|policy| {
            let failed = ruling.failed.contains(&policy.id);
            policy.not(if failed {
                "it could not be evaluated: something that it asks for is not there"
            } else {
                "its scope or its conditions do not hold"
            })
        });
        explanation.considered = considered.collect();
        explanation.policies = self.policies.iter().filter(|policy| decided(policy)).cloned().collect();
        explanation.decision = if ruling.allowed { "allow" } else { "deny" };
        explanation.reason = match (ruling.allowed, explanation.policies.is_empty(), explanation.considered.is_empty()) {
            (true, ..) => format!("permitted by {}", ruling.policies.join(", ")),
            (false, false, _) => format!("forbidden by {}", ruling.policies.join(", ")),
            (false, true, false) => "no policy permits it: the conditions of those about it do not hold".to_owned(),
            (false, true, true) => "no policy permits it: no policy applies to this action and resource".to_owned(),
        };
        explanation
    }

    /// The policies that apply to the principal, action and resource types of such a request.
    fn about(&self, request: &RequestEnv) -> impl Iterator<Item = &PolicySource> {
        let schema = &self.policies.schema.cedar;
        self.policies.iter().filter(move |source| {
            let policy = self.policies.set.policies().find(|policy| policy.annotation("id") == Some(&source.id));
            policy.is_some_and(|policy| policy.get_valid_request_envs(schema).any(|it| it == *request))
        })
    }
}

impl PolicySource {
    fn not(&self, why: &str) -> ConsideredPolicy {
        ConsideredPolicy { policy: self.clone(), why: why.to_owned() }
    }
}
