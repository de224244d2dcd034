//! Who is let in, and to which route: the worker `authorize` and its policies, as deployed.
//!
//! Each test says what holds under `Authorization=jwt` too, where API Gateway lets in the institutes' users and nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::http::{self, Answer};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};
use tokio::time::Instant;

use crate::logs::{self, AUTHORIZE};

/// Somebody of the lake's own staff, signed in to their own pool.
pub(crate) async fn staff(it: &Harness) -> Result<Caller> {
    let email = format!("{}@lake.example", unique());
    let user = sluice::local::users::create_user(&it.aws, it.outputs.stack_output("StaffUserPoolId")?, &email, "", "").await?;
    Ok(Caller { token: client::sign_in::sign_in(&it.aws, it.outputs.stack_output("StaffUserPoolClientId")?, &user).await? })
}

/// The claims of a caller's ID token.
pub(crate) fn claims(caller: &Caller) -> Result<Value> {
    use base64::Engine as _;
    let payload = caller.token.expose_secret().split('.').nth(1).context("a payload")?;
    Ok(serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload)?)?)
}

async fn ask(it: &Harness, method: Method, path: &str, caller: &Caller) -> Result<Answer> {
    http::send(it.api.request(method, path, Some(&caller.token))).await
}

async fn status_of(it: &Harness, path: &str, caller: &Caller) -> Result<u16> {
    Ok(ask(it, Method::GET, path, caller).await?.status.as_u16())
}

