//! `GET /er7/{messageId}` and `GET /er7`: what a reader gets back, byte for byte, and what they do not.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue::{self, M, S};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use client::http::{Answer, ER7, JSON};
use domain::{MessageId, Timestamp, arrivals};
use reqwest::Method;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sluice_tests::{Caller, Harness, adt, item_bytes, unique, without_trace};

use crate::forge;

/// A request whose redirect is not followed.
async fn ask(it: &Harness, caller: &Caller, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let client = reqwest::Client::builder().redirect(Policy::none()).build()?;
    let request = client.request(method, format!("{}{path}", it.outputs.api_url)).bearer_auth(caller.token.expose_secret());
    client::http::send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn get(it: &Harness, caller: &Caller, message_id: &MessageId, accept: &str) -> Result<Answer> {
    ask(it, caller, Method::GET, &format!("/er7/{message_id}"), &[("accept", accept)]).await
}

/// The rendition of a message, decompressed, as the account's root sees it.
async fn rendition(it: &Harness, message_id: &MessageId) -> Result<Vec<u8>> {
    let key = it.record(message_id).await?.facts.context("stored")?.json_key.context("a rendition")?;
    Ok(hl7::decompressed(&object(it, &key).await?, hl7::MAX_JSON_BYTES)?)
}

/// An object of the lake, as the account's root sees it.
async fn object(it: &Harness, key: &str) -> Result<Vec<u8>> {
    let object = it.aws.s3().get_object().bucket(&it.outputs.bucket).key(key).send().await?;
    Ok(object.body.collect().await?.to_vec())
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
}

#[track_caller]
fn check_problem(answer: &Answer, status: u16, word: &str) {
    let detail = answer.text("detail");
    assert_eq!((answer.status.as_u16(), detail.contains(word)), (status, true), "{detail}");
    assert_eq!((header(answer, "content-type"), &answer.json()["status"]), ("application/problem+json", &json!(status)));
}

#[tokio::test]
async fn a_message_comes_back_byte_for_byte_in_the_form_that_is_asked_for() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    // Escapes, quotes, a control character, letters of two, three and four bytes: nothing of it may change on the way.
    let message = format!("{}NTE|1||\\E\\ \"€\" 日本 🏥 \u{1}\t\\X0D\\\r", adt(&unique(), "MÜLLER"));
    let (message_id, _) = it.store(&admin, &message).await?;
    let reader = it.caller(&it.institute, "").await?;
    let rendition = rendition(&it, &message_id).await?;
    let table = [
        ("*/*", "application/hl7-v2; charset=utf-8", message.as_bytes()),
        (ER7, "application/hl7-v2; charset=utf-8", message.as_bytes()),
        ("x-application/hl7-v2+er7", "x-application/hl7-v2+er7; charset=utf-8", message.as_bytes()),
        ("text/plain", "text/plain; charset=utf-8", message.as_bytes()),
        (JSON, JSON, &rendition),
        ("application/json;q=0.5, application/hl7-v2", "application/hl7-v2; charset=utf-8", message.as_bytes()),
    ];
    for (accept, content_type, content) in table {
        let answer = get(&it, &reader, &message_id, accept).await?;
        assert_eq!((answer.status.as_u16(), header(&answer, "content-type")), (200, content_type), "{accept}");
        assert!(answer.body == content, "{accept}: other bytes");
        assert_eq!((header(&answer, "vary"), header(&answer, "cache-control")), ("Accept", "no-store"));
    }
    let answer = ask(&it, &reader, Method::GET, &format!("/er7/{message_id}"), &[]).await?;
    assert_eq!(MessageId::of_canonical(&answer.body), message_id, "without Accept it is the message itself");
    Ok(())
}

