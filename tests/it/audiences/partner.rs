//! A partner: an identity provider of its own, which writes its own claims, in a deployment of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use aws_sdk_cognitoidentity::Client as Identity;
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, ChallengeNameType};
use aws_sdk_sts::Client as Sts;
use client::http::{self, Api};
use domain::arrivals;
use secrecy::ExposeSecret;
use serde_json::json;
use sluice::Outputs;
use sluice::operator::deploy::{self, Options, Sources, With};
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{DEADLINE, Harness, adt, patiently, unique};

use super::deeds::Scene;
use super::provider::{CLIENT, Provider};
use super::{Login, PARTNER, STAFF, USER, allowed, aws_of, name_of, refused, role, staff_member, trust};
use crate::{attacks, permissions, twins};

/// A deployment of its own, with a partner in it.
struct Second {
    it: Harness,
    provider: Provider,
    sources: Sources,
    stack: String,
    institute: String,
}

impl Second {
    async fn new() -> Result<Self> {
        // First, for it packs the workers as well.
        let it = Harness::new()?;
        let workspace = Workspace::find().await?;
        let packages =
            package(&workspace, Purpose::Local(Profile::Dev), &workspace.policies(), None, &Reporter::silent()).await?;
        Ok(Self {
            institute: it.institute.clone(),
            it,
            provider: Provider::new()?,
            sources: Sources::read(&workspace, packages)?,
            stack: format!("partner{}", std::process::id()),
        })
    }

    async fn deploy(&self, parameters: &[(&str, &str)]) -> Result<Outputs> {
        let mut parameters: BTreeMap<_, _> = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        parameters.insert("PasswordSignIn".to_owned(), "true".to_owned());
        let options = Options { stack: self.stack.clone(), parameters, ..Options::default() };
        Ok(deploy::deploy(&self.it.aws, &self.sources, &options, &Reporter::silent()).await?.outputs)
    }

    /// As it comes: no partner, and no staff without a second factor.
    async fn without_a_partner(&self) -> Result<()> {
        let outputs = self.deploy(&[]).await?;
        for name in ["PartnerIssuer", "PartnerClientId", "PartnerJwksUri", "PartnerInstitute", "PartnerRoleArn"] {
            ensure!(outputs.stack_output(name)?.is_empty(), "{name}");
        }
        let login = Login::partner(&self.provider, &json!({}));
        let outcome = role(&outputs, &[&login], None).await?;
        ensure!(refused(&outcome), "{outcome:?}");

        let user = staff_member(&self.it.aws, &outputs).await?;
        let client = outputs.stack_output("StaffUserPoolClientId")?;
        let auth = Cognito::new(self.it.aws.config()).initiate_auth().client_id(client);
        let auth = auth.auth_flow(AuthFlowType::UserPasswordAuth).auth_parameters("USERNAME", &user.email);
        let asked = auth.auth_parameters("PASSWORD", user.password.expose_secret()).send().await?;
        ensure!(asked.challenge_name() == Some(&ChallengeNameType::MfaSetup), "{:?}", asked.challenge_name());
        ensure!(asked.authentication_result().is_none());
        Ok(())
    }

    /// A partner is whole or none, and its institute is a name.
    async fn half_a_partner(&self) -> Result<()> {
        let issuer = self.provider.issuer();
        let whole = [("PartnerIssuer", issuer.as_str()), ("PartnerClientId", CLIENT), ("PartnerInstitute", "st-elsewhere")];
        for (missing, _) in whole {
            let rest: Vec<_> = whole.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = format!("{:#}", self.deploy(&rest).await.map(drop).unwrap_err());
            ensure!(error.contains(&format!("A partner needs {missing}")), "{error}");
        }
        for (name, value) in [
            ("PartnerInstitute", "*"),
            ("PartnerInstitute", "a/b"),
            ("PartnerInstitute", "${aws:userid}"),
            ("PartnerIssuer", "http://idp.example"),
            ("PartnerIssuer", "https://*.example"),
            ("PartnerClientId", "a*"),
        ] {
            let changed: Vec<_> = whole.into_iter().map(|it| if it.0 == name { (name, value) } else { it }).collect();
            let error = format!("{:#}", self.deploy(&changed).await.map(drop).unwrap_err());
            ensure!(error.contains(name), "{value}: {error}");
        }
        Ok(())
    }

