//! What is no good in a token.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
use serde_json::json;

use super::super::{CLOCK_SKEW, MAX_TOKEN_BYTES, VerifierError};
use super::signer::{hmac, public_forms};
use super::*;

async fn world() -> (Signer, Issuer, World) {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    (signer, issuer, world)
}

#[tokio::test]
async fn a_good_token_says_whose_it_is_and_its_debug_does_not() {
    let (signer, issuer, world) = world().await;
    let token = signer.token(&claims_but(json!({ "custom:read": "st-elsewhere", "exp": NOW + 100 })));
    let verified = world.verify(&token).await.unwrap();
    assert_eq!((verified.provider.as_str(), verified.issuer.as_str(), verified.subject.as_str()), ("a", A, "user-1"));
    assert_eq!((verified.token_use.as_deref(), verified.expires_at), (Some("id"), NOW + 100));
    assert_eq!(verified.claims["custom:read"], "st-elsewhere");
    assert_eq!(format!("{verified:?}"), "Verified { provider: \"a\", .. }");
    assert_eq!(format!("{:?}", world.verifier), format!("Verifier {{ issuers: [\"{A}\"], .. }}"));
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn every_algorithm_of_the_issuers_kinds_of_keys_is_taken() {
    let rsa = [RS256, RS384, RS512, PS256, PS384, PS512].map(|algorithm| Signer::rsa("rsa").with(algorithm));
    let others = [Signer::p256("p256"), Signer::p384("p384"), Signer::ed25519("ed")];
    assert_eq!(others.each_ref().map(|it| it.algorithm), [ES256, ES384, EdDSA]);
    let issuer = Issuer::with(&[&rsa[0], &others[0], &others[1], &others[2]]).await;
    let world = World::of(&issuer, &once());
    for signer in rsa.iter().chain(&others) {
        let (good, other) = (signer.token(&claims()), signer.token(&claims_but(json!({ "sub": "user-2" }))));
        assert_eq!(world.outcome(&good).await, Ok(()), "{:?}", signer.algorithm);
        let ((message, _), (_, signature)) = (good.rsplit_once('.').unwrap(), other.rsplit_once('.').unwrap());
        world.refuses(&format!("{message}.{signature}"), Refused::Signature).await;
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn an_unsigned_token_is_refused_whatever_its_alg_says() {
    let (signer, issuer, world) = world().await;
    for alg in
        [json!("none"), json!("None"), json!("NONE"), json!("nOnE"), json!(""), json!(null), json!(["RS256"]), json!("ES512")]
    {
        let token = signer.sign(&json!({ "alg": alg, "kid": "1" }), &claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        world.refuses(&token, Refused::Algorithm).await;
        world.refuses(&format!("{message}."), Refused::Algorithm).await;
    }
    world.refuses(&signer.sign(&json!({ "kid": "1" }), &claims()), Refused::Algorithm).await;
    assert_eq!(issuer.requests(), 0);

    let token = signer.token(&claims());
    assert_eq!(world.outcome(&token).await, Ok(()));
    let (message, _) = token.rsplit_once('.').unwrap();
    world.refuses(&format!("{message}."), Refused::Signature).await;
}

#[tokio::test]
async fn an_hmac_with_a_public_key_is_refused() {
    let (signer, issuer, world) = world().await;
    for warm in [false, true] {
        assert_eq!(issuer.requests(), usize::from(warm), "an HMAC needs no key");
        for (form, secret) in public_forms() {
            for algorithm in [HS256, HS384, HS512] {
                let outcome = world.outcome(&hmac(algorithm, "1", &secret, &claims())).await;
                assert_eq!(outcome, Err(Refused::Algorithm.into()), "{form}, {algorithm:?}");
            }
        }
        assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
    }
}

#[tokio::test]
async fn an_issuer_cannot_share_a_secret() {
    let signer = Signer::rsa("1");
    let secret = json!({ "kty": "oct", "kid": "2", "k": URL_SAFE_NO_PAD.encode("secret"), "alg": "HS256" });
    let issuer = Issuer::answering(issuer::Answer::keys(&[signer.jwk(), secret])).await;
    let world = World::of(&issuer, &once());
    world.refuses(&hmac(HS256, "2", b"secret", &claims()), Refused::Algorithm).await;
    world.refuses(&signer.sign(&json!({ "alg": "RS256", "kid": "2" }), &claims()), Refused::UnknownKey).await;
}

#[tokio::test]
async fn a_key_is_used_only_for_its_kind_and_its_purpose() {
    let rsa = |kid: &str| Signer::rsa(kid);
    let p256 = Signer::p256("p256");
    let issuer = Issuer::answering(issuer::Answer::keys(&[
        rsa("rs512").jwk_but(json!({ "alg": "RS512" })),
        rsa("verify").jwk_but(json!({ "key_ops": ["verify"] })),
        p256.jwk(),
        rsa("enc").jwk_but(json!({ "use": "enc" })),
        rsa("sign").jwk_but(json!({ "key_ops": ["sign"] })),
        rsa("oaep").jwk_but(json!({ "alg": "RSA-OAEP" })),
        rsa("hmac").jwk_but(json!({ "alg": "HS256" })),
        rsa("private").jwk_but(json!({ "d": "AQAB" })),
    ]))
    .await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&rsa("rs512").with(RS512).token(&claims())).await, Ok(()));
    assert_eq!(world.outcome(&rsa("verify").token(&claims())).await, Ok(()));
    world.refuses(&rsa("rs512").token(&claims()), Refused::Algorithm).await;
    world.refuses(&rsa("p256").token(&claims()), Refused::Algorithm).await;
    world.refuses(&p256.sign(&json!({ "alg": "ES384", "kid": "p256" }), &claims()), Refused::Algorithm).await;
    world.refuses(&p256.sign(&json!({ "alg": "EdDSA", "kid": "p256" }), &claims()), Refused::Algorithm).await;
    for unusable in ["enc", "sign", "oaep", "hmac", "private"] {
        assert_eq!(world.outcome(&rsa(unusable).token(&claims())).await, Err(Refused::UnknownKey.into()), "{unusable}");
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn two_keys_of_different_kinds_may_share_a_name() {
    let (rsa, p256) = (Signer::rsa("1"), Signer::p256("1"));
    let issuer = Issuer::with(&[&rsa, &p256]).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&rsa.token(&claims())).await, Ok(()));
    assert_eq!(world.outcome(&p256.token(&claims())).await, Ok(()));
}

#[tokio::test]
async fn a_token_names_one_of_the_issuers_keys() {
    let (signer, issuer, world) = world().await;
    for kid in [json!(null), json!(1), json!(["1"])] {
        world.refuses(&signer.sign(&json!({ "alg": "RS256", "kid": kid }), &claims()), Refused::UnknownKey).await;
    }
    world.refuses(&signer.sign(&json!({ "alg": "RS256" }), &claims()), Refused::UnknownKey).await;
    assert_eq!(issuer.requests(), 0);
    for kid in ["2", "", "1 ", "01"] {
        world.refuses(&signer.sign(&json!({ "alg": "RS256", "kid": kid }), &claims()), Refused::UnknownKey).await;
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let (signer, issuer, world) = world().await;
    let stranger = Signer::stranger("1");
    let elsewhere = Issuer::with(&[&stranger]).await;
    let baggage = json!({
        "alg": "RS256", "kid": "1", "jwk": stranger.jwk(), "jku": elsewhere.url(), "x5u": elsewhere.url(), "x5c": ["AAAA"],
    });
    world.refuses(&stranger.sign(&baggage, &claims()), Refused::Signature).await;
    assert_eq!(world.outcome(&signer.sign(&baggage, &claims())).await, Ok(()));
    assert_eq!((issuer.requests(), elsewhere.requests()), (1, 0));
}

#[tokio::test]
async fn an_extension_that_must_be_understood_is_refused() {
    let (signer, issuer, world) = world().await;
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null)] {
        let header = json!({ "alg": "RS256", "kid": "1", "crit": crit, "b64": true });
        world.refuses(&signer.sign(&header, &claims()), Refused::Malformed).await;
    }
    assert_eq!(issuer.requests(), 0);
}

#[tokio::test]
async fn a_huge_token_is_refused_before_it_is_read() {
    let (signer, issuer, world) = world().await;
    let padded = |length: usize| signer.token(&claims_but(json!({ "padding": "x".repeat(length) })));
    // Three bytes are four characters.
    let room = (MAX_TOKEN_BYTES - padded(0).len()) / 4 * 3;
    assert_eq!(world.outcome(&padded(room - 3)).await, Ok(()));
    world.refuses(&padded(room + 6), Refused::TooLarge).await;
    world.refuses(&"x".repeat(MAX_TOKEN_BYTES), Refused::Malformed).await;
    world.refuses(&"x".repeat(MAX_TOKEN_BYTES + 1), Refused::TooLarge).await;
    world.refuses(&".".repeat(100 * MAX_TOKEN_BYTES), Refused::TooLarge).await;
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn another_issuers_key_of_the_same_name_does_not_fit() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("1"));
    let (a, b) = (Issuer::with(&[&signer]).await, Issuer::with(&[&stranger]).await);
    let world = World::new(&a, &b);
    let of_b = claims_but(json!({ "iss": B, "token_use": null }));
    assert_eq!(world.verify(&stranger.token(&of_b)).await.unwrap().provider, "b");
    world.refuses(&signer.token(&of_b), Refused::Signature).await;
    world.refuses(&stranger.token(&claims()), Refused::Signature).await;
    assert_eq!(world.verify(&signer.token(&claims())).await.unwrap().provider, "a");
    assert_eq!((a.requests(), b.requests()), (1, 1));
}

