//! Several feeds, their settings, and what is said of them.

use std::sync::Arc;
use std::time::Duration;

use domain::Charset;
use sluice_mllp::{Endpoint, Feed, Feeds, Sender, framed, inspect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{DEADLINE, Gateway, Peer, Setup, adt, eventually};

fn listen(name: &str) -> Feed {
    Feed { name: name.to_owned(), ..Feed::new(Endpoint::Listen("127.0.0.1:0".parse().unwrap())) }
}

fn feed_of(report: &serde_json::Value, name: &str) -> serde_json::Value {
    let feeds = report["feeds"].as_array().unwrap();
    feeds.iter().find(|feed| feed["name"] == name).cloned().unwrap()
}

/// A port that nobody listens on. No other test has ports of this address.
async fn free_port() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.3:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_gateway_connects_to_a_peer_that_is_a_server_and_again_when_the_connection_ends() {
    // An address of its own, so that nobody takes the port while the analyzer is gone.
    let analyzer = TcpListener::bind("127.0.0.4:0").await.unwrap();
    let address = analyzer.local_addr().unwrap();
    let feed = Feed { name: "bc5800".to_owned(), ..Feed::new(Endpoint::Connect(address.to_string())) };
    let gateway = Setup { more: vec![feed], ..Setup::default() }.start().await;
    for id in ["C1", "C2"] {
        let (stream, _) = tokio::time::timeout(DEADLINE, analyzer.accept()).await.unwrap().unwrap();
        let mut peer = Peer::new(stream);
        assert_eq!(peer.exchange(adt(id)).await.code().1, id);
    }
    // Gone, and back a little later.
    drop(analyzer);
    eventually("said", || gateway.said("connect").is_some_and(|line| line["connected"] == false)).await;
    let analyzer = TcpListener::bind(address).await.unwrap();
    let (stream, _) = tokio::time::timeout(DEADLINE, analyzer.accept()).await.unwrap().unwrap();
    assert_eq!(Peer::new(stream).exchange(adt("C3")).await.code().1, "C3");
    gateway.stub.until("delivered", |state| state.delivered.len() == 3).await;
    gateway.until_reported("received", 3).await;
    assert_eq!(feed_of(&gateway.said("report").unwrap(), "bc5800")["received"], 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_feed_takes_only_the_addresses_that_it_allows() {
    let mut setup = Setup::default();
    setup.feed.peers = vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.2/32".parse().unwrap()];
    let gateway = setup.start().await;
    assert_eq!(gateway.connect().await.next().await, None);
    gateway.until_reported("notAllowed", 1).await;
    let line = gateway.said("turnedAway").unwrap();
    assert_eq!(line["reason"], "the feed does not allow this address");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut allowed = Peer::new(socket.connect(gateway.address).await.unwrap());
    assert_eq!(allowed.exchange(adt("P1")).await.code().1, "P1");
    gateway.stop().await;
}

#[tokio::test]
async fn each_feed_has_its_own_character_set_also_after_a_restart() {
    let latin = Charset::for_hl7("8859/1");
    let mut setup = Setup::default();
    setup.feed.charset = latin;
    let gateway = setup.start().await;
    gateway.stub.set(|state| state.is_down = true);
    let message = [adt("L1").replace("DOE", "D").into_bytes(), b"NTE|1||M\xfcller\r".to_vec()].concat();
    let mut peer = gateway.connect().await;
    peer.send_message(&message).await;
    assert!(String::from_utf8_lossy(&peer.answer_bytes().await).contains("|L1"));
    let (folder, stub, spool) = (Arc::clone(&gateway.folder), gateway.stub.clone(), gateway.spool());
    let report = gateway.stop().await;
    assert_eq!((report.spooled, report.feeds[0].spooled), (1, 1));

    let waiting = inspect(&spool).unwrap().waiting;
    assert_eq!((waiting.len(), waiting[0].bytes, waiting[0].origin.feed.as_str()), (1, message.len(), "adt"));
    assert_eq!((waiting[0].origin.charset, waiting[0].origin.peer.map(|peer| peer.ip().is_loopback())), (latin, Some(true)));

    // The feed is gone, and what it acknowledged is delivered in the character set that it had.
    stub.set(|state| state.is_down = false);
    let gateway = Setup { folder, stub, feed: listen("other"), ..Setup::default() }.start().await;
    gateway.stub.until("delivered", |state| state.delivered.contains_key(&message)).await;
    assert_eq!(gateway.stub.get(|state| state.charsets.clone()), [latin]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_feed_that_is_silent_for_too_long_is_reported() {
    let mut setup = Setup::default();
    setup.feed.silent_after = Some(Duration::from_millis(200));
    let gateway = setup.start().await;
    eventually("silent", || gateway.said("silent").is_some_and(|line| line["isSilent"] == true)).await;
    let line = gateway.said("silent").unwrap();
    assert_eq!(line["feed"], "adt");
    // Frames faster than that, until a report has seen one.
    let mut peer = gateway.connect().await;
    while gateway.said("silent").is_some_and(|line| line["isSilent"] == true) {
        peer.exchange(adt("Q1")).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("in the report", || feed_of(&gateway.said("report").unwrap(), "adt")["isSilent"] == true).await;
    gateway.stop().await;
}

#[tokio::test]
async fn new_settings_take_effect_without_dropping_a_connection() {
    let gateway = Setup::default().start().await;
    let mut before = gateway.connect().await;
    assert_eq!(before.exchange(adt("R1")).await.code().1, "R1");
    let added = free_port().await;
    let feeds = vec![
        Feed { peers: vec!["10.0.0.0/8".parse().unwrap()], ..listen("adt") },
        Feed { name: "oru".to_owned(), ..Feed::new(Endpoint::Listen(added)) },
    ];
    gateway.reload.send(Ok(feeds)).await.unwrap();
    eventually("reloaded", || gateway.said("reload").is_some_and(|line| line["done"] == true)).await;
    // The port is the same and has new settings; the connection that was open has its old ones; the new port is open.
    assert_eq!(before.exchange(adt("R2")).await.code().1, "R2");
    assert_eq!(gateway.connect().await.next().await, None);
    let mut new = Peer::new(TcpStream::connect(added).await.unwrap());
    assert_eq!(new.exchange(adt("R3")).await.code().1, "R3");

    // A mistake changes nothing.
    let blocker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = blocker.local_addr().unwrap();
    gateway.reload.send(Ok(vec![Feed::new(Endpoint::Listen(taken))])).await.unwrap();
    eventually("refused", || gateway.said("reload").is_some_and(|line| line["done"] == false)).await;
    let line = gateway.said("reload").unwrap();
    assert!(line["reason"].as_str().unwrap().contains(&taken.to_string()), "{line}");
    drop(blocker);
    gateway.reload.send(Err("line 3, column 1".to_owned())).await.unwrap();
    eventually("named", || gateway.said("reload").is_some_and(|line| line["reason"] == "line 3, column 1")).await;
    assert_eq!(new.exchange(adt("R4")).await.code().1, "R4");

    // A feed that is gone takes no new connections, and keeps those that it has.
    gateway.reload.send(Ok(vec![listen("adt")])).await.unwrap();
    eventually("closed", || std::net::TcpStream::connect(added).is_err()).await;
    assert_eq!(new.exchange(adt("R5")).await.code().1, "R5");
    assert_eq!(gateway.connect().await.exchange(adt("R6")).await.code().1, "R6");
    gateway.stop().await;
}

#[tokio::test]
async fn two_feeds_do_not_share_a_name_or_an_address() {
    let error = Feeds::open(vec![listen("a"), listen("a")]).await.unwrap_err().to_string();
    assert!(error.contains("`a`"), "{error}");
    assert!(Feeds::open(vec![listen("a"), listen("b")]).await.is_err(), "one address");
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
    let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn metrics_and_health_are_there_for_whoever_asks_on_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = listener.local_addr().unwrap();
    let gateway = Setup { metrics: Some(listener), ..Setup::default() }.start().await;
    gateway.stub.set(|state| state.is_down = true);
    gateway.connect().await.exchange(adt("M1")).await;
    gateway.until_reported("spooled", 1).await;
    assert_eq!(get(metrics, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, text) = get(metrics, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "sluice_mllp_received_total 1",
        "sluice_mllp_uploaded_total 0",
        "sluice_mllp_spooled 1",
        "sluice_mllp_feed_received_total{feed=\"adt\"} 1",
        "sluice_mllp_feed_spooled{feed=\"adt\"} 1",
        "# TYPE sluice_mllp_feed_silent gauge",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} in {text}");
    }
    assert!(!text.contains("127.0.0.1") && !text.contains("DOE"), "{text}");
    assert_eq!(get(metrics, "/").await.0, 404);
    // A client that says nothing costs the next one five seconds at most.
    let _silent = TcpStream::connect(metrics).await.unwrap();
    assert_eq!(get(metrics, "/healthz").await.0, 200);
    let mut wrong = TcpStream::connect(metrics).await.unwrap();
    wrong.write_all(b"no http at all\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    wrong.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_sender_tries_a_feed_and_gets_its_answers() {
    let gateway = Gateway::start().await;
    let mut sender = Sender::connect(&gateway.address.to_string(), DEADLINE).await.unwrap();
    for id in ["S1", "S2"] {
        let answers = sender.exchange(adt(id).as_bytes()).await.unwrap();
        assert!(String::from_utf8_lossy(answers.last().unwrap()).contains(&format!("|{id}")));
        assert!(matches!(sluice_mllp::code(&answers[0]), b"AA" | b"CA"));
    }
    gateway.stub.until("delivered", |state| state.delivered.len() == 2).await;
    gateway.stop().await;
    assert!(sender.exchange(adt("S3").as_bytes()).await.is_err());
    let recorded = [framed(b"one"), b"\n".to_vec(), framed(b"two")].concat();
    assert_eq!(sluice_mllp::unframed(&recorded), Some(vec![b"one".to_vec(), b"two".to_vec()]));
    assert_eq!(sluice_mllp::unframed(b"MSH|"), None);
}
