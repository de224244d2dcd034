//! How long the spool keeps a message, and what it does until then.

use std::sync::Arc;
use std::time::Duration;

use domain::{Charset, MessageId};
use sluice_mllp::{Keep, Standing, WaitsFor, inspect};

use crate::support::{Gateway, Setup, adt, eventually};

fn id(control_id: &str) -> MessageId {
    let message = hl7::Body::of(adt(control_id).into_bytes(), Some(Charset::UTF_8));
    message.message(1).unwrap().read().unwrap().id
}

fn times(gateway: &Gateway, control_id: &str) -> usize {
    gateway.stub.get(|state| state.delivered.get(adt(control_id).as_bytes()).copied().unwrap_or_default())
}

#[tokio::test]
async fn a_message_stays_in_the_spool_until_the_lake_has_stored_it() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    assert_eq!(peer.exchange(adt("A2")).await.code(), ("AA", "A2"));
    gateway.stub.set(|state| drop(state.standings.insert(id("A2"), Standing::Stored)));
    gateway.until_reported("delivered", 2).await;
    gateway.until_reported("stored", 1).await;
    gateway.until_reported("awaited", 1).await;
    assert_eq!((gateway.reported("spooled"), gateway.reported("delivered")), (0, 2));
    assert_eq!(gateway.said("report").unwrap()["feeds"][0]["awaited"], 1);
    let (folder, spool) = (Arc::clone(&gateway.folder), gateway.spool());
    // The marks are written a moment later.
    eventually("the spool says so", || {
        let waiting = inspect(&spool).unwrap().waiting;
        waiting.len() == 1 && waiting[0].waits_for == WaitsFor::Lake
    })
    .await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Unparsable));
    gateway.until_reported("stored", 2).await;
    gateway.until_reported("awaited", 0).await;
    let report = gateway.stop().await;
    assert_eq!((report.delivered, report.held, report.lost, report.spooled), (2, 0, 0, 0));
    assert_eq!(std::fs::read_dir(spool.join("segments")).unwrap().count(), 0);
    drop(folder);
}

#[tokio::test]
async fn a_message_that_is_held_or_lost_is_submitted_again_until_it_is_stored() {
    for standing in [Standing::Held("expired".to_owned()), Standing::Lost] {
        let gateway = Gateway::start().await;
        gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
        gateway.stub.set(|state| drop(state.standings.insert(id("A1"), standing.clone())));
        let mut peer = gateway.connect().await;
        peer.exchange(adt("A1")).await;
        peer.exchange(adt("A2")).await;
        eventually("it is submitted again, and again", || times(&gateway, "A1") >= 3).await;
        gateway.stub.set(|state| drop(state.standings.remove(&id("A1"))));
        gateway.until_reported("stored", 2).await;
        gateway.until_reported("awaited", 0).await;
        assert_eq!(times(&gateway, "A2"), 1);
        let again = gateway.said("again").unwrap();
        assert_eq!(again["held"].as_str(), matches!(standing, Standing::Held(_)).then_some("expired"), "{again}");
        let report = gateway.stop().await;
        assert_eq!((report.delivered, report.duplicates, report.spooled), (2, 0, 0));
        assert!((report.held > 1) == (report.lost == 0) && (report.lost > 1) == (report.held == 0), "{report:?}");
    }
}

#[tokio::test]
async fn of_a_batch_one_message_that_is_lost_is_enough_to_submit_it_again() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
    gateway.stub.set(|state| drop(state.standings.insert(id("B2"), Standing::Lost)));
    let batch = format!("FHS|^~\\&|HIS\rBHS|^~\\&|HIS\r{}{}BTS|2\rFTS|1\r", adt("B1"), adt("B2"));
    let mut peer = gateway.connect().await;
    peer.send_message(&batch).await;
    peer.answer_bytes().await;
    gateway.stub.until("again", |state| state.delivered.get(batch.as_bytes()).is_some_and(|times| *times > 1)).await;
    gateway.stub.set(|state| state.standings.clear());
    gateway.until_reported("stored", 1).await;
    assert_eq!(gateway.stop().await.awaited, 0);
}

#[tokio::test]
async fn asking_about_many_messages_costs_far_less_than_a_request_a_message() {
    let mut setup = Setup::default();
    // A question is asked in each such time, for which this is long even if the disk is slow.
    setup.options.look_after = Duration::from_secs(3);
    let gateway = setup.start().await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
    let peers = (0..8).map(|nth| {
        let address = gateway.address;
        tokio::spawn(async move {
            let mut peer = crate::support::Peer::new(tokio::net::TcpStream::connect(address).await.unwrap());
            for message in 0..125 {
                peer.exchange(adt(&format!("M{nth}-{message}"))).await;
            }
        })
    });
    for peer in peers.collect::<Vec<_>>() {
        peer.await.unwrap();
    }
    gateway.until_reported("stored", 1000).await;
    let (questions, asked) = gateway.stub.get(|state| (state.questions, state.asked));
    let report = gateway.stop().await;
    assert_eq!((report.questions, report.awaited, asked), (questions as u64, 0, 1000), "each is asked about once");
    // Not more than one in twenty: the goal for requests in the good case.
    assert!(questions <= 50, "{questions}");
}

