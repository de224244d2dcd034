//! What a reader is told when one of the calls fails, and that a listing neither ends early nor runs on.

#![cfg(test)]

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsOutput;
use aws_sdk_dynamodb::types::AttributeValue::{self, M, S};
use aws_sdk_dynamodb::types::ItemResponse;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::arrivals::{self, SHARDS};
use domain::{ControlIdKey, MessageId, Timestamp};
use exchange::Exchange;
use fetch::{CatalogReader, Fetch, LakeReader, MAX_BODY_BYTES};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const ER7: &[u8] = b"MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||DOE\r";

/// The same in UTF-16, within MLLP's framing.
static RAW: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = format!("\u{b}{}\u{1c}\r", std::str::from_utf8(ER7).unwrap());
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
});

fn message_id() -> String {
    MessageId::of_canonical(ER7).to_string()
}

fn answered(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    answered(status, &json!({ "__type": code, "message": "SECRET" }))
}

fn s3_refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!("<Error><Code>{code}</Code><Message>SECRET</Message></Error>");
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

/// An ID token that ends `seconds` from now.
fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let exp = now.checked_add_signed(seconds).unwrap();
    format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(json!({ "iss": "https://issuer", "sub": "user", "exp": exp }).to_string()))
}

fn event(route: &str, token: &str, headers: &Value, query: &Value) -> Value {
    let mut headers = headers.clone();
    headers["authorization"] = json!(token);
    json!({
        "version": "2.0",
        "routeKey": route,
        "headers": headers,
        "pathParameters": { "messageId": message_id() },
        "queryStringParameters": query,
        "requestContext": {
            "http": { "method": route.split(' ').next() },
            "authorizer": { "lambda": { "issuer": "https://issuer", "subject": "user", "tokenUse": "id", "read": "general-hospital" } },
        },
        "isBase64Encoded": false,
    })
}

fn get(token: &str) -> Value {
    event("GET /er7/{messageId}", token, &json!({}), &json!({}))
}

/// A read of the bytes as they were received.
fn raw(method: &str) -> Value {
    let accept = json!({ "accept": "application/octet-stream" });
    event(&format!("{method} /er7/{{messageId}}"), &token(3600), &accept, &json!({}))
}

fn head() -> Value {
    event("HEAD /er7/{messageId}", &token(3600), &json!({}), &json!({}))
}

fn list(query: &Value) -> Value {
    event("GET /er7", &token(3600), &json!({}), query)
}

fn stored() -> HttpResponse {
    let record = json!({
        "source": { "S": "general-hospital" },
        "message_id": { "S": message_id() },
        "status": { "S": "stored" },
        "received_at": { "S": "2026-11-21T07:21:07.120Z" },
        "stored_at": { "S": "2026-11-21T07:21:08.000Z" },
        "state": { "S": "parsed" },
        "bucket": { "S": "lake" },
        "key": { "S": "m.hl7" },
        "version_id": { "S": "v1" },
        "json_key": { "S": "m.json" },
        "json_version_id": { "S": "v2" },
        // As written for a message that came in canonical form.
        "raw_key": { "NULL": true },
        "raw_version_id": { "NULL": true },
        "charset": { "NULL": true },
    });
    answered(200, &json!({ "Item": record }))
}

/// The record of the same message, received as [`RAW`].
fn stored_beside_raw() -> HttpResponse {
    let mut record: Value = serde_json::from_slice(stored().body().bytes().unwrap()).unwrap();
    for (name, value) in [("raw_key", "m.bin"), ("raw_version_id", "v3"), ("charset", "UTF-16LE")] {
        record["Item"][name] = json!({ "S": value });
    }
    answered(200, &record)
}

fn identifying(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_cognitoidentity::Client::get_id).then_http_response(response)
}

fn exchanging(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_cognitoidentity::Client::get_credentials_for_identity).then_http_response(response)
}

fn looking_up(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::get_item).then_http_response(response)
}

fn querying(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_dynamodb::Client::query).then_http_response(response)
}

fn reading(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_s3::Client::get_object).then_http_response(response)
}

fn heading(response: impl Fn() -> HttpResponse + Send + Sync + 'static) -> Rule {
    mock!(aws_sdk_s3::Client::head_object).then_http_response(response)
}

/// The object with that content, in the version that the catalog names and in no other.
fn holding(content: &'static [u8]) -> Rule {
    holding_in("m.hl7", "v1", content)
}

