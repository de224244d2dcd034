//! A deployment's life, on the local AWS: made, left alone, changed, broken, repaired, taken away.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::{OnFailure, Stack, StackStatus};
use aws_sdk_cognitoidentityprovider::types::DeletionProtectionType;
use aws_sdk_s3::primitives::ByteStream;
use client::aws::Aws;
use sluice::local::{UpOptions, up};
use sluice::operator::deploy::{Action, Change, Deployment, Kind, Options, Plan, Sources, With, deploy, destroy, plan};
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;

/// A sign-in prefix that nobody else may have: the one of the local system, see `local`.
const TAKEN_PREFIX: &str = "sluice-local";

/// A protected user pool and a protected table, and then a failure. They are retained, so that they can be looked at after
/// the stack is gone: the local CloudFormation deletes also what is protected, where AWS would fail.
const HALF_MADE: &str = r#"
Parameters:
  DeletionProtection: { Type: String, Default: ACTIVE }
Resources:
  UserPool:
    Type: AWS::Cognito::UserPool
    DeletionPolicy: Retain
    Properties: { DeletionProtection: !Ref DeletionProtection }
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: kind, AttributeType: S }]
      KeySchema: [{ AttributeName: kind, KeyType: HASH }]
      DeletionProtectionEnabled: true
  UserPoolDomain:
    Type: AWS::Cognito::UserPoolDomain
    DependsOn: Table
    Properties: { UserPoolId: !Ref UserPool, Domain: sluice-local }
"#;

/// A core stack of an earlier version, whose catalog has a name of its own, with a queue that no later version has.
const EARLIER: &str = r#"
Resources:
  CatalogTable:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Sub "${AWS::StackName}-earlier"
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: other, AttributeType: S }]
      KeySchema: [{ AttributeName: other, KeyType: HASH }]
  EarlierQueue:
    Type: AWS::SQS::Queue
  ArtifactBucket:
    Type: AWS::S3::Bucket
Outputs:
  ArtifactBucketName: { Value: !Ref ArtifactBucket }
"#;

/// An identity stack that was there before core had the outputs that the next version needs.
const EARLIER_IDENTITY: &str = "Resources: { Queue: { Type: AWS::SQS::Queue } }";

/// What a failed creation has left behind.
struct HalfMade {
    pools: aws_sdk_cognitoidentityprovider::Client,
    pool: String,
    tables: aws_sdk_dynamodb::Client,
    table: String,
}

impl HalfMade {
    /// The identity stack of a deployment, failed.
    async fn new(setting: &Setting) -> Self {
        let stacks = aws_sdk_cloudformation::Client::new(setting.aws.config());
        let name = format!("{}-identity", setting.stack);
        let create = stacks.create_stack().stack_name(&name).template_body(HALF_MADE).on_failure(OnFailure::DoNothing);
        create.send().await.unwrap();
        let status = async || {
            let answer = stacks.describe_stacks().stack_name(&name).send().await.unwrap();
            answer.stacks()[0].stack_status().unwrap().clone()
        };
        while status().await == StackStatus::CreateInProgress {
            tokio::time::sleep(setting.aws.poll_interval()).await;
        }
        assert_eq!(status().await, StackStatus::CreateFailed);
        let resources = stacks.describe_stack_resources().stack_name(&name).send().await.unwrap();
        let id = |logical: &str| {
            let mut resources = resources.stack_resources().iter();
            let resource = resources.find(|resource| resource.logical_resource_id() == Some(logical)).unwrap();
            resource.physical_resource_id().unwrap().to_owned()
        };
        Self {
            pools: aws_sdk_cognitoidentityprovider::Client::new(setting.aws.config()),
            pool: id("UserPool"),
            tables: aws_sdk_dynamodb::Client::new(setting.aws.config()),
            table: id("Table"),
        }
    }

    /// Whether the user pool and the table are.
    async fn are_protected(&self) -> (bool, bool) {
        let pool = self.pools.describe_user_pool().user_pool_id(&self.pool).send().await.unwrap().user_pool.unwrap();
        let table = self.tables.describe_table().table_name(&self.table).send().await.unwrap().table.unwrap();
        let pool = pool.deletion_protection() == Some(&DeletionProtectionType::Active);
        (pool, table.deletion_protection_enabled() == Some(true))
    }

    async fn delete(self) {
        self.pools.delete_user_pool().user_pool_id(self.pool).send().await.unwrap();
        self.tables.delete_table().table_name(self.table).send().await.unwrap();
    }
}

struct Setting {
    aws: Aws,
    sources: Sources,
    stack: String,
}

