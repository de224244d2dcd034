//! Tokens in place of the one that counts, and other ways to credentials. Here Cognito and STS decide, not the role.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_cognitoidentity::Client as Identity;
use aws_sdk_cognitoidentity::types::CognitoIdentityProvider;
use aws_sdk_cognitoidentityprovider::Client as Users;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType, AuthenticationResultType, ExplicitAuthFlowsType};
use aws_sdk_iam::Client as Iam;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::Client as Sts;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use client::outputs::User;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sluice_tests::{Harness, unique};

use super::rows::Expected::{self, Allowed, Open};
use super::world::{name_of, trust};
use crate::twins;

/// A way to credentials, or to other claims.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) tried: &'static str,
    /// What the sample's set-up would do. Where the role's policy and the pool's template have no part in it: open.
    pub(super) sample: Expected,
}

const fn row(id: &'static str, tried: &'static str, sample: Expected) -> Row {
    Row { id, tried, sample }
}

pub(super) const ROWS: &[Row] = &[
    row("token-access", "exchange the access token in place of the ID token", Open),
    row("token-other-client", "exchange an ID token of another app client of this user pool", Open),
    row("token-other-pool", "exchange an ID token of another user pool, under its own name and under ours", Open),
    row("token-changed", "exchange an ID token with another institute written into its claims", Open),
    row("token-unsigned", "exchange an ID token without a signature", Open),
    row("no-token", "get an identity, and credentials, without any token", Open),
    row("others-identity", "get credentials for another user's identity, with one's own token and without", Open),
    row("custom-role", "ask for a worker's role as `CustomRoleArn`", Open),
    row("classic-flow", "get an OpenID token, for the classic flow", Open),
    row("sts-id-token", "assume the users' role or a worker's at STS with the ID token", Open),
    row("sts-own-pool", "assume the users' role with a token of an identity pool of one's own", Open),
    row("sts-forged", "assume it with an unsigned token in the name of our identity pool", Open),
    row("own-claims", "set one's own `custom:read`, `custom:write`, `email_verified` with the access token", Allowed),
    row("sign-up-claims", "sign up with `custom:write`", Open),
];

/// How AWS refused: error code and message.
type Refusal = (String, String);

fn refusal<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> Result<Result<T, Refusal>> {
    match result {
        Ok(given) => Ok(Ok(given)),
        Err(SdkError::ServiceError(error)) => {
            let (code, message) = (error.err().code().unwrap_or_default(), error.err().message().unwrap_or_default());
            Ok(Err((code.to_owned(), message.to_owned())))
        }
        Err(error) => bail!("no answer: {error:?}"),
    }
}

/// Expects a refusal with this code, and this within its message.
fn refused<T>(outcome: &Result<T, Refusal>, code: &str, message: &str) -> Result<()> {
    match outcome {
        Ok(_) => bail!("it was allowed"),
        Err((its, text)) => {
            ensure!(its == code && text.contains(message), "it was refused with {its}: {text}");
            Ok(())
        }
    }
}

struct Scene {
    it: Harness,
    users: Users,
    identity: Identity,
    sts: Sts,
    provider: String,
    user: User,
    tokens: AuthenticationResultType,
}

