//! A message is kept as it was received, beside its canonical form.

use anyhow::{Context, Result};
use aws_sdk_s3::error::ProvideErrorMetadata;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::http::{Answer, ER7, JSON, RAW};
use domain::{Er7, MessageId};
use reqwest::Method;
use serde_json::{Value, json};
use sluice_tests::{Caller, DEADLINE, Harness, adt, unique};

use crate::listen::{Listener, event_id};

const LATIN_1: &str = "application/hl7-v2; charset=iso-8859-1";

fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

/// Submits bytes and waits until they are stored. Gives the submission's id and the message's.
async fn store(it: &Harness, caller: &Caller, bytes: &[u8], content_type: &str) -> Result<(String, MessageId)> {
    let answer = it.api.submit(bytes.to_vec(), content_type, Some(&caller.token)).await?;
    anyhow::ensure!(answer.status == 202, "{}: {}", answer.status, answer.json());
    let status = it.api.final_status(&answer.text("messageId"), &caller.token, DEADLINE).await?;
    anyhow::ensure!(status["status"] == "stored", "{status}");
    Ok((answer.text("submissionId"), answer.text("messageId").parse()?))
}

async fn ask(it: &Harness, caller: &Caller, method: Method, id: &MessageId, accept: &str, known: &str) -> Result<Answer> {
    let request = it.api.request(method, &format!("/er7/{id}"), Some(&caller.token));
    client::http::send(request.header("accept", accept).header("if-none-match", known)).await
}

async fn get(it: &Harness, caller: &Caller, id: &MessageId, accept: &str) -> Result<Answer> {
    ask(it, caller, Method::GET, id, accept, "").await
}

#[tokio::test]
async fn the_bytes_come_back_exactly_as_they_were_received() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let reader = it.caller(&it.institute, "").await?;
    // A message each: what is stored already is not received again.
    let message = || adt(&unique(), "M\u{dc}LLER");
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let in_json = |bytes: &[u8]| json!({ "msg": BASE64_STANDARD.encode(bytes), "encoding": "iso-8859-1" }).to_string();
    let (one, two, three, four, five, six) = (message(), message(), message(), message(), message(), message());
    let crlf = two.replace('\r', "\r\n");
    let framed = format!("\u{b}{four}\u{1c}\r");
    let large = format!("{five}NTE|1||{}\r", "\u{e9}".repeat(200_000));
    // MSH-18 says it; the canonical form keeps what stands there.
    let by_msh_18 = six.replace("|P|2.5.1\r", "|P|2.5.1||||||8859/1\r");
    let table: [(&str, Vec<u8>, Vec<u8>, _, _); 6] = [
        (&one, latin_1(&one), latin_1(&one), LATIN_1, "windows-1252"),
        (&two, crlf.clone().into(), crlf.into(), ER7, "UTF-8"),
        (&three, utf_16(&three), utf_16(&three), "application/hl7-v2; charset=utf-16le", "UTF-16LE"),
        (&four, latin_1(&framed), in_json(&latin_1(&framed)).into(), JSON, "windows-1252"),
        (&by_msh_18, latin_1(&by_msh_18), latin_1(&by_msh_18), ER7, "windows-1252"),
        // Through the overflow bucket.
        (&large, latin_1(&large), latin_1(&large), LATIN_1, "windows-1252"),
    ];
    for (canonical, received, body, content_type, charset) in table {
        let (_, id) = store(&it, &admin, &body, content_type).await?;
        assert_eq!(id, Er7::canonical(canonical)?.message_id(), "{charset}");
        let raw = get(&it, &reader, &id, RAW).await?;
        assert_eq!((raw.status.as_u16(), raw.headers["content-type"].to_str()?), (200, RAW));
        assert!(raw.body == received, "{charset}: other bytes");
        assert!(get(&it, &reader, &id, "*/*").await?.body == canonical.as_bytes(), "{charset}: other canonical bytes");

        let stored = it.record(&id).await?.facts.context("stored")?;
        assert_eq!(stored.charset.map(|it| it.name()), Some(charset));
        let key = stored.raw_key.context("a raw object")?;
        assert!(key.contains("/format=raw/zone=ingest/") && key.ends_with(&format!("/{id}.bin")), "{key}");
        let object = it.aws.s3().get_object().bucket(&stored.bucket).key(&key).send().await?;
        assert_eq!(object.version_id(), stored.raw_version_id.as_deref());
        assert_eq!(object.content_type(), Some(format!("application/hl7-v2; charset={charset}").as_str()));
        let tags = it.aws.s3().get_object_tagging().bucket(&stored.bucket).key(&key).send().await?;
        let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
        tags.sort_unstable();
        assert_eq!(tags, [("source", it.institute.as_str()), ("state", "parsed")]);
    }
    assert_eq!(it.object_versions().await?.len(), 3 * 6);
    Ok(())
}

