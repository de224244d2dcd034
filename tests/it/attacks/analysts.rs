//! An analyst of an institute: what the role of `infra/analyst.yaml` reaches of another institute's tables, and of anything else.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::types::AttributeValue;
use client::aws::Aws;
use serde_json::{Value, json};
use sluice_tests::{Harness, adt, unique};
use tables::Table;

use super::call::Call;
use super::plain::{Row, row};
use crate::contract::root;
use crate::permissions::allowed;
use crate::stacks::{OwnStack, parameter};
use crate::twins::{self, Twin};

pub(super) const ROWS: &[Row] = &[
    row(
        "analyst-others-tables",
        "read another institute's file of each table; of one whose name begins with the own one, or is its beginning",
    ),
    row("analyst-nested-prefix", "read where the own prefix only follows another's, or a name that is no table's"),
    row(
        "analyst-lists-others",
        "list another's files, the bucket's root, all institutes of a table, all whose names begin like the own one",
    ),
    row("analyst-manifests", "read a manifest or a file's earlier version; list versions, even one's own"),
    row("analyst-writes", "write, tag or delete in the tables' bucket, even one's own"),
    row("analyst-lake", "read, list or write in the lake, even one's own; query the catalog or change the progress"),
    row("analyst-workgroups", "query in the account's or another analyst's workgroup; change the own one or make one"),
    row("analyst-catalog", "change or delete a table of the Glue catalog, describe another database, make one"),
    row("analyst-others-results", "read, list or write another analyst's results"),
    row("lake-analyst-patients", "as an analyst of all institutes: read or list any table but `messages`"),
];

/// Another institute; one whose name is the beginning of the own one, and one whose name begins with it.
struct Scene {
    own: Harness,
    others: Vec<String>,
    own_key: String,
    analyst: OwnStack,
    other_analyst: OwnStack,
    lake_analyst: OwnStack,
    twin: Twin,
    lake_twin: Twin,
}

async fn analyst(it: &Harness, institute: &str) -> Result<OwnStack> {
    let account = it.aws.account().await?;
    let parameters = vec![
        parameter("TablesBucketName", it.outputs.stack_output("TablesBucketName")?),
        parameter("TablesDatabaseName", it.outputs.stack_output("TablesDatabaseName")?),
        parameter("DataKeyArn", it.outputs.stack_output("DataKeyArn")?),
        parameter("Institute", institute),
        parameter("AnalystArn", &format!("arn:aws:iam::{account}:role/analysts/*")),
    ];
    OwnStack::deploy(&it.aws, std::fs::read_to_string(root().join("infra/analyst.yaml"))?, parameters).await
}

/// A session with the policies of an analyst's role.
async fn twin(it: &Harness, stack: &OwnStack) -> Result<Twin> {
    Twin::of(it, stack.output("AnalystRoleArn")?.rsplit('/').next().context("a name")?).await
}

fn file(table: &str, institute: &str) -> String {
    format!("{table}/source={institute}/date=2026-01-01/part-00001.parquet")
}

impl Scene {
    async fn new() -> Result<Self> {
        let own = Harness::new()?;
        let (message_id, _) = own.store(&own.admin().await?, &adt(&unique(), "DOE")).await?;
        let own_key = own.record(&message_id).await?.facts.context("stored")?.key;
        let name = own.institute.as_str();
        let others = vec![format!("test-{}", unique()), name[..name.len() - 1].to_owned(), format!("{name}2")];
        let bucket = own.outputs.stack_output("TablesBucketName")?;
        for institute in others.iter().map(String::as_str).chain([name]) {
            for table in Table::ALL {
                let put = own.aws.s3().put_object().bucket(bucket).key(file(table.name(), institute));
                put.body(b"PAR1".to_vec().into()).send().await?;
            }
        }
        let analyst = self::analyst(&own, name).await?;
        let other_analyst = self::analyst(&own, &others[0]).await?;
        let lake_analyst = self::analyst(&own, "").await?;
        let (twin, lake_twin) = (self::twin(&own, &analyst).await?, self::twin(&own, &lake_analyst).await?);
        Ok(Self { own, others, own_key, analyst, other_analyst, lake_analyst, twin, lake_twin })
    }

