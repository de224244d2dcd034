//! What `Store` says when one of its calls fails, and that the catalog then knows of nothing half stored.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_cognitoidentity::operation::get_credentials_for_identity::GetCredentialsForIdentityOutput;
use aws_sdk_cognitoidentity::operation::get_id::GetIdOutput;
use aws_sdk_cognitoidentity::primitives::DateTime;
use aws_sdk_cognitoidentity::types::Credentials;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::operation::decrypt::DecryptOutput;
use aws_sdk_kms::operation::generate_mac::GenerateMacOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::put_object::{PutObjectInput, PutObjectOutput};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use catalog::Catalog;
use domain::step::StoreAnswer;
use domain::{Charset, Er7, Payload, Received, StoredFacts};
use exchange::Exchange;
use patients::{PatientIndex, PatientKeys};
use runtime::StepError;
use seal::Opener;
use serde_json::{Value, json};
use store::{LakeWriter, Patients, Store};

const ER7: &str = "MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||DOE\r";
const MINE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const ANOTHER: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";
const PUT_OBJECT: &str = "s3:PutObject";
const HOUR: i64 = 3600;
const ISSUER: &str = "https://issuer";
const PARTNER: &str = "https://partner";

/// An ID token that ends `seconds` from now; another `jti` makes another token of the same user.
fn token(seconds: i64, jti: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let exp = now.checked_add_signed(seconds).unwrap();
    token_of(&json!({ "iss": ISSUER, "sub": "user", "exp": exp, "jti": jti, "custom:write": "general-hospital" }))
}

fn token_of(claims: &Value) -> String {
    format!("header.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What the state machine passes for [`ER7`]. KMS is mocked so that a sealed token is its own plaintext.
fn request(token: &str) -> Value {
    let message = Er7::canonical(ER7).unwrap();
    json!({
        "submissionId": MINE,
        "messageId": message.message_id(),
        "source": "general-hospital",
        "receivedAt": "2026-11-21T07:21:07.120Z",
        "token": BASE64_STANDARD.encode(token),
        "payload": Payload::inline(&received(ER7.as_bytes(), "utf-8")),
        "parsed": { "state": "parsed", "summary": { "messageType": "ADT" } },
    })
}

fn received(bytes: &[u8], charset: &str) -> Received {
    Received::new(bytes.to_vec(), Charset::for_label(charset).unwrap())
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn refusal(status: u16, code: &str, message: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": message }))
}

fn s3_refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>");
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

/// A finish refused by the message's record.
fn finish_refused_by(status: &'static str, claim: &'static str) -> Rule {
    let item = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": Er7::canonical(ER7).unwrap().message_id() },
        "status": { "S": status },
        "claim_submission": { "S": claim },
        "received_at": { "S": "2026-11-21T07:21:07.120Z" },
        "state": { "S": "parsed" },
        "bucket": { "S": "lake" },
        "key": { "S": "key" },
        "stored_at": { "S": "2026-11-21T07:21:08.000Z" },
    });
    let refused = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item });
    mock!(aws_sdk_dynamodb::Client::update_item).then_http_response(move || answered(400, &refused))
}

/// The S3 keys of the ER7 object, of its rendition and of what was received end so.
fn putting(extension: &'static str, response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_s3::Client::put_object)
        .match_requests(move |request| request.key().unwrap().ends_with(extension))
        .then_http_response(response)
}

fn indexing(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::batch_write_item).then_http_response(response)
}

fn opening(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_kms::Client::decrypt).then_http_response(response)
}

fn identifying(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_cognitoidentity::Client::get_id).then_http_response(response)
}

fn exchanging(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_cognitoidentity::Client::get_credentials_for_identity).then_http_response(response)
}

/// Credentials that last until then, in seconds since 1970.
fn exchanged(expiration: u64) -> HttpResponse {
    let credentials = json!({ "AccessKeyId": "A", "SecretKey": "B", "SessionToken": "C", "Expiration": expiration });
    answered(200, &json!({ "IdentityId": "identity", "Credentials": credentials }))
}

/// Credentials that last for that many seconds.
fn lasting(seconds: i64) -> Rule {
    mock!(aws_sdk_cognitoidentity::Client::get_credentials_for_identity)
        .match_requests(|request| request.identity_id() == Some("identity"))
        .then_output(move || {
            let now = DateTime::from(SystemTime::now()).secs();
            let credentials = Credentials::builder()
                .access_key_id("AKIA")
                .secret_key("SECRET KEY")
                .session_token("SECRET SESSION")
                .expiration(DateTime::from_secs(now + seconds));
            GetCredentialsForIdentityOutput::builder().credentials(credentials.build()).build()
        })
}

