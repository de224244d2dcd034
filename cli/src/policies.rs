//! The policies of a folder, checked and asked in this process: all that the command knows of the crate `authorize`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use authorize::token::{Options, Refused, Verifier, VerifyError};
use authorize::{Decider, Engine, Explanation, Issuers, Policies, PolicyErrors, store_template};
use secrecy::SecretString;

use crate::error::Environment;
use crate::outputs::Outputs;

/// What the policies say to a request with a token.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The token is good; this is what they decide about it, and why.
    Decided(Box<Explanation>),
    /// The token is no good, so that nobody asks them.
    Refused(Refused),
}

/// Reads and validates a folder.
///
/// # Errors
/// With everything that is wrong in it, a line each with its place.
pub(crate) fn load(folder: &Path) -> Result<Policies> {
    Policies::load(folder).map_err(|errors| refusal(folder, &errors))
}

/// The same, with what is wrong as values.
pub(crate) fn check(folder: &Path) -> Result<Policies, PolicyErrors> {
    Policies::load(folder)
}

/// What is wrong with a folder, for a person.
pub(crate) fn refusal(folder: &Path, errors: &PolicyErrors) -> anyhow::Error {
    anyhow!("the policies in {} do not validate:\n{errors}", folder.display())
}

/// A CloudFormation template of a policy store of Amazon Verified Permissions with a folder's schema and policies.
///
/// # Errors
/// As [`load`].
pub(crate) fn template(folder: &Path) -> Result<serde_json::Value> {
    Ok(store_template(&load(folder)?))
}

/// Asks the policies of a folder what a deployment's authorizer would ask them. Nothing is cached: a token that has a second
/// left is good.
///
/// # Errors
/// When the folder does not validate, the deployment's issuers do not fit it, or an issuer's keys cannot be had, for which
/// the process ends with [`crate::ExitCode::Environment`].
pub(crate) async fn ask(folder: &Path, outputs: &Outputs, token: &SecretString, method: &str, path: &str) -> Result<Verdict> {
    let policies = load(folder)?;
    let issuers: Issuers = outputs.stack_output("Issuers")?.parse().context("the deployment's output `Issuers`")?;
    let options = Options { cognito_endpoint: outputs.endpoint_url.clone(), ..Options::default() };
    let verifier = Verifier::new(&issuers, &policies.token_uses(), &options)
        .with_context(|| format!("the issuers of `{}` do not fit the policies in {}", outputs.stack, folder.display()))?;
    match verifier.verify(token).await {
        Ok(verified) => {
            let decider = Decider::new(&issuers, policies, Engine::InProcess);
            Ok(Verdict::Decided(Box::new(decider.explain(&verified, method, path))))
        }
        Err(VerifyError::Refused(refused)) => Ok(Verdict::Refused(refused)),
        Err(VerifyError::KeysUnavailable) => Err(Environment::lacks(
            "the keys of the token's issuer cannot be had from here, so nobody knows whether the token is good: is the issuer \
             reached from this machine?",
        )),
    }
}
