//! Events of API Gateway, with real tokens and an issuer on a real socket.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lambda_events::apigw::{ApiGatewayCustomAuthorizerResponse, ApiGatewayV2CustomAuthorizerSimpleResponse};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:api/dev";
const SUBJECT: &str = "6f1b0a4e-8f0e-4f4e-9c37-1d8a54c1f4aa";
/// Stands for what is personal in a token.
const CANARY: &str = "jane.doe@st-elsewhere.example";

/// An authorizer with Sluice's policies, and somebody who signs tokens of `institutes`.
struct World {
    authorizer: Authorizer,
    key: EncodingKey,
}

impl World {
    async fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!("one");
        let keys = serve(json!({ "keys": [jwk] }).to_string()).await;
        Self { authorizer: authorizer(&keys), key }
    }

    fn token(&self, changes: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": "https://institutes.example", "sub": SUBJECT, "aud": "client", "token_use": "id",
            "iat": now, "exp": now + 3600, "email": CANARY, "custom:read": "a", "custom:write": "a",
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    async fn answer(&self, event: &Value) -> (Result<Value, StepError>, Line) {
        self.authorizer.decide(&AuthorizerRequest::read(event)).await
    }
}

fn authorizer(keys: &str) -> Authorizer {
    let issuers = json!({ "institutes": { "issuer": "https://institutes.example", "audiences": ["client"], "jwksUri": keys } });
    let policies = Policies::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap();
    Authorizer::new(&issuers.to_string().parse().unwrap(), policies, Engine::InProcess, &Options::default()).unwrap()
}

/// An address that answers every request with this.
async fn serve(body: String) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    format!("http://127.0.0.1:{port}/keys")
}

/// What an HTTP API sends with payload 2.0.
fn http(route: &str, authorization: &str) -> Value {
    let (method, path) = route.split_once(' ').unwrap();
    json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": format!("{ARN}/{method}{path}"),
        "identitySource": [authorization],
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "authorization": authorization, "host": "api.example" },
        "requestContext": { "apiId": "api", "http": { "method": method, "path": path }, "routeKey": route, "stage": "$default" },
        "pathParameters": { "messageId": "abc", "source": "a" },
        "stageVariables": null,
    })
}

/// What a REST API sends to an authorizer of type REQUEST.
fn rest(route: &str, authorization: &str) -> Value {
    let (method, resource) = route.split_once(' ').unwrap();
    json!({
        "type": "REQUEST",
        "methodArn": format!("{ARN}/{method}/er7/abc"),
        "resource": resource,
        "path": "/er7/abc",
        "httpMethod": method,
        "headers": { "Authorization": authorization, "Host": "api.example" },
        "multiValueHeaders": { "Authorization": [authorization], "Host": ["api.example"] },
        "queryStringParameters": {},
        "pathParameters": { "messageId": "abc", "source": "a" },
        "requestContext": { "resourcePath": resource, "httpMethod": method, "stage": "dev" },
    })
}