/// The calls of a warm worker, one rule each, and the requests that put objects.
struct Aws {
    open: Rule,
    identify: Rule,
    exchange: Rule,
    fetch: Rule,
    put_er7: Rule,
    put_json: Rule,
    put_raw: Rule,
    hash: Rule,
    index: Rule,
    finish: Rule,
    puts: Arc<Mutex<Vec<PutObjectInput>>>,
    retry: RetryConfig,
    schema: &'static hl7::Schema,
}

impl Aws {
    fn healthy() -> Self {
        let puts = Arc::new(Mutex::new(Vec::new()));
        let put = |extension: &'static str| {
            let puts = Arc::clone(&puts);
            mock!(aws_sdk_s3::Client::put_object)
                .match_requests(move |request| request.key().unwrap().ends_with(extension))
                .then_compute_output(move |request| {
                    // The body is read once and cannot be cloned.
                    let request = PutObjectInput::builder()
                        .set_bucket(request.bucket.clone())
                        .set_key(request.key.clone())
                        .set_content_type(request.content_type.clone())
                        .set_content_encoding(request.content_encoding.clone())
                        .body(request.body.bytes().unwrap().to_vec().into())
                        .set_tagging(request.tagging.clone());
                    puts.lock().unwrap().push(request.build().unwrap());
                    PutObjectOutput::builder().version_id(format!("version of {extension}")).build()
                })
        };
        Self {
            open: mock!(aws_sdk_kms::Client::decrypt).then_compute_output(|request| {
                DecryptOutput::builder().plaintext(request.ciphertext_blob().unwrap().clone()).build()
            }),
            identify: mock!(aws_sdk_cognitoidentity::Client::get_id)
                .then_output(|| GetIdOutput::builder().identity_id("identity").build()),
            exchange: lasting(HOUR),
            fetch: mock!(aws_sdk_s3::Client::get_object).then_http_response(|| s3_refusal(404, "NoSuchKey")),
            put_er7: put(".hl7"),
            put_json: put(".json.gz"),
            put_raw: put(".bin"),
            hash: mock!(aws_sdk_kms::Client::generate_mac)
                .then_output(|| GenerateMacOutput::builder().mac(Blob::new([7; 32])).build()),
            index: indexing(|| answered(200, &json!({}))),
            finish: mock!(aws_sdk_dynamodb::Client::update_item).then_output(|| UpdateItemOutput::builder().build()),
            puts,
            retry: RetryConfig::disabled(),
            schema: hl7::Schema::standard(),
        }
    }

    /// A worker that has just started.
    fn store(&self) -> Store {
        let Self { open, identify, exchange, fetch, put_er7, put_json, put_raw, hash, index, finish, retry, .. } = self;
        let any = RuleMode::MatchAny;
        let cognito = mock_client!(aws_sdk_cognitoidentity, any, [identify, exchange], |conf| conf.retry_config(retry.clone()));
        let lake = mock_client!(aws_sdk_s3, any, [put_er7, put_json, put_raw], |conf| conf.retry_config(retry.clone()));
        let dynamodb = mock_client!(aws_sdk_dynamodb, any, [index, finish], |conf| conf.retry_config(retry.clone()));
        let kms = mock_client!(aws_sdk_kms, any, [open, hash], |conf| conf.retry_config(retry.clone()));
        Store {
            catalog: Catalog::new(dynamodb.clone(), "catalog".to_owned()),
            opener: Opener::new(kms.clone(), "arn:aws:kms:eu-central-1:123456789012:key/token".to_owned()),
            own_s3: mock_client!(aws_sdk_s3, any, [fetch], |conf| conf.retry_config(retry.clone())),
            overflow_bucket: "overflow".to_owned(),
            exchange: Exchange::new(cognito, "eu-central-1:pool".to_owned()),
            writers: json!({ ISSUER: { "claim": "custom:write" }, PARTNER: { "institute": "lab" } }).to_string().parse().unwrap(),
            lake: LakeWriter::new(lake, "lake".to_owned()),
            patients: Some(Patients {
                keys: PatientKeys::new(kms, "arn:aws:kms:eu-central-1:123456789012:key/patient".to_owned()),
                index: PatientIndex::new(dynamodb, "patients".to_owned()),
            }),
            schema: self.schema,
        }
    }

    /// Stores [`ER7`] with a good token.
    async fn answer(&self) -> Result<StoreAnswer, StepError> {
        self.answer_to(request(&token(HOUR, 1))).await
    }

    async fn answer_to(&self, event: Value) -> Result<StoreAnswer, StepError> {
        let answer = self.store().answer(event).await;
        if let Err(error) = &answer {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("SECRET") && !shown.contains("DOE") && !shown.contains("header."), "{shown}");
        }
        answer
    }

    /// How often the token was opened, the user identified, the token exchanged.
    fn sign_in_calls(&self) -> [usize; 3] {
        [&self.open, &self.identify, &self.exchange].map(Rule::num_calls)
    }

    /// How often the ER7 object and the rendition were put, and the record finished.
    fn storing_calls(&self) -> [usize; 3] {
        [&self.put_er7, &self.put_json, &self.finish].map(Rule::num_calls)
    }
}

