//! What each role may do and, more so, what it may not, asked of the deployed policies under IAM enforcement.
//!
//! A worker's role can only be assumed by Lambda. So a twin is made for the time of a test: a role with the very policy
//! that the deployed one has, which the account's root may assume.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use aws_sdk_iam::Client as Iam;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, MacAlgorithmSpec};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::aws::Aws;
use serde_json::{Value, json};
use sluice_tests::{Harness, adt, unique};

use crate::grants::grants;
use crate::logs::{AUTHORIZE, ENROLL, SUMMARY, TABLES, group_of, pipeline_workers, workers};
use crate::twins::{Twin, policies, roles};
use crate::{forge, logs};

macro_rules! calls {
    ($($call:ident)*) => {
        /// Something to try. Where it is allowed it does no harm: most requests are then refused for another reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Call {
            $($call,)*
            /// Writes to the log group of that worker.
            Log(&'static str),
        }

        /// Every call there is.
        fn all() -> impl Iterator<Item = Call> {
            let logs = workers().map(Log);
            [$($call),*].into_iter().chain(logs)
        }
    };
}

use Call::*;

calls! {
    Send Receive Delete Hide Attributes SendDead ReceiveDead
    GetItem GetIdentity BatchGetItem Query QueryHeld Scan UpdateItem PutItem DeleteItem
    IndexPatients SearchPatients HashPatients HashOtherwise
    Seal SealDirectly SealForSubmission SealUnbound Open OpenKey OpenOtherwise OpenData
    GetOverflow GetUpload PutOverflow ListOverflow DeleteOverflow
    GetHeld PutHeld ListHeld DeleteHeld
    GetLake PutLake TagLake ListLake DeleteLake
    Publish Subscribe Run RunAsync GetRole
}

/// All that a worker may do of [`all`]; the rest it may not.
const MAY: &[(&str, &[Call])] = &[
    ("Submit", &[Send, UpdateItem, Seal, GetUpload, PutOverflow, ListOverflow, Log("Submit")]),
    ("Dispatch", &[Send, Receive, Delete, Hide, Attributes, SendDead, Run, Log("Dispatch")]),
    ("Deduplicate", &[UpdateItem, Log("Deduplicate")]),
    ("Parse", &[GetOverflow, GetUpload, ListOverflow, Log("Parse")]),
    (
        "Store",
        &[
            GetIdentity,
            UpdateItem,
            IndexPatients,
            HashPatients,
            Open,
            OpenKey,
            GetOverflow,
            GetUpload,
            ListOverflow,
            Log("Store"),
        ],
    ),
    ("Hold", &[UpdateItem, GetOverflow, GetUpload, ListOverflow, PutHeld, Log("Hold")]),
    ("Release", &[Send, QueryHeld, UpdateItem, Seal, PutOverflow, GetHeld, ListHeld, Log("Release")]),
    ("Publish", &[Publish, Log("Publish")]),
    ("Status", &[GetItem, GetIdentity, BatchGetItem, Log("Status")]),
    ("Fetch", &[HashPatients, Log("Fetch")]),
    // What else it may is for it alone, and no twin of it: `summary`.
    (SUMMARY, &[Log(SUMMARY)]),
    // The same: `tabulate`.
    (TABLES, &[Log(TABLES)]),
    // What else it may is about users and the enrollment table: `enroll`.
    (ENROLL, &[Log(ENROLL)]),
    (AUTHORIZE, &[Log(AUTHORIZE)]),
];

