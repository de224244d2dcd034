//! What was sent is read back, by the command and with the user's own AWS credentials.

use std::time::{Duration, Instant};

use client::aws::Aws;
use serde_json::{Value, json};

use super::person::{Person, root};
use super::scripted::{http, scripted};
use super::{mode, text};

#[tokio::test]
async fn the_bytes_that_were_sent_are_read_back() {
    let person = Person::signed_in("raw").await;
    let message = person.message("a.hl7", "M\u{fc}LLER");
    let sent: Vec<u8> = message.replace('\r', "\r\n").chars().map(|character| character as u8).collect();
    std::fs::write(person.path("a.hl7"), &sent).unwrap();
    let answer = person.run(&["send", "--charset", "iso-8859-1", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    let id = text(&answer["files"][0]["messageId"]);
    assert_eq!(person.run(&["get", id]).expect(0, "").text(), message);
    assert_eq!(person.run(&["get", id, "--raw"]).expect(0, "").stdout, sent);
    person.run(&["get", id, "--raw", "--json", "-o", "copy.bin"]).expect(0, "copy.bin");
    assert_eq!(std::fs::read(person.path("copy.bin")).unwrap(), sent);
    person.run(&["get", id, "--raw", "--format", "json"]).expect(2, "--format");
}

#[tokio::test]
async fn messages_are_read_back() {
    let person = Person::signed_in("read").await;
    let message = person.message("a.hl7", "DOE");
    let mut large = person.message("large.hl7", "ROE");
    for number in 0..60_000 {
        large.push_str(&format!("OBX|{number}|ST|GLU^Glucose^L|1|{number}|mg/dL|70-105|N|||F\r"));
    }
    std::fs::write(person.path("large.hl7"), &large).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "--concurrency", "1", "a.hl7", "large.hl7"]).expect(0, "").json();
    let [id, large_id] = [0, 1].map(|row: usize| text(&sent["files"][row]["messageId"]));

    let status = person.run(&["status", id, "--json"]).expect(0, "").json();
    assert_eq!((&status[0]["status"], &status[0]["state"]), (&json!("stored"), &json!("parsed")));
    let table = person.run(&["status", "--wide", id, large_id]).expect(0, "").text();
    assert!(table.contains(id) && table.contains(large_id), "{table}");

    assert_eq!(person.run(&["get", id]).expect(0, "").text(), message);
    person.run(&["get", id, "--output", "copy.hl7"]).expect(0, "copy.hl7");
    assert_eq!(std::fs::read_to_string(person.path("copy.hl7")).unwrap(), message);
    assert_eq!(mode(&person.path("copy.hl7")), 0o600);
    let rendition = person.run(&["get", id, "--format", "json"]).expect(0, "").json();
    assert!(rendition.to_string().contains("DOE"));
    assert_eq!(person.run(&["get", large_id]).expect(0, "").text(), large);
    // By way of S3: it is more than a Lambda function can answer.
    let rendition = person.run(&["get", large_id, "--format", "json"]).expect(0, "");
    assert!(rendition.stdout.len() > 6 << 20 && rendition.json().is_object(), "{}", rendition.stdout.len());

    let none = "0".repeat(64);
    let error = format!("error: {none}: 404 Not Found: the institute has no message with this id");
    person.run(&["get", &none, "-o", "none.hl7"]).expect(1, &error);
    assert!(!person.path("none.hl7").exists());
    person.run(&["status", &none, id]).expect(1, "404 Not Found");
    person.run(&["get", "not-an-id"]).expect(2, "64 hexadecimal digits");
    person.run(&["get", id, "-o", "nowhere/a.hl7"]).expect(1, "writing nowhere/a.hl7");

    let lines = |arguments: &[&str]| -> Vec<Value> {
        let text = person.run(arguments).expect(0, "").text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["list", "--json"]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["controlId"], format!("{}-a.hl7", person.institute), "newest first");
    assert_eq!(lines(&["list", "--json", "--type", "ADT^A01"]).len(), 2);
    assert_eq!(lines(&["list", "--json", "--type", "ORU"]).len(), 0);
    assert_eq!(lines(&["list", "--json", "--to", "2026-01-01"]).len(), 0);
    assert_eq!(lines(&["list", "--json", "--from", text(&all[0]["receivedAt"])]).len(), 1);
    let table = person.run(&["list", "--limit", "1", "--wide"]).expect(0, "There are more than these 1").text();
    assert!(table.contains("ADT^A01") && table.contains(text(&all[0]["messageId"])), "{table}");
    person.run(&["list", "--from", "some day"]).expect(2, "invalid value");
}

