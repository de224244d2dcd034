//! What becomes of those who sign up, from Cognito's own SignUp to the first message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType};
use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::types::AttributeValue::{self, Bool, S};
use client::aws::Aws;
use domain::enrollment::{DomainRule, Pending};
use enroll::{Enrollment, Mode};
use futures_util::future::try_join_all;
use secrecy::SecretString;
use serde_json::json;
use sluice::Outputs;
use sluice::operator::deploy::{self, Options, Sources, With};
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::logs::{self, ENROLL, group_of};
use crate::permissions::allowed;
use crate::twins::{Twin, roles};

/// The local AWS sends no mail: these are the codes of every sign-up and of every forgotten password there.
const CODE: &str = "123456";
const RESET_CODE: &str = "654321";

/// A person at the door.
pub(crate) struct Person {
    cognito: Cognito,
    pub(crate) pool: String,
    client_id: String,
    pub(crate) email: String,
    password: String,
}

impl Person {
    /// Somebody with an address of this domain, who has not signed up.
    pub(crate) fn new(aws: &Aws, outputs: &Outputs, domain: &str) -> Self {
        Self {
            cognito: Cognito::new(aws.config()),
            pool: outputs.user_pool_id.clone(),
            client_id: outputs.client_id.clone(),
            email: format!("Jane.{}@{domain}", unique()),
            password: format!("Aa1!{}", unique()),
        }
    }

    /// Signs up, with these attributes beside the address. `Err` is the code of the refusal.
    pub(crate) async fn sign_up(&self, attributes: &[(&str, &str)]) -> Result<(), String> {
        let mut request = self.cognito.sign_up().client_id(&self.client_id).username(&self.email).password(&self.password);
        for (name, value) in [("email", self.email.as_str())].iter().chain(attributes) {
            request = request.user_attributes(attribute(name, value));
        }
        request.send().await.map(drop).map_err(|error| error.code().unwrap_or("none").to_owned())
    }

    pub(crate) async fn confirm(&self) -> Result<()> {
        let request = self.cognito.confirm_sign_up().client_id(&self.client_id).username(&self.email);
        request.confirmation_code(CODE).send().await?;
        Ok(())
    }

    /// Sets attributes, as an operator does.
    async fn set(&self, attributes: &[(&str, &str)]) -> Result<()> {
        let request = self.cognito.admin_update_user_attributes().user_pool_id(&self.pool).username(&self.email);
        let attributes = attributes.iter().map(|(name, value)| attribute(name, value)).collect();
        request.set_user_attributes(Some(attributes)).send().await?;
        Ok(())
    }

    /// The user's attributes.
    pub(crate) async fn attributes(&self) -> Result<BTreeMap<String, String>> {
        let found = self.cognito.admin_get_user().user_pool_id(&self.pool).username(&self.email).send().await?;
        let pairs = found.user_attributes().iter().map(|it| (it.name().to_owned(), it.value().unwrap_or_default().to_owned()));
        Ok(pairs.collect())
    }

    /// `custom:read` and `custom:write`, empty for none.
    async fn rights(&self) -> Result<[String; 2]> {
        let attributes = self.attributes().await?;
        Ok(["custom:read", "custom:write"].map(|name| attributes.get(name).cloned().unwrap_or_default()))
    }

    /// Signs in with name and password.
    async fn sign_in(&self) -> Result<Caller> {
        let request = self.cognito.initiate_auth().client_id(&self.client_id).auth_flow(AuthFlowType::UserPasswordAuth);
        let request = request.auth_parameters("USERNAME", &self.email).auth_parameters("PASSWORD", &self.password);
        let tokens = request.send().await?.authentication_result.context("a challenge, and no tokens")?;
        Ok(Caller { token: tokens.id_token.context("an ID token")?.into() })
    }
}

fn attribute(name: &str, value: &str) -> AttributeType {
    AttributeType::builder().name(name).value(value).build().unwrap()
}

/// The enrollment table, as an operator sees it.
struct Table {
    client: DynamoDb,
    name: String,
}

impl Table {
    fn of(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        Ok(Self { client: DynamoDb::new(aws.config()), name: outputs.stack_output("EnrollmentTableName")?.to_owned() })
    }

