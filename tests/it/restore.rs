//! What the page on restoring says of records and objects: the same calls that its commands make.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue, TableStatus};
use client::http::ER7;
use reqwest::Method;
use sluice_tests::{DEADLINE, Harness, adt, unique};

#[tokio::test]
async fn a_lost_record_comes_back_from_another_table_and_overwrites_nothing() -> Result<()> {
    let it = Harness::new()?;
    let caller = it.admin().await?;
    let (message_id, before) = it.store(&caller, &adt(&unique(), "DOE")).await?;
    let client = aws_sdk_dynamodb::Client::new(it.aws.config());
    let (table, restored) = (&it.outputs.table, format!("restored-{}", unique()));

    // The local AWS keeps no history: the other table is as this one is now.
    let restore = client.restore_table_to_point_in_time().source_table_name(table).target_table_name(&restored);
    restore.use_latest_restorable_time(true).send().await?;
    let began = tokio::time::Instant::now();
    loop {
        let described = client.describe_table().table_name(&restored).send().await?;
        if described.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
            break;
        }
        anyhow::ensure!(began.elapsed() < DEADLINE, "the restored table does not become active");
        tokio::time::sleep(it.aws.poll_interval()).await;
    }
    let key = || {
        [("source", it.institute.clone()), ("message_id", message_id.to_string())]
            .map(|(name, value)| (name.to_owned(), AttributeValue::S(value)))
    };
    client.delete_item().table_name(table).set_key(Some(key().into())).send().await?;
    assert_eq!(it.api.status(message_id.as_str(), Some(&caller.token)).await?.status, 404);

    let found = client.get_item().table_name(&restored).set_key(Some(key().into())).send().await?;
    let item = found.item.context("the restored table has the record")?;
    let put = || {
        let request = client.put_item().table_name(table).set_item(Some(item.clone()));
        request.condition_expression("attribute_not_exists(message_id)").send()
    };
    put().await?;
    assert_eq!(it.api.status(message_id.as_str(), Some(&caller.token)).await?.json(), before);
    // What is there is newer.
    let refused = put().await.err().context("a record is overwritten")?;
    assert_eq!(refused.code(), Some("ConditionalCheckFailedException"));
    client.delete_table().table_name(&restored).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_deleted_object_comes_back_when_its_delete_marker_goes() -> Result<()> {
    let it = Harness::new()?;
    let caller = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let (message_id, _) = it.store(&caller, &message).await?;
    let (s3, bucket) = (it.aws.s3(), &it.outputs.bucket);
    let versions = it.object_versions().await?;
    let (key, _) = versions.iter().find(|(key, _)| key.ends_with(".hl7")).context("the message is in the lake")?;

    s3.delete_object().bucket(bucket).key(key).send().await?;
    assert!(s3.head_object().bucket(bucket).key(key).send().await.is_err(), "the object is still on top");
    // The record names its version, so the API does not see the marker.
    let request = it.api.request(Method::GET, &format!("/er7/{message_id}"), Some(&caller.token)).header("accept", ER7);
    let answer = client::http::send(request).await?;
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, message.as_bytes()));

    let listed = s3.list_object_versions().bucket(bucket).prefix(key).send().await?;
    let [marker] = listed.delete_markers() else { anyhow::bail!("not one delete marker: {:?}", listed.delete_markers()) };
    s3.delete_object().bucket(bucket).key(key).version_id(marker.version_id().context("a version")?).send().await?;
    let object = s3.get_object().bucket(bucket).key(key).send().await?;
    assert_eq!(object.body.collect().await?.to_vec(), message.as_bytes());
    Ok(())
}
