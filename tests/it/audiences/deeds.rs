//! What is tried with somebody's AWS credentials on two institutes' parts of the lake.

use anyhow::{Context, Result};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use aws_sdk_s3::types::{Tag, Tagging};
use client::aws::Aws;
use domain::arrivals;
use sluice::Outputs;
use sluice_tests::unique;

use crate::attacks::call::Call;
use crate::permissions::allowed;

const NEVER: &str = "attribute_exists(nothing_has_this)";

const WORKERS_PARTITIONS: [&str; 2] = [catalog::IDENTITIES, catalog::ALLOWANCES];

/// The institute that a caller is of, or that a partner submits for, and another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Own,
    Other,
}

use Of::{Other, Own};

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Record(Of),
    List(Of),
    ListIndex(Of),
    /// What the workers keep in the catalog and is no record: identity ids, institutes' allowances.
    WorkersItem,
    ListWorkersItems,
    Records,
    Scan,
    ScanIndex,
    PutRecord,
    UpdateRecord,
    DeleteRecord,
    /// An object below an institute's prefix with the tag of one.
    Put(Of, Of),
    /// With a tag that is neither `source` nor `state`.
    PutMoreTags,
    /// An institute's object, with the tag of one.
    Retag(Of, Of),
    Get(Of),
    GetVersion(Of),
    GetTags(Of),
    ListObjects,
    /// Ask the API for an institute's summary, with a request signed with the credentials.
    Summary(Of),
    Delete,
}

use Deed::*;

/// All there is. What takes something away comes last.
pub(super) const ALL: [Deed; 32] = [
    Record(Own),
    Record(Other),
    List(Own),
    List(Other),
    ListIndex(Own),
    ListIndex(Other),
    WorkersItem,
    ListWorkersItems,
    Records,
    Scan,
    ScanIndex,
    PutRecord,
    UpdateRecord,
    DeleteRecord,
    Put(Own, Own),
    Put(Own, Other),
    Put(Other, Own),
    Put(Other, Other),
    PutMoreTags,
    Get(Own),
    Get(Other),
    GetVersion(Own),
    GetVersion(Other),
    GetTags(Own),
    GetTags(Other),
    ListObjects,
    Summary(Own),
    Summary(Other),
    Retag(Own, Own),
    Retag(Own, Other),
    Retag(Other, Own),
    Delete,
];

/// Two institutes with a record and an object each, for one caller.
pub(super) struct Scene {
    root: Aws,
    /// What stands before each of the API's paths at the endpoint.
    api_path: String,
    bucket: String,
    table: String,
    own: String,
    other: String,
    message_id: String,
    versions: [String; 2],
}

impl Scene {
    /// `own` is the caller's institute.
    pub(super) async fn new(root: &Aws, outputs: &Outputs, own: &str) -> Result<Self> {
        let mut it = Self {
            root: root.clone(),
            api_path: outputs
                .api_url
                .strip_prefix(root.endpoint_url().context("an endpoint")?)
                .context("an API at the endpoint")?
                .to_owned(),
            bucket: outputs.bucket.clone(),
            table: outputs.table.clone(),
            own: own.to_owned(),
            other: format!("other-{}", unique()),
            message_id: unique(),
            versions: Default::default(),
        };
        let dynamodb = aws_sdk_dynamodb::Client::new(root.config());
        for of in [Own, Other] {
            let put = dynamodb.put_item().table_name(&it.table).item("source", it.source(of)).item("message_id", it.id());
            put.item("received_at", AttributeValue::S("2026-01-02T03:04:05.000Z".to_owned())).send().await?;
            let tagging = format!("source={}&state=parsed", it.institute(of));
            let put = root.s3().put_object().bucket(&it.bucket).key(it.key(of, "there")).tagging(tagging);
            let put = put.body(b"MSH|".to_vec().into()).send().await?;
            it.versions[of as usize] = put.version_id.context("a version")?;
        }
        Ok(it)
    }

    /// What these credentials may do.
    pub(super) async fn may(&self, aws: &Aws) -> Result<Vec<Deed>> {
        let mut may = Vec::new();
        for deed in ALL {
            if self.may_do(aws, deed).await.with_context(|| format!("{deed:?}"))? {
                may.push(deed);
            }
        }
        Ok(may)
    }

    /// That the account's root may do all of it: so every request is well made, and whoever may not is refused for that.
    pub(super) async fn root_may_do_all(&self) -> Result<()> {
        anyhow::ensure!(self.may(&self.root).await? == ALL, "the root is refused something");
        Ok(())
    }

    fn institute(&self, of: Of) -> &str {
        match of {
            Own => &self.own,
            Other => &self.other,
        }
    }

    fn source(&self, of: Of) -> AttributeValue {
        AttributeValue::S(self.institute(of).to_owned())
    }

    fn id(&self) -> AttributeValue {
        AttributeValue::S(self.message_id.clone())
    }

    fn key(&self, of: Of, name: &str) -> String {
        let (institute, id) = (self.institute(of), &self.message_id);
        format!("source={institute}/protocol=hl7v2/format=er7/zone=ingest/date=2026-01-02/{id}-{name}.hl7")
    }

    async fn may_do(&self, aws: &Aws, deed: Deed) -> Result<bool> {
        match deed {
            Record(_) | List(_) | ListIndex(_) | WorkersItem | ListWorkersItems | Records | Scan | ScanIndex => {
                self.look(aws, deed).await
            }
            PutRecord | UpdateRecord | DeleteRecord => self.forge(aws, deed).await,
            Summary(of) => self.summary(aws, of).await,
            _ => self.objects(aws, deed).await,
        }
    }

