//! The audiences beside the institutes' users: what the lake's staff and a partner may do with AWS credentials of their own,
//! and that nobody gets the role of another audience.

mod deeds;
mod partner;
mod provider;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aws_sdk_cognitoidentity::Client as Identity;
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType};
use aws_sdk_s3::config::Credentials;
use aws_sdk_sts::Client as Sts;
use client::aws::Aws;
use client::outputs::User;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice::Outputs;
use sluice_tests::{Harness, adt, unique};

use crate::permissions;
use crate::twins;
use deeds::Deed::{self, *};
use deeds::Of::{Other, Own};
use deeds::Scene;
use provider::Provider;

/// All of [`deeds::ALL`] that each audience may do; the rest it may not.
const STAFF: [Deed; 6] = [Record(Own), Record(Other), List(Own), List(Other), ListIndex(Own), ListIndex(Other)];
const PARTNER: [Deed; 5] = [Record(Own), List(Own), ListIndex(Own), Put(Own, Own), Retag(Own, Own)];
const USER: [Deed; 8] =
    [Record(Own), List(Own), ListIndex(Own), Put(Own, Own), Get(Own), GetVersion(Own), Summary(Own), Retag(Own, Own)];

/// One sign-in: a token, and whose the identity pool is told it is.
#[derive(Clone)]
struct Login {
    provider: String,
    token: SecretString,
}

impl Login {
    async fn user(aws: &Aws, outputs: &Outputs, institute: &str) -> Result<Self> {
        let email = format!("{}@test.example", unique());
        let user = sluice::local::users::create_user(aws, &outputs.user_pool_id, &email, institute, institute).await?;
        let token = client::sign_in::sign_in(aws, &outputs.client_id, &user).await?;
        Ok(Self { provider: outputs.stack_output("UserPoolProviderName")?.to_owned(), token })
    }

    async fn staff(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        let user = staff_member(aws, outputs).await?;
        let token = client::sign_in::sign_in(aws, outputs.stack_output("StaffUserPoolClientId")?, &user).await?;
        Ok(Self { provider: outputs.stack_output("StaffUserPoolProviderName")?.to_owned(), token })
    }

    fn partner(provider: &Provider, claims: &Value) -> Self {
        Self { provider: provider.login(), token: provider.token(claims) }
    }
}

async fn staff_member(aws: &Aws, outputs: &Outputs) -> Result<User> {
    let email = format!("{}@lake.example", unique());
    sluice::local::users::create_user(aws, outputs.stack_output("StaffUserPoolId")?, &email, "", "").await
}

/// What these sign-ins, all in one call, are exchanged for: an AWS, or the code of the refusal.
async fn exchange(outputs: &Outputs, logins: &[&Login], role: Option<&str>) -> Result<Result<Aws, String>> {
    let client = Identity::new(Aws::anonymous(outputs.endpoint_url.as_deref(), &outputs.region).config());
    let map = || logins.iter().map(|it| (it.provider.clone(), it.token.expose_secret().to_owned())).collect();
    let got = client.get_id().identity_pool_id(&outputs.identity_pool_id).set_logins(Some(map())).send().await;
    let got = match got.map_err(aws_sdk_cognitoidentity::Error::from) {
        Ok(got) => got,
        Err(error) => return Ok(Err(code(&error)?)),
    };
    let ask = client.get_credentials_for_identity().set_identity_id(got.identity_id).set_logins(Some(map()));
    let given = ask.set_custom_role_arn(role.map(str::to_owned)).send().await;
    let given = match given.map_err(aws_sdk_cognitoidentity::Error::from) {
        Ok(given) => given.credentials.context("credentials")?,
        Err(error) => return Ok(Err(code(&error)?)),
    };
    let (key, secret) = given.access_key_id.zip(given.secret_key).context("a key")?;
    let credentials = Credentials::new(key, secret, given.session_token, None, "test");
    let endpoint = outputs.endpoint_url.as_deref().context("an endpoint")?;
    Ok(Ok(Aws::with_credentials(endpoint, &outputs.region, credentials)))
}

fn code(error: &aws_sdk_cognitoidentity::Error) -> Result<String> {
    // Without a code there was no answer.
    error.code().map(str::to_owned).with_context(|| format!("{error:?}"))
}

