//! The API over HTTP on loopback, as far as a gateway in another process needs it. The benchmark uses it, too.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_mllp::{Lake, Outcome, Part, Submission};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A gateway's client of [`Api`].
pub(crate) struct HttpLake {
    client: reqwest::Client,
    url: String,
}

impl HttpLake {
    pub(crate) fn new(api: SocketAddr) -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().unwrap();
        Self { client, url: format!("http://{api}/er7") }
    }
}

impl Lake for HttpLake {
    async fn submit(&self, body: &[u8]) -> Submission {
        let request = self.client.post(&self.url).header("content-type", "application/hl7-v2").body(body.to_vec());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(202) => Submission::Final(vec![Part::Queued { id: String::new() }]),
            Ok(409) => Submission::Final(vec![Part::Duplicate]),
            Ok(status) => Submission::Later { after: None, reason: format!("HTTP {status}") },
            Err(_) => Submission::Later { after: None, reason: "no answer".to_owned() },
        }
    }

    async fn outcome(&self, _: &str) -> Option<Outcome> {
        None
    }
}

/// How often each message was delivered, by its control id.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<HashMap<String, usize>>>);

impl Api {
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

    pub(crate) fn delivered(&self) -> HashMap<String, usize> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 2 {
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
            let text = String::from_utf8_lossy(&body);
            let control_id = text.split('|').nth(9).unwrap_or_default().to_owned();
            let times = {
                let mut delivered = self.0.lock().unwrap();
                let times = delivered.entry(control_id).or_default();
                *times += 1;
                *times
            };
            let status = if times == 1 { "202 Accepted" } else { "409 Conflict" };
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
        }
    }
}
