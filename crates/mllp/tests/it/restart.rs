//! Gateways that come after others.

use std::sync::Arc;

use crate::support::{Gateway, Setup, adt, open_spool};
use sluice_mllp::{Spool, Standing};

#[tokio::test]
async fn acknowledged_messages_are_delivered_after_a_restart() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    for nth in 0..100 {
        let id = format!("R{nth}");
        assert_eq!(peer.exchange(adt(&id)).await.code(), ("AA", id.as_str()));
    }
    let (folder, stub) = (Arc::clone(&gateway.folder), gateway.stub.clone());
    let report = gateway.stop().await;
    assert_eq!((report.spooled, report.delivered), (100, 0));
    assert_eq!(peer.next().await, None, "the connection is closed");

    stub.set(|state| (state.is_down, state.outcome) = (false, Some(Standing::Stored)));
    let gateway = Setup { folder: Arc::clone(&folder), stub, ..Setup::default() }.start().await;
    gateway.stub.until("all are delivered", |state| state.delivered.len() == 100).await;
    gateway.until_reported("stored", 100).await;
    gateway.until_reported("awaited", 0).await;
    let stub = gateway.stub.clone();
    gateway.stop().await;
    assert_eq!(std::fs::read_dir(folder.path().join("spool/segments")).unwrap().count(), 0);

    // And not once more.
    let gateway = Setup { folder, stub, ..Setup::default() }.start().await;
    let report = gateway.stop().await;
    assert_eq!((report.delivered, report.spooled), (0, 0));
}

#[tokio::test]
async fn a_frame_that_is_begun_when_the_gateway_stops_is_the_peers_to_send_again() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    peer.exchange(adt("A1")).await;
    peer.send(&sluice_mllp::framed(adt("A2").as_bytes())[..40]).await;
    let stub = gateway.stub.clone();
    assert_eq!(gateway.stop().await.received, 1);
    assert_eq!(peer.next().await, None);
    assert!(!stub.has(adt("A2").as_bytes()));
}

#[tokio::test]
async fn two_gateways_do_not_share_a_spool() {
    let gateway = Gateway::start().await;
    let error = Spool::open(&gateway.spool(), "west", 1_000_000).unwrap_err().to_string();
    assert!(error.contains("in use by another gateway"), "{error}");
    let (folder, spool) = (Arc::clone(&gateway.folder), gateway.spool());
    gateway.stop().await;
    open_spool(&spool, 1_000_000).await;
    drop(folder);
}