#[tokio::test]
async fn after_a_restart_the_lake_is_asked_before_a_message_is_submitted_again() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    for nth in 0..20 {
        peer.exchange(adt(&format!("R{nth}"))).await;
    }
    gateway.until_reported("awaited", 20).await;
    let (folder, stub) = (Arc::clone(&gateway.folder), gateway.stub.clone());
    assert_eq!(gateway.stop().await.awaited, 20);
    stub.set(|state| state.outcome = Some(Standing::Stored));
    stub.set(|state| drop(state.standings.insert(id("R7"), Standing::Lost)));
    let gateway = Setup { folder: Arc::clone(&folder), stub: stub.clone(), ..Setup::default() }.start().await;
    gateway.until_reported("stored", 19).await;
    eventually("what the lake does not have is submitted again", || times(&gateway, "R7") > 1).await;
    stub.set(|state| state.standings.clear());
    gateway.until_reported("stored", 20).await;
    assert!((0..20).filter(|nth| *nth != 7).all(|nth| times(&gateway, &format!("R{nth}")) == 1));
    assert_eq!(gateway.stop().await.spooled, 0);
    assert_eq!(std::fs::read_dir(folder.path().join("spool/segments")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_message_that_stays_does_not_keep_the_others_on_the_disk() {
    let mut setup = Setup { max_spool_bytes: 80_000, ..Setup::default() };
    setup.options.report_every = Duration::from_millis(20);
    let gateway = setup.start().await;
    let held = |id: &str| (self::id(id), Standing::Held("failed".to_owned()));
    let kept = (0..100).step_by(10).map(|nth| held(&format!("H{nth}"))).collect();
    gateway.stub.set(|state| (state.outcome, state.standings) = (Some(Standing::Stored), kept));
    let mut peer = gateway.connect().await;
    // Files of 10,000 bytes. Ten of them, each with one message that stays, are more than the spool may have.
    for nth in 0..100 {
        let stays = nth % 10 == 0;
        let id = format!("{}{nth}", if stays { "H" } else { "S" });
        let message = adt(&id) + &"NTE|1||x\r".repeat(if stays { 0 } else { 400 });
        while peer.exchange(&message).await.code().0 != "AA" {}
    }
    gateway.until_reported("stored", 90).await;
    eventually("the files of the others are gone", || gateway.reported("spoolBytes") < 30_000).await;
    // While a message is moved to another file, it is counted in both.
    let kept = || gateway.said("report").map(|it| it["awaited"].as_u64().unwrap() + it["spooled"].as_u64().unwrap());
    eventually("the ten that stay are there", || kept() == Some(10)).await;
    gateway.stub.set(|state| state.standings.clear());
    gateway.until_reported("stored", 100).await;
    gateway.until_reported("awaited", 0).await;
    assert_eq!(gateway.stop().await.spooled, 0);
}

#[tokio::test]
async fn with_until_queued_a_message_stays_until_the_api_has_it() {
    let mut setup = Setup::default();
    setup.options.keep = Keep::UntilQueued;
    let gateway = setup.start().await;
    gateway.connect().await.exchange(adt("A1")).await;
    gateway.until_reported("delivered", 1).await;
    gateway.until_reported("spooled", 0).await;
    let report = gateway.stop().await;
    assert_eq!((report.awaited, report.questions, report.stored), (0, 0, 0));
}

#[tokio::test]
async fn a_message_that_an_operator_has_discarded_is_set_aside() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Discarded));
    gateway.connect().await.exchange(adt("A1")).await;
    gateway.until_reported("refused", 1).await;
    gateway.until_reported("awaited", 0).await;
    let refused = inspect(&gateway.spool()).unwrap().refused;
    assert_eq!(std::fs::read(&refused[0].path).unwrap(), adt("A1").as_bytes());
    let reason = std::fs::read_to_string(&refused[0].reason).unwrap();
    assert!(reason.contains("discarded") && !reason.contains("DOE"), "{reason}");
    assert_eq!(gateway.stop().await.stored, 0);
}

#[tokio::test]
async fn while_the_api_does_not_say_how_far_messages_are_they_stay() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| (state.is_silent, state.outcome) = (true, Some(Standing::Stored)));
    let mut peer = gateway.connect().await;
    peer.exchange(adt("A1")).await;
    gateway.stub.until("it is asked", |state| state.questions > 1).await;
    assert_eq!((gateway.reported("stored"), times(&gateway, "A1")), (0, 1));
    assert!(gateway.said("status").unwrap()["reason"] == "down");
    gateway.stub.set(|state| state.is_silent = false);
    gateway.until_reported("stored", 1).await;
    assert_eq!(gateway.stop().await.delivered, 1);
}

#[tokio::test]
async fn an_empty_batch_is_no_duplicate() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    peer.send_message("FHS|^~\\&|A|B\rBHS|^~\\&|A|B\rBTS|0\rFTS|1\r").await;
    peer.answer_bytes().await;
    gateway.until_reported("delivered", 1).await;
    gateway.until_reported("spooled", 0).await;
    let report = gateway.stop().await;
    assert_eq!((report.duplicates, report.awaited), (0, 0));
}
