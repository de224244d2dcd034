//! Sending files: once each, interrupted, and to an API that is busy or another server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::person::Person;
use super::scripted::{accepted, http, scripted};
use super::{mode, text};

const DEADLINE: Duration = Duration::from_secs(180);

#[tokio::test]
async fn files_are_sent_once_and_the_bad_ones_are_named() {
    let person = Person::signed_in("send").await;
    person.message("a.hl7", "DOE");
    person.message("b.hl7", "ROE");
    std::fs::write(person.path("empty.hl7"), "").unwrap();
    std::fs::File::create(person.path("large.hl7")).unwrap().set_len(65 << 20).unwrap();
    std::fs::write(person.path("random"), format!("no HL7 {}", person.institute)).unwrap();
    let umlaut = person.message("latin1.hl7", "M\u{fc}LLER");
    let latin1: Vec<u8> = umlaut.chars().map(|it| u8::try_from(u32::from(it)).unwrap()).collect();
    std::fs::write(person.path("latin1.hl7"), latin1).unwrap();

    let files = ["a.hl7", "empty.hl7", "large.hl7", "latin1.hl7", "b.hl7", "random", "missing.hl7"];
    let mut arguments = vec!["send", "--any", "--json", "--wait"];
    arguments.extend(files);
    let sent = person.run(&arguments).expect(1, "").json();
    let rows = sent["files"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| text(&row["file"])).collect::<Vec<_>>(), files);
    let found: Vec<_> = rows.iter().map(|row| (text(&row["fate"]), row["state"].as_str())).collect();
    let refused = ("refused", None);
    let parsed = ("accepted", Some("parsed"));
    assert_eq!(found, [parsed, refused, refused, refused, parsed, ("accepted", Some("error")), refused]);
    assert_eq!((&sent["accepted"], &sent["refused"], &sent["left"]), (&json!(3), &json!(4), &json!(0)));
    let answers: Vec<_> = [1, 2, 3, 6].map(|row: usize| text(&rows[row]["answer"])).into();
    assert_eq!(answers[0], "the file is empty");
    assert_eq!(answers[1], "too large: a message may have at most 64 MiB");
    assert!(answers[2].starts_with("400 Bad Request") && answers[2].contains("not valid UTF-8"), "{}", answers[2]);
    assert!(answers[3].contains("No such file"), "{}", answers[3]);

    // The journal knows them by what is in them, and holds none of it.
    let again = person.run(&["send", "--json", "a.hl7", "b.hl7"]).expect(0, "").json();
    assert!(again["files"].as_array().unwrap().iter().all(|row| row["answer"] == "sent before"));
    assert!(!format!("{:?}", person.journal()).contains("DOE"));
    let folder = person.path("state/sluice/sent");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    let again = person.run(&["send", "--json", "--again", "a.hl7"]).expect(0, "").json();
    assert_eq!(
        (text(&again["files"][0]["answer"]), &again["accepted"], &again["before"]),
        ("stored before", &json!(0), &json!(1))
    );

    // By any name that the other commands take, and by no other.
    person.run(&["send", "--charset", "foo", "latin1.hl7"]).expect(2, "unknown character set");
    let charset = person.run(&["send", "--charset", "8859/1", "--wait=180", "--json", "latin1.hl7"]).expect(0, "").json();
    assert_eq!(charset["files"][0]["status"], "stored");
    let id = text(&charset["files"][0]["messageId"]);
    assert_eq!(person.run(&["get", id]).expect(0, "").text(), umlaut);

    let mut piped = person.command(&["send", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(person.message("c.hl7", "POE").as_bytes()).unwrap();
    let table = person.ended(piped.wait_with_output().unwrap()).expect(0, "1 accepted, 0 refused, 0 left").text();
    assert!(table.contains("202 Accepted"), "{table}");
    person.run(&["send", "--charset", "a\rb", "a.hl7"]).expect(2, "unknown character set");
}

/// Starts to send the folder `many`, and waits until some of it is accepted.
fn start_sending(person: &Person) -> Child {
    let child = person.command(&["send", "--json", "--concurrency", "2", "many"]).spawn().unwrap();
    let began = Instant::now();
    while person.journal().len() < 5 {
        assert!(began.elapsed() < DEADLINE, "nothing is accepted");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn an_interrupted_send_resumes_where_it_stopped() {
    const FILES: usize = 110;
    let person = Person::signed_in("many").await;
    std::fs::create_dir(person.path("many")).unwrap();
    for number in 0..FILES {
        person.message(&format!("many/{number:03}.hl7"), "DOE");
    }

    // Ctrl-C: what is under way is finished, and the journal is what was reported.
    let child = start_sending(&person);
    signal(&child, Signal::INT);
    let ended = person.ended(child.wait_with_output().unwrap()).expect(1, "Finishing the messages under way");
    let report = ended.json();
    let accepted = usize::try_from(report["accepted"].as_u64().unwrap()).unwrap();
    assert_eq!(person.journal().len(), accepted);
    assert!(accepted < FILES && report["refused"] == 0, "{report}");
    assert_eq!(report["left"], FILES - accepted);
    let in_order = report["files"].as_array().unwrap().iter().map(|row| row["fate"] == "accepted");
    assert_eq!(in_order.filter(|it| *it).count(), accepted);

    // Killed: nothing that the journal has is sent again.
    std::thread::sleep(Duration::from_millis(20));
    let mut child = person.command(&["send", "--json", "--concurrency", "2", "many"]).spawn().unwrap();
    let began = Instant::now();
    while person.journal().len() < accepted + 5 {
        assert!(began.elapsed() < DEADLINE, "nothing more is accepted");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let journal = person.journal();
    assert!(journal.len() < FILES);

    let report = person.run(&["send", "--json", "--wait", "--concurrency", "8", "many"]).expect(0, "").json();
    assert_eq!(report["accepted"].as_u64().unwrap() + report["before"].as_u64().unwrap(), FILES as u64);
    let rows = report["files"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["answer"] == "sent before").count(), journal.len());
    assert!(rows.iter().all(|row| row["status"] == "stored"), "{report}");

    // Two pages.
    let listed = person.run(&["list", "--all", "--json"]).expect(0, "").text();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), FILES);
    for entry in &journal {
        let found = listed.iter().find(|message| message["messageId"] == entry["messageId"]).unwrap();
        assert_eq!(found["submissions"], 1, "{found}");
    }
}

#[tokio::test]
async fn the_messages_of_a_batch_are_sent_one_by_one() {
    let person = Person::signed_in("batch").await;
    let messages = ["a.hl7", "b.hl7", "c.hl7"].map(|file| person.message(file, "DOE"));
    let batch = format!("FHS|^~\\&\rBHS|^~\\&\r{}BTS|4\rFTS|1\r", messages.concat());
    std::fs::write(person.path("batch.hl7"), batch).unwrap();
    let refusal = r#"{"title":"Bad request","status":400,"detail":"not this one"}"#;
    let took = http("202 Accepted", "", &accepted());
    let refused = http("400 Bad Request", "Content-Type: application/problem+json\r\n", refusal);
    let (url, requests) = scripted(vec![took.clone(), refused, took.clone(), took]).await;
    person.asks_at(&url);

    let send = ["send", "--json", "--concurrency", "1", "batch.hl7"];
    let first = person.run_async(&send).await.expect(1, "").json();
    let rows = first["files"].as_array().unwrap();
    let found: Vec<_> = rows.iter().map(|row| (text(&row["file"]), text(&row["fate"]))).collect();
    assert_eq!(found, [("batch.hl7#1", "accepted"), ("batch.hl7#2", "refused"), ("batch.hl7#3", "accepted")]);
    assert_eq!((&first["accepted"], &first["refused"], &first["left"]), (&json!(2), &json!(1), &json!(0)));
    let problem = json!({ "file": "batch.hl7", "code": "bts-count", "declared": 4, "found": 3 });
    assert_eq!(first["batchProblems"], json!([problem]));

    // The same command goes on with what is left, and a message of a batch is known in a file of its own, too.
    let files = ["send", "--concurrency", "1", "batch.hl7", "a.hl7"];
    let ended = person.run_async(&files).await.expect(0, "1 accepted, 3 sent or stored before, 0 refused, 0 left");
    assert!(ended.stderr.contains("Look at batch.hl7: BTS-1 says that the batch has 4 messages; found: 3."), "{}", ended.stderr);
    assert_eq!(ended.text().matches("sent before").count(), 3, "{}", ended.text());
    let requests = requests.await.unwrap();
    for (request, message) in requests.iter().zip([&messages[0], &messages[1], &messages[2], &messages[1]]) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        // MSH-18 says what it is in.
        assert!(head.contains("content-type: application/hl7-v2\r\n"), "{head}");
        assert_eq!(body, message);
    }
}