    /// At the catalog.
    async fn look(&self, aws: &Aws, deed: Deed) -> Result<bool> {
        let (client, table) = (aws_sdk_dynamodb::Client::new(aws.config()), &self.table);
        let query = |key: &str, partition| {
            let query = client.query().table_name(table).key_condition_expression("#s = :s");
            query.expression_attribute_names("#s", key).expression_attribute_values(":s", partition)
        };
        match deed {
            Record(of) => {
                let get = client.get_item().table_name(table).key("source", self.source(of)).key("message_id", self.id());
                let found = get.send().await;
                // An answer without the record would be no permission to read it.
                anyhow::ensure!(found.as_ref().map_or(true, |it| it.item().is_some()), "the record is not there");
                allowed(found)
            }
            List(of) => allowed(query("source", self.source(of)).send().await),
            ListIndex(of) => {
                let mut may = Vec::new();
                for partition in arrivals::shards(self.institute(of)) {
                    let query = query(arrivals::SHARD, AttributeValue::S(partition)).index_name(arrivals::INDEX);
                    may.push(allowed(query.send().await)?);
                }
                all_or_none(&may)
            }
            WorkersItem => {
                let mut may = Vec::new();
                for partition in WORKERS_PARTITIONS {
                    let get = client.get_item().table_name(table).key("source", AttributeValue::S(partition.to_owned()));
                    may.push(allowed(get.key("message_id", self.id()).send().await)?);
                }
                all_or_none(&may)
            }
            ListWorkersItems => {
                let mut may = Vec::new();
                for partition in WORKERS_PARTITIONS {
                    may.push(allowed(query("source", AttributeValue::S(partition.to_owned())).send().await)?);
                }
                all_or_none(&may)
            }
            Records => {
                let key = [("source".to_owned(), self.source(Own)), ("message_id".to_owned(), self.id())].into();
                let keys = KeysAndAttributes::builder().keys(key).build()?;
                allowed(client.batch_get_item().request_items(table, keys).send().await)
            }
            Scan => allowed(client.scan().table_name(table).send().await),
            _ => allowed(client.scan().table_name(table).index_name(arrivals::INDEX).send().await),
        }
    }

    /// At the route that IAM authorizes.
    async fn summary(&self, aws: &Aws, of: Of) -> Result<bool> {
        let provider = aws.config().credentials_provider().context("credentials")?;
        let credentials = provider.provide_credentials().await?;
        let region = aws.config().region().context("a region")?.to_string();
        let call = Call::api(format!("{}/institutes/{}/summary", self.api_path, self.institute(of)));
        let answer = call.send(aws.endpoint_url().context("an endpoint")?, &region, &credentials).await?;
        anyhow::ensure!([200, 403].contains(&answer.status), "{answer:?}");
        Ok(answer.status == 200)
    }

    /// The catalog, as far as it gets: no condition is ever met.
    async fn forge(&self, aws: &Aws, deed: Deed) -> Result<bool> {
        let (client, table) = (aws_sdk_dynamodb::Client::new(aws.config()), &self.table);
        match deed {
            PutRecord => {
                let put = client.put_item().table_name(table).item("source", self.source(Own)).item("message_id", self.id());
                allowed(put.condition_expression(NEVER).send().await)
            }
            UpdateRecord => {
                let update = client.update_item().table_name(table).key("source", self.source(Own)).key("message_id", self.id());
                let update = update.update_expression("SET x = :x").expression_attribute_values(":x", self.id());
                allowed(update.condition_expression(NEVER).send().await)
            }
            _ => {
                let delete = client.delete_item().table_name(table).key("source", self.source(Own)).key("message_id", self.id());
                allowed(delete.condition_expression(NEVER).send().await)
            }
        }
    }

    async fn objects(&self, aws: &Aws, deed: Deed) -> Result<bool> {
        let (s3, bucket) = (aws.s3(), &self.bucket);
        let put = |below, tags: String| {
            let put = s3.put_object().bucket(bucket).key(self.key(below, &unique())).tagging(tags);
            put.body(b"MSH|".to_vec().into()).send()
        };
        match deed {
            Put(below, tag) => allowed(put(below, format!("source={}&state=parsed", self.institute(tag))).await),
            PutMoreTags => allowed(put(Own, format!("source={}&keep=forever", self.own)).await),
            Retag(of, tag) => {
                let tag = Tag::builder().key("source").value(self.institute(tag)).build()?;
                let tagging = Tagging::builder().tag_set(tag).build()?;
                allowed(s3.put_object_tagging().bucket(bucket).key(self.key(of, "there")).tagging(tagging).send().await)
            }
            Get(of) => allowed(s3.get_object().bucket(bucket).key(self.key(of, "there")).send().await),
            GetVersion(of) => {
                let version = &self.versions[of as usize];
                allowed(s3.get_object().bucket(bucket).key(self.key(of, "there")).version_id(version).send().await)
            }
            GetTags(of) => allowed(s3.get_object_tagging().bucket(bucket).key(self.key(of, "there")).send().await),
            ListObjects => allowed(s3.list_objects_v2().bucket(bucket).prefix(format!("source={}/", self.own)).send().await),
            _ => allowed(s3.delete_object().bucket(bucket).key(self.key(Own, "there")).send().await),
        }
    }
}

/// Whether all partitions may be read, or none.
fn all_or_none(may: &[bool]) -> Result<bool> {
    anyhow::ensure!(may.iter().all(|it| *it == may[0]), "some partitions, and not others: {may:?}");
    Ok(may[0])
}