/// The AWS of one sign-in.
async fn aws_of(outputs: &Outputs, login: &Login) -> Result<Aws> {
    exchange(outputs, &[login], None).await?.map_err(|code| anyhow::anyhow!("the exchange was refused with {code}"))
}

/// The name of the role that these sign-ins get, `Err` for the code of the refusal.
async fn role(outputs: &Outputs, logins: &[&Login], wanted: Option<&str>) -> Result<Result<String, String>> {
    Ok(match exchange(outputs, logins, wanted).await? {
        Ok(aws) => {
            let caller = Sts::new(aws.config()).get_caller_identity().send().await?.arn.context("a caller")?;
            Ok(caller.split('/').nth(1).context("a role")?.to_owned())
        }
        Err(code) => Err(code),
    })
}

fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

/// What Cognito says where somebody asks for a role that their sign-in does not give.
fn refused(outcome: &Result<String, String>) -> bool {
    matches!(outcome, Err(code) if code == "NotAuthorizedException" || code == "InvalidIdentityPoolConfigurationException")
}

/// Actions and resources that a role's policies allow, and the conditions on the caller's tags.
async fn allowed(it: &Harness, role: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut allowed, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for policy in twins::policies(it, role).await? {
        let statements = policy["Statement"].as_array().context("statements")?;
        for statement in statements.iter().filter(|it| it["Effect"] != "Deny") {
            assert_eq!(statement["Effect"], "Allow");
            for action in permissions::texts(&statement["Action"]) {
                allowed.extend(permissions::texts(&statement["Resource"]).into_iter().map(|it| format!("{action} {it}")));
            }
            let equals = statement["Condition"]["StringEquals"].as_object().context("a condition in every statement")?;
            let tag = equals.iter().find(|(key, _)| key.starts_with("aws:PrincipalTag/")).context("a tag in every statement")?;
            tags.insert(format!("{} {}", tag.0, tag.1));
        }
    }
    Ok((allowed, tags))
}

/// The condition of a role's trust policy.
async fn trust(it: &Harness, role: &str) -> Result<Value> {
    let found = aws_sdk_iam::Client::new(it.aws.config()).get_role().role_name(role).send().await?;
    let document = found.role().and_then(|it| it.assume_role_policy_document()).context("a trust policy")?;
    let document = twins::document(document)?;
    let [statement] = document["Statement"].as_array().context("statements")?.as_slice() else {
        anyhow::bail!("one statement: {document}")
    };
    assert_eq!(statement["Principal"], json!({ "Federated": "cognito-identity.amazonaws.com" }));
    Ok(statement["Condition"].clone())
}

#[tokio::test]
async fn staff_see_the_records_of_every_institute_and_nothing_else() -> Result<()> {
    let it = Harness::new()?;
    // A real message, through the pipeline: its record they see, the message they do not.
    let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let staff = aws_of(it.outputs, &Login::staff(&it.aws, it.outputs).await?).await?;
    let record = it.record(&message_id).await?;
    let get = aws_sdk_dynamodb::Client::new(staff.config()).get_item().table_name(&it.outputs.table);
    let get = get.key("source", aws_sdk_dynamodb::types::AttributeValue::S(it.institute.clone()));
    let get = get.key("message_id", aws_sdk_dynamodb::types::AttributeValue::S(message_id.to_string()));
    let key = record.facts.context("stored")?.key;
    let seen = get.send().await?.item.context("the record")?;
    assert_eq!(seen.get("key").and_then(|it| it.as_s().ok()), Some(&key));
    assert!(!permissions::allowed(staff.s3().get_object().bucket(&it.outputs.bucket).key(&key).send().await)?);

    let scene = Scene::new(&it.aws, it.outputs, &it.institute).await?;
    assert_eq!(scene.may(&staff).await?, STAFF);
    let user = aws_of(it.outputs, &Login::user(&it.aws, it.outputs, &it.institute).await?).await?;
    assert_eq!(scene.may(&user).await?, USER, "an institute's user, as ever");
    scene.root_may_do_all().await
}

