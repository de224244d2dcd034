//! Messages are found by a patient, of whom the index has nothing but keyed hashes. Who gets nothing there: `attacks::the_patients`.

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use client::deployment::Deployment;
use client::http::JSON;
use client::read::{Pages, Query};
use client::{Client, ServiceAccount};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluice::operator::reindex::{Reindexed, reindex_patients};
use sluice::output::Reporter;
use sluice_tests::{Caller, Harness, unique};

/// A message about a patient with these identifiers (PID-3).
fn about(identifiers: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{}|P|2.5.1\rEVN|A01|20260102030405\r\
         PID|1||{identifiers}||DOE^JANE||19800101|F\rPV1|1|I\r",
        unique()
    )
}

async fn search(it: &Harness, caller: &Caller, body: &Value) -> Result<(u16, Value)> {
    let request = it.api.request(reqwest::Method::POST, "/er7/search", Some(&caller.token));
    let answer = client::http::send(request.header("content-type", JSON).body(body.to_string())).await?;
    Ok((answer.status.as_u16(), answer.json()))
}

/// The ids of what is found, in order.
async fn found(it: &Harness, caller: &Caller, patient: &str) -> Result<Vec<String>> {
    let (status, body) = search(it, caller, &json!({ "patient": patient })).await?;
    ensure!(status == 200 && body.get("cursor").is_none(), "{status}: {body}");
    ids(&body)
}

fn ids(body: &Value) -> Result<Vec<String>> {
    let ids = body["messages"].as_array().context("messages")?.iter().map(|it| it["messageId"].as_str().map(str::to_owned));
    ids.collect::<Option<_>>().context("ids")
}

/// Everything in the index of an institute, as root sees it.
async fn entries(it: &Harness, institute: &str) -> Result<Vec<std::collections::HashMap<String, AttributeValue>>> {
    let query = aws_sdk_dynamodb::Client::new(it.aws.config()).query().table_name(it.outputs.stack_output("PatientTableName")?);
    let query = query.key_condition_expression("#s = :s").expression_attribute_names("#s", "source");
    Ok(query.expression_attribute_values(":s", S(institute.to_owned())).send().await?.items.unwrap_or_default())
}

/// The hashes that the keys of an institute's entries begin with.
async fn hashes(it: &Harness, institute: &str) -> Result<BTreeSet<String>> {
    let entries = entries(it, institute).await?;
    let keys = entries.iter().filter_map(|entry| entry.get("patient_at")?.as_s().ok());
    Ok(keys.filter_map(|key| Some(key.split_once('\t')?.0.to_owned())).collect())
}

#[tokio::test]
async fn a_patients_messages_are_found_by_an_identifier_and_by_who_assigned_it() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (one, other) = (unique(), unique());
    let mut stored = Vec::new();
    for identifiers in
        [format!("{one}^^^HIS^MR~{other}^^^HEALTH&1.2.3&ISO"), format!("{one}^^^LAB^PI"), format!("{one}0^^^HIS^MR")]
    {
        stored.push(it.store(&admin, &about(&identifiers)).await?.0.to_string());
    }
    let [first, second, third] = [0, 1, 2].map(|n| stored[n].clone());
    let table = [
        (one.clone(), vec![second.clone(), first.clone()]),
        (format!(" {one}^^^"), vec![second.clone(), first.clone()]),
        (format!("{one}^^^HIS"), vec![first.clone()]),
        (format!("{one}^8^M10^LAB&9.9&ISO^PI"), vec![second.clone()]),
        (format!("{other}^^^1.2.3"), vec![first.clone()]),
        (other.clone(), vec![first.clone()]),
        (format!("{other}^^^HIS"), vec![]),
        (format!("{one}0"), vec![third]),
        (one.to_uppercase(), vec![]),
        (unique(), vec![]),
    ];
    for (patient, expected) in table {
        assert_eq!(found(&it, &admin, &patient).await?, expected, "{patient}");
    }

    // What is found is shown as a listing shows it.
    let (_, answer) = search(&it, &admin, &json!({ "patient": format!("{one}^^^LAB") })).await?;
    let listed = it.api.get(&format!("/er7?idPrefix={second}"), Some(&admin.token)).await?.json();
    assert_eq!(answer["messages"], listed["messages"]);
    // Page by page, and of a time.
    let (_, page) = search(&it, &admin, &json!({ "patient": one, "limit": 1 })).await?;
    assert_eq!(ids(&page)?, std::slice::from_ref(&second));
    let cursor = page["cursor"].as_str().context("a cursor")?;
    let (_, rest) = search(&it, &admin, &json!({ "patient": one, "limit": 1, "cursor": cursor })).await?;
    assert_eq!((ids(&rest)?, rest.get("cursor")), (vec![first], None));
    let (status, problem) = search(&it, &admin, &json!({ "patient": other, "cursor": cursor })).await?;
    assert_eq!((status, &problem["type"]), (400, &json!("urn:sluice:problem:invalid-query")));
    let (_, earlier) = search(&it, &admin, &json!({ "patient": one, "to": "2026-01-01" })).await?;
    assert_eq!(earlier["messages"], json!([]));
    let (status, problem) = search(&it, &admin, &json!({ "patients": one })).await?;
    assert!(status == 400 && !problem.to_string().contains(&one), "{problem}");
    Ok(())
}

