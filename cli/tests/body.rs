//! One body, three ways in: the API, the gateway and `sluice hl7` find the same message in it, and answer the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use domain::Charset;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use person::Person;

/// Each is three requests of the real thing, so they are few; where parts begin and end, thousands in `hl7: properties` say.
const BODIES: usize = 24;

/// A line of free text: what other rules have taken for the beginning of a segment or message.
fn line() -> impl Strategy<Value = String> {
    let lines =
        ["Norwood I,", "FHS: 148/min", "BTS+Shunt", "MSH/", "MSH|", "PID", "OBX|2|TX", "a\u{fc}\u{20ac}", "1|2~3&4\\", "", "  "];
    prop_oneof![3 => select(lines.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,20}"]
}

/// A message of one segment of text, or a body that is none. `{}` stands for its control id.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let asked = select(vec!["|", "AL|NE", "NE|AL"]);
    let charset = select(vec!["", "", "UNICODE UTF-8", "8859/1", "8859/6", "KLINGON"]);
    let msh_2 = select(vec!["^~\\&", "^~\\&", "^~\\&#", "^~&", ""]);
    let end = select(vec!["\r", "\n", "\r\n"]);
    let lines = prop::collection::vec(line(), 1..5);
    let spoilt = select(vec![&b""[..], b"", b"", b"\xa1", b"\xff\xfe"]);
    let before = select(vec!["", "", " ", "\u{feff}", "\u{feff}\r\n"]);
    (asked, charset, msh_2, end, lines, spoilt, before).prop_map(|(asked, charset, msh_2, end, lines, spoilt, before)| {
        let text = lines.join("\n");
        let mut body = format!(
            "{before}MSH|{msh_2}|LAB|HOSP|LAKE|HUB|20260101||ORU^R01^ORU_R01|{{}}|P|2.5.1|||{asked}||{charset}{end}\
             OBR|1||9|c{end}OBX|1|TX|c||{text}"
        )
        .into_bytes();
        body.extend_from_slice(spoilt);
        body.extend_from_slice(format!("||||||F{end}").as_bytes());
        body
    })
}

/// Bodies that those are not: nothing, blanks alone, UTF-16 with its mark, batches. The API takes all but the first two.
fn others(control_id: &str) -> [Vec<u8>; 7] {
    let message = |nth: &str, msh_18: &str| {
        format!(
            "MSH|^~\\&|LAB|HOSP|LAKE|HUB|20260101||ORU^R01^ORU_R01|{control_id}-{nth}|P|2.5.1||||||{msh_18}\r\
             OBR|1||9|c\rOBX|1|TX|c||M\u{fc}ller\nBTS-Shunt||||||F\r"
        )
    };
    let batch = |name: &str, msh_18: &str| {
        let messages = [1, 2].map(|nth| message(&format!("{name}{nth}"), msh_18)).concat();
        format!("FHS|^~\\&|LAB\rBHS|^~\\&|LAB\r{messages}BTS|2\rFTS|1\r")
    };
    let encoded = |label: &str, text: String| Charset::for_label(label).unwrap().encode(&text).unwrap();
    let wide = |text: String| encoded("utf-16le", format!("\u{feff}{text}"));
    [
        Vec::new(),
        b" \r\n".to_vec(),
        wide(message("wide", "UNICODE UTF-16")),
        batch("plain", "").into_bytes(),
        encoded("iso-8859-1", batch("latin", "8859/1")),
        wide(batch("wide", "UNICODE UTF-16")),
        b"FHS|^~\\&|LAB\rBHS|^~\\&|LAB\rBTS|0\rFTS|1\r".to_vec(),
    ]
}

/// The segments of acknowledgments, without their own time (MSH-7, BHS-7) and control id (MSH-10, BHS-11).
fn said(acknowledgment: &[u8]) -> Vec<String> {
    let text = match Charset::utf_16_of(acknowledgment) {
        Some(charset) => charset.decode(acknowledgment).unwrap(),
        None => String::from_utf8_lossy(acknowledgment),
    };
    text.split('\r')
        .map(|segment| {
            let mut fields: Vec<&str> = segment.split('|').collect();
            let own: &[usize] = match fields[0].trim_start_matches('\u{feff}') {
                "MSH" => &[6, 9],
                "FHS" | "BHS" => &[6, 10],
                _ => &[],
            };
            for &index in own {
                fields[index] = "";
            }
            fields.join("|")
        })
        .collect()
}

fn over_mllp(address: &str, message: &[u8]) -> Vec<u8> {
    let mut peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    peer.write_all(&[b"\x0b", message, b"\x1c\r"].concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x1c\r") {
        let mut byte = [0];
        assert_eq!(peer.read(&mut byte).unwrap(), 1, "the connection has ended");
        answer.push(byte[0]);
    }
    answer[1..answer.len() - 2].to_vec()
}

#[tokio::test]
async fn the_api_the_gateway_and_the_command_give_the_same_answer_for_every_body() {
    let person = Person::signed_in("body").await;
    let mut gateway = person.command(&["--json", "mllp", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut stderr = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let listening = stderr.find_map(|line| Some(line.unwrap().strip_prefix("Listening on ")?.to_owned())).unwrap();
    let address = listening.split(' ').next().unwrap();
    let url = format!("{}/er7", person.outputs.api_url);
    let token = person.session()["idToken"].as_str().unwrap().to_owned();

    let mut runner = TestRunner::deterministic();
    let (mut taken, mut refused) = (0, 0);
    let generated = (0..BODIES).map(|n| {
        let generated = body().new_tree(&mut runner).unwrap().current();
        let at = generated.windows(2).position(|it| it == b"{}").unwrap();
        [&generated[..at], format!("{}-{n}", person.institute).as_bytes(), &generated[at + 2..]].concat()
    });
    for body in others(&person.institute).into_iter().chain(generated) {
        let shown = String::from_utf8_lossy(&body).into_owned();
        std::fs::write(person.path("body.hl7"), &body).unwrap();

        let post = reqwest::Client::new().post(&url).header("authorization", &token).header("content-type", "application/hl7-v2");
        let answer = post.try_clone().unwrap().header("accept", "application/hl7-v2").body(body.clone()).send().await.unwrap();
        let by_api = answer.bytes().await.unwrap();
        let printed = person.run(&["hl7", "ack", "body.hl7"]);
        assert_eq!(said(&printed.stdout), said(&by_api), "the command and the API: {shown:?}");
        assert_eq!(said(&over_mllp(address, &body)), said(&by_api), "the gateway and the API: {shown:?}");

        let answer = post.header("accept", "application/json").body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let answer: serde_json::Value = answer.json().await.unwrap();
        match status {
            202 | 409 => {
                let printed = person.run(&["hl7", "id", "body.hl7"]).expect(0, "").text();
                let ids: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
                let parts = answer["messages"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
                let of_api: Vec<&str> = parts.iter().filter_map(|it| it["messageId"].as_str()).collect();
                assert_eq!(ids, of_api, "{shown:?}");
                taken += 1;
            }
            _ => {
                person.run(&["hl7", "id", "body.hl7"]).expect(1, "");
                refused += 1;
            }
        }
    }
    assert!(taken >= 10 && refused >= 5, "{taken} taken and {refused} refused: the bodies are of one kind alone");
    gateway.kill().unwrap();
    gateway.wait().unwrap();
}