#[tokio::test]
async fn a_token_that_names_another_issuer_is_not_looked_up_at_its_own() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("2"));
    let (a, b) = (Issuer::with(&[&signer]).await, Issuer::with(&[&stranger]).await);
    let world = World::new(&a, &b);
    world.refuses(&signer.token(&claims_but(json!({ "iss": B, "token_use": null }))), Refused::UnknownKey).await;
    assert_eq!((a.requests(), b.requests()), (0, 1));
}

#[tokio::test]
async fn a_part_of_another_token_breaks_the_signature() {
    let (signer, _issuer, world) = world().await;
    let (one, two) = (signer.token(&claims()), signer.token(&claims_but(json!({ "custom:write": "st-elsewhere" }))));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (one, two) = (parts(&one), parts(&two));
    world.refuses(&[&*one[0], &two[1], &one[2]].join("."), Refused::Signature).await;
    world.refuses(&[&*one[0], &one[1], &two[2]].join("."), Refused::Signature).await;
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "kid": "1" }).to_string());
    world.refuses(&[&*header, &one[1], &one[2]].join("."), Refused::Signature).await;
    assert_eq!(world.outcome(&one.join(".")).await, Ok(()));
}

#[tokio::test]
async fn a_token_of_no_known_issuer_costs_no_request() {
    let (signer, issuer, world) = world().await;
    for iss in [
        "https://a.example/",
        "https://A.example",
        "http://a.example",
        "https://a.exampl",
        "a",
        "https://c.example",
        &issuer.url(),
    ] {
        world.refuses(&signer.token(&claims_but(json!({ "iss": iss }))), Refused::UnknownIssuer).await;
    }
    for iss in [json!(null), json!(""), json!(1), json!([A]), json!({ "iss": A })] {
        world.refuses(&signer.token(&claims_but(json!({ "iss": iss }))), Refused::Malformed).await;
    }
    assert_eq!(issuer.requests(), 0);
}

