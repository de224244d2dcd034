//! Where the attacks happen: this deployment, and beside it a bucket and a table under the AWS sample's role.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::types::CognitoIdentityProvider;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_iam::Client as Iam;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use client::deployment::Deployment;
use domain::arrivals;
use serde_json::{Value, json};
use sluice::Outputs;
use sluice_tests::{Caller, Harness, unique};

use super::call::{Answer, Call};
use super::judge::{Judge, Tags};
use crate::twins;

/// Who tries. All but the last hold nothing but a user's sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// Reads and writes for the own institute.
    Admin,
    /// Only reads.
    Reader,
    /// Only writes.
    Writer,
    /// Has neither claim.
    Nobody,
    /// Has both claims, and they are empty.
    Blank,
    /// The account's root, who shows that a request is well made.
    Root,
}

/// An object of the lake, for one attempt.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) key: String,
    /// Its `source` tag; empty for none.
    pub(super) source: String,
    /// The version before the current one.
    pub(super) old_version: String,
    /// The `source` tag of that version.
    pub(super) old_source: String,
}

/// What an attempt is about.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Which attempt. It is a part of all its keys.
    pub(super) id: String,
    pub(super) bucket: String,
    pub(super) table: String,
    /// The index by patient, and the key of its hashes.
    pub(super) patients: String,
    pub(super) patient_key: String,
    /// Those of messages on their way and of the workers' code.
    pub(super) other_buckets: Vec<String>,
    pub(super) own: String,
    pub(super) other: String,
    pub(super) region: String,
    pub(super) account: String,
    /// An object of the own institute.
    pub(super) mine: Object,
    /// An object of the other institute.
    pub(super) theirs: Object,
    /// Below the own prefix, with the other institute's tag.
    pub(super) mislabelled: Object,
    /// Below the own prefix, without a tag.
    pub(super) untagged: Object,
    /// The own institute's now, and once labelled as the other's.
    pub(super) moved: Object,
    /// Sort key of an item of either institute.
    pub(super) message_id: String,
    pub(super) user_pool: String,
    pub(super) identity_pool: String,
    pub(super) provider: String,
    pub(super) queue: String,
    pub(super) queue_url: String,
    pub(super) topic: String,
    pub(super) machine: String,
    pub(super) functions: Vec<String>,
    pub(super) worker_roles: Vec<String>,
    pub(super) user_role: String,
    pub(super) data_key: String,
    pub(super) token_key: String,
    pub(super) another_user: String,
    /// The table of enrollment.
    pub(super) enrollment: String,
    /// The ARN of the API.
    pub(super) api_arn: String,
    /// What stands before each of the API's paths at the endpoint.
    pub(super) api_path: String,
}

impl Place {
    /// A new key of an institute, or what stands in its place.
    pub(super) fn key_of(&self, institute: &str) -> String {
        key_of(institute, &self.id)
    }

    pub(super) fn bucket_arn(&self) -> String {
        format!("arn:aws:s3:::{}", self.bucket)
    }

    pub(super) fn table_arn(&self) -> String {
        format!("arn:aws:dynamodb:{}:{}:table/{}", self.region, self.account, self.table)
    }
}

fn key_of(institute: &str, id: &str) -> String {
    format!("source={institute}/protocol=hl7v2/format=er7/zone=ingest/date=2026-01-02/{id}.hl7")
}

/// Everything of one role: the place, the callers, and the policies that decide.
pub(super) struct World {
    it: Harness,
    outputs: Outputs,
    other: Harness,
    callers: BTreeMap<Who, (Tags, Credentials)>,
    pub(super) judge: Judge,
    pub(super) is_sample: bool,
    message_id: String,
    worker_roles: Vec<String>,
    user_role: String,
    made: Option<Made>,
    attempts: AtomicUsize,
}

