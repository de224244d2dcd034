//! Limits on what a misbehaving issuer endpoint can do.

use std::time::Instant;

use tokio::time::timeout;

use super::super::fetch::MAX_BODY_BYTES;
use super::super::key_set::KeySet;
use super::super::keys::RETRY_AFTER;
use super::issuer::Answer;
use super::*;

/// For what must happen at once.
const SOON: Duration = Duration::from_secs(20);

/// Nobody gets in, the issuer is asked once, and five seconds later everything may be well again.
async fn locks_nobody_out_for_good(what: &str, answer: Answer) {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(answer).await;
    // Longer than the test waits, so that it is not the time limit that helps.
    let options = Options { request_timeout: 10 * SOON, ..once() };
    let world = World::of(&issuer, &options);
    let token = signer.token(&claims());
    for _ in 0..3 {
        let outcome = timeout(SOON, world.outcome(&token)).await.expect(what);
        assert_eq!(outcome, Err(VerifyError::KeysUnavailable), "{what}");
    }
    assert_eq!(issuer.requests(), 1, "{what}");
    issuer.now_has(&[&signer]);
    world.pass(RETRY_AFTER);
    assert_eq!(world.outcome(&token).await, Ok(()), "{what}");
    assert_eq!(issuer.requests(), 2, "{what}");
}

#[tokio::test]
async fn an_answer_that_is_not_a_key_set_is_refused() {
    let jwk = Signer::rsa("1").jwk();
    let nameless = Signer::rsa("1").jwk_but(json!({ "kid": null }));
    let good = json!({ "keys": [jwk] }).to_string();
    let (html, json) = ("content-type: text/html\r\n", "content-type: application/json\r\n");
    let ok = |headers: &str, body: &str| Answer::status("200 OK", headers, body);
    for (what, answer) in [
        ("an error", Answer::status("500 Internal Server Error", json, &good)),
        ("not found", Answer::status("404 Not Found", json, &good)),
        ("no content", Answer::status("204 No Content", "", "")),
        ("a part", Answer::status("206 Partial Content", json, &good)),
        ("a page", ok(html, "<!doctype html><title>Sign in</title>")),
        ("nothing", ok(json, "")),
        ("half a set", ok(json, good.split_at(good.len() / 2).0)),
        ("a list", ok(json, &json!([jwk]).to_string())),
        ("another object", ok(json, "{\"issuer\": \"https://a.example\"}")),
        ("keys that are no list", ok(json, "{\"keys\": {}}")),
        ("no keys", ok(json, "{\"keys\": []}")),
        ("keys without names", ok(json, &json!({ "keys": [nameless] }).to_string())),
        ("deep", ok(json, &format!("{{\"keys\": {}", "[".repeat(30_000)))),
        ("no HTTP", Answer::Bytes(b"220 mail.example ESMTP\r\n".to_vec())),
        ("a closed connection", Answer::Bytes(Vec::new())),
    ] {
        locks_nobody_out_for_good(what, answer).await;
    }
}

#[tokio::test]
async fn a_truncated_answer_gives_no_keys() {
    let mut bytes = Answer::keys(&[Signer::rsa("1").jwk()]).bytes();
    // Even if what has come would do: JSON may end in blanks.
    let text = String::from_utf8(bytes.clone()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let longer = head.replace(&format!("length: {}", body.len()), &format!("length: {}", body.len() + 1));
    locks_nobody_out_for_good("a byte is missing", Answer::Bytes(format!("{longer}\r\n\r\n{body}").into_bytes())).await;
    bytes.truncate(bytes.len() - 100);
    locks_nobody_out_for_good("100 bytes are missing", Answer::Bytes(bytes)).await;
}

#[tokio::test]
async fn a_large_answer_is_not_read() {
    let megabytes = 10 * 1024 * 1024;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {megabytes}\r\n\r\n");
    locks_nobody_out_for_good("10 MB that never come", Answer::Stuck(head.clone().into_bytes())).await;
    let whole = format!("{head}{{\"keys\": [{}]}}", " ".repeat(megabytes - 12)).into_bytes();
    locks_nobody_out_for_good("10 MB", Answer::Bytes(whole)).await;
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{megabytes:x}\r\n{}", " ".repeat(megabytes));
    locks_nobody_out_for_good("10 MB in a chunk", Answer::Bytes(chunked.into_bytes())).await;
    locks_nobody_out_for_good("no end", Answer::Endless).await;
}

#[tokio::test]
async fn an_issuer_that_sends_without_end_is_left() {
    let issuer = Issuer::answering(Answer::Endless).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&Signer::rsa("1").token(&claims())).await, Err(VerifyError::KeysUnavailable));
    timeout(SOON, issuer.client_left()).await.expect("the connection is closed");
}

#[tokio::test]
async fn an_answer_of_the_largest_size_is_read() {
    let signer = Signer::rsa("1");
    let set = json!({ "keys": [signer.jwk()] }).to_string();
    let padded = |length: usize| Answer::status("200 OK", "", &format!("{set}{}", " ".repeat(length - set.len())));
    locks_nobody_out_for_good("a byte too long", padded(MAX_BODY_BYTES + 1)).await;
    let world = World::of(&Issuer::answering(padded(MAX_BODY_BYTES)).await, &once());
    assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
}