    /// Gives a domain's users these rights in an institute.
    async fn add_rule(&self, domain: &str, institute: &str, [read, write]: [bool; 2], provider: Option<&str>) -> Result<()> {
        let rule = DomainRule {
            domain: domain.parse()?,
            institute: institute.parse()?,
            read,
            write,
            provider: provider.map(str::to_owned),
            added_at: runtime::now(),
        };
        let item: std::collections::HashMap<String, AttributeValue> = serde_dynamo::to_item(rule)?;
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item)).item("kind", S("domain".into()));
        put.send().await?;
        Ok(())
    }

    /// The entry of a user who waits.
    async fn pending(&self, sub: &str) -> Result<Option<Pending>> {
        let get = self.client.get_item().table_name(&self.name).key("kind", S("pending".into())).key("name", S(sub.to_owned()));
        Ok(get.send().await?.item.map(serde_dynamo::from_item).transpose()?)
    }
}

#[tokio::test]
async fn a_new_user_of_a_known_domain_submits_at_once() -> Result<()> {
    let it = Harness::new()?;
    let (table, domain) = (Table::of(&it.aws, it.outputs)?, format!("{}.example", unique()));
    table.add_rule(&domain, &it.institute, [false, true], None).await?;
    let person = Person::new(&it.aws, it.outputs, &domain.to_ascii_uppercase());
    person.sign_up(&[("name", "Jane")]).await.unwrap();
    assert_eq!(person.rights().await?, ["", ""], "nothing before the address is proved");
    person.confirm().await?;
    assert_eq!(person.rights().await?, ["", it.institute.as_str()]);
    let (_, status) = it.store(&person.sign_in().await?, &adt(&unique(), "DOE")).await?;
    assert_eq!(status["status"], "stored");
    assert!(table.pending(&person.attributes().await?["sub"]).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_new_user_of_an_unknown_domain_has_no_rights_and_waits_for_an_operator() -> Result<()> {
    let it = Harness::new()?;
    let table = Table::of(&it.aws, it.outputs)?;
    let domain = format!("{}.example", unique());
    // A rule is for its very domain.
    table.add_rule(&format!("lab.{domain}"), &it.institute, [true, true], None).await?;
    let (since, person) = (logs::now(), Person::new(&it.aws, it.outputs, &domain));
    person.sign_up(&[]).await.unwrap();
    person.confirm().await?;
    assert_eq!(person.rights().await?, ["", ""]);
    let answer = it.submit(&person.sign_in().await?, &adt(&unique(), "DOE")).await?;
    assert_eq!(answer.status, 403);
    let attributes = person.attributes().await?;
    let entry = table.pending(&attributes["sub"]).await?.context("an entry")?;
    assert_eq!((entry.email.as_deref(), entry.provider), (Some(person.email.as_str()), None));
    assert_eq!(entry.username, attributes["sub"]);

    // The log tells that somebody waits, with their `sub`, and nothing of who it is.
    let group = group_of(&it, ENROLL)?;
    let is_pending = |line: &serde_json::Value| line["outcome"] == "pending" && line["subject"] == attributes["sub"];
    let began = Instant::now();
    loop {
        let lines = logs::structured(&logs::lines(&it, &group, since, "").await?)?;
        if lines.iter().any(is_pending) {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "{lines:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for text in [person.email.as_str(), &domain] {
        assert_eq!(logs::lines(&it, &group, since, text).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_an_operator_confirmed_unproved_gives_nothing() -> Result<()> {
    let it = Harness::new()?;
    let (table, domain) = (Table::of(&it.aws, it.outputs)?, format!("{}.example", unique()));
    table.add_rule(&domain, &it.institute, [true, true], None).await?;
    let person = Person::new(&it.aws, it.outputs, &domain);
    person.sign_up(&[]).await.unwrap();
    person.cognito.admin_confirm_sign_up().user_pool_id(&person.pool).username(&person.email).send().await?;
    assert_eq!(person.rights().await?, ["", ""]);
    let entry = table.pending(&person.attributes().await?["sub"]).await?.context("an entry")?;
    assert_eq!(entry.email, None);
    Ok(())
}

#[tokio::test]
async fn an_institute_that_an_operator_has_set_stays() -> Result<()> {
    let it = Harness::new()?;
    let (table, domain) = (Table::of(&it.aws, it.outputs)?, format!("{}.example", unique()));
    table.add_rule(&domain, "another", [true, true], None).await?;
    let person = Person::new(&it.aws, it.outputs, &domain);
    person.sign_up(&[]).await.unwrap();
    person.set(&[("custom:read", &it.institute)]).await?;
    person.confirm().await?;
    assert_eq!(person.rights().await?, [it.institute.as_str(), ""]);
    Ok(())
}

#[tokio::test]
async fn a_forgotten_password_gives_no_rights_back() -> Result<()> {
    let it = Harness::new()?;
    let (table, domain) = (Table::of(&it.aws, it.outputs)?, format!("{}.example", unique()));
    table.add_rule(&domain, &it.institute, [true, true], None).await?;
    let mut person = Person::new(&it.aws, it.outputs, &domain);
    person.sign_up(&[]).await.unwrap();
    person.confirm().await?;
    assert_eq!(person.rights().await?, [it.institute.as_str(); 2]);
    person.set(&[("custom:read", ""), ("custom:write", "")]).await?;
    person.cognito.forgot_password().client_id(&person.client_id).username(&person.email).send().await?;
    person.password.push('x');
    let confirm = person.cognito.confirm_forgot_password().client_id(&person.client_id).username(&person.email);
    confirm.confirmation_code(RESET_CODE).password(&person.password).send().await?;
    person.sign_in().await?;
    assert_eq!(person.rights().await?, ["", ""]);
    Ok(())
}

#[tokio::test]
async fn nobody_signs_up_with_an_institute_of_their_choice() -> Result<()> {
    let it = Harness::new()?;
    let person = Person::new(&it.aws, it.outputs, "st-elsewhere.example");
    for name in ["custom:write", "custom:read", "email_verified"] {
        let refused = person.sign_up(&[(name, "general-hospital")]).await;
        assert_eq!(refused, Err("NotAuthorizedException".to_owned()), "{name}");
    }
    assert!(person.attributes().await.is_err(), "no account was made");
    Ok(())
}

#[tokio::test]
async fn an_institute_is_founded_once_however_often_and_by_however_many_it_is_tried() -> Result<()> {
    let it = Harness::new()?;
    let person = Person::new(&it.aws, it.outputs, &format!("{}.example", unique()));
    person.sign_up(&[]).await.unwrap();
    let sub = person.attributes().await?["sub"].clone();
    // The worker's code under its role, since the deployed function is in the other mode.
    let twin = Twin::of(&it, &roles(&it, "identity").await?["EnrollRole"]).await?;
    let enrollment = Enrollment::new(
        Cognito::new(twin.aws.config()),
        DynamoDb::new(twin.aws.config()),
        it.outputs.stack_output("EnrollmentTableName")?.to_owned(),
        Mode::Found,
    );
    let event = json!({
        "triggerSource": "PostConfirmation_ConfirmSignUp",
        "userPoolId": person.pool,
        "userName": sub,
        "request": { "userAttributes": { "sub": sub } },
    });
    try_join_all((0..5).map(|_| enrollment.confirmed(event.clone()))).await?;
    let [read, write] = person.rights().await?;
    assert_eq!(read, write);
    assert_uuid_v4(&read);
    enrollment.confirmed(event.clone()).await?;
    assert_eq!(person.rights().await?, [read.as_str(), &write]);
    // Even after an operator has taken it away, it is the same.
    person.set(&[("custom:read", ""), ("custom:write", "")]).await?;
    enrollment.confirmed(event).await?;
    assert_eq!(person.rights().await?, [read, write]);
    Ok(())
}

#[track_caller]
fn assert_uuid_v4(text: &str) {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
    assert!(text.split('-').nth(2).is_some_and(|it| it.starts_with('4')), "{text}");
}

#[tokio::test]
async fn the_worker_changes_users_and_its_own_entries_and_nothing_else() -> Result<()> {
    let it = Harness::new()?;
    let twin = Twin::of(&it, &roles(&it, "identity").await?["EnrollRole"]).await?;
    let (pool, table) = (&it.outputs.user_pool_id, it.outputs.stack_output("EnrollmentTableName")?);
    let created = Cognito::new(it.aws.config()).create_user_pool().pool_name(unique()).send().await?;
    let other = created.user_pool().and_then(|pool| pool.id()).context("a pool")?;
    let (users, entries) = (Cognito::new(twin.aws.config()), DynamoDb::new(twin.aws.config()));
    let nobody = unique();

    let get = async |pool: &str| allowed(users.admin_get_user().user_pool_id(pool).username(&nobody).send().await);
    let update = async |pool: &str| {
        let request = users.admin_update_user_attributes().user_pool_id(pool).username(&nobody);
        allowed(request.user_attributes(attribute("name", "x")).send().await)
    };
    assert!(get(pool).await? && update(pool).await?);
    assert!(!get(other).await? && !update(other).await?, "another pool");
    let create = users.admin_create_user().user_pool_id(pool).username(format!("{nobody}@test.example"));
    assert!(!allowed(create.send().await)?);
    assert!(!allowed(users.admin_delete_user().user_pool_id(pool).username(&nobody).send().await)?);
    let password = users.admin_set_user_password().user_pool_id(pool).username(&nobody).password("Aa1!aaaaaaaaaaa");
    assert!(!allowed(password.send().await)?);
    let group = users.admin_add_user_to_group().user_pool_id(pool).username(&nobody).group_name("lake-staff");
    assert!(!allowed(group.send().await)?);
    assert!(!allowed(users.list_users().user_pool_id(pool).send().await)?);

    const NEVER: &str = "attribute_exists(nothing_has_this)";
    let kind = |kind: &str| S(kind.to_owned());
    let mut may = Vec::new();
    for name in ["domain", "pending", "founded"] {
        let get = entries.get_item().table_name(table).key("kind", kind(name)).key("name", S(nobody.clone()));
        let put = entries.put_item().table_name(table).item("kind", kind(name)).item("name", S(nobody.clone()));
        let put = put.item("write", Bool(true)).condition_expression(NEVER);
        let update = entries.update_item().table_name(table).key("kind", kind(name)).key("name", S(nobody.clone()));
        let update = update.update_expression("SET x = :x").expression_attribute_values(":x", kind("x"));
        let delete = entries.delete_item().table_name(table).key("kind", kind(name)).key("name", S(nobody.clone()));
        for (call, may_it) in [
            ("GetItem", allowed(get.send().await)?),
            ("PutItem", allowed(put.send().await)?),
            ("UpdateItem", allowed(update.condition_expression(NEVER).send().await)?),
            ("DeleteItem", allowed(delete.condition_expression(NEVER).send().await)?),
        ] {
            if may_it {
                may.push((name, call));
            }
        }
    }
    assert_eq!(may, [("domain", "GetItem"), ("pending", "PutItem"), ("founded", "UpdateItem")]);
    assert!(!allowed(entries.scan().table_name(table).send().await)?);
    Cognito::new(it.aws.config()).delete_user_pool().user_pool_id(other).send().await?;
    Ok(())
}

/// A user's first sign-in by a federated provider that says this of them, and the ID token.
async fn federated_sign_in(it: &Harness, provider: &str, name: &str, email: &str) -> Result<SecretString> {
    let saml = format!(
        r#"<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion"><Subject><NameID>{name}</NameID></Subject>
           <AttributeStatement><Attribute Name="mail"><AttributeValue>{email}</AttributeValue></Attribute>
           </AttributeStatement></Assertion>"#
    );
    let browser = crate::cognito::Browser::new(it)?;
    let redirect = browser.authorize(&[("identity_provider", provider)]).await?;
    let relay_state = redirect.query("RelayState").context("the provider is asked")?;
    let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, saml);
    let form = [("SAMLResponse", response.as_str()), ("RelayState", &relay_state)];
    let code = browser.post("/saml2/idpresponse", &form).await?.query("code").context("a code")?;
    let tokens = browser.token(&[("grant_type", "authorization_code"), ("code", &code)]).await?;
    ensure!(tokens["id_token"].is_string(), "{tokens}");
    Ok(tokens["id_token"].as_str().unwrap_or_default().into())
}

#[tokio::test]
async fn a_federated_user_has_what_the_rule_of_that_very_provider_gives() -> Result<()> {
    let it = Harness::new()?;
    let (table, provider) = (Table::of(&it.aws, it.outputs)?, format!("idp-{}", unique()));
    let cognito = Cognito::new(it.aws.config());
    let create = cognito.create_identity_provider().user_pool_id(&it.outputs.user_pool_id).provider_name(&provider);
    let create = create.provider_type("SAML".into()).provider_details("IDPSSOEndpoint", "https://idp.example/sso");
    create.attribute_mapping("email", "mail").send().await?;
    let [theirs, pools, others] = [(); 3].map(|()| format!("{}.example", unique()));
    table.add_rule(&theirs, &it.institute, [true, true], Some(&provider)).await?;
    table.add_rule(&pools, &it.institute, [true, true], None).await?;
    table.add_rule(&others, &it.institute, [true, true], Some("another-provider")).await?;

    let token = federated_sign_in(&it, &provider, "1", &format!("jane@{theirs}")).await?;
    let (_, status) = it.store(&Caller { token }, &adt(&unique(), "DOE")).await?;
    assert_eq!(status["status"], "stored", "the API takes a browser's token, and the lake its credentials");
    // A provider may assert any address: those of others count for nothing.
    for (n, domain) in [pools, others].iter().enumerate() {
        let token = federated_sign_in(&it, &provider, &format!("{n}-asserted"), &format!("jane@{domain}")).await?;
        assert_eq!(it.submit(&Caller { token }, &adt(&unique(), "DOE")).await?.status, 403, "{domain}");
    }
    cognito.delete_identity_provider().user_pool_id(&it.outputs.user_pool_id).provider_name(&provider).send().await?;
    Ok(())
}

/// A deployment of its own, with other parameters.
struct Second {
    aws: Aws,
    sources: Sources,
    stack: String,
}

impl Second {
    async fn deploy(&self, parameters: &[(&str, &str)]) -> Result<Outputs> {
        let mut parameters: BTreeMap<_, _> = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        parameters.insert("PasswordSignIn".to_owned(), "true".to_owned());
        let options = Options { stack: self.stack.clone(), parameters, ..Options::default() };
        Ok(deploy::deploy(&self.aws, &self.sources, &options, &Reporter::silent()).await?.outputs)
    }
}

#[tokio::test]
async fn the_parameters_decide_who_can_sign_up() -> Result<()> {
    let it = Harness::new()?;
    let workspace = Workspace::find().await?;
    let packages = package(&workspace, Purpose::Local(Profile::Dev), &workspace.policies(), None, &Reporter::silent()).await?;
    let second = Second {
        aws: it.aws.clone(),
        sources: Sources::read(&workspace, packages)?,
        stack: format!("door{}", std::process::id()),
    };

    // As it comes: nobody.
    let outputs = second.deploy(&[]).await?;
    let person = Person::new(&it.aws, &outputs, "st-elsewhere.example");
    assert_eq!(person.sign_up(&[]).await, Err("NotAuthorizedException".to_owned()));
    assert_eq!((outputs.stack_output("BrowserClientId")?, outputs.stack_output("UserPoolDomain")?), ("", ""));

    let table = outputs.stack_output("EnrollmentTableName")?.to_owned();
    let entries = DynamoDb::new(it.aws.config());
    let described = entries.describe_table().table_name(&table).send().await?;
    assert_eq!(described.table().and_then(|it| it.deletion_protection_enabled()), Some(true), "as the user pool is");

    let refused = second.deploy(&[("ThreatProtection", "AUDIT")]).await.map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("ThreatProtection needs UserPoolTier PLUS"), "{refused:#}");
    let refused = second.deploy(&[("FederatedProviderType", "SAML")]).await.map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("FederatedMetadataUrl"), "{refused:#}");

    // An institute's own provider, by OIDC.
    let oidc = [
        ("DomainPrefix", second.stack.as_str()),
        ("CallbackUrls", "https://lake.example/a"),
        ("FederatedProviderType", "OIDC"),
        ("FederatedProviderName", "general-hospital"),
        ("FederatedIssuer", "https://idp.example"),
        ("FederatedClientId", "lake"),
        ("FederatedClientSecret", "not-a-secret"),
    ];
    let refused = second.deploy(&oidc[..5]).await.map(drop).unwrap_err();
    assert!(format!("{refused:#}").contains("FederatedClientId"), "{refused:#}");
    let outputs = second.deploy(&oidc).await?;
    let pool = Cognito::new(it.aws.config());
    let provider = pool.describe_identity_provider().user_pool_id(&outputs.user_pool_id).provider_name("general-hospital");
    let provider = provider.send().await?.identity_provider.context("a provider")?;
    let detail = |name: &str| provider.provider_details().and_then(|it| it.get(name)).map(String::as_str);
    assert_eq!(provider.provider_type().map(|it| it.as_str()), Some("OIDC"));
    assert_eq!((detail("oidc_issuer"), detail("client_id")), (Some("https://idp.example"), Some("lake")));
    let mapping = provider.attribute_mapping().context("a mapping")?;
    assert_eq!(mapping.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["email", "name"]));

    // Everybody, for themselves; and another provider's users.
    let outputs = second
        .deploy(&[
            ("SignUp", "found"),
            ("PasswordMinimumLength", "20"),
            ("IdTokenMinutes", "10"),
            ("AccessTokenMinutes", "5"),
            ("MultiFactor", "ON"),
            ("UserPoolTier", "PLUS"),
            ("ThreatProtection", "ENFORCED"),
            ("DomainPrefix", &second.stack),
            ("CallbackUrls", "https://lake.example/a,https://lake.example/b"),
            ("FederatedProviderType", "SAML"),
            ("FederatedProviderName", "st-elsewhere"),
            ("FederatedMetadataUrl", "https://idp.example/metadata"),
            ("FederatedEmailAttribute", "mail"),
        ])
        .await?;
    let mut person = Person::new(&it.aws, &outputs, "st-elsewhere.example");
    let long = std::mem::replace(&mut person.password, "Aa1!567890123456789".to_owned());
    assert_eq!(person.sign_up(&[]).await, Err("InvalidPasswordException".to_owned()));
    person.password = long;
    person.sign_up(&[]).await.unwrap();
    person.confirm().await?;
    let [read, write] = person.rights().await?;
    assert_eq!(read, write);
    assert_uuid_v4(&read);
    assert_eq!(person.sign_in().await.unwrap_err().to_string(), "a challenge, and no tokens", "a second factor is set up first");

    let cognito = &person.cognito;
    let pool = cognito.describe_user_pool().user_pool_id(&person.pool).send().await?;
    let pool = pool.user_pool().context("a pool")?;
    let add_ons = pool.user_pool_add_ons().map(|it| it.advanced_security_mode().as_str());
    assert_eq!((pool.user_pool_tier().map(|it| it.as_str()), add_ons), (Some("PLUS"), Some("ENFORCED")));
    for client_id in [&outputs.client_id, outputs.stack_output("BrowserClientId")?] {
        let client = cognito.describe_user_pool_client().user_pool_id(&person.pool).client_id(client_id).send().await?;
        let client = client.user_pool_client().context("a client")?;
        assert_eq!((client.id_token_validity(), client.access_token_validity()), (Some(10), Some(5)));
        if *client_id != outputs.client_id {
            assert_eq!(client.callback_urls(), ["https://lake.example/a", "https://lake.example/b"]);
            assert_eq!(client.supported_identity_providers(), ["COGNITO", "st-elsewhere"]);
        }
    }
    let provider = cognito.describe_identity_provider().user_pool_id(&person.pool).provider_name("st-elsewhere").send().await?;
    let mapping = provider.identity_provider().and_then(|it| it.attribute_mapping()).context("a mapping")?;
    let mapping: BTreeMap<_, _> = mapping.iter().map(|(name, from)| (name.as_str(), from.as_str())).collect();
    assert_eq!(mapping, BTreeMap::from([("email", "mail"), ("name", "name")]));

    deploy::destroy(&it.aws, &second.stack, With { users: true, data: true }, &Reporter::silent()).await?;
    assert!(entries.describe_table().table_name(&table).send().await.is_err(), "gone with the users");
    Ok(())
}
