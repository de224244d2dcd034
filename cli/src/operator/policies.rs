//! The policies of a folder, checked and evaluated in this process by the crate `policies`.

use std::collections::BTreeSet;
use std::path::Path;

use ::policies::token::{Options, Refused, Verifier, VerifyError};
use ::policies::{Decider, Engine, Explanation, Issuers, Policies, PolicyErrors, store_template};
use anyhow::{Context, Result, anyhow, ensure};
use secrecy::SecretString;

use client::error::Environment;
use client::outputs::Outputs;

/// The answer to a token and a request.
#[derive(Debug)]
pub(crate) enum AuthorizeAnswer {
    /// The token is valid. The policies decided, for these reasons.
    Decided(Box<Explanation>),
    /// The token is invalid, so the policies were not asked.
    Refused(Refused),
}

/// Reads and validates a folder.
///
/// # Errors
/// Every error in the folder, one per line with its place.
pub(crate) fn load(folder: &Path) -> Result<Policies> {
    Policies::load(folder).map_err(|errors| refusal(folder, &errors))
}

/// Validates a folder for Sluice's own API, whose template is `template`. The folder must know every provider that the template
/// configures, or the authorizer would not start. It must know every route that the authorizer decides about, or nobody could use
/// it.
///
/// # Errors
/// As [`load`], or the providers and routes that the folder does not know.
pub(crate) fn check_for_api(folder: &Path, template: &str) -> Result<()> {
    let policies = load(folder)?;
    let described = policies.token_uses();
    let providers = template.split("\":{\"issuer\"").filter_map(|before| before.rsplit_once('"')).map(|(_, name)| name);
    let providers = providers.filter(|name| template.contains(&format!("\"{name}\":{{\"issuer\"")));
    // Without the routes that IAM authorizes.
    let routes = template.split("RouteKey: ").skip(1).filter_map(|it| it.split_once('\n'));
    let routes = routes.filter(|(_, rest)| !rest.trim_start().starts_with("AuthorizationType: AWS_IAM")).map(|it| it.0.trim());
    let unknown: BTreeSet<String> = providers
        .filter(|name| !described.contains_key(*name))
        .map(|name| format!("providers.json lacks `{name}`"))
        .chain(
            routes.filter(|route| policies.routes().all(|it| it != *route)).map(|route| format!("routes.json lacks `{route}`")),
        )
        .collect();
    let list = unknown.into_iter().collect::<Vec<_>>().join(", ");
    ensure!(list.is_empty(), "the policies in {} do not fit infra/api.yaml: {list}", folder.display());
    Ok(())
}

/// The same as [`load`], with the errors as values.
pub(crate) fn check(folder: &Path) -> Result<Policies, PolicyErrors> {
    Policies::load(folder)
}

/// The error text about a folder, for a person.
pub(crate) fn refusal(folder: &Path, errors: &PolicyErrors) -> anyhow::Error {
    anyhow!("the policies in {} do not validate:\n{errors}", folder.display())
}

/// A CloudFormation template of an Amazon Verified Permissions policy store with a folder's schema and policies.
///
/// # Errors
/// As [`load`].
pub(crate) fn template(folder: &Path) -> Result<serde_json::Value> {
    Ok(store_template(&load(folder)?))
}

/// Asks the policies of a folder as a deployment's authorizer would. Nothing is cached, so a token is good until its last second.
///
/// # Errors
/// When the folder does not validate, the deployment's issuers do not fit it, or an issuer's keys are unavailable. In the last
/// case the process ends with [`crate::ExitCode::Environment`].
pub(crate) async fn ask(
    folder: &Path,
    outputs: &Outputs,
    token: &SecretString,
    method: &str,
    path: &str,
) -> Result<AuthorizeAnswer> {
    let policies = load(folder)?;
    let issuers: Issuers = outputs.stack_output("Issuers")?.parse().context("the deployment's output `Issuers`")?;
    let options = Options { cognito_endpoint: outputs.endpoint_url.clone(), ..Options::default() };
    let verifier = Verifier::new(&issuers, &policies.token_uses(), &options)
        .with_context(|| format!("the issuers of `{}` do not fit the policies in {}", outputs.stack, folder.display()))?;
    match verifier.verify(token).await {
        Ok(verified) => {
            let decider = Decider::new(&issuers, policies, Engine::InProcess);
            Ok(AuthorizeAnswer::Decided(Box::new(decider.explain(&verified, method, path))))
        }
        Err(VerifyError::Refused(refused)) => Ok(AuthorizeAnswer::Refused(refused)),
        Err(VerifyError::KeysUnavailable) => Err(Environment::lacks(
            "the keys of the token's issuer cannot be had from here, so nobody knows whether the token is good: is the issuer \
             reached from this machine?",
        )),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::error::ExitCode;

    #[tokio::test]
    async fn unavailable_keys_end_the_command_with_exit_code_3() {
        const ISSUER: &str = "https://idp.example";
        let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "iss": ISSUER, "aud": "client", "sub": "canary", "token_use": "id", "iat": now, "exp": now + 600 });
        let token = format!("{}.{}.c2ln", part(json!({ "alg": "RS256", "kid": "1" })), part(claims));
        // Nobody listens there.
        let issuers =
            json!({ "institutes": { "issuer": ISSUER, "audiences": ["client"], "jwksUri": "http://127.0.0.1:1/keys" } });
        let outputs = outputs_of(&issuers.to_string());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workers/authorize/policies");
        let token = SecretString::from(token);
        let error = ask(&folder, &outputs, &token, "GET", "/er7").await.unwrap_err();
        assert_eq!(ExitCode::of(&error), ExitCode::Environment);
        let text = format!("{error:#}");
        assert!(text.contains("the keys of the token's issuer") && !text.contains("canary"), "{text}");

        let unfit = outputs_of("{\"strangers\": {\"issuer\": \"https://a.example\", \"audiences\": [\"1\"]}}");
        let error = format!("{:#}", ask(&folder, &unfit, &token, "GET", "/er7").await.unwrap_err());
        assert!(error.contains("do not fit the policies") && error.contains("`strangers`"), "{error}");
    }

    /// The outputs of a deployment with these issuers and nothing else.
    fn outputs_of(issuers: &str) -> Outputs {
        let names = [
            "stack",
            "apiUrl",
            "region",
            "userPoolId",
            "clientId",
            "identityPoolId",
            "bucket",
            "overflowBucket",
            "artifactBucket",
            "table",
            "topicArn",
            "queueUrl",
            "deadLetterQueueUrl",
            "stateMachineArn",
        ];
        let mut outputs: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
        outputs.insert("stackOutputs".to_owned(), json!({ "Issuers": issuers }));
        serde_json::from_value(outputs.into()).unwrap()
    }

    #[test]
    fn a_folder_that_does_not_know_the_apis_routes_and_providers_is_not_deployed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let template = std::fs::read_to_string(root.join("infra/api.yaml")).unwrap();
        check_for_api(&root.join("workers/authorize/policies"), &template).unwrap();
        let error = check_for_api(&root.join("examples/veterinary-clinic/policies"), &template).unwrap_err().to_string();
        for lacks in ["`institutes`", "`lake-staff`", "`partners`", "`POST /er7`", "`GET /institutes/{source}/er7`"] {
            assert!(error.contains(&format!("lacks {lacks}")), "{error}");
        }
    }
}