impl Setting {
    /// A deployment of its own beside the one that other tests use.
    async fn new(name: &str) -> Self {
        let outputs = up(UpOptions::default()).await.unwrap();
        let workspace = Workspace::find().await.unwrap();
        let packages =
            package(&workspace, Purpose::Local(Profile::Dev), &workspace.policies(), None, &Reporter::silent()).await.unwrap();
        Self {
            aws: outputs.local_aws().unwrap(),
            sources: Sources::read(&workspace, packages).unwrap(),
            stack: format!("{name}{}", std::process::id()),
        }
    }

    fn options(&self, parameters: &[(&str, &str)]) -> Options {
        let parameters: BTreeMap<_, _> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options { stack: self.stack.clone(), parameters, ..Options::default() }
    }

    async fn deploy(&self, parameters: &[(&str, &str)]) -> anyhow::Result<Deployment> {
        deploy(&self.aws, &self.sources, &self.options(parameters), &Reporter::silent()).await
    }

    async fn plan(&self, parameters: &[(&str, &str)]) -> Vec<Plan> {
        plan(&self.aws, &self.sources, &self.options(parameters), &Reporter::silent()).await.unwrap()
    }

    /// One of the stacks.
    async fn stack(&self, template: &str) -> Stack {
        let stacks = aws_sdk_cloudformation::Client::new(self.aws.config());
        let name = format!("{}-{template}", self.stack);
        stacks.describe_stacks().stack_name(name).send().await.unwrap().stacks.unwrap().remove(0)
    }

    /// What becomes of core, identity, pipeline and api.
    async fn changes(&self, parameters: &[(&str, &str)]) -> Vec<Change> {
        self.deploy(parameters).await.unwrap().changes.into_iter().map(|(_, change)| change).collect()
    }

    async fn destroy(&self, with: With) -> anyhow::Result<Vec<Kind>> {
        let kept = destroy(&self.aws, &self.stack, with, &Reporter::silent()).await?;
        Ok(kept.into_iter().map(|kept| kept.kind).collect())
    }
}

#[tokio::test]
async fn a_deployment_is_made_changed_and_taken_away() {
    use Change::{Created, Unchanged, Updated};
    let setting = Setting::new("life").await;

    let made = setting.deploy(&[]).await.unwrap();
    assert!(made.changes.iter().all(|(_, change)| *change == Created), "{:?}", made.changes);
    let names: Vec<_> = made.changes.iter().map(|(name, _)| name.strip_prefix(&setting.stack).unwrap()).collect();
    assert_eq!(names, ["-core", "-identity", "-pipeline", "-api"]);
    let stacks = aws_sdk_cloudformation::Client::new(setting.aws.config());
    for (name, _) in &made.changes {
        let answer = stacks.describe_stacks().stack_name(name).send().await.unwrap();
        let tags: Vec<_> = answer.stacks()[0].tags().iter().map(|tag| (tag.key().unwrap(), tag.value().unwrap())).collect();
        assert_eq!(tags, [("sluice:deployment", setting.stack.as_str())], "{name}");
    }
    assert_eq!(setting.changes(&[]).await, [Unchanged; 4]);
    // The log retention is a parameter of all but the first.
    assert_eq!(setting.changes(&[("LogRetentionDays", "30")]).await, [Unchanged, Updated, Updated, Updated]);

    let error = setting.deploy(&[("LogRetentionDay", "30")]).await.unwrap_err().to_string();
    assert!(error.contains("no template has a parameter `LogRetentionDay`"), "{error}");
    assert_eq!(setting.changes(&[("LogRetentionDays", "30")]).await, [Unchanged; 4]);

    // A message in the lake, and one on its way.
    let s3 = setting.aws.s3();
    let put = |key: &str| {
        let (bucket, body) = (made.outputs.bucket.clone(), ByteStream::from_static(b"MSH"));
        s3.put_object().bucket(bucket).key(key.to_owned()).tagging("source=a").body(body).send()
    };
    put("source=a/one.hl7").await.unwrap();
    put("source=a/one.hl7").await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(setting.aws.config());
    sqs.send_message().queue_url(&made.outputs.dead_letter_queue_url).message_body("{}").send().await.unwrap();

    let error = setting.destroy(With { users: true, data: false }).await.unwrap_err().to_string();
    assert!(error.contains("about 1 messages are still in the queue"), "{error}");
    sqs.purge_queue().queue_url(&made.outputs.dead_letter_queue_url).send().await.unwrap();
    let error = setting.destroy(With::default()).await.unwrap_err().to_string();
    assert!(error.contains("protected from deletion, and nothing was deleted"), "{error}");
    assert_eq!(setting.changes(&[("LogRetentionDays", "30")]).await, [Unchanged; 4]);

    let kept = setting.destroy(With { users: true, data: false }).await.unwrap();
    assert_eq!(
        kept,
        [Kind::LakeBucket, Kind::HeldBucket, Kind::CatalogTable, Kind::PatientTable, Kind::Key, Kind::Key, Kind::Key]
    );
    let object = s3.get_object().bucket(&made.outputs.bucket).key("source=a/one.hl7").send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"MSH");
    assert!(s3.head_bucket().bucket(&made.outputs.artifact_bucket).send().await.is_err());
    // Once more changes nothing, and still finds what was kept.
    assert_eq!(setting.destroy(With { users: true, data: false }).await.unwrap(), kept);

    assert_eq!(setting.destroy(With { users: true, data: true }).await.unwrap(), []);
    assert!(s3.head_bucket().bucket(&made.outputs.bucket).send().await.is_err());
    let dynamodb = aws_sdk_dynamodb::Client::new(setting.aws.config());
    assert!(dynamodb.describe_table().table_name(&made.outputs.table).send().await.is_err());
}

