//! A gateway, its peers, and the API that it delivers to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::Charset;
use serde_json::Value;
use sluice_mllp::{Lake, Limits, Log, Options, Outcome, Part, Report, Spool, Submission, TlsFiles, framed, run};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the API does.
#[derive(Clone, Default)]
pub(crate) struct Stub(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// What was delivered, and how often.
    pub(crate) delivered: HashMap<Vec<u8>, usize>,
    pub(crate) is_down: bool,
    /// Messages with this in them never get a final answer.
    pub(crate) never: Option<&'static str>,
    /// What becomes of everything; `None`: nothing yet.
    pub(crate) outcome: Option<Outcome>,
    /// The answer in place of `Queued`, if the message has this text in it.
    pub(crate) answers: Vec<(&'static str, Part)>,
    /// How often it was asked while down.
    pub(crate) tries: usize,
    next_id: usize,
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

impl Lake for Stub {
    async fn submit(&self, body: &[u8]) -> Submission {
        let mut state = self.0.lock().unwrap();
        if state.is_down {
            state.tries += 1;
            return Submission::Later { after: None, reason: "down".to_owned() };
        }
        let text = String::from_utf8_lossy(body);
        if state.never.is_some_and(|with| text.contains(with)) {
            state.tries += 1;
            return Submission::Later { after: None, reason: "502".to_owned() };
        }
        let messages = hl7::split(body, Charset::UTF_8).messages().count();
        let parts = (0..messages).map(|nth| {
            let answer = state.answers.iter().find(|(with, _)| text.contains(with)).map(|(_, part)| part.clone());
            answer.unwrap_or_else(|| Part::Queued { id: format!("{}-{nth}", state.next_id) })
        });
        let parts: Vec<Part> = parts.collect();
        if !parts.iter().any(|part| matches!(part, Part::Refused { .. })) {
            *state.delivered.entry(body.to_vec()).or_default() += 1;
        }
        state.next_id += 1;
        Submission::Final(parts)
    }

    async fn outcome(&self, _: &str) -> Option<Outcome> {
        self.get(|state| state.outcome)
    }
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) stub: Stub,
    pub(crate) address: SocketAddr,
    pub(crate) lines: Arc<Mutex<Vec<Value>>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Report>,
}

/// How to start one.
pub(crate) struct Setup {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) stub: Stub,
    pub(crate) options: Options,
    pub(crate) tls: Option<TlsFiles>,
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
                ..Options::default()
            },
            tls: None,
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
        let (spool, _) = Spool::open(&self.folder.path().join("spool"), "west", self.max_spool_bytes).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sink = Arc::clone(&lines);
        let log = Log::new(move |line| sink.lock().unwrap().push(serde_json::from_str(line).unwrap()));
        let (stop, stopped) = oneshot::channel::<()>();
        let tls = self.tls.map(|files| files.acceptor().unwrap());
        let stopped = async move {
            let _ = stopped.await;
        };
        let running = tokio::spawn(run(self.options, listener, tls, spool, self.stub.clone(), log, stopped));
        Gateway { folder: self.folder, stub: self.stub, address, lines, stop, running }
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
    pub(crate) async fn stop(self) -> Report {
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

    fn field(&self, segment: &str, field: usize) -> &str {
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
