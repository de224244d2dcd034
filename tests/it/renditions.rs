//! A lake that holds renditions of both versions, as one does that an earlier version of Sluice has written to: whoever reads it reads
//! both.

use anyhow::{Context, Result, ensure};
use client::http::JSON;
use domain::{Er7, MessageId, object};
use serde_json::Value;
use sluice_tests::{Harness, adt, unique};

/// The rendition of version 1: without a version and an origin, and not compressed.
pub(crate) fn of_version_1(message: &Er7) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    hl7::write_json(message, &hl7::Delimiters::of(message).context("delimiters")?, &mut json)?;
    Ok(String::from_utf8(json)?.replacen("{\"version\":2,", "{", 1).into_bytes())
}

/// Replaces the rendition of a stored message by that of version 1.
pub(crate) async fn replace(it: &Harness, message_id: &MessageId) -> Result<()> {
    let (s3, facts) = (it.aws.s3(), it.record(message_id).await?.facts.context("stored")?);
    let er7 = s3.get_object().bucket(&facts.bucket).key(&facts.key).send().await?.body.collect().await?.to_vec();
    let json = of_version_1(&Er7::canonical(&String::from_utf8(er7)?)?)?;
    let compressed = facts.json_key.context("a rendition")?;
    ensure!(object::is_compressed(&compressed), "{compressed}");
    let key = compressed.trim_end_matches(".gz");
    let put = s3.put_object().bucket(&facts.bucket).key(key).content_type(JSON).body(json.into());
    let put = put.tagging(object::tagging(&it.institute.parse()?, facts.state)).send().await?;
    s3.delete_object().bucket(&facts.bucket).key(&compressed).set_version_id(facts.json_version_id).send().await?;
    it.set(message_id, "json_key", key).await?;
    it.set(message_id, "json_version_id", put.version_id().context("a version")?).await
}

#[tokio::test]
async fn renditions_of_both_versions_are_read_alike() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let messages = [adt(&unique(), "DOE"), adt(&unique(), "ROE")];
    let mut ids = Vec::new();
    for message in &messages {
        ids.push(it.store(&admin, message).await?.0);
    }
    replace(&it, &ids[0]).await?;

    for ((id, message), version) in ids.iter().zip(&messages).zip([Value::Null, 2.into()]) {
        let request = it.api.request(reqwest::Method::GET, &format!("/er7/{id}"), Some(&admin.token));
        let answer = client::http::send(request.header("accept", JSON)).await?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text("detail"));
        assert_eq!(hl7::read_json(&answer.body)?.as_str(), message);
        assert_eq!(answer.json()["version"], version);
    }
    // The audit reads the objects.
    let report = it.audit_until_clean(vec![it.institute.parse()?]).await?;
    assert_eq!((report.checked.records, report.checked.objects), (2, 4));
    Ok(())
}
