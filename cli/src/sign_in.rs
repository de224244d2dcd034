//! Signing in, and what a user may do with the token then: exchange it for AWS credentials.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_cognitoidentityprovider::types::AuthFlowType;
use aws_sdk_s3::config::Credentials;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::Aws;
use crate::error::explain;
use crate::outputs::{Outputs, User};
use crate::wait::within;

const DEADLINE: Duration = Duration::from_secs(30);

/// Signs a user in with name and password, as the user's own program would, and gives the ID token.
///
/// # Errors
/// When Cognito refuses, or wants more than a password.
pub async fn sign_in(aws: &Aws, client_id: &str, user: &User) -> Result<SecretString> {
    within(DEADLINE, "signing in", async {
        let answer = aws_sdk_cognitoidentityprovider::Client::new(aws.config())
            .initiate_auth()
            .client_id(client_id)
            .auth_flow(AuthFlowType::UserPasswordAuth)
            .auth_parameters("USERNAME", &user.email)
            .auth_parameters("PASSWORD", user.password.expose_secret())
            .send()
            .await
            .map_err(explain(format!("signing in as `{}`", user.email)))?;
        let token = answer.authentication_result.and_then(|result| result.id_token);
        token.map(SecretString::from).context("the sign-in gave no ID token; does it ask for a second factor?")
    })
    .await
}

/// Exchanges an ID token for the AWS credentials of its user. Whoever holds a token can do this.
///
/// # Errors
/// When Cognito refuses the token.
pub async fn exchange(aws: &Aws, outputs: &Outputs, token: &SecretString) -> Result<Credentials> {
    let provider =
        outputs.stack_outputs.get("UserPoolProviderName").context("the deployment has no output `UserPoolProviderName`")?;
    let client = aws_sdk_cognitoidentity::Client::new(aws.config());
    within(DEADLINE, "exchanging a token", async {
        let identity = client
            .get_id()
            .identity_pool_id(&outputs.identity_pool_id)
            .logins(provider, token.expose_secret())
            .send()
            .await
            .map_err(explain("cognito-identity GetId"))?;
        let answer = client
            .get_credentials_for_identity()
            .identity_id(identity.identity_id().unwrap_or_default())
            .logins(provider, token.expose_secret())
            .send()
            .await
            .map_err(explain("cognito-identity GetCredentialsForIdentity"))?;
        let given = answer.credentials.context("the identity pool gave no credentials")?;
        let (key, secret) = given.access_key_id.zip(given.secret_key).context("the credentials have no key")?;
        Ok(Credentials::new(key, secret, given.session_token, None, "identity pool"))
    })
    .await
}
