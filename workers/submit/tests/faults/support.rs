//! `submit` with a stand-in for each AWS call.

use std::sync::{Arc, Mutex};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchOutput;
use aws_sdk_sqs::types::SendMessageBatchResultEntry;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catalog::Catalog;
use domain::{Envelope, Payload};
use seal::Sealer;
use serde_json::{Value, json};
use submit::{BatchTimes, Submit};

pub(crate) const ER7: &str = "MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||DOE\r";
pub(crate) const KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/token";

/// The request with that message.
pub(crate) fn post(er7: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../src/fixtures/post_er7.json")).unwrap();
    event["body"] = json!(json!({ "msg": BASE64_STANDARD.encode(er7) }).to_string());
    event
}

/// A message too large for the envelope.
pub(crate) fn large() -> String {
    format!("{ER7}OBX|1||{}\r", "x".repeat(Payload::MAX_INLINE_BYTES))
}

pub(crate) fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

pub(crate) fn refusal(status: u16, code: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": "SECRET" }))
}

pub(crate) fn noting(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(response)
}

pub(crate) fn sealing(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_kms::Client::generate_data_key).then_http_response(response)
}

pub(crate) fn sending(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_sqs::Client::send_message).then_http_response(response)
}

/// The calls of a submission, one rule each, and what was sent to the queue.
pub(crate) struct Aws {
    pub(crate) note: Rule,
    pub(crate) seal: Rule,
    pub(crate) put: Rule,
    /// Of an upload: [`ER7`].
    pub(crate) get: Rule,
    pub(crate) send: Rule,
    pub(crate) send_batch: Rule,
    pub(crate) sent: Arc<Mutex<Vec<Envelope>>>,
    /// The message group of each.
    pub(crate) groups: Arc<Mutex<Vec<String>>>,
    pub(crate) public_url: &'static str,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_upload_bytes: usize,
    pub(crate) allowance: Option<catalog::Allowance>,
    pub(crate) retry: RetryConfig,
    pub(crate) batch_times: BatchTimes,
}

impl Aws {
    pub(crate) fn healthy() -> Self {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (sends, batches) = (Arc::clone(&sent), Arc::clone(&sent));
        let groups = Arc::new(Mutex::new(Vec::new()));
        let (groups_of_sends, groups_of_batches) = (Arc::clone(&groups), Arc::clone(&groups));
        Self {
            note: mock!(aws_sdk_dynamodb::Client::update_item).then_output(|| UpdateItemOutput::builder().build()),
            seal: mock!(aws_sdk_kms::Client::generate_data_key)
                .match_requests(|request| request.key_id() == Some(KEY))
                .then_output(|| {
                    GenerateDataKeyOutput::builder().plaintext(Blob::new([7; 32])).ciphertext_blob(Blob::new("wrapped")).build()
                }),
            put: mock!(aws_sdk_s3::Client::put_object)
                .match_requests(|request| request.bucket() == Some("overflow"))
                .then_output(|| PutObjectOutput::builder().build()),
            get: mock!(aws_sdk_s3::Client::get_object)
                .match_requests(|request| request.bucket() == Some("overflow"))
                .then_output(|| GetObjectOutput::builder().body(ByteStream::from_static(ER7.as_bytes())).build()),
            send_batch: mock!(aws_sdk_sqs::Client::send_message_batch).then_compute_output(move |request| {
                let sent = request.entries().iter().map(|entry| {
                    batches.lock().unwrap().push(Envelope::from_json(entry.message_body()).unwrap());
                    groups_of_batches.lock().unwrap().extend(entry.message_group_id().map(str::to_owned));
                    let sent = SendMessageBatchResultEntry::builder().id(entry.id()).message_id("m").md5_of_message_body("x");
                    sent.build().unwrap()
                });
                SendMessageBatchOutput::builder()
                    .set_successful(Some(sent.collect()))
                    .set_failed(Some(Vec::new()))
                    .build()
                    .unwrap()
            }),
            send: mock!(aws_sdk_sqs::Client::send_message).then_compute_output(move |request| {
                sends.lock().unwrap().push(Envelope::from_json(request.message_body().unwrap()).unwrap());
                groups_of_sends.lock().unwrap().extend(request.message_group_id().map(str::to_owned));
                SendMessageOutput::builder().build()
            }),
            sent,
            groups,
            public_url: "",
            max_message_bytes: domain::MAX_MESSAGE_BYTES,
            max_upload_bytes: domain::MAX_UPLOAD_BYTES,
            allowance: None,
            retry: RetryConfig::disabled(),
            batch_times: BatchTimes::default(),
        }
    }

    pub(crate) async fn submit(&self, event: Value) -> ApiGatewayV2httpResponse {
        let Self { note, seal, put, get, send, send_batch, retry, .. } = self;
        let dynamodb = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [note], |conf| conf.retry_config(retry.clone()));
        let submit = Submit {
            catalog: Catalog::new(dynamodb, "catalog".to_owned()),
            sealer: Sealer::new(
                mock_client!(aws_sdk_kms, RuleMode::MatchAny, [seal], |conf| conf.retry_config(retry.clone())),
                KEY.to_owned(),
            ),
            s3: mock_client!(aws_sdk_s3, RuleMode::MatchAny, [put, get], |conf| conf.retry_config(retry.clone())),
            overflow_bucket: "overflow".to_owned(),
            sqs: mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [send, send_batch], |conf| conf.retry_config(retry.clone())),
            queue_url: "https://sqs.eu-central-1.amazonaws.com/123456789012/queue".to_owned(),
            public_url: self.public_url.to_owned(),
            max_message_bytes: self.max_message_bytes,
            max_upload_bytes: self.max_upload_bytes,
            allowance: self.allowance,
            batch_times: self.batch_times,
        };
        submit.answer(event).await.unwrap()
    }

    pub(crate) fn sent(&self) -> Vec<Envelope> {
        self.sent.lock().unwrap().clone()
    }
}

pub(crate) fn body(response: &ApiGatewayV2httpResponse) -> Value {
    let Some(Body::Text(body)) = &response.body else { panic!("no text: {response:?}") };
    serde_json::from_str(body).unwrap()
}

/// The request with these bytes as its body, in that content type.
pub(crate) fn post_as(content_type: &str, bytes: &[u8]) -> Value {
    let mut event = post("");
    event["headers"]["content-type"] = json!(content_type);
    event["body"] = json!(BASE64_STANDARD.encode(bytes));
    event["isBase64Encoded"] = json!(true);
    event
}
