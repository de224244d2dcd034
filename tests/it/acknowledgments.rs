//! What a sender is told in HL7's own words, and files of several messages.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use client::http::{Answer, ER7, JSON};
use domain::Charset;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{Caller, DEADLINE, Harness, adt, python, unique};

/// As an interface engine posts: no `Accept` of its own.
async fn post(it: &Harness, caller: &Caller, body: impl Into<Vec<u8>>, content_type: &str) -> Result<Answer> {
    let request = it.api.request(Method::POST, "/er7", Some(&caller.token));
    client::http::send(request.header("content-type", content_type).header("accept", "*/*").body(body.into())).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[tokio::test]
async fn an_engine_gets_an_ack_and_the_same_one_for_the_same_message() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let control_id = unique();
    let message = format!("MSH|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||ADT^A01^ADT_A01|{control_id}|P|2.5.1\rPID|1||7||DOE^JANE\r");
    let first = post(&it, &admin, message.clone(), ER7).await?;
    ensure!(first.status == 200, "{}", text(&first));
    assert_eq!(first.headers["content-type"], "application/hl7-v2; charset=UTF-8");
    let segments = text(&first);
    let [msh, msa, ""] = segments.split('\r').collect::<Vec<_>>()[..] else { panic!("{segments:?}") };
    assert!(msh.starts_with("MSH|^~\\&|LAKE|SLUICE|LAB|HOSP|") && msh.contains("||ACK^A01^ACK|"), "{msh}");
    assert_eq!(msa, format!("MSA|AA|{control_id}"));

    // Queued still, and stored by now.
    assert_eq!(post(&it, &admin, message.clone(), ER7).await?.body, first.body);
    let id = domain::Er7::canonical(&message)?.message_id();
    it.api.final_status(id.as_str(), &admin.token, DEADLINE).await?;
    let again = post(&it, &admin, message.replace('\r', "\r\n"), ER7).await?;
    assert_eq!((again.status.as_u16(), again.body), (200, first.body));
    assert_eq!(it.record(&id).await?.submissions, 3);
    Ok(())
}