fn field(line: &Line, field: Field) -> Option<&str> {
    line.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn an_http_api_is_answered_with_a_simple_response() {
    let world = World::new().await;
    let token = world.token(json!({}));
    let (answer, line) = world.answer(&http("GET /er7/{messageId}", &format!("Bearer {token}"))).await;
    let answer = answer.unwrap();
    let context = json!({
        "provider": "institutes", "issuer": "https://institutes.example", "subject": SUBJECT, "tokenUse": "id",
        "read": "a", "write": "a",
    });
    assert_eq!(answer, json!({ "isAuthorized": true, "context": context }));
    serde_json::from_value::<ApiGatewayV2CustomAuthorizerSimpleResponse>(answer).unwrap();
    let logged = [
        (Field::Provider, "institutes"),
        (Field::Subject, SUBJECT),
        (Field::Route, "GET /er7/{messageId}"),
        (Field::Outcome, "allowed"),
        (Field::Action, "read"),
        (Field::Policies, "institutes-read"),
    ];
    assert_eq!(line, logged.map(|(field, value)| (field, value.to_owned())));

    let (answer, line) = world.answer(&http("GET /er7/{messageId}", &world.token(json!({ "custom:read": "" })))).await;
    assert_eq!(answer, Ok(json!({ "isAuthorized": false, "context": {} })));
    assert_eq!((field(&line, Field::Outcome), field(&line, Field::Subject)), (Some("denied"), Some(SUBJECT)));
}

#[tokio::test]
async fn a_rest_api_is_answered_with_a_policy_on_exactly_the_method_that_was_called() {
    let world = World::new().await;
    let policy = |effect: &str, event: &Value| {
        json!({ "Version": "2012-10-17", "Statement": [
            { "Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"] },
        ] })
    };
    for (route, claims, effect) in [
        ("GET /er7/{messageId}", json!({}), "Allow"),
        ("GET /er7/{messageId}", json!({ "custom:read": "" }), "Deny"),
        ("GET /institutes/{source}/er7", json!({}), "Allow"),
        ("GET /institutes/{source}/er7", json!({ "custom:read": "b" }), "Deny"),
    ] {
        let event = rest(route, &world.token(claims));
        let answer = world.answer(&event).await.0.unwrap();
        assert_eq!(answer["principalId"], SUBJECT, "{route}");
        assert_eq!(answer["policyDocument"], policy(effect, &event), "{route}");
        assert_eq!(answer["context"].as_object().unwrap().is_empty(), effect == "Deny", "{route}");
        assert!(answer["context"].as_object().unwrap().values().all(Value::is_string), "{route}");
        serde_json::from_value::<ApiGatewayCustomAuthorizerResponse<Value>>(answer).unwrap();
    }
    let event = rest("GET /er7/{messageId}", "a.b.c");
    let (answer, line) = world.answer(&event).await;
    assert_eq!(answer.unwrap()["policyDocument"], policy("Deny", &event));
    assert_eq!(field(&line, Field::Outcome), Some("refused"));
}

#[tokio::test]
async fn a_pattern_in_the_path_is_denied_whoever_asks() {
    let world = World::new().await;
    for path in ["*", "a?c", "${aws:username}", "abc/*"] {
        let mut event = rest("GET /er7/{messageId}", &world.token(json!({})));
        event["methodArn"] = json!(format!("{ARN}/GET/er7/{path}"));
        let (answer, line) = world.answer(&event).await;
        assert_eq!(answer.unwrap()["policyDocument"]["Statement"][0]["Effect"], "Deny", "{path}");
        assert!(field(&line, Field::Detail).unwrap().contains("pattern"), "{path}");
    }
}

#[tokio::test]
async fn an_authorizer_of_type_token_knows_no_route_and_lets_nobody_in() {
    let world = World::new().await;
    let event = json!({
        "type": "TOKEN",
        "methodArn": format!("{ARN}/GET/er7/abc"),
        "authorizationToken": world.token(json!({})),
        "resource": "/er7/{messageId}",
        "httpMethod": "GET",
        "headers": { "Authorization": world.token(json!({})) },
    });
    let (answer, line) = world.answer(&event).await;
    assert_eq!(answer.unwrap()["policyDocument"]["Statement"][0]["Effect"], "Deny");
    assert_eq!(field(&line, Field::Outcome), Some("denied"));
    assert!(field(&line, Field::Detail).unwrap().contains("TOKEN"));
}

#[tokio::test]
async fn a_route_that_is_not_known_is_denied() {
    let world = World::new().await;
    for route in ["GET /er7/{id}", "DELETE /er7/{messageId}", "get /er7", "ANY /er7", "GET /"] {
        let (answer, line) = world.answer(&http(route, &world.token(json!({})))).await;
        assert_eq!(answer.unwrap()["isAuthorized"], false, "{route}");
        assert_eq!(field(&line, Field::Detail), Some("routes.json does not have the route"), "{route}");
    }
}