fn holding_in(key: &'static str, version_id: &'static str, content: &'static [u8]) -> Rule {
    mock!(aws_sdk_s3::Client::get_object)
        .match_requests(move |it| (it.bucket(), it.key(), it.version_id()) == (Some("lake"), Some(key), Some(version_id)))
        .then_output(move || {
            let length = content.len().try_into().unwrap();
            GetObjectOutput::builder().content_length(length).body(ByteStream::from_static(content)).build()
        })
}

/// The calls of a read, one rule each.
struct Aws {
    get_id: Rule,
    exchange: Rule,
    get_item: Rule,
    query: Rule,
    get_many: Rule,
    get_object: Rule,
    head_object: Rule,
}

impl Aws {
    fn healthy() -> Self {
        Self {
            get_id: identifying(|| answered(200, &json!({ "IdentityId": "identity" }))),
            exchange: exchanging(|| {
                let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
                let credentials =
                    json!({ "AccessKeyId": "A", "SecretKey": "B", "SessionToken": "SECRET", "Expiration": in_an_hour });
                answered(200, &json!({ "IdentityId": "identity", "Credentials": credentials }))
            }),
            get_item: looking_up(stored),
            query: querying(|| answered(200, &json!({ "Items": [], "Count": 0 }))),
            get_many: mock!(aws_sdk_dynamodb::Client::transact_get_items).then_http_response(|| answered(200, &json!({}))),
            get_object: holding(ER7),
            head_object: mock!(aws_sdk_s3::Client::head_object)
                .then_output(|| HeadObjectOutput::builder().content_length(7).build()),
        }
    }

    fn worker(&self) -> Fetch {
        let Self { get_id, exchange, get_item, query, get_many, get_object, head_object } = self;
        let cognito = mock_client!(aws_sdk_cognitoidentity, RuleMode::MatchAny, [get_id, exchange], |conf| conf
            .retry_config(RetryConfig::disabled()));
        let dynamodb = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, [get_item, query, get_many], |conf| conf
            .retry_config(RetryConfig::disabled()));
        let s3 = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [get_object, head_object], |conf| conf
            .retry_config(RetryConfig::disabled()));
        Fetch {
            exchange: Exchange::new(cognito, "pool".to_owned()),
            catalog: CatalogReader::new(dynamodb, "catalog".to_owned(), true),
            lake: LakeReader::new(s3),
            patients: None,
        }
    }

    async fn answer(&self, event: Value) -> ApiGatewayV2httpResponse {
        self.worker().answer(event).await.unwrap()
    }
}

fn json(response: &ApiGatewayV2httpResponse) -> Value {
    let Some(Body::Text(body)) = &response.body else { panic!("no text: {response:?}") };
    serde_json::from_str(body).unwrap()
}

#[track_caller]
fn check(response: &ApiGatewayV2httpResponse, status: i64, retry_after: Option<&str>) {
    assert_eq!(response.status_code, status, "{response:?}");
    assert_eq!(response.headers.get("retry-after").map(|it| it.to_str().unwrap()), retry_after);
    assert_eq!(response.headers["content-type"], "application/problem+json");
    if let Some(Body::Text(body)) = &response.body {
        assert_eq!(json(response)["status"], status);
        for inside in ["SECRET", "Exception", "dynamodb", "s3:", "m.hl7", "m.bin", "DOE"] {
            assert!(!body.contains(inside), "the caller learns nothing of the inside: {body}");
        }
    }
}

#[tokio::test]
async fn a_healthy_read_gives_the_bytes() {
    let aws = Aws::healthy();
    let response = aws.answer(get(&token(3600))).await;
    assert_eq!((response.status_code, response.is_base64_encoded), (200, true));
    assert!(matches!(&response.body, Some(Body::Binary(bytes)) if bytes == ER7));
    let calls = [&aws.get_id, &aws.exchange, &aws.get_item, &aws.get_object, &aws.head_object].map(Rule::num_calls);
    assert_eq!(calls, [1, 1, 1, 1, 0]);
}