impl Call {
    /// What IAM is asked for.
    fn actions(self) -> &'static [&'static str] {
        match self {
            Send | SendDead => &["sqs:SendMessage"],
            Receive | ReceiveDead => &["sqs:ReceiveMessage"],
            Delete => &["sqs:DeleteMessage"],
            Hide => &["sqs:ChangeMessageVisibility"],
            Attributes => &["sqs:GetQueueAttributes"],
            GetItem | GetIdentity => &["dynamodb:GetItem"],
            BatchGetItem => &["dynamodb:BatchGetItem"],
            Query | QueryHeld => &["dynamodb:Query"],
            Scan => &["dynamodb:Scan"],
            UpdateItem => &["dynamodb:UpdateItem"],
            PutItem => &["dynamodb:PutItem"],
            DeleteItem => &["dynamodb:DeleteItem"],
            IndexPatients => &["dynamodb:BatchWriteItem"],
            SearchPatients => &["dynamodb:Query"],
            HashPatients => &["kms:GenerateMac"],
            HashOtherwise => &["kms:VerifyMac"],
            SealDirectly => &["kms:Encrypt"],
            Seal | SealForSubmission | SealUnbound => &["kms:GenerateDataKey"],
            Open | OpenKey | OpenOtherwise | OpenData => &["kms:Decrypt"],
            GetOverflow | GetUpload | GetLake => &["s3:GetObject"],
            GetHeld => &["s3:GetObjectVersion"],
            PutOverflow | PutHeld | PutLake => &["s3:PutObject"],
            ListOverflow | ListHeld | ListLake => &["s3:ListBucket"],
            TagLake => &["s3:PutObjectTagging"],
            DeleteOverflow | DeleteHeld | DeleteLake => &["s3:DeleteObject"],
            Publish => &["sns:Publish"],
            Subscribe => &["sns:Subscribe"],
            Run => &["states:StartSyncExecution"],
            RunAsync => &["states:StartExecution"],
            GetRole => &["iam:GetRole"],
            Log(_) => &["logs:CreateLogStream", "logs:PutLogEvents"],
        }
    }
}

