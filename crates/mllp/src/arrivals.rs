//! Opens connections: peers connect to a port, or the gateway connects to a peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::feed::Line;
use crate::report::Log;

/// How long to wait when the system has no more file handles.
const NO_HANDLES: Duration = Duration::from_millis(100);

/// How long a peer may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// The first pause before a peer is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After a connection that lasted this long, the next pause is the first one again.
const GOOD: Duration = Duration::from_secs(10);

/// A connection that has just been opened.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) line: Arc<Line>,
    /// Dropped when the connection ends.
    pub(crate) open: Option<oneshot::Sender<()>>,
}

/// Accepts connections on a port until the receiver is dropped.
pub(crate) async fn accept(listener: TcpListener, line: watch::Receiver<Arc<Line>>, arrivals: mpsc::Sender<Arrival>, log: Log) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let line = Arc::clone(&line.borrow());
                if arrivals.send(Arrival { stream, peer, line, open: None }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let feed = line.borrow().feed.name.clone();
                log.say_seldom("accept", json!({ "feed": feed, "error": error.to_string() }));
                tokio::time::sleep(NO_HANDLES).await;
            }
        }
    }
}

/// Keeps one connection to a peer until the receiver is dropped.
pub(crate) async fn connect(address: String, line: watch::Receiver<Arc<Line>>, arrivals: mpsc::Sender<Arrival>, log: Log) {
    let mut pause = FIRST_PAUSE;
    let mut was_connected = true;
    loop {
        let feed = line.borrow().feed.name.clone();
        let reason = match timeout(CONNECT, TcpStream::connect(&address)).await {
            Ok(Ok(stream)) => match stream.peer_addr() {
                Ok(peer) => {
                    log.say("connect", json!({ "feed": feed, "peer": peer, "connected": true }));
                    was_connected = true;
                    let since = Instant::now();
                    let (open, ended) = oneshot::channel();
                    let line = Arc::clone(&line.borrow());
                    if arrivals.send(Arrival { stream, peer, line, open: Some(open) }).await.is_err() {
                        return;
                    }
                    // It always ends with an error, because the other side only drops the sender.
                    let _ = ended.await;
                    if since.elapsed() >= GOOD {
                        pause = FIRST_PAUSE;
                    }
                    "the connection has ended".to_owned()
                }
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        };
        // Log this once, and not at each try.
        if std::mem::take(&mut was_connected) {
            log.say("connect", json!({ "feed": feed, "address": address, "connected": false, "reason": reason }));
        }
        // Half of the pause is random, so that many gateways do not come at the same time.
        tokio::time::sleep(pause.mul_f64(fastrand::f64().midpoint(1.0))).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}
