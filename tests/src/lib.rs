//! What the system tests and the benchmark share: the running system, and users of an institute of one's own in it.
//!
//! There is one local system for all tests of a checkout (`sluice local up`, which the first test calls), and a fresh
//! institute for each test, so that they can run side by side and again.

mod audit;
pub mod download;
mod item;
mod node;
mod processes;
mod python;
pub mod template;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::config::Credentials;
use aws_sdk_sqs::types::QueueAttributeName;
use catalog::Catalog;
use client::aws::Aws;
use client::deployment::Deployment;
use client::http::{Answer, Api};
use domain::{MessageId, Record, Source};
use secrecy::SecretString;
use sluice::Outputs;
use sluice::local::{self, Authorization, UpOptions};

pub use item::item_bytes;
pub use node::Node;
pub use processes::{WorkerProcess, worker_processes};
pub use python::{done, python};

/// How long a test waits for a message to come to its end, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// The running system, as one test sees it.
#[derive(Debug)]
pub struct Harness {
    /// Where everything is.
    pub outputs: &'static Outputs,
    /// The local AWS, as the account's root.
    pub aws: Aws,
    /// The submission API.
    pub api: Api,
    /// An institute that no other test uses.
    pub institute: String,
}

/// A user who has signed in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The ID token.
    pub token: SecretString,
}