#[tokio::test]
async fn a_batch_is_stored_message_by_message() {
    let person = Person::signed_in("batches").await;
    let messages = ["one", "two"].map(|file| person.message(file, "M\u{fc}LLER"));
    // Of a file with a byte order mark all messages are in UTF-8, whatever MSH-18 says.
    let batch = messages.concat().replace("|2.5.1\r", "|2.5.1||||||8859/1\r");
    std::fs::write(person.path("marked.hl7"), format!("\u{feff}{batch}")).unwrap();
    std::fs::write(person.path("large.hl7"), format!("{}NTE|{}\r{}", messages[0], "x".repeat(64 << 20), messages[1])).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "marked.hl7"]).expect(0, "").json();
    for (row, message) in sent["files"].as_array().unwrap().iter().zip(batch.split_inclusive("F\r")) {
        assert_eq!((&row["status"], &row["state"]), (&json!("stored"), &json!("parsed")));
        assert_eq!(person.run(&["get", text(&row["messageId"])]).expect(0, "").text(), message);
    }
    let large = person.run(&["send", "--json", "large.hl7"]).expect(1, "").json();
    assert_eq!(large["files"][0]["answer"], "too large: a message may have at most 64 MiB");
}

#[tokio::test]
async fn an_interrupted_wait_fails_and_a_message_that_the_api_lost_is_resent() {
    let person = Person::signed_in("waits").await;
    person.message("a.hl7", "DOE");
    let status = |status: &str| {
        let at = "2026-01-02T03:04:05Z";
        let status = json!({ "messageId": "0".repeat(64), "status": status, "submissions": 1, "receivedAt": at });
        http("200 OK", "Content-Type: application/json\r\n", &json!({ "statuses": [status] }).to_string())
    };
    let (url, requests) = scripted(vec![http("202 Accepted", "", &accepted()), status("queued")]).await;
    person.asks_at(&url);
    let child = person.command(&["send", "--wait", "a.hl7"]).spawn().unwrap();
    requests.await.unwrap();
    signal(&child, Signal::INT);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    person.ended(ended.await.unwrap()).expect(1, "1 accepted, 0 refused, 0 left");

    let took = || http("202 Accepted", "", &accepted());
    let answers = vec![status("unknown"), took(), status("processing"), status("stored")];
    let (other_url, requests) = scripted(answers).await;
    // The journal is the API's: the same one under another port.
    let journal = std::fs::read_dir(person.path("state/sluice/sent")).unwrap().next().unwrap().unwrap().path();
    let lines = std::fs::read(&journal).unwrap();
    std::fs::remove_file(&journal).unwrap();
    person.change_session(|session| session["deployment"]["apiUrl"] = other_url.as_str().into());
    person.run(&["send", "none.hl7"]).expect(1, "1 refused");
    let journal = std::fs::read_dir(person.path("state/sluice/sent")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&journal, lines).unwrap();
    let table = person.run_async(&["send", "--wait", "a.hl7"]).await.expect(0, "1 accepted").text();
    assert!(table.contains("202 Accepted, submitted again") && table.contains("stored"), "{table}");
    let paths = |requests: Vec<String>| requests.iter().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(requests.await.unwrap()), ["/er7/status", "/er7", "/er7/status", "/er7/status"]);

    // Once, and no more: then somebody has to look at it.
    let answers = vec![took(), status("unknown"), took(), status("failed")];
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    person.run_async(&["send", "--wait", "a.hl7"]).await.expect(1, "resends messages that were accepted but not stored");
    assert_eq!(paths(requests.await.unwrap()), ["/er7", "/er7/status", "/er7", "/er7/status"]);
}

