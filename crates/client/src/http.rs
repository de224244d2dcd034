//! A small client of the API. [`crate::Client`] adds what a person's session needs.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The content type of ER7 without any wrapping.
pub const ER7: &str = "application/hl7-v2";
/// The content type of `{"msg": "<base64>", "encoding": "utf-8"}`.
pub const JSON: &str = "application/json";

/// The content type of a message's bytes as they were received.
pub const RAW: &str = "application/octet-stream";

/// The content type of a problem document (RFC 9457).
const PROBLEM: &str = "application/problem+json";

/// The longest an API Gateway lets an integration take is 30 s.
const REQUEST_DEADLINE: Duration = Duration::from_secs(40);
/// For a request or an answer with a message in it, over the line of a small hospital.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(300);

/// The API of one deployment.
#[derive(Debug, Clone)]
pub struct Api {
    url: String,
    client: reqwest::Client,
}

/// The API's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when the body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it is the bare answer that API Gateway gives when its authorizer does not admit a token: the token is invalid, or
    /// its user may not do this. The authorizer of an HTTP API cannot tell the caller which of the two it is. The API's own
    /// refusals have a problem document.
    #[must_use]
    pub fn is_shut_out(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.status == StatusCode::FORBIDDEN
            && !content_type.to_ascii_lowercase().starts_with(PROBLEM)
            && self.text("message").eq_ignore_ascii_case("forbidden")
    }

    /// The API's reason for a refusal, in one line: the status, and the text of the problem document (RFC 9457).
    #[must_use]
    pub fn problem(&self) -> String {
        if self.is_shut_out() {
            return format!("{}: not signed in any more, or not allowed: `sluice whoami` says who is signed in", self.status);
        }
        // API Gateway itself answers `{"message": ...}`. A title that only says the status again is left out.
        let reason = self.status.canonical_reason().unwrap_or_default();
        let texts = ["title", "detail", "message"].map(|field| self.text(field));
        let said = texts.iter().filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case(reason));
        said.fold(self.status.to_string(), |problem, text| format!("{problem}: {text}"))
    }

    /// Whether the API cannot answer now, so that the same request may succeed later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }

    /// Whether the API says that it was too busy to answer: 429, 503 or 504.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&self.status)
    }

    /// A text member of the JSON body; empty when the body has no such member.
    #[must_use]
    pub fn text(&self, field: &str) -> String {
        self.json().get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Api {
    /// `api_url` is the one of the outputs, without `/er7`.
    ///
    /// # Errors
    /// When the address is plain `http` to another machine, where anybody on the way could read the token; or when this
    /// machine has no TLS roots.
    pub fn new(api_url: &str) -> Result<Self> {
        ensure!(
            keeps_a_token_secret(api_url),
            "`{api_url}` is not encrypted, so the token could be read on the way and nothing was sent: give the API's `https://` \
             address (`sluice whoami` shows which one is in use, `sluice login --help` how to set it)"
        );
        let client = reqwest::Client::builder()
            .timeout(REQUEST_DEADLINE)
            .connect_timeout(Duration::from_secs(5))
            // A redirect leads to S3, which must not see the token: callers follow it themselves.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("setting the HTTP client up")?;
        Ok(Self { url: api_url.trim_end_matches('/').to_owned(), client })
    }

    /// `POST /er7` with a body of this content type, to be answered in JSON.
    ///
    /// # Errors
    /// When there was no answer; an answer that refuses is an answer.
    pub async fn submit(&self, body: Vec<u8>, content_type: &str, token: Option<&SecretString>) -> Result<Answer> {
        let request =
            self.request(Method::POST, "/er7", token).header(CONTENT_TYPE, content_type).header(ACCEPT, JSON).body(body);
        send(request).await.context("POST /er7")
    }

    /// `GET /er7/{messageId}/status`.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn status(&self, message_id: &str, token: Option<&SecretString>) -> Result<Answer> {
        self.get(&format!("/er7/{message_id}/status"), token).await
    }

    /// `POST /er7/{messageId}/release`.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn release(&self, message_id: &str, token: &SecretString) -> Result<Answer> {
        let path = format!("/er7/{message_id}/release");
        send(self.request(Method::POST, &path, Some(token)).header(ACCEPT, JSON)).await.with_context(|| format!("POST {path}"))
    }

    /// `POST /er7/release` with this body.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn release_held(&self, body: &Value, token: &SecretString) -> Result<Answer> {
        let request = self.request(Method::POST, "/er7/release", Some(token)).header(ACCEPT, JSON);
        send(request.header(CONTENT_TYPE, JSON).body(body.to_string())).await.context("POST /er7/release")
    }

    /// `GET` of any path below the API.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn get(&self, path: &str, token: Option<&SecretString>) -> Result<Answer> {
        let request = self.request(Method::GET, path, token).header(ACCEPT, JSON);
        send(request).await.with_context(|| format!("GET {path}"))
    }

    /// A request without a token to an address that the API has given, such as a presigned one of S3.
    pub fn elsewhere(&self, url: &str) -> RequestBuilder {
        self.client.get(url).timeout(TRANSFER_DEADLINE)
    }

    /// A PUT without a token to a presigned URL of S3.
    pub fn upload(&self, url: &str) -> RequestBuilder {
        self.client.put(url)
    }

    /// A request to be completed by the caller.
    pub fn request(&self, method: Method, path: &str, token: Option<&SecretString>) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()) {
            Some(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            None => request,
        }
    }

    /// Asks for the status of a message until it is a final one, and gives that answer's JSON. Asks again while the API is overloaded.
    ///
    /// # Errors
    /// When the API refuses, or there is no final status by the deadline.
    pub async fn final_status(&self, message_id: &str, token: &SecretString, deadline: Duration) -> Result<Value> {
        let began = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let answer = self.status(message_id, Some(token)).await?;
            let is_overloaded = answer.is_overloaded() && began.elapsed() < deadline;
            ensure!(
                answer.status == StatusCode::OK || is_overloaded,
                "the status of a message was answered with {}: {}",
                answer.status,
                answer.text("title")
            );
            if !is_overloaded {
                let json = answer.json();
                let status = json.get("status").cloned().unwrap_or_default();
                let status: domain::Status =
                    serde_json::from_value(status).context("the API returned a status that this version does not know")?;
                if status.is_final() {
                    return Ok(json);
                }
                ensure!(began.elapsed() < deadline, "a message is still `{}` after {} s", status.as_str(), deadline.as_secs());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }
}

