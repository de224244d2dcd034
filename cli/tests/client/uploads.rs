//! Messages that are too large for a request are uploaded, then submitted.

use serde_json::json;

use super::person::Person;
use super::scripted::{accepted, http, no_such_upload, presigned, scripted, token_of};
use super::text;

/// The first line of a request: the others hold a token.
fn line(request: &str) -> &str {
    request.lines().next().unwrap_or_default()
}

/// An API without uploads of these bytes, S3, and the submission in the end.
fn answers_to_an_upload(bytes: usize) -> Vec<String> {
    vec![no_such_upload(), presigned(bytes), http("200 OK", "", ""), http("202 Accepted", "", &accepted())]
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

#[tokio::test]
async fn a_url_that_has_run_out_is_asked_for_anew_once() {
    let person = Person::signed_in("late").await;
    let message = format!("{}NTE|1||{}\r", person.message("large.hl7", "DOE"), "x".repeat(5 << 20));
    std::fs::write(person.path("large.hl7"), &message).unwrap();
    let late = http("403 Forbidden", "", "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>");

    let mut answers = answers_to_an_upload(message.len());
    answers.splice(2..2, [late.clone(), presigned(message.len())]);
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    person.run_async(&["send", "large.hl7"]).await.expect(0, "1 accepted");
    let requests = requests.await.unwrap();
    assert!(requests[4].starts_with("PUT ") && requests[4].ends_with(&message), "{}", line(&requests[4]));

    let (url, requests) = scripted(vec![no_such_upload(), presigned(1), late.clone(), presigned(1), late]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "--again", "large.hl7"]).await.expect(1, "1 refused, 0 left");
    assert!(ended.text().contains("403 Forbidden: S3 does not take the upload"), "{}", ended.text());
    requests.await.unwrap();
}

#[tokio::test]
async fn a_deployment_without_uploads_is_named_as_the_reason() {
    let person = Person::signed_in("older").await;
    let text = person.message("small.hl7", "DOE");
    std::fs::write(person.path("large.hl7"), format!("{text}NTE|1||{}\r", "x".repeat(5 << 20))).unwrap();
    // As API Gateway answers where there is no such route.
    let unknown = http("404 Not Found", "Content-Type: application/json\r\n", r#"{"message":"Not Found"}"#);
    let (url, requests) = scripted(vec![unknown.clone()]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "large.hl7"]).await.expect(1, "1 refused, 0 left");
    assert!(ended.text().contains("this deployment has no uploads"), "{}", ended.text());
    requests.await.unwrap();

    // Of a message that it might have taken in a request, it has said why not.
    let too_large = json!({ "title": "Content too large", "status": 413, "detail": "at most 100 bytes" }).to_string();
    let too_large = http("413 Payload Too Large", "Content-Type: application/problem+json\r\n", &too_large);
    let (url, requests) = scripted(vec![too_large, unknown]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "small.hl7"]).await.expect(1, "1 refused, 0 left");
    assert!(ended.text().contains("at most 100 bytes"), "{}", ended.text());
    requests.await.unwrap();
}