#[tokio::test]
async fn the_bytes_as_they_were_received_are_an_object_of_their_own_or_the_er7() {
    let etag = |version: &str| format!("\"{}.raw.{version}\"", message_id());
    let beside = Aws { get_item: looking_up(stored_beside_raw), get_object: holding_in("m.bin", "v3", &RAW), ..Aws::healthy() };
    for (aws, content, etag) in [(beside, RAW.as_slice(), etag("v3")), (Aws::healthy(), ER7, etag("v1"))] {
        let response = aws.answer(raw("GET")).await;
        assert_eq!((response.status_code, response.is_base64_encoded), (200, true), "{response:?}");
        assert!(matches!(&response.body, Some(Body::Binary(bytes)) if bytes == content));
        let head = aws.answer(raw("HEAD")).await;
        assert_eq!((head.status_code, &head.body), (200, &None));
        for headers in [&response.headers, &head.headers] {
            assert_eq!(headers["content-type"], "application/octet-stream");
            assert_eq!(headers["etag"], etag);
        }
        let mut known = raw("GET");
        known["headers"]["if-none-match"] = json!(etag);
        assert_eq!(aws.answer(known).await.status_code, 304);
    }
    // Only who asks for them gets them.
    let aws = Aws { get_item: looking_up(stored_beside_raw), ..Aws::healthy() };
    for accept in ["*/*", "application/*", "application/octet-stream;q=0.9, application/hl7-v2"] {
        let response = aws.answer(event("GET /er7/{messageId}", &token(3600), &json!({ "accept": accept }), &json!({}))).await;
        assert!(matches!(&response.body, Some(Body::Binary(bytes)) if bytes == ER7), "{accept}");
    }
}

#[tokio::test]
async fn other_bytes_than_were_received_are_500_and_are_not_shown() {
    // Another message, half a character, the same text in another character set than the record says.
    for content in [&b"M\0S\0H\0|\0S\0E\0C\0R\0E\0T\0"[..], b"M\0S\0H", b"", ER7] {
        let get_object = holding_in("m.bin", "v3", content);
        let aws = Aws { get_item: looking_up(stored_beside_raw), get_object, ..Aws::healthy() };
        check(&aws.answer(raw("GET")).await, 500, None);
    }
    let aws = Aws { get_object: holding(b"MSH|^~\\&|SECRET\r"), ..Aws::healthy() };
    check(&aws.answer(raw("GET")).await, 500, None);
}

#[tokio::test]
async fn throttling_anywhere_is_429_with_retry_after() {
    let throttled = || refusal(400, "ThrottlingException");
    let too_many = || refusal(400, "TooManyRequestsException");
    let slow_down = || s3_refusal(503, "SlowDown");
    for (aws, event) in [
        (Aws { get_id: identifying(too_many), ..Aws::healthy() }, get(&token(3600))),
        (Aws { exchange: exchanging(too_many), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_item: looking_up(throttled), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_object: reading(slow_down), ..Aws::healthy() }, get(&token(3600))),
        (Aws { head_object: heading(|| answered(429, &json!({}))), ..Aws::healthy() }, head()),
        (Aws { query: querying(throttled), ..Aws::healthy() }, list(&json!({}))),
    ] {
        check(&aws.answer(event).await, 429, Some("2"));
    }
}

#[tokio::test]
async fn unavailability_anywhere_is_503_with_retry_after() {
    let broken = || refusal(500, "InternalServerError");
    for (aws, event) in [
        (Aws { get_id: identifying(broken), ..Aws::healthy() }, get(&token(3600))),
        (Aws { exchange: exchanging(broken), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_item: looking_up(broken), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_object: reading(|| s3_refusal(503, "ServiceUnavailable")), ..Aws::healthy() }, get(&token(3600))),
        (Aws { head_object: heading(|| answered(500, &json!({}))), ..Aws::healthy() }, head()),
        (Aws { query: querying(broken), ..Aws::healthy() }, list(&json!({}))),
    ] {
        check(&aws.answer(event).await, 503, Some("5"));
    }
}

#[tokio::test]
async fn a_fault_of_the_deployment_is_503_and_quotes_nothing() {
    let damaged = || answered(200, &json!({ "Item": { "source": { "S": "SECRET SOURCE" } } }));
    let page = || answered(200, &json!({ "Items": [{ "source": { "S": "SECRET SOURCE" } }], "Count": 1 }));
    for (aws, event) in [
        (
            Aws { exchange: exchanging(|| refusal(400, "InvalidIdentityPoolConfigurationException")), ..Aws::healthy() },
            get(&token(3600)),
        ),
        (Aws { get_item: looking_up(|| refusal(400, "ResourceNotFoundException")), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_item: looking_up(damaged), ..Aws::healthy() }, get(&token(3600))),
        (Aws { get_object: reading(|| s3_refusal(404, "NoSuchBucket")), ..Aws::healthy() }, get(&token(3600))),
        (Aws { query: querying(page), ..Aws::healthy() }, list(&json!({}))),
    ] {
        check(&aws.answer(event).await, 503, Some("60"));
    }
}