/// The role that everybody of the identity pool gets in the AWS sample, from its auth_stack.yml (blog_3). The sample
/// has no policy on its bucket and no condition of DynamoDB.
fn sample_policy(bucket: &str) -> Value {
    let objects = format!("arn:aws:s3:::{bucket}/*");
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["mobileanalytics:PutEvents", "cognito-sync:*", "cognito-identity:*"], "Resource": "*" },
        { "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": objects,
          "Condition": { "StringEquals": { "s3:ExistingObjectTag/source": "${aws:PrincipalTag/read}" } } },
        { "Effect": "Allow", "Action": ["s3:PutObject", "s3:PutObjectTagging"], "Resource": objects,
          "Condition": { "StringEquals": { "s3:RequestObjectTag/source": "${aws:PrincipalTag/write}" } } },
    ]})
}

/// The trust of a role in an identity pool, as the sample has it.
pub(crate) fn trust(identity_pool: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": "cognito-identity.amazonaws.com" },
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
        "Condition": { "StringEquals": { "cognito-identity.amazonaws.com:aud": identity_pool },
                       "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": "authenticated" } } }]})
}

/// The trust of the users' role in their identity pool: in their user pool's sign-ins, and in none with another beside it.
pub(super) fn users_trust(identity_pool: &str, users: &str, staff: &str) -> Value {
    let mut document = trust(identity_pool);
    let condition = &mut document["Statement"][0]["Condition"];
    condition["ForAnyValue:StringLike"]["cognito-identity.amazonaws.com:amr"] = json!(users);
    condition["ForAllValues:StringNotLike"] = json!({ "cognito-identity.amazonaws.com:amr": [staff] });
    document
}

impl World {
    /// This deployment, with two institutes of its own.
    pub(super) async fn here() -> Result<Self> {
        let it = Harness::new()?;
        let outputs = it.outputs.clone();
        let user_role = it.outputs.stack_output("UserRoleArn")?.to_owned();
        let mut policies = twins::policies(&it, name_of(&user_role)).await?;
        let bucket_policy = it.aws.s3().get_bucket_policy().bucket(&outputs.bucket).send().await?;
        policies.push(serde_json::from_str(bucket_policy.policy().context("the lake's bucket has no policy")?)?);
        Self::new(it, outputs, policies, user_role, None).await
    }

    /// A bucket, a table and an identity pool under the sample's role. They end with this value.
    pub(super) async fn sample() -> Result<Self> {
        let it = Harness::new()?;
        let made = Made::new(&it).await?;
        let mut outputs = it.outputs.clone();
        outputs.bucket.clone_from(&made.name);
        outputs.table.clone_from(&made.name);
        outputs.identity_pool_id.clone_from(&made.identity_pool);
        let role = format!("arn:aws:iam::{}:role/{}", made.account, made.name);
        Self::new(it, outputs, vec![sample_policy(&made.name)], role, Some(made)).await
    }

    async fn new(it: Harness, outputs: Outputs, policies: Vec<Value>, user_role: String, made: Option<Made>) -> Result<Self> {
        let other = Harness::new()?;
        let own = it.institute.clone();
        let tags = |read: &str, write: &str| -> Tags {
            [("read", read), ("write", write)]
                .into_iter()
                .filter(|it| !it.1.is_empty())
                .map(|it| (it.0, it.1.to_owned()))
                .collect()
        };
        let deployment = Deployment::try_from(&outputs)?;
        let mut callers = BTreeMap::new();
        callers.insert(Who::Root, (Vec::new(), root(&it)?));
        for (who, read, write) in
            [(Who::Admin, &*own, &*own), (Who::Reader, &*own, ""), (Who::Writer, "", &*own), (Who::Nobody, "", "")]
        {
            let token = it.caller(read, write).await?.token;
            callers.insert(who, (tags(read, write), client::sign_in::exchange(&deployment, &token).await?));
        }
        let blank = blank(&it).await?.token;
        let blank = client::sign_in::exchange(&deployment, &blank).await?;
        callers.insert(Who::Blank, (vec![("read", String::new()), ("write", String::new())], blank));
        let account = user_role.split(':').nth(4).context("an account")?;
        let mut worker_roles = Vec::new();
        for stack in ["pipeline", "identity", "tables"] {
            let roles = twins::roles(&it, stack).await?;
            let workers = roles.iter().filter(|(name, _)| *name != "UserRole");
            worker_roles.extend(workers.map(|(_, name)| format!("arn:aws:iam::{account}:role/{name}")));
        }
        ensure!(!worker_roles.is_empty(), "no worker has a role");
        let message_id = "4".repeat(64);
        let world = Self {
            judge: Judge::new(policies),
            is_sample: made.is_some(),
            it,
            outputs,
            other,
            callers,
            message_id,
            worker_roles,
            user_role,
            made,
            attempts: AtomicUsize::new(0),
        };
        let dynamodb = aws_sdk_dynamodb::Client::new(world.it.aws.config());
        for institute in [&world.it.institute, &world.other.institute] {
            let put = dynamodb.put_item().table_name(&world.outputs.table);
            let put = put.item("source", AttributeValue::S(institute.clone()));
            let put = put.item("message_id", AttributeValue::S(world.message_id.clone()));
            let put = put.item(arrivals::SHARD, AttributeValue::S(arrivals::shards(institute)[2].clone()));
            put.item("received_at", AttributeValue::S("2026-01-02T03:04:05.000Z".to_owned())).send().await?;
        }
        Ok(world)
    }

