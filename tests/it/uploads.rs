//! Messages too large for a request: uploaded to S3 by a presigned URL, then submitted.

mod upload;

use anyhow::{Context, Result};
use domain::{Er7, MAX_UPLOAD_BYTES, UploadId};
use reqwest::Method;
use serde_json::{Value, json};
use sluice_tests::{Harness, adt, unique};

use crate::contract::root;

use upload::{Presigned, announce, take};
pub(crate) use upload::{put, taken};

#[tokio::test]
async fn a_presigned_url_takes_the_announced_bytes_once_and_no_others() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    let other = adt(&unique(), "ROE").into_bytes();
    let presigned = Presigned::of(&it, &admin, &message).await?;

    assert_eq!((other.len(), presigned.put(&other).await?), (message.len(), 400), "other bytes");
    let hash = UploadId::of(&other).checksum();
    assert_eq!(presigned.with("x-amz-checksum-sha256", &hash).put(&other).await?, 403, "other bytes and their hash");
    assert_eq!(presigned.without("x-amz-checksum-sha256").put(&other).await?, 403, "other bytes without a hash");
    let longer = [message.as_slice(), b"NTE|1\r"].concat();
    assert_eq!(presigned.with("content-length", &longer.len().to_string()).put(&longer).await?, 403, "another size");
    assert_eq!(presigned.without("if-none-match").put(&message).await?, 403, "over what is there");
    let elsewhere = |from: &str, to: &str| Presigned { url: presigned.url.replace(from, to), headers: presigned.headers.clone() };
    assert_eq!(elsewhere("_uploads/", "").put(&message).await?, 403, "another key");
    assert_eq!(elsewhere("X-Amz-Expires=900", "X-Amz-Expires=90000").put(&message).await?, 403, "for longer");
    assert_eq!(taken(&it, &admin, &message).await?.status, 404, "nothing of this is there");

    assert_eq!(presigned.put(&message).await?, 200);
    assert_eq!(presigned.put(&message).await?, 412, "a second time");
    assert_eq!(Presigned::of(&it, &admin, &message).await?.put(&message).await?, 412, "by another URL");
    let answer = taken(&it, &admin, &message).await?;
    assert_eq!(answer.status, 202, "{}", answer.json());
    Ok(())
}

#[tokio::test]
async fn an_upload_is_of_its_uploader_alone() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    put(&it, &admin, &message).await?;
    let id = UploadId::of(&message).to_string();

    let never = "0".repeat(64);
    for other in [it.admin().await?, elsewhere.admin().await?, it.caller("", &elsewhere.institute).await?] {
        let [theirs, nobodys] = [&id, &never].map(|id| take(&it, Some(&other.token), id));
        let (theirs, nobodys) = (theirs.await?, nobodys.await?);
        assert_eq!((theirs.status.as_u16(), theirs.text("type").as_str()), (404, "urn:sluice:problem:no-such-upload"));
        assert_eq!(sluice_tests::without_trace(&theirs), sluice_tests::without_trace(&nobodys));
    }
    let reader = it.caller(&it.institute, "").await?;
    it.is_refused_route(&take(&it, Some(&reader.token), &id).await?)?;
    it.is_refused_route(&announce(&it, &reader, &message).await?)?;
    assert_eq!(take(&it, None, &id).await?.status, 401);
    assert_eq!((it.records().await?, elsewhere.records().await?), (0, 0));
    assert_eq!(taken(&it, &admin, &message).await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_not_completed_leaves_no_record_and_goes_after_a_day() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE").into_bytes();
    assert_eq!(announce(&it, &admin, &message).await?.status, 201);
    assert_eq!(taken(&it, &admin, &message).await?.status, 404);
    put(&it, &admin, &message).await?;
    assert_eq!(it.records().await?, 0);

    // The local S3 has no lifecycle.
    let core = sluice_tests::template::template(&root().join("infra/core.yaml"))?;
    let rules =
        core["Resources"]["OverflowBucket"]["Properties"]["LifecycleConfiguration"]["Rules"].as_array().context("rules")?;
    let uploads: Vec<_> = rules.iter().filter(|it| it["Prefix"] == domain::object::UPLOADS).collect();
    let [rule] = uploads[..] else { panic!("{rules:?}") };
    assert_eq!((&rule["Status"], rule["ExpirationInDays"].to_string().trim_matches('"')), (&json!("Enabled"), "1"));
    Ok(())
}

#[tokio::test]
async fn an_upload_and_a_body_with_the_same_message_are_one_message() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let (message_id, _) = it.store(&admin, &message).await?;
    let framed = format!("\u{b}{message}\u{1c}\r").into_bytes();
    put(&it, &admin, &framed).await?;
    let answer = taken(&it, &admin, &framed).await?;
    assert_eq!((answer.status.as_u16(), answer.text("messageId")), (409, message_id.to_string()));

    let batch = [adt(&unique(), "DOE"), adt(&unique(), "ROE")];
    let body = batch.concat().into_bytes();
    put(&it, &admin, &body).await?;
    let answer = taken(&it, &admin, &body).await?;
    assert_eq!((answer.status.as_u16(), &answer.json()["queued"]), (202, &json!(2)));
    for message in &batch {
        let id = Er7::canonical(message)?.message_id().to_string();
        assert_eq!(it.api.final_status(&id, &admin.token, sluice_tests::DEADLINE).await?["status"], "stored");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_request_for_an_upload_gets_a_problem_document_that_does_not_quote_it() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let ask = async |body: Value| {
        client::http::send(it.api.request(Method::POST, "/er7/uploads", Some(&admin.token)).json(&body)).await
    };
    let hash = "0".repeat(64);
    for (body, status) in [
        (json!({ "size": MAX_UPLOAD_BYTES + 1, "sha256": hash }), 413),
        (json!({ "size": 0, "sha256": hash }), 400),
        (json!({ "size": 7, "sha256": "SECRET" }), 400),
        (json!(["SECRET"]), 400),
    ] {
        let answer = ask(body.clone()).await?;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.text("type").starts_with("urn:sluice:problem:") && !answer.json().to_string().contains("SECRET"));
    }
    assert_eq!(take(&it, Some(&admin.token), "SECRET").await?.text("type"), "urn:sluice:problem:invalid-upload-id");
    Ok(())
}