    fn tables(&self) -> Result<&str> {
        self.own.outputs.stack_output("TablesBucketName")
    }

    async fn gets(&self, aws: &Aws, bucket: &str, key: &str) -> Result<bool> {
        allowed(aws.s3().get_object().bucket(bucket).key(key).send().await)
    }

    async fn puts(&self, aws: &Aws, bucket: &str, key: &str) -> Result<bool> {
        allowed(aws.s3().put_object().bucket(bucket).key(key).body(b"x".to_vec().into()).send().await)
    }

    async fn lists(&self, aws: &Aws, bucket: &str, prefix: Option<&str>) -> Result<bool> {
        allowed(aws.s3().list_objects_v2().bucket(bucket).set_prefix(prefix.map(str::to_owned)).send().await)
    }

    /// A call of Glue or Athena, of which the tests have no client.
    async fn calls(&self, aws: &Aws, target: &str, body: &Value) -> Result<bool> {
        let service = if target.starts_with("AWSGlue.") { "glue" } else { "athena" };
        let credentials = aws.config().credentials_provider().context("credentials")?;
        let credentials = aws_credential_types::provider::ProvideCredentials::provide_credentials(&credentials).await?;
        let endpoint = aws.endpoint_url().context("an endpoint")?;
        let answer = Call::json(service, target, body).send(endpoint, &self.own.outputs.region, &credentials).await?;
        ensure!(answer.status < 500, "{target}: {}", answer.body);
        Ok(!answer.code.starts_with("AccessDenied"))
    }

    async fn queries(&self, aws: &Aws, workgroup: &str) -> Result<bool> {
        let query = json!({ "QueryString": "SELECT 1", "WorkGroup": workgroup });
        self.calls(aws, "AmazonAthena.StartQueryExecution", &query).await
    }

    /// What an analyst does: of each table of one's own, and one's own results.
    async fn all(&self, aws: &Aws, stack: &OwnStack, tables: &[Table]) -> Result<Vec<bool>> {
        let (own, bucket, database) = (&self.own.institute, self.tables()?, self.own.outputs.stack_output("TablesDatabaseName")?);
        let results = stack.output("AnalystResultsBucketName")?;
        let mut found = Vec::new();
        for table in tables {
            found.push(self.gets(aws, bucket, &file(table.name(), own)).await?);
            found.push(self.lists(aws, bucket, Some(&format!("{table}/source={own}/date=2026-01-01/"))).await?);
            let named = json!({ "DatabaseName": database, "Name": table.name() });
            found.push(self.calls(aws, "AWSGlue.GetTable", &named).await?);
        }
        found.push(self.queries(aws, stack.output("AnalystWorkgroupName")?).await?);
        found.push(self.puts(aws, results, "x.csv").await?);
        found.push(self.gets(aws, results, "x.csv").await?);
        found.push(self.lists(aws, results, None).await?);
        Ok(found)
    }