    async fn with_a_partner(&self) -> Result<Outputs> {
        let (issuer, keys) = (self.provider.issuer(), self.provider.keys());
        self.deploy(&[
            ("StaffMultiFactor", "OPTIONAL"),
            ("PartnerIssuer", &issuer),
            ("PartnerJwksUri", &keys),
            ("PartnerClientId", CLIENT),
            ("PartnerInstitute", &self.institute),
        ])
        .await
    }

    /// The API takes its messages for its institute, whatever its tokens say, and gives back no content.
    async fn through_the_api(&self, outputs: &Outputs) -> Result<()> {
        let api = Api::new(&outputs.api_url)?;
        let other = json!({ "custom:write": "another-institute", "custom:read": self.institute, "write": "another-institute" });
        let token = self.provider.token(&other);
        let message = adt(&unique(), "DOE");
        let submitted = patiently(async || api.submit(message.clone().into_bytes(), http::ER7, Some(&token)).await).await?;
        ensure!(submitted.status == 202, "{}: {}", submitted.status, submitted.json());
        let message_id = submitted.text("messageId");
        let status = api.final_status(&message_id, &token, DEADLINE).await?;
        ensure!(status["status"] == "stored", "{status}");
        let listed = api.get(&format!("/institutes/{}/er7", self.institute), Some(&token)).await?;
        ensure!(listed.json()["messages"][0]["messageId"] == message_id.as_str(), "{}: {}", listed.status, listed.json());
        let statuses = format!("/institutes/{}/er7/{message_id}/status", self.institute);
        ensure!(api.get(&statuses, Some(&token)).await?.status == 200);
        for path in [
            format!("/er7/{message_id}"),
            "/er7".to_owned(),
            "/institutes/another-institute/er7".to_owned(),
            statuses.replace("test-", "rest-"),
        ] {
            let answer = api.get(&path, Some(&token)).await?;
            ensure!(answer.status == 403, "{path}: {}", answer.status);
        }
        for (what, token) in self.provider.bad_tokens()? {
            let answer = api.get(&statuses, Some(&token)).await?;
            ensure!(answer.status == 403, "{what}: {}", answer.status);
        }
        Ok(())
    }

    /// It submits for its institute and sees what became of that, whatever its tokens say.
    async fn its_rights(&self, outputs: &Outputs) -> Result<()> {
        let other = "another-institute";
        let scene = Scene::new(&self.it.aws, outputs, &self.institute).await?;
        for claims in [
            json!({}),
            json!({ "sub": "a|user with ${aws:PrincipalTag/read}, * and ?" }),
            json!({ "custom:write": other, "custom:read": other, "write": other, "read": other, "staff": "staff" }),
            json!({ "custom:write": "*", "custom:read": self.institute, "read": self.institute }),
            json!({ "cognito:groups": ["lake-staff"], "cognito:roles": [outputs.stack_output("StaffRoleArn")?],
                "cognito:preferred_role": outputs.stack_output("UserRoleArn")? }),
            json!({ "https://aws.amazon.com/tags": { "principal_tags": { "read": [other], "write": [other] } } }),
            json!({ "token_use": "id", "cognito:username": "admin", "amr": ["authenticated"] }),
        ] {
            let aws = aws_of(outputs, &Login::partner(&self.provider, &claims)).await?;
            let may = scene.may(&aws).await?;
            ensure!(may == PARTNER, "with {claims} it may {may:?}");
        }
        scene.root_may_do_all().await
    }