/// What the calls are about.
struct Scene {
    it: Harness,
    submission_id: String,
    /// A token as the first version was sealed, a data key of the institute, and one that is bound to something else as well.
    sealed: Blob,
    wrapped: Blob,
    wrapped_otherwise: Blob,
    sealed_data: Blob,
    overflow_key: String,
    upload_key: String,
    held_bucket: String,
    held_key: String,
    held_version: String,
    lake_key: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        let it = Harness::new()?;
        let admin = it.admin().await?;
        let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
        let lake_key = it.record(&message_id).await?.facts.context("stored")?.key;
        let envelope = forge::envelope(&it, &it.institute, "MSH|", &admin.token).await?;
        let overflow_key = domain::object::overflow_key(&forge::submitted(&envelope));
        let body = b"MSH|".to_vec().into();
        it.aws.s3().put_object().bucket(&it.outputs.overflow_bucket).key(&overflow_key).body(body).send().await?;
        let upload_key = format!("{}{overflow_key}", domain::object::UPLOADS);
        let body = b"MSH|".to_vec().into();
        it.aws.s3().put_object().bucket(&it.outputs.overflow_bucket).key(&upload_key).body(body).send().await?;
        let held_bucket = it.outputs.held_bucket.clone().context("a held bucket")?;
        let held_key = format!("source={}/test.json", it.institute);
        let held = it.aws.s3().put_object().bucket(&held_bucket).key(&held_key).body(b"{}".to_vec().into()).send().await?;
        let data_key = it.outputs.stack_outputs.get("DataKeyArn").context("a data key")?;
        let kms = aws_sdk_kms::Client::new(it.aws.config());
        let sealed_data = kms.encrypt().key_id(data_key).plaintext(Blob::new("data")).send().await?;
        let wrapped = kms.generate_data_key().key_id(forge::token_key(&it)?).key_spec(DataKeySpec::Aes256);
        let wrapped = wrapped.encryption_context("source", &it.institute);
        let otherwise = wrapped.clone().encryption_context("more", "x");
        Ok(Self {
            submission_id: envelope.submission_id.to_string(),
            sealed: Blob::new(BASE64_STANDARD.decode(&envelope.token)?),
            wrapped: wrapped.send().await?.ciphertext_blob.context("a wrapped key")?,
            wrapped_otherwise: otherwise.send().await?.ciphertext_blob.context("a wrapped key")?,
            sealed_data: sealed_data.ciphertext_blob.context("a ciphertext")?,
            overflow_key,
            upload_key,
            held_bucket,
            held_key,
            held_version: held.version_id.context("a version")?,
            lake_key,
            it,
        })
    }

    /// Whether these credentials may make the call.
    async fn may(&self, aws: &Aws, call: Call) -> Result<bool> {
        match call {
            Send | Receive | Delete | Hide | Attributes | SendDead | ReceiveDead => self.sqs(aws, call).await,
            GetItem | GetIdentity | BatchGetItem | Query | QueryHeld | Scan | UpdateItem | PutItem | DeleteItem => {
                self.dynamodb(aws, call).await
            }
            IndexPatients | SearchPatients | HashPatients | HashOtherwise => self.patients(aws, call).await,
            Seal | SealDirectly | SealForSubmission | SealUnbound | Open | OpenKey | OpenOtherwise | OpenData => {
                self.kms(aws, call).await
            }
            GetOverflow | GetUpload | PutOverflow | ListOverflow | DeleteOverflow => self.overflow(aws, call).await,
            GetHeld | PutHeld | ListHeld | DeleteHeld => self.held(aws, call).await,
            GetLake | PutLake | TagLake | ListLake | DeleteLake => self.lake(aws, call).await,
            Publish | Subscribe | Run | RunAsync | GetRole | Log(_) => self.rest(aws, call).await,
        }
    }

    async fn sqs(&self, aws: &Aws, call: Call) -> Result<bool> {
        let sqs = aws_sdk_sqs::Client::new(aws.config());
        let (queue, dead) = (&self.it.outputs.queue_url, &self.it.outputs.dead_letter_queue_url);
        const TOO_MANY: i32 = 11;
        match call {
            Send => allowed(sqs.send_message().queue_url(queue).message_body("").send().await),
            SendDead => allowed(sqs.send_message().queue_url(dead).message_body("").send().await),
            Receive => allowed(sqs.receive_message().queue_url(queue).max_number_of_messages(TOO_MANY).send().await),
            ReceiveDead => allowed(sqs.receive_message().queue_url(dead).max_number_of_messages(TOO_MANY).send().await),
            Delete => allowed(sqs.delete_message().queue_url(queue).receipt_handle("none").send().await),
            Attributes => allowed(sqs.get_queue_attributes().queue_url(queue).send().await),
            _ => {
                let hide = sqs.change_message_visibility().queue_url(queue).receipt_handle("none").visibility_timeout(0);
                allowed(hide.send().await)
            }
        }
    }

    async fn dynamodb(&self, aws: &Aws, call: Call) -> Result<bool> {
        const NEVER: &str = "attribute_exists(nothing_has_this)";
        let (client, table) = (aws_sdk_dynamodb::Client::new(aws.config()), &self.it.outputs.table);
        let source = || AttributeValue::S(self.it.institute.clone());
        let message_id = || AttributeValue::S("0".repeat(64));
        match call {
            GetItem => {
                allowed(client.get_item().table_name(table).key("source", source()).key("message_id", message_id()).send().await)
            }
            GetIdentity => {
                let get = client.get_item().table_name(table).key("source", AttributeValue::S(catalog::IDENTITIES.to_owned()));
                allowed(get.key("message_id", message_id()).send().await)
            }
            BatchGetItem => {
                let key = [("source".to_owned(), source()), ("message_id".to_owned(), message_id())];
                let keys = KeysAndAttributes::builder().keys(key.into()).build()?;
                allowed(client.batch_get_item().request_items(table, keys).send().await)
            }
            Query | QueryHeld => {
                let index = (call == QueryHeld).then(|| "by-held-since".to_owned());
                let query = client.query().table_name(table).set_index_name(index).key_condition_expression("#s = :s");
                let query = query.expression_attribute_names("#s", "source").expression_attribute_values(":s", source());
                allowed(query.send().await)
            }
            Scan => allowed(client.scan().table_name(table).limit(1).send().await),
            UpdateItem => {
                let update = client.update_item().table_name(table).key("source", source()).key("message_id", message_id());
                allowed(
                    update
                        .update_expression("SET x = :x")
                        .expression_attribute_values(":x", source())
                        .condition_expression(NEVER)
                        .send()
                        .await,
                )
            }
            PutItem => {
                let put = client.put_item().table_name(table).item("source", source()).item("message_id", message_id());
                allowed(put.condition_expression(NEVER).send().await)
            }
            _ => {
                let delete = client.delete_item().table_name(table).key("source", source()).key("message_id", message_id());
                allowed(delete.condition_expression(NEVER).send().await)
            }
        }
    }

    async fn kms(&self, aws: &Aws, call: Call) -> Result<bool> {
        let kms = aws_sdk_kms::Client::new(aws.config());
        let token_key = forge::token_key(&self.it)?;
        let seal = kms.generate_data_key().key_id(token_key).key_spec(DataKeySpec::Aes256);
        match call {
            Seal => allowed(seal.encryption_context("source", "x").send().await),
            SealForSubmission => {
                allowed(seal.encryption_context("submissionId", "x").encryption_context("source", "x").send().await)
            }
            SealUnbound => allowed(seal.send().await),
            SealDirectly => {
                let seal = kms.encrypt().key_id(token_key).plaintext(Blob::new("x")).encryption_context("source", "x");
                allowed(seal.send().await)
            }
            OpenKey => {
                let open = kms.decrypt().key_id(token_key).ciphertext_blob(self.wrapped.clone());
                allowed(open.encryption_context("source", &self.it.institute).send().await)
            }
            OpenOtherwise => {
                let open = kms.decrypt().key_id(token_key).ciphertext_blob(self.wrapped_otherwise.clone());
                let open = open.encryption_context("source", &self.it.institute).encryption_context("more", "x");
                allowed(open.send().await)
            }
            Open => {
                let open = kms.decrypt().key_id(token_key).ciphertext_blob(self.sealed.clone());
                let open = open.encryption_context("submissionId", &self.submission_id);
                allowed(open.encryption_context("source", &self.it.institute).send().await)
            }
            _ => allowed(kms.decrypt().ciphertext_blob(self.sealed_data.clone()).send().await),
        }
    }

    async fn patients(&self, aws: &Aws, call: Call) -> Result<bool> {
        let (dynamodb, kms) = (aws_sdk_dynamodb::Client::new(aws.config()), aws_sdk_kms::Client::new(aws.config()));
        let table = self.it.outputs.stack_output("PatientTableName")?;
        let (key, sha) = (self.it.outputs.stack_output("PatientKeyArn")?, MacAlgorithmSpec::HmacSha256);
        let source = || AttributeValue::S(self.it.institute.clone());
        match call {
            IndexPatients => {
                // An entry without its sort key is refused, by whoever it is.
                let put = PutRequest::builder().item("source", source()).build()?;
                let put = WriteRequest::builder().put_request(put).build();
                allowed(dynamodb.batch_write_item().request_items(table, vec![put]).send().await)
            }
            SearchPatients => {
                let query = dynamodb.query().table_name(table).key_condition_expression("#s = :s");
                let query = query.expression_attribute_names("#s", "source").expression_attribute_values(":s", source());
                allowed(query.send().await)
            }
            HashPatients => allowed(kms.generate_mac().key_id(key).mac_algorithm(sha).message(Blob::new("x")).send().await),
            _ => {
                let verify = kms.verify_mac().key_id(key).mac_algorithm(sha).message(Blob::new("x"));
                allowed(verify.mac(Blob::new("x")).send().await)
            }
        }
    }

    async fn overflow(&self, aws: &Aws, call: Call) -> Result<bool> {
        let (s3, bucket, key) = (aws.s3(), &self.it.outputs.overflow_bucket, &self.overflow_key);
        match call {
            GetOverflow => allowed(s3.get_object().bucket(bucket).key(key).send().await),
            GetUpload => allowed(s3.get_object().bucket(bucket).key(&self.upload_key).send().await),
            ListOverflow => allowed(s3.list_objects_v2().bucket(bucket).max_keys(1).send().await),
            PutOverflow => allowed(s3.put_object().bucket(bucket).key(format!("{key}.test")).send().await),
            _ => allowed(s3.delete_object().bucket(bucket).key(format!("{key}.none")).send().await),
        }
    }

    async fn held(&self, aws: &Aws, call: Call) -> Result<bool> {
        let (s3, bucket, key) = (aws.s3(), &self.held_bucket, &self.held_key);
        match call {
            GetHeld => allowed(s3.get_object().bucket(bucket).key(key).version_id(&self.held_version).send().await),
            PutHeld => allowed(s3.put_object().bucket(bucket).key(format!("{key}.test")).send().await),
            ListHeld => allowed(s3.list_objects_v2().bucket(bucket).max_keys(1).send().await),
            _ => allowed(s3.delete_object().bucket(bucket).key(format!("{key}.none")).send().await),
        }
    }

    async fn lake(&self, aws: &Aws, call: Call) -> Result<bool> {
        let (s3, bucket, key) = (aws.s3(), &self.it.outputs.bucket, &self.lake_key);
        let tagging = format!("source={}&state=parsed", self.it.institute);
        match call {
            GetLake => allowed(s3.get_object().bucket(bucket).key(key).send().await),
            PutLake => allowed(s3.put_object().bucket(bucket).key(format!("{key}.test")).tagging(tagging).send().await),
            TagLake => allowed(tag(&s3, bucket, key, &self.it.institute).await),
            ListLake => allowed(s3.list_objects_v2().bucket(bucket).send().await),
            _ => allowed(s3.delete_object().bucket(bucket).key(format!("{key}.none")).send().await),
        }
    }

    async fn rest(&self, aws: &Aws, call: Call) -> Result<bool> {
        let (outputs, sns) = (self.it.outputs, aws_sdk_sns::Client::new(aws.config()));
        let sfn = aws_sdk_sfn::config::Builder::from(aws.config()).interceptor(runtime::StripHostPrefix).build();
        let (sfn, machine) = (aws_sdk_sfn::Client::from_conf(sfn), &outputs.state_machine_arn);
        match call {
            Publish => allowed(sns.publish().topic_arn(&outputs.topic_arn).message("").send().await),
            Subscribe => allowed(sns.subscribe().topic_arn(&outputs.topic_arn).protocol("none").send().await),
            Run => allowed(sfn.start_sync_execution().state_machine_arn(machine).input("{}").send().await),
            RunAsync => allowed(sfn.start_execution().state_machine_arn(machine).input("{}").send().await),
            Log(worker) => {
                let (client, group) = (aws_sdk_cloudwatchlogs::Client::new(aws.config()), group_of(&self.it, worker)?);
                let stream = format!("test-{}", unique());
                let create = client.create_log_stream().log_group_name(&group).log_stream_name(&stream);
                let created = allowed(create.send().await)?;
                let event = InputLogEvent::builder().timestamp(logs::now()).message("END test").build()?;
                let put = client.put_log_events().log_group_name(&group).log_stream_name(&stream).log_events(event);
                let written = allowed(put.send().await)?;
                ensure!(created == written, "a log is written to with both or not at all");
                Ok(written)
            }
            _ => allowed(Iam::new(aws.config()).get_role().role_name("none").send().await),
        }
    }
}