    /// Whether what a row tries is allowed, each thing of it.
    async fn attempt(&self, id: &str) -> Result<Vec<bool>> {
        let (aws, tables, lake) = (&self.twin.aws, self.tables()?, self.own.outputs.bucket.as_str());
        let own = self.own.institute.as_str();
        let (s3, database) = (aws.s3(), self.own.outputs.stack_output("TablesDatabaseName")?);
        let mut found = Vec::new();
        match id {
            "analyst-others-tables" => {
                for (institute, table) in self.others.iter().flat_map(|it| Table::ALL.map(|table| (it, table))) {
                    found.push(self.gets(aws, tables, &file(table.name(), institute)).await?);
                }
            }
            "analyst-nested-prefix" => {
                for key in [
                    format!("observations/source={}/source={own}/x", self.others[0]),
                    format!("observations/x/source={own}/x"),
                    format!("secrets/source={own}/x"),
                    format!("source={own}/x"),
                ] {
                    found.push(self.gets(aws, tables, &key).await?);
                }
            }
            "analyst-lists-others" => {
                let others = self.others.iter().map(|it| format!("observations/source={it}/"));
                let wide = ["observations/", "observations/source=", "obs", "", "*", "observations/source=*"].map(str::to_owned);
                let close = [format!("observations/source={own}"), format!("observations/source={}", &own[..own.len() - 1])];
                for prefix in others.chain(wide).chain(close) {
                    found.push(self.lists(aws, tables, Some(&prefix)).await?);
                }
                found.push(self.lists(aws, tables, None).await?);
            }
            "analyst-manifests" => {
                found.push(self.gets(aws, tables, &format!("_commits/source={own}/date=2026-01-01.json")).await?);
                found.push(self.lists(aws, tables, Some(&format!("_commits/source={own}/"))).await?);
                let object = self.own.aws.s3().head_object().bucket(tables).key(file("messages", own)).send().await?;
                let get = s3.get_object().bucket(tables).key(file("messages", own)).set_version_id(object.version_id);
                found.push(allowed(get.send().await)?);
                let versions = s3.list_object_versions().bucket(tables).prefix(format!("messages/source={own}/"));
                found.push(allowed(versions.send().await)?);
            }
            "analyst-writes" => {
                let key = file("messages", own);
                found.push(self.puts(aws, tables, &key).await?);
                let tag = aws_sdk_s3::types::Tag::builder().key("source").value(own).build()?;
                let tags = aws_sdk_s3::types::Tagging::builder().tag_set(tag).build()?;
                found.push(allowed(s3.put_object_tagging().bucket(tables).key(&key).tagging(tags).send().await)?);
                found.push(allowed(s3.delete_object().bucket(tables).key(&key).send().await)?);
            }
            "analyst-lake" => {
                found.push(self.gets(aws, lake, &self.own_key).await?);
                found.push(self.lists(aws, lake, Some(&format!("source={own}/"))).await?);
                found.push(self.puts(aws, lake, &format!("source={own}/x")).await?);
                let client = DynamoDb::new(aws.config());
                let query = client.query().table_name(&self.own.outputs.table).key_condition_expression("#source = :source");
                let query = query.expression_attribute_names("#source", "source");
                found
                    .push(allowed(query.expression_attribute_values(":source", AttributeValue::S(own.to_owned())).send().await)?);
                let progress = self.own.outputs.stack_output("TablesProgressTableName")?;
                let delete = client.delete_item().table_name(progress).key("source", AttributeValue::S(own.to_owned()));
                found.push(allowed(delete.send().await)?);
            }
            "analyst-workgroups" => {
                found.push(self.queries(aws, "primary").await?);
                found.push(self.queries(aws, self.other_analyst.output("AnalystWorkgroupName")?).await?);
                let group = self.analyst.output("AnalystWorkgroupName")?;
                let updates = json!({ "EnforceWorkGroupConfiguration": false });
                let update = json!({ "WorkGroup": group, "ConfigurationUpdates": updates });
                found.push(self.calls(aws, "AmazonAthena.UpdateWorkGroup", &update).await?);
                found.push(self.calls(aws, "AmazonAthena.CreateWorkGroup", &json!({ "Name": unique() })).await?);
            }
            "analyst-catalog" => {
                let input = json!({ "DatabaseName": database, "TableInput": { "Name": "messages" } });
                found.push(self.calls(aws, "AWSGlue.UpdateTable", &input).await?);
                found.push(self.calls(aws, "AWSGlue.CreateTable", &input).await?);
                let named = json!({ "DatabaseName": database, "Name": "messages" });
                found.push(self.calls(aws, "AWSGlue.DeleteTable", &named).await?);
                let elsewhere = json!({ "DatabaseName": "elsewhere", "Name": "messages" });
                found.push(self.calls(aws, "AWSGlue.GetTable", &elsewhere).await?);
                found.push(self.calls(aws, "AWSGlue.CreateDatabase", &json!({ "DatabaseInput": { "Name": unique() } })).await?);
            }
            "analyst-others-results" => {
                let results = self.other_analyst.output("AnalystResultsBucketName")?;
                found.push(self.gets(aws, results, "x.csv").await?);
                found.push(self.lists(aws, results, None).await?);
                found.push(self.puts(aws, results, "x.csv").await?);
            }
            "lake-analyst-patients" => {
                let aws = &self.lake_twin.aws;
                for table in Table::ALL.into_iter().filter(|it| *it != Table::Messages) {
                    found.push(self.gets(aws, tables, &file(table.name(), own)).await?);
                    found.push(self.lists(aws, tables, Some(&format!("{table}/source={own}/"))).await?);
                }
                found.push(self.lists(aws, tables, None).await?);
                found.push(self.gets(aws, lake, &self.own_key).await?);
            }
            other => bail!("nobody tries `{other}`"),
        }
        Ok(found)
    }
}