#[tokio::test]
async fn keys_are_taken_from_where_they_were_asked_for_only() {
    let elsewhere = Issuer::with(&[&Signer::rsa("1")]).await;
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let headers = format!("location: {}\r\n", elsewhere.url());
        locks_nobody_out_for_good(status, Answer::status(status, &headers, "")).await;
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn an_issuer_that_is_not_there_is_not_waited_for() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/keys", socket.local_addr().unwrap());
    let issuers = json!({ "a": { "issuer": A, "audiences": ["client"], "jwksUri": url } });
    let world = World::build(&issuers, &["id"], &Options { request_timeout: 10 * SOON, ..once() });
    let outcome = timeout(SOON, world.outcome(&Signer::rsa("1").token(&claims()))).await;
    assert_eq!(outcome, Ok(Err(VerifyError::KeysUnavailable)));
}

#[tokio::test]
async fn an_issuer_that_hangs_or_drips_is_left_when_the_time_is_over() {
    let signer = Signer::rsa("1");
    let keys = Answer::keys(&[signer.jwk()]).bytes();
    let token = signer.token(&claims());
    let limit = Duration::from_millis(300);
    for answer in [Answer::Stuck(Vec::new()), Answer::Slowly(keys, Duration::from_millis(20))] {
        let issuer = Issuer::answering(answer).await;
        let world = World::of(&issuer, &Options { request_timeout: limit, ..once() });
        let began = Instant::now();
        assert_eq!(timeout(SOON, world.outcome(&token)).await, Ok(Err(VerifyError::KeysUnavailable)));
        assert!(began.elapsed() >= limit, "it had its time");
        // The next ones do not wait for it again.
        for _ in 0..100 {
            let mut next = Box::pin(world.outcome(&token));
            assert_eq!(futures_util::poll!(&mut next), std::task::Poll::Ready(Err(VerifyError::KeysUnavailable)));
        }
        timeout(SOON, issuer.client_left()).await.expect("the connection is closed");
        assert_eq!(issuer.requests(), 1);
    }
    let defaults = Options::default();
    assert!(defaults.connect_timeout < defaults.request_timeout);
    assert!(defaults.request_timeout < Duration::from_secs(10), "API Gateway waits no longer for an authorizer");
}

#[tokio::test]
async fn a_key_that_cannot_be_used_does_not_spoil_the_others() {
    let (signer, p256) = (Signer::rsa("1"), Signer::p256("2"));
    let unusable = [
        json!(null),
        json!("key"),
        json!({}),
        json!({ "kty": "RSA", "kid": "n" }),
        json!({ "kty": "EC", "kid": "n", "crv": "P-521", "x": "AA", "y": "AA" }),
        json!({ "kty": "OKP", "kid": "n", "crv": "X25519", "x": "AA" }),
        signer.jwk_but(json!({ "kid": 7 })),
        signer.jwk_but(json!({ "kid": "n", "n": "not base64url!" })),
        signer.jwk_but(json!({ "kid": "n", "kty": "rsa" })),
        p256.jwk_but(json!({ "kid": "n", "x": "AAAA" })),
        p256.jwk_but(json!({ "kid": "n", "crv": "P-384" })),
    ];
    let issuer = Issuer::answering(Answer::keys(&[&unusable[..], &[signer.jwk(), p256.jwk()]].concat())).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
    assert_eq!(world.outcome(&p256.token(&claims())).await, Ok(()));
    world.refuses(&signer.sign(&json!({ "alg": "RS256", "kid": "n" }), &claims()), Refused::UnknownKey).await;
    assert_eq!(issuer.requests(), 1);
}

#[test]
fn an_rsa_key_has_2048_bits_and_an_exponent_that_does_something() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let usable = |n: &[u8], e: &[u8]| {
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        let set = json!({ "keys": [{ "kty": "RSA", "kid": "1", "n": n, "e": e }] });
        !KeySet::read(set.to_string().as_bytes()).unwrap().is_empty()
    };
    let modulus = |bits: usize| {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] = 0xff_u8 >> ((8 - bits % 8) % 8);
        bytes
    };
    let f4 = [1, 0, 1];
    for (bits, good) in [(512, false), (1024, false), (2047, false), (2048, true), (3072, true), (8192, true), (8193, false)] {
        assert_eq!(usable(&modulus(bits), &f4), good, "{bits}");
    }
    assert!(usable(&[&[0], &*modulus(2048)].concat(), &f4), "a sign byte is no bits");
    assert!(!usable(&[&[0; 128], &*modulus(1024)].concat(), &f4));
    assert!(!usable(&[], &f4));
    for (e, good) in [(&[3][..], true), (&[1], false), (&[0, 1], false), (&[2], false), (&[0], false), (&[], false)] {
        assert_eq!(usable(&modulus(2048), e), good, "{e:?}");
    }
}