async fn tag(
    s3: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    source: &str,
) -> Result<(), SdkError<aws_sdk_s3::operation::put_object_tagging::PutObjectTaggingError>> {
    use aws_sdk_s3::types::{Tag, Tagging};
    let tags = [("source", source), ("state", "parsed")].map(|(key, value)| Tag::builder().key(key).value(value).build());
    let tags = tags.into_iter().collect::<Result<_, _>>().map_err(SdkError::construction_failure)?;
    let tagging = Tagging::builder().set_tag_set(Some(tags)).build().map_err(SdkError::construction_failure)?;
    s3.put_object_tagging().bucket(bucket).key(key).tagging(tagging).send().await.map(drop)
}

/// Any answer but a refusal is a permission. No answer at all is neither.
pub(crate) fn allowed<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error)) => {
            let code = error.err().code().unwrap_or_default();
            ensure!(!code.is_empty() && error.raw().status().as_u16() < 500, "{error:?}");
            Ok(!["AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"].contains(&code))
        }
        Err(error) => anyhow::bail!("no answer: {error:?}"),
    }
}

#[tokio::test]
async fn each_worker_may_do_what_it_does_and_nothing_beside() -> Result<()> {
    let tried: BTreeSet<_> = MAY.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(tried, workers().collect(), "a folder of workers/ is a worker");
    let scene = Scene::new().await?;
    let mut roles = roles(&scene.it, "pipeline").await?;
    roles.extend(self::roles(&scene.it, "identity").await?);
    roles.extend(self::roles(&scene.it, "api").await?);
    roles.extend(self::roles(&scene.it, "tables").await?);
    for call in all().filter(|call| !matches!(call, Run | RunAsync)) {
        assert!(scene.may(&scene.it.aws, call).await?, "{call:?} is something that the root may do");
    }
    for &(worker, may) in MAY {
        let role = roles.get(&format!("{worker}Role")).with_context(|| format!("`{worker}` has no role of its own"))?;
        let twin = Twin::of(&scene.it, role).await?;
        let mut allowed = Vec::new();
        for call in all() {
            if scene.may(&twin.aws, call).await? {
                allowed.push(call);
            }
        }
        assert_eq!(allowed, may, "{worker}");
        if [ENROLL, SUMMARY, TABLES].contains(&worker) {
            continue; // The rest of their grants are used in `enroll`, `summary` and `tabulate`.
        }
        let granted = grants(&policies(&scene.it, role).await?)?;
        let used: BTreeSet<_> = may.iter().flat_map(|call| call.actions()).map(|it| (*it).to_owned()).collect();
        assert_eq!(used, granted, "{worker}: what it tried here, and what it is granted");
    }
    Ok(())
}