#[tokio::test]
async fn a_caller_with_the_current_version_gets_304() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let path = format!("/er7/{message_id}");
    let mut etags = BTreeSet::new();
    for accept in [ER7, JSON] {
        let full = get(&it, &admin, &message_id, accept).await?;
        let etag = header(&full, "etag").to_owned();
        let head = ask(&it, &admin, Method::HEAD, &path, &[("accept", accept)]).await?;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "HEAD {accept}");
        for name in ["etag", "content-type", "vary", "cache-control"] {
            assert_eq!(header(&head, name), header(&full, name), "HEAD {accept}: {name}");
        }
        for method in [Method::GET, Method::HEAD] {
            let known = ask(&it, &admin, method.clone(), &path, &[("accept", accept), ("if-none-match", &etag)]).await?;
            assert_eq!((known.status.as_u16(), known.body.len(), header(&known, "etag")), (304, 0, etag.as_str()), "{method}");
        }
        let other = [("accept", accept), ("if-none-match", "\"another\"")];
        assert_eq!(ask(&it, &admin, Method::GET, &path, &other).await?.status, 200);
        etags.insert(etag);
    }
    assert!(etags.len() == 2 && etags.contains(&format!("\"{message_id}\"")), "{etags:?}");
    Ok(())
}

#[tokio::test]
async fn a_form_that_a_message_does_not_have_is_406() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (parsed, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let text = format!("I'm just a random number: {}", unique());
    let (unparsed, _) = it.store(&admin, &text).await?;
    for accept in ["application/xml", "image/*", "*/*;q=0", "klingon"] {
        check_problem(&get(&it, &admin, &parsed, accept).await?, 406, "application/hl7-v2");
    }
    check_problem(&get(&it, &admin, &unparsed, JSON).await?, 406, "if it parsed");
    let answer = get(&it, &admin, &unparsed, "application/json, */*;q=0.1").await?;
    assert_eq!((answer.status.as_u16(), answer.body), (200, format!("{text}\r").into_bytes()), "state=error reads as it came");
    Ok(())
}