#[tokio::test]
async fn an_answer_from_another_server_is_no_acceptance() {
    let person = Person::signed_in("proxy").await;
    person.message("a.hl7", "DOE");
    let (url, _) = scripted(vec![http("409 Conflict", "", "{}")]).await;
    person.asks_at(&url);
    let table = person.run_async(&["send", "a.hl7"]).await.expect(1, "0 accepted, 1 refused").text();
    assert!(table.contains("not an answer of the API"), "{table}");
    assert!(person.journal().is_empty());
}

#[tokio::test]
async fn an_api_that_stays_busy_ends_the_sending() {
    let person = Person::signed_in("busy").await;
    for file in ["a.hl7", "b.hl7"] {
        person.message(file, "DOE");
    }
    let busy = http("429 Too Many Requests", "Retry-After: 0\r\n", "");
    let (url, requests) = scripted(vec![busy.clone(); 7]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "--concurrency", "1", "a.hl7", "b.hl7"]).await;
    assert!(ended.stderr.contains("0 accepted, 0 refused, 2 left"), "{}", ended.stderr);
    ended.expect(1, "error: a.hl7: 429 Too Many Requests");
    assert_eq!(requests.await.unwrap().len(), 7);

    // And while its outcome is waited for.
    let answers = [vec![http("202 Accepted", "", &accepted())], vec![busy; 7]].concat();
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    person
        .run_async(&["send", "--wait", "a.hl7"])
        .await
        .expect(1, "error: asking for the status of the messages: 429 Too Many Requests");
    assert_eq!(requests.await.unwrap().len(), 8);
}