#[tokio::test]
async fn a_token_is_good_until_it_expires_and_not_a_second_longer() {
    let (signer, issuer, world) = world().await;
    for (exp, good) in [
        (json!(NOW + 1), true),
        (json!(NOW as f64 + 1.9), true),
        (json!(NOW), false),
        (json!(NOW as f64 + 0.9), false),
        (json!(NOW - 1), false),
        (json!(NOW - 3600), false),
        (json!(0), false),
    ] {
        let expected = if good { Ok(()) } else { Err(Refused::Expired.into()) };
        assert_eq!(world.outcome(&signer.token(&claims_but(json!({ "exp": exp })))).await, expected, "{exp}");
    }
    for exp in [json!(null), json!("1900000000"), json!(-1), json!(1e300), json!(u64::MAX), json!([NOW + 9]), json!(true)] {
        assert_eq!(
            world.outcome(&signer.token(&claims_but(json!({ "exp": exp })))).await,
            Err(Refused::Malformed.into()),
            "{exp}"
        );
    }
    let token = signer.token(&claims_but(json!({ "exp": NOW + 10 })));
    assert_eq!(world.outcome(&token).await, Ok(()));
    world.pass(Duration::from_secs(10));
    world.refuses(&token, Refused::Expired).await;
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_cached_answer_never_outlives_its_token() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    for (ttl, at_least) in [(Duration::from_secs(300), 301), (Duration::from_millis(299_001), 301), (Duration::ZERO, 1)] {
        let world = World::of(&issuer, &Options { result_ttl: ttl, ..once() });
        assert_eq!(world.outcome(&signer.token(&claims_but(json!({ "exp": NOW + at_least })))).await, Ok(()), "{ttl:?}");
        world.refuses(&signer.token(&claims_but(json!({ "exp": NOW + at_least - 1 }))), Refused::Expired).await;
    }
    let forever = World::of(&issuer, &Options { result_ttl: Duration::MAX, ..once() });
    forever.refuses(&signer.token(&claims()), Refused::Expired).await;
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute() {
    let (signer, _issuer, world) = world().await;
    let ahead = NOW + CLOCK_SKEW.as_secs();
    for name in ["nbf", "iat"] {
        for good in [json!(ahead), json!(NOW), json!(0), json!(ahead as f64 - 0.5), json!(null)] {
            assert_eq!(world.outcome(&signer.token(&claims_but(json!({ name: good })))).await, Ok(()), "{name} {good}");
        }
        for bad in [json!(ahead + 1), json!(ahead as f64 + 0.5), json!(NOW * 2)] {
            let outcome = world.outcome(&signer.token(&claims_but(json!({ name: bad })))).await;
            assert_eq!(outcome, Err(Refused::NotYetValid.into()), "{name} {bad}");
        }
        world.refuses(&signer.token(&claims_but(json!({ name: "now" }))), Refused::Malformed).await;
    }
    let token = signer.token(&claims_but(json!({ "nbf": ahead + 5 })));
    world.refuses(&token, Refused::NotYetValid).await;
    world.pass(Duration::from_secs(5));
    assert_eq!(world.outcome(&token).await, Ok(()));
}

#[tokio::test]
async fn a_token_without_a_subject_is_nobodys() {
    let (signer, issuer, world) = world().await;
    for sub in [json!(null), json!(""), json!(7), json!(["user-1"])] {
        world.refuses(&signer.token(&claims_but(json!({ "sub": sub }))), Refused::Malformed).await;
    }
    assert_eq!(issuer.requests(), 0);
}

#[tokio::test]
async fn a_token_is_for_one_of_our_clients() {
    let (signer, issuer, world) = world().await;
    for aud in [json!("client"), json!("other-client"), json!(["client"]), json!(["elsewhere", "client"])] {
        assert_eq!(world.outcome(&signer.token(&claims_but(json!({ "aud": aud })))).await, Ok(()), "{aud}");
    }
    for aud in [json!("Client"), json!("client "), json!(""), json!([]), json!(["elsewhere"]), json!(["client elsewhere"])] {
        let outcome = world.outcome(&signer.token(&claims_but(json!({ "aud": aud })))).await;
        assert_eq!(outcome, Err(Refused::Audience.into()), "{aud}");
    }
    for aud in [json!(1), json!({ "client": true }), json!(["client", 1])] {
        world.refuses(&signer.token(&claims_but(json!({ "aud": aud }))), Refused::Malformed).await;
    }
    let with_null = signer.sign_text(&signer.header().to_string(), &claims().to_string().replace("\"client\"", "null"));
    world.refuses(&with_null, Refused::Malformed).await;
    // Whom it was made for counts as well, as it does for the identity pool.
    let several = |azp: Value| signer.token(&claims_but(json!({ "aud": ["elsewhere", "client"], "azp": azp })));
    assert_eq!(world.outcome(&several(json!("client"))).await, Ok(()));
    world.refuses(&several(json!("elsewhere")), Refused::Audience).await;
    world.refuses(&several(json!(["client"])), Refused::Malformed).await;
    // An ID token always has an audience.
    world.refuses(&signer.token(&claims_but(json!({ "aud": null, "client_id": "client" }))), Refused::Audience).await;
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn an_access_token_is_for_its_client_id_and_taken_only_where_it_is_asked_for() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let access = |client: Value| signer.token(&claims_but(json!({ "aud": null, "token_use": "access", "client_id": client })));
    let id = signer.token(&claims());
    let cases: [(&[&str], _, _); 3] = [
        (&["id"], Ok(()), Err(Refused::TokenUse.into())),
        (&["access"], Err(Refused::TokenUse.into()), Ok(())),
        (&["id", "access"], Ok(()), Ok(())),
    ];
    for (token_uses, id_outcome, access_outcome) in cases {
        let world = World::of_uses(&issuer, token_uses, &once());
        assert_eq!(world.outcome(&id).await, id_outcome, "{token_uses:?}");
        assert_eq!(world.outcome(&access(json!("client"))).await, access_outcome, "{token_uses:?}");
    }
    let world = World::of_uses(&issuer, &["access"], &once());
    assert_eq!(world.verify(&access(json!("client"))).await.unwrap().token_use.as_deref(), Some("access"));
    for client in [json!("elsewhere"), json!(null), json!(["client"])] {
        world.refuses(&access(client), Refused::Audience).await;
    }
    // Where there is an audience it counts, and not who asked for the token.
    let bound = claims_but(json!({ "aud": "https://elsewhere.example", "token_use": "access", "client_id": "client" }));
    world.refuses(&signer.token(&bound), Refused::Audience).await;
}

#[tokio::test]
async fn a_provider_with_uses_gives_a_use_in_every_token() {
    let (signer, issuer, world) = world().await;
    for token_use in [json!(null), json!(""), json!("ID"), json!("refresh")] {
        world.refuses(&signer.token(&claims_but(json!({ "token_use": token_use }))), Refused::TokenUse).await;
    }
    world.refuses(&signer.token(&claims_but(json!({ "token_use": ["id"] }))), Refused::Malformed).await;
    assert_eq!(issuer.requests(), 0);
}

#[tokio::test]
async fn a_provider_without_uses_gives_tokens_that_are_no_access_or_logout_tokens() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("1"));
    let (a, b) = (Issuer::with(&[&signer]).await, Issuer::with(&[&stranger]).await);
    let world = World::new(&a, &b);
    let of_b = |token_use: Value| claims_but(json!({ "iss": B, "token_use": token_use, "client_id": "client" }));
    let typed = |typ: Value| stranger.sign(&json!({ "alg": "RS256", "kid": "1", "typ": typ }), &of_b(Value::Null));
    for typ in ["JWT", "jwt", "application/jwt"] {
        assert_eq!(world.outcome(&typed(json!(typ))).await, Ok(()), "{typ}");
    }
    assert_eq!(world.outcome(&stranger.sign(&json!({ "alg": "RS256", "kid": "1" }), &of_b(Value::Null))).await, Ok(()));
    assert_eq!(world.verify(&stranger.token(&of_b(json!("id")))).await.unwrap().token_use.as_deref(), Some("id"));
    for typ in
        [json!("at+jwt"), json!("AT+JWT"), json!("application/at+jwt"), json!("logout+jwt"), json!(""), json!(null), json!(1)]
    {
        world.refuses(&typed(typ), Refused::TokenUse).await;
    }
    world.refuses(&stranger.token(&of_b(json!("access"))), Refused::TokenUse).await;
    assert_eq!((a.requests(), b.requests()), (0, 1));
}