#[tokio::test]
async fn a_plan_tells_what_a_deployment_changes_and_changes_nothing() {
    use Change::{Created, Unchanged, Updated};
    let setting = Setting::new("plan").await;
    let stacks = aws_sdk_cloudformation::Client::new(setting.aws.config());
    let of = |plans: &[Plan]| plans.iter().map(|plan| plan.change).collect::<Vec<_>>();

    let plans = setting.plan(&[]).await;
    assert_eq!(of(&plans), [Created; 4]);
    assert!(plans[0].resources.iter().any(|it| it.resource == "CatalogTable" && it.action == Action::Add), "{plans:?}");
    assert!(plans.iter().all(|plan| plan.protects && plan.resources.iter().all(|it| !it.loses_data())), "{plans:?}");
    for plan in &plans {
        assert!(stacks.describe_stacks().stack_name(&plan.stack).send().await.is_err(), "{plan:?}");
    }

    setting.deploy(&[]).await.unwrap();
    let plans = setting.plan(&[]).await;
    assert_eq!(of(&plans), [Unchanged; 4], "{plans:?}");
    assert!(plans.iter().all(|plan| !plan.protects), "{plans:?}");

    // Twice, as the first one must have changed nothing.
    for _ in 0..2 {
        let plans = setting.plan(&[("LogRetentionDays", "30")]).await;
        assert_eq!(of(&plans), [Unchanged, Updated, Updated, Updated]);
        for plan in &plans[1..] {
            let logs = plan.resources.iter().find(|it| it.kind == "AWS::Logs::LogGroup").unwrap();
            assert_eq!((logs.action, logs.changes.as_slice()), (Action::Modify, ["RetentionInDays".to_owned()].as_slice()));
            assert!(plan.resources.iter().all(|it| !it.loses_data()), "{plan:?}");
            let sets = stacks.list_change_sets().stack_name(&plan.stack).send().await.unwrap();
            assert!(sets.summaries().is_empty(), "{sets:?}");
        }
    }
    assert_eq!(setting.changes(&[("LogRetentionDays", "30")]).await, [Unchanged, Updated, Updated, Updated]);

    // Termination protection keeps a stack from being deleted by hand; only `destroy` lifts it.
    for template in ["core", "identity", "pipeline", "api"] {
        let stack = setting.stack(template).await;
        assert_eq!(stack.enable_termination_protection(), Some(true), "{template}");
        let error = stacks.delete_stack().stack_name(stack.stack_id().unwrap()).send().await.unwrap_err();
        assert!(error.message().is_some_and(|message| message.contains("TerminationProtection")), "{template}: {error:?}");
    }
    let off = stacks.update_termination_protection().stack_name(setting.stack("core").await.stack_name().unwrap());
    off.enable_termination_protection(false).send().await.unwrap();
    assert!(setting.plan(&[("LogRetentionDays", "30")]).await[0].protects);
    assert_eq!(setting.changes(&[("LogRetentionDays", "30")]).await, [Unchanged; 4]);
    assert_eq!(setting.stack("core").await.enable_termination_protection(), Some(true));
    assert_eq!(setting.destroy(With { users: true, data: true }).await.unwrap(), []);
}

