//! A gateway in a process of its own, which is killed.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_mllp::{Endpoint, Feed, Feeds, Log, Options, Signals, Spool, run};
use tokio::net::TcpStream;

use crate::http::{Api, HttpDestination};
use crate::support::{Peer, adt, eventually};

const SPOOL: &str = "SLUICE_MLLP_TEST_SPOOL";
const API: &str = "SLUICE_MLLP_TEST_API";
/// How often a gateway is killed, if not 20 times.
const KILLS: &str = "SLUICE_MLLP_KILLS";

/// No test: the process that [`Killable`] starts, by this name. It runs until it is killed.
#[tokio::test]
async fn gateway_process() {
    let (Some(spool), Some(api)) = (std::env::var_os(SPOOL), std::env::var_os(API)) else { return };
    let (spool, _) = Spool::open(Path::new(&spool), "west", 64 * 1024 * 1024).unwrap();
    let feeds = Feeds::open(vec![Feed::new(Endpoint::Listen("127.0.0.1:0".parse().unwrap()))]).await.unwrap();
    println!("listens on {}", feeds.addresses().next().unwrap().1);
    let lake = HttpDestination::new(api.to_str().unwrap().parse().unwrap());
    // Often enough that each life of a gateway comes to ask and to submit again.
    let soon = Duration::from_millis(10);
    let options = Options { look_after: soon, again_after: soon, ..Options::default() };
    run(options, feeds, spool, lake, Log::new(|_| ()), Signals::stop(std::future::pending())).await;
}

struct Killable {
    process: Child,
    address: SocketAddr,
}

impl Killable {
    fn start(spool: &Path, api: SocketAddr) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::gateway_process", "--nocapture"])
            .env(SPOOL, spool)
            .env(API, api.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| line.split_once("listens on ")?.1.parse().ok()).expect("an address");
        Self { process, address }
    }

    /// SIGKILL: nothing in it gets to know.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_the_gateway_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, api) = (folder.path().join("spool"), Api::losing_one_in(10));
    let api_address = api.start().await;
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();

    let kills: usize = std::env::var_os(KILLS).map_or(20, |kills| kills.to_str().unwrap().parse().unwrap());
    for round in 0..kills {
        let gateway = Killable::start(&spool, api_address);
        let peers: Vec<_> = (0..8)
            .map(|nth| {
                let (address, acknowledged) = (gateway.address, Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
                    for message in 0.. {
                        // One in ten is a duplicate of one that this or an earlier gateway has acknowledged.
                        let id = {
                            let acknowledged = acknowledged.lock().unwrap();
                            let again = (fastrand::u8(0..10) == 0).then(|| fastrand::choice(acknowledged.iter())).flatten();
                            again.cloned().unwrap_or_else(|| format!("K{round}-{nth}-{message}"))
                        };
                        let frame = sluice_mllp::framed(adt(&id).as_bytes());
                        // Both fail once the gateway is gone.
                        if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &frame).await.is_err() {
                            return;
                        }
                        let Some(answer) = peer.next().await else { return };
                        assert!(String::from_utf8(answer).unwrap().contains(&format!("MSA|AA|{id}")));
                        acknowledged.lock().unwrap().push(id);
                    }
                })
            })
            .collect();
        // Some time in the middle of it: at any number of messages and at any place of the code.
        let before = acknowledged.lock().unwrap().len();
        eventually("under load", || acknowledged.lock().unwrap().len() > before + 20).await;
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..100_000))).await;
        gateway.kill();
        for peer in peers {
            peer.await.unwrap();
        }
    }

    let gateway = Killable::start(&spool, api_address);
    let acknowledged = acknowledged.lock().unwrap().clone();
    eventually("all is delivered", || {
        let delivered = api.delivered();
        acknowledged.iter().all(|id| delivered.contains_key(id))
    })
    .await;
    let each_once: HashSet<&String> = acknowledged.iter().collect();
    assert!(api.count() >= each_once.len() && each_once.len() < acknowledged.len(), "there were duplicates");
    gateway.kill();
}