/// Asks the API again while it is overloaded, as a sender does, and gives its answer.
///
/// # Errors
/// When there was no answer, or the API is overloaded until the deadline.
pub async fn patiently(ask: impl AsyncFn() -> Result<Answer>) -> Result<Answer> {
    let began = tokio::time::Instant::now();
    loop {
        let answer = ask().await?;
        if !answer.is_overloaded() {
            return Ok(answer);
        }
        anyhow::ensure!(began.elapsed() < DEADLINE, "the API stays overloaded: {}: {}", answer.status, answer.json());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Harness {
    /// The system, brought up if it is not.
    ///
    /// # Errors
    /// When it cannot be brought up.
    pub fn new() -> Result<Self> {
        Self::of(running()?)
    }

    /// A system that is up, with an institute of one's own in it.
    ///
    /// # Errors
    /// When the outputs are not of a local system.
    pub fn of(outputs: &'static Outputs) -> Result<Self> {
        Ok(Self { outputs, aws: outputs.local_aws()?, api: Api::new(&outputs.api_url)?, institute: format!("test-{}", unique()) })
    }

    /// Whether the worker `authorize` lets users in. API Gateway's own authorizer does otherwise, in a run of the tests under
    /// [`sluice::local::Authorization::VARIABLE`].
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.outputs.stack_outputs.get("Authorization").is_some_and(|it| it == Authorization::Unified.name())
    }

    /// What API Gateway answers to a token that is no good: a Lambda authorizer can only say no, which is 403.
    #[must_use]
    pub fn bad_token(&self) -> u16 {
        if self.is_unified() { 403 } else { 401 }
    }

    /// Whether this is how somebody is refused who has no right to a route: by the policies, or by the route's worker.
    ///
    /// # Errors
    /// When it is not, with what it is.
    pub fn is_refused_route(&self, answer: &Answer) -> Result<()> {
        let says = if self.is_unified() { "Forbidden" } else { "no institute" };
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(answer.status == 403 && text.contains(says), "{}: {text}", answer.status);
        Ok(())
    }

    /// A new user with these claims, signed in. Anything may be a claim; an empty one is left out.
    ///
    /// # Errors
    /// When Cognito refuses.
    pub async fn caller(&self, read: &str, write: &str) -> Result<Caller> {
        let email = format!("{}@test.example", unique());
        let user = sluice::local::users::create_user(&self.aws, &self.outputs.user_pool_id, &email, read, write).await?;
        Ok(Caller { token: client::sign_in::sign_in(&self.aws, &self.outputs.client_id, &user).await? })
    }

    /// A user who reads and writes for this test's institute.
    ///
    /// # Errors
    /// When Cognito refuses.
    pub async fn admin(&self) -> Result<Caller> {
        self.caller(&self.institute, &self.institute).await
    }

    /// The AWS that a user reaches with the credentials that their token is exchanged for.
    ///
    /// # Errors
    /// When Cognito refuses the exchange.
    pub async fn aws_as(&self, caller: &Caller) -> Result<Aws> {
        let credentials: Credentials = client::sign_in::exchange(&Deployment::try_from(self.outputs)?, &caller.token).await?;
        let endpoint_url = self.aws.endpoint_url().context("the local system has an endpoint")?;
        Ok(Aws::with_credentials(endpoint_url, &self.outputs.region, credentials))
    }

    /// Posts ER7.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn submit(&self, caller: &Caller, message: &str) -> Result<Answer> {
        self.api.submit(message.as_bytes().to_vec(), client::http::ER7, Some(&caller.token)).await
    }

    /// Posts ER7 as a sender does: again while the API is overloaded.
    ///
    /// # Errors
    /// When there was no answer, or the API is overloaded until the deadline.
    pub async fn submit_patiently(&self, caller: &Caller, message: &str) -> Result<Answer> {
        patiently(async || self.submit(caller, message).await).await
    }

    /// Posts messages in one body until the API has each of them: it may take some of them and be too busy for the rest.
    ///
    /// # Errors
    /// When there was no answer, the API refuses the body, or has not each message by the deadline.
    pub async fn submit_batch(&self, caller: &Caller, messages: &[String]) -> Result<()> {
        let (began, count) = (tokio::time::Instant::now(), messages.len());
        let body = format!("BHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101\r{}BTS|{count}\r", messages.concat());
        loop {
            let answer = self.submit(caller, &body).await?;
            let json = answer.json();
            let count_of = |name| json.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
            if answer.status.is_success() && count_of("queued") + count_of("duplicates") == count as u64 {
                return Ok(());
            }
            anyhow::ensure!(answer.is_overloaded() || answer.status.is_success(), "{}: {json}", answer.status);
            anyhow::ensure!(began.elapsed() < DEADLINE, "the API does not take the batch: {}: {json}", answer.status);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Posts ER7, expects 202 and waits for the end. Gives the message id and the last status answer.
    ///
    /// # Errors
    /// When the answer is another one, or there is no end by the deadline.
    pub async fn store(&self, caller: &Caller, message: &str) -> Result<(MessageId, serde_json::Value)> {
        let answer = self.submit_patiently(caller, message).await?;
        anyhow::ensure!(answer.status == 202, "POST /er7 was answered with {}: {}", answer.status, answer.json());
        let message_id = answer.text("messageId").parse()?;
        let status = self.api.final_status(answer.text("messageId").as_str(), &caller.token, DEADLINE).await?;
        Ok((message_id, status))
    }

    /// The catalog, as the account's root.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        Catalog::new(aws_sdk_dynamodb::Client::new(self.aws.config()), self.outputs.table.clone())
    }

    /// The catalog's record of a message of this test's institute.
    ///
    /// # Errors
    /// When there is none.
    pub async fn record(&self, message_id: &MessageId) -> Result<Record> {
        let source: Source = self.institute.parse()?;
        self.catalog().get(&source, message_id).await?.context("the catalog has no such record")
    }

    /// Changes one attribute of a record of this test's institute, as the account's root.
    ///
    /// # Errors
    /// When DynamoDB refuses.
    pub async fn set(&self, message_id: &MessageId, name: &str, value: &str) -> Result<()> {
        self.set_attribute(message_id, name, AttributeValue::S(value.to_owned())).await
    }

    /// The same with any attribute.
    ///
    /// # Errors
    /// When DynamoDB refuses.
    pub async fn set_attribute(&self, message_id: &MessageId, name: &str, value: AttributeValue) -> Result<()> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let update = aws_sdk_dynamodb::Client::new(self.aws.config()).update_item().table_name(&self.outputs.table);
        let update = update.key("source", text(&self.institute)).key("message_id", text(message_id.as_str()));
        let update = update.update_expression("SET #name = :value").expression_attribute_names("#name", name);
        update.expression_attribute_values(":value", value).send().await?;
        Ok(())
    }

    /// How many records this test's institute has.
    ///
    /// # Errors
    /// When DynamoDB refuses.
    pub async fn records(&self) -> Result<usize> {
        Ok(self.all_records().await?.len())
    }

    /// The records of this test's institute.
    ///
    /// # Errors
    /// When DynamoDB refuses.
    pub async fn all_records(&self) -> Result<Vec<Record>> {
        let mut pages = aws_sdk_dynamodb::Client::new(self.aws.config())
            .query()
            .table_name(&self.outputs.table)
            .key_condition_expression("#source = :source")
            .expression_attribute_names("#source", "source")
            .expression_attribute_values(":source", AttributeValue::S(self.institute.clone()))
            .into_paginator()
            .items()
            .send();
        let mut records = Vec::new();
        while let Some(item) = pages.next().await {
            records.push(catalog::record(item?)?);
        }
        Ok(records)
    }

    /// The newest copy of a message in the held bucket, as it stands there.
    ///
    /// # Errors
    /// When there is none.
    pub async fn held_copy(&self, source: &domain::Source, message_id: &domain::MessageId) -> Result<String> {
        let bucket = self.outputs.held_bucket.as_deref().unwrap_or_default();
        let key = domain::object::held_key(source, message_id);
        let object = self.aws.s3().get_object().bucket(bucket).key(key).send().await?;
        Ok(String::from_utf8(object.body.collect().await?.to_vec())?)
    }

    /// Waits until the queue holds nothing, neither visible nor hidden.
    ///
    /// # Errors
    /// When that does not happen by the deadline.
    pub async fn queue_drained(&self) -> Result<()> {
        let sqs = aws_sdk_sqs::Client::new(self.aws.config());
        let began = tokio::time::Instant::now();
        loop {
            let attributes = sqs
                .get_queue_attributes()
                .queue_url(&self.outputs.queue_url)
                .attribute_names(QueueAttributeName::All)
                .send()
                .await?;
            let count = |name| attributes.attributes().and_then(|it| it.get(&name)?.parse::<u32>().ok()).unwrap_or(0);
            let left = count(QueueAttributeName::ApproximateNumberOfMessages)
                + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
            if left == 0 {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < DEADLINE, "the queue still holds {left} messages");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many dead letters are this test's institute's. Reads them without taking them away.
    ///
    /// # Errors
    /// When SQS refuses.
    pub async fn dead_letters_of_institute(&self) -> Result<usize> {
        Ok(self.dead_letters().await?.iter().filter(|body| body.contains(&self.institute)).count())
    }

    /// The bodies of all dead letters, left where they are.
    ///
    /// # Errors
    /// When SQS refuses.
    pub async fn dead_letters(&self) -> Result<Vec<String>> {
        let sqs = aws_sdk_sqs::Client::new(self.aws.config());
        let mut bodies = Vec::new();
        let began = tokio::time::Instant::now();
        loop {
            anyhow::ensure!(began.elapsed() < DEADLINE, "{} dead letters were read, and there are more", bodies.len());
            // Hidden for a moment, so that the next call gives the next ones.
            let received = sqs
                .receive_message()
                .queue_url(&self.outputs.dead_letter_queue_url)
                .max_number_of_messages(10)
                .visibility_timeout(2)
                .send()
                .await?;
            if received.messages().is_empty() {
                return Ok(bodies);
            }
            bodies.extend(received.messages().iter().filter_map(|message| message.body().map(str::to_owned)));
        }
    }

    /// Keys and version ids of all lake objects of this test's institute.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn object_versions(&self) -> Result<Vec<(String, String)>> {
        let prefix = format!("source={}/", self.institute);
        let found = self.aws.s3().list_object_versions().bucket(&self.outputs.bucket).prefix(prefix).send().await?;
        let versions = found.versions().iter();
        Ok(versions.map(|it| (it.key().unwrap_or_default().to_owned(), it.version_id().unwrap_or_default().to_owned())).collect())
    }
}

/// A problem document without the trace, which is another one for each request.
#[must_use]
pub fn without_trace(answer: &Answer) -> serde_json::Value {
    let mut document = answer.json();
    if let Some(members) = document.as_object_mut() {
        members.remove("traceId");
    }
    document
}

/// A small valid message with that control id. The text between the patient's names is what privacy tests look for.
#[must_use]
pub fn adt(control_id: &str, family_name: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|{FACILITY}|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1\r\
         EVN|A01|20260102030405\rPID|1||4711^^^HIS^MR||{family_name}^JANE||19800101|F\rPV1|1|I\r"
    )
}

const FACILITY: &str = "WEST";

/// A short text that nobody has used.
#[must_use]
pub fn unique() -> String {
    ulid::Ulid::generate().to_string().to_ascii_lowercase()
}

fn running() -> Result<&'static Outputs> {
    static OUTPUTS: OnceLock<Result<Outputs, String>> = OnceLock::new();
    let outputs = OUTPUTS.get_or_init(|| {
        // On a thread of its own: the caller is within a runtime.
        let up = || tokio::runtime::Runtime::new()?.block_on(local::up(UpOptions { tables: true, ..UpOptions::default() }));
        std::thread::spawn(up)
            .join()
            .map_err(|_| "bringing the system up panicked".to_owned())?
            .map_err(|error| format!("{error:#}"))
    });
    outputs.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