#[tokio::test]
async fn the_lakes_staff_see_the_status_of_an_institutes_messages_and_not_their_content() {
    let (nurse, other) = (Person::signed_in("overseen").await, Person::signed_in("other").await);
    nurse.message("a.hl7", "DOE");
    let sent = nurse.run(&["send", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    let id = text(&sent["files"][0]["messageId"]);
    let institute = nurse.institute.as_str();

    let staff = Person::of_staff("overseer").await;
    staff.login(&["--staff"], &staff.password).expect(0, "");
    let is_unified = nurse.outputs.stack_output("Authorization").unwrap() == "unified";
    // API Gateway's own authorizer knows the institutes' users only.
    let shut_out = if is_unified { "403 Forbidden: lake staff see which messages an institute has" } else { "401 Unauthorized" };
    let let_in: &[&Person] = if is_unified { &[&staff, &nurse] } else { &[&nurse] };
    for person in let_in {
        let listed = person.run(&["list", "--institute", institute, "--json"]).expect(0, "").text();
        let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((listed.len(), text(&listed[0]["messageId"])), (1, id));
        let status = person.run(&["status", "--institute", institute, id, "--json"]).expect(0, "").json();
        assert_eq!((&status[0]["messageId"], &status[0]["status"]), (&json!(id), &json!("stored")));
    }
    staff.run(&["get", id]).expect(1, shut_out);
    staff.run(&["list"]).expect(1, shut_out);
    staff.message("b.hl7", "ROE");
    let table = staff.run(&["send", "b.hl7"]).expect(1, "0 accepted, 1 refused").text();
    assert!(table.contains(shut_out), "{table}");
    staff.run(&["release", "--all"]).expect(1, shut_out);
    other.run(&["list", "--institute", institute]).expect(1, "403 Forbidden");
    other.run(&["status", "--institute", institute, id]).expect(1, "");
    staff.run(&["list", "--institute", "a/b"]).expect(2, "--institute");
    if is_unified {
        staff.run(&["status", "--institute", institute, &id[..8]]).expect(0, "");
        let nothing =
            staff.run(&["list", "--institute", "no-such-institute"]).expect(0, "no messages of institute no-such-institute");
        assert!(nothing.stderr.contains("A name that no institute has") && nothing.stdout.is_empty(), "{}", nothing.stderr);
    }
}

#[tokio::test]
async fn a_download_outlives_its_token() {
    let person = Person::signed_in("outlive").await;
    let message = person.message("a.hl7", "DOE");
    let id = domain::Er7::canonical(&message).unwrap().message_id();
    let half = http("200 OK", "", &message).replace("JANE||19800101|F\r", "");
    let (url, requests) = scripted(vec![
        http("401 Unauthorized", "", r#"{"message":"Unauthorized"}"#),
        http("307 Temporary Redirect", "Location: HERE/bucket/one?X-Amz-Signature=a\r\n", ""),
        http("403 Forbidden", "", "<Error><Code>ExpiredToken</Code></Error>"),
        http("307 Temporary Redirect", "Location: HERE/bucket/two?X-Amz-Signature=b\r\n", ""),
        half,
        http("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        http("200 OK", "", &message),
    ])
    .await;
    person.asks_at(&url);
    let began = Instant::now();
    person.run_async(&["get", id.as_str(), "-o", "a.copy"]).await.expect(0, "a.copy");
    assert!(began.elapsed() > Duration::from_millis(1_500), "neither pause was made");
    assert_eq!(std::fs::read_to_string(person.path("a.copy")).unwrap(), message);

    let requests = requests.await.unwrap();
    let asked: Vec<_> = requests.iter().map(|it| it.split(' ').nth(1).unwrap().split('?').next().unwrap()).collect();
    let path = format!("/er7/{id}");
    assert_eq!(asked, [&path, &path, "/bucket/one", &path, "/bucket/two", "/bucket/two", "/bucket/two"]);
    let token = |request: &String| {
        request.lines().find_map(|line| line.to_ascii_lowercase().starts_with("authorization: ").then(|| line.to_owned()))
    };
    let tokens: Vec<_> = requests.iter().map(token).collect();
    assert!(tokens[0].is_some() && tokens[1] != tokens[0] && tokens[3] != tokens[1] && tokens[3].is_some());
    assert!([2, 4, 5, 6].iter().all(|number: &usize| tokens[*number].is_none()), "S3 saw the token");

    // Something else than the message that was asked for leaves nothing.
    let (url, _) = scripted(vec![http("200 OK", "", "MSH|another")]).await;
    person.asks_at(&url);
    person.run_async(&["get", id.as_str(), "-o", "b.copy"]).await.expect(1, "the downloaded bytes do not match the message id");
    assert!(!person.path("b.copy").exists());
    let names: Vec<_> = std::fs::read_dir(person.home.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{names:?}");
}

#[tokio::test]
async fn the_users_own_credentials_read_the_lake() {
    let person = Person::signed_in("credentials").await;
    let message = person.message("a.hl7", "DOE");
    person.run(&["send", "--wait", "a.hl7"]).expect(0, "");
    let given = person.run(&["credentials"]).expect(0, "").json();
    assert_eq!(given["Version"], 1);
    assert!(text(&given["Expiration"]).parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());
    let member = |name: &str| text(&given[name]).to_owned();
    let [key, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(member);
    let credentials = aws_sdk_s3::config::Credentials::new(key, secret, Some(token), None, "sluice credentials");
    let endpoint_url = person.outputs.endpoint_url.as_deref().unwrap();
    let user = Aws::with_credentials(endpoint_url, &person.outputs.region, credentials).s3();

    let prefix = format!("source={}/", person.institute);
    let root = root(&person.outputs).s3();
    let listed = root.list_objects_v2().bucket(&person.outputs.bucket).prefix(prefix).send().await.unwrap();
    let key = listed.contents().iter().find_map(|it| it.key().filter(|key| key.ends_with(".hl7"))).unwrap();
    let object = user.get_object().bucket(&person.outputs.bucket).key(key).send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), message.as_bytes());
}