#[track_caller]
fn stored(answer: Result<StoreAnswer, StepError>) -> StoredFacts {
    match answer {
        Ok(StoreAnswer::Stored { stored }) => stored.facts,
        other => panic!("not stored: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_put_twice_and_then_finished() {
    let aws = Aws::healthy();
    let stored = stored(aws.answer().await);
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([1, 1, 1], [1, 1, 1]));
    assert_eq!(stored.version_id.as_deref(), Some("version of .hl7"));
    assert_eq!(stored.json_version_id.as_deref(), Some("version of .json.gz"));
    assert_eq!((stored.raw_key, stored.raw_version_id, stored.charset), (None, None, None), "it came in canonical form");
    let puts = aws.puts.lock().unwrap();
    assert_eq!(puts.iter().map(|put| put.key().unwrap()).collect::<Vec<_>>(), [&stored.key, stored.json_key.as_ref().unwrap()]);
    for put in &*puts {
        assert_eq!(put.bucket(), Some("lake"));
        assert_eq!(put.tagging(), Some("source=general-hospital&state=parsed"));
    }
    let [er7, json] = puts.as_slice() else { panic!("two objects") };
    assert_eq!((er7.content_type(), json.content_type()), (Some("application/hl7-v2; charset=utf-8"), Some("application/gzip")));
    assert_eq!((json.content_encoding(), json.key().unwrap().ends_with(".json.gz")), (None, true));
    let json = hl7::decompressed(json.body().bytes().unwrap(), hl7::MAX_JSON_BYTES).unwrap();
    assert_eq!(hl7::read_json(&json).unwrap().as_str(), ER7);
    let origin = serde_json::from_slice::<Value>(&json).unwrap()["origin"].take();
    let message_id = Er7::canonical(ER7).unwrap().message_id();
    let expected = json!({ "messageId": message_id, "source": "general-hospital", "receivedAt": "2026-11-21T07:21:07.120Z" });
    assert_eq!(origin, expected);
}

#[tokio::test]
async fn a_schema_names_the_segments_of_an_institute_and_changes_no_id() {
    let text = format!("{ER7}ZPI|1|de\r");
    let schema =
        hl7::Schema::read("[ZPI]\nname = \"Additional\"\nfields = [{ position = 2, name = \"Language\", type = \"CE\" }]");
    let mut aws = Aws::healthy();
    let mut found = Vec::new();
    for schema in [hl7::Schema::standard(), schema.unwrap()] {
        aws.schema = schema;
        let message = Er7::canonical(&text).unwrap();
        let mut request = request(&token(HOUR, 1));
        request["messageId"] = json!(message.message_id());
        request["payload"] = json!(Payload::inline(&received(text.as_bytes(), "utf-8")));
        let facts = stored(aws.answer_to(request).await);
        let puts = std::mem::take(&mut *aws.puts.lock().unwrap());
        let [er7, json] = puts.as_slice() else { panic!("two objects") };
        let json = hl7::decompressed(json.body().bytes().unwrap(), hl7::MAX_JSON_BYTES).unwrap();
        assert_eq!(hl7::read_json(&json).unwrap(), message);
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["origin"]["messageId"], json!(message.message_id()));
        let segment = json["segments"].as_array().unwrap().last().unwrap().clone();
        found.push((segment, facts.key, facts.json_key, er7.body().bytes().unwrap().to_vec()));
    }
    let names = found.iter().map(|(segment, ..)| (segment["name"].as_str(), segment["fields"][1]["name"].as_str()));
    assert_eq!(names.collect::<Vec<_>>(), [(None, None), (Some("Additional"), Some("Language"))]);
    let others = found.iter().map(|(_, key, json_key, er7)| (key, json_key, er7)).collect::<Vec<_>>();
    assert_eq!(others[0], others[1]);
}

