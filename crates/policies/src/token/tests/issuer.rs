//! An issuer's key endpoint, well or not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Signer;

/// What the next request gets.
#[derive(Clone)]
pub(super) enum Answer {
    /// These bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// The same, when [`Issuer::open`] has been called for it.
    AtTheGate(Vec<u8>),
    /// The same, but a byte at a time with this pause.
    Slowly(Vec<u8>, Duration),
    /// These bytes, and then no more, ever.
    Stuck(Vec<u8>),
    /// `200`, and chunks as long as anybody reads.
    Endless,
}

impl Answer {
    pub(super) fn keys(keys: &[Value]) -> Self {
        Self::json(&json!({ "keys": keys }))
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::status("200 OK", "content-type: application/json\r\n", &body.to_string())
    }

    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes())
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => panic!("no plain answer"),
        }
    }
}

/// The endpoint. Ends with the test's runtime.
pub(super) struct Issuer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    requests: AtomicUsize,
    gate: Semaphore,
    /// A permit for each client that left in the middle of an answer.
    left: Semaphore,
}

impl Issuer {
    pub(super) async fn with(signers: &[&Signer]) -> Self {
        Self::answering(Answer::keys(&signers.iter().map(|it| it.jwk()).collect::<Vec<_>>())).await
    }

    pub(super) async fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            requests: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            left: Semaphore::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { port, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys", self.port)
    }

    pub(super) fn now_answers(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub(super) fn now_has(&self, signers: &[&Signer]) {
        self.now_answers(Answer::keys(&signers.iter().map(|it| it.jwk()).collect::<Vec<_>>()));
    }

    /// How often it has been asked.
    pub(super) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Lets one answer through the gate.
    pub(super) fn open(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Until a client has left in the middle of an answer.
    pub(super) async fn client_left(&self) {
        self.shared.left.acquire().await.unwrap().forget();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock().unwrap().clone();
    let result = match answer {
        Answer::Bytes(bytes) => stream.write_all(&bytes).await,
        Answer::AtTheGate(bytes) => {
            shared.gate.acquire().await.unwrap().forget();
            stream.write_all(&bytes).await
        }
        Answer::Slowly(bytes, pause) => slowly(&mut stream, &bytes, pause).await,
        Answer::Stuck(bytes) => stuck(&mut stream, &bytes).await,
        Answer::Endless => endless(&mut stream).await,
    };
    match result {
        Ok(()) => drop(stream.shutdown().await),
        Err(_) => shared.left.add_permits(1),
    }
}

/// Ends when the client does.
async fn stuck(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.read_u8().await.map(drop)
}

async fn slowly(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_u8(*byte).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk).await?;
    }
}
