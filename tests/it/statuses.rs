//! `POST /er7/status`: how far each of many messages has come.

use anyhow::Result;
use client::http::{Answer, JSON, send};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use sluice_tests::{Caller, Harness, adt, unique};

async fn ask(it: &Harness, caller: &Caller, body: impl Into<reqwest::Body>) -> Result<Answer> {
    let request = it.api.request(Method::POST, "/er7/status", Some(&caller.token));
    send(request.header(CONTENT_TYPE, JSON).header(ACCEPT, JSON).body(body)).await
}

async fn statuses(it: &Harness, caller: &Caller, ids: &[String]) -> Result<Vec<Value>> {
    let answer = ask(it, caller, json!({ "messageIds": ids }).to_string()).await?;
    assert_eq!(answer.status, 200, "{}", answer.json());
    Ok(answer.json()["statuses"].as_array().cloned().unwrap_or_default())
}

fn unknown(id: &str) -> Value {
    json!({ "messageId": id, "status": "unknown" })
}

#[tokio::test]
async fn the_status_of_many_messages_is_that_of_each_in_the_order_asked() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(it.store(&admin, &adt(&unique(), "DOE")).await?.0.to_string());
    }
    let nowhere = "0".repeat(64);
    let asked = [ids[1].clone(), nowhere.clone(), ids[0].clone(), ids[1].clone()];
    let found = statuses(&it, &admin, &asked).await?;
    let single =
        [it.api.status(&ids[0], Some(&admin.token)).await?.json(), it.api.status(&ids[1], Some(&admin.token)).await?.json()];
    assert_eq!(single[1]["status"], "stored");
    assert_eq!(found, [single[1].clone(), unknown(&nowhere), single[0].clone(), single[1].clone()]);
    assert_eq!(statuses(&it, &admin, &[]).await?, [] as [Value; 0]);
    // More than one request to DynamoDB takes, with the two at the ends.
    let mut many: Vec<String> = (0..500).map(|nth| format!("{nth:064x}")).collect();
    many[0].clone_from(&ids[0]);
    many[499].clone_from(&ids[1]);
    let found = statuses(&it, &admin, &many).await?;
    assert_eq!((found.len(), &found[0], &found[499]), (500, &single[0], &single[1]));
    assert!(found[1..499].iter().zip(&many[1..499]).all(|(found, id)| *found == unknown(id)));
    Ok(())
}

#[tokio::test]
async fn the_status_of_another_institutes_message_is_unknown() -> Result<()> {
    let it = Harness::new()?;
    let id = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?.0.to_string();
    let ids = [id.clone()];
    let other = unique();
    let stranger = it.caller(&other, &other).await?;
    assert_eq!(statuses(&it, &stranger, &ids).await?, [unknown(&id)]);
    // Who reads for one institute and writes for another sees what is known of either.
    for (read, write) in
        [(it.institute.as_str(), other.as_str()), (&other, &it.institute), (&it.institute, ""), ("", &it.institute)]
    {
        let caller = it.caller(read, write).await?;
        assert_eq!(statuses(&it, &caller, &ids).await?[0]["status"], "stored", "reads {read}, writes {write}");
    }
    it.is_refused_route(&ask(&it, &it.caller("", "").await?, json!({ "messageIds": ids }).to_string()).await?)
}

#[tokio::test]
async fn a_bad_question_for_many_gets_a_problem_document_that_does_not_quote_it() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let id = "0".repeat(64);
    let cases = [
        (json!({ "messageIds": vec![&id; 501] }).to_string(), "at most 500"),
        (json!({ "messageIds": [&id, "SECRET"] }).to_string(), "`messageIds[1]`"),
        (json!({ "messageIds": [&id, 7] }).to_string(), "`messageIds[1]`"),
        (json!({ "messageIds": "SECRET" }).to_string(), "a list `messageIds`"),
        (json!(["SECRET"]).to_string(), "a list `messageIds`"),
        ("SECRET".to_owned(), "a list `messageIds`"),
        (String::new(), "a list `messageIds`"),
    ];
    for (body, detail) in cases {
        let answer = ask(&it, &admin, body.clone()).await?;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text("detail").contains(detail), "{body}: {}", answer.json());
        assert!(!String::from_utf8_lossy(&answer.body).contains("SECRET"));
    }
    Ok(())
}
