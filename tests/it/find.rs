//! A control id is looked up in an index of the catalog.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue::S;
use serde_json::Value;
use sluice::operator::reindex::{Reindexed, reindex};
use sluice::output::Reporter;
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::{held, logs};

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

    let requests: Vec<usize> = requests(&it, since, 5).await?.iter().map(Vec::len).collect();
    let by_arrival = domain::arrivals::SHARDS;
    assert_eq!(requests, [1, 1, by_arrival, 1, 1], "one for each answer, and one of each partition for the list by arrival");
    Ok(())
}

/// The requests to DynamoDB of each of so many answers since a time, by their operations.
async fn requests(it: &Harness, since: i64, answers: usize) -> Result<Vec<Vec<String>>> {
    // The lines come to the log a moment after the answers.
    let (group, began) = (logs::group_of(it, "Fetch")?, Instant::now());
    let mut lines = Vec::new();
    while lines.len() < answers && began.elapsed() < DEADLINE {
        lines = logs::lines(it, &group, since, &it.institute).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let of_dynamodb = |line: &Value| {
        let operations = line["awsRequests"].as_array().into_iter().flatten().filter_map(|it| it["operation"].as_str());
        operations.filter(|it| ["Query", "GetItem", "TransactGetItems"].contains(it)).map(str::to_owned).collect()
    };
    Ok(logs::structured(&lines)?.iter().map(of_dynamodb).collect())
}

#[tokio::test]
async fn held_messages_are_found_in_their_index_the_latest_hold_first() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    it.store(&admin, &adt(&unique(), "DOE")).await?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, held::expired(&it).await?.message_id.to_string());
    }
    let since = logs::now();
    assert_eq!(found(&it, &admin, "status=held").await?, ids);
    assert_eq!(found(&it, &admin, "status=held&from=2026-01-01").await?, ids);
    assert_eq!(found(&it, &admin, "status=held&to=2026-01-01").await?, [""; 0]);
    let requests = requests(&it, since, 3).await?;
    assert!(requests.iter().all(|it| *it == ["Query", "TransactGetItems"]), "{requests:?}");

    // Page by page, each with what a listing shows.
    let (mut paged, mut query) = (Vec::new(), "status=held&limit=1".to_owned());
    loop {
        let answer = it.api.get(&format!("/er7?{query}"), Some(&admin.token)).await?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.json());
        let body = answer.json();
        for message in body["messages"].as_array().context("messages")? {
            assert_eq!((&message["status"], &message["held"]["reason"]), (&"held".into(), &"expired".into()));
            paged.push(message["messageId"].as_str().context("an id")?.to_owned());
        }
        let Some(cursor) = body["cursor"].as_str() else { break };
        let other = it.api.get(&format!("/er7?limit=1&cursor={cursor}"), Some(&admin.token)).await?;
        assert_eq!(other.status, 400, "a cursor is of its own query");
        query = format!("status=held&limit=1&cursor={cursor}");
    }
    assert_eq!(paged, ids);

    // A released message is no longer found, even if its entry is there still.
    assert_eq!(it.api.release(&ids[0], &admin.token).await?.status, 202);
    assert_eq!(found(&it, &admin, "status=held").await?, ids[1..]);
    // Another institute, and lake staff.
    let other = Harness::new()?;
    assert_eq!(found(&other, &other.admin().await?, "status=held").await?, [""; 0]);
    let staff = it.outputs.users.iter().find(|it| it.pool.is_some()).context("lake staff")?;
    let staff = client::sign_in::sign_in(&it.aws, it.outputs.stack_output("StaffUserPoolClientId")?, staff).await?;
    let path = format!("/institutes/{}/er7?status=held", it.institute);
    let answer = it.api.get(&path, Some(&staff)).await?.json();
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(2), "{answer}");
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
    update.update_expression("REMOVE control_id_at, arrival_shard, listed, ended_by").send().await?;
    assert_eq!(found(&it, &admin, &query).await?, [""; 0], "as it was written before there was the index");
    let all = found(&it, &admin, "status=stored").await?;
    assert!(all.len() == 1 && !all.contains(&message_id.to_string()), "nor in the index by arrival: {all:?}");

    for indexed in [1, 0] {
        let done = reindex(&it.aws, it.outputs, Some(&source), &Reporter::silent().step("indexing")).await?;
        assert_eq!(done, Reindexed { records: 2, indexed });
    }
    assert_eq!(found(&it, &admin, &query).await?, [message_id.to_string()]);
    let all = found(&it, &admin, "status=stored").await?;
    assert!(all.len() == 2 && all.contains(&message_id.to_string()), "{all:?}");
    Ok(())
}