#[tokio::test]
async fn a_report_with_line_feeds_is_one_message_and_comes_back_byte_for_byte() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let report = |control_id: &str, text: &str| {
        format!(
            "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|{control_id}|P|2.5.1\rPID|1||7\rOBR|1||9|c\r\
             OBX|1|TX|c||{text}||||||F\r"
        )
    };
    let torn = "Norwood I,\nBTS-Shunt offen,\nkeine Stenose.";
    let base64 = "JVBERi0xLjQK\nBTS+AAAA\nMSH/AAAA\n\nFHS: 148/min\n====";
    for text in [torn, base64] {
        let canonical = report(&unique(), text);
        let crlf = canonical.replace('\n', "\r\n");
        let (_, id) = store(&it, &admin, crlf.as_bytes(), ER7).await?;
        assert_eq!(id, Er7::canonical(&canonical)?.message_id());
        assert_eq!(id, MessageId::of_canonical(canonical.as_bytes()));
        assert!(get(&it, &admin, &id, ER7).await?.body == canonical.as_bytes(), "the text has other bytes");
        assert!(get(&it, &admin, &id, RAW).await?.body == crlf.as_bytes(), "other bytes than were received");
        let rendition: Value = get(&it, &admin, &id, JSON).await?.json();
        let obx = &rendition["segments"][3];
        assert_eq!((obx["segment"].as_str(), rendition["segments"].as_array().map(Vec::len)), (Some("OBX"), Some(4)));
        let fields = obx["fields"].as_array().context("fields")?;
        let field = |position: u64| fields.iter().find(|it| it["position"] == position).context("a field");
        assert_eq!(field(5)?["repetitions"][0][0]["value"], text);
        assert_eq!(field(11)?["repetitions"][0][0]["value"], "F");
        let ack = it.api.submit(crlf.into_bytes(), ER7, Some(&admin.token)).await?;
        assert_eq!(ack.status, 409);
    }
    assert_eq!(it.object_versions().await?.len(), 3 * 2, "two messages and nothing else");
    Ok(())
}

#[tokio::test]
async fn a_message_in_canonical_form_is_kept_once_and_read_as_received_all_the_same() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    // ASCII is the same in Latin-1.
    let (_, id) = store(&it, &admin, message.as_bytes(), LATIN_1).await?;
    let stored = it.record(&id).await?.facts.context("stored")?;
    assert_eq!((stored.raw_key, stored.raw_version_id, stored.charset), (None, None, None));
    assert_eq!(it.object_versions().await?.len(), 2, "the message and its rendition");

    let raw = get(&it, &admin, &id, RAW).await?;
    assert_eq!((raw.headers["content-type"].to_str()?, raw.body.as_slice()), (RAW, message.as_bytes()));
    let etag = raw.headers["etag"].to_str()?;
    assert_eq!(etag, format!("\"{id}.raw.{}\"", stored.version_id.context("a version")?));
    assert_ne!(raw.headers["etag"], get(&it, &admin, &id, ER7).await?.headers["etag"]);
    Ok(())
}

#[tokio::test]
async fn the_received_bytes_have_an_etag_and_a_head_response_of_their_own() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (_, id) = store(&it, &admin, &latin_1(&adt(&unique(), "M\u{dc}LLER")), LATIN_1).await?;
    let version = it.record(&id).await?.facts.context("stored")?.raw_version_id.context("a version")?;
    let etag = format!("\"{id}.raw.{version}\"");
    let head = ask(&it, &admin, Method::HEAD, &id, RAW, "").await?;
    assert_eq!((head.status.as_u16(), head.body.len(), head.headers["etag"].to_str()?), (200, 0, etag.as_str()));
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(ask(&it, &admin, method, &id, RAW, &etag).await?.status, 304);
    }
    assert_eq!(ask(&it, &admin, Method::GET, &id, RAW, &format!("\"{id}\"")).await?.status, 200, "that is the canonical form's");
    assert_eq!(ask(&it, &admin, Method::GET, &id, ER7, &etag).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn bytes_that_no_hl7_parser_reads_are_kept_as_received_too() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let text = format!("I'm just a random number: {} \u{fc}", unique());
    let (_, id) = store(&it, &admin, &latin_1(&text), LATIN_1).await?;
    assert_eq!(get(&it, &admin, &id, RAW).await?.body, latin_1(&text));
    assert_eq!(get(&it, &admin, &id, ER7).await?.body, format!("{text}\r").as_bytes());
    Ok(())
}