impl Scene {
    async fn new() -> Result<Self> {
        let it = Harness::new()?;
        let users = Users::new(it.aws.config());
        let email = format!("{}@test.example", unique());
        let user =
            sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, &it.institute, &it.institute).await?;
        let tokens = sign_in(&users, &it.outputs.client_id, &user).await?;
        Ok(Self {
            identity: Identity::new(it.aws.config()),
            sts: Sts::new(it.aws.config()),
            provider: it.outputs.stack_output("UserPoolProviderName")?.to_owned(),
            users,
            user,
            tokens,
            it,
        })
    }

    fn id_token(&self) -> &str {
        self.tokens.id_token().unwrap_or_default()
    }

    /// The enhanced flow, as far as it goes.
    async fn exchange(&self, pool: &str, provider: &str, token: &str) -> Result<Result<Credentials, Refusal>> {
        let got = refusal(self.identity.get_id().identity_pool_id(pool).logins(provider, token).send().await)?;
        match got {
            Ok(got) => self.credentials(got.identity_id().unwrap_or_default(), Some((provider, token)), None).await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn credentials(
        &self,
        identity_id: &str,
        login: Option<(&str, &str)>,
        role: Option<&str>,
    ) -> Result<Result<Credentials, Refusal>> {
        let mut ask = self.identity.get_credentials_for_identity().identity_id(identity_id);
        if let Some((provider, token)) = login {
            ask = ask.logins(provider, token);
        }
        let given = refusal(ask.set_custom_role_arn(role.map(str::to_owned)).send().await)?;
        Ok(match given {
            Ok(given) => {
                let given = given.credentials.context("credentials")?;
                let (key, secret) = given.access_key_id.zip(given.secret_key).context("a key")?;
                Ok(Credentials::new(key, secret, given.session_token, None, "test"))
            }
            Err(refusal) => Err(refusal),
        })
    }

    async fn identity_of(&self, token: &str) -> Result<String> {
        let pool = &self.it.outputs.identity_pool_id;
        let got = self.identity.get_id().identity_pool_id(pool).logins(&self.provider, token).send().await?;
        got.identity_id.context("an identity")
    }

    async fn assume(&self, role: &str, token: &str) -> Result<Result<(), Refusal>> {
        let assume = self.sts.assume_role_with_web_identity().role_arn(role).role_session_name("session");
        Ok(refusal(assume.web_identity_token(token).send().await)?.map(drop))
    }

    /// An app client of this pool, made without a word about attributes, as the sample's is.
    async fn other_client(&self, pool: &str) -> Result<String> {
        let client = self.users.create_user_pool_client().user_pool_id(pool).client_name(unique());
        let client = client.explicit_auth_flows(ExplicitAuthFlowsType::AllowUserPasswordAuth).send().await?;
        client.user_pool_client.and_then(|it| it.client_id).context("an app client")
    }

    async fn worker_role(&self) -> Result<String> {
        let roles = twins::roles(&self.it, "pipeline").await?;
        let user_role = self.it.outputs.stack_output("UserRoleArn")?;
        Ok(user_role.replace(name_of(user_role), roles.get("StoreRole").context("a role")?))
    }

    async fn attempt(&self, id: &str) -> Result<()> {
        let (pool, provider) = (&self.it.outputs.identity_pool_id, self.provider.as_str());
        let user_role = self.it.outputs.stack_output("UserRoleArn")?;
        let not_authorized = "NotAuthorizedException";
        match id {
            "token-access" => {
                let access = self.tokens.access_token().context("an access token")?;
                refused(&self.exchange(pool, provider, access).await?, not_authorized, "Missing a required claim: aud")
            }
            "token-other-client" => {
                let client = self.other_client(&self.it.outputs.user_pool_id).await?;
                let other = sign_in(&self.users, &client, &self.user).await;
                self.users.delete_user_pool_client().user_pool_id(&self.it.outputs.user_pool_id).client_id(client).send().await?;
                let other = other?;
                let token = other.id_token().context("an ID token")?;
                refused(&self.exchange(pool, provider, token).await?, not_authorized, "not from a supported provider")
            }
            "token-other-pool" => {
                let made = self.users.create_user_pool().pool_name(unique()).send().await?;
                let other = made.user_pool.and_then(|it| it.id).context("a user pool")?;
                let user = self.user.email.as_str();
                let user = sluice::local::users::create_user(&self.it.aws, &other, user, "", "").await?;
                let tokens = sign_in(&self.users, &self.other_client(&other).await?, &user).await?;
                self.users.delete_user_pool().user_pool_id(&other).send().await?;
                let token = tokens.id_token().context("an ID token")?;
                let its_name = provider.replace(&self.it.outputs.user_pool_id, &other);
                refused(&self.exchange(pool, &its_name, token).await?, not_authorized, "not from a supported provider")?;
                refused(&self.exchange(pool, provider, token).await?, not_authorized, "Issuer doesn't match")
            }
            "token-changed" => {
                let token = with_claims(self.id_token(), |claims| claims["custom:read"] = json!("another"))?;
                refused(&self.exchange(pool, provider, &token).await?, not_authorized, "signature invalid")
            }
            "token-unsigned" => {
                let (head, rest) = self.id_token().split_once('.').context("a token")?;
                let (claims, _) = rest.split_once('.').context("claims")?;
                let none = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT" }).to_string());
                for token in [format!("{none}.{claims}."), format!("{head}.{claims}.")] {
                    refused(&self.exchange(pool, provider, &token).await?, not_authorized, "signature invalid")?;
                }
                Ok(())
            }
            "no-token" => {
                let got = refusal(self.identity.get_id().identity_pool_id(pool).send().await)?;
                refused(&got, not_authorized, "Unauthenticated access is not supported")?;
                let identity_id = self.identity_of(self.id_token()).await?;
                refused(&self.credentials(&identity_id, None, None).await?, not_authorized, "forbidden")
            }
            "others-identity" => {
                let other = self.it.admin().await?.token;
                let identity_id = self.identity_of(other.expose_secret()).await?;
                let own = Some((provider, self.id_token()));
                refused(&self.credentials(&identity_id, own, None).await?, not_authorized, "Logins don't match")?;
                let theirs = Some((provider, other.expose_secret()));
                ensure!(self.credentials(&identity_id, theirs, None).await?.is_ok(), "its owner gets credentials");
                Ok(())
            }
            // AWS may refuse the wish or not hear it; granted it must not be.
            "custom-role" => {
                let worker = self.worker_role().await?;
                let identity_id = self.identity_of(self.id_token()).await?;
                match self.credentials(&identity_id, Some((provider, self.id_token())), Some(&worker)).await? {
                    Err((code, _)) => ensure!(code == not_authorized || code == "InvalidParameterException", "{code}"),
                    Ok(credentials) => {
                        let endpoint = self.it.aws.endpoint_url().context("an endpoint")?;
                        let aws = Aws::with_credentials(endpoint, &self.it.outputs.region, credentials);
                        let caller = Sts::new(aws.config()).get_caller_identity().send().await?.arn.context("a caller")?;
                        ensure!(caller.contains(&format!("/{}/", name_of(user_role))), "the caller is {caller}");
                    }
                }
                Ok(())
            }
            "classic-flow" => {
                let identity_id = self.identity_of(self.id_token()).await?;
                let got = self.identity.get_open_id_token().identity_id(identity_id).logins(provider, self.id_token());
                refused(&refusal(got.send().await)?, "InvalidParameterException", "classic")
            }
            "sts-id-token" => {
                for role in [user_role, &self.worker_role().await?] {
                    refused(&self.assume(role, self.id_token()).await?, "AccessDenied", "AssumeRoleWithWebIdentity")?;
                }
                Ok(())
            }
            "sts-own-pool" => self.with_a_pool_of_ones_own(user_role).await,
            "sts-forged" => {
                let part = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
                let claims = json!({ "iss": "https://cognito-identity.amazonaws.com", "aud": pool, "sub": "x",
                    "amr": ["authenticated"], "exp": 4_102_444_800_u64 });
                let token = format!("{}.{}.{}", part(json!({ "alg": "RS256" })), part(claims), part(json!("x")));
                refused(&self.assume(user_role, &token).await?, "InvalidIdentityToken", "")
            }
            "own-claims" => self.own_claims().await,
            "sign-up-claims" => {
                let claim = AttributeType::builder().name("custom:write").value("another").build()?;
                let email = format!("{}@test.example", unique());
                let sign_up =
                    self.users.sign_up().client_id(&self.it.outputs.client_id).username(&email).password("Aa1!aaaaaaaaaaaa");
                refused(&refusal(sign_up.user_attributes(claim).send().await)?, not_authorized, "")
            }
            id => bail!("no attempt `{id}`"),
        }
    }

    /// An attacker's pool hands out genuine tokens, with any identity in it; but they are for that pool.
    async fn with_a_pool_of_ones_own(&self, user_role: &str) -> Result<()> {
        let users =
            CognitoIdentityProvider::builder().provider_name(&self.provider).client_id(&self.it.outputs.client_id).build();
        let create = self.identity.create_identity_pool().identity_pool_name(unique()).allow_unauthenticated_identities(false);
        let created = create.allow_classic_flow(true).cognito_identity_providers(users).send().await?;
        let own = created.identity_pool_id();
        let iam = Iam::new(self.it.aws.config());
        let role = format!("test-{}", unique());
        let trusting = iam.create_role().role_name(&role).assume_role_policy_document(trust(own).to_string()).send().await?;
        let outcome = async {
            let got = self.identity.get_id().identity_pool_id(own).logins(&self.provider, self.id_token()).send().await?;
            let identity_id = got.identity_id().unwrap_or_default();
            let token = self.identity.get_open_id_token().identity_id(identity_id).logins(&self.provider, self.id_token());
            let token = token.send().await?.token.context("an OpenID token")?;
            let trusting = self.assume(trusting.role().context("a role")?.arn(), &token).await?;
            ensure!(trusting.is_ok(), "a role that trusts that pool can be assumed: {trusting:?}");
            refused(&self.assume(user_role, &token).await?, "AccessDenied", "AssumeRoleWithWebIdentity")
        };
        let outcome = outcome.await;
        iam.delete_role().role_name(&role).send().await?;
        self.identity.delete_identity_pool().identity_pool_id(own).send().await?;
        outcome
    }

    async fn own_claims(&self) -> Result<()> {
        let update = async |tokens: &AuthenticationResultType, name: &str, value: &str| {
            let attribute = AttributeType::builder().name(name).value(value).build()?;
            let update = self.users.update_user_attributes().set_access_token(tokens.access_token().map(str::to_owned));
            Ok::<_, anyhow::Error>(refusal(update.user_attributes(attribute).send().await)?.map(drop))
        };
        for (name, value) in [("custom:read", "another"), ("custom:write", "another"), ("email_verified", "true")] {
            let outcome = update(&self.tokens, name, value).await?;
            refused(&outcome, "NotAuthorizedException", "unauthorized attribute").context(name)?;
        }
        ensure!(update(&self.tokens, "name", "Jane").await?.is_ok(), "one's own name is one's own");
        let pool = &self.it.outputs.user_pool_id;
        let user = self.users.admin_get_user().user_pool_id(pool).username(&self.user.email).send().await?;
        for claim in ["custom:read", "custom:write"] {
            let found = user.user_attributes().iter().find(|it| it.name() == claim).and_then(|it| it.value());
            ensure!(found == Some(self.it.institute.as_str()), "{claim} is {found:?}");
        }
        // The sample's app client has no WriteAttributes, and then every mutable attribute may be written.
        let client = self.other_client(pool).await?;
        let outcome = async { update(&sign_in(&self.users, &client, &self.user).await?, "custom:write", "another").await };
        let outcome = outcome.await;
        self.users.delete_user_pool_client().user_pool_id(pool).client_id(client).send().await?;
        ensure!(outcome?.is_ok(), "without WriteAttributes a user sets the own institute");
        Ok(())
    }
}

async fn sign_in(users: &Users, client_id: &str, user: &User) -> Result<AuthenticationResultType> {
    let auth = users.initiate_auth().client_id(client_id).auth_flow(AuthFlowType::UserPasswordAuth);
    let auth = auth.auth_parameters("USERNAME", &user.email).auth_parameters("PASSWORD", user.password.expose_secret());
    auth.send().await?.authentication_result.context("tokens")
}

fn with_claims(token: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().ok().context("three parts")?;
    let mut claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    change(&mut claims);
    Ok(format!("{head}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
}

#[tokio::test]
async fn only_an_id_token_of_this_deployment_gives_credentials() -> Result<()> {
    let scene = Scene::new().await?;
    let exchanged = scene.exchange(&scene.it.outputs.identity_pool_id, &scene.provider, scene.id_token()).await?;
    ensure!(exchanged.is_ok(), "the twin of all: the right token in the right place");
    let mut wrong = Vec::new();
    for row in ROWS {
        if let Err(error) = scene.attempt(row.id).await {
            wrong.push(format!("`{}`: {error:#}", row.id));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
