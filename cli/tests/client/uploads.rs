//! Messages that are too large for a request are uploaded, then submitted.

use serde_json::json;

use super::person::Person;
use super::scripted::{accepted, http, scripted, token_of};
use super::text;

/// The first line of a request: the others hold a token.
fn line(request: &str) -> &str {
    request.lines().next().unwrap_or_default()
}

/// An API without uploads of these bytes, S3, and the submission in the end.
fn answers_to_an_upload(bytes: usize) -> Vec<String> {
    let missing =
        json!({ "type": "urn:sluice:problem:no-such-upload", "title": "No such upload", "status": 404, "detail": "upload it" });
    let headers = json!({ "content-length": bytes.to_string(), "if-none-match": "*", "x-amz-checksum-sha256": "hash" });
    let presigned = json!({ "uploadId": "0", "method": "PUT", "url": "HERE/bucket/key?signature", "headers": headers });
    vec![
        http("404 Not Found", "Content-Type: application/problem+json\r\n", &missing.to_string()),
        // Without a length, which the address that comes in the place of HERE would change.
        format!("HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{presigned}"),
        http("200 OK", "", ""),
        http("202 Accepted", "", &accepted()),
    ]
}

#[tokio::test]
async fn a_large_message_is_uploaded_and_an_upload_that_is_there_is_not_sent_again() {
    let person = Person::signed_in("uploads").await;
    let message = format!("{}NTE|1||{}\r", person.message("large.hl7", "DOE"), "x".repeat(5 << 20));
    std::fs::write(person.path("large.hl7"), &message).unwrap();
    let id = domain::UploadId::of(message.as_bytes()).to_string();

    // Broken off when the message was on its way.
    let mut answers = answers_to_an_upload(message.len());
    answers.truncate(2);
    answers.push("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "large.hl7"]).await.expect(1, "1 refused, 0 left");
    assert!(ended.text().contains("403 Forbidden: S3 does not take the upload"), "{}", ended.text());
    requests.await.unwrap();

    let (url, requests) = scripted(answers_to_an_upload(message.len())).await;
    person.asks_at(&url);
    person.run_async(&["send", "--charset", "utf-8", "--again", "large.hl7"]).await.expect(0, "1 accepted");
    let requests = requests.await.unwrap();
    let [first, announced, put, last] = &requests[..] else { panic!("{} requests", requests.len()) };
    for request in [first, last] {
        assert!(request.starts_with(&format!("POST /er7/uploads/{id} ")) && token_of(request).is_some(), "{}", line(request));
        assert!(request.contains("content-type: application/hl7-v2; charset=UTF-8\r\n"), "{}", line(request));
    }
    assert!(
        announced.starts_with("POST /er7/uploads ")
            && announced.ends_with(&json!({ "size": message.len(), "sha256": id }).to_string())
    );
    let (head, body) = put.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /bucket/key?signature ") && token_of(head).is_none(), "{}", line(head));
    assert!(head.contains(&format!("content-length: {}", message.len())) && head.contains("if-none-match: *"), "{}", line(head));
    assert!(body == message, "other bytes");

    // Uploaded by a run that ended before it was submitted.
    let (url, requests) = scripted(vec![http("202 Accepted", "", &accepted())]).await;
    person.asks_at(&url);
    person.run_async(&["send", "--again", "large.hl7"]).await.expect(0, "1 accepted");
    assert!(requests.await.unwrap()[0].starts_with(&format!("POST /er7/uploads/{id} ")));
}

#[tokio::test]
async fn a_message_of_more_than_a_request_takes_is_stored_and_comes_back() {
    let person = Person::signed_in("large").await;
    let message = format!("{}NTE|1||{}\r", person.message("large.hl7", "DOE"), "x".repeat(5 << 20));
    std::fs::write(person.path("large.hl7"), &message).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "large.hl7"]).expect(0, "").json();
    assert_eq!((&sent["files"][0]["status"], &sent["files"][0]["state"]), (&json!("stored"), &json!("parsed")));
    let got = person.run(&["get", text(&sent["files"][0]["messageId"])]).expect(0, "").text();
    assert!(got == message, "other bytes");
}