    /// Only a token of its provider for this deployment is one.
    async fn bad_tokens(&self, outputs: &Outputs) -> Result<()> {
        ensure!(role(outputs, &[&Login::partner(&self.provider, &json!({}))], None).await?.is_ok());
        for (what, token) in self.provider.bad_tokens()? {
            let login = Login { provider: self.provider.login(), token };
            let outcome = role(outputs, &[&login], None).await?;
            ensure!(refused(&outcome), "{what}: {outcome:?}");
        }
        // A provider that nobody has told IAM about, with a token that is good in itself.
        let stranger = Provider::new()?;
        let outcome = role(outputs, &[&Login::partner(&stranger, &json!({}))], None).await?;
        ensure!(refused(&outcome), "{outcome:?}");
        // Nor does the deployment without a partner take this one's.
        let outcome = role(self.it.outputs, &[&Login::partner(&self.provider, &json!({}))], None).await?;
        ensure!(refused(&outcome), "{outcome:?}");
        Ok(())
    }

    /// No role but one's own, by whatever sign-ins and by whatever wish.
    async fn roles_stay_apart(&self, outputs: &Outputs) -> Result<()> {
        let aws = &self.it.aws;
        let logins = [
            ("UserRoleArn", Login::user(aws, outputs, "user-institute").await?),
            ("StaffRoleArn", Login::staff(aws, outputs).await?),
            ("PartnerRoleArn", Login::partner(&self.provider, &json!({}))),
        ];
        let scene = Scene::new(aws, outputs, "user-institute").await?;
        for linked in [false, true] {
            for (own, login) in &logins {
                for (name, _) in &logins {
                    let wanted = outputs.stack_output(name)?;
                    let outcome = role(outputs, &[login], Some(wanted)).await?;
                    let good = if name == own { outcome == Ok(name_of(wanted).to_owned()) } else { refused(&outcome) };
                    ensure!(good, "{own} asks for {name}, linked {linked}: {outcome:?}");
                }
                let may = scene.may(&aws_of(outputs, login).await?).await?;
                let expected = match *own {
                    "UserRoleArn" => &USER[..],
                    "StaffRoleArn" => &STAFF[..],
                    // It is an institute that the partner has nothing to do with.
                    _ => &[],
                };
                ensure!(may == expected, "{own}, linked {linked}: {may:?}");
            }
            // Two at once, or all three: from then on they are one identity.
            let [user, staff, partner] = logins.each_ref().map(|(_, login)| login);
            for together in [&[user, partner][..], &[staff, partner], &[user, staff], &[user, staff, partner]] {
                for wanted in [None].into_iter().chain(logins.iter().map(|(name, _)| Some(*name))) {
                    let arn = wanted.map(|name| outputs.stack_output(name)).transpose()?;
                    let outcome = role(outputs, together, arn).await?;
                    ensure!(refused(&outcome), "{wanted:?} of {}: {outcome:?}", together.len());
                }
            }
        }
        // Not at STS either, with the partner's token itself: nothing trusts its provider but Cognito.
        let token = self.provider.token(&json!({}));
        for name in ["UserRoleArn", "StaffRoleArn", "PartnerRoleArn"] {
            let assume = Sts::new(aws.config()).assume_role_with_web_identity().role_session_name("session");
            let assume = assume.role_arn(outputs.stack_output(name)?).web_identity_token(token.expose_secret());
            let refusal = assume.send().await.unwrap_err();
            ensure!(refusal.code() == Some("AccessDenied"), "{name}: {refusal:?}");
        }
        Ok(())
    }