#[tokio::test]
async fn only_an_institutes_readers_search_in_its_index_by_patient() -> Result<()> {
    let (it, elsewhere) = (Harness::new()?, Harness::new()?);
    let patient = unique();
    let (mine, _) = it.store(&it.admin().await?, &about(&format!("{patient}^^^HIS"))).await?;
    // The same patient, in another institute.
    let (theirs, _) = elsewhere.store(&elsewhere.admin().await?, &about(&format!("{patient}^^^HIS"))).await?;
    assert_eq!(found(&it, &it.caller(&it.institute, "").await?, &patient).await?, [mine.to_string()]);
    assert_eq!(found(&it, &elsewhere.caller(&elsewhere.institute, "").await?, &patient).await?, [theirs.to_string()]);
    for (read, write) in [("", it.institute.as_str()), ("", "")] {
        let caller = it.caller(read, write).await?;
        let (status, _) = search(&it, &caller, &json!({ "patient": patient })).await?;
        assert_eq!(status, 403, "{read:?} {write:?}");
    }
    // Neither is a hash of one institute good for anything in another, nor does any entry say who the patient is.
    let (here, there) = (hashes(&it, &it.institute).await?, hashes(&it, &elsewhere.institute).await?);
    assert_eq!((here.len(), there.len(), here.intersection(&there).count()), (1, 1, 0));
    let kept = format!("{:?}", entries(&it, &it.institute).await?);
    assert!(!kept.contains(&patient) && !kept.contains("HIS") && kept.contains(mine.as_str()), "{kept}");
    Ok(())
}

#[tokio::test]
async fn earlier_messages_are_put_into_the_index_under_a_readers_sign_in() -> Result<()> {
    let it = Harness::new()?;
    let (admin, patient) = (it.admin().await?, unique());
    let (message_id, _) = it.store(&admin, &about(&patient)).await?;
    it.store(&admin, "NOT HL7").await?;
    let dynamodb = aws_sdk_dynamodb::Client::new(it.aws.config());
    for entry in entries(&it, &it.institute).await? {
        let key = ["source", "patient_at"].map(|name| (name.to_owned(), entry[name].clone()));
        let delete = dynamodb.delete_item().table_name(it.outputs.stack_output("PatientTableName")?);
        delete.set_key(Some(key.into())).send().await?;
    }
    assert_eq!(found(&it, &admin, &patient).await?, [""; 0], "as it was before there was the index");

    let (_password_file, reader) = signed_in(&it).await?;
    for _ in 0..2 {
        let done = reindex_patients(&it.aws, it.outputs, &reader, &Reporter::silent().step("indexing")).await?;
        assert_eq!(done, Reindexed { records: 2, indexed: 1 });
    }
    assert_eq!(found(&it, &admin, &patient).await?, [message_id.to_string()]);
    // As `sluice find --patient` asks.
    let query = Query { patient: Some(patient.parse()?), ..Query::default() };
    let listed = Pages::new(&reader, query).next(10).await?;
    assert_eq!(listed.iter().map(|it| &it.status.message_id).collect::<Vec<_>>(), [&message_id]);
    Ok(())
}

/// Somebody who may read, signed in as `sluice login` does it. The file with the password has to stay for as long.
async fn signed_in(it: &Harness) -> Result<(tempfile::NamedTempFile, Client)> {
    let email = format!("{}@test.example", unique());
    let user = sluice::local::users::create_user(&it.aws, &it.outputs.user_pool_id, &email, &it.institute, "").await?;
    let mut password_file = tempfile::NamedTempFile::new()?;
    password_file.write_all(user.password.expose_secret().as_bytes())?;
    let deployment = Deployment::try_from(it.outputs)?;
    let account = ServiceAccount { email, password_file: password_file.path().to_owned(), deployment };
    let client = Client::sign_in_until(account, tokio::sync::watch::channel(false).1).await?;
    Ok((password_file, client))
}
