//! Deletes a deployment. It deletes patients' data only on explicit request.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;

use super::stack::{Stacks, outputs_of};
use super::{OPTIONAL, TEMPLATES, bucket};
use crate::operator::redrive;
use crate::output::{Reporter, Step};
use client::aws::Aws;
use client::error::explain;
use client::wait::within;

/// KMS deletes a key after a waiting period, in which the deletion can be cancelled. This is the shortest period.
const KEY_DELETION_DAYS: i32 = 7;

const TABLE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Deletes the stacks of a deployment, last one first, and gives what stays.
///
/// The lake bucket, the held bucket, the catalog table, the index by patient and the keys that they are encrypted under stay, unless
/// `with.data`. A user pool that is protected from deletion is in the way, unless `with.users`.
///
/// # Errors
/// When AWS refuses or a stack cannot be deleted. The same command resumes from there.
pub async fn destroy(aws: &Aws, stack: &str, with: With, reporter: &Reporter) -> Result<Vec<Kept>> {
    let stacks = Stacks::new(aws, reporter);
    for template in TEMPLATES {
        let name = format!("{stack}-{template}");
        ensure!(
            with.users || !stacks.is_protected(&name).await?,
            "the user pool of `{name}` is protected from deletion, and nothing was deleted: add --delete-users to delete \
             the accounts of its users as well"
        );
    }
    refuse_to_lose_messages(aws, &stacks, stack, with).await?;
    // Also of a deployment that was destroyed before, so that its data can still be found and deleted.
    let core = stacks.find_even_deleted(&format!("{stack}-core")).await?;
    let outputs = core.as_ref().map(outputs_of).unwrap_or_default();
    for template in OPTIONAL.iter().chain(TEMPLATES.iter().rev()) {
        let name = format!("{stack}-{template}");
        match *template {
            // Made of the lake, and deleted with its stack.
            "tables" => match stacks.find(&name).await? {
                Some(found) => empty_buckets(aws, &outputs_of(&found), reporter).await?,
                None => continue,
            },
            // Look again, now that no new messages arrive.
            "pipeline" => refuse_to_lose_messages(aws, &stacks, stack, with).await?,
            "core" => empty_buckets(aws, &outputs, reporter).await?,
            _ => {}
        }
        let step = reporter.step(format!("deleting the stack {name}"));
        if with.users {
            stacks.lift_protection(&name, &step).await?;
        }
        if stacks.lift_guard(&name).await? {
            step.note(format!("the termination protection of {name} is lifted"));
        }
        let was_there = stacks.delete(&name, &step).await?;
        step.done(if was_there { "deleted" } else { "was not there" });
    }

    let kept: Vec<Kept> = [
        (Kind::LakeBucket, "LakeBucketName"),
        (Kind::HeldBucket, "HeldBucketName"),
        (Kind::CatalogTable, "CatalogTableName"),
        (Kind::PatientTable, "PatientTableName"),
        (Kind::Key, "DataKeyArn"),
        (Kind::Key, "TokenKeyArn"),
        (Kind::Key, "PatientKeyArn"),
    ]
    .into_iter()
    .filter_map(|(kind, output)| Some(Kept { kind, name: outputs.get(output)?.clone() }))
    .collect();
    let mut left = Vec::new();
    for thing in kept {
        if !thing.exists(aws).await? {
            continue;
        }
        if with.data {
            let step = reporter.step(format!("deleting the {} {}", thing.kind.name(), thing.name));
            thing.delete(aws, &step).await?;
            step.done(if thing.kind == Kind::Key { "scheduled, in 7 days" } else { "deleted" });
        } else {
            left.push(thing);
        }
    }
    Ok(left)
}

/// A message in the queue was accepted and is nowhere else.
async fn refuse_to_lose_messages(aws: &Aws, stacks: &Stacks, stack: &str, with: With) -> Result<()> {
    let Some(pipeline) = stacks.find(&format!("{stack}-pipeline")).await? else { return Ok(()) };
    let outputs = outputs_of(&pipeline);
    let client = aws_sdk_sqs::Client::new(aws.config());
    for queue_url in ["QueueUrl", "DeadLetterQueueUrl"].into_iter().filter_map(|output| outputs.get(output)) {
        let count = redrive::messages_in(&client, queue_url).await?;
        ensure!(
            with.data || count == 0,
            "about {count} messages are still in the queue `{queue_url}` and would be lost: wait for them, bring them back \
             with `sluice redrive --stack {stack}`, or delete them too with --delete-data"
        );
    }
    Ok(())
}

