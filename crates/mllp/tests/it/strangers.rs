//! Peers that speak something else than MLLP, and texts that look like frames.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, Gateway, adt};
use sluice_mllp::framed;

/// Sends bytes, and says what comes back before the gateway closes the connection.
async fn sent(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // The gateway may close before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    answer
}

#[tokio::test]
async fn a_web_page_cannot_submit_a_message() {
    let gateway = Gateway::start().await;
    let url = format!("http://{}/er7", gateway.address);
    let body = [framed(adt("W1").as_bytes()), framed(adt("W2").as_bytes())].concat();
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
    // As a form of a page of anybody's sends it, without asking first.
    let posted = client.post(&url).header("content-type", "text/plain").body(body).send().await;
    assert!(posted.is_err(), "the connection ends without an answer");
    assert!(client.get(&url).send().await.is_err());
    gateway.until_reported("foreign", 2).await;
    let line = gateway.said("closed").unwrap();
    assert_eq!(line["reason"], "the peer speaks HTTP");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:") && line["feed"] == "adt", "{line}");
    let stub = gateway.stub.clone();
    let report = gateway.stop().await;
    assert_eq!((report.received, report.spooled, stub.get(|state| state.delivered.len())), (0, 0, 0));
}

#[tokio::test]
async fn another_protocol_is_closed_at_its_first_bytes() {
    let gateway = Gateway::start().await;
    let message = framed(adt("F1").as_bytes());
    let starts: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n",
        b"\r\nPOST / HTTP/1.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"EHLO mail.example\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for start in starts {
        assert_eq!(sent(&gateway, &[start, &message].concat()).await, b"", "{start:?}");
    }
    let report = gateway.stop().await;
    assert_eq!((report.foreign, report.received), (7, 0));
}

#[tokio::test]
async fn a_peer_without_frames_and_one_of_astm_are_counted_and_named() {
    let gateway = Gateway::start().await;
    let mut unframed = gateway.connect().await;
    unframed.send(adt("U1").as_bytes()).await;
    gateway.until_reported("unframed", 1).await;
    let line = gateway.said("stranger").unwrap();
    assert_eq!(line["detail"], "the peer sends messages without a frame");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    // It may still send a frame.
    assert_eq!(unframed.exchange(adt("U2")).await.code().1, "U2");
    let mut analyzer = gateway.connect().await;
    analyzer.send(b"\x05").await;
    gateway.until_reported("astm", 1).await;
    let mut again = gateway.connect().await;
    again.send(b"\x05").await;
    gateway.until_reported("astm", 2).await;
    // Each is named once a minute for an address.
    let lines = gateway.lines.lock().unwrap().clone();
    let named: Vec<_> = lines.iter().filter(|line| line["event"] == "stranger").map(|line| &line["detail"]).collect();
    assert_eq!(named, ["the peer sends messages without a frame", "the peer sends ENQ: it speaks ASTM, not MLLP"]);
    gateway.stop().await;
}

#[tokio::test]
async fn keep_alive_bytes_between_frames_are_harmless() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    for id in ["K1", "K2"] {
        peer.send(&b"\0\x02\n\r\n\r".repeat(20_000)).await;
        assert_eq!(peer.exchange(adt(id)).await.code().1, id);
    }
    let report = gateway.stop().await;
    assert_eq!((report.received, report.cut, report.unframed), (2, 0, 0));
}

#[tokio::test]
async fn a_start_block_inside_a_text_does_not_end_the_frame() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let message = adt("V1") + "NTE|1||a soft line break\x0bMSH text\x0bMSH|text\x0bBHS, and more\r";
    assert_eq!(peer.exchange(&message).await.code().1, "V1");
    assert_eq!(peer.exchange(adt("V2")).await.code().1, "V2", "one answer for the one before");
    // A start block that is written twice is no frame that was cut.
    peer.send(&[b"\x0b", &framed(adt("V3").as_bytes())[..]].concat()).await;
    assert_eq!(peer.answer().await.code().1, "V3");
    gateway.stub.until("delivered whole", |state| state.delivered.contains_key(message.as_bytes())).await;
    let report = gateway.stop().await;
    assert_eq!((report.received, report.cut), (3, 0));
}

#[tokio::test]
async fn a_peer_of_the_hybrid_protocol_is_understood_and_answered_in_it() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let block = format!("D23\r{}00300123", adt("H1"));
    peer.send_message(&block).await;
    let answer = String::from_utf8(peer.answer_bytes().await).unwrap();
    assert!(answer.starts_with("D23\rMSH|"), "{answer}");
    let (content, trailer) = answer.split_at(answer.len() - 8);
    assert!(content.ends_with('\r') && content.contains("|H1\r"), "{answer}");
    let checksum = content.bytes().fold(0x0b, |sum, byte| sum ^ byte);
    assert_eq!(trailer, format!("{:05}{checksum:03}", content.len() + 1));
    gateway.stub.until("without the block", |state| state.delivered.contains_key(adt("H1").as_bytes())).await;
    gateway.stop().await;
}
