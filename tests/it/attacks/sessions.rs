//! Sessions of the worker `tables`: what one for an institute reaches of another one, and what the worker reaches without one.
//!
//! Here nobody attacks with a sign-in. The rows show what a defect of the worker could do, or somebody who controls it while it works for
//! an institute.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use aws_sdk_sts::types::Tag;
use client::aws::Aws;
use domain::arrivals;
use sluice_tests::{Harness, adt, unique};

use super::plain::{Row, row};
use crate::permissions::allowed;
use crate::twins::{self, Twin, roles};

pub(super) const ROWS: &[Row] = &[
    row("session-others-object", "read another institute's message"),
    row("session-others-label", "read an object below the own prefix that has another's tag"),
    row("session-others-records", "query another's records, by the index"),
    row("session-more-of-records", "query the table, another index, or who submitted; get a record; scan"),
    row("session-others-tables", "write below another's prefix in each table, and another's manifest"),
    row("session-nested-prefix", "write where the own prefix only follows another's, or a name that is no table's"),
    row("session-others-progress", "change another's progress"),
    row("session-own-tables", "read, list or delete tables, even one's own"),
    row("session-lake", "write, tag, list or delete in the lake, even one's own"),
    row("session-patients", "query the index by patient, even one's own"),
    row("session-without-institute", "all that a session may, without an institute"),
    row("worker-without-session", "the same under the worker's own role"),
    row("session-for-others", "get a session under another role with the worker's rights"),
];

/// Two institutes, with a message each.
struct Scene {
    own: Harness,
    other: Harness,
    /// The keys of the messages.
    own_key: String,
    other_key: String,
    mislabelled: String,
    session: Twin,
}

impl Scene {
    async fn new() -> Result<Self> {
        let (own, other) = (Harness::new()?, Harness::new()?);
        let mut keys = Vec::new();
        for it in [&own, &other] {
            let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
            keys.push(it.record(&message_id).await?.facts.context("stored")?.key);
        }
        let mislabelled = format!("{}x", keys[0]);
        let put = own.aws.s3().put_object().bucket(&own.outputs.bucket).key(&mislabelled).body(b"MSH|".to_vec().into());
        put.tagging(format!("source={}", other.institute)).send().await?;
        let session = session(&own, Some(&own.institute)).await?;
        Ok(Self { own_key: keys[0].clone(), other_key: keys[1].clone(), own, other, mislabelled, session })
    }

    fn tables(&self) -> Result<&str> {
        self.own.outputs.stack_output("TablesBucketName")
    }

    async fn gets(&self, aws: &Aws, bucket: &str, key: &str) -> Result<bool> {
        allowed(aws.s3().get_object().bucket(bucket).key(key).send().await)
    }

    async fn puts(&self, aws: &Aws, key: &str) -> Result<bool> {
        allowed(aws.s3().put_object().bucket(self.tables()?).key(key).body(b"PAR1".to_vec().into()).send().await)
    }

    async fn queries(&self, aws: &Aws, source: &str, index: Option<&str>, projection: &str) -> Result<bool> {
        let query =
            DynamoDb::new(aws.config()).query().table_name(&self.own.outputs.table).set_index_name(index.map(str::to_owned));
        let (key, partition) = match index {
            Some(arrivals::INDEX) => (arrivals::SHARD, arrivals::shards(source)[1].clone()),
            _ => ("source", source.to_owned()),
        };
        let query = query.key_condition_expression("#key = :key").expression_attribute_names("#key", key);
        let query = query.expression_attribute_names("#source", "source");
        let query = query.expression_attribute_values(":key", AttributeValue::S(partition));
        allowed(query.projection_expression(projection).select(Select::SpecificAttributes).send().await)
    }

    async fn updates(&self, aws: &Aws, source: &str) -> Result<bool> {
        let table = self.own.outputs.stack_output("TablesProgressTableName")?;
        let update =
            DynamoDb::new(aws.config()).update_item().table_name(table).key("source", AttributeValue::S(source.to_owned()));
        let update = update.update_expression("SET ran_at = :now").condition_expression("attribute_exists(nothing_has_this)");
        allowed(update.expression_attribute_values(":now", AttributeValue::S("x".to_owned())).send().await)
    }

    /// Which of the things that a session does for its institute these credentials may do.
    async fn all(&self, aws: &Aws) -> Result<Vec<bool>> {
        let (own, lake) = (&self.own.institute, &self.own.outputs.bucket);
        Ok(vec![
            self.gets(aws, lake, &self.own_key).await?,
            self.queries(aws, own, Some(arrivals::INDEX), "message_id, #source").await?,
            self.puts(aws, &format!("observations/source={own}/date=2026-01-01/test")).await?,
            self.updates(aws, own).await?,
        ])
    }

