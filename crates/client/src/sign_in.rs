//! Signs a user in, and exchanges the ID token for AWS credentials.
//!
//! People sign in by SRP ([`UserPool::sign_in`]): the password never leaves the machine, only a proof that it is known.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use aws_cognito_srp::{SrpClient, User as SrpUser};
use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::operation::initiate_auth::InitiateAuthOutput;
use aws_sdk_cognitoidentityprovider::operation::respond_to_auth_challenge::RespondToAuthChallengeOutput;
use aws_sdk_cognitoidentityprovider::types::{
    AuthFlowType, AuthenticationResultType, ChallengeNameType, SoftwareTokenMfaSettingsType, VerifySoftwareTokenResponseType,
};
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::RequestId;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::Aws;
use crate::deployment::Deployment;
use crate::error::explain;
use crate::outputs::User;
use crate::tokens::Tokens;
use crate::wait::within;

const DEADLINE: Duration = Duration::from_secs(30);

/// Password, new password, set-up of a second factor, its code: a pool asks for no more in one sign-in.
const MAX_CHALLENGES: usize = 6;

/// Answers the questions that the pool asks besides the password.
pub trait Person: Send {
    /// A password in place of the temporary one.
    ///
    /// # Errors
    /// When there is nobody to ask.
    fn new_password(&mut self) -> Result<SecretString>;

    /// The digits that the user's authenticator shows now.
    ///
    /// # Errors
    /// When there is nobody to ask.
    fn code(&mut self) -> Result<String>;

    /// Shows the `otpauth:` URI to set up an authenticator with. The next call is [`Person::code`].
    ///
    /// # Errors
    /// When it cannot be shown.
    fn add_authenticator(&mut self, uri: &SecretString) -> Result<()>;
}

/// The user pool of a deployment, for an account in it without AWS credentials.
#[derive(Debug, Clone)]
pub struct UserPool {
    client: Client,
    id: String,
    client_id: String,
}

/// The next question of the pool.
struct Challenge {
    name: ChallengeNameType,
    session: Option<String>,
}

