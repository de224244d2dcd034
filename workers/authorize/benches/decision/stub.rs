//! The issuers: gives keys and counts who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// `GET <address>/<provider>` gives the provider's keys. Runs until the process ends.
pub(crate) struct Stub {
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
}

impl Stub {
    pub(crate) async fn start(keys: &Value) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(AtomicUsize::new(0));
        let (keys, count) = (Arc::new(keys.clone()), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&keys), Arc::clone(&count)));
            }
        });
        Ok(Self { address, requests })
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One request a connection.
async fn serve(mut connection: TcpStream, keys: Arc<Value>, requests: Arc<AtomicUsize>) -> Result<()> {
    let (reader, mut writer) = connection.split();
    let mut lines = BufReader::new(reader).lines();
    let request = lines.next_line().await?.context("a request")?;
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    requests.fetch_add(1, Ordering::Relaxed);
    let provider = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, body) = keys.get(provider).map_or(("404 Not Found", String::new()), |keys| ("200 OK", keys.to_string()));
    let head = "Content-Type: application/json\r\nConnection: close";
    writer.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    Ok(())
}