/// The authorizer's lines about this caller since then, once there are so many.
async fn decisions(it: &Harness, caller: &Caller, since: i64, count: usize) -> Result<Vec<Value>> {
    let group = logs::group_of(it, AUTHORIZE)?;
    let claims = claims(caller)?;
    let subject = claims["sub"].as_str().context("a sub")?;
    let began = std::time::Instant::now();
    loop {
        let lines = logs::structured(&logs::lines(it, &group, since, subject).await?)?;
        if lines.len() >= count || began.elapsed() > DEADLINE {
            return Ok(lines);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn lake_staff_see_the_status_of_any_message_and_never_its_content() -> Result<()> {
    let it = Harness::new()?;
    let (admin, staff) = (it.admin().await?, staff(&it).await?);
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let list = format!("/institutes/{}/er7", it.institute);
    let status = format!("/institutes/{}/er7/{message_id}/status", it.institute);
    if !it.is_unified() {
        for path in [&list, &status] {
            assert_eq!(status_of(&it, path, &staff).await?, 401, "{path}");
        }
        return Ok(());
    }
    let listed = ask(&it, Method::GET, &list, &staff).await?;
    assert_eq!(listed.status, 200, "{}", listed.json());
    assert_eq!(listed.json()["messages"][0]["messageId"], message_id.as_str());
    let found = ask(&it, Method::GET, &status, &staff).await?;
    assert_eq!((found.status.as_u16(), found.text("status")), (200, "stored".to_owned()));
    let unknown = format!("/institutes/{}/er7/{}/status", it.institute, "0".repeat(64));
    assert_eq!(status_of(&it, &unknown, &staff).await?, 404);
    assert_eq!(status_of(&it, "/institutes/-west/er7", &staff).await?, 400);

    for (method, path) in [
        (Method::GET, format!("/er7/{message_id}")),
        (Method::HEAD, format!("/er7/{message_id}")),
        (Method::GET, "/er7".to_owned()),
        (Method::GET, format!("/er7/{message_id}/status")),
    ] {
        assert_eq!(ask(&it, method.clone(), &path, &staff).await?.status, 403, "{method} {path}");
    }
    assert_eq!(it.submit(&staff, &adt(&unique(), "DOE")).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn an_institutes_users_name_their_own_institute_and_no_other() -> Result<()> {
    let (it, other) = (Harness::new()?, Harness::new()?);
    let (admin, writer, stranger) = (it.admin().await?, it.caller("", &it.institute).await?, other.admin().await?);
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let list = format!("/institutes/{}/er7", it.institute);
    let status = format!("/institutes/{}/er7/{message_id}/status", it.institute);
    for path in [&list, &status] {
        assert_eq!(status_of(&it, path, &admin).await?, 200, "{path}");
        // By the policies, or by IAM, which compares the table's partition with the caller's tag.
        assert_eq!(status_of(&it, path, &stranger).await?, 403, "{path}");
    }
    assert_eq!(status_of(&it, &list, &writer).await?, 403);
    Ok(())
}

#[tokio::test]
async fn an_access_token_is_refused() -> Result<()> {
    use aws_sdk_cognitoidentityprovider::types::AuthFlowType;
    let it = Harness::new()?;
    let email = format!("{}@test.example", unique());
    let user = sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, &it.institute, &it.institute).await?;
    let request = aws_sdk_cognitoidentityprovider::Client::new(it.aws.config()).initiate_auth();
    let request = request.client_id(&it.outputs.client_id).auth_flow(AuthFlowType::UserPasswordAuth);
    let request = request.auth_parameters("USERNAME", &user.email).auth_parameters("PASSWORD", user.password.expose_secret());
    let tokens = request.send().await?.authentication_result.context("tokens")?;
    let caller = |token: Option<String>| anyhow::Ok(Caller { token: token.context("a token")?.into() });
    assert_eq!(status_of(&it, "/er7", &caller(tokens.id_token)?).await?, 200);
    assert_eq!(status_of(&it, "/er7", &caller(tokens.access_token)?).await?, it.bad_token());
    Ok(())
}

#[tokio::test]
async fn every_decision_is_logged_with_its_policies_and_without_the_token() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, nobody) = (logs::now(), it.admin().await?, it.caller("", "").await?);
    assert_eq!(it.submit(&admin, &adt(&unique(), "DOE")).await?.status, 202);
    assert_eq!(status_of(&it, "/er7", &nobody).await?, 403);
    if !it.is_unified() {
        return Ok(()); // API Gateway decides, and says nothing of it.
    }
    let [allowed] = &decisions(&it, &admin, since, 1).await?[..] else { anyhow::bail!("one decision") };
    for (field, value) in [
        ("outcome", "allowed"),
        ("provider", "institutes"),
        ("route", "POST /er7"),
        ("action", "submit"),
        ("policies", "institutes-submit"),
    ] {
        assert_eq!(allowed[field], value, "{allowed}");
    }
    let [denied] = &decisions(&it, &nobody, since, 1).await?[..] else { anyhow::bail!("one decision") };
    assert_eq!((&denied["outcome"], &denied["route"]), (&"denied".into(), &"GET /er7".into()), "{denied}");

    let bad = format!("{}x", admin.token.expose_secret());
    assert_eq!(status_of(&it, "/er7", &Caller { token: bad.into() }).await?, 403);
    let group = logs::group_of(&it, AUTHORIZE)?;
    let began = std::time::Instant::now();
    let lines = loop {
        let lines = logs::lines(&it, &group, since, "").await?;
        if lines.iter().any(|line| line.text.contains("\"outcome\":\"refused\"")) {
            break lines;
        }
        anyhow::ensure!(began.elapsed() < DEADLINE, "no refusal is logged");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for part in admin.token.expose_secret().split('.').chain(nobody.token.expose_secret().split('.')) {
        assert!(!lines.iter().any(|line| line.text.contains(part)), "a part of a token is logged");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_is_remembered_for_that_token_route_and_path_and_no_other() -> Result<()> {
    let it = Harness::new()?;
    if !it.is_unified() {
        // There is nothing that remembers: each request's token is verified.
        let reader = it.caller(&it.institute, "").await?;
        assert_eq!(status_of(&it, "/er7", &reader).await?, 200);
        assert_eq!(it.submit(&reader, &adt(&unique(), "DOE")).await?.status, 403);
        return Ok(());
    }
    let since = logs::now();
    let paths = ["0", "1"].map(|digit| format!("/er7/{}", digit.repeat(64)));
    let started = Instant::now();
    let (reader, nobody) = loop {
        let (reader, nobody) = (it.caller(&it.institute, "").await?, it.caller("", "").await?);
        let began = Instant::now();
        for _ in 0..3 {
            // One after the other: allowed and denied in turn, on the same paths.
            for path in &paths {
                assert_eq!(status_of(&it, path, &reader).await?, 404);
                assert_eq!(status_of(&it, path, &nobody).await?, 403);
            }
            assert_eq!(ask(&it, Method::HEAD, &paths[0], &reader).await?.status, 404);
            assert_eq!(it.submit(&reader, &adt(&unique(), "DOE")).await?.status, 403, "a right to read is none to submit");
        }
        // API Gateway remembers a decision for 60 s (`AuthorizerResultTtlInSeconds`). If the rounds took longer, others repeat them.
        if began.elapsed() < Duration::from_secs(60) {
            break (reader, nobody);
        }
        ensure!(started.elapsed() < DEADLINE * 2, "the rounds take longer than API Gateway remembers");
    };
    let counted = async |caller: &Caller, count: usize| {
        let mut counts = BTreeMap::new();
        for line in decisions(&it, caller, since, count).await? {
            *counts.entry(line["route"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        anyhow::Ok(counts)
    };
    // Three rounds, and each of these was asked about once.
    let of_reader = [("GET /er7/{messageId}", 2), ("HEAD /er7/{messageId}", 1), ("POST /er7", 1)];
    assert_eq!(counted(&reader, 4).await?, of_reader.map(|(route, count)| (route.to_owned(), count)).into());
    assert_eq!(counted(&nobody, 2).await?, BTreeMap::from([("GET /er7/{messageId}".to_owned(), 2)]));
    Ok(())
}