    /// With two of the three locks open, the third one holds. Nothing closes them again.
    async fn each_lock_holds_alone(&self, outputs: &Outputs) -> Result<()> {
        let aws = &self.it.aws;
        let claims = json!({ "custom:read": "user-institute", "custom:write": "user-institute" });
        let logins = [
            ("UserRoleArn", Login::user(aws, outputs, "user-institute").await?, &USER[..]),
            ("StaffRoleArn", Login::staff(aws, outputs).await?, &STAFF[..]),
            ("PartnerRoleArn", Login::partner(&self.provider, &claims), &[]),
        ];
        let scene = Scene::new(aws, outputs, "user-institute").await?;
        let (identity, iam) = (Identity::new(aws.config()), aws_sdk_iam::Client::new(aws.config()));
        let pool = &outputs.identity_pool_id;
        let mappings = identity.get_identity_pool_roles().identity_pool_id(pool).send().await?.role_mappings;
        let set_roles = async |role: &str, mappings| {
            let set = identity.set_identity_pool_roles().identity_pool_id(pool).roles("authenticated", role);
            set.set_role_mappings(mappings).send().await
        };

        // No mapping: everybody gets the default role. Whose it is not, the trust policy refuses.
        for (name, _, _) in &logins {
            set_roles(outputs.stack_output(name)?, None).await?;
            for (own, login, _) in &logins {
                let outcome = role(outputs, &[login], None).await?;
                ensure!(if own == name { outcome.is_ok() } else { refused(&outcome) }, "{own} has {name}: {outcome:?}");
            }
        }
        // No trust policy either: the tags refuse.
        for (name, _, _) in &logins {
            let arn = outputs.stack_output(name)?;
            let trusting = iam.update_assume_role_policy().role_name(name_of(arn));
            trusting.policy_document(attacks::world::trust(pool).to_string()).send().await?;
            set_roles(arn, None).await?;
            for (own, login, may) in &logins {
                let found = scene.may(&aws_of(outputs, login).await?).await?;
                ensure!(found == if own == name { may.to_vec() } else { Vec::new() }, "{own} as {name} may {found:?}");
            }
        }
        // The mapping alone.
        set_roles(outputs.stack_output("UserRoleArn")?, mappings).await?;
        for (own, login, _) in &logins {
            for (name, _, _) in &logins {
                let outcome = role(outputs, &[login], Some(outputs.stack_output(name)?)).await?;
                ensure!(if own == name { outcome.is_ok() } else { refused(&outcome) }, "{own} asks for {name}: {outcome:?}");
            }
        }
        Ok(())
    }

    /// The role as it stands there, and what else says who gets it.
    async fn its_role(&self, outputs: &Outputs) -> Result<()> {
        let output = |name: &str| outputs.stack_output(name);
        let (lake, table, key) = (output("LakeBucketArn")?, output("CatalogTableArn")?, output("DataKeyArn")?);
        let institute = &self.institute;
        let expected = [
            format!("s3:PutObject {lake}/source={institute}/*"),
            format!("s3:PutObjectTagging {lake}/source={institute}/*"),
            format!("dynamodb:GetItem {table}"),
            format!("dynamodb:Query {table}"),
            format!("dynamodb:Query {table}/index/by-held-since"),
            format!("dynamodb:Query {table}/index/by-control-id"),
            format!("dynamodb:Query {table}/index/by-arrival"),
            format!("kms:GenerateDataKey {key}"),
            format!("kms:Decrypt {key}"),
        ];
        let tags = [format!("aws:PrincipalTag/partner \"{CLIENT}\"")];
        let role = name_of(output("PartnerRoleArn")?);
        ensure!(allowed(&self.it, role).await? == (expected.into(), tags.into()));
        let role_policies = twins::policies(&self.it, role).await?;
        let statements = role_policies.iter().flat_map(|it| it["Statement"].as_array().into_iter().flatten());
        for statement in statements.filter(|it| it["Action"].to_string().contains("dynamodb:")) {
            let keys = &statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"];
            let is_of_arrivals = permissions::texts(&statement["Resource"]).iter().any(|it| it.ends_with("/index/by-arrival"));
            let expected = if is_of_arrivals { arrivals::shards(institute).to_vec() } else { vec![institute.clone()] };
            ensure!(permissions::texts(keys) == expected, "{statement}");
            ensure!(statement["Condition"]["Null"]["dynamodb:LeadingKeys"] == "false", "{statement}");
        }

        let (users, staff) = (output("UserPoolProviderName")?, output("StaffUserPoolProviderName")?);
        let (login, aud) = (self.provider.login(), "cognito-identity.amazonaws.com:aud");
        let account = output("UserRoleArn")?.split(':').nth(4).context("an account")?;
        let arn = format!("arn:aws:iam::{account}:oidc-provider/{login}");
        let partner = [login, arn.clone(), format!("{arn}:*")];
        for (name, own, others) in [
            ("UserRoleArn", json!(users), json!([staff, partner[0], partner[1], partner[2]])),
            ("StaffRoleArn", json!(staff), json!([users, partner[0], partner[1], partner[2]])),
            ("PartnerRoleArn", json!(partner), json!([users, staff])),
        ] {
            let expected = json!({
                "StringEquals": { aud: outputs.identity_pool_id },
                "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": own },
                "ForAllValues:StringNotLike": { "cognito-identity.amazonaws.com:amr": others },
            });
            let found = trust(&self.it, name_of(output(name)?)).await?;
            ensure!(found == expected, "{name}: {found}");
        }