#[tokio::test]
async fn an_expired_or_refused_token_is_401() {
    let aws = Aws::healthy();
    for event in [get(&token(-1)), get("no.token.atall"), event("GET /er7", &token(-1), &json!({}), &json!({}))] {
        check(&aws.answer(event).await, 401, None);
    }
    assert_eq!([&aws.get_id, &aws.get_item, &aws.query].map(Rule::num_calls), [0, 0, 0], "nothing is asked");
    let refused = |message: &'static str| {
        exchanging(move || answered(400, &json!({ "__type": "NotAuthorizedException", "message": message })))
    };
    for (message, status, retry_after) in [
        ("Invalid login token. Token expired: 1 >= 0", 401, None),
        ("Invalid login token. Couldn't verify signed token.", 401, None),
        // The deployment's doing, and not the caller's.
        ("Token is not from a supported provider", 503, Some("60")),
        ("SECRET", 503, Some("60")),
    ] {
        let aws = Aws { exchange: refused(message), ..Aws::healthy() };
        check(&aws.answer(get(&token(3600))).await, status, retry_after);
        assert_eq!(aws.get_item.num_calls(), 0);
    }
    let aws = Aws { get_object: reading(|| s3_refusal(400, "ExpiredToken")), ..Aws::healthy() };
    check(&aws.answer(get(&token(3600))).await, 401, None);
}

#[tokio::test]
async fn a_token_that_expires_while_a_message_is_read_is_good_for_that_message_alone() {
    let slowly = mock!(aws_sdk_s3::Client::get_object).then_compute_output(|_| {
        std::thread::sleep(Duration::from_millis(5_100));
        GetObjectOutput::builder().content_length(ER7.len().try_into().unwrap()).body(ByteStream::from_static(ER7)).build()
    });
    let aws = Aws { get_object: slowly, ..Aws::healthy() };
    let (worker, token) = (aws.worker(), token(5));
    assert_eq!(worker.answer(get(&token)).await.unwrap().status_code, 200);
    // Its credentials would last for an hour, and this worker has them still.
    check(&worker.answer(get(&token)).await.unwrap(), 401, None);
    assert_eq!((aws.exchange.num_calls(), aws.get_item.num_calls()), (1, 1));
}

#[tokio::test]
async fn what_aws_refuses_to_the_caller_is_403() {
    let denied = || refusal(400, "AccessDeniedException");
    for (aws, event) in [
        (Aws { get_item: looking_up(denied), ..Aws::healthy() }, get(&token(3600))),
        (Aws { query: querying(denied), ..Aws::healthy() }, list(&json!({}))),
        (Aws { get_object: reading(|| s3_refusal(403, "AccessDenied")), ..Aws::healthy() }, get(&token(3600))),
        (Aws { head_object: heading(|| HttpResponse::new(403.try_into().unwrap(), "".into())), ..Aws::healthy() }, head()),
    ] {
        check(&aws.answer(event).await, 403, None);
    }
}

#[tokio::test]
async fn a_message_that_is_gone_from_the_lake_is_410() {
    for (status, code) in [(404, "NoSuchKey"), (404, "NoSuchVersion"), (405, "MethodNotAllowed")] {
        let aws = Aws { get_object: reading(move || s3_refusal(status, code)), ..Aws::healthy() };
        check(&aws.answer(get(&token(3600))).await, 410, None);
    }
    let aws = Aws { head_object: heading(|| HttpResponse::new(404.try_into().unwrap(), "".into())), ..Aws::healthy() };
    let response = aws.answer(head()).await;
    check(&response, 410, None);
    assert!(response.body.is_none(), "HEAD");
    let known = json!({ "if-none-match": format!("\"{}\"", message_id()) });
    check(&aws.answer(event("GET /er7/{messageId}", &token(3600), &known, &json!({}))).await, 410, None);
}

#[tokio::test]
async fn other_content_than_the_message_is_500_and_is_not_shown() {
    for content in [&b"MSH|^~\\&|SECRET\r"[..], b"", b"MSH|^~\\&|A|B|||||ADT^A01|7\rPID|1||7||DOE"] {
        let aws = Aws { get_object: holding(content), ..Aws::healthy() };
        check(&aws.answer(get(&token(3600))).await, 500, None);
    }
}

/// A read of the rendition.
fn rendition() -> Value {
    event("GET /er7/{messageId}", &token(3600), &json!({ "accept": "application/json" }), &json!({}))
}

/// The record of a message whose rendition is compressed.
fn stored_with_compressed_rendition() -> HttpResponse {
    let mut record: Value = serde_json::from_slice(stored().body().bytes().unwrap()).unwrap();
    record["Item"]["json_key"] = json!({ "S": "m.json.gz" });
    answered(200, &record)
}

fn compressed(json: &[u8]) -> &'static [u8] {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json).unwrap();
    encoder.finish().unwrap().leak()
}

