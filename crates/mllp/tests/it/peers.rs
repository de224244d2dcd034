//! Peers that are slow, cut off, broken or hostile.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::{DEADLINE, Gateway, Peer, Setup, adt, eventually};
use sluice_mllp::framed;

#[tokio::test]
async fn two_frames_in_a_packet_and_one_frame_in_many() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    peer.stream.set_nodelay(true).unwrap();
    peer.send(&[framed(adt("A1").as_bytes()), framed(adt("A2").as_bytes())].concat()).await;
    assert_eq!(peer.answer().await.code(), ("AA", "A1"));
    assert_eq!(peer.answer().await.code(), ("AA", "A2"));
    for byte in framed(adt("A3").as_bytes()) {
        peer.send(&[byte]).await;
    }
    assert_eq!(peer.answer().await.code(), ("AA", "A3"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_is_not_exact_about_frames_is_understood() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let a = |id: &str| [b"\x0b", adt(id).as_bytes()].concat();
    // LF behind the end, junk between, NUL inside, no CR before the next frame.
    peer.send(&[&a("A1")[..], b"\x1c\r\n", b"\r\n\0ping", &a("A2"), b"NTE|\0\r\x1c", &a("A3"), b"\x1c\n"].concat()).await;
    for id in ["A1", "A2", "A3"] {
        assert_eq!(peer.answer().await.code(), ("AA", id));
    }
    // No CR, and then nothing: the answer is waited for.
    peer.send(&[&a("A4")[..], b"\x1c"].concat()).await;
    assert_eq!(peer.answer().await.code(), ("AA", "A4"));
    // No CR, and then the end.
    peer.send(&[&a("A5")[..], b"\x1c"].concat()).await;
    peer.stream.shutdown().await.unwrap();
    assert_eq!(peer.answer().await.code(), ("AA", "A5"));
    assert_eq!(peer.next().await, None);
    gateway.stub.until("all are delivered", |state| state.delivered.len() == 5).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_cut_is_not_delivered_and_one_that_was_whole_is() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let half = &framed(adt("A2").as_bytes())[..50];
    peer.send(&[&framed(adt("A1").as_bytes())[..], half].concat()).await;
    // Gone without having read its answer.
    drop(peer);
    gateway.until_reported("cut", 1).await;
    gateway.stub.until("the whole one", |state| state.delivered.len() == 1).await;
    assert!(gateway.stub.has(adt("A1").as_bytes()));

    // A peer that begins anew in the same connection.
    let mut peer = gateway.connect().await;
    peer.send(half).await;
    assert_eq!(peer.exchange(adt("A2")).await.code(), ("AA", "A2"));
    let report = gateway.stop().await;
    assert_eq!((report.cut, report.received), (2, 2));
}

#[tokio::test]
async fn a_peer_that_shuts_its_side_down_gets_all_its_answers() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let ids: Vec<String> = (0..50).map(|nth| format!("A{nth}")).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| framed(adt(id).as_bytes())).collect();
    peer.send(&bytes).await;
    peer.stream.shutdown().await.unwrap();
    for id in &ids {
        assert_eq!(peer.answer().await.code(), ("AA", id.as_str()));
    }
    assert_eq!(peer.next().await, None);
    gateway.stop().await;
}