#[tokio::test]
async fn another_institutes_message_is_as_unknown_as_one_that_nobody_has() -> Result<()> {
    let (one, other) = (Harness::new()?, Harness::new()?);
    let (message_id, _) = one.store(&one.admin().await?, &adt(&unique(), "DOE")).await?;
    let stranger = other.admin().await?;
    let nobodys: MessageId = "0".repeat(64).parse()?;
    for accept in [ER7, JSON, "application/xml"] {
        let existing = get(&one, &stranger, &message_id, accept).await?;
        let unknown = get(&one, &stranger, &nobodys, accept).await?;
        check_problem(&unknown, 404, "no message");
        assert_eq!((existing.status, without_trace(&existing)), (unknown.status, without_trace(&unknown)));
        let names = |answer: &Answer| -> BTreeSet<String> { answer.headers.keys().map(ToString::to_string).collect() };
        assert_eq!(names(&existing), names(&unknown));
    }
    for id in [message_id.as_str(), nobodys.as_str()] {
        let head = ask(&one, &stranger, Method::HEAD, &format!("/er7/{id}"), &[]).await?;
        assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
    }
    for bad in ["not-an-id", &"0".repeat(63), &"G".repeat(64), &message_id.as_str().to_uppercase()] {
        check_problem(&one.api.get(&format!("/er7/{bad}"), Some(&stranger.token)).await?, 400, "64 lower-case");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_who_may_only_write_reads_nothing() -> Result<()> {
    let it = Harness::new()?;
    let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    for caller in [it.caller("", &it.institute).await?, it.caller("", "").await?] {
        it.is_refused_route(&get(&it, &caller, &message_id, ER7).await?)?;
        it.is_refused_route(&it.api.get("/er7", Some(&caller.token)).await?)?;
        assert_eq!(ask(&it, &caller, Method::HEAD, &format!("/er7/{message_id}"), &[]).await?.status, 403);
    }
    // A name that is none of an institute is no right, whoever let the caller in.
    let nowhere = it.caller("../x", &it.institute).await?;
    check_problem(&get(&it, &nowhere, &message_id, ER7).await?, 403, "no institute");
    check_problem(&it.api.get("/er7", Some(&nowhere.token)).await?, 403, "no institute");
    assert_eq!(ask(&it, &nowhere, Method::HEAD, &format!("/er7/{message_id}"), &[]).await?.status, 403);
    for path in [format!("/er7/{message_id}"), "/er7".to_owned()] {
        assert_eq!(it.api.get(&path, None).await?.status, 401);
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_not_stored_is_404_and_says_how_far_it_has_come() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let envelope = forge::envelope(&it, &it.institute, &adt(&unique(), "DOE"), &admin.token).await?;
    forge::record(&it, &envelope).await?;
    let answer = get(&it, &admin, &envelope.message_id, ER7).await?;
    check_problem(&answer, 404, "not stored");
    assert_eq!(answer.text("messageStatus"), "queued");
    Ok(())
}

#[tokio::test]
async fn content_that_is_not_the_message_is_never_shown() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let key = it.record(&message_id).await?.facts.context("stored")?.key;
    let forged = b"MSH|^~\\&|forged\r".to_vec();
    // A writer may put a version of their own over the object, past the API. The catalog names the version that counts.
    let put = it.aws_as(&admin).await?.s3().put_object().bucket(&it.outputs.bucket).key(&key).body(forged.into());
    let put = put.tagging(format!("source={}&state=parsed", it.institute)).send().await?;
    assert_eq!(MessageId::of_canonical(&get(&it, &admin, &message_id, ER7).await?.body), message_id);
    // And if even the catalog were wrong, the hash is not.
    it.set(&message_id, "version_id", put.version_id().context("a version")?).await?;
    let answer = get(&it, &admin, &message_id, ER7).await?;
    check_problem(&answer, 500, "not the message");
    assert!(!String::from_utf8_lossy(&answer.body).contains("forged"));
    Ok(())
}

#[tokio::test]
async fn a_message_deleted_from_the_lake_is_not_there_for_any_method() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (message_id, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let etag = header(&get(&it, &admin, &message_id, ER7).await?, "etag").to_owned();
    let stored = it.record(&message_id).await?.facts.context("stored")?;
    let delete = it.aws.s3().delete_object().bucket(&it.outputs.bucket).key(stored.key);
    delete.set_version_id(stored.version_id).send().await?;
    // Who may not list a bucket is told 403 of what is not there.
    check_problem(&get(&it, &admin, &message_id, ER7).await?, 403, "it was deleted");
    let path = format!("/er7/{message_id}");
    assert_eq!(ask(&it, &admin, Method::HEAD, &path, &[]).await?.status, 403);
    let unchanged = ask(&it, &admin, Method::GET, &path, &[("if-none-match", &etag)]).await?;
    assert_eq!(unchanged.status, 403, "no 304 for what the caller could not read");
    assert_eq!(get(&it, &admin, &message_id, JSON).await?.status, 200, "the rendition is an object of its own");
    Ok(())
}

#[tokio::test]
async fn a_large_message_is_answered_directly() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let pdf: Vec<u8> = (0..2_750_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let message = format!("{}OBX|1|ED|||^application^pdf^Base64^{}\r", adt(&unique(), "DOE"), BASE64_STANDARD.encode(&pdf));
    assert!(message.len() > 3_500 * 1024);
    let (message_id, _) = it.store(&admin, &message).await?;
    let answer = get(&it, &admin, &message_id, ER7).await?;
    assert!((answer.status.as_u16(), &answer.body[..]) == (200, message.as_bytes()), "{}: other bytes", answer.status);
    Ok(())
}

#[tokio::test]
async fn a_message_that_does_not_fit_into_an_answer_is_redirected_to_s3() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    // Short fields: the rendition is many times as long as the message.
    let message = format!("{}ZZZ{}\r", adt(&unique(), "DOE"), "|a^b".repeat(300_000));
    let (message_id, _) = it.store(&admin, &message).await?;
    let rendition = rendition(&it, &message_id).await?;
    ensure!(rendition.len() > 4_500_000, "the rendition has {} bytes only", rendition.len());
    let answer = get(&it, &admin, &message_id, JSON).await?;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (307, 0));
    assert_eq!((header(&answer, "vary"), header(&answer, "cache-control")), ("Accept", "no-store"));

    let url = reqwest::Url::parse(header(&answer, "location"))?;
    let signed = |name: &str| url.query_pairs().find(|(it, _)| it == name).map(|(_, value)| value.into_owned());
    assert_eq!(signed("X-Amz-Expires").as_deref(), Some("60"));
    // Signed by the caller, not by the worker: their session's token is in it. And followed without any header of ours.
    assert!(signed("X-Amz-Security-Token").is_some());
    let object = reqwest::get(url.clone()).await?;
    assert_eq!((object.status().as_u16(), object.headers()["content-type"].to_str()?), (200, JSON));
    assert_eq!(object.headers()["cache-control"], "no-store");
    // S3 sends the object as it is, and says how it is compressed.
    assert_eq!(object.headers()["content-encoding"].to_str()?, "gzip");
    assert!(hl7::decompressed(&object.bytes().await?, hl7::MAX_JSON_BYTES)? == rendition, "other bytes");
    // The signature is for this object alone.
    let key = it.record(&message_id).await?.facts.context("stored")?.key;
    let mut other = url.clone();
    other.set_path(&url.path().replace(url.path().rsplit_once("/source").context("a key")?.1, key.trim_start_matches("source")));
    assert_ne!(other, url);
    assert_eq!(reqwest::get(other).await?.status(), 403);

    let etag = header(&answer, "etag");
    let head = ask(&it, &admin, Method::HEAD, &format!("/er7/{message_id}"), &[("accept", JSON)]).await?;
    assert_eq!((head.status.as_u16(), header(&head, "etag")), (200, etag), "HEAD is not redirected");
    assert_eq!(get(&it, &admin, &message_id, ER7).await?.body, message.as_bytes());
    Ok(())
}