    /// Makes what an attempt is about.
    pub(super) async fn place(&self, row: &str) -> Result<Place> {
        // The same row may be tried twice.
        let id = format!("{row}-{}", self.attempts.fetch_add(1, Ordering::Relaxed));
        let (own, other) = (self.it.institute.clone(), self.other.institute.clone());
        let put = async |name: &str, institute: &str, old_source: &str, source: &str| -> Result<Object> {
            let key = key_of(institute, &format!("{id}.{name}"));
            let mut versions = Vec::new();
            for source in [old_source, source] {
                let tagging = (!source.is_empty()).then(|| format!("source={source}&state=parsed"));
                let put = self.it.aws.s3().put_object().bucket(&self.outputs.bucket).key(&key).set_tagging(tagging);
                let put = put.body(format!("MSH|{source}").into_bytes().into()).send().await?;
                versions.push(put.version_id().unwrap_or_default().to_owned());
            }
            let old_version = versions.into_iter().next().unwrap_or_default();
            Ok(Object { key, source: source.to_owned(), old_version, old_source: old_source.to_owned() })
        };
        let output = |name: &str| Ok::<_, anyhow::Error>(self.it.outputs.stack_output(name)?.to_owned());
        let real = Place {
            mine: put("mine", &own, &own, &own).await?,
            theirs: put("theirs", &other, &other, &other).await?,
            mislabelled: put("mislabelled", &own, &other, &other).await?,
            untagged: put("untagged", &own, "", "").await?,
            moved: put("moved", &own, &other, &own).await?,
            id,
            bucket: self.outputs.bucket.clone(),
            table: self.outputs.table.clone(),
            patients: output("PatientTableName")?,
            patient_key: output("PatientKeyArn")?,
            other_buckets: [&self.outputs.overflow_bucket, &self.outputs.artifact_bucket]
                .into_iter()
                .chain(&self.outputs.held_bucket)
                .cloned()
                .collect(),
            own,
            other,
            region: self.outputs.region.clone(),
            account: self.user_role.split(':').nth(4).unwrap_or_default().to_owned(),
            message_id: self.message_id.clone(),
            user_pool: self.outputs.user_pool_id.clone(),
            identity_pool: self.outputs.identity_pool_id.clone(),
            provider: output("UserPoolProviderName")?,
            queue: output("QueueArn")?,
            queue_url: output("QueueUrl")?,
            topic: output("TopicArn")?,
            machine: output("StateMachineArn")?,
            functions: self
                .it
                .outputs
                .stack_outputs
                .iter()
                .filter(|it| it.0.ends_with("FunctionName"))
                .map(|it| it.1.clone())
                .collect(),
            worker_roles: self.worker_roles.clone(),
            user_role: self.user_role.clone(),
            data_key: output("DataKeyArn")?,
            token_key: output("TokenKeyArn")?,
            another_user: "nobody@test.example".to_owned(),
            enrollment: output("EnrollmentTableName")?,
            api_arn: format!(
                "arn:aws:execute-api:{}:{}:{}",
                self.outputs.region,
                self.user_role.split(':').nth(4).unwrap_or_default(),
                output("ApiId")?
            ),
            api_path: self
                .outputs
                .api_url
                .strip_prefix(self.it.aws.endpoint_url().context("an endpoint")?)
                .context("an API at the endpoint")?
                .to_owned(),
        };
        ensure!(real.functions.len() > 5, "the workers are {:?}", real.functions);
        let Some(made) = &self.made else { return Ok(real) };
        // In the sample's place nothing of this deployment may be hit, since there root tries everything as well.
        let none = |text: &str| format!("{text}-none");
        Ok(Place {
            user_pool: format!("{}_NoSuchPool", real.region),
            identity_pool: made.victim_pool.clone(),
            queue: none(&real.queue),
            queue_url: none(&real.queue_url),
            topic: none(&real.topic),
            machine: none(&real.machine),
            functions: real.functions.iter().map(|it| none(it)).collect(),
            worker_roles: real.worker_roles.iter().map(|it| none(it)).collect(),
            user_role: none(&real.user_role),
            enrollment: none(&real.enrollment),
            patients: none(&real.patients),
            patient_key: real.patient_key.replace("key/", "key/0"),
            data_key: real.data_key.replace("key/", "key/0"),
            token_key: real.token_key.replace("key/", "key/0"),
            ..real
        })
    }