impl UserPool {
    /// The pool of a deployment.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let aws = Aws::anonymous(deployment.endpoint_url.as_deref(), &deployment.region);
        Self { client: Client::new(aws.config()), id: deployment.user_pool_id.clone(), client_id: deployment.client_id.clone() }
    }

    /// Signs in by SRP. `person` answers the pool's other questions.
    ///
    /// # Errors
    /// When Cognito refuses, in one sentence for the user; or when it asks a question that only another program can answer.
    pub async fn sign_in(&self, email: &str, password: &SecretString, person: &mut dyn Person) -> Result<Tokens> {
        let srp = SrpClient::new(SrpUser::new(&self.id, email, password.expose_secret()), &self.client_id, None);
        let started = self.start(&srp).await?;
        let parameters = started.challenge_parameters.unwrap_or_default();
        let parameter = |name: &str| {
            let value = parameters.get(name).map(String::as_str);
            value.with_context(|| format!("the user pool's challenge has no {name}"))
        };
        let username = parameter("USER_ID_FOR_SRP")?;
        // The salt is a number in hexadecimal. The library takes it as bytes, in which a leading zero would count.
        let salt = parameter("SALT")?.trim_start_matches('0');
        let proof = srp
            .verify(parameter("SECRET_BLOCK")?, username, salt, parameter("SRP_B")?)
            .map_err(|_| anyhow!("the user pool sent an invalid SRP challenge"))?;
        let answers = [
            ("PASSWORD_CLAIM_SECRET_BLOCK", proof.password_claim_secret_block),
            ("PASSWORD_CLAIM_SIGNATURE", proof.password_claim_signature),
            ("TIMESTAMP", proof.timestamp),
        ];
        let verifier = Challenge { name: ChallengeNameType::PasswordVerifier, session: started.session };
        let mut answered = self.answer(verifier, username, answers).await?;

        for _ in 0..MAX_CHALLENGES {
            if let Some(result) = answered.authentication_result {
                return tokens(result, None);
            }
            let name = answered.challenge_name.context("the user pool gave neither tokens nor a challenge")?;
            let challenge = Challenge { name, session: answered.session };
            answered = self.meet(challenge, username, email, person).await?;
        }
        bail!("the user pool keeps asking for another challenge")
    }

    async fn start(&self, srp: &SrpClient<SrpUser>) -> Result<InitiateAuthOutput> {
        let parameters = srp.get_auth_parameters();
        let call = async {
            let answer = self
                .client
                .initiate_auth()
                .client_id(&self.client_id)
                .auth_flow(AuthFlowType::UserSrpAuth)
                .auth_parameters("USERNAME", parameters.username)
                .auth_parameters("SRP_A", parameters.a)
                .send()
                .await
                .map_err(refusal)?;
            match answer.challenge_name {
                Some(ChallengeNameType::PasswordVerifier) => Ok(answer),
                _ => bail!("the user pool does not support SRP"),
            }
        };
        within(DEADLINE, "signing in", call).await
    }

    /// Lets the person answer a challenge.
    async fn meet(
        &self,
        challenge: Challenge,
        username: &str,
        email: &str,
        person: &mut dyn Person,
    ) -> Result<RespondToAuthChallengeOutput> {
        match challenge.name {
            ChallengeNameType::NewPasswordRequired => {
                let password = person.new_password()?;
                self.answer(challenge, username, [("NEW_PASSWORD", password.expose_secret().to_owned())]).await
            }
            ChallengeNameType::SoftwareTokenMfa => {
                let code = person.code()?;
                self.answer(challenge, username, [("SOFTWARE_TOKEN_MFA_CODE", code)]).await
            }
            ChallengeNameType::MfaSetup => {
                let session = self.associate(None, challenge.session, email, person).await?;
                let challenge = Challenge { name: ChallengeNameType::MfaSetup, session };
                self.answer::<0>(challenge, username, []).await
            }
            other => bail!("the account wants `{other}`, which this program cannot answer: sign in through the browser"),
        }
    }

    async fn answer<const N: usize>(
        &self,
        challenge: Challenge,
        username: &str,
        answers: [(&str, String); N],
    ) -> Result<RespondToAuthChallengeOutput> {
        let mut call = self
            .client
            .respond_to_auth_challenge()
            .client_id(&self.client_id)
            .challenge_name(challenge.name)
            .set_session(challenge.session)
            .challenge_responses("USERNAME", username);
        for (name, value) in answers {
            call = call.challenge_responses(name, value);
        }
        within(DEADLINE, "signing in", async { call.send().await.map_err(refusal) }).await
    }

    /// Gives a signed-in user a second factor: an authenticator that shows a code every 30 s (TOTP, RFC 6238).
    ///
    /// # Errors
    /// When the pool has no second factor, or the code is wrong.
    pub async fn set_up_totp(&self, access_token: &SecretString, email: &str, person: &mut dyn Person) -> Result<()> {
        self.associate(Some(access_token), None, email, person).await?;
        let preference = SoftwareTokenMfaSettingsType::builder().enabled(true).preferred_mfa(true).build();
        let call = self
            .client
            .set_user_mfa_preference()
            .access_token(access_token.expose_secret())
            .software_token_mfa_settings(preference);
        within(DEADLINE, "setting the second factor", async { call.send().await.map_err(refusal) }).await?;
        Ok(())
    }

    /// Lets the person set up an authenticator, and returns the session to continue with.
    async fn associate(
        &self,
        access_token: Option<&SecretString>,
        session: Option<String>,
        email: &str,
        person: &mut dyn Person,
    ) -> Result<Option<String>> {
        let access_token = access_token.map(|token| token.expose_secret().to_owned());
        let call = self.client.associate_software_token().set_access_token(access_token.clone()).set_session(session).send();
        let associated = within(DEADLINE, "setting up an authenticator", async { call.await.map_err(refusal) }).await?;
        let secret = associated.secret_code.context("the user pool gave no secret for an authenticator")?;
        person.add_authenticator(&SecretString::from(format!("otpauth://totp/Sluice:{email}?secret={secret}&issuer=Sluice")))?;
        let call = self
            .client
            .verify_software_token()
            .set_access_token(access_token)
            .set_session(associated.session)
            .user_code(person.code()?)
            .friendly_device_name("sluice")
            .send();
        let verified = within(DEADLINE, "setting up an authenticator", async { call.await.map_err(refusal) }).await?;
        match verified.status {
            Some(VerifySoftwareTokenResponseType::Success) => Ok(verified.session),
            _ => bail!("the code is wrong: see whether this machine's clock and the authenticator's agree"),
        }
    }

    /// Gets a new ID token and a new access token. `None` when Cognito no longer accepts the refresh token.
    ///
    /// # Errors
    /// When Cognito cannot be asked.
    pub async fn refresh(&self, refresh_token: &SecretString) -> Result<Option<Tokens>> {
        let call = self
            .client
            .initiate_auth()
            .client_id(&self.client_id)
            .auth_flow(AuthFlowType::RefreshTokenAuth)
            .auth_parameters("REFRESH_TOKEN", refresh_token.expose_secret());
        within(DEADLINE, "refreshing the sign-in", async {
            match call.send().await {
                Ok(answer) => {
                    let result = answer.authentication_result.context("the refresh gave no tokens")?;
                    tokens(result, Some(refresh_token)).map(Some)
                }
                // The pool or its app client is gone, or the user may no longer sign in.
                Err(error) if error.as_service_error().is_some_and(|error| is_final(error.code())) => Ok(None),
                Err(error) => Err(refusal(error)),
            }
        })
        .await
    }

    /// Ends the sign-in that the refresh token belongs to, wherever it is used.
    ///
    /// # Errors
    /// When Cognito cannot be asked.
    pub async fn revoke(&self, refresh_token: &SecretString) -> Result<()> {
        let call = self.client.revoke_token().client_id(&self.client_id).token(refresh_token.expose_secret());
        within(DEADLINE, "signing out", async { call.send().await.map_err(refusal) }).await?;
        Ok(())
    }
}