/// What a reader of the rendition is answered whose object is compressed and holds that.
async fn answer_of(content: &'static [u8]) -> ApiGatewayV2httpResponse {
    let get_object = holding_in("m.json.gz", "v2", content);
    Aws { get_item: looking_up(stored_with_compressed_rendition), get_object, ..Aws::healthy() }.answer(rendition()).await
}

#[tokio::test]
async fn a_rendition_is_json_whether_its_object_is_compressed_or_not() {
    const JSON: &[u8] = b"{\"summary\":{}}\n";
    let plain = Aws { get_object: holding_in("m.json", "v2", JSON), ..Aws::healthy() }.answer(rendition()).await;
    for response in [plain, answer_of(compressed(JSON)).await] {
        assert_eq!((response.status_code, &response.headers["content-type"]), (200, &"application/json".parse().unwrap()));
        assert_eq!(response.headers["etag"], format!("\"{}.json.v2\"", message_id()));
        assert!(response.headers.get("content-encoding").is_none());
        assert!(matches!(&response.body, Some(Body::Binary(bytes)) if bytes == JSON), "{response:?}");
    }
    let whole = compressed(JSON);
    for damaged in [JSON, &whole[..whole.len() - 1], b""] {
        check(&answer_of(damaged).await, 500, None);
    }
}

#[tokio::test]
async fn a_rendition_that_lambda_cannot_carry_comes_from_s3_in_its_content_coding() {
    let most = vec![b' '; MAX_BODY_BYTES];
    let response = answer_of(compressed(&most)).await;
    assert!(matches!(&response.body, Some(Body::Binary(bytes)) if bytes.len() == most.len()));
    let response = answer_of(compressed(&[most.as_slice(), b" "].concat())).await;
    assert_eq!((response.status_code, &response.body), (307, &None));
    let url = response.headers["location"].to_str().unwrap();
    for part in [
        "m.json.gz",
        "versionId=v2",
        "response-content-type=application%2Fjson",
        "response-content-encoding=gzip",
        "response-cache-control=no-store",
    ] {
        assert!(url.contains(part), "{part}: {url}");
    }
}

#[tokio::test]
async fn content_that_breaks_off_is_503() {
    let broken = mock!(aws_sdk_s3::Client::get_object).then_http_response(|| {
        let mut response = HttpResponse::new(200.try_into().unwrap(), ER7[..10].into());
        response.headers_mut().insert("content-length", ER7.len().to_string());
        response
    });
    let response = Aws { get_object: broken, ..Aws::healthy() }.answer(get(&token(3600))).await;
    check(&response, 503, Some("5"));
}

#[tokio::test]
async fn content_that_lambda_cannot_carry_is_redirected() {
    let large = mock!(aws_sdk_s3::Client::get_object)
        .then_output(|| GetObjectOutput::builder().content_length(i64::try_from(MAX_BODY_BYTES).unwrap() + 1).build());
    let response = Aws { get_object: large, ..Aws::healthy() }.answer(get(&token(3600))).await;
    assert_eq!((response.status_code, &response.body), (307, &None), "{response:?}");
    let url = response.headers["location"].to_str().unwrap();
    for part in
        ["m.hl7", "versionId=v1", "X-Amz-Expires=60", "X-Amz-Credential=A%2F", "response-content-type=application%2Fhl7-v2"]
    {
        assert!(url.contains(part), "{part}: {url}");
    }
}

#[tokio::test]
async fn an_event_of_another_route_is_no_input() {
    let other = event("GET /er7/{messageId}/status", &token(3600), &json!({}), &json!({}));
    assert_eq!(Aws::healthy().worker().answer(other).await.unwrap_err().name(), "InvalidInput");
}

/// An index as DynamoDB reads it: counts before it filters, and never more than that many at once. Newest first.
#[derive(Clone)]
struct Index {
    records: Arc<Vec<(Timestamp, MessageId, &'static str)>>,
    at_once: usize,
    limits: Arc<Mutex<Vec<usize>>>,
}

impl Index {
    /// That many records, ten to a millisecond; every `n`th is an ORU, the last one always.
    fn of(count: i64, n: i64, at_once: usize) -> Self {
        let record = |i: i64| {
            let kind = if (i + 1) % n == 0 || i + 1 == count { "ORU" } else { "ADT" };
            let at = Timestamp::from_millis(1_795_245_667_120 - i / 10).unwrap();
            (at, MessageId::of_canonical(&i.to_be_bytes()), kind)
        };
        Self { records: Arc::new((0..count).map(record).collect()), at_once, limits: Arc::default() }
    }

