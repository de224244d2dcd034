//! A gateway, its peers, and the API that it delivers to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use domain::{Charset, MessageId};
use serde_json::Value;
use sluice_mllp::{
    Destination, Endpoint, Feed, Feeds, GatewayReport, Limits, Log, Options, Receipt, Reply, Signals, Spool, SpoolError,
    Standing, TlsFiles, framed, run,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the API does.
#[derive(Clone, Default)]
pub(crate) struct Stub(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// The messages that were delivered, and how often each was.
    pub(crate) delivered: HashMap<Vec<u8>, usize>,
    /// The character sets that were named with these, in their order.
    pub(crate) charsets: Vec<Option<Charset>>,
    pub(crate) is_down: bool,
    /// Messages with this in them never get a final answer.
    pub(crate) never: Option<&'static str>,
    /// Such a message is tried again only when another one has been delivered since.
    pub(crate) is_never_alone: bool,
    /// How many were delivered at its last try.
    delivered_at_try: Option<usize>,
    /// Messages of so many bytes are under way until this changes.
    pub(crate) slow_from: Option<usize>,
    /// What becomes of everything that [`State::standings`] does not name; `None`: nothing yet.
    pub(crate) outcome: Option<Standing>,
    /// What becomes of these.
    pub(crate) standings: HashMap<MessageId, Standing>,
    /// How often it was asked how far messages are, and how many ids that were.
    pub(crate) questions: usize,
    pub(crate) asked: usize,
    /// It does not say how far messages are.
    pub(crate) is_silent: bool,
    /// The answer in place of `Queued`, if the message has this text in it.
    pub(crate) answers: Vec<(&'static str, Receipt)>,
    /// How often it was asked while down.
    pub(crate) tries: usize,
}

impl Stub {
    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    pub(crate) fn get<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.lock().unwrap())
    }

    pub(crate) fn has(&self, message: &[u8]) -> bool {
        self.get(|state| state.delivered.contains_key(message))
    }

    pub(crate) async fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        eventually(what, || self.get(&is)).await;
    }
}

/// Waits for something that is sure to happen.
pub(crate) async fn eventually(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not in {DEADLINE:?}: {what}"));
}

impl Destination for Stub {
    async fn submit(&self, body: &Bytes, charset: Option<Charset>) -> Reply {
        while self.get(|state| state.slow_from.is_some_and(|bytes| body.len() >= bytes)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let text = String::from_utf8_lossy(body);
        let waits = |state: &State| {
            state.is_never_alone
                && state.never.is_some_and(|with| text.contains(with))
                && state.delivered_at_try == Some(state.delivered.len())
        };
        while self.get(waits) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut state = self.0.lock().unwrap();
        if state.is_down {
            state.tries += 1;
            return Reply::Later { after: None, reason: "down".to_owned() };
        }
        if state.never.is_some_and(|with| text.contains(with)) {
            state.tries += 1;
            state.delivered_at_try = Some(state.delivered.len());
            return Reply::Later { after: None, reason: "502".to_owned() };
        }
        let received = hl7::Body::of(body.clone(), charset);
        let parts = received.messages().map(|message| {
            let answer = state.answers.iter().find(|(with, _)| text.contains(with)).map(|(_, part)| part.clone());
            answer.unwrap_or_else(|| match message.read() {
                Ok(message) => Receipt::Queued { id: message.id },
                Err(error) => Receipt::Refused { status: 400, detail: error.to_string() },
            })
        });
        let parts: Vec<Receipt> = parts.collect();
        if !parts.iter().any(|part| matches!(part, Receipt::Refused { .. })) {
            *state.delivered.entry(body.to_vec()).or_default() += 1;
            state.charsets.push(charset);
        }
        Reply::Final(parts)
    }

    async fn standings(&self, ids: &[MessageId]) -> Result<Vec<Standing>, String> {
        let mut state = self.0.lock().unwrap();
        state.questions += 1;
        state.asked += ids.len();
        if state.is_silent || state.is_down {
            return Err("down".to_owned());
        }
        let standing = |id| state.standings.get(id).or(state.outcome.as_ref()).cloned().unwrap_or(Standing::Pending);
        Ok(ids.iter().map(standing).collect())
    }
}

/// Opens a spool. A program that another test starts has the lock of a spool that was just closed, until it runs.
pub(crate) async fn open_spool(folder: &std::path::Path, max_bytes: u64) -> Spool {
    let opening = async {
        loop {
            match Spool::open(folder, "west", max_bytes) {
                Err(SpoolError::Locked(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                opened => return opened.unwrap().0,
            }
        }
    };
    tokio::time::timeout(DEADLINE, opening).await.unwrap()
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) stub: Stub,
    pub(crate) address: SocketAddr,
    pub(crate) lines: Arc<Mutex<Vec<Value>>>,
    pub(crate) reload: mpsc::Sender<Result<Vec<Feed>, String>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<GatewayReport>,
}

/// How to start one.
pub(crate) struct Setup {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) stub: Stub,
    pub(crate) options: Options,
    pub(crate) tls: Option<TlsFiles>,
    /// Listens on a port of the system's choice.
    pub(crate) feed: Feed,
    /// Beside that one.
    pub(crate) more: Vec<Feed>,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) max_spool_bytes: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            folder: Arc::new(tempfile::tempdir().unwrap()),
            stub: Stub::default(),
            options: Options {
                report_every: Duration::from_millis(50),
                longest_pause: Duration::from_millis(500),
                look_after: Duration::from_millis(20),
                again_after: Duration::from_millis(20),
                ..Options::default()
            },
            tls: None,
            feed: Feed { name: "adt".to_owned(), ..Feed::new(Endpoint::Listen("127.0.0.1:0".parse().unwrap())) },
            more: Vec::new(),
            metrics: None,
            max_spool_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Setup {
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.options.limits);
        self
    }

    pub(crate) async fn start(self) -> Gateway {
        let spool = open_spool(&self.folder.path().join("spool"), self.max_spool_bytes).await;
        let feed = Feed { tls: self.tls, ..self.feed };
        let feeds = Feeds::open([vec![feed], self.more].concat()).await.unwrap();
        let address = feeds.addresses().next().unwrap().1;
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sink = Arc::clone(&lines);
        let log = Log::new(move |line| sink.lock().unwrap().push(serde_json::from_str(line).unwrap()));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let (reload, reloads) = mpsc::channel(1);
        let signals = Signals { reload: reloads, stop: stopped, metrics: self.metrics };
        let running = tokio::spawn(run(self.options, feeds, spool, self.stub.clone(), log, signals));
        Gateway { folder: self.folder, stub: self.stub, address, lines, reload, stop, running }
    }
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    pub(crate) async fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// Stops it, and gives its last report.
    pub(crate) async fn stop(self) -> GatewayReport {
        self.stop.send(()).unwrap();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap()
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The newest line about something, if there is one.
    pub(crate) fn said(&self, event: &str) -> Option<Value> {
        self.lines.lock().unwrap().iter().rev().find(|line| line["event"] == event).cloned()
    }

    /// A member of the newest report.
    pub(crate) fn reported(&self, member: &str) -> u64 {
        self.said("report").map_or(0, |report| report[member].as_u64().unwrap())
    }

    pub(crate) async fn until_reported(&self, member: &str, value: u64) {
        eventually(&format!("{member} {value}"), || self.reported(member) == value).await;
    }
}