/// A request for [`ER7`], received in those bytes.
fn request_for(bytes: &[u8], charset: &str) -> Value {
    let mut request = request(&token(HOUR, 1));
    let received = received(bytes, charset);
    assert_eq!(received.message().unwrap(), Er7::canonical(ER7).unwrap());
    request["payload"] = json!(Payload::inline(&received));
    request
}

#[tokio::test]
async fn what_was_received_is_put_as_it_came() {
    let framed = format!("\u{b}{}\u{1c}\r", ER7.replace('\r', "\r\n")).into_bytes();
    let utf_16: Vec<u8> = ER7.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let table = [
        (framed.as_slice(), "utf-8", "UTF-8"),
        (ER7.trim_end().as_bytes(), "iso-8859-1", "windows-1252"),
        (&utf_16, "utf-16be", "UTF-16BE"),
    ];
    for (bytes, label, charset) in table {
        let aws = Aws::healthy();
        let stored = stored(aws.answer_to(request_for(bytes, label)).await);
        assert_eq!((aws.storing_calls(), aws.put_raw.num_calls()), ([1, 1, 1], 1));
        assert_eq!((stored.raw_version_id.as_deref(), stored.charset.unwrap().name()), (Some("version of .bin"), charset));
        let puts = aws.puts.lock().unwrap();
        let raw = puts.iter().find(|put| put.key() == stored.raw_key.as_deref()).unwrap();
        assert_eq!(raw.body().bytes(), Some(bytes));
        assert_eq!(raw.content_type(), Some(format!("application/hl7-v2; charset={charset}").as_str()));
        assert_eq!((raw.bucket(), raw.tagging()), (Some("lake"), Some("source=general-hospital&state=parsed")));
        let er7 = puts.iter().find(|put| put.key() == Some(&stored.key)).unwrap();
        assert_eq!(er7.body().bytes(), Some(ER7.as_bytes()));
    }
}

#[tokio::test]
async fn the_canonical_bytes_are_put_once_whatever_they_were_said_to_be_in() {
    for charset in ["utf-8", "iso-8859-1", "shift_jis"] {
        let aws = Aws::healthy();
        let stored = stored(aws.answer_to(request_for(ER7.as_bytes(), charset)).await);
        assert_eq!((aws.put_raw.num_calls(), stored.raw_key, stored.charset), (0, None, None), "{charset}");
    }
}

#[tokio::test]
async fn what_was_received_and_cannot_be_put_leaves_the_catalog_alone() {
    let event = request_for(ER7.trim_end().as_bytes(), "utf-8");
    for (status, code, name) in [(403, "AccessDenied", "Misconfigured"), (503, "SlowDown", "Throttled")] {
        let aws = Aws { put_raw: putting(".bin", move || s3_refusal(status, code)), ..Aws::healthy() };
        assert_eq!(aws.answer_to(event.clone()).await.unwrap_err().name(), name);
        assert_eq!((aws.put_raw.num_calls(), aws.finish.num_calls()), (1, 0));
    }
}

#[tokio::test]
async fn the_record_names_the_bytes_of_the_submission_that_finishes_it() {
    // One that crashed behind its objects, and received other bytes.
    let aws = Aws { finish: finish_refused_by("processing", ANOTHER), ..Aws::healthy() };
    let framed = format!("\u{b}{ER7}\u{1c}\r").into_bytes();
    assert_eq!(aws.answer_to(request_for(&framed, "utf-8")).await, Err(StepError::ClaimLost));
    let put = aws.puts.lock().unwrap().iter().find(|put| put.key().unwrap().ends_with(".bin")).unwrap().key.clone();

    let names = |values: &HashMap<String, AttributeValue>| {
        [":raw_key", ":raw_version_id", ":charset"].map(|name| values[name].as_s().ok().cloned())
    };
    for (bytes, charset, expected) in [
        (ER7.trim_end().as_bytes(), "iso-8859-1", [put, Some("version of .bin".to_owned()), Some("windows-1252".to_owned())]),
        (ER7.as_bytes(), "utf-8", [None, None, None]),
    ] {
        let written = Arc::new(Mutex::new(Vec::new()));
        let write = Arc::clone(&written);
        let finish = mock!(aws_sdk_dynamodb::Client::update_item).then_compute_output(move |request| {
            write.lock().unwrap().push(request.expression_attribute_values().unwrap().clone());
            UpdateItemOutput::builder().build()
        });
        stored(Aws { finish, ..Aws::healthy() }.answer_to(request_for(bytes, charset)).await);
        assert_eq!(written.lock().unwrap().iter().map(names).collect::<Vec<_>>(), [expected]);
    }
}