    fn query(&self, input: &QueryInput) -> QueryOutput {
        let limit = usize::try_from(input.limit().unwrap()).unwrap();
        self.limits.lock().unwrap().push(limit);
        let is_by_control_id = input.index_name() == Some("by-control-id");
        assert!(is_by_control_id || input.index_name() == Some("by-arrival"));
        let source = "general-hospital".parse().unwrap();
        let partition = input.expression_attribute_values().unwrap()[":partition"].as_s().unwrap().clone();
        let is_in_partition =
            |(_, id, _): &&(Timestamp, MessageId, &str)| is_by_control_id || arrivals::shard(&source, id) == partition;
        let records: Vec<_> = self.records.iter().filter(is_in_partition).cloned().collect();
        let wanted = input.expression_attribute_values().unwrap().get(":messageType").map(|it| it.as_s().unwrap().as_str());
        let start = input.exclusive_start_key().map_or(0, |key| {
            let id = key["message_id"].as_s().unwrap();
            assert_eq!(key["source"].as_s().unwrap(), "general-hospital");
            let keys = if is_by_control_id { ["source", "control_id_at"] } else { ["arrival_shard", "received_at"] };
            assert!(keys.iter().all(|it| key.contains_key(*it)), "the keys of index and table: {key:?}");
            assert_eq!(key.len(), if is_by_control_id { 3 } else { 4 }, "{key:?}");
            assert!(is_by_control_id || key["arrival_shard"].as_s().unwrap() == &partition, "a key of this partition: {key:?}");
            records.iter().position(|(_, message_id, _)| message_id.as_str() == id).unwrap() + 1
        });
        let rest = &records[start..];
        let evaluated = &rest[..rest.len().min(limit).min(self.at_once)];
        let text = |text: &str| S(text.to_owned());
        let key = |(at, id, _): &(Timestamp, MessageId, &str)| -> HashMap<String, AttributeValue> {
            let parts = [("source", "general-hospital"), ("received_at", &at.to_string()), ("message_id", id.as_str())];
            parts.map(|(name, value)| (name.to_owned(), text(value))).into()
        };
        let reached = |record: &(Timestamp, MessageId, &str)| {
            let mut key = key(record);
            if is_by_control_id {
                key.remove("received_at");
                key.insert("control_id_at".to_owned(), text(&ControlIdKey::new("Q1", record.0).to_string()));
            } else {
                key.insert("arrival_shard".to_owned(), text(&partition));
            }
            key
        };
        let item = |record: &(Timestamp, MessageId, &str)| {
            let mut item = key(record);
            item.insert(if is_by_control_id { "status" } else { "listed" }.to_owned(), text("stored"));
            item.insert("summary".to_owned(), M(HashMap::from([("messageType".to_owned(), text(record.2))])));
            item
        };
        let found = evaluated.iter().filter(|(_, _, kind)| wanted.is_none_or(|it| it == *kind)).map(item).collect();
        let last = (evaluated.len() < rest.len() || limit == rest.len()).then(|| evaluated.last().map(reached)).flatten();
        QueryOutput::builder().set_items(Some(found)).set_last_evaluated_key(last).build()
    }