/// Empties the buckets first: CloudFormation deletes only empty ones.
async fn empty_buckets(aws: &Aws, outputs: &BTreeMap<String, String>, reporter: &Reporter) -> Result<()> {
    for name in
        ["OverflowBucketName", "ArtifactBucketName", "TablesBucketName"].into_iter().filter_map(|output| outputs.get(output))
    {
        let step = reporter.step(format!("emptying the bucket {name}"));
        bucket::empty(&aws.s3(), name, &step).await?;
        step.done("");
    }
    Ok(())
}

/// What [`destroy`] deletes on request only.
#[derive(Debug, Clone, Copy, Default)]
pub struct With {
    /// The accounts of the users.
    pub users: bool,
    /// The messages, the catalog and the keys.
    pub data: bool,
}

/// A resource that outlives its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which resource was kept.
    pub kind: Kind,
    /// Its name or ARN.
    pub name: String,
}

/// The kinds of resources that outlive a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The bucket that holds the messages.
    LakeBucket,
    /// The bucket that holds accepted messages that could not be stored.
    HeldBucket,
    /// The table with the records of the messages.
    CatalogTable,
    /// The index by patient, which holds hashes of identifiers.
    PatientTable,
    /// A key that encrypts the others.
    Key,
}

impl Kind {
    /// The name that a person reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LakeBucket => "lake bucket",
            Self::HeldBucket => "held bucket",
            Self::CatalogTable => "catalog table",
            Self::PatientTable => "index by patient",
            Self::Key => "key",
        }
    }
}

impl Kept {
    async fn exists(&self, aws: &Aws) -> Result<bool> {
        match self.kind {
            Kind::LakeBucket | Kind::HeldBucket => match aws.s3().head_bucket().bucket(&self.name).send().await {
                Ok(_) => Ok(true),
                Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
                Err(error) => Err(explain(format!("looking for the {}", self.kind.name()))(error)),
            },
            Kind::CatalogTable | Kind::PatientTable => {
                let client = aws_sdk_dynamodb::Client::new(aws.config());
                match client.describe_table().table_name(&self.name).send().await {
                    Ok(_) => Ok(true),
                    Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(false),
                    Err(error) => Err(explain(format!("looking for the {}", self.kind.name()))(error)),
                }
            }
            Kind::Key => {
                let client = aws_sdk_kms::Client::new(aws.config());
                match client.describe_key().key_id(&self.name).send().await {
                    Ok(answer) => {
                        let state = answer.key_metadata.and_then(|key| key.key_state);
                        Ok(state != Some(aws_sdk_kms::types::KeyState::PendingDeletion))
                    }
                    Err(error) if error.code() == Some("NotFoundException") => Ok(false),
                    Err(error) => Err(explain("looking for a key")(error)),
                }
            }
        }
    }

    async fn delete(&self, aws: &Aws, step: &Step) -> Result<()> {
        match self.kind {
            Kind::LakeBucket | Kind::HeldBucket => {
                let client = aws.s3();
                bucket::empty(&client, &self.name, step).await?;
                client
                    .delete_bucket()
                    .bucket(&self.name)
                    .send()
                    .await
                    .map_err(explain(format!("deleting the {}", self.kind.name())))?;
            }
            Kind::CatalogTable | Kind::PatientTable => {
                let client = aws_sdk_dynamodb::Client::new(aws.config());
                let table = client
                    .describe_table()
                    .table_name(&self.name)
                    .send()
                    .await
                    .map_err(explain(format!("looking at the {}", self.kind.name())))?;
                if table.table().and_then(|table| table.deletion_protection_enabled()) == Some(true) {
                    client
                        .update_table()
                        .table_name(&self.name)
                        .deletion_protection_enabled(false)
                        .send()
                        .await
                        .map_err(explain(format!("lifting the protection of the {}", self.kind.name())))?;
                }
                within(TABLE_DEADLINE, "deleting a table", async {
                    loop {
                        match client.delete_table().table_name(&self.name).send().await {
                            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(()),
                            // DynamoDB answers so until the change of the table's protection is complete.
                            Err(error) if error.code() == Some("ResourceInUseException") => {}
                            Err(error) => return Err(explain(format!("deleting the {}", self.kind.name()))(error)),
                            Ok(_) => {}
                        }
                        tokio::time::sleep(aws.poll_interval()).await;
                    }
                })
                .await?;
            }
            Kind::Key => {
                aws_sdk_kms::Client::new(aws.config())
                    .schedule_key_deletion()
                    .key_id(&self.name)
                    .pending_window_in_days(KEY_DELETION_DAYS)
                    .send()
                    .await
                    .map_err(explain("scheduling the deletion of a key"))?;
            }
        }
        Ok(())
    }
}
