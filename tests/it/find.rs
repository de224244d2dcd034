//! A control id is looked up in an index of the catalog.

use std::time::Instant;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue::S;
use serde_json::Value;
use sluice::operator::reindex::{Reindexed, reindex};
use sluice::output::Reporter;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::logs;

async fn found(it: &Harness, caller: &Caller, query: &str) -> Result<Vec<String>> {
    let answer = it.api.get(&format!("/er7?{query}"), Some(&caller.token)).await?;
    let body = answer.json();
    anyhow::ensure!(answer.status == 200 && body.get("cursor").is_none(), "{}: {body}", answer.status);
    let ids = body["messages"].as_array().context("messages")?.iter().map(|it| it["messageId"].as_str().map(str::to_owned));
    ids.collect::<Option<_>>().context("ids")
}

#[tokio::test]
async fn a_message_is_found_by_its_control_id_in_one_request_to_dynamodb() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    // An ADT is sent again with a correction: another message of the same control id.
    let control_id = unique();
    let messages = [adt(&control_id, "DOE"), adt(&control_id, "ROE"), adt(&format!("{control_id}0"), "DOE")];
    let mut ids = Vec::new();
    for message in &messages {
        ids.push(it.store(&admin, message).await?.0.to_string());
    }
    let since = logs::now();
    assert_eq!(found(&it, &admin, &format!("controlId={control_id}")).await?, [ids[1].clone(), ids[0].clone()], "newest first");
    // The index shows of a message what the listing shows.
    let answer = it.api.get(&format!("/er7?controlId={control_id}0"), Some(&admin.token)).await?.json();
    let listed = it.api.get("/er7?limit=1", Some(&admin.token)).await?.json();
    assert_eq!(answer["messages"], listed["messages"]);
    assert_eq!(found(&it, &admin, &format!("controlId={control_id}&type=ORU")).await?, [""; 0]);
    assert_eq!(found(&it, &admin, &format!("controlId={control_id}&to=2026-01-01")).await?, [""; 0]);

    // The lines come to the log a moment after the answers.
    let (group, began) = (logs::group_of(&it, "Fetch")?, Instant::now());
    let mut lines = Vec::new();
    while lines.len() < 5 && began.elapsed() < DEADLINE {
        lines = logs::lines(&it, &group, since, &it.institute).await?;
    }
    let requests = |line: &Value| {
        let requests = line["awsRequests"].as_array().into_iter().flatten();
        requests.filter(|it| it["operation"] == "Query").count()
    };
    let requests: Vec<usize> = logs::structured(&lines)?.iter().map(requests).collect();
    assert_eq!(requests, [1; 5], "one for each answer");
    Ok(())
}

#[tokio::test]
async fn records_of_an_earlier_version_are_put_into_the_index() -> Result<()> {
    let it = Harness::new()?;
    let (admin, source) = (it.admin().await?, it.institute.parse()?);
    let control_id = unique();
    let (message_id, _) = it.store(&admin, &adt(&control_id, "DOE")).await?;
    it.store(&admin, "NOT HL7").await?;
    let query = format!("controlId={control_id}");
    let key = |name: &str, value: &str| (name.to_owned(), S(value.to_owned()));
    let update = aws_sdk_dynamodb::Client::new(it.aws.config()).update_item().table_name(&it.outputs.table);
    let update = update.set_key(Some([key("source", &it.institute), key("message_id", message_id.as_str())].into()));
    update.update_expression("REMOVE control_id_at").send().await?;
    assert_eq!(found(&it, &admin, &query).await?, [""; 0], "as it was written before there was the index");

    for indexed in [1, 0] {
        let done = reindex(&it.aws, it.outputs, Some(&source), &Reporter::silent().step("indexing")).await?;
        assert_eq!(done, Reindexed { records: 2, indexed });
    }
    assert_eq!(found(&it, &admin, &query).await?, [message_id.to_string()]);
    Ok(())
}