#[tokio::test]
async fn an_event_of_no_known_shape_is_denied() {
    let world = World::new().await;
    let token = world.token(json!({}));
    let without = |name: &str, mut event: Value| {
        event.as_object_mut().unwrap().remove(name);
        event
    };
    let with = |name: &str, value: Value, mut event: Value| {
        event[name] = value;
        event
    };
    let good = || http("GET /er7", &token);
    let called = || rest("GET /er7/{messageId}", &token);
    let events = [
        json!(null),
        json!(7),
        json!("GET /er7"),
        json!([good()]),
        json!({}),
        json!({ "Records": [] }),
        without("routeKey", good()),
        with("routeKey", json!(["GET /er7"]), good()),
        with("routeKey", json!(null), good()),
        with("headers", json!(null), good()),
        with("headers", json!([token]), good()),
        without("headers", good()),
        with("methodArn", json!(7), without("routeKey", good())),
        without("httpMethod", called()),
        without("resource", called()),
        with("resource", json!({ "a": 1 }), called()),
        with("methodArn", json!(""), called()),
        with("methodArn", json!("*"), called()),
        with("pathParameters", json!({ "source": 7 }), http("GET /institutes/{source}/er7", &token)),
        with("pathParameters", json!("a"), http("GET /institutes/{source}/er7", &token)),
        with("pathParameters", json!(null), http("GET /institutes/{source}/er7", &token)),
    ];
    for event in events {
        let (answer, line) = world.answer(&event).await;
        let answer = answer.unwrap();
        let denied = answer["isAuthorized"] == json!(false) || answer["policyDocument"]["Statement"][0]["Effect"] == "Deny";
        assert!(denied, "{event}");
        assert!(answer["context"].as_object().unwrap().is_empty(), "{event}");
        assert!(field(&line, Field::Detail).is_some(), "{event}");
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_the_reason() {
    let world = World::new().await;
    let (theirs, mine) = (world.token(json!({ "custom:read": "b" })), world.token(json!({})));
    let forged = format!("{}.{}", theirs.rsplit_once('.').unwrap().0, mine.rsplit_once('.').unwrap().1);
    for (authorization, why) in [
        (String::new(), "there is no token"),
        ("Bearer ".to_owned(), "there is no token"),
        (format!("{0}, {0}", world.token(json!({}))), "several values"),
        (world.token(json!({ "iss": "https://other.example" })), "issuer"),
        (world.token(json!({ "aud": "other" })), "audience"),
        (world.token(json!({ "token_use": "access" })), "use"),
        (world.token(json!({ "exp": 1 })), "expired"),
        (forged, "signature"),
    ] {
        let (answer, line) = world.answer(&http("GET /er7", &authorization)).await;
        assert_eq!(answer, Ok(json!({ "isAuthorized": false, "context": {} })), "{why}");
        assert_eq!(field(&line, Field::Outcome), Some("refused"), "{why}");
        assert!(field(&line, Field::Detail).unwrap().contains(why), "{why}: {line:?}");
    }
}

#[tokio::test]
async fn without_the_issuers_keys_the_call_fails_and_api_gateway_caches_nothing() {
    let world = World::new().await;
    let broken = World { authorizer: authorizer(&serve("<html>".to_owned()).await), key: world.key.clone() };
    for event in [http("GET /er7", &broken.token(json!({}))), rest("GET /er7/{messageId}", &broken.token(json!({})))] {
        let (answer, _) = broken.answer(&event).await;
        assert_eq!(answer.unwrap_err().name(), "Unavailable");
    }
}

#[tokio::test]
async fn the_log_has_the_subject_and_nothing_else_of_the_token() {
    let world = World::new().await;
    let long = "s".repeat(255);
    let odd = [
        json!({}),
        json!({ "sub": long }),
        json!({ "custom:read": "canary-institute" }),
        json!({ "custom:read": [CANARY] }),
        json!({ "custom:read": "", "custom:write": "" }),
        json!({ "aud": CANARY }),
        json!({ "token_use": CANARY }),
        json!({ "iss": CANARY }),
        json!({ "exp": 1 }),
    ];
    for claims in odd {
        let token = world.token(claims.clone());
        let signature = token.rsplit('.').next().unwrap();
        for event in [http("GET /er7", &token), http("GET /x", &token), rest("GET /institutes/{source}/er7", &token)] {
            let (answer, line) = world.answer(&event).await;
            let logged = format!("{line:?} {:?}", answer.err());
            for secret in [CANARY, signature, "canary-institute", "custom:read\": "] {
                assert!(!logged.contains(secret), "{claims}: {logged}");
            }
            assert!(
                field(&line, Field::Subject).is_none_or(|subject| subject == SUBJECT || *subject == *"s".repeat(128)),
                "{logged}"
            );
        }
    }
}