/// A record of a message that was never sent: only what a listing shows.
async fn record(it: &Harness, received_at: Timestamp, message_type: &str, trigger_event: &str) -> Result<String> {
    let message_id = MessageId::of_canonical(unique().as_bytes());
    let text = |text: &str| S(text.to_owned());
    let summary = [("messageType", message_type), ("triggerEvent", trigger_event)];
    let summary = summary.map(|(name, value)| (name.to_owned(), text(value))).into();
    let put = aws_sdk_dynamodb::Client::new(it.aws.config()).put_item().table_name(&it.outputs.table);
    let put =
        put.item("source", text(&it.institute)).item("message_id", text(message_id.as_str())).item("status", text("stored"));
    let put = put.item("received_at", text(&received_at.to_string())).item("submissions", AttributeValue::N("1".to_owned()));
    let put =
        put.item(arrivals::SHARD, text(&arrivals::shard(&it.institute.parse()?, &message_id))).item("listed", text("stored"));
    put.item("state", text("parsed")).item("summary", M(summary)).send().await?;
    Ok(message_id.to_string())
}

async fn page(it: &Harness, caller: &Caller, query: &str) -> Result<(Vec<String>, Option<String>)> {
    let answer = it.api.get(&format!("/er7?{query}"), Some(&caller.token)).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text("detail"));
    let body = answer.json();
    let messages = body["messages"].as_array().context("messages")?.iter();
    let ids = messages.map(|it| it["messageId"].as_str().unwrap_or_default().to_owned()).collect();
    Ok((ids, body["cursor"].as_str().map(str::to_owned)))
}

/// Every page of a listing.
async fn pages(it: &Harness, caller: &Caller, query: &str) -> Result<Vec<Vec<String>>> {
    let (ids, mut cursor) = page(it, caller, query).await?;
    let mut pages = vec![ids];
    while let Some(next) = cursor {
        let (ids, following) = page(it, caller, &format!("{query}&cursor={next}")).await?;
        pages.push(ids);
        cursor = following;
        ensure!(pages.len() < 100, "a listing without end");
    }
    Ok(pages)
}

fn at(text: &str) -> Result<Timestamp> {
    Timestamp::range_end(text).context("a timestamp")
}