        let identity = Identity::new(self.it.aws.config());
        let roles = identity.get_identity_pool_roles().identity_pool_id(&outputs.identity_pool_id).send().await?;
        let mappings: BTreeSet<&str> = roles.role_mappings().context("mappings")?.keys().map(String::as_str).collect();
        let of_staff = format!("{staff}:{}", output("StaffUserPoolClientId")?);
        ensure!(mappings == BTreeSet::from([of_staff.as_str(), &arn]), "{mappings:?}");
        for (provider, expected) in [
            (users, BTreeMap::from([("read", "custom:read"), ("user", "sub"), ("write", "custom:write")])),
            (staff, BTreeMap::from([("staff", "aud"), ("subject", "sub")])),
            (&arn, BTreeMap::from([("partner", "aud")])),
        ] {
            let map = identity.get_principal_tag_attribute_map().identity_pool_id(&outputs.identity_pool_id);
            let map = map.identity_provider_name(provider).send().await?;
            let map = map.principal_tags().context("tags")?.iter().map(|(tag, claim)| (tag.as_str(), claim.as_str()));
            ensure!(map.collect::<BTreeMap<_, _>>() == expected, "{provider}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_partner_submits_for_one_institute_and_sees_its_records_whatever_its_tokens_say() -> Result<()> {
    let second = Second::new().await?;
    let mut wrong = String::new();
    let mut note = |what: &str, outcome: Result<()>| match outcome {
        Ok(()) => Ok(()),
        Err(error) => writeln!(wrong, "{what}: {error:#}"),
    };
    note("without a partner", second.without_a_partner().await)?;
    note("half a partner", second.half_a_partner().await)?;
    match second.with_a_partner().await {
        Ok(outputs) => {
            note("through the API", second.through_the_api(&outputs).await)?;
            note("its rights", second.its_rights(&outputs).await)?;
            note("bad tokens", second.bad_tokens(&outputs).await)?;
            note("roles stay apart", second.roles_stay_apart(&outputs).await)?;
            note("its role", second.its_role(&outputs).await)?;
            note("each lock holds alone", second.each_lock_holds_alone(&outputs).await)?;
            // The operator takes the partner away.
            let gone = second
                .deploy(&[("PartnerIssuer", ""), ("PartnerClientId", ""), ("PartnerJwksUri", ""), ("PartnerInstitute", "")])
                .await;
            let login = Login::partner(&second.provider, &json!({}));
            let outcome = match gone {
                Ok(outputs) => role(&outputs, &[&login], None).await.map(|it| refused(&it)),
                Err(error) => Err(error),
            };
            note("taken away", outcome.and_then(ensure_refused))?;
        }
        Err(error) => note("with a partner", Err(error))?,
    }
    deploy::destroy(&second.it.aws, &second.stack, With { users: true, data: true }, &Reporter::silent()).await?;
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn ensure_refused(refused: bool) -> Result<()> {
    ensure!(refused, "it still gets credentials");
    Ok(())
}