#[tokio::test]
async fn of_two_members_with_one_name_neither_is_believed() {
    let (signer, issuer, world) = world().await;
    let (header, claims) = (signer.header().to_string(), claims().to_string());
    let twice = |json: &str, member: &str| format!("{{{member},{}", json.strip_prefix('{').unwrap());
    world.refuses(&signer.sign_text(&header, &twice(&claims, "\"sub\":\"admin\"")), Refused::Malformed).await;
    world
        .refuses(&signer.sign_text(&header, &twice(&claims, "\"custom:read\":\"a\",\"custom:read\":\"b\"")), Refused::Malformed)
        .await;
    world.refuses(&signer.sign_text(&twice(&header, "\"kid\":\"2\""), &claims), Refused::Malformed).await;
    assert_eq!(issuer.requests(), 0);
    assert_eq!(world.outcome(&signer.sign_text(&header, &twice(&claims, "\"jti\":\"1\""))).await, Ok(()));
}

#[tokio::test]
async fn a_malformed_token_is_refused_without_a_panic_and_without_a_request() {
    let (signer, issuer, world) = world().await;
    let good = signer.token(&claims());
    let (header, payload) = (signer.header().to_string(), claims().to_string());
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let signed = |header: &str, payload: &str| signer.sign_text(header, payload);
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b".to_owned(),
        "aaaa.bbbb.cccc".to_owned(),
        "Bearer".to_owned(),
        "eyJhbGciOiJSUzI1NiJ9..".to_owned(),
        format!("{good}.{good}"),
        format!("Bearer {good}"),
        format!(" {good}"),
        good.replacen('.', "=.", 1),
        good.replacen('e', "é", 1),
        good.replacen('.', "\0.", 1),
        signed("[]", &payload),
        signed("\"RS256\"", &payload),
        signed(&header, "[]"),
        signed(&header, "null"),
        signed(&header, ""),
        signed(&header, &format!("{payload}{payload}")),
        signed(&header, &format!("{{\"a\":{deep},{}", payload.strip_prefix('{').unwrap())),
        signed(&format!("{{\"a\":{deep},{}", header.strip_prefix('{').unwrap()), &payload),
        signed(&header, &payload.replace("user-1", "\\ud800")),
        signed(&header, &payload.replace(&(NOW + 10 * 24 * 3600).to_string(), "1e999")),
    ] {
        let outcome = world.outcome(&token).await;
        assert_eq!(outcome, Err(Refused::Malformed.into()), "{}", token.chars().take(80).collect::<String>());
    }
    assert_eq!(issuer.requests(), 0);
    // Only here does the signature tell.
    world.refuses(&format!("{good}="), Refused::Malformed).await;
    world.refuses(&format!("{good}\n"), Refused::Malformed).await;
    assert_eq!(world.outcome(&good).await, Ok(()));
}