    fn rule(&self) -> Rule {
        let index = self.clone();
        mock!(aws_sdk_dynamodb::Client::query).then_compute_output(move |input| index.query(input))
    }
}

/// Pages through a listing to its end: how many messages each page had, and all ids.
async fn pages(index: &Index, query: &Value) -> (Vec<usize>, Vec<String>) {
    let aws = Aws { query: index.rule(), ..Aws::healthy() };
    let (worker, mut query, mut sizes, mut ids) = (aws.worker(), query.clone(), Vec::new(), Vec::new());
    loop {
        let response = worker.answer(list(&query)).await.unwrap();
        assert_eq!(response.status_code, 200);
        let body = json(&response);
        let messages = body["messages"].as_array().unwrap();
        sizes.push(messages.len());
        ids.extend(messages.iter().map(|it| it["messageId"].as_str().unwrap().to_owned()));
        match body.get("cursor") {
            Some(cursor) => query["cursor"] = cursor.clone(),
            None => return (sizes, ids),
        }
    }
}

fn expected(index: &Index, kind: Option<&str>) -> Vec<String> {
    let records = index.records.iter().filter(|(_, _, it)| kind.is_none_or(|kind| kind == *it));
    records.map(|(_, id, _)| id.to_string()).collect()
}

/// The ids, those of one millisecond sorted: partitions do not say which of them came first.
fn by_millisecond(index: &Index, ids: Vec<String>) -> Vec<Vec<String>> {
    let time = |id: &String| index.records.iter().find(|it| it.1.as_str() == id).unwrap().0;
    let mut groups: Vec<Vec<String>> = ids.chunk_by(|one, other| time(one) == time(other)).map(<[String]>::to_vec).collect();
    groups.iter_mut().for_each(|it| it.sort());
    groups
}

#[tokio::test]
async fn a_listing_has_every_message_once_however_dynamodb_cuts_it() {
    for at_once in [1, 3, 1000] {
        let index = Index::of(45, 7, at_once);
        for limit in ["1", "10", "45", "100"] {
            let (sizes, ids) = pages(&index, &json!({ "limit": limit })).await;
            let sorted = |ids| by_millisecond(&index, ids);
            assert_eq!(sorted(ids), sorted(expected(&index, None)), "{at_once} at once, limit {limit}: {sizes:?}");
            let (sizes, ids) = pages(&index, &json!({ "limit": limit, "type": "ORU" })).await;
            assert_eq!(
                sorted(ids),
                sorted(expected(&index, Some("ORU"))),
                "{at_once} at once, limit {limit}, filtered: {sizes:?}"
            );
        }
    }
    assert_eq!(pages(&Index::of(40, 7, 1000), &json!({ "limit": "10" })).await.0, [10; 4], "no empty page at the end");
    assert_eq!(pages(&Index::of(0, 7, 1000), &json!({})).await.0, [0]);
}

#[tokio::test]
async fn a_rare_type_is_looked_for_in_bounded_steps() {
    // Only the last of 12,000 records is one.
    let index = Index::of(12_000, 100_000, 100_000);
    let (sizes, ids) = pages(&index, &json!({ "type": "ORU" })).await;
    assert_eq!((sizes, ids), (vec![0, 0, 1], expected(&index, Some("ORU"))));
    let limits = index.limits.lock().unwrap();
    assert!(limits.iter().all(|limit| *limit == 125) && limits.len() <= 100, "{limits:?}");
}

#[tokio::test]
async fn a_control_id_is_looked_up_and_not_looked_for() {
    for at_once in [1, 3, 1000] {
        let index = Index::of(45, 7, at_once);
        for limit in ["1", "10", "45", "100"] {
            let (sizes, ids) = pages(&index, &json!({ "limit": limit, "controlId": "Q1" })).await;
            assert_eq!(ids, expected(&index, None), "{at_once} at once, limit {limit}: {sizes:?}");
            let (sizes, ids) = pages(&index, &json!({ "limit": limit, "controlId": "Q1", "type": "ORU" })).await;
            assert_eq!(ids, expected(&index, Some("ORU")), "{at_once} at once, limit {limit}, filtered: {sizes:?}");
        }
    }
    // What DynamoDB is asked for.
    let asked: Arc<Mutex<Vec<QueryInput>>> = Arc::default();
    let (seen, nothing) = (Arc::clone(&asked), QueryOutput::builder().build());
    let rule = mock!(aws_sdk_dynamodb::Client::query).then_compute_output(move |input| {
        seen.lock().unwrap().push(input.clone());
        nothing.clone()
    });
    let worker = Aws { query: rule, ..Aws::healthy() }.worker();
    for query in [
        json!({ "controlId": "Q1" }),
        json!({ "controlId": "Q1", "from": "2026-11-21", "to": "2026-11-22" }),
        json!({ "controlId": "Q1", "submission": "01ARZ3NDEKTSV4RRFFQ69G5FAV" }),
        json!({ "controlId": "Q1", "idPrefix": "00abcdef" }),
    ] {
        assert_eq!(worker.answer(list(&query)).await.unwrap().status_code, 200);
    }
    let asked = asked.lock().unwrap();
    let indexes: Vec<_> = asked.iter().map(QueryInput::index_name).collect();
    let arrivals = [Some("by-arrival"); SHARDS];
    assert_eq!(indexes, [&[Some("by-control-id"); 2], &arrivals[..], &[None]].concat(), "one request each, or one a partition");
    let partitions = asked[2..6].iter().map(|it| it.expression_attribute_values().unwrap()[":partition"].as_s().unwrap().clone());
    assert_eq!(partitions.collect::<Vec<_>>(), arrivals::shards("general-hospital"));
    let value = |n: usize, name: &str| asked[n].expression_attribute_values().unwrap()[name].as_s().unwrap().clone();
    assert_eq!([value(0, ":first"), value(0, ":last")], ["Q1\t", "Q1\n"]);
    let day = ["Q1\t2026-11-21T00:00:00.000Z", "Q1\t2026-11-21T23:59:59.999Z"];
    assert_eq!([value(1, ":first"), value(1, ":last")], day);
    assert_eq!((asked[0].filter_expression(), asked[0].limit()), (None, Some(51)));
}

/// A record of the catalog that is held since a second of the same minute; the status is what the record itself says.
fn held(n: usize, status: &str) -> HashMap<String, AttributeValue> {
    let (id, since) = (MessageId::of_canonical(&n.to_be_bytes()).to_string(), format!("2026-11-21T07:21:{n:02}.000Z"));
    let texts = [
        ("source", "general-hospital"),
        ("message_id", &*id),
        ("status", status),
        ("received_at", "2026-11-21T07:00:00.000Z"),
        ("held_since", &since),
        ("held_until", "2027-02-21T07:00:00.000Z"),
        ("held_reason", "expired"),
        ("held_key", "k"),
    ];
    texts.map(|(name, value)| (name.to_owned(), S(value.to_owned()))).into()
}

#[tokio::test]
async fn held_messages_are_read_from_their_index_and_by_their_keys() {
    // 50 are held, the latest first. The index still has one that was released since.
    let records = Arc::new((0..51).rev().map(|n| held(n, if n == 40 { "queued" } else { "held" })).collect::<Vec<_>>());
    let asked: Arc<Mutex<Vec<QueryInput>>> = Arc::default();
    let gets: Arc<Mutex<Vec<usize>>> = Arc::default();
    let (index, seen) = (Arc::clone(&records), Arc::clone(&asked));
    let query = mock!(aws_sdk_dynamodb::Client::query).then_compute_output(move |input| {
        seen.lock().unwrap().push(input.clone());
        let after = input.exclusive_start_key().map(|key| {
            assert!(key.len() == 3 && key.contains_key("held_since"), "the keys of index and table: {key:?}");
            index.iter().position(|it| it["message_id"] == key["message_id"]).unwrap() + 1
        });
        let rest = &index[after.unwrap_or(0)..];
        let found = &rest[..rest.len().min(input.limit().unwrap().try_into().unwrap())];
        let only = |names: &[&str], it: &HashMap<String, AttributeValue>| -> HashMap<String, AttributeValue> {
            names.iter().map(|name| ((*name).to_owned(), it[*name].clone())).collect()
        };
        let items = found.iter().map(|it| only(&["source", "message_id", "held_since", "status", "held_reason"], it)).collect();
        let last = (found.len() < rest.len()).then(|| found.last().map(|it| only(&["source", "message_id", "held_since"], it)));
        QueryOutput::builder().set_items(Some(items)).set_last_evaluated_key(last.flatten()).build()
    });
    let (table, counted) = (Arc::clone(&records), Arc::clone(&gets));
    let get_many = mock!(aws_sdk_dynamodb::Client::transact_get_items).then_compute_output(move |input| {
        let keys: Vec<_> = input.transact_items().iter().map(|it| it.get().unwrap().key()["message_id"].clone()).collect();
        counted.lock().unwrap().push(keys.len());
        let found = keys.iter().map(|id| {
            let item = table.iter().find(|it| it["message_id"] == *id).cloned();
            ItemResponse::builder().set_item(item).build()
        });
        TransactGetItemsOutput::builder().set_responses(Some(found.collect())).build()
    });
    let worker = Aws { query, get_many, ..Aws::healthy() }.worker();
    let expected: Vec<_> = records.iter().filter(|it| it["status"] == S("held".to_owned())).map(|it| &it["message_id"]).collect();
    for (limit, more) in [("1", json!({})), ("7", json!({})), ("100", json!({})), ("10", json!({ "from": "2026-11-21" }))] {
        let (mut query, mut found) = (more, Vec::new());
        query["status"] = json!("held");
        query["limit"] = json!(limit);
        loop {
            let answer = worker.answer(list(&query)).await.unwrap();
            assert_eq!(answer.status_code, 200, "{answer:?}");
            let body = json(&answer);
            let messages = body["messages"].as_array().unwrap();
            assert!(messages.iter().all(|it| it["held"]["reason"] == "expired"), "{body}");
            found.extend(messages.iter().map(|it| S(it["messageId"].as_str().unwrap().to_owned())));
            match body.get("cursor") {
                Some(cursor) => query["cursor"] = cursor.clone(),
                None => break,
            }
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "limit {limit}");
    }
    assert!(gets.lock().unwrap().iter().all(|it| *it <= 100));
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|it| it.index_name() == Some("by-held-since")));
    assert!(asked.iter().all(|it| it.filter_expression() == Some("#status = :status") && it.limit().unwrap() <= 100));

    // What MSH says of a held message is not known yet, and another key is better than the hold.
    let answer = worker.answer(list(&json!({ "status": "held", "type": "ADT" }))).await.unwrap();
    assert_eq!(json(&answer), json!({ "messages": [] }));
}