/// Waits until a command has its handler of Ctrl-C.
async fn until_it_listens(child: &Child) {
    let began = Instant::now();
    if !Path::new("/proc/self/status").exists() {
        return tokio::time::sleep(Duration::from_secs(3)).await;
    }
    while began.elapsed() < DEADLINE {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        if u64::from_str_radix(caught, 16).unwrap() & 0b10 != 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never listened");
}

#[tokio::test]
async fn a_second_interrupt_ends_a_command_that_waits_for_its_input() {
    let person = Person::signed_in("stuck").await;
    let mut child = person.command(&["send", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    // Written to and left open: the end of it never comes.
    child.stdin.as_mut().unwrap().write_all(b"MSH|").unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until_it_listens(&child).await;
    signal(&child, Signal::INT);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("Ctrl-C again stops at once"), "{line}");
    signal(&child, Signal::INT);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Harmless where it has ended.
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1), "it waited for the end of its input");
}

#[tokio::test]
async fn sending_waits_when_it_is_told_to_and_goes_on_after_a_lost_connection() {
    let person = Person::signed_in("patient").await;
    person.message("a.hl7", "DOE");
    let accepted = accepted();
    let (url, requests) = scripted(vec![
        http("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        String::new(),
        http("503 Service Unavailable", "", ""),
        http("202 Accepted", "Content-Type: application/json\r\n", &accepted),
    ])
    .await;
    person.asks_at(&url);
    let began = Instant::now();
    person.run_async(&["send", "a.hl7"]).await.expect(0, "1 accepted");
    assert!(began.elapsed() > Duration::from_millis(1_000 + 1_000 + 2_000), "no pause was made");
    assert!(requests.await.unwrap().iter().all(|request| request.starts_with("POST /er7 ")));
    assert_eq!(person.journal().len(), 1);
}

#[tokio::test]
async fn an_interrupt_ends_a_pause_and_a_second_one_a_request() {
    let person = Person::signed_in("impatient").await;
    person.message("a.hl7", "DOE");
    let (url, requests) = scripted(vec![http("429 Too Many Requests", "Retry-After: 100\r\n", "")]).await;
    person.asks_at(&url);
    let child = person.command(&["send", "a.hl7"]).spawn().unwrap();
    requests.await.unwrap();
    signal(&child, Signal::INT);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    person.ended(ended.await.unwrap()).expect(1, "0 accepted, 0 refused, 1 left");

    // An API that does not answer: the connection is taken, and nothing comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    person.asks_at(&url);
    let mut child = person.command(&["send", "a.hl7"]).spawn().unwrap();
    let _connection = listener.accept().await.unwrap();
    signal(&child, Signal::INT);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("Ctrl-C again stops at once"), "{line}");
    let began = Instant::now();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(30), "it ended when the request did");
    assert!(person.journal().is_empty());
}