#[tokio::test]
async fn nobody_gets_the_role_of_another_audience_for_the_asking() -> Result<()> {
    let it = Harness::new()?;
    let output = |name: &str| it.outputs.stack_output(name);
    let (user_role, staff_role) = (output("UserRoleArn")?, output("StaffRoleArn")?);
    let (user, staff) = (Login::user(&it.aws, it.outputs, &it.institute).await?, Login::staff(&it.aws, it.outputs).await?);
    for (login, own, other) in [(&user, user_role, staff_role), (&staff, staff_role, user_role)] {
        assert_eq!(role(it.outputs, &[login], None).await?, Ok(name_of(own).to_owned()));
        assert_eq!(role(it.outputs, &[login], Some(own)).await?, Ok(name_of(own).to_owned()), "one's own may be asked for");
        let outcome = role(it.outputs, &[login], Some(other)).await?;
        assert!(refused(&outcome), "{outcome:?}");
        // Not at STS either, with the token itself.
        let assume = Sts::new(it.aws.config()).assume_role_with_web_identity().role_session_name("session");
        for role in [own, other] {
            let assume = assume.clone().role_arn(role).web_identity_token(login.token.expose_secret());
            assert_eq!(assume.send().await.unwrap_err().code(), Some("AccessDenied"));
        }
    }
    // One's token in the name of the other's provider.
    for (login, provider) in [(&user, &staff.provider), (&staff, &user.provider)] {
        let renamed = Login { provider: provider.clone(), ..login.clone() };
        let outcome = role(it.outputs, &[&renamed], None).await?;
        assert!(refused(&outcome), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_logins_at_once_get_no_credentials_and_each_alone_gets_its_own() -> Result<()> {
    let it = Harness::new()?;
    let output = |name: &str| it.outputs.stack_output(name);
    let (user_role, staff_role) = (output("UserRoleArn")?, output("StaffRoleArn")?);
    let (user, staff) = (Login::user(&it.aws, it.outputs, &it.institute).await?, Login::staff(&it.aws, it.outputs).await?);
    for wanted in [None, Some(user_role), Some(staff_role)] {
        let outcome = role(it.outputs, &[&user, &staff], wanted).await?;
        assert!(refused(&outcome), "{wanted:?}: {outcome:?}");
    }
    // The two are one identity from now on, which may still do with each sign-in what that alone gives.
    let scene = Scene::new(&it.aws, it.outputs, &it.institute).await?;
    for (login, own, other, may) in [(&user, user_role, staff_role, &USER[..]), (&staff, staff_role, user_role, &STAFF[..])] {
        assert_eq!(role(it.outputs, &[login], None).await?, Ok(name_of(own).to_owned()));
        assert_eq!(scene.may(&aws_of(it.outputs, login).await?).await?, may);
        let outcome = role(it.outputs, &[login], Some(other)).await?;
        assert!(refused(&outcome), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn staff_who_were_signed_out_or_whose_account_is_closed_get_no_credentials() -> Result<()> {
    let it = Harness::new()?;
    let (pool, client) = (it.outputs.stack_output("StaffUserPoolId")?, it.outputs.stack_output("StaffUserPoolClientId")?);
    let provider = it.outputs.stack_output("StaffUserPoolProviderName")?;
    let cognito = Cognito::new(it.aws.config());
    for end in ["signed out", "disabled", "deleted"] {
        let user = staff_member(&it.aws, it.outputs).await?;
        let token = client::sign_in::sign_in(&it.aws, client, &user).await?;
        let login = Login { provider: provider.to_owned(), token };
        assert!(role(it.outputs, &[&login], None).await?.is_ok());
        match end {
            "signed out" => {
                cognito.admin_user_global_sign_out().user_pool_id(pool).username(&user.email).send().await?;
            }
            "disabled" => {
                cognito.admin_disable_user().user_pool_id(pool).username(&user.email).send().await?;
            }
            _ => {
                cognito.admin_delete_user().user_pool_id(pool).username(&user.email).send().await?;
            }
        }
        assert_eq!(role(it.outputs, &[&login], None).await?, Err("NotAuthorizedException".to_owned()), "{end}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_makes_themselves_staff_and_staff_write_nothing_but_their_name() -> Result<()> {
    let it = Harness::new()?;
    let staff_client = it.outputs.stack_output("StaffUserPoolClientId")?;
    let cognito = Cognito::new(it.aws.config());
    let sign_up = async |client: &str| {
        let (email, password) = (format!("{}@lake.example", unique()), format!("Aa1!{}", unique()));
        let email_attribute = AttributeType::builder().name("email").value(&email).build()?;
        let sign_up = cognito.sign_up().client_id(client).username(&email).password(password);
        let answer = sign_up.user_attributes(email_attribute).send().await;
        anyhow::Ok(answer.map(drop).map_err(|error| error.code().unwrap_or("none").to_owned()))
    };
    assert_eq!(sign_up(&it.outputs.client_id).await?, Ok(()), "where anybody may");
    assert_eq!(sign_up(staff_client).await?, Err("NotAuthorizedException".to_owned()));

    let user = staff_member(&it.aws, it.outputs).await?;
    let auth = cognito.initiate_auth().client_id(staff_client).auth_flow(AuthFlowType::UserPasswordAuth);
    let auth = auth.auth_parameters("USERNAME", &user.email).auth_parameters("PASSWORD", user.password.expose_secret());
    let access = auth.send().await?.authentication_result.and_then(|it| it.access_token).context("an access token")?;
    let write = async |name: &str| {
        let attribute = AttributeType::builder().name(name).value("another@lake.example").build()?;
        let answer = cognito.update_user_attributes().access_token(&access).user_attributes(attribute).send().await;
        anyhow::Ok(answer.map(drop).map_err(|error| error.code().unwrap_or("none").to_owned()))
    };
    assert_eq!(write("name").await?, Ok(()));
    assert_eq!(write("email").await?, Err("NotAuthorizedException".to_owned()));
    assert_eq!(write("email_verified").await?, Err("NotAuthorizedException".to_owned()));
    // There is no such thing in this pool.
    assert_eq!(write("custom:write").await?, Err("InvalidParameterException".to_owned()));
    Ok(())
}

#[tokio::test]
async fn the_staffs_role_allows_what_is_listed_here() -> Result<()> {
    let it = Harness::new()?;
    let output = |name: &str| it.outputs.stack_output(name);
    let (table, key, client) = (output("CatalogTableArn")?, output("DataKeyArn")?, output("StaffUserPoolClientId")?);
    let role = name_of(output("StaffRoleArn")?);
    let expected = [
        format!("dynamodb:GetItem {table}"),
        format!("dynamodb:Query {table}"),
        format!("dynamodb:Query {table}/index/*"),
        format!("kms:Decrypt {key}"),
    ];
    let tags = [format!("aws:PrincipalTag/staff \"{client}\"")];
    assert_eq!(allowed(&it, role).await?, (expected.into(), tags.into()));
    // Of the table all but what the workers remember, which is no institute's.
    let policies = twins::policies(&it, role).await?;
    let statements = policies.iter().flat_map(|it| it["Statement"].as_array().into_iter().flatten());
    let denied: Vec<_> = statements.filter(|it| it["Effect"] == "Deny").collect();
    let [denied] = denied.as_slice() else { anyhow::bail!("one Deny: {denied:?}") };
    assert_eq!(permissions::texts(&denied["Action"]), ["dynamodb:GetItem", "dynamodb:Query"]);
    assert_eq!(permissions::texts(&denied["Resource"]), [table]);
    let condition = denied["Condition"].as_object().context("a condition")?;
    assert_eq!(condition.keys().collect::<Vec<_>>(), ["ForAnyValue:StringLike"]);
    assert_eq!(permissions::texts(&condition["ForAnyValue:StringLike"]["dynamodb:LeadingKeys"]), ["#*"]);
    let expected = json!({
        "StringEquals": { "cognito-identity.amazonaws.com:aud": it.outputs.identity_pool_id },
        "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": output("StaffUserPoolProviderName")? },
        "ForAllValues:StringNotLike": { "cognito-identity.amazonaws.com:amr": [output("UserPoolProviderName")?] },
    });
    assert_eq!(trust(&it, role).await?, expected);
    Ok(())
}
