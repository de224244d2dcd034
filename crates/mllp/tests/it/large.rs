//! Messages that are too large for a request: the gateway takes them up to its limit, and delivers them beside the others.

use std::sync::Arc;

use domain::MAX_MESSAGE_BYTES;
use sluice_mllp::{Limits, Standing, WaitsFor, framed, inspect};

use crate::support::{Setup, adt};

const MIB: usize = 1024 * 1024;

/// A message of a little more bytes than these.
fn document(control_id: &str, bytes: usize) -> String {
    format!("{}OBX|1|ED|||{}\r", adt(control_id), "A".repeat(bytes))
}

/// A gateway with room in its spool for several.
fn setup() -> Setup {
    Setup { max_spool_bytes: 1 << 30, ..Setup::default() }
}

#[tokio::test]
async fn a_large_message_is_acknowledged_when_it_is_on_disk_and_delivered_as_it_came() {
    let gateway = setup().start().await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Pending));
    let (message, batch) = (document("BIG", 20 * MIB), document("B1", 5 * MIB) + &document("B2", 5 * MIB));
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(&message).await.code(), ("AA", "BIG"));
    gateway.until_reported("uploaded", 1).await;
    let waiting = inspect(&gateway.spool()).unwrap().waiting;
    assert_eq!(waiting.iter().map(|it| it.bytes).collect::<Vec<_>>(), [message.len()]);
    peer.send_message(&batch).await;
    let answer = String::from_utf8(peer.answer_bytes().await).unwrap();
    assert_eq!(answer.matches("MSA|AA|").count(), 2, "a batch is one submission");
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    gateway.until_reported("delivered", 3).await;
    for delivered in [&message, &batch, &adt("A1")] {
        assert_eq!(gateway.stub.get(|state| state.delivered.get(delivered.as_bytes()).copied()), Some(1));
    }
    // The lake is asked how far they are as it is for the others.
    gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
    gateway.until_reported("stored", 3).await;
    gateway.until_reported("awaited", 0).await;
    let spool = gateway.spool();
    let (folder, report) = (Arc::clone(&gateway.folder), gateway.stop().await);
    assert_eq!((report.received, report.large, report.uploaded, report.crowded, report.spooled), (3, 2, 2, 0, 0));
    assert_eq!(std::fs::read_dir(spool.join("segments")).unwrap().count(), 0);
    drop(folder);
}

#[tokio::test]
async fn a_large_message_is_there_after_a_restart_and_the_lake_is_asked_first() {
    let gateway = setup().start().await;
    let (sent, waits) = (document("SENT", 6 * MIB), document("WAITS", 6 * MIB));
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(&sent).await.code(), ("AA", "SENT"));
    gateway.until_reported("awaited", 1).await;
    gateway.stub.set(|state| state.is_down = true);
    assert_eq!(peer.exchange(&waits).await.code(), ("AA", "WAITS"));
    let (folder, stub, spool) = (Arc::clone(&gateway.folder), gateway.stub.clone(), gateway.spool());
    assert_eq!(gateway.stop().await.spooled, 1);
    let waits_for: Vec<_> = inspect(&spool).unwrap().waiting.iter().map(|it| it.waits_for).collect();
    assert_eq!(waits_for, [WaitsFor::Lake, WaitsFor::Api]);
    stub.set(|state| (state.is_down, state.outcome) = (false, Some(Standing::Stored)));
    let gateway = Setup { folder, stub, ..setup() }.start().await;
    gateway.until_reported("stored", 2).await;
    for message in [&sent, &waits] {
        assert_eq!(gateway.stub.get(|state| state.delivered.get(message.as_bytes()).copied()), Some(1));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn small_messages_do_not_wait_for_large_ones() {
    let gateway = setup().start().await;
    gateway.stub.set(|state| state.slow_from = Some(MAX_MESSAGE_BYTES));
    let mut peer = gateway.connect().await;
    for nth in 0..4 {
        let id = format!("BIG{nth}");
        assert_eq!(peer.exchange(document(&id, 5 * MIB)).await.code(), ("AA", id.as_str()));
    }
    for nth in 0..40 {
        peer.exchange(adt(&format!("A{nth}"))).await;
    }
    gateway.until_reported("delivered", 40).await;
    assert_eq!((gateway.reported("spooled"), gateway.reported("uploaded")), (4, 0));
    gateway.stub.set(|state| state.slow_from = None);
    gateway.until_reported("uploaded", 4).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_message_that_cannot_be_delivered_stays_and_holds_up_no_other() {
    let gateway = setup().start().await;
    gateway.stub.set(|state| state.never = Some("|BIG|"));
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(document("BIG", 5 * MIB)).await.code(), ("AA", "BIG"));
    gateway.stub.until("it is tried again", |state| state.tries > 1).await;
    let line = gateway.said("putOff").unwrap();
    assert_eq!((&line["reason"], &line["feed"]), (&"502".into(), &"adt".into()), "{line}");
    // Nothing else was delivered so far, and still it is not the API that fails.
    assert!(gateway.said("api").is_none());
    peer.exchange(adt("A1")).await;
    gateway.until_reported("delivered", 1).await;
    assert_eq!(gateway.reported("spooled"), 1);
    gateway.stub.set(|state| state.never = None);
    gateway.until_reported("uploaded", 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_frame_without_room_is_rejected_and_the_connection_goes_on() {
    let limits = |limits: &mut Limits| (limits.frame_bytes, limits.large_bytes) = (32 * MIB, 32 * MIB);
    let gateway = setup().limits(limits).start().await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    let frame = framed(document("BIG1", 31 * MIB).as_bytes());
    let (begun, rest) = frame.split_at(frame.len() - 9);
    // What the system keeps of it, some MiB, the gateway has not read yet: the rest has taken all room.
    first.send(begun).await;
    let crowded = second.exchange(document("BIG2", 5 * MIB)).await;
    assert_eq!(crowded.code(), ("AR", "BIG2"));
    assert!(crowded.error().contains("as many large messages as it has memory for"), "{}", crowded.text);
    assert_eq!(second.exchange(adt("A2")).await.code(), ("AA", "A2"), "a small one needs no room");
    let line = gateway.said("rejected").unwrap();
    assert!(line["reason"].as_str().unwrap().ends_with("the message is not kept, send it again later"), "{line}");
    assert!(!line.to_string().contains("BIG") && line["peer"].is_string(), "{line}");
    first.send(rest).await;
    assert_eq!(first.answer().await.code(), ("AA", "BIG1"));
    assert_eq!(second.exchange(document("BIG2", 5 * MIB)).await.code(), ("AA", "BIG2"));
    // Over the limit of a frame, sending it again would not help.
    assert_eq!(second.exchange(document("HUGE", 32 * MIB)).await.code(), ("AE", "HUGE"));
    assert_eq!(second.exchange(adt("A3")).await.code(), ("AA", "A3"));
    let report = gateway.stop().await;
    assert_eq!((report.crowded, report.rejected), (1, 2));
}

#[tokio::test]
async fn a_large_message_that_can_never_be_stored_is_refused_at_once() {
    let gateway = setup().start().await;
    let mut peer = gateway.connect().await;
    let ack = peer.exchange([document("BIG", 5 * MIB).as_bytes(), b"NTE|\xff\r"].concat()).await;
    assert_eq!(ack.code(), ("AE", "BIG"));
    assert!(ack.error().contains("not valid UTF-8"), "{}", ack.error());
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    let report = gateway.stop().await;
    assert_eq!((report.large, report.delivered, report.rejected), (1, 1, 1));
}
