//! Serves the page on the loopback interface, under one host name and one port only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::settings::Settings;
use crate::error::ExitCode;
use crate::local::ALLOWED_ORIGIN;
use client::error::Environment;

/// The path of the validation by the standard, in a page that has it.
const VALIDATOR: &str = "/validator.wasm";

/// The port of [`ALLOWED_ORIGIN`]: sign-in sends a browser back there, and nowhere else.
pub const PORT: u16 = 8080;

/// How long a client may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// A page, ready to be served.
#[derive(Debug)]
pub struct Site {
    files: BTreeMap<String, (&'static str, Vec<u8>)>,
    policy: String,
}

/// A status, a content type and a body.
type Answer<'a> = (&'static str, &'static str, &'a [u8]);

impl Site {
    /// Reads the files of a built page.
    ///
    /// # Errors
    /// When a file cannot be read, or the settings have an invalid address.
    pub fn read(folder: &Path, settings: &Settings) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut waiting = vec![(folder.to_owned(), String::new())];
        while let Some((folder, prefix)) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
                let entry = entry?;
                let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() {
                    waiting.push((entry.path(), name));
                } else {
                    let content = std::fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
                    files.insert(name.clone(), (content_type(&name), content));
                }
            }
        }
        let (kind, index) = files.get("/index.html").context("the page was built without index.html")?.clone();
        for name in ["/", "/callback"] {
            files.insert(name.to_owned(), (kind, index.clone()));
        }
        files.insert("/settings.json".to_owned(), ("application/json", serde_json::to_vec(settings)?));
        let origins = settings.origins()?.into_iter().collect::<Vec<_>>().join(" ");
        let policy = policy(&origins, files.contains_key(VALIDATOR));
        Ok(Self { files, policy })
    }

    /// Takes the port.
    ///
    /// # Errors
    /// When another program has it.
    pub async fn listen() -> Result<TcpListener> {
        TcpListener::bind(("127.0.0.1", PORT)).await.map_err(|error| {
            Environment::lacks(format!(
                "another program uses port {PORT}, and sign-in sends a browser back to {ALLOWED_ORIGIN} only: stop that program, then \
                 start the console again ({error})"
            ))
        })
    }

    /// Serves the page until the future is dropped.
    ///
    /// # Errors
    /// When the system accepts no more connections.
    pub async fn serve(self, listener: TcpListener) -> Result<ExitCode> {
        let site = Arc::new(self);
        loop {
            let (stream, _) = listener.accept().await.context("waiting for a browser")?;
            let site = Arc::clone(&site);
            // A client that sends no request in time, or does not read its answer, gets nothing.
            tokio::spawn(async move { drop(timeout(PATIENCE, site.answer(stream)).await) });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let (status, kind, body, with_body) = loop {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&head) {
                Ok(httparse::Status::Complete(_)) => {
                    let (status, kind, body) = self.respond(&request);
                    break (status, kind, body, request.method != Some("HEAD"));
                }
                Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES => {}
                _ => break ("400 Bad Request", TEXT, &b""[..], true),
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Permissions-Policy: camera=(), geolocation=(), microphone=()\r\n\r\n",
            body.len(),
            self.policy,
        );
        stream.write_all(head.as_bytes()).await?;
        if with_body {
            stream.write_all(body).await?;
        }
        stream.shutdown().await
    }

    fn respond(&self, request: &httparse::Request<'_, '_>) -> Answer<'_> {
        let mut hosts = request.headers.iter().filter(|it| it.name.eq_ignore_ascii_case("host"));
        let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|it| std::str::from_utf8(it.value).ok());
        // Refuse every other host name: anybody's DNS can point a name at 127.0.0.1.
        if host != ALLOWED_ORIGIN.strip_prefix("http://") {
            return ("421 Misdirected Request", TEXT, b"The console answers at http://localhost:8080 only.\n");
        }
        if !matches!(request.method, Some("GET" | "HEAD")) {
            return ("405 Method Not Allowed", TEXT, b"");
        }
        let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
        match self.files.get(path) {
            Some((kind, content)) => ("200 OK", kind, content),
            None => ("404 Not Found", TEXT, b"There is no such file.\n"),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// The content security policy. Scripts and styles come from the page's own files, requests go to these origins, and the page
/// shows only documents that it has itself. `require-trusted-types-for` forbids making HTML from text. `infra/console.yaml` has
/// the same policy. A page with the validation by the standard may also compile WebAssembly of its own files; no text becomes a script by that.
fn policy(origins: &str, has_validator: bool) -> String {
    let scripts = if has_validator { "'self' 'wasm-unsafe-eval'" } else { "'self'" };
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' blob:; frame-src blob:; connect-src 'self' {origins}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> String {
        let files = BTreeMap::from([("/".to_owned(), ("text/html; charset=utf-8", b"page".to_vec()))]);
        let site = Site { files, policy: policy("https://api.example", false) };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(head.as_bytes()).unwrap().is_complete());
        site.respond(&request).0.to_owned()
    }

    #[test]
    fn the_page_is_served_at_its_own_name_alone() {
        assert_eq!(ALLOWED_ORIGIN, format!("http://localhost:{PORT}"));
        assert_eq!(asked("GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"), "200 OK");
        assert_eq!(asked("GET /?code=x HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"), "200 OK");
        for host in ["127.0.0.1:8080", "localhost", "localhost:8081", "rebound.example:8080", "localhost:8080\r\nHost: x"] {
            assert_eq!(asked(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), "421 Misdirected Request", "{host}");
        }
        assert_eq!(asked("GET / HTTP/1.1\r\n\r\n"), "421 Misdirected Request");
    }

    #[test]
    fn only_a_page_with_the_validation_may_compile_webassembly() {
        assert!(policy("", true).contains("script-src 'self' 'wasm-unsafe-eval';"));
        let without = policy("", false);
        assert!(without.contains("script-src 'self';") && !without.contains("eval"));
    }

    #[test]
    fn only_files_of_the_page_are_served_and_no_upload_is_accepted() {
        assert_eq!(asked("POST / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"), "405 Method Not Allowed");
        for path in ["/../outputs.json", "/outputs.json", "//", "/%2e%2e/x"] {
            assert_eq!(asked(&format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n")), "404 Not Found", "{path}");
        }
    }
}
