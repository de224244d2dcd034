//! Who did what, as the logs tell an auditor, and what CloudTrail records beside them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::{MessageId, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};
use sluice::operator::accounting::{Access, Of, Question, account, beginning_with};
use sluice_tests::template::template;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::contract::root;
use crate::{held, logs};

/// `sub` of an ID token.
fn subject(token: &SecretString) -> Result<String> {
    Ok(client::tokens::TokenClaims::of(token)?.sub)
}

/// The account, once it has all of these actions.
async fn until(it: &Harness, of: Of, since: i64, actions: &[&str]) -> Result<Vec<Access>> {
    let (from, began) = (Timestamp::from_millis(since).context("a time")?, tokio::time::Instant::now());
    loop {
        let found = account(&it.aws, it.outputs, &Question { of: of.clone(), from, to: None }).await?;
        let done: BTreeSet<&str> = found.iter().map(|access| access.action.as_str()).collect();
        if actions.iter().all(|action| done.contains(action)) {
            return Ok(found);
        }
        ensure!(began.elapsed() < DEADLINE, "only {done:?} of {actions:?}: {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Who did what, each once.
fn deeds(accesses: &[Access]) -> BTreeSet<(String, String)> {
    accesses.iter().map(|it| (it.action.clone(), it.subject.clone().unwrap_or_default())).collect()
}

#[tokio::test]
async fn an_auditor_is_told_who_had_to_do_with_a_message_from_where() -> Result<()> {
    let it = Harness::new()?;
    let (since, writer, reader) = (logs::now(), it.admin().await?, it.caller(&it.institute, "").await?);
    let [writer_sub, reader_sub] = [subject(&writer.token)?, subject(&reader.token)?];
    let (message_id, _) = it.store(&writer, &adt(&unique(), "DOE")).await?;
    let get = async |caller: &Caller, path: String| it.api.get(&path, Some(&caller.token)).await;
    assert_eq!(get(&reader, format!("/er7/{message_id}")).await?.status, 200);
    assert_eq!(get(&reader, "/er7".to_owned()).await?.status, 200);

    let found = until(&it, Of::Message(message_id.clone()), since, &["submit", "read", "status"]).await?;
    let expected = [("submit", &writer_sub), ("status", &writer_sub), ("read", &reader_sub)];
    assert_eq!(deeds(&found), expected.map(|(action, who)| (action.to_owned(), who.clone())).into());
    let access_log_ids: BTreeSet<_> = found.iter().filter_map(|it| it.api_request_id.clone()).collect();
    for access in &found {
        let is_complete =
            access.source_ip.is_some() && access.route.is_some() && access.trace_id.is_some() && access.issuer.is_some();
        assert!(is_complete && access.source.as_deref() == Some(it.institute.as_str()), "{access:?}");
    }
    assert_eq!(access_log_ids.len(), found.len(), "each request has an id of its own");

    // The first digits of its id name it.
    let from = Timestamp::from_millis(since).context("a time")?;
    let named = beginning_with(&it.aws, it.outputs, message_id.as_str().get(..8).context("digits")?, from, None).await?;
    assert_eq!(named, BTreeSet::from([message_id.clone()]));

    // A person's account has the listing too, and nobody else's deeds.
    let of_reader = until(&it, Of::Person(reader_sub.clone()), since, &["read", "list"]).await?;
    assert_eq!(deeds(&of_reader), ["read", "list"].map(|action| (action.to_owned(), reader_sub.clone())).into());
    let listing = of_reader.iter().find(|access| access.action == "list").context("a listing")?;
    assert_eq!(listing.messages.as_deref(), Some("1"));
    // Of the institute both.
    let all = until(&it, Of::Institute(it.institute.parse()?), since, &["submit", "read", "list", "status"]).await?;
    assert!(deeds(&all).is_superset(&deeds(&found)) && deeds(&all).is_superset(&deeds(&of_reader)));
    // And before it began nothing.
    let from = Timestamp::from_millis(since - 60_000).context("a time")?;
    let before = Question { of: Of::Message(message_id), from, to: Timestamp::from_millis(since) };
    assert_eq!(account(&it.aws, it.outputs, &before).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_refusal_and_a_release_have_a_name_too() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin, reader) = (logs::now(), it.admin().await?, it.caller(&it.institute, "").await?);
    let envelope = held::expired(&it).await?;
    let message_id = envelope.message_id.clone();
    it.is_refused_route(&it.api.release(message_id.as_str(), &reader.token).await?)?;
    assert_eq!(it.api.release(message_id.as_str(), &admin.token).await?.status, 202);
    let [admin_sub, reader_sub] = [subject(&admin.token)?, subject(&reader.token)?];
    let found = until(&it, Of::Message(message_id), since, &["release"]).await?;
    assert!(
        found.iter().any(|it| it.action == "release" && it.outcome == "released" && it.subject.as_ref() == Some(&admin_sub)),
        "{found:?}"
    );
    let action = if it.is_unified() { "refused" } else { "release" };
    let refused = until(&it, Of::Person(reader_sub), since, &[action]).await?;
    assert!(refused.iter().all(|it| it.source_ip.is_some() && it.outcome != "released"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_of_a_batch_has_the_post_that_brought_it() -> Result<()> {
    let it = Harness::new()?;
    let (since, admin) = (logs::now(), it.admin().await?);
    let answer = it.submit(&admin, &[adt(&unique(), "DOE"), adt(&unique(), "DOE")].concat()).await?;
    assert_eq!(answer.status, 202);
    let message_id: MessageId = answer.json()["messages"][1]["messageId"].as_str().context("an id")?.parse()?;
    it.api.final_status(message_id.as_str(), &admin.token, DEADLINE).await?;
    let found = until(&it, Of::Message(message_id), since, &["submit"]).await?;
    let posts: Vec<_> = found.iter().filter(|access| access.action == "submit").collect();
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert_eq!((posts[0].submission_id.clone(), posts[0].messages.as_deref()), (Some(answer.text("submissionId")), Some("2")));
    assert_eq!(posts[0].subject, Some(subject(&admin.token)?));
    Ok(())
}

/// The local AWS has no CloudTrail, so that it writes what this says is not tried here.
#[test]
fn the_trail_records_every_access_and_cannot_be_shortened() -> Result<()> {
    let core = template(&root().join("infra/core.yaml"))?;
    let resources = &core["Resources"];
    let trail = &resources["Trail"]["Properties"];
    let selectors = trail["AdvancedEventSelectors"].as_array().context("selectors")?;
    let fields = |selector: &Value, field: &str| -> Vec<Value> {
        let selectors = selector["FieldSelectors"].as_array().cloned().unwrap_or_default();
        let of_field = selectors.into_iter().filter(|it| it["Field"] == field);
        of_field
            .flat_map(|it| {
                [&it["Equals"], &it["StartsWith"]].into_iter().filter_map(Value::as_array).flatten().cloned().collect::<Vec<_>>()
            })
            .collect()
    };
    let arns: Vec<Value> = selectors.iter().flat_map(|selector| fields(selector, "resources.ARN")).collect();
    let expected = [
        json!({ "Fn::Sub": "${LakeBucket.Arn}/" }),
        json!({ "Fn::Sub": "${HeldBucket.Arn}/" }),
        json!({ "Fn::Sub": [
            "arn:${AWS::Partition}:s3:::${Deployment}-tables-",
            { "Deployment": { "Fn::Select": [0, { "Fn::Split": ["-core", { "Ref": "AWS::StackName" }] }] } },
        ] }),
        json!({ "Fn::GetAtt": "CatalogTable.Arn" }),
        json!({ "Fn::GetAtt": "PatientTable.Arn" }),
    ];
    assert_eq!(arns, expected);
    let categories: Vec<Value> = selectors.iter().flat_map(|selector| fields(selector, "eventCategory")).collect();
    assert_eq!(categories, ["Management", "Data", "Data"]);
    assert_eq!((&trail["EnableLogFileValidation"], &trail["IsLogging"]), (&json!(true), &json!(true)));

    let bucket = &resources["AccessTrailBucket"];
    let retention = &bucket["Properties"]["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
    assert_eq!(*retention, json!({ "Mode": "COMPLIANCE", "Years": { "Ref": "AccessTrailYears" } }));
    assert_eq!(core["Parameters"]["AccessTrailYears"]["Default"], 6);
    for name in ["AccessTrailKey", "AccessTrailBucket", "AccessTrailBucketPolicy"] {
        assert_eq!(resources[name]["DeletionPolicy"], "RetainExceptOnCreate", "{name}");
        assert_eq!(resources[name]["Condition"], "HasAccessTrail", "{name}");
    }
    assert_eq!(resources["Trail"]["Condition"], "HasAccessTrail");
    // Not the data's key, which can be deleted with the data.
    assert_eq!(trail["KMSKeyId"], json!({ "Fn::GetAtt": "AccessTrailKey.Arn" }));
    assert_eq!(core["Parameters"]["AccessTrail"]["Default"], "false");
    Ok(())
}