    pub(super) async fn send(&self, who: Who, call: &Call) -> Result<Answer> {
        let endpoint = self.it.aws.endpoint_url().context("an endpoint")?;
        let (_, credentials) = self.callers.get(&who).context("a caller")?;
        call.send(endpoint, &self.outputs.region, credentials).await
    }

    pub(super) fn tags(&self, who: Who) -> Result<&Tags> {
        Ok(&self.callers.get(&who).context("a caller")?.0)
    }

    /// What is in bucket and table of an attempt: versions with their tags, and the two items.
    pub(super) async fn state(&self, place: &Place) -> Result<BTreeMap<String, String>> {
        let (s3, mut state) = (self.it.aws.s3(), BTreeMap::new());
        for institute in [&place.own, &place.other] {
            for start in ["", "/"] {
                let prefix = format!("{start}source={institute}");
                let page = s3.list_object_versions().bucket(&place.bucket).prefix(prefix).send().await?;
                ensure!(page.is_truncated() != Some(true), "an institute has too many objects to look at");
                ensure!(page.delete_markers().is_empty(), "something was deleted: {:?}", page.delete_markers());
                for it in page.versions().iter().filter(|it| it.key().unwrap_or_default().contains(&place.id)) {
                    let (key, version) = (it.key().unwrap_or_default(), it.version_id().unwrap_or_default());
                    let tags = s3.get_object_tagging().bucket(&place.bucket).key(key).version_id(version).send().await?;
                    state.insert(format!("{key} {version}"), format!("{:?} {:?}", it.e_tag(), tags.tag_set()));
                }
            }
            let key = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
            let get = aws_sdk_dynamodb::Client::new(self.it.aws.config()).get_item().table_name(&place.table);
            let get = get.set_key(Some([key("source", institute), key("message_id", &place.message_id)].into()));
            state.insert(institute.clone(), format!("{:?}", get.send().await?.item().map(|it| it.len())));
        }
        Ok(state)
    }
}

/// The account's root, as the local AWS has it.
pub(super) fn root(it: &Harness) -> Result<Credentials> {
    Ok(it.outputs.root_key.as_ref().context("a root key")?.credentials())
}

/// A user whose claims are there and empty.
pub(super) async fn blank(it: &Harness) -> Result<Caller> {
    let email = format!("{}@test.example", unique());
    let user = sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, "x", "x").await?;
    let empty = |name: &str| AttributeType::builder().name(name).value("").build();
    let update = aws_sdk_cognitoidentityprovider::Client::new(it.aws.config()).admin_update_user_attributes();
    let update = update.user_pool_id(&it.outputs.user_pool_id).username(&email);
    update.user_attributes(empty("custom:read")?).user_attributes(empty("custom:write")?).send().await?;
    Ok(Caller { token: client::sign_in::sign_in(&it.aws, &it.outputs.client_id, &user).await? })
}

pub(super) fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

/// What the sample's place consists of.
struct Made {
    aws: client::aws::Aws,
    /// Of bucket, table and role.
    name: String,
    account: String,
    identity_pool: String,
    /// Another identity pool, to be attacked.
    victim_pool: String,
}