#[tokio::test]
async fn a_sealed_token_opens_for_store_alone_and_only_with_its_submission() -> Result<()> {
    let scene = Scene::new().await?;
    let it = &scene.it;
    for (worker, role) in roles(it, "pipeline").await? {
        let twin = Twin::of(it, &role).await?;
        let kms = aws_sdk_kms::Client::new(twin.aws.config());
        let open = async |submission_id: &str, source: &str| {
            let open = kms.decrypt().key_id(forge::token_key(it)?).ciphertext_blob(scene.sealed.clone());
            let opened = open.encryption_context("submissionId", submission_id).encryption_context("source", source);
            anyhow::Ok(opened.send().await.map_err(|error| error.code().unwrap_or("none").to_owned()))
        };
        let opened = open(&scene.submission_id, &it.institute).await?;
        if worker == "StoreRole" {
            assert_eq!(opened.unwrap().plaintext.unwrap().as_ref().split(|it| *it == b'.').count(), 3, "an ID token");
            let other = open(&unique(), &it.institute).await?;
            assert_eq!(other.unwrap_err(), "InvalidCiphertextException");
            let other = open(&scene.submission_id, &unique()).await?;
            assert_eq!(other.unwrap_err(), "InvalidCiphertextException");
            let without = kms.decrypt().key_id(forge::token_key(it)?).ciphertext_blob(scene.sealed.clone()).send().await;
            assert_eq!(without.unwrap_err().code(), Some("AccessDeniedException"));
            // The data key of an institute is unwrapped for no other.
            let unwrap = async |source: &str| {
                let unwrap = kms.decrypt().key_id(forge::token_key(it)?).ciphertext_blob(scene.wrapped.clone());
                let unwrapped = unwrap.encryption_context("source", source).send().await;
                anyhow::Ok(unwrapped.map_err(|error| error.code().unwrap_or("none").to_owned()))
            };
            assert_eq!(unwrap(&it.institute).await?.unwrap().plaintext.unwrap().as_ref().len(), 32);
            assert_eq!(unwrap(&unique()).await?.unwrap_err(), "InvalidCiphertextException");
        } else {
            assert_eq!(opened.unwrap_err(), "AccessDeniedException", "{worker}");
        }
    }
    Ok(())
}