#[tokio::test]
async fn a_user_who_may_not_read_a_message_may_not_read_its_received_bytes() -> Result<()> {
    let (it, other) = (Harness::new()?, Harness::new()?);
    let bytes = latin_1(&adt(&unique(), "M\u{dc}LLER"));
    let (_, id) = store(&it, &it.admin().await?, &bytes, LATIN_1).await?;
    let stored = it.record(&id).await?.facts.context("stored")?;
    let (key, version) = (stored.raw_key.context("a raw object")?, stored.raw_version_id.context("a version")?);

    let (stranger, writer) = (other.admin().await?, it.caller("", &it.institute).await?);
    assert_eq!(get(&it, &stranger, &id, RAW).await?.status, 404);
    it.is_refused_route(&get(&it, &writer, &id, RAW).await?)?;
    // Nor past the API.
    for caller in [&stranger, &writer] {
        let s3 = it.aws_as(caller).await?.s3();
        for version in [None, Some(version.clone())] {
            let got = s3.get_object().bucket(&stored.bucket).key(&key).set_version_id(version).send().await;
            assert_eq!(got.unwrap_err().code(), Some("AccessDenied"));
        }
        let tags = s3.get_object_tagging().bucket(&stored.bucket).key(&key).send().await;
        assert_eq!(tags.unwrap_err().code(), Some("AccessDenied"));
    }
    // Nor is it overwritten or re-tagged by another institute.
    let s3 = it.aws_as(&stranger).await?.s3();
    for source in [&it.institute, &other.institute] {
        let put = s3.put_object().bucket(&stored.bucket).key(&key).body(b"forged".to_vec().into());
        let put = put.tagging(format!("source={source}&state=parsed")).send().await;
        assert_eq!(put.unwrap_err().code(), Some("AccessDenied"));
    }
    // Its own readers do, by the API and past it.
    let reader = it.caller(&it.institute, "").await?;
    assert_eq!(get(&it, &reader, &id, RAW).await?.body, bytes);
    let own = it.aws_as(&reader).await?.s3().get_object().bucket(&stored.bucket).key(&key).version_id(version).send().await?;
    assert_eq!(own.body.collect().await?.into_bytes(), bytes);
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_not_the_message_are_never_shown() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let bytes = latin_1(&adt(&unique(), "M\u{dc}LLER"));
    let (_, id) = store(&it, &admin, &bytes, LATIN_1).await?;
    let stored = it.record(&id).await?.facts.context("stored")?;
    let key = stored.raw_key.context("a raw object")?;
    // A writer may put a version of their own over the object, past the API. The catalog names the version that counts.
    let put = it.aws_as(&admin).await?.s3().put_object().bucket(&stored.bucket).key(&key).body(b"MSH|forged".to_vec().into());
    let put = put.tagging(format!("source={}&state=parsed", it.institute)).send().await?;
    assert_eq!(get(&it, &admin, &id, RAW).await?.body, bytes);
    // And if even the catalog were wrong, the hash is not.
    it.set(&id, "raw_version_id", put.version_id().context("a version")?).await?;
    let answer = get(&it, &admin, &id, RAW).await?;
    assert_eq!((answer.status.as_u16(), answer.text("detail").contains("not the message")), (500, true));
    assert!(!String::from_utf8_lossy(&answer.body).contains("forged"));
    assert_eq!(get(&it, &admin, &id, ER7).await?.status, 200, "the canonical form is an object of its own");
    Ok(())
}

#[tokio::test]
async fn the_event_points_to_what_was_received() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    for content_type in [LATIN_1, ER7] {
        let message = adt(&unique(), "M\u{dc}LLER");
        let bytes = if content_type == ER7 { message.into_bytes() } else { latin_1(&message) };
        let (submission_id, id) = store(&it, &admin, &bytes, content_type).await?;
        let heard = listener.hear_id(&event_id(&submission_id, id.as_str(), "stored")).await?;
        let stored = it.record(&id).await?.facts.context("stored")?;
        let data = &heard.event["data"];
        assert_eq!(data.get("rawKey").and_then(Value::as_str), stored.raw_key.as_deref());
        assert_eq!(data.get("rawVersionId").and_then(Value::as_str), stored.raw_version_id.as_deref());
        assert_eq!(stored.raw_key.is_some(), content_type == LATIN_1);
    }
    Ok(())
}
