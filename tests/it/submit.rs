//! `POST /er7` and what comes of it: every form, every refusal.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::http::{ER7, JSON};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice_tests::{Harness, adt, unique, without_trace};

#[tokio::test]
async fn a_message_is_stored_once_under_its_sign_in() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let (message_id, status) = it.store(&admin, &message).await?;
    assert_eq!((&status["status"], &status["state"], &status["submissions"]), (&json!("stored"), &json!("parsed"), &json!(1)));
    assert!(status["receivedAt"].as_str() <= status["storedAt"].as_str());

    let record = it.record(&message_id).await?;
    let stored = record.facts.clone().unwrap();
    assert_eq!(stored.summary.trigger_event.as_deref(), Some("A01"));
    assert_eq!((record.expires_at, record.lease_until), (None, None), "a stored record neither expires nor is claimed");

    let s3 = it.aws.s3();
    let object = s3.get_object().bucket(&stored.bucket).key(&stored.key).send().await?;
    assert_eq!(object.version_id(), stored.version_id.as_deref());
    assert_eq!(object.body.collect().await?.into_bytes(), message.as_bytes());
    let json_key = stored.json_key.unwrap();
    let rendition = s3.get_object().bucket(&stored.bucket).key(&json_key).send().await?.body.collect().await?.into_bytes();
    let rendition: Value = serde_json::from_slice(&hl7::decompressed(&rendition, hl7::MAX_JSON_BYTES)?)?;
    let received_at = record.received_at.to_string();
    let origin = json!({ "messageId": message_id, "source": it.institute, "receivedAt": received_at });
    assert_eq!((&rendition["version"], &rendition["origin"]), (&json!(2), &origin));
    let field = rendition["segments"][2]["fields"].as_array().unwrap().iter().find(|it| it["position"] == 5).unwrap();
    assert_eq!(field["name"], "Patient Name");
    assert_eq!(field["repetitions"][0][0], json!({ "position": 1, "name": "Family Name", "value": "DOE" }));
    for (key, state) in [(&stored.key, "parsed"), (&json_key, "parsed")] {
        let tags = s3.get_object_tagging().bucket(&stored.bucket).key(key).send().await?;
        let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
        tags.sort_unstable();
        assert_eq!(tags, [("source", it.institute.as_str()), ("state", state)]);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_not_hl7_is_stored_as_received() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let text = format!("I'm just a random number: {}", unique());
    let (message_id, status) = it.store(&admin, &text).await?;
    assert_eq!(
        (&status["status"], &status["state"], &status["error"]["code"]),
        (&json!("stored"), &json!("error"), &json!("no-msh"))
    );
    let stored = it.record(&message_id).await?.facts.unwrap();
    assert_eq!(stored.json_key, None);
    let object = it.aws.s3().get_object().bucket(&stored.bucket).key(&stored.key).send().await?;
    assert_eq!(object.body.collect().await?.into_bytes(), format!("{text}\r").as_bytes());
    Ok(())
}

#[tokio::test]
async fn all_body_forms_and_line_ends_of_one_message_are_one_message() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let token = Some(&admin.token);
    let message = adt(&unique(), "MÜLLER");
    let (message_id, _) = it.store(&admin, &message).await?;
    let latin1: Vec<u8> = message.chars().map(|character| character as u8).collect();
    let in_json = |bytes: &[u8], encoding: &str| {
        json!({ "msg": BASE64_STANDARD.encode(bytes), "encoding": encoding }).to_string().into_bytes()
    };
    let forms: [(Vec<u8>, &str); 8] = [
        (message.clone().into_bytes(), ER7),
        (message.replace('\r', "\n").into_bytes(), ER7),
        (message.replace('\r', "\r\n").into_bytes(), "x-application/hl7-v2+er7"),
        (format!("\u{b}{message}\u{1c}\r").into_bytes(), ER7),
        (message.clone().into_bytes(), "text/plain"),
        (latin1.clone(), "application/hl7-v2; charset=iso-8859-1"),
        (in_json(message.as_bytes(), "utf-8"), JSON),
        (in_json(&latin1, "iso-8859-1"), JSON),
    ];
    for (body, content_type) in forms {
        let answer = it.api.submit(body, content_type, token).await?;
        assert_eq!((answer.status.as_u16(), answer.text("messageId")), (409, message_id.to_string()), "{content_type}");
    }
    assert_eq!(it.record(&message_id).await?.submissions, 9);
    assert_eq!(it.object_versions().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_message_of_three_and_a_half_mib_with_a_pdf_goes_through_the_overflow_bucket() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let pdf: Vec<u8> =
        b"%PDF-1.4\n".iter().copied().chain((0..2_750_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)).collect();
    let message = format!(
        "{}OBR|1||7|11502-2^Laboratory report^LN\rOBX|1|ED|11502-2^Laboratory report^LN||^application^pdf^Base64^{}||||||F\r",
        adt(&unique(), "DOE"),
        BASE64_STANDARD.encode(&pdf)
    );
    assert!(message.len() > 3_500 * 1024);
    let (message_id, status) = it.store(&admin, &message).await?;
    assert_eq!((&status["status"], &status["state"]), (&json!("stored"), &json!("parsed")));
    let stored = it.record(&message_id).await?.facts.unwrap();
    let object =
        it.aws.s3().get_object().bucket(&stored.bucket).key(&stored.key).send().await?.body.collect().await?.into_bytes();
    assert!(object == message.as_bytes(), "the object differs from what was sent");
    Ok(())
}