#[tokio::test]
async fn a_listing_has_the_status_of_each_message_and_what_msh_says() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let control_id = unique();
    let (older, status) = it.store(&admin, &adt(&control_id, "DOE")).await?;
    let (newer, failed) = it.store(&admin, &format!("no HL7 {}", unique())).await?;
    let reader = it.caller(&it.institute, "").await?;
    let body = it.api.get("/er7", Some(&reader.token)).await?.json();
    let mut expected = status;
    let summary = json!({
        "messageType": "ADT", "triggerEvent": "A01", "messageStructure": "ADT_A01", "controlId": control_id, "hl7Version": "2.5.1",
        "sendingApplication": "HIS", "sendingFacility": "WEST", "receivingApplication": "LAKE", "receivingFacility": "HUB",
        "messageTime": "20260102030405",
    });
    expected.as_object_mut().unwrap().extend(summary.as_object().unwrap().clone());
    assert_eq!(body, json!({ "messages": [failed, expected] }), "{older} and {newer}, newest first");
    let stranger = Harness::new()?;
    let nothing = stranger.api.get("/er7", Some(&stranger.admin().await?.token)).await?;
    assert_eq!(nothing.json(), json!({ "messages": [] }));
    Ok(())
}

#[tokio::test]
async fn the_parts_of_a_message_name_each_other() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let pointer = unique();
    let msh = |msh_13_and_14: &str| format!("MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|{}|P|2.5.1|{msh_13_and_14}\r", unique());
    let first = format!("{}PID|1||7\rOBR|1||9|c\rOBX|1|TX|c||one\rADD|\rDSC|{pointer}|F\r", msh("1"));
    let second = format!("{}ADD|two||||||F\r", msh(&format!("2|{pointer}")));
    let (first, _) = it.store(&admin, &first).await?;
    let (second, _) = it.store(&admin, &second).await?;
    let reader = it.caller(&it.institute, "").await?;
    let listed = it.api.get("/er7", Some(&reader.token)).await?.json();
    let entry = |id: &domain::MessageId| {
        let found = listed["messages"].as_array()?.iter().find(|it| it["messageId"] == id.as_str())?;
        Some(
            ["sequenceNumber", "continues", "continuationPointer"]
                .map(|name| found[name].as_str().unwrap_or_default().to_owned()),
        )
    };
    assert_eq!(entry(&first), Some(["1", "", &pointer].map(str::to_owned)));
    assert_eq!(entry(&second), Some(["2", &pointer, ""].map(str::to_owned)));
    Ok(())
}

#[tokio::test]
async fn pages_have_every_message_once_also_where_many_came_in_the_same_millisecond() -> Result<()> {
    let it = Harness::new()?;
    let reader = it.caller(&it.institute, "").await?;
    let mut groups = Vec::new();
    for (received_at, count) in [("2026-01-03T00:00:00Z", 2), ("2026-01-02T12:00:00.5Z", 7), ("2026-01-01T23:59:59.999Z", 3)] {
        let mut group = BTreeSet::new();
        for _ in 0..count {
            group.insert(record(&it, at(received_at)?, "ADT", "A01").await?);
        }
        groups.push(group);
    }
    // Within a millisecond the order is DynamoDB's own, but always the same one.
    let expected = page(&it, &reader, "limit=100").await?.0;
    let mut rest = expected.iter().cloned();
    for group in groups {
        assert_eq!(rest.by_ref().take(group.len()).collect::<BTreeSet<_>>(), group, "newest first");
    }
    for (limit, sizes) in [(1, vec![1; 12]), (3, vec![3; 4]), (5, vec![5, 5, 2]), (12, vec![12]), (100, vec![12])] {
        let pages = pages(&it, &reader, &format!("limit={limit}")).await?;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "limit {limit}");
        assert_eq!(pages.concat(), expected, "limit {limit}");
    }
    // The same with a type, where DynamoDB counts what it leaves out.
    let others =
        [record(&it, at("2026-01-02T12:00:00.5Z")?, "ORU", "R01").await?, record(&it, at("2026-01-04")?, "ORU", "R01").await?];
    assert_eq!(pages(&it, &reader, "limit=5&type=ADT").await?.concat(), expected);
    assert_eq!(pages(&it, &reader, "limit=1&type=ORU").await?, [[others[1].clone()], [others[0].clone()]]);
    // A message that comes while somebody pages moves nothing.
    let (first, cursor) = page(&it, &reader, "limit=2").await?;
    let mut partitions = BTreeSet::new();
    while partitions.len() < arrivals::SHARDS {
        let id = record(&it, at("2026-01-05")?, "ADT", "A01").await?;
        partitions.insert(arrivals::shard(&it.institute.parse()?, &id.parse()?));
    }
    let (second, _) = page(&it, &reader, &format!("limit=2&cursor={}", cursor.context("a cursor")?)).await?;
    assert_eq!((first[0].as_str(), second[0].as_str()), (others[1].as_str(), expected[1].as_str()));
    Ok(())
}

