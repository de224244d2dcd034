//! Messages that are too large for a request go from the gateway by way of an upload, like those of `sluice send`.

use std::time::Duration;

use domain::{Er7, UploadId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::gateway::Gateway;
use super::person::{Person, root};
use super::scripted::{accepted, http, no_such_upload, presigned};

const MIB: usize = 1024 * 1024;

/// A message with a document of so many MiB, which is also in this file.
fn document(person: &Person, file: &str, mib: usize) -> String {
    let message = format!("{}OBX|1|ED|PDF||{}\r", person.message(file, "DOE"), "A".repeat(mib * MIB));
    std::fs::write(person.path(file), &message).unwrap();
    message
}

fn id(message: &str) -> String {
    Er7::canonical(message).unwrap().message_id().to_string()
}

/// SIGKILL: nothing in it gets to know.
fn kill(mut gateway: Gateway) {
    gateway.process.kill().unwrap();
    gateway.process.wait().unwrap();
}

/// The objects in the lake with messages of a person's institute: one for each version.
async fn stored(person: &Person) -> Vec<String> {
    let s3 = aws_sdk_s3::Client::new(root(&person.outputs).config());
    let prefix = format!("source={}/", person.institute);
    let found = s3.list_object_versions().bucket(&person.outputs.bucket).prefix(prefix).send().await.unwrap();
    let keys = found.versions().iter().map(|version| version.key().unwrap().to_owned());
    keys.filter(|key| key.ends_with(".hl7")).collect()
}

#[tokio::test]
async fn a_large_message_over_mllp_is_stored_byte_for_byte_and_one_over_the_limit_is_refused() {
    let person = Person::signed_in("documents").await;
    let mut gateway = Gateway::start(&person, &["--ask-after", "1", "--max-frame-bytes", "25000000"]);
    let ten = document(&person, "ten.hl7", 10);
    let answer = gateway.exchange(&ten);
    assert!(answer.contains("MSA|AA|"), "{answer}");
    // By a sender of Sluice's own, on one connection.
    let (twenty, small) = (document(&person, "twenty.hl7", 20), person.message("small.hl7", "DOE"));
    document(&person, "huge.hl7", 24);
    let files = ["mllp", "send", "twenty.hl7", "huge.hl7", "small.hl7", "--to", &gateway.address, "--timeout", "60"];
    let sent = person.run(&files).expect(1, "2 accepted, 1 not").text();
    assert!(sent.contains("MSA|AE|") && sent.contains("too large"), "{}", sent.chars().take(2000).collect::<String>());
    let parts = ["b1.hl7", "b2.hl7", "b3.hl7"].map(|file| document(&person, file, 2));
    let batch = format!("BHS|^~\\&|HIS\r{}BTS|3\r", parts.concat());
    assert_eq!(gateway.exchange(&batch).matches("MSA|AA|").count(), 3, "a batch is one submission");

    gateway.until("uploaded", 3);
    gateway.until("stored", 4);
    for message in [&ten, &twenty, &small].into_iter().chain(&parts) {
        let got = person.run(&["get", &id(message)]).expect(0, "").stdout;
        assert!(got == message.as_bytes(), "other bytes: {}", got.len());
    }
    let report = gateway.stop();
    assert_eq!((&report["large"], &report["uploaded"], &report["spooled"]), (&3.into(), &3.into(), &0.into()), "{report}");
    assert_eq!((&report["rejected"], &report["delivered"]), (&1.into(), &4.into()), "{report}");
}

#[tokio::test]
async fn large_messages_are_stored_once_however_often_the_gateway_is_killed() {
    let person = Person::signed_in("kills").await;
    let messages: Vec<String> = (0..4).map(|nth| document(&person, &format!("{nth}.hl7"), 6)).collect();
    // Some moment before, within and after the PUT; messages that an earlier gateway has left are on their way again at that time.
    for (message, milliseconds) in messages.iter().zip([0, 60, 200, 600]) {
        let gateway = Gateway::start(&person, &["--ask-after", "1"]);
        assert!(gateway.exchange(message).contains("MSA|AA|"));
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        kill(gateway);
    }
    let mut gateway = Gateway::start(&person, &["--ask-after", "1"]);
    gateway.until("spooled", 0);
    gateway.until("awaited", 0);
    gateway.stop();
    let stored = stored(&person).await;
    assert_eq!(stored.len(), messages.len(), "{stored:?}");
    for message in &messages {
        let got = person.run(&["get", &id(message)]).expect(0, "").stdout;
        assert!(got == message.as_bytes(), "other bytes: {}", got.len());
    }
}

/// An API, and S3, whose answers a test gives one by one.
struct Api {
    listener: TcpListener,
    url: String,
}

/// A request whose body is not read yet.
struct Request {
    head: String,
    stream: TcpStream,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// The next request of an upload, which must begin like this.
    async fn next(&self, beginning: &str) -> Request {
        loop {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let request = Request { head: String::from_utf8(head).unwrap(), stream };
            // Each gateway begins with this one.
            if request.head.starts_with("POST /er7/release ") {
                request.answer(&http("503 Service Unavailable", "", "")).await;
                continue;
            }
            // Not all of it: there may be a token in it.
            assert!(request.head.starts_with(beginning), "{:?}", request.head.lines().next());
            return request;
        }
    }
}

impl Request {
    /// So many bytes of its body, or all of it.
    async fn read(&mut self, most: usize) -> Vec<u8> {
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length.min(most)];
        self.stream.read_exact(&mut body).await.unwrap();
        body
    }

    async fn answer(mut self, answer: &str) {
        self.read(usize::MAX).await;
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_within_an_upload_uploads_again_and_after_it_does_not() {
    let person = Person::signed_in("killed").await;
    let message = document(&person, "a.hl7", 10);
    let api = Api::start().await;
    person.asks_at(&api.url);
    let take = format!("POST /er7/uploads/{} ", UploadId::of(message.as_bytes()));
    let presigned = presigned(message.len()).replace("HERE", &api.url);

    let gateway = Gateway::start(&person, &["--ask-after", "3600"]);
    assert!(gateway.exchange(&message).contains("MSA|AA|"));
    api.next(&take).await.answer(&no_such_upload()).await;
    api.next("POST /er7/uploads ").await.answer(&presigned).await;
    let mut put = api.next("PUT /bucket/key?signature ").await;
    put.read(MIB).await;
    kill(gateway);
    drop(put);

    let gateway = Gateway::start(&person, &["--ask-after", "3600"]);
    api.next(&take).await.answer(&no_such_upload()).await;
    api.next("POST /er7/uploads ").await.answer(&presigned).await;
    let mut put = api.next("PUT /bucket/key?signature ").await;
    assert!(put.read(usize::MAX).await == message.as_bytes(), "other bytes");
    put.stream.write_all(http("200 OK", "", "").as_bytes()).await.unwrap();
    let submission = api.next(&take).await;
    kill(gateway);
    drop(submission);

    // The bytes are there, so the submission is all that is left to do.
    let mut gateway = Gateway::start(&person, &["--ask-after", "3600"]);
    api.next(&take).await.answer(&http("202 Accepted", "", &accepted())).await;
    gateway.until("uploaded", 1);
    assert_eq!(gateway.stop()["awaited"], 1);
}

#[tokio::test]
async fn a_large_message_stays_while_the_deployment_has_no_uploads_and_the_log_says_why() {
    let person = Person::signed_in("older").await;
    let message = document(&person, "a.hl7", 5);
    let api = Api::start().await;
    person.asks_at(&api.url);
    let mut gateway = Gateway::start(&person, &["--ask-after", "3600"]);
    assert!(gateway.exchange(&message).contains("MSA|AA|"));
    // As API Gateway answers where there is no such route.
    let unknown = http("404 Not Found", "Content-Type: application/json\r\n", &json!({ "message": "Not Found" }).to_string());
    api.next("POST /er7/uploads/").await.answer(&unknown).await;
    let line = gateway.until_said("putOff");
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.starts_with("404 Not Found: ") && reason.contains("this deployment has no uploads"), "{line}");
    // Others go on, and it is tried again.
    assert!(gateway.exchange(&person.message("b.hl7", "DOE")).contains("MSA|AA|"));
    let (mut tries, mut small) = (0, 0);
    while tries == 0 || small == 0 {
        let request = api.next("POST /er7").await;
        let is_small = request.head.starts_with("POST /er7 ");
        (tries, small) = (tries + usize::from(!is_small), small + usize::from(is_small));
        request.answer(&if is_small { http("202 Accepted", "", &accepted()) } else { unknown.clone() }).await;
    }
    gateway.until("delivered", 1);
    let report = gateway.stop();
    assert_eq!((&report["spooled"], &report["awaited"], &report["refused"]), (&1.into(), &1.into(), &0.into()), "{report}");
}