#[tokio::test]
async fn a_resource_with_data_is_replaced_or_deleted_only_on_request() {
    let setting = Setting::new("lose").await;
    let stacks = aws_sdk_cloudformation::Client::new(setting.aws.config());
    let name = format!("{}-core", setting.stack);
    for (template, body) in [("core", EARLIER), ("identity", EARLIER_IDENTITY)] {
        let name = format!("{}-{template}", setting.stack);
        stacks.create_stack().stack_name(name).template_body(body).send().await.unwrap();
        while setting.stack(template).await.stack_status() == Some(&StackStatus::CreateInProgress) {
            tokio::time::sleep(setting.aws.poll_interval()).await;
        }
    }
    let resources = stacks.describe_stack_resources().stack_name(&name).send().await.unwrap();
    let table = resources.stack_resources().iter().find(|it| it.logical_resource_id() == Some("CatalogTable")).unwrap();
    let table = table.physical_resource_id().unwrap();

    let plans = setting.plan(&[]).await;
    let lost: Vec<_> = plans[0].resources.iter().filter(|it| it.loses_data()).collect();
    let told: Vec<_> = lost.iter().map(|it| (it.action, it.resource.as_str(), it.kept)).collect();
    assert_eq!(told, [(Action::Replace, "CatalogTable", true), (Action::Delete, "EarlierQueue", false)]);
    assert_eq!(lost[0].id.as_deref(), Some(table));
    // The next stack needs an output that core has only after its update.
    let unknown = plans[1].unknown.as_ref().unwrap();
    assert!(plans[1].change == Change::Updated && unknown.contains("DataKeyArn"), "{unknown}");

    let error = setting.deploy(&[]).await.unwrap_err().to_string();
    assert!(error.contains("would lose data, and was not changed") && error.contains("--allow-replacement"), "{error}");
    assert!(error.contains("EarlierQueue (AWS::SQS::Queue") && error.contains("its data is lost"), "{error}");
    assert_eq!(setting.stack("core").await.stack_status(), Some(&StackStatus::CreateComplete));

    let options = Options { allow_replacement: true, ..setting.options(&[]) };
    let deployment = deploy(&setting.aws, &setting.sources, &options, &Reporter::silent()).await.unwrap();
    assert_eq!(deployment.changes[0].1, Change::Updated);
    assert_ne!(deployment.outputs.table, table);
    assert_eq!(setting.destroy(With { users: true, data: true }).await.unwrap(), []);
    // UpdateReplacePolicy keeps the old one.
    let tables = aws_sdk_dynamodb::Client::new(setting.aws.config());
    tables.delete_table().table_name(table).send().await.unwrap();
}

#[tokio::test]
async fn a_failed_stack_names_its_resource_and_is_created_again() {
    let setting = Setting::new("broken").await;
    let error = setting.deploy(&[("DefinitionKey", "not/there.json")]).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the stack `{}-pipeline` ended as ROLLBACK_COMPLETE", setting.stack)), "{error}");
    assert!(error.contains("StateMachine (AWS::StepFunctions::StateMachine): "), "{error}");

    use Change::{Created, Unchanged};
    assert_eq!(setting.changes(&[]).await, [Unchanged, Unchanged, Created, Created]);

    // An update that fails is rolled back by CloudFormation, and the next one goes on from there.
    let error = setting.deploy(&[("DefinitionKey", "not/there.json")]).await.unwrap_err().to_string();
    assert!(error.contains("ended as UPDATE_ROLLBACK_COMPLETE"), "{error}");
    assert_eq!(setting.changes(&[]).await, [Unchanged; 4]);
    assert_eq!(setting.destroy(With { users: true, data: true }).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_first_creation_is_made_again_by_the_same_command() {
    use Change::{Created, Unchanged};
    let setting = Setting::new("taken").await;
    let half_made = HalfMade::new(&setting).await;
    assert_eq!(half_made.are_protected().await, (true, true));

    // What is left of a creation protects nothing. And the next one fails too, as the prefix is somebody else's.
    let error = setting.deploy(&[("DomainPrefix", TAKEN_PREFIX)]).await.unwrap_err().to_string();
    assert!(error.contains("UserPoolDomain (AWS::Cognito::UserPoolDomain): "), "{error}");
    assert_eq!(half_made.are_protected().await, (false, false));
    half_made.delete().await;

    let prefix = ("DomainPrefix", setting.stack.as_str());
    assert_eq!(setting.changes(&[prefix]).await, [Unchanged, Created, Created, Created]);
    assert_eq!(setting.destroy(With { users: true, data: true }).await.unwrap(), []);
}

#[tokio::test]
async fn a_user_pool_of_a_failed_creation_is_deleted_only_on_request() {
    let setting = Setting::new("half").await;
    let half_made = HalfMade::new(&setting).await;
    let error = setting.destroy(With { users: false, data: true }).await.unwrap_err().to_string();
    assert!(error.contains("add --delete-users"), "{error}");
    assert_eq!(half_made.are_protected().await, (true, true));

    assert_eq!(setting.destroy(With { users: true, data: false }).await.unwrap(), []);
    assert_eq!(half_made.are_protected().await, (false, false));
    half_made.delete().await;
}