#[tokio::test]
async fn an_entry_of_the_index_by_arrival_is_a_single_write_unit() -> Result<()> {
    let it = Harness::new()?;
    let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let shard = arrivals::shard(&it.institute.parse()?, &message_id);
    let query = aws_sdk_dynamodb::Client::new(it.aws.config()).query().table_name(&it.outputs.table).index_name(arrivals::INDEX);
    let query = query.key_condition_expression("arrival_shard = :shard").expression_attribute_values(":shard", S(shard));
    let entries = query.send().await?.items.unwrap_or_default();
    let [entry] = entries.as_slice() else { anyhow::bail!("{} entries", entries.len()) };
    let bytes = item_bytes(entry);
    // The institute of a test has 31 letters, and the entry has its name four times.
    assert!((500..=1024).contains(&bytes), "{bytes}: {entry:?}");
    // A claim changes none of these.
    for name in ["status", "claim_submission", "lease_until", "queued_at", "expires_at", "submitter"] {
        assert!(!entry.contains_key(name), "{name}");
    }
    assert_eq!(entry["listed"], S("stored".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_listing_is_of_a_time_and_a_type() -> Result<()> {
    let it = Harness::new()?;
    let reader = it.caller(&it.institute, "").await?;
    let mut ids = Vec::new();
    for (received_at, kind, event) in [
        ("2026-01-01T00:00:00Z", "ADT", "A01"),
        ("2026-01-01T23:59:59.999Z", "ADT", "A08"),
        ("2026-01-02T00:00:00Z", "ORU", "R01"),
        ("2026-01-02T06:00:00Z", "ADT", "A01"),
    ] {
        ids.push(record(&it, at(received_at)?, kind, event).await?);
    }
    let table: [(&str, &[usize]); 13] = [
        ("", &[3, 2, 1, 0]),
        ("from=2026-01-02", &[3, 2]),
        ("to=2026-01-02", &[1, 0]),
        ("from=2026-01-01&to=2026-01-02", &[1, 0]),
        ("from=2026-01-01T00:00:00.001Z&to=2026-01-02T00:00:00.0001Z", &[2, 1]),
        ("from=2026-01-02T01:00:00%2B01:00&to=2026-01-02T06:00:00Z", &[2]),
        ("from=2026-01-03", &[]),
        ("to=2025-12-31", &[]),
        ("type=ADT", &[3, 1, 0]),
        ("type=ADT%5EA01", &[3, 0]),
        ("type=ADT^A08&from=2026-01-01&to=2026-01-02", &[1]),
        ("type=ORU%5EA01", &[]),
        ("type=adt", &[]),
    ];
    for (query, expected) in table {
        let (found, cursor) = page(&it, &reader, query).await?;
        assert_eq!(found, expected.iter().map(|it| ids[*it].clone()).collect::<Vec<_>>(), "{query}");
        assert_eq!(cursor, None, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cursor_is_good_for_its_institute_and_its_query_alone() -> Result<()> {
    let (it, other) = (Harness::new()?, Harness::new()?);
    let (reader, stranger) = (it.admin().await?, other.admin().await?);
    for _ in 0..3 {
        record(&it, at("2026-01-02T12:00:00Z")?, "ADT", "A01").await?;
        record(&other, at("2026-01-02T12:00:00Z")?, "ADT", "A01").await?;
    }
    let cursor = page(&it, &reader, "limit=1&from=2026-01-01").await?.1.context("a cursor")?;
    let listed = async |caller: &Caller, query: &str| it.api.get(&format!("/er7?{query}"), Some(&caller.token)).await;
    assert_eq!(
        listed(&reader, &format!("limit=2&from=2026-01-01&cursor={cursor}")).await?.status,
        200,
        "another limit is no harm"
    );

    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&cursor)?)?;
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    };
    let refused = [
        (&stranger, format!("from=2026-01-01&cursor={cursor}")),
        (&reader, format!("cursor={cursor}")),
        (&reader, format!("from=2026-01-02&cursor={cursor}")),
        (&reader, format!("from=2026-01-01&to=2026-01-03&cursor={cursor}")),
        (&reader, format!("from=2026-01-01&type=ADT&cursor={cursor}")),
        (&reader, format!("from=2026-01-01&cursor={}", &cursor[1..])),
        (&reader, format!("from=2026-01-01&cursor={cursor}{cursor}")),
        (&reader, "from=2026-01-01&cursor=next".to_owned()),
        (&reader, format!("from=2026-01-01&cursor={}", with("v", json!(1)))),
        (&reader, format!("from=2026-01-01&cursor={}", with("arrivals", json!(["start", "start", "end", "end"])))),
        (&reader, format!("from=2026-01-01&cursor={}", with("arrivals", json!(["start"])))),
    ];
    for (caller, query) in refused {
        check_problem(&listed(caller, &query).await?, 400, "`cursor`");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_found_by_each_fact_of_its_record() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let reader = it.caller(&it.institute, "").await?;
    let (first, second) = (unique(), unique());
    let message = adt(&first, "DOE");
    let (adt, status) = it.store(&admin, &message).await?;
    let oru = format!("MSH|^~\\&|LAB|EAST|LAKE|HUB|202602||ORU^R01^ORU_R01|{second}|P|2.5.1\rPID|1||7\r");
    let (oru, _) = it.store(&admin, &oru).await?;
    let (unread, _) = it.store(&admin, &format!("no HL7 {}", unique())).await?;
    // Those of others are nobody else's to find.
    let stranger = Harness::new()?;
    let other = stranger.admin().await?;
    stranger.store(&other, &message).await?;

    let [adt, oru, unread] = [adt, oru, unread].map(|it| it.to_string());
    let received = status["receivedAt"].as_str().context("a time")?;
    let submission = it.record(&adt.parse()?).await?.claim_submission.context("a submission")?;
    let table = [
        (format!("controlId={first}"), vec![&adt]),
        (format!("controlId={second}&type=ADT"), vec![]),
        ("sender=HIS".to_owned(), vec![&adt]),
        ("sender=EAST".to_owned(), vec![&oru]),
        ("receiver=HUB&event=R01".to_owned(), vec![&oru]),
        ("status=stored".to_owned(), vec![&unread, &oru, &adt]),
        ("status=queued".to_owned(), vec![]),
        ("messageFrom=2026-01-02&messageTo=2026-01-03".to_owned(), vec![&adt]),
        ("messageFrom=202602".to_owned(), vec![&oru]),
        (format!("submission={submission}"), vec![&adt]),
        (format!("idPrefix={}", &adt[..8]), vec![&adt]),
        (format!("idPrefix={}", adt.to_uppercase()), vec![&adt]),
        (format!("idPrefix={}&type=ORU", &adt[..12]), vec![]),
        (format!("idPrefix={}&to={received}", &adt[..12]), vec![]),
        (format!("idPrefix={}&from={received}", &adt[..12]), vec![&adt]),
    ];
    for (query, expected) in table {
        let found = pages(&it, &reader, &query).await?.concat();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn messages_whose_ids_begin_alike_are_paged_by_their_ids() -> Result<()> {
    let it = Harness::new()?;
    let reader = it.caller(&it.institute, "").await?;
    let mut ids: Vec<String> = (0..5).map(|number| format!("00c0ffee{number}{}", "a".repeat(55))).collect();
    for (day, id) in ids.iter().enumerate() {
        let put = aws_sdk_dynamodb::Client::new(it.aws.config()).put_item().table_name(&it.outputs.table);
        let text = |text: &str| S(text.to_owned());
        let put = put.item("source", text(&it.institute)).item("message_id", text(id)).item("status", text("queued"));
        put.item("received_at", text(&format!("2026-01-0{}T00:00:00.000Z", 9 - day))).send().await?;
    }
    ids.reverse();
    for limit in [1, 2, 5] {
        let found = pages(&it, &reader, &format!("limit={limit}&idPrefix=00c0ffee")).await?;
        assert_eq!(found.concat(), ids, "limit {limit}");
    }
    let cursor = page(&it, &reader, "limit=1&idPrefix=00c0ffee").await?.1.context("a cursor")?;
    for other in ["limit=1", "idPrefix=00c0ffee0", "idPrefix=00c0ffee&status=queued"] {
        let answer = it.api.get(&format!("/er7?{other}&cursor={cursor}"), Some(&reader.token)).await?;
        check_problem(&answer, 400, "`cursor`");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_query_lists_nothing() -> Result<()> {
    let it = Harness::new()?;
    let reader = it.admin().await?;
    for (query, word) in [
        ("from=yesterday", "`from`"),
        ("from=2026-01-02T01:00:00+01:00", "%2B"),
        ("to=02.01.2026", "`to`"),
        ("from=2026-01-02&to=2026-01-02", "before"),
        ("type=ADT^", "`type`"),
        ("type=ADT%5EA01%5EADT_A01", "`type`"),
        ("limit=0", "`limit`"),
        ("limit=101", "`limit`"),
        ("form=2026-01-02", "`from`, `to`"),
        ("idPrefix=1234567", "`idPrefix`"),
        ("status=gone", "`status`"),
        ("patient=4711", "the parameters are"),
        ("type=ADT%5EA01&event=A01", "twice"),
        ("type=ADT&type=ORU", "once"),
    ] {
        check_problem(&it.api.get(&format!("/er7?{query}"), Some(&reader.token)).await?, 400, word);
    }
    Ok(())
}

#[tokio::test]
async fn each_route_has_limits_of_its_own() -> Result<()> {
    let it = Harness::new()?;
    let client = aws_sdk_apigatewayv2::Client::new(it.aws.config());
    let api = it.outputs.stack_outputs.get("ApiId").context("an API")?;
    let routes = client.get_routes().api_id(api).send().await?;
    let stage = client.get_stage().api_id(api).stage_name("$default").send().await?;
    let settings = stage.route_settings().context("route settings")?;
    let routes: BTreeSet<&str> = routes.items().iter().filter_map(|route| route.route_key()).collect();
    assert_eq!(settings.keys().map(String::as_str).collect::<BTreeSet<_>>(), routes);
    // The local AWS keeps the limits without serving them, so those are read where they are written.
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/api.yaml"))?;
    for route in routes {
        let limits =
            template.split(&format!("        {route}:\n")).nth(1).with_context(|| format!("{route} in RouteSettings"))?;
        for limit in ["Rate", "Burst"] {
            let parameter = limits.split(&format!("Throttling{limit}Limit: !Ref ")).nth(1).and_then(|it| it.lines().next());
            let parameter = parameter.context("a parameter")?;
            assert!(
                parameter.ends_with(&format!("{limit}Limit")) && !parameter.starts_with("Throttling"),
                "{route}: {parameter}"
            );
            assert!(template.contains(&format!("\n  {parameter}:\n    Type: Number\n")), "{parameter} is a parameter");
        }
    }
    Ok(())
}