/// Whether an IAM pattern matches a text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.len() == text.len() && pattern.bytes().zip(text.bytes()).all(|(a, b)| a == b || a == b'?'),
        Some((head, tail)) => {
            text.get(..head.len()).is_some_and(|it| matches(head, it))
                && (head.len()..=text.len()).any(|at| text.get(at..).is_some_and(|rest| matches(tail, rest)))
        }
    }
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    let one = value.as_str().map(str::to_owned);
    let many = value.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned));
    one.into_iter().chain(many).collect()
}

/// The statements of a role that allow anything of S3 on the lake, whatever their conditions.
fn reaching_the_lake(policies: &[Value], lake_arn: &str) -> Result<Vec<Value>> {
    let places = [lake_arn.to_owned(), format!("{lake_arn}/source=x/date=2026-01-02/x.hl7")];
    let mut found = Vec::new();
    for statement in policies.iter().flat_map(|policy| policy["Statement"].as_array().cloned().unwrap_or_default()) {
        ensure!(statement["NotAction"].is_null() && statement["NotResource"].is_null(), "says what not: {statement}");
        let (actions, resources) = (texts(&statement["Action"]), texts(&statement["Resource"]));
        ensure!(!actions.is_empty() && !resources.is_empty(), "says nothing: {statement}");
        let of_s3 = actions.iter().any(|it| matches(&it.split(':').next().unwrap_or_default().to_lowercase(), "s3"));
        // A policy variable may stand for anything.
        let variable = |pattern: &str| {
            pattern.split("${").map(|it| it.split_once('}').map_or(it, |(_, it)| it)).collect::<Vec<_>>().join("*")
        };
        let there = resources.iter().any(|it| places.iter().any(|place| matches(&variable(it), place)));
        if statement["Effect"] == "Allow" && of_s3 && there {
            found.push(statement);
        }
    }
    Ok(found)
}