#[tokio::test]
async fn two_institutes_may_send_the_same_bytes() -> Result<()> {
    let (one, other) = (Harness::new()?, Harness::new()?);
    let message = adt(&unique(), "DOE");
    let (first, _) = one.store(&one.admin().await?, &message).await?;
    let (second, status) = other.store(&other.admin().await?, &message).await?;
    assert_eq!((first, &status["status"]), (second, &json!("stored")));
    Ok(())
}

#[tokio::test]
async fn a_stranger_does_not_learn_of_a_message() -> Result<()> {
    let (one, other) = (Harness::new()?, Harness::new()?);
    let (message_id, _) = one.store(&one.admin().await?, &adt(&unique(), "DOE")).await?;
    let stranger = other.admin().await?;
    let existing = one.api.status(message_id.as_str(), Some(&stranger.token)).await?;
    let unknown = one.api.status(&"0".repeat(64), Some(&stranger.token)).await?;
    assert_eq!((existing.status.as_u16(), without_trace(&existing)), (404, without_trace(&unknown)));
    let nobody = one.caller("", "").await?;
    assert_eq!(one.api.status(message_id.as_str(), Some(&nobody.token)).await?.status, 403);
    assert_eq!(one.api.status("not-an-id", Some(&stranger.token)).await?.status, 400);
    let reader = one.caller(&one.institute, "").await?;
    assert_eq!(one.api.status(message_id.as_str(), Some(&reader.token)).await?.status, 200);
    Ok(())
}

/// Bodies that are refused: status, a word of the detail, content type, body.
fn bad_bodies() -> Vec<(u16, &'static str, &'static str, Vec<u8>)> {
    let in_json = |value: Value| value.to_string().into_bytes();
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let too_large = vec![b'x'; 4 * 1024 * 1024 + 1];
    vec![
        (400, "JSON", JSON, b"{ not json".to_vec()),
        (400, "`msg`", JSON, in_json(json!({}))),
        (400, "`msg`", JSON, in_json(json!({ "msg": 4711 }))),
        (400, "not base64", JSON, in_json(json!({ "msg": "%%%" }))),
        (400, "not known", JSON, in_json(json!({ "msg": base64(b"MSH|"), "encoding": "klingon" }))),
        (400, "byte 4 ", JSON, in_json(json!({ "msg": base64(b"MSH|\xff"), "encoding": "utf-8" }))),
        (400, "byte 4 ", ER7, b"MSH|\xff".to_vec()),
        (400, "UTF-8", "text/plain", b"MSH|\xff".to_vec()),
        (400, "empty", ER7, b"\x0b\r\n\x1c\r".to_vec()),
        (400, "empty", JSON, in_json(json!({ "msg": "" }))),
        (415, "expected", "application/xml", b"<ADT_A01/>".to_vec()),
        (413, "4194304 bytes", ER7, too_large.clone()),
        (413, "4194304 bytes", JSON, in_json(json!({ "msg": base64(&too_large) }))),
    ]
}