#[tokio::test]
async fn msh_18_decides_the_character_set_of_a_message_and_its_ack() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    for (msh_18, label, name) in
        [("8859/1", "windows-1252", "MÜLLER"), ("~ISO IR87", "iso-2022-jp", "山田"), ("8859/5", "iso-8859-5", "Иванов")]
    {
        let message = format!("MSH|^~\\&|{name}|H|||20260101||ADT^A01|{}|P|2.5.1||||||{msh_18}\rPID|1||7||{name}\r", unique());
        let charset = Charset::for_label(label).context("a label")?;
        let received = charset.encode(&message).context("encodable")?;
        let ack = post(&it, &admin, received.clone(), ER7).await?;
        let answered = charset.decode(&ack.body)?;
        assert!(answered.contains(&format!("|||{name}|H|")) && answered.contains("\rMSA|AA|"), "{answered}");
        let answered_in = ack.headers["content-type"].to_str()?.to_ascii_lowercase();
        assert_eq!(answered_in, format!("application/hl7-v2; charset={label}"));

        let id = domain::Er7::canonical(&message)?.message_id();
        let status = it.api.final_status(id.as_str(), &admin.token, DEADLINE).await?;
        assert_eq!(status["status"], "stored", "decoded as it was meant: {msh_18}");
        let raw =
            it.api.request(Method::GET, &format!("/er7/{id}"), Some(&admin.token)).header("accept", "application/octet-stream");
        assert!(client::http::send(raw).await?.body == received, "{msh_18}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_cannot_be_accepted_gets_an_error_with_its_place_and_leaves_nothing() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let msh = "MSH|^~\\&|LAB|HOSP|||20260101||ADT^A01|77|P|2.5.1||||||8859/6\r";
    let damaged = [msh.as_bytes(), b"PID|1||7||SECRET\xa1\r"].concat();
    let answer = post(&it, &admin, damaged, ER7).await?;
    let ack = text(&answer);
    let hint = "if it is in another set, name that in MSH-18, with --charset, or charset= in Content-Type";
    let expected = format!("E||||the message is not valid ISO-8859-6: byte {} cannot be decoded: {hint}\r", msh.len() + 16);
    assert!(answer.status == 400 && ack.contains("\rMSA|AE|77|") && ack.ends_with(&expected), "{ack}");
    assert!(!ack.contains("SECRET"));
    let nobody = it.caller(&it.institute, "").await?;
    let answer = post(&it, &nobody, adt("1", "DOE"), ER7).await?;
    assert_eq!(answer.status, 403);
    assert_eq!(it.records().await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_message_decides_how_it_is_answered_and_is_stored_in_any_case() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    // MSH-9, MSH-15 and MSH-16, what follows MSH, the status, and the answer's MSA-1 and MSH-9.
    let table = [
        ("ADT^A01", "|", "PID|1", 200, Some(("AA", "ACK^A01^ACK"))),
        ("ADT^A01", "AL|AL", "PID|1", 200, Some(("AA", "ACK^A01^ACK"))),
        ("ADT^A01", "AL|NE", "PID|1", 200, Some(("CA", "ACK^A01^ACK"))),
        ("ADT^A01", "ER|NE", "PID|1", 204, None),
        ("ORU^R30^ORU_R30", "ER|AL", "PID|1", 200, Some(("AA", "ACK^R33^ACK"))),
        ("ACK^A01^ACK", "AL|AL", "MSA|AA|1", 204, None),
        ("QRY^Q02^QRY_Q02", "|", "QRD|20260101|R|D|4|||RD|||OTH|||T", 200, Some(("AR", "QCK^Q02^QCK_Q02"))),
    ];
    for (kind, asked, behind, status, expected) in table {
        let message = format!("MSH|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||{kind}|{}|P|2.5.1|||{asked}\r{behind}\r", unique());
        let answer = post(&it, &admin, message.clone(), ER7).await?;
        let ack = text(&answer);
        let msa = ack.split('\r').find(|it| it.starts_with("MSA")).unwrap_or_default();
        let found = msa.split('|').nth(1).zip(ack.split('|').nth(8));
        assert_eq!((answer.status.as_u16(), found), (status, expected), "{kind} {asked}");
        let id = domain::Er7::canonical(&message)?.message_id();
        assert_eq!(it.api.final_status(id.as_str(), &admin.token, DEADLINE).await?["status"], "stored", "{kind} {asked}");
    }
    Ok(())
}

#[tokio::test]
async fn the_ack_of_a_message_that_does_not_parse_says_where() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (_, status) = it.store(&admin, &format!("\r\nMSH|ABCD|DOE|||||||{}", unique())).await?;
    assert_eq!((&status["status"], &status["state"]), (&json!("stored"), &json!("error")));
    let error = &status["error"];
    assert_eq!((&error["code"], &error["segment"]), (&json!("msh-delimiters"), &json!("MSH")), "{error}");
    // The blank line before MSH is no part of the canonical form.
    assert_eq!((&error["position"], &error["offset"]), (&json!(1), &json!(0)), "{error}");
    Ok(())
}

fn batch(messages: &[String]) -> String {
    let (file, count) = (unique(), messages.len());
    format!(
        "FHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||||{file}\rBHS|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||||B1\r{}BTS|{count}\rFTS|1\r",
        messages.concat()
    )
}

#[tokio::test]
async fn each_message_of_a_file_is_stored_or_refused_by_itself() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let (known, _) = it.store(&admin, &adt(&unique(), "DOE")).await?;
    let known_text = client::http::send(it.api.request(Method::GET, &format!("/er7/{known}"), Some(&admin.token))).await?.body;
    let mut messages: Vec<String> = (0..12).map(|_| adt(&unique(), "DOE")).collect();
    messages.push(String::from_utf8(known_text)?);
    messages.push("MSH|^~\\&|A|||||||bad|P|2.5||||||8859/6\rPID|1||\u{a1}\r".to_owned());
    let body = batch(&messages).into_bytes();
    // Its second byte in UTF-8 is none of ISO 8859-6.
    let answer = it.api.submit(body.clone(), ER7, Some(&admin.token)).await?;
    let found = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &found["queued"], &found["duplicates"], &found["refused"]),
        (202, &json!(12), &json!(1), &json!(1)),
        "{found}"
    );
    assert_eq!(found["batchProblems"], json!([]));
    for message in found["messages"].as_array().context("messages")?.iter().filter(|it| it["status"] == "queued") {
        let id = message["messageId"].as_str().context("an id")?;
        assert_eq!(it.api.final_status(id, &admin.token, DEADLINE).await?["status"], "stored");
    }
    assert_eq!(it.records().await?, 13, "the refused one left nothing");

    // Sent again as an engine does: all are there, and each has its ACK.
    let ack = text(&post(&it, &admin, body, ER7).await?);
    assert_eq!((ack.matches("\rMSA|AA|").count(), ack.matches("\rMSA|AE|bad|").count()), (13, 1), "{ack}");
    assert!(ack.starts_with("FHS|^~\\&|LAKE|SLUICE|LAB|HOSP|") && ack.ends_with("BTS|14\rFTS|1\r"), "{ack}");
    Ok(())
}

#[tokio::test]
async fn a_plain_run_and_a_json_body_of_several_messages_are_split_too() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let run = [adt(&unique(), "DOE"), adt(&unique(), "ROE")].concat().replace('\r', "\n");
    let body = json!({ "msg": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &run) }).to_string();
    let answer = it.api.submit(body.into_bytes(), JSON, Some(&admin.token)).await?;
    assert_eq!((answer.status.as_u16(), answer.json()["queued"].clone()), (202, json!(2)));
    let short = batch(&[adt(&unique(), "DOE")]).replace("BTS|1", "BTS|2");
    let found: Value = it.api.submit(short.into_bytes(), ER7, Some(&admin.token)).await?.json();
    assert_eq!(found["batchProblems"], json!([{ "code": "bts-count", "declared": 2, "found": 1 }]));
    Ok(())
}

/// The convention of HAPI's HL7 over HTTP, by a program of `examples/`: python-hl7 reads what it sends and what it gets.
#[tokio::test]
async fn a_public_client_speaks_hl7_over_http() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let example: PathBuf = Workspace::find().await?.root().join("examples/hl7-over-http");
    let python = python("hl7-over-http", &example.join("requirements.txt")).await?;
    let (folder, control_id) = (tempfile::tempdir()?, unique());
    let file = folder.path().join("message.hl7");
    std::fs::write(
        &file,
        format!("MSH|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||ADT^A01|{control_id}|P|2.5.1\nPID|1||7||MÜLLER^JÜRGEN\n"),
    )?;
    for _ in 0..2 {
        let mut client = Command::new(&python);
        let client = client.arg(example.join("send.py")).arg(&it.outputs.api_url).arg(&file);
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        client.stdin.take().context("a standard input")?.write_all(admin.token.expose_secret().as_bytes())?;
        let output = client.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout)?, format!("200 AA {control_id}\n"));
    }
    Ok(())
}
