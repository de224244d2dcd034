//! A deployment's life, on the local AWS: made, left alone, changed, broken, repaired, taken away.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use sluice::aws::Aws;
use sluice::deploy::{Change, Deployment, Kind, Options, Sources, With, deploy, destroy};
use sluice::local::{UpOptions, up};
use sluice::output::Reporter;
use sluice::package::{Profile, Purpose, package};
use sluice::workspace::Workspace;

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
        let packages = package(&workspace, Purpose::Local(Profile::Dev), &Reporter::silent()).await.unwrap();
        Self {
            aws: Aws::local(outputs.endpoint_url.as_deref().unwrap(), &outputs.region),
            sources: Sources::read(&workspace, packages).unwrap(),
            stack: format!("{name}{}", std::process::id()),
        }
    }

    async fn deploy(&self, parameters: &[(&str, &str)]) -> anyhow::Result<Deployment> {
        let parameters: BTreeMap<_, _> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { stack: self.stack.clone(), parameters };
        deploy(&self.aws, &self.sources, &options, &Reporter::silent()).await
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
    assert_eq!(kept, [Kind::LakeBucket, Kind::CatalogTable, Kind::Key, Kind::Key]);
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
async fn a_stack_that_failed_names_its_resource_and_is_made_again() {
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