/// The roles that reach the lake, each for the one institute that its session's tag names. None is a worker's.
const READERS: [&str; 2] = ["UserRole", "TablesSessionRole"];

#[tokio::test]
async fn no_worker_role_reaches_the_lake_bucket() -> Result<()> {
    let it = Harness::new()?;
    let lake = it.outputs.stack_outputs.get("LakeBucketArn").context("a lake")?;
    let mut seen = 0;
    for stack in ["core", "identity", "pipeline", "api", "tables"] {
        for (name, role) in roles(&it, stack).await?.into_iter().filter(|(name, _)| !READERS.contains(&name.as_str())) {
            let policies = policies(&it, &role).await?;
            assert_eq!(reaching_the_lake(&policies, lake)?, [] as [Value; 0], "{name}");
            // Nor does it write metrics, whose names and dimensions anybody in the account may list.
            let actions = policies.iter().flat_map(|it| it["Statement"].as_array().into_iter().flatten());
            let actions: Vec<_> = actions.flat_map(|statement| texts(&statement["Action"])).collect();
            assert!(!actions.iter().any(|it| matches(it, "cloudwatch:PutMetricData")), "{name}: {actions:?}");
            seen += 1;
        }
    }
    assert!(seen > pipeline_workers().count(), "the workers' roles and the state machine's");
    // The same look at a role that does: the users'.
    let users = roles(&it, "identity").await?;
    assert_eq!(users.keys().collect::<Vec<_>>(), ["EnrollRole", "StaffRole", "UserRole"]);
    assert_eq!(reaching_the_lake(&policies(&it, &users["UserRole"]).await?, lake)?.len(), 2);
    // And at the role of sessions for one institute, which may only read.
    let sessions = reaching_the_lake(&policies(&it, &roles(&it, "tables").await?["TablesSessionRole"]).await?, lake)?;
    let actions: Vec<_> = sessions.iter().flat_map(|it| texts(&it["Action"])).collect();
    assert_eq!(actions, ["s3:GetObject", "s3:GetObjectVersion"]);
    let wide = json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::*" }] });
    assert_eq!(reaching_the_lake(&[wide], lake)?.len(), 1);
    Ok(())
}