#[test]
fn a_verifier_is_made_of_providers_that_somebody_described_and_of_secure_addresses() {
    const POOL: &str = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_a";
    let issuers: Issuers = json!({ "a": { "issuer": POOL, "audiences": ["client"] } }).to_string().parse().unwrap();
    let uses = BTreeMap::from([("a".to_owned(), vec!["id".to_owned()])]);
    let at = |endpoint: &str| Options { cognito_endpoint: Some(endpoint.to_owned()), ..once() };
    let made = |uses: &BTreeMap<String, Vec<String>>, options: &Options| Verifier::new(&issuers, uses, options).map(drop);
    assert_eq!(made(&uses, &once()), Ok(()));
    assert_eq!(made(&uses, &at("http://127.0.0.1:4566")), Ok(()));
    assert_eq!(made(&uses, &at("http://aws.example")), Err(VerifierError::Insecure("a".to_owned())));
    assert_eq!(made(&BTreeMap::new(), &once()), Err(VerifierError::Undescribed("a".to_owned())));
}

#[test]
fn the_name_of_a_refusal_is_its_variants() {
    use Refused::*;
    for refused in
        [TooLarge, Malformed, UnknownIssuer, Algorithm, UnknownKey, Signature, Audience, TokenUse, Expired, NotYetValid]
    {
        assert_eq!(refused.name(), format!("{refused:?}"));
    }
}
