//! An API that says what a test wants it to say.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An API that gives these answers, one a connection, and tells what it was asked: the head of each request, and its body.
pub(crate) async fn scripted(answers: Vec<String>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let here = url.clone();
    let serve = async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).await.unwrap();
            requests.push(request + &String::from_utf8_lossy(&body));
            stream.write_all(answer.replace("HERE", &here).as_bytes()).await.unwrap();
        }
        requests
    };
    (url, tokio::spawn(serve))
}

pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn accepted() -> String {
    json!({ "messageId": "0".repeat(64), "submissionId": "1", "status": "queued", "statusUrl": "http://x" }).to_string()
}

/// What the API says of an upload that is not there.
pub(crate) fn no_such_upload() -> String {
    let problem =
        json!({ "type": "urn:sluice:problem:no-such-upload", "title": "No such upload", "status": 404, "detail": "upload it" });
    http("404 Not Found", "Content-Type: application/problem+json\r\n", &problem.to_string())
}

/// What the API says to the announcement of so many bytes. The URL leads HERE.
pub(crate) fn presigned(bytes: usize) -> String {
    let headers = json!({ "content-length": bytes.to_string(), "if-none-match": "*", "x-amz-checksum-sha256": "hash" });
    let presigned = json!({ "uploadId": "0", "method": "PUT", "url": "HERE/bucket/key?signature", "headers": headers });
    // Without a length, which the address that comes in the place of HERE would change.
    format!("HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{presigned}")
}

/// What API Gateway says where its authorizer does not let a token in.
pub(crate) fn shut_out() -> String {
    http("403 Forbidden", "Content-Type: application/json\r\n", r#"{"message":"Forbidden"}"#)
}

pub(crate) fn token_of(request: &str) -> Option<String> {
    request.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization: ")).map(str::to_owned)
}