impl Made {
    async fn new(it: &Harness) -> Result<Self> {
        let name = format!("test-{}", unique());
        let account = it.aws.account().await?;
        let identity = aws_sdk_cognitoidentity::Client::new(it.aws.config());
        let provider = it.outputs.stack_output("UserPoolProviderName")?;
        let pool = async || -> Result<String> {
            let users = CognitoIdentityProvider::builder().provider_name(provider).client_id(&it.outputs.client_id).build();
            let create = identity.create_identity_pool().identity_pool_name(&name).allow_unauthenticated_identities(false);
            Ok(create.cognito_identity_providers(users).send().await?.identity_pool_id().to_owned())
        };
        let made =
            Self { aws: it.aws.clone(), account, identity_pool: pool().await?, victim_pool: pool().await?, name: name.clone() };
        identity
            .set_principal_tag_attribute_map()
            .identity_pool_id(&made.identity_pool)
            .identity_provider_name(provider)
            .principal_tags("read", "custom:read")
            .principal_tags("write", "custom:write")
            .send()
            .await?;
        let iam = Iam::new(it.aws.config());
        let trust = trust(&made.identity_pool).to_string();
        let role = iam.create_role().role_name(&name).assume_role_policy_document(trust).send().await?;
        let policy = sample_policy(&name).to_string();
        iam.put_role_policy().role_name(&name).policy_name("sample").policy_document(policy).send().await?;
        let roles = identity.set_identity_pool_roles().identity_pool_id(&made.identity_pool);
        roles.roles("authenticated", role.role().context("a role")?.arn()).send().await?;

        let s3 = it.aws.s3();
        s3.create_bucket().bucket(&name).send().await?;
        let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        s3.put_bucket_versioning().bucket(&name).versioning_configuration(versioning).send().await?;
        let attribute =
            |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
        let keys = |sort: &str| -> Result<Vec<KeySchemaElement>> {
            let key = |name: &str, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            let hash = if sort == "received_at" { arrivals::SHARD } else { "source" };
            Ok(vec![key(hash, KeyType::Hash)?, key(sort, KeyType::Range)?])
        };
        let index = GlobalSecondaryIndex::builder().index_name(arrivals::INDEX).set_key_schema(Some(keys("received_at")?));
        let index = index.projection(Projection::builder().projection_type(ProjectionType::All).build()).build()?;
        let create = aws_sdk_dynamodb::Client::new(it.aws.config()).create_table().table_name(&name);
        let attributes = ["source", "message_id", "received_at", arrivals::SHARD].map(attribute);
        let attributes = attributes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let create = create.set_attribute_definitions(Some(attributes)).set_key_schema(Some(keys("message_id")?));
        create.billing_mode(BillingMode::PayPerRequest).global_secondary_indexes(index).send().await?;
        Ok(made)
    }

    async fn delete(&self) {
        let (s3, identity, iam) =
            (self.aws.s3(), aws_sdk_cognitoidentity::Client::new(self.aws.config()), Iam::new(self.aws.config()));
        for pool in [&self.identity_pool, &self.victim_pool] {
            let _ = identity.delete_identity_pool().identity_pool_id(pool).send().await;
        }
        let _ = iam.delete_role_policy().role_name(&self.name).policy_name("sample").send().await;
        let _ = iam.delete_role().role_name(&self.name).send().await;
        let _ = aws_sdk_dynamodb::Client::new(self.aws.config()).delete_table().table_name(&self.name).send().await;
        while let Ok(page) = s3.list_object_versions().bucket(&self.name).send().await {
            let versions = page.versions().iter().map(|it| (it.key(), it.version_id()));
            for (key, version) in versions.chain(page.delete_markers().iter().map(|it| (it.key(), it.version_id()))) {
                let delete = s3.delete_object().bucket(&self.name).set_key(key.map(str::to_owned));
                let _ = delete.set_version_id(version.map(str::to_owned)).send().await;
            }
            if page.is_truncated() != Some(true) {
                break;
            }
        }
        let _ = s3.delete_bucket().bucket(&self.name).send().await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        let clean_up = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(made.delete());
        };
        let _ = std::thread::spawn(clean_up).join();
    }
}