#[tokio::test]
async fn a_token_that_cognito_calls_expired_is_expired() {
    let refused = || refusal(400, "NotAuthorizedException", "Invalid login token. Token expired: 1 >= 0 SECRET");
    let aws = Aws { identify: identifying(refused), ..Aws::healthy() };
    assert_eq!(aws.answer().await, Err(StepError::TokenExpired));
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([1, 1, 0], [0; 3]));

    let aws = Aws { exchange: exchanging(refused), ..Aws::healthy() };
    assert_eq!(aws.answer().await, Err(StepError::TokenExpired));
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([1, 1, 1], [0; 3]));
}

#[tokio::test]
async fn a_token_that_cognito_finds_fault_with_is_invalid_and_one_that_it_does_not_know_is_the_deployments() {
    for (message, name) in [
        ("Invalid login token. Couldn't verify signed token. SECRET", "TokenInvalid"),
        ("Token is not from a supported provider of this identity pool. SECRET", "Misconfigured"),
        ("Invalid login token. Incorrect token audience. SECRET", "Misconfigured"),
    ] {
        let refused = move || refusal(400, "NotAuthorizedException", message);
        for aws in
            [Aws { identify: identifying(refused), ..Aws::healthy() }, Aws { exchange: exchanging(refused), ..Aws::healthy() }]
        {
            assert_eq!((aws.answer().await.unwrap_err().name(), aws.storing_calls()), (name, [0; 3]), "{message}");
        }
    }
}

#[tokio::test]
async fn a_refused_write_is_the_callers_only_if_the_callers_claims_explain_it() {
    let exp = 4_000_000_000_u64;
    for (claims, source, name) in [
        (json!({ "iss": ISSUER, "custom:write": "general-hospital" }), "general-hospital", "Misconfigured"),
        (json!({ "iss": ISSUER, "custom:write": "st-elsewhere" }), "general-hospital", "Denied"),
        (json!({ "iss": ISSUER, "custom:write": "" }), "general-hospital", "Denied"),
        (json!({ "iss": ISSUER }), "general-hospital", "Denied"),
        (json!({ "iss": PARTNER, "custom:write": "general-hospital" }), "general-hospital", "Denied"),
        (json!({ "iss": PARTNER }), "lab", "Misconfigured"),
        (json!({ "iss": "https://staff", "custom:write": "general-hospital" }), "general-hospital", "Denied"),
    ] {
        let mut all = claims.clone();
        (all["sub"], all["exp"]) = (json!("user"), json!(exp));
        let mut request = request(&token_of(&all));
        request["source"] = json!(source);
        // A key policy, say: S3 has one code for all of them.
        let aws = Aws { put_er7: putting(".hl7", || s3_refusal(403, "AccessDenied")), ..Aws::healthy() };
        let error = aws.answer_to(request).await.unwrap_err();
        assert_eq!((error.name(), aws.finish.num_calls()), (name, 0), "{claims} for {source}");
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    }
}

#[tokio::test]
async fn credentials_that_ended_before_their_time_are_exchanged_anew() {
    let put_er7 = mock!(aws_sdk_s3::Client::put_object)
        .match_requests(|request| request.key().unwrap().ends_with(".hl7"))
        .sequence()
        .http_response(|| s3_refusal(400, "ExpiredToken"))
        .output(|| PutObjectOutput::builder().version_id("v2").build())
        .build();
    let aws = Aws { put_er7, ..Aws::healthy() };
    let (store, request) = (aws.store(), request(&token(HOUR, 1)));
    assert_eq!(store.answer(request.clone()).await, Err(StepError::Unavailable { operation: PUT_OBJECT }));
    stored(store.answer(request).await);
    assert_eq!(aws.sign_in_calls(), [2, 1, 2]);
}

#[tokio::test]
async fn a_sign_in_that_fails_otherwise_is_sorted_by_what_is_to_be_done() {
    for (status, code, name) in [
        (400, "TooManyRequestsException", "Throttled"),
        (429, "TooManyRequestsException", "Throttled"),
        (500, "InternalErrorException", "Unavailable"),
        (400, "InternalErrorException", "Unavailable"),
        (400, "ResourceNotFoundException", "Misconfigured"),
        (400, "InvalidIdentityPoolConfigurationException", "Misconfigured"),
    ] {
        let refused = move || refusal(status, code, "SECRET");
        for aws in
            [Aws { identify: identifying(refused), ..Aws::healthy() }, Aws { exchange: exchanging(refused), ..Aws::healthy() }]
        {
            assert_eq!((aws.answer().await.unwrap_err().name(), aws.storing_calls()), (name, [0; 3]), "{code}");
        }
    }
}