/// Whether a token stays secret on its way to this address: over TLS, or within this machine.
fn keeps_a_token_secret(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    url.scheme() == "https" || (url.scheme() == "http" && (host == "localhost" || address.is_ok_and(|it| it.is_loopback())))
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When there was no answer.
pub async fn send(request: RequestBuilder) -> Result<Answer> {
    let Some(tell) = TELL.get() else { return exchange(request).await };
    let (client, request) = request.build_split();
    let request = request.map_err(reqwest::Error::without_url)?;
    // Without the query, which may hold a search term.
    let what = format!("{} {}", request.method(), request.url().path());
    let began = std::time::Instant::now();
    let answer = exchange(RequestBuilder::from_parts(client, request)).await;
    let outcome = answer.as_ref().map_or_else(|_| "no answer".to_owned(), |it| format!("{}, {} bytes", it.status, it.body.len()));
    tell(&format!("{what}: {outcome} ({} ms)", began.elapsed().as_millis()));
    answer
}

static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// From now on `tell` gets one line for each request: method and path, status and size of the answer, duration. Only the first
/// call counts.
pub fn tell_requests(tell: fn(&str)) {
    let _ = TELL.set(tell);
}

async fn exchange(request: RequestBuilder) -> Result<Answer> {
    // Without the URL, which may hold a message id.
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(reqwest::Error::without_url)?.to_vec();
    Ok(Answer { status, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        let problem = |status, body: &str| Answer { status, headers: HeaderMap::new(), body: body.into() }.problem();
        let document = r#"{"type":"urn:sluice:problem:not-found","title":"Not found","status":404,"detail":"no such message"}"#;
        assert_eq!(problem(StatusCode::NOT_FOUND, document), "404 Not Found: no such message");
        assert_eq!(problem(StatusCode::CONFLICT, r#"{"title":"Duplicate","detail":"again"}"#), "409 Conflict: Duplicate: again");
        assert_eq!(problem(StatusCode::UNAUTHORIZED, r#"{"message":"Unauthorized"}"#), "401 Unauthorized");
        assert_eq!(problem(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway");
        let shut_out = problem(StatusCode::FORBIDDEN, r#"{"message":"Forbidden"}"#);
        assert!(shut_out.starts_with("403 Forbidden: not signed in any more, or not allowed: `sluice whoami`"), "{shut_out}");
    }

    #[test]
    fn a_token_goes_to_no_other_machine_without_tls() {
        for url in ["https://api.example/v1", "http://127.0.0.1:4566/x", "http://localhost:8080", "http://[::1]:4566"] {
            assert!(Api::new(url).is_ok(), "{url}");
        }
        let others =
            ["http://api.example", "http://10.0.0.7", "http://localhost.example", "http://127.0.0.1.example", "ftp://a", "x"];
        for url in others {
            let refused = Api::new(url).unwrap_err().to_string();
            assert!(refused.contains("give the API's `https://` address"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_token_is_not_sent_on_where_a_redirect_leads() {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = BufReader::new(&stream).lines().map_while(|it| it.ok().filter(|line| !line.is_empty()));
            let authorized = request.filter(|line| line.starts_with("authorization: Bearer ")).count();
            stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://api.example/\r\ncontent-length: 0\r\n\r\n").unwrap();
            authorized
        });
        let answer = api.get("/er7", Some(&SecretString::from("secret"))).await.unwrap();
        assert_eq!((answer.status, server.join().unwrap()), (StatusCode::FOUND, 1));
    }

    #[test]
    fn only_the_bare_answer_of_api_gateway_means_a_refused_token() {
        let shut_out = |status, content_type: &'static str, body: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            Answer { status, headers, body: body.into() }.is_shut_out()
        };
        let bare = r#"{"message":"Forbidden"}"#;
        assert!(shut_out(StatusCode::FORBIDDEN, "application/json", bare));
        assert!(shut_out(StatusCode::FORBIDDEN, "", bare));
        assert!(!shut_out(StatusCode::FORBIDDEN, "application/problem+json", r#"{"title":"Forbidden","detail":"no right"}"#));
        assert!(!shut_out(StatusCode::FORBIDDEN, "application/problem+json; charset=utf-8", bare));
        assert!(!shut_out(StatusCode::FORBIDDEN, "text/html", "<html>a proxy</html>"));
        assert!(!shut_out(StatusCode::FORBIDDEN, "application/json", r#"{"message":"another"}"#));
        assert!(!shut_out(StatusCode::NOT_FOUND, "application/json", bare));
    }
}
