//! The user pool's doors beside SRP: the sign-in pages with PKCE, refreshing, a second factor; and what none of them lets a
//! user do.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType, AuthenticationResultType, ChallengeNameType};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use client::deployment::Deployment;
use client::outputs::User;
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_tests::{Caller, Harness, adt, unique};

/// Where the browser client comes back to in the local system.
const CALLBACK: &str = "http://localhost:8080/callback";

/// A browser with an application of ours in it, which keeps what it is sent to instead of going there.
pub(crate) struct Browser {
    endpoint: String,
    client_id: String,
    http: reqwest::Client,
}

/// What a browser is answered.
pub(crate) struct Page {
    status: u16,
    location: Option<Url>,
    body: String,
}

impl Page {
    /// A parameter of the address that the browser is sent to.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.location.as_ref()?.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

impl Browser {
    pub(crate) fn new(it: &Harness) -> Result<Self> {
        Ok(Self {
            endpoint: it.outputs.endpoint_url.clone().context("an endpoint")?,
            client_id: it.outputs.stack_output("BrowserClientId")?.to_owned(),
            http: reqwest::Client::builder().redirect(Policy::none()).build()?,
        })
    }

    /// The same for the lake's staff, who have pages of their own.
    fn of_staff(it: &Harness) -> Result<Self> {
        Ok(Self { client_id: it.outputs.stack_output("StaffUserPoolClientId")?.to_owned(), ..Self::new(it)? })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Page> {
        let response = request.send().await?;
        let location = response.headers().get("location").map(|it| it.to_str()).transpose()?;
        let location = location.map(Url::parse).transpose()?;
        Ok(Page { status: response.status().as_u16(), location, body: response.text().await? })
    }

    /// Asks for a code, with these parameters in place of or beside the usual ones.
    pub(crate) async fn authorize(&self, parameters: &[(&str, &str)]) -> Result<Page> {
        let usual = [
            ("client_id", self.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid email profile er7/read er7/write"),
        ];
        let usual = usual.iter().filter(|(name, _)| parameters.iter().all(|(other, _)| other != name));
        let url = Url::parse_with_params(&format!("{}/oauth2/authorize", self.endpoint), usual.chain(parameters))?;
        self.send(self.http.get(url)).await
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Page> {
        let form = Url::parse_with_params("form:/", form)?.query().unwrap_or_default().to_owned();
        let request = self.http.post(format!("{}{path}", self.endpoint)).body(form);
        self.send(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// Signs a user in on the page, for a code that goes with this challenge.
    async fn sign_in(&self, user: &User, challenge: &str) -> Result<Page> {
        let pkce = [("code_challenge", challenge), ("code_challenge_method", "S256"), ("state", "mine")];
        let page = self.authorize(&pkce).await?;
        anyhow::ensure!(page.status == 200 && page.body.contains("password"), "no sign-in page: {}", page.status);
        let form = [
            ("client_id", self.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid email profile er7/read er7/write"),
            ("username", &user.email),
            ("password", user.password.expose_secret()),
        ];
        self.post("/login", &[&form[..], &pkce].concat()).await
    }

    /// Asks the token endpoint; an error is in the answer.
    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Result<Value> {
        let usual = [("client_id", self.client_id.as_str()), ("redirect_uri", CALLBACK)];
        Ok(serde_json::from_str(&self.post("/oauth2/token", &[&usual[..], form].concat()).await?.body)?)
    }
}

fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// What a token says. Whether it is genuine is the API's and the identity pool's to find out.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn a_user(it: &Harness) -> Result<User> {
    let email = format!("{}@test.example", unique());
    sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, &it.institute, &it.institute).await
}

/// The answer to name and password: tokens, or a challenge.
async fn sign_in(
    it: &Harness,
    user: &User,
) -> Result<aws_sdk_cognitoidentityprovider::operation::initiate_auth::InitiateAuthOutput> {
    let request = Cognito::new(it.aws.config()).initiate_auth().client_id(&it.outputs.client_id);
    let request = request.auth_flow(AuthFlowType::UserPasswordAuth).auth_parameters("USERNAME", &user.email);
    Ok(request.auth_parameters("PASSWORD", user.password.expose_secret()).send().await?)
}

async fn tokens(it: &Harness, user: &User) -> Result<AuthenticationResultType> {
    sign_in(it, user).await?.authentication_result.context("tokens")
}

#[tokio::test]
async fn a_browser_signs_in_with_a_code_and_the_verifier_that_belongs_to_it() -> Result<()> {
    let it = Harness::new()?;
    let (user, browser) = (a_user(&it).await?, Browser::new(&it)?);
    let verifier = format!("{}{}", unique(), unique());
    let page = browser.sign_in(&user, &challenge(&verifier)).await?;
    let code = page.query("code").context("a code")?;
    assert!(page.location.is_some_and(|it| it.as_str().starts_with(CALLBACK)));
    let exchange = async |form: &[(&str, &str)]| {
        browser.token(&[&[("grant_type", "authorization_code"), ("code", &code)], form].concat()).await
    };
    // Whoever intercepts the code has no verifier.
    assert_eq!(exchange(&[]).await?["error"], "invalid_grant");
    assert_eq!(exchange(&[("code_verifier", &unique())]).await?["error"], "invalid_grant");
    let tokens = exchange(&[("code_verifier", &verifier)]).await?;
    assert_eq!(exchange(&[("code_verifier", &verifier)]).await?["error"], "invalid_grant", "a code is for once");

    let (id, access) = (tokens["id_token"].as_str().unwrap(), claims(tokens["access_token"].as_str().unwrap()));
    assert_eq!(claims(id)["aud"], browser.client_id.as_str());
    assert_eq!(claims(id)["custom:write"], it.institute.as_str());
    assert!(claims(id)["scope"].is_null(), "the ID token has no scope");
    let scopes: BTreeSet<&str> = access["scope"].as_str().unwrap().split(' ').collect();
    assert_eq!(scopes, BTreeSet::from(["openid", "email", "profile", "er7/read", "er7/write"]));
    // The API takes it, and so does the identity pool: that is how the message gets into the lake.
    let (_, status) = it.store(&Caller { token: id.into() }, &adt(&unique(), "DOE")).await?;
    assert_eq!(status["status"], "stored");

    // A wrong password gets the page again.
    let wrong = User { password: "Wrong-Horse-10".to_owned().into(), ..user };
    let page = browser.sign_in(&wrong, &challenge(&verifier)).await?;
    assert_eq!((page.status, page.location), (200, None));
    Ok(())
}

#[tokio::test]
async fn no_code_goes_elsewhere_or_to_another_client_and_no_token_comes_without_one() -> Result<()> {
    let (it, refused) = (Harness::new()?, |page: &Page| page.status == 400 || page.query("error").is_some());
    let browser = Browser::new(&it)?;
    assert_eq!(browser.authorize(&[]).await?.status, 200);
    for parameters in [
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", "http://localhost:8080/callback/../evil"),
        ("response_type", "token"),
        ("client_id", &it.outputs.client_id),
        ("client_id", "nobody"),
        ("scope", "openid aws.cognito.signin.user.admin"),
        ("code_challenge", "plain"),
    ] {
        let page = browser.authorize(&[parameters]).await?;
        assert!(refused(&page), "{parameters:?}: {} {:?}", page.status, page.location);
    }
    let password = [("grant_type", "password"), ("username", "admin@general-hospital.example"), ("password", "x")];
    assert!(browser.token(&password).await?["error"].is_string());
    assert!(browser.token(&[("grant_type", "client_credentials")]).await?["error"].is_string());
    Ok(())
}

#[tokio::test]
async fn staff_sign_in_on_pages_of_their_own_and_nowhere_else() -> Result<()> {
    let it = Harness::new()?;
    let (browser, verifier) = (Browser::of_staff(&it)?, format!("{}{}", unique(), unique()));
    let (challenge, scope) = (challenge(&verifier), ("scope", "openid email profile"));
    let pkce = [("code_challenge", challenge.as_str()), ("code_challenge_method", "S256"), scope];
    assert_eq!(browser.authorize(&pkce).await?.status, 200);
    for refused in [
        ("scope", "openid aws.cognito.signin.user.admin"),
        ("scope", "openid er7/read"),
        ("redirect_uri", "https://evil.example/callback"),
        ("response_type", "token"),
    ] {
        let page = browser.authorize(&[refused]).await?;
        assert!(page.status == 400 || page.query("error").is_some(), "{refused:?}: {}", page.status);
    }
    let sign_in = async |user: &User| {
        let form = [
            ("client_id", browser.client_id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("username", &user.email),
            ("password", user.password.expose_secret()),
        ];
        browser.post("/login", &[&form[..], &pkce].concat()).await
    };
    // An institute's user is unknown there.
    assert_eq!(sign_in(&a_user(&it).await?).await?.query("code"), None);
    let staff = it.outputs.users.iter().find(|it| it.pool.is_some()).context("lake staff")?;
    let code = sign_in(staff).await?.query("code").context("a code")?;
    let tokens = browser.token(&[("grant_type", "authorization_code"), ("code", &code), ("code_verifier", &verifier)]).await?;
    let token = tokens["id_token"].as_str().context("an ID token")?;
    assert_eq!(claims(token)["aud"], browser.client_id.as_str());
    // It is worth what it is worth from elsewhere: the catalog, and no message.
    let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let mut deployment = Deployment::try_from(it.outputs)?;
    it.outputs.stack_output("StaffUserPoolProviderName")?.clone_into(&mut deployment.user_pool_provider_name);
    let credentials = client::sign_in::exchange(&deployment, &token.to_owned().into()).await?;
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let aws = Aws::with_credentials(endpoint, &it.outputs.region, credentials);
    let key = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let item = aws_sdk_dynamodb::Client::new(aws.config()).get_item().table_name(&it.outputs.table);
    let item = item.key("source", key(&it.institute)).key("message_id", key(message_id.as_str())).send().await?;
    assert!(item.item().is_some());
    let object = it.record(&message_id).await?.facts.context("stored facts")?.key;
    let refused = aws.s3().get_object().bucket(&it.outputs.bucket).key(object).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDenied"));
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens_until_it_is_revoked() -> Result<()> {
    let it = Harness::new()?;
    let (user, cognito) = (a_user(&it).await?, Cognito::new(it.aws.config()));
    let refresh_token = tokens(&it, &user).await?.refresh_token.context("a refresh token")?;
    let refresh = async || {
        let request = cognito.initiate_auth().client_id(&it.outputs.client_id).auth_flow(AuthFlowType::RefreshTokenAuth);
        request.auth_parameters("REFRESH_TOKEN", &refresh_token).send().await
    };
    let fresh = refresh().await?.authentication_result.context("tokens")?;
    let caller = Caller { token: fresh.id_token.context("an ID token")?.into() };
    assert_eq!(it.submit(&caller, &adt(&unique(), "DOE")).await?.status, 202);
    cognito.revoke_token().client_id(&it.outputs.client_id).token(&refresh_token).send().await?;
    assert_eq!(refresh().await.unwrap_err().code(), Some("NotAuthorizedException"));

    // The same for a browser's.
    let (browser, verifier) = (Browser::new(&it)?, format!("{}{}", unique(), unique()));
    let code = browser.sign_in(&user, &challenge(&verifier)).await?.query("code").context("a code")?;
    let form = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", &verifier)];
    let given = browser.token(&form).await?;
    let refresh_token = given["refresh_token"].as_str().context("a refresh token")?;
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    assert!(browser.token(&form).await?["id_token"].is_string());
    cognito.revoke_token().client_id(&browser.client_id).token(refresh_token).send().await?;
    assert_eq!(browser.token(&form).await?["error"], "invalid_grant");
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_asked_for_once_it_is_set_up() -> Result<()> {
    let it = Harness::new()?;
    let (user, cognito) = (a_user(&it).await?, Cognito::new(it.aws.config()));
    let access = tokens(&it, &user).await?.access_token.context("an access token")?;
    let secret = cognito.associate_software_token().access_token(&access).send().await?;
    let secret = totp_rs::Secret::try_from_base32(secret.secret_code().context("a secret")?).unwrap();
    let authenticator = totp_rs::Builder::new().with_secret(secret).build()?;
    let verify = async |code: String| cognito.verify_software_token().access_token(&access).user_code(code).send().await;
    assert!(verify("000000".to_owned()).await.is_err());
    verify(authenticator.generate_current().to_string()).await?;
    let settings = aws_sdk_cognitoidentityprovider::types::SoftwareTokenMfaSettingsType::builder();
    let settings = settings.enabled(true).preferred_mfa(true).build();
    cognito.set_user_mfa_preference().access_token(&access).software_token_mfa_settings(settings).send().await?;

    let asked = sign_in(&it, &user).await?;
    assert_eq!(asked.challenge_name(), Some(&ChallengeNameType::SoftwareTokenMfa));
    assert!(asked.authentication_result().is_none(), "the password alone gives nothing");
    let answer = async |session: Option<&str>, code: &str| {
        let request = cognito.respond_to_auth_challenge().client_id(&it.outputs.client_id);
        let request = request.challenge_name(ChallengeNameType::SoftwareTokenMfa).set_session(session.map(str::to_owned));
        let request = request.challenge_responses("USERNAME", &user.email);
        request.challenge_responses("SOFTWARE_TOKEN_MFA_CODE", code).send().await
    };
    let code = authenticator.generate_current().to_string();
    assert_eq!(answer(asked.session(), "000000").await.unwrap_err().code(), Some("CodeMismatchException"));
    assert_eq!(answer(None, &code).await.unwrap_err().code(), Some("NotAuthorizedException"), "without the password");
    let tokens = answer(asked.session(), &code).await?.authentication_result.context("tokens")?;
    let caller = Caller { token: tokens.id_token.context("an ID token")?.into() };
    assert_eq!(it.submit(&caller, &adt(&unique(), "DOE")).await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn no_client_lets_a_user_write_their_institute() -> Result<()> {
    let it = Harness::new()?;
    let (user, cognito) = (a_user(&it).await?, Cognito::new(it.aws.config()));
    let pool = &it.outputs.user_pool_id;
    let clients = cognito.list_user_pool_clients().user_pool_id(pool).send().await?;
    let clients: Vec<_> = clients.user_pool_clients().iter().filter_map(|client| client.client_id()).collect();
    assert!(clients.contains(&it.outputs.client_id.as_str()));
    assert!(clients.contains(&it.outputs.stack_output("BrowserClientId")?));
    for client_id in [it.outputs.client_id.as_str(), it.outputs.stack_output("BrowserClientId")?] {
        let client = cognito.describe_user_pool_client().user_pool_id(pool).client_id(client_id).send().await?;
        // An empty list would mean every attribute.
        assert_eq!(client.user_pool_client().context("a client")?.write_attributes(), ["email", "name"], "{client_id}");
    }

    let browser = Browser::new(&it)?;
    let verifier = format!("{}{}", unique(), unique());
    let code = browser.sign_in(&user, &challenge(&verifier)).await?.query("code").context("a code")?;
    let form = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", &verifier)];
    let of_browser = browser.token(&form).await?["access_token"].as_str().context("an access token")?.to_owned();
    let own = tokens(&it, &user).await?.access_token.context("an access token")?;
    let write = async |token: &str, name: &str| {
        let attribute = AttributeType::builder().name(name).value("another").build()?;
        let answer = cognito.update_user_attributes().access_token(token).user_attributes(attribute).send().await;
        anyhow::Ok(answer.map(drop).map_err(|error| error.code().unwrap_or("none").to_owned()))
    };
    assert_eq!(write(&own, "name").await?, Ok(()));
    // A browser's access token has no scope for the user's own account at all.
    for (token, name) in [
        (&own, "custom:read"),
        (&own, "custom:write"),
        (&of_browser, "custom:read"),
        (&of_browser, "custom:write"),
        (&of_browser, "name"),
    ] {
        assert_eq!(write(token, name).await?, Err("NotAuthorizedException".to_owned()), "{name}");
    }
    let id = claims(&tokens(&it, &user).await?.id_token.context("an ID token")?);
    assert_eq!((&id["custom:read"], &id["custom:write"]), (&it.institute.as_str().into(), &it.institute.as_str().into()));
    Ok(())
}

#[tokio::test]
async fn tokens_live_as_long_as_the_parameters_say() -> Result<()> {
    let it = Harness::new()?;
    let given = tokens(&it, &a_user(&it).await?).await?;
    let minutes = |token: Option<&str>| {
        let claims = claims(token.unwrap());
        (claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap()) / 60
    };
    // The templates' defaults. `enroll::the_parameters_decide_who_can_sign_up` has others.
    assert_eq!((minutes(given.id_token()), minutes(given.access_token()), given.expires_in()), (60, 60, 3600));
    let client = Cognito::new(it.aws.config()).describe_user_pool_client().user_pool_id(&it.outputs.user_pool_id);
    let client = client.client_id(&it.outputs.client_id).send().await?;
    assert_eq!(client.user_pool_client().map(|it| it.refresh_token_validity()), Some(30));
    Ok(())
}

#[tokio::test]
async fn groups_are_in_the_token_and_give_nothing() -> Result<()> {
    let it = Harness::new()?;
    let email = format!("{}@test.example", unique());
    let user = sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, "", "").await?;
    let cognito = Cognito::new(it.aws.config());
    for group in ["lake-staff", "integration-engineers"] {
        let request = cognito.admin_add_user_to_group().user_pool_id(&it.outputs.user_pool_id).username(&email);
        request.group_name(group).send().await?;
    }
    let token = tokens(&it, &user).await?.id_token.context("an ID token")?;
    let mut groups: Vec<_> = claims(&token)["cognito:groups"].as_array().context("groups")?.clone();
    groups.sort_by_key(Value::to_string);
    assert_eq!(groups, ["integration-engineers", "lake-staff"]);
    assert_eq!(it.submit(&Caller { token: token.into() }, &adt(&unique(), "DOE")).await?.status, 403);
    Ok(())
}

/// What stands below each `key:` of the template, a list's items or a map's keys.
fn below(template: &str, key: &str) -> Vec<BTreeSet<String>> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = template.lines().filter(|line| !line.trim().is_empty()).collect();
    let found = lines.iter().enumerate().filter(|(_, line)| line.trim() == format!("{key}:"));
    found
        .map(|(at, line)| {
            let inner = lines[at + 1..].iter().take_while(|other| indent(other) > indent(line));
            inner.map(|it| it.trim().trim_start_matches("- ").split(':').next().unwrap_or_default().to_owned()).collect()
        })
        .collect()
}

#[test]
fn no_institute_is_mapped_from_a_provider_or_writable_by_a_client() -> Result<()> {
    let template = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/identity.yaml"))?;
    let own = BTreeSet::from(["email".to_owned(), "name".to_owned()]);
    let of_kind = |kind: &str| template.matches(&format!("Type: AWS::Cognito::{kind}\n")).count();
    let (clients, providers) = (of_kind("UserPoolClient"), of_kind("UserPoolIdentityProvider"));
    assert_eq!((clients, providers), (3, 2));
    // The staff's, between the other two, not even the address.
    let name = BTreeSet::from(["name".to_owned()]);
    assert_eq!(below(&template, "WriteAttributes"), [own.clone(), name, own.clone()]);
    assert_eq!(below(&template, "AttributeMapping"), vec![own; providers]);
    Ok(())
}

#[tokio::test]
async fn pages_of_the_allowed_origins_may_ask_and_no_others() -> Result<()> {
    const ORIGIN: &str = "http://localhost:8080";
    let it = Harness::new()?;
    let preflight = async |origin: &str| {
        let ask = it.api.request(Method::OPTIONS, "/er7", None).header("origin", origin);
        let ask = ask.header("access-control-request-method", "POST");
        let answer = client::http::send(ask.header("access-control-request-headers", "authorization,content-type")).await?;
        anyhow::Ok(answer.headers)
    };
    let allowed = preflight(ORIGIN).await?;
    let header = |name: &str| allowed.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_lowercase();
    assert_eq!(header("access-control-allow-origin"), ORIGIN);
    assert!(header("access-control-allow-methods").contains("post"));
    assert!(header("access-control-allow-headers").contains("authorization"));
    assert!(preflight("https://elsewhere.example").await?.get("access-control-allow-origin").is_none());

    let asked = it.api.request(Method::GET, "/er7", Some(&it.admin().await?.token)).header("origin", ORIGIN);
    let answer = client::http::send(asked).await?;
    assert_eq!((answer.status.as_u16(), answer.headers["access-control-allow-origin"].to_str()?), (200, ORIGIN));

    let rules = it.aws.s3().get_bucket_cors().bucket(&it.outputs.bucket).send().await?;
    let [rule] = rules.cors_rules() else { anyhow::bail!("one rule: {rules:?}") };
    assert_eq!(
        (rule.allowed_origins(), rule.allowed_methods()),
        (&[ORIGIN.to_owned()][..], &["GET", "HEAD"].map(str::to_owned)[..])
    );
    Ok(())
}