#[tokio::test]
async fn a_frame_that_takes_too_long_ends_the_connection_however_busy_it_is() {
    let gateway = Setup::default().limits(|limits| limits.frame = Duration::from_millis(300)).start().await;
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    let (mut read, mut write) = peer.stream.split();
    let slow = async {
        // A byte now and then, for ever.
        while write.write_all(b"\x0bx").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut end = Vec::new();
    tokio::select! {
        read = read.read_to_end(&mut end) => drop(read),
        () = slow => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the connection is still open"),
    }
    gateway.until_reported("cut", 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_without_a_frame_is_closed_and_junk_does_not_help() {
    let gateway = Setup::default().limits(|limits| limits.idle = Duration::from_millis(300)).start().await;
    let mut silent = gateway.connect().await;
    assert_eq!(silent.next().await, None);
    let mut noisy = gateway.connect().await;
    let (mut read, mut write) = noisy.stream.split();
    let noise = async {
        while write.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut end = Vec::new();
    tokio::select! {
        read = read.read_to_end(&mut end) => drop(read),
        () = noise => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the connection is still open"),
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_sends_no_frames_but_many_bytes_is_closed() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let junk = b"what is this\r\n".repeat(10_000);
    // The gateway may close before all of it is written.
    let _ = peer.stream.write_all(&junk).await;
    assert_eq!(peer.next().await, None);
    assert_eq!(gateway.stop().await.received, 0);
}

#[tokio::test]
async fn a_peer_that_never_reads_its_answers_is_dropped_and_holds_up_nobody() {
    let gateway = Setup::default().limits(|limits| limits.write = Duration::from_millis(500)).start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(gateway.address).await.unwrap();
    let sending = tokio::spawn(async move {
        // Until the gateway stops taking, and then closes. No message comes twice.
        for nth in 0.. {
            if deaf.write_all(&framed(adt(&format!("D{nth}-{}", "x".repeat(900))).as_bytes())).await.is_err() {
                break;
            }
        }
    });
    let mut other = gateway.connect().await;
    assert_eq!(other.exchange(adt("A1")).await.code(), ("AA", "A1"));
    tokio::time::timeout(DEADLINE, sending).await.expect("the peer is dropped").unwrap();
    assert_eq!(other.exchange(adt("A2")).await.code(), ("AA", "A2"));
    gateway.until_reported("connections", 1).await;
    // What it sent before is delivered, acknowledged or not. One may be on its way to the disk, and one may be tried again.
    let delivered = || gateway.stub.get(|state| state.delivered.len()) as u64;
    eventually("all delivered", || gateway.reported("spooled") == 0 && delivered() == gateway.reported("received")).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_frame_of_many_times_the_limit_is_passed_over() {
    let gateway = Setup::default().limits(|limits| limits.frame_bytes = domain::MAX_MESSAGE_BYTES).start().await;
    let mut peer = gateway.connect().await;
    peer.send(&[b"\x0b", adt("BIG").as_bytes()].concat()).await;
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..64 {
        peer.send(&piece).await;
    }
    peer.send(b"\x1c\r").await;
    let ack = peer.answer().await;
    assert_eq!(ack.code(), ("AE", "BIG"));
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_as_large_as_the_limit_is_taken_and_no_larger_one() {
    for limit in [domain::MAX_MESSAGE_BYTES, 6_000_000] {
        let gateway = Setup::default().limits(|limits| limits.frame_bytes = limit).start().await;
        let mut peer = gateway.connect().await;
        let start = adt("BIG") + "OBX|1|ED|||";
        let mut message = start.clone() + &"x".repeat(limit - start.len());
        assert_eq!(peer.exchange(&message).await.code(), ("AA", "BIG"));
        gateway.stub.until("delivered", |state| state.delivered.contains_key(message.as_bytes())).await;
        message.push('x');
        assert_eq!(peer.exchange(&message).await.code(), ("AE", "BIG"));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
    let gateway = Setup::default().limits(|limits| limits.connections = 2).start().await;
    let (mut one, mut two) = (gateway.connect().await, gateway.connect().await);
    assert_eq!(one.exchange(adt("A1")).await.code(), ("AA", "A1"));
    assert_eq!(two.exchange(adt("A2")).await.code(), ("AA", "A2"));
    let mut three = gateway.connect().await;
    assert_eq!(three.exchange(adt("A3")).await.code(), ("AA", "A3"));
    assert_eq!(one.next().await, None, "idle for longest");
    assert_eq!(two.exchange(adt("A4")).await.code(), ("AA", "A4"));
    // One that has never sent a frame goes before those that have, however long they are idle.
    gateway.until_reported("connections", 2).await;
    drop(two);
    gateway.until_reported("connections", 1).await;
    let mut silent = gateway.connect().await;
    gateway.until_reported("connections", 2).await;
    assert_eq!(gateway.connect().await.exchange(adt("A5")).await.code(), ("AA", "A5"));
    assert_eq!(silent.next().await, None);
    assert_eq!(three.exchange(adt("A6")).await.code(), ("AA", "A6"));
    let report = gateway.stop().await;
    assert_eq!((report.evicted, report.turned_away), (2, 0));
}

#[tokio::test]
async fn connections_at_work_keep_their_places_and_a_further_one_is_closed() {
    let gateway = Setup::default().limits(|limits| limits.connections = 1).start().await;
    let mut busy = gateway.connect().await;
    // The answer to the first frame says that the beginning of the second, in the same packet, is read.
    busy.send(&[&framed(adt("A1").as_bytes())[..], &framed(adt("A2").as_bytes())[..40]].concat()).await;
    assert_eq!(busy.answer().await.code(), ("AA", "A1"));
    assert_eq!(gateway.connect().await.next().await, None);
    gateway.until_reported("turnedAway", 1).await;
    let line = gateway.said("turnedAway").unwrap();
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:") && line["connection"].is_u64(), "{line}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_address_has_its_own_limit_of_connections() {
    let gateway = Setup::default().limits(|limits| limits.connections_per_address = 1).start().await;
    let mut first = gateway.connect().await;
    assert_eq!(first.exchange(adt("A1")).await.code(), ("AA", "A1"));
    assert_eq!(gateway.connect().await.exchange(adt("A2")).await.code(), ("AA", "A2"));
    assert_eq!(first.next().await, None);
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Peer::new(other.connect(gateway.address).await.unwrap());
    assert_eq!(other.exchange(adt("A3")).await.code(), ("AA", "A3"));
    assert_eq!(gateway.stop().await.evicted, 1);
}

#[tokio::test]
async fn the_report_counts_what_happens() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    peer.exchange(adt("A1")).await;
    peer.exchange("").await;
    eventually("counted", || gateway.reported("spooled") == 1 && gateway.reported("rejected") == 1).await;
    let report = gateway.said("report").unwrap();
    assert_eq!((&report["received"], &report["acknowledged"], &report["connections"]), (&2.into(), &1.into(), &1.into()));
    assert!(report["spoolBytes"].as_u64().unwrap() > 0 && report["oldestSeconds"].is_u64(), "{report}");
    gateway.stop().await;
}