#[tokio::test]
async fn an_exchange_that_gives_nothing_is_unavailable() {
    for aws in [
        Aws { identify: identifying(|| answered(200, &json!({}))), ..Aws::healthy() },
        Aws { exchange: exchanging(|| answered(200, &json!({}))), ..Aws::healthy() },
        Aws { exchange: exchanging(|| answered(200, &json!({ "Credentials": { "AccessKeyId": "A" } }))), ..Aws::healthy() },
    ] {
        assert_eq!((aws.answer().await.unwrap_err().name(), aws.storing_calls()), ("Unavailable", [0; 3]));
    }
}

#[tokio::test]
async fn an_expired_token_is_not_exchanged() {
    for ago in [0, -1, -HOUR] {
        let aws = Aws::healthy();
        assert_eq!(aws.answer_to(request(&token(ago, 1))).await, Err(StepError::TokenExpired));
        assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([1, 0, 0], [0; 3]), "it is opened, and that is all");
    }
}

#[tokio::test]
async fn what_is_no_id_token_is_not_exchanged() {
    for token in ["", "SECRET", "header.SECRET.signature", "header.e30.signature"] {
        let aws = Aws::healthy();
        assert_eq!(aws.answer_to(request(token)).await, Err(StepError::TokenInvalid), "{token:?}");
        let opened = usize::from(!token.is_empty());
        assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([opened, 0, 0], [0; 3]));
    }
}

#[tokio::test]
async fn a_second_message_with_the_same_token_is_not_signed_in_again() {
    let aws = Aws::healthy();
    let (store, request) = (aws.store(), request(&token(HOUR, 1)));
    stored(store.answer(request.clone()).await);
    stored(store.answer(request).await);
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([2, 1, 1], [2, 2, 2]), "opened, and known");
}

#[tokio::test]
async fn another_token_of_the_same_user_is_exchanged_for_the_identity_that_is_known() {
    let aws = Aws::healthy();
    let store = aws.store();
    stored(store.answer(request(&token(HOUR, 1))).await);
    stored(store.answer(request(&token(HOUR, 2))).await);
    assert_eq!(aws.sign_in_calls(), [2, 1, 2]);
}

#[tokio::test]
async fn credentials_about_to_expire_are_used_once() {
    let aws = Aws { exchange: lasting(299), ..Aws::healthy() };
    let (store, request) = (aws.store(), request(&token(HOUR, 1)));
    stored(store.answer(request.clone()).await);
    stored(store.answer(request).await);
    assert_eq!(aws.sign_in_calls(), [2, 1, 2]);
}

#[tokio::test]
async fn a_refused_sign_in_is_not_remembered() {
    let exchange = mock!(aws_sdk_cognitoidentity::Client::get_credentials_for_identity)
        .sequence()
        .http_response(|| refusal(400, "TooManyRequestsException", "SECRET"))
        .http_response(|| exchanged(4_000_000_000))
        .build();
    let aws = Aws { exchange, ..Aws::healthy() };
    let (store, request) = (aws.store(), request(&token(HOUR, 1)));
    assert_eq!(store.answer(request.clone()).await.unwrap_err().name(), "Throttled");
    stored(store.answer(request).await);
    assert_eq!(aws.sign_in_calls(), [2, 1, 2]);
}

#[tokio::test]
async fn an_identity_that_was_deleted_is_asked_for_again() {
    let exchange = mock!(aws_sdk_cognitoidentity::Client::get_credentials_for_identity)
        .sequence()
        .http_response(|| exchanged(0))
        .http_response(|| refusal(400, "ResourceNotFoundException", "Identity 'SECRET' not found."))
        .http_response(|| exchanged(4_000_000_000))
        .build();
    let aws = Aws { exchange, ..Aws::healthy() };
    let (store, request) = (aws.store(), request(&token(HOUR, 1)));
    stored(store.answer(request.clone()).await);
    assert_eq!(store.answer(request.clone()).await.unwrap_err().name(), "Misconfigured");
    stored(store.answer(request).await);
    assert_eq!(aws.sign_in_calls(), [3, 2, 3]);
}