#[tokio::test]
async fn a_bad_body_gets_a_problem_document_and_queues_nothing() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    for (status, word, content_type, body) in bad_bodies() {
        let answer = it.api.submit(body, content_type, Some(&admin.token)).await?;
        let detail = answer.text("detail");
        assert_eq!((answer.status.as_u16(), detail.contains(word)), (status, true), "{content_type}: {detail}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["status"], status);
    }
    assert_eq!(it.records().await?, 0);
    Ok(())
}

#[tokio::test]
async fn without_an_institute_to_write_for_nothing_is_queued() -> Result<()> {
    let it = Harness::new()?;
    let long = "x".repeat(65);
    for write in ["", "../x", "a/b", "*", long.as_str(), "${aws:PrincipalTag/read}"] {
        let answer = it.submit(&it.caller(&it.institute, write).await?, &adt("1", "DOE")).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 403 && text.contains("Forbidden"), "{write:?}: {} {text}", answer.status);
    }
    assert_eq!(it.records().await?, 0);
    Ok(())
}

/// A token that a user pool has signed: of an app client of ours that the API does not know, or of another pool.
async fn foreign_token(it: &Harness, own_pool: bool) -> Result<SecretString> {
    use aws_sdk_cognitoidentityprovider::types::ExplicitAuthFlowsType::AllowUserPasswordAuth;
    let cognito = aws_sdk_cognitoidentityprovider::Client::new(it.aws.config());
    let pool_id = if own_pool {
        it.outputs.user_pool_id.clone()
    } else {
        use aws_sdk_cognitoidentityprovider::types::{AttributeDataType, SchemaAttributeType, UsernameAttributeType};
        let custom =
            |name| SchemaAttributeType::builder().name(name).attribute_data_type(AttributeDataType::String).mutable(true).build();
        let pool = cognito.create_user_pool().pool_name(unique()).username_attributes(UsernameAttributeType::Email);
        let pool = pool.schema(custom("read")).schema(custom("write")).send().await?;
        pool.user_pool.and_then(|pool| pool.id).unwrap()
    };
    let client = cognito.create_user_pool_client().user_pool_id(&pool_id).client_name(unique());
    let client = client.explicit_auth_flows(AllowUserPasswordAuth).send().await?.user_pool_client.unwrap();
    let email = format!("{}@test.example", unique());
    let user = sluice::local::users::create_user(&it.aws, &pool_id, &email, &it.institute, &it.institute).await?;
    client::sign_in::sign_in(&it.aws, client.client_id().unwrap(), &user).await
}

#[tokio::test]
async fn a_valid_token_of_another_pool_or_app_client_is_refused() -> Result<()> {
    let it = Harness::new()?;
    for own_pool in [true, false] {
        let token = foreign_token(&it, own_pool).await?;
        let answer = it.api.submit(adt("1", "DOE").into_bytes(), ER7, Some(&token)).await?;
        assert_eq!(answer.status, it.bad_token(), "own pool: {own_pool}");
    }
    assert_eq!(it.records().await?, 0);
    Ok(())
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_accepted() -> Result<()> {
    let it = Harness::new()?;
    let good = it.admin().await?.token.expose_secret().to_owned();
    let parts: Vec<&str> = good.split('.').collect();
    let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(parts[1])?;
    let with_claim = |name: &str, value: Value| {
        let mut claims: Value = serde_json::from_slice(&payload).unwrap();
        claims[name] = value;
        let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{}.{claims}.{}", parts[0], parts[2])
    };
    let bad = [
        String::new(),
        "not.a.token".to_owned(),
        good[..good.len() - 4].to_owned(),
        with_claim("exp", json!(1)),
        with_claim("custom:write", json!("st-elsewhere")),
        with_claim("iss", json!("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_OTHER")),
    ];
    for token in bad {
        let token = SecretString::from(token);
        let answer = it.api.submit(adt("1", "DOE").into_bytes(), ER7, Some(&token)).await?;
        assert_eq!(answer.status, it.bad_token());
    }
    assert_eq!(it.api.submit(adt("1", "DOE").into_bytes(), ER7, None).await?.status, 401);
    // `Authorization` holds the token with or without `Bearer`.
    let bare = it.api.request(reqwest::Method::POST, "/er7", None).header("authorization", &good).header("content-type", ER7);
    assert_eq!(client::http::send(bare.body(adt(&unique(), "DOE"))).await?.status, 200, "an ACK");
    Ok(())
}
