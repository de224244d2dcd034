//! The way of a request: event, token, decision, answer.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use runtime::{Field, StepError};
use serde_json::Value;

use crate::event::AuthorizerRequest;
use policies::Engine;
use policies::Issuers;
use policies::Policies;
use policies::token::{Options, Verified, Verifier, VerifierError, VerifyError};
use policies::{Decider, Decision};

/// API Gateway's authorizer.
pub struct Authorizer {
    verifier: Verifier,
    decider: Decider,
}

/// The fields of an invocation's one log line.
type Line = Vec<(Field, String)>;

impl Authorizer {
    /// Accepts the tokens of these issuers, as the policies' providers say, and decides by the policies.
    ///
    /// # Errors
    /// [`VerifierError`] is a mistake in the settings, for example an issuer that `providers.json` does not have.
    pub fn new(issuers: &Issuers, policies: Policies, engine: Engine, options: &Options) -> Result<Self, VerifierError> {
        let verifier = Verifier::new(issuers, &policies.token_uses(), options)?;
        Ok(Self { verifier, decider: Decider::new(issuers, policies, engine) })
    }

    /// Answers an event of API Gateway: payload 2.0 with a simple response, payload 1.0 and REST APIs with an IAM policy on
    /// exactly the method that was called. Any other event is denied.
    ///
    /// # Errors
    /// When nobody could decide, because the issuer's keys or Verified Permissions are unavailable. API Gateway then answers 500
    /// and caches nothing.
    pub async fn answer(&self, event: Value) -> Result<Value, StepError> {
        let request = AuthorizerRequest::read(&event);
        let (answer, line) = self.decide(&request).await;
        line.into_iter().for_each(|(field, value)| runtime::log_field(field, value));
        answer
    }

    async fn decide(&self, request: &AuthorizerRequest) -> (Result<Value, StepError>, Line) {
        let nobody = |outcome: &str, why: &str| {
            let mut line = vec![(Field::Outcome, outcome.to_owned()), (Field::Detail, why.to_owned())];
            line.extend(request.route.clone().map(|route| (Field::Route, route)));
            (Ok(request.answer(false, None, &BTreeMap::new())), line)
        };
        let route = match &request.route {
            Ok(route) => route,
            Err(why) => return nobody("denied", why),
        };
        let token = match &request.token {
            Ok(token) => token,
            Err(why) => return nobody("refused", why),
        };
        let verified = match self.verifier.verify(token).await {
            Ok(verified) => verified,
            Err(VerifyError::Refused(refused)) => return nobody("refused", &refused.to_string()),
            Err(VerifyError::KeysUnavailable) => {
                let line = vec![(Field::Route, route.clone())];
                return (Err(StepError::Unavailable { operation: "issuer:GetKeys" }), line);
            }
        };
        match self.decider.decide(&verified, route, &request.path).await {
            Ok(decision) => {
                let answer = request.answer(decision.allowed, Some(&verified.subject), &decision.context);
                (Ok(answer), line(&verified, route, &decision))
            }
            Err(error) => (Err(error), whose(&verified, route)),
        }
    }
}

/// The log fields of a decision: who, what, and by which policies. Of the claims they contain only `sub`, and never the token.
fn line(verified: &Verified, route: &str, decision: &Decision) -> Line {
    let mut line = whose(verified, route);
    line.push((Field::Outcome, if decision.allowed { "allowed" } else { "denied" }.to_owned()));
    line.extend(decision.action.clone().map(|action| (Field::Action, action)));
    if !decision.policies.is_empty() {
        line.push((Field::Policies, decision.policies.join(",")));
    }
    line.extend(decision.detail.clone().map(|detail| (Field::Detail, detail)));
    line
}

fn whose(verified: &Verified, route: &str) -> Line {
    let subject = runtime::logged_subject(&verified.subject);
    vec![(Field::Provider, verified.provider.clone()), (Field::Subject, subject), (Field::Route, route.to_owned())]
}