#[tokio::test]
async fn a_seal_of_another_submission_is_an_invalid_token() {
    let aws = Aws { open: opening(|| refusal(400, "InvalidCiphertextException", "SECRET")), ..Aws::healthy() };
    assert_eq!(aws.answer().await, Err(StepError::TokenInvalid));
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([1, 0, 0], [0; 3]));
    let aws = Aws::healthy();
    let mut damaged = request("");
    damaged["token"] = json!("not base64!");
    assert_eq!(aws.answer_to(damaged).await, Err(StepError::TokenInvalid));
    assert_eq!(aws.sign_in_calls(), [0; 3], "KMS is not asked about what is no seal");
}

#[tokio::test]
async fn a_token_that_cannot_be_opened_now_is_not_called_invalid() {
    for (status, code, name) in [
        (400, "ThrottlingException", "Throttled"),
        (500, "KMSInternalException", "Unavailable"),
        (500, "DependencyTimeoutException", "Unavailable"),
        (400, "AccessDeniedException", "Misconfigured"),
        (400, "DisabledException", "Misconfigured"),
        (400, "IncorrectKeyException", "Misconfigured"),
    ] {
        let aws = Aws { open: opening(move || refusal(status, code, "SECRET")), ..Aws::healthy() };
        assert_eq!((aws.answer().await.unwrap_err().name(), aws.sign_in_calls()), (name, [1, 0, 0]), "{code}");
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_put_leaves_the_catalog_alone() {
    let table = [
        (403, "AccessDenied", StepError::Misconfigured { operation: PUT_OBJECT, code: "AccessDenied".to_owned() }),
        (400, "ExpiredToken", StepError::Unavailable { operation: PUT_OBJECT }),
        (503, "SlowDown", StepError::Throttled { operation: PUT_OBJECT }),
        (500, "InternalError", StepError::Unavailable { operation: PUT_OBJECT }),
        (503, "ServiceUnavailable", StepError::Unavailable { operation: PUT_OBJECT }),
        (400, "RequestTimeout", StepError::Unavailable { operation: PUT_OBJECT }),
        (409, "ConditionalRequestConflict", StepError::Unavailable { operation: PUT_OBJECT }),
        (404, "NoSuchBucket", StepError::Misconfigured { operation: PUT_OBJECT, code: "NoSuchBucket".to_owned() }),
    ];
    for (status, code, error) in table {
        let aws = Aws { put_er7: putting(".hl7", move || s3_refusal(status, code)), ..Aws::healthy() };
        assert_eq!(aws.answer().await, Err(error.clone()), "the message: {code}");
        assert_eq!((aws.put_er7.num_calls(), aws.finish.num_calls()), (1, 0));

        let aws = Aws { put_json: putting(".json.gz", move || s3_refusal(status, code)), ..Aws::healthy() };
        assert_eq!(aws.answer().await, Err(error), "the rendition, with the message put: {code}");
        assert_eq!(aws.storing_calls(), [1, 1, 0], "what lies in the bucket is not in the catalog yet");
    }
}

#[tokio::test]
async fn a_put_that_is_throttled_is_repeated_by_the_sdk() {
    let put_er7 = mock!(aws_sdk_s3::Client::put_object)
        .match_requests(|request| request.key().unwrap().ends_with(".hl7"))
        .sequence()
        .http_response(|| s3_refusal(503, "SlowDown"))
        .times(2)
        .output(|| PutObjectOutput::builder().version_id("v3").build())
        .build();
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let aws = Aws { put_er7, retry, ..Aws::healthy() };
    assert_eq!(stored(aws.answer().await).version_id.as_deref(), Some("v3"));
    assert_eq!(aws.storing_calls(), [3, 1, 1]);
}

#[tokio::test]
async fn a_message_that_another_submission_stored_meanwhile_is_a_duplicate() {
    let aws = Aws { finish: finish_refused_by("stored", ANOTHER), ..Aws::healthy() };
    assert_eq!(aws.answer().await, Ok(StoreAnswer::Duplicate));
    assert_eq!(aws.storing_calls(), [1, 1, 1]);
}

#[tokio::test]
async fn a_finish_whose_answer_was_lost_is_the_same_finish() {
    let aws = Aws { finish: finish_refused_by("stored", MINE), ..Aws::healthy() };
    assert_eq!(stored(aws.answer().await).key, "key", "what the record says, not what this run would have written");
}

#[tokio::test]
async fn a_claim_that_was_lost_fails_the_execution() {
    for status in ["processing", "queued", "failed"] {
        let aws = Aws { finish: finish_refused_by(status, ANOTHER), ..Aws::healthy() };
        assert_eq!(aws.answer().await, Err(StepError::ClaimLost), "{status}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_finished_is_finished_by_the_next_try() {
    for (status, code, name) in [
        (400, "ThrottlingException", "Throttled"),
        (500, "InternalServerError", "Unavailable"),
        (400, "ConditionalCheckFailedException", "Unavailable"),
    ] {
        let finish = mock!(aws_sdk_dynamodb::Client::update_item)
            .sequence()
            .http_response(move || refusal(status, code, "SECRET"))
            .output(|| UpdateItemOutput::builder().build())
            .build();
        let aws = Aws { finish, ..Aws::healthy() };
        let (store, request) = (aws.store(), request(&token(HOUR, 1)));
        assert_eq!(store.answer(request.clone()).await.unwrap_err().name(), name, "{code}");
        stored(store.answer(request).await);
        assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([2, 1, 1], [2, 2, 2]));
    }
}

#[tokio::test]
async fn a_message_whose_overflow_object_cannot_be_read_is_not_stored() {
    let mut pointing = request(&token(HOUR, 1));
    pointing["payload"] = json!({ "bucket": "overflow", "key": "general-hospital/x/y.hl7" });
    for (status, code, name) in [
        (404, "NoSuchKey", "PayloadExpired"),
        (503, "SlowDown", "Throttled"),
        (500, "InternalError", "Unavailable"),
        (403, "AccessDenied", "Misconfigured"),
    ] {
        let fetch = mock!(aws_sdk_s3::Client::get_object).then_http_response(move || s3_refusal(status, code));
        let aws = Aws { fetch, ..Aws::healthy() };
        let error = aws.answer_to(pointing.clone()).await.unwrap_err();
        assert_eq!((error.name(), aws.storing_calls()), (name, [0; 3]), "its own refusal is not the caller's: {code}");
    }
}

#[tokio::test]
async fn what_is_no_store_request_costs_no_call() {
    let aws = Aws::healthy();
    let mut elsewhere = request("SECRET");
    elsewhere["source"] = json!("../SECRET");
    for event in [json!(null), json!({ "token": "SECRET" }), elsewhere] {
        assert_eq!(aws.answer_to(event).await, Err(StepError::InvalidInput { what: "a store request" }));
    }
    assert_eq!((aws.sign_in_calls(), aws.storing_calls()), ([0; 3], [0; 3]));
}

#[tokio::test]
async fn a_message_is_in_the_index_by_patient_before_its_record_says_stored() {
    let aws = Aws::healthy();
    assert!(matches!(aws.answer().await, Ok(StoreAnswer::Stored { .. })));
    assert_eq!([&aws.hash, &aws.index, &aws.finish].map(Rule::num_calls), [1, 1, 1]);

    // Left out of each answer, it is not there.
    let left_out = || answered(200, &json!({ "UnprocessedItems": { "patients": [{ "PutRequest": { "Item": {} } }] } }));
    let refused = |status, code: &'static str| move || refusal(status, code, "SECRET");
    for (rule, name) in [
        (indexing(left_out), "Throttled"),
        (indexing(refused(400, "ThrottlingException")), "Throttled"),
        (indexing(refused(500, "InternalServerError")), "Unavailable"),
        (indexing(refused(400, "ResourceNotFoundException")), "Misconfigured"),
    ] {
        let aws = Aws { index: rule, ..Aws::healthy() };
        assert_eq!((aws.answer().await.unwrap_err().name(), aws.finish.num_calls()), (name, 0));
    }
    for (status, code, name) in [(400, "ThrottlingException", "Throttled"), (400, "DisabledException", "Misconfigured")] {
        let hash = mock!(aws_sdk_kms::Client::generate_mac).then_http_response(refused(status, code));
        let aws = Aws { hash, ..Aws::healthy() };
        let answer = aws.answer().await.unwrap_err();
        assert_eq!((answer.name(), aws.index.num_calls(), aws.finish.num_calls()), (name, 0, 0));
    }
    // A message that names no patient asks nobody.
    let aws = Aws::healthy();
    let mut event = request(&token(HOUR, 1));
    let nobody = "MSH|^~\\&|A|B|||||ADT^A01|8\rNTE|1||7\r";
    event["messageId"] = json!(Er7::canonical(nobody).unwrap().message_id());
    event["payload"] = json!(Payload::inline(&received(nobody.as_bytes(), "utf-8")));
    assert!(aws.answer_to(event).await.is_ok());
    assert_eq!([&aws.hash, &aws.index, &aws.finish].map(Rule::num_calls), [0, 0, 1]);
}
