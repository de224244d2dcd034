//! The API over HTTP on loopback, as far as a gateway in another process needs it. The benchmark uses it, too.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use domain::{Charset, MessageId};
use sluice_mllp::{Destination, Receipt, Reply, Standing};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A gateway's client of [`Api`].
pub(crate) struct HttpDestination {
    client: reqwest::Client,
    url: String,
}

impl HttpDestination {
    pub(crate) fn new(api: SocketAddr) -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().unwrap();
        Self { client, url: format!("http://{api}/er7") }
    }
}

impl Destination for HttpDestination {
    async fn submit(&self, body: &Bytes, _: Option<Charset>) -> Reply {
        let request = self.client.post(&self.url).header("content-type", "application/hl7-v2").body(body.clone());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(202) => Reply::Final(vec![Receipt::Queued { id: MessageId::of_canonical(body) }]),
            Ok(409) => Reply::Final(vec![Receipt::Duplicate]),
            Ok(status) => Reply::Later { after: None, reason: format!("HTTP {status}") },
            Err(_) => Reply::Later { after: None, reason: "no answer".to_owned() },
        }
    }

    async fn standings(&self, ids: &[MessageId]) -> Result<Vec<Standing>, String> {
        let ids = ids.iter().map(MessageId::as_str).collect::<Vec<_>>().join(" ");
        let request = self.client.post(format!("{}/status", self.url)).body(ids);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(|_| "no answer".to_owned())?;
        let text = answer.text().await.map_err(|_| "half an answer".to_owned())?;
        Ok(text.split(' ').map(|it| if it == "stored" { Standing::Stored } else { Standing::Lost }).collect())
    }
}

/// How often each message was delivered, by its control id, and what the lake has.
#[derive(Clone, Default)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    /// One message in so many is taken and lost; 0 for none.
    loses_one_in: u32,
}

#[derive(Default)]
struct State {
    delivered: HashMap<String, usize>,
    stored: HashSet<String>,
}

impl Api {
    /// An API that takes one message in so many and loses it.
    pub(crate) fn losing_one_in(loses_one_in: u32) -> Self {
        Self { loses_one_in, ..Self::default() }
    }

    /// Answers until the runtime ends.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, api) = (listener.local_addr().unwrap(), self.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let api = api.clone();
                // A client that goes away in the middle of a request has not delivered.
                tokio::spawn(async move { api.serve(stream).await.ok() });
            }
        });
        address
    }

    /// Those that were not lost.
    pub(crate) fn delivered(&self) -> HashMap<String, usize> {
        self.state.lock().unwrap().delivered.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().delivered.len()
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let (mut length, mut asks) = (0, false);
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 2 {
                asks |= line.starts_with("POST /er7/status ");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            if line.is_empty() {
                return Ok(());
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let (status, answer) = if asks { ("200 OK", self.standings(&body)) } else { (self.submit(&body), String::new()) };
            let length = answer.len();
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{answer}").as_bytes()).await?;
        }
    }

    fn submit(&self, body: &[u8]) -> &'static str {
        if self.loses_one_in > 0 && fastrand::u32(0..self.loses_one_in) == 0 {
            return "202 Accepted";
        }
        let text = String::from_utf8_lossy(body);
        let control_id = text.split('|').nth(9).unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap();
        *state.delivered.entry(control_id).or_default() += 1;
        if state.stored.insert(MessageId::of_canonical(body).to_string()) { "202 Accepted" } else { "409 Conflict" }
    }

    fn standings(&self, body: &[u8]) -> String {
        let state = self.state.lock().unwrap();
        let text = String::from_utf8_lossy(body);
        let standing = |id| if state.stored.contains(id) { "stored" } else { "lost" };
        text.split(' ').map(standing).collect::<Vec<_>>().join(" ")
    }
}