/// `kept` is the present refresh token, which a refresh does not return.
fn tokens(result: AuthenticationResultType, kept: Option<&SecretString>) -> Result<Tokens> {
    let (Some(id), Some(access)) = (result.id_token, result.access_token) else {
        bail!("the sign-in gave no tokens");
    };
    let refresh = result.refresh_token.map(SecretString::from).or_else(|| kept.cloned());
    let refresh = refresh.context("the sign-in gave no refresh token")?;
    Ok(Tokens { id: SecretString::from(id), access: SecretString::from(access), refresh })
}

/// Whether an error says that a refresh token has become useless.
fn is_final(code: Option<&str>) -> bool {
    matches!(code, Some("NotAuthorizedException" | "UserNotFoundException" | "ResourceNotFoundException"))
}

/// Turns Cognito's refusal into a sentence for the user who signs in.
fn refusal<E, R>(error: SdkError<E, R>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + 'static,
    SdkError<E, R>: RequestId,
{
    let Some(service) = error.as_service_error() else {
        return explain("the user pool cannot be reached")(error);
    };
    match service.code().unwrap_or_default() {
        // Cognito does not tell a wrong password from an unknown name, on purpose.
        "NotAuthorizedException" | "UserNotFoundException" => {
            let message = service.message().unwrap_or_default().trim_end_matches('.');
            anyhow!("the sign-in was refused: {message}")
        }
        "UserNotConfirmedException" => anyhow!("the account's e-mail address is not confirmed yet"),
        "PasswordResetRequiredException" => anyhow!("the account needs a new password: ask this deployment's operator"),
        "InvalidPasswordException" => {
            anyhow!("the new password was refused: {}", service.message().unwrap_or_default().trim_end_matches('.'))
        }
        "CodeMismatchException" | "EnableSoftwareTokenMFAException" => {
            anyhow!("the code is wrong: see whether this machine's clock and the authenticator's agree")
        }
        "ExpiredCodeException" => anyhow!("the code came too late: sign in again"),
        "TooManyRequestsException" | "LimitExceededException" | "TooManyFailedAttemptsException" => {
            anyhow!("too many tries: wait a few minutes and sign in again")
        }
        _ => explain("the user pool")(error),
    }
}

/// Signs a user in with name and password, as a program without SRP would, and gives the ID token.
///
/// # Errors
/// When Cognito refuses, or wants more than a password.
pub async fn sign_in(aws: &Aws, client_id: &str, user: &User) -> Result<SecretString> {
    within(DEADLINE, "signing in", async {
        let answer = Client::new(aws.config())
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

/// Exchanges an ID token for the AWS credentials of its user. Any holder of a token can do this.
///
/// # Errors
/// When Cognito refuses the token.
pub async fn exchange(deployment: &Deployment, token: &SecretString) -> Result<Credentials> {
    let aws = Aws::anonymous(deployment.endpoint_url.as_deref(), &deployment.region);
    let client = aws_sdk_cognitoidentity::Client::new(aws.config());
    let provider = &deployment.user_pool_provider_name;
    within(DEADLINE, "exchanging a token", async {
        let identity = client
            .get_id()
            .identity_pool_id(&deployment.identity_pool_id)
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
        let expiration = given.expiration.and_then(|it| SystemTime::try_from(it).ok());
        Ok(Credentials::new(key, secret, given.session_token, expiration, "identity pool"))
    })
    .await
}