#[tokio::test]
async fn an_analyst_reads_the_tables_of_one_institute_and_nothing_else() -> Result<()> {
    let scene = Scene::new().await?;
    let found = scene.all(&scene.twin.aws, &scene.analyst, &Table::ALL).await?;
    ensure!(found.iter().all(|it| *it), "the twin of each row: what an analyst does: {found:?}");
    let found = scene.all(&scene.lake_twin.aws, &scene.lake_analyst, &[Table::Messages]).await?;
    ensure!(found.iter().all(|it| *it), "an analyst of all institutes: {found:?}");
    for row in ROWS {
        let found = scene.attempt(row.id).await.with_context(|| row.id.to_owned())?;
        ensure!(!found.is_empty() && found.iter().all(|it| !it), "`{}`: {found:?}", row.id);
    }
    Ok(())
}

/// The trust policy is what no twin of the role has; and no query can name another place for its results.
#[tokio::test]
async fn only_those_who_are_named_are_analysts_and_their_results_stay_in_one_place() -> Result<()> {
    let it = Harness::new()?;
    let (stack, account) = (analyst(&it, &it.institute).await?, it.aws.account().await?);
    let role = stack.output("AnalystRoleArn")?.rsplit('/').next().context("a name")?;
    let role = aws_sdk_iam::Client::new(it.aws.config()).get_role().role_name(role).send().await?;
    let document = role.role().and_then(|it| it.assume_role_policy_document()).context("a trust policy")?;
    let expected = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
        "Action": "sts:AssumeRole",
        "Condition": { "ArnLike": { "aws:PrincipalArn": format!("arn:aws:iam::{account}:role/analysts/*") } },
    }]});
    assert_eq!(twins::document(document)?, expected);

    let root = it.outputs.root_key.as_ref().context("a root key")?.credentials();
    let group = json!({ "WorkGroup": stack.output("AnalystWorkgroupName")? });
    let call = Call::json("athena", "AmazonAthena.GetWorkGroup", &group);
    let answer = call.send(it.aws.endpoint_url().context("an endpoint")?, &it.outputs.region, &root).await?;
    let group = &serde_json::from_str::<Value>(&answer.body)?["WorkGroup"]["Configuration"];
    assert_eq!(group["EnforceWorkGroupConfiguration"], json!(true), "{}", answer.body);
    let place = format!("s3://{}/", stack.output("AnalystResultsBucketName")?);
    assert_eq!(group["ResultConfiguration"]["OutputLocation"], json!(place));
    assert_eq!(group["ResultConfiguration"]["EncryptionConfiguration"]["EncryptionOption"], json!("SSE_KMS"));
    Ok(())
}