/// Somebody who sends.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: impl AsRef<[u8]>) {
        self.send(&framed(message.as_ref())).await;
    }

    /// The next answer, without its frame.
    pub(crate) async fn answer_bytes(&mut self) -> Vec<u8> {
        self.next().await.expect("an answer before the end")
    }

    pub(crate) async fn answer(&mut self) -> Ack {
        Ack::of(String::from_utf8(self.answer_bytes().await).unwrap())
    }

    /// The next answer; `None` when the gateway has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(end) = self.unread.windows(2).position(|bytes| bytes == b"\x1c\r") {
                    let rest = self.unread.split_off(end + 2);
                    let frame = std::mem::replace(&mut self.unread, rest);
                    return Some(frame[1..end].to_vec());
                }
                let mut buffer = [0; 4096];
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
                }
            }
        })
        .await
        .expect("an answer or the end in time")
    }

    pub(crate) async fn exchange(&mut self, message: impl AsRef<[u8]>) -> Ack {
        self.send_message(message).await;
        self.answer().await
    }
}

/// An acknowledgment.
#[derive(Debug)]
pub(crate) struct Ack {
    pub(crate) text: String,
}

impl Ack {
    pub(crate) fn of(text: String) -> Self {
        Self { text }
    }

    pub(crate) fn field(&self, segment: &str, field: usize) -> &str {
        let found = self.text.split('\r').find(|it| it.starts_with(segment)).unwrap_or_default();
        found.split('|').nth(field).unwrap_or_default()
    }

    /// MSA-1 and MSA-2.
    pub(crate) fn code(&self) -> (&str, &str) {
        (self.field("MSA", 1), self.field("MSA", 2))
    }

    /// ERR and its fields.
    pub(crate) fn error(&self) -> &str {
        self.text.split('\r').find(|it| it.starts_with("ERR")).unwrap_or_default()
    }
}

/// A message with a control id.
pub(crate) fn adt(control_id: &str) -> String {
    adt_with(control_id, "")
}

/// A message with MSH-15 and what follows it.
pub(crate) fn adt_with(control_id: &str, from_msh_15: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1|||{from_msh_15}\r\
         EVN|A01|20260102030405\rPID|1||4711^^^WEST^MR||DOE^JANE||19700101|F\rPV1|1|I\r"
    )
}