    /// Whether what a row tries is allowed, each thing of it.
    async fn attempt(&self, id: &str) -> Result<Vec<bool>> {
        let (aws, lake, tables) = (&self.session.aws, &self.own.outputs.bucket, self.tables()?);
        let (own, other) = (self.own.institute.as_str(), self.other.institute.as_str());
        let mut found = Vec::new();
        match id {
            "session-others-object" => found.push(self.gets(aws, lake, &self.other_key).await?),
            "session-others-label" => found.push(self.gets(aws, lake, &self.mislabelled).await?),
            "session-others-records" => {
                for source in [other, &format!("{own}2"), ""] {
                    found.push(self.queries(aws, source, Some(arrivals::INDEX), "message_id, #source").await?);
                }
            }
            "session-more-of-records" => {
                for (index, projection) in [
                    (None, "message_id, #source"),
                    (Some("by-held-since"), "message_id, #source"),
                    (Some(arrivals::INDEX), "submitter, #source"),
                ] {
                    found.push(self.queries(aws, own, index, projection).await?);
                }
                let client = DynamoDb::new(aws.config());
                let get = client.get_item().table_name(&self.own.outputs.table).key("source", AttributeValue::S(own.to_owned()));
                found.push(allowed(get.key("message_id", AttributeValue::S("4".repeat(64))).send().await)?);
                found.push(allowed(client.scan().table_name(&self.own.outputs.table).send().await)?);
            }
            "session-others-tables" => {
                for table in tables::Table::ALL.map(tables::Table::name).into_iter().chain(["_commits"]) {
                    found.push(self.puts(aws, &format!("{table}/source={other}/date=2026-01-01/part-00001.parquet")).await?);
                }
            }
            "session-nested-prefix" => {
                for key in [
                    format!("observations/source={other}/source={own}/x"),
                    format!("observations/x/source={own}/x"),
                    format!("observations/source={own}2/x"),
                    format!("secrets/source={own}/x"),
                    format!("source={own}/x"),
                ] {
                    found.push(self.puts(aws, &key).await?);
                }
            }
            "session-others-progress" => {
                found.push(self.updates(aws, other).await?);
                found.push(self.updates(aws, &format!("{own}2")).await?);
            }
            "session-own-tables" => {
                let key = format!("observations/source={own}/date=2026-01-01/test");
                found.push(self.gets(aws, tables, &key).await?);
                found.push(allowed(aws.s3().list_objects_v2().bucket(tables).send().await)?);
                found.push(allowed(aws.s3().delete_object().bucket(tables).key(&key).send().await)?);
            }
            "session-lake" => {
                let s3 = aws.s3();
                let put = s3.put_object().bucket(lake).key(format!("source={own}/x")).tagging(format!("source={own}"));
                found.push(allowed(put.body(b"x".to_vec().into()).send().await)?);
                let tag = aws_sdk_s3::types::Tag::builder().key("source").value(other).build()?;
                let tags = aws_sdk_s3::types::Tagging::builder().tag_set(tag).build()?;
                found.push(allowed(s3.put_object_tagging().bucket(lake).key(&self.own_key).tagging(tags).send().await)?);
                found.push(allowed(s3.delete_object().bucket(lake).key(&self.own_key).send().await)?);
                found.push(allowed(s3.list_objects_v2().bucket(lake).prefix(format!("source={own}/")).send().await)?);
            }
            "session-patients" => {
                let query = DynamoDb::new(aws.config()).query().table_name(self.own.outputs.stack_output("PatientTableName")?);
                let query = query.key_condition_expression("#source = :source").expression_attribute_names("#source", "source");
                found
                    .push(allowed(query.expression_attribute_values(":source", AttributeValue::S(own.to_owned())).send().await)?);
            }
            "session-without-institute" => found.extend(self.all(&session(&self.own, None).await?.aws).await?),
            "worker-without-session" => {
                let role = roles(&self.own, "tables").await?.remove("TablesRole").context("a role")?;
                found.extend(self.all(&Twin::of(&self.own, &role).await?.aws).await?);
            }
            "session-for-others" => {
                let roles = roles(&self.own, "tables").await?;
                let account = self.own.aws.account().await?;
                let arn = format!("arn:aws:iam::{account}:role/{}", roles["TablesSessionRole"]);
                let twin = Twin::of(&self.own, &roles["TablesRole"]).await?;
                let assume = aws_sdk_sts::Client::new(twin.aws.config()).assume_role().role_session_name("test").role_arn(&arn);
                let assume = assume.tags(Tag::builder().key("source").value(own).build()?);
                found.push(allowed(assume.send().await)?);
            }
            other => bail!("nobody tries `{other}`"),
        }
        Ok(found)
    }
}

async fn session(it: &Harness, institute: Option<&str>) -> Result<Twin> {
    Twin::of_institute(it, "tables", "TablesSessionRole", "source", institute).await
}

#[tokio::test]
async fn a_session_of_the_tables_worker_reaches_one_institute_and_nothing_else() -> Result<()> {
    let scene = Scene::new().await?;
    assert_eq!(scene.all(&scene.session.aws).await?, [true; 4], "the twin of each row: what it does for its own institute");
    for row in ROWS {
        let found = scene.attempt(row.id).await.with_context(|| row.id.to_owned())?;
        ensure!(!found.is_empty() && found.iter().all(|it| !it), "`{}`: {found:?}", row.id);
    }
    Ok(())
}

/// The trust policy is what no twin of the role has.
#[tokio::test]
async fn only_the_tables_worker_gets_a_session_and_only_with_one_institute() -> Result<()> {
    let it = Harness::new()?;
    let (roles, account) = (roles(&it, "tables").await?, it.aws.account().await?);
    let role = aws_sdk_iam::Client::new(it.aws.config()).get_role().role_name(&roles["TablesSessionRole"]).send().await?;
    let document = role.role().and_then(|it| it.assume_role_policy_document()).context("a trust policy")?;
    let expected = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{account}:role/{}", roles["TablesRole"]) },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "StringLike": { "aws:RequestTag/source": "?*" },
            "ForAllValues:StringEquals": { "aws:TagKeys": ["source"] },
        },
    }]});
    assert_eq!(twins::document(document)?, expected);
    Ok(())
}
