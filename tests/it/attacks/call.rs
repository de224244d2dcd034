//! A request to AWS as an attacker makes it: by hand, signed with whatever credentials they hold.
//!
//! Beside the request stands what IAM is asked about it, by the Service Authorization Reference: action, resource and
//! the condition keys that the request gives. The local AWS judges the request, `judge` the question.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// What IAM is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) action: String,
    pub(crate) resource: String,
    /// Condition keys with their values. Those of the caller are not among them.
    pub(crate) keys: Vec<(String, Vec<String>)>,
}

/// A request, and what IAM is asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    service: &'static str,
    method: &'static str,
    path_and_query: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    presigned: bool,
    pub(crate) asks: Vec<Ask>,
}

/// What AWS answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The error's code; empty for a success, and for a HEAD.
    pub(crate) code: String,
    pub(crate) body: String,
}

impl Ask {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), keys: Vec::new() }
    }

    pub(crate) fn key(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.keys(key, [value.into()])
    }

    pub(crate) fn keys(mut self, key: impl Into<String>, values: impl IntoIterator<Item = String>) -> Self {
        self.keys.push((key.into(), values.into_iter().collect()));
        self
    }
}

impl Call {
    fn new(service: &'static str, method: &'static str, path_and_query: impl Into<String>) -> Self {
        Self {
            service,
            method,
            path_and_query: path_and_query.into(),
            headers: Vec::new(),
            body: String::new(),
            presigned: false,
            asks: Vec::new(),
        }
    }

    /// A request to S3. `key` is as it shall be stored, `query` as it goes over the wire.
    pub(crate) fn s3(method: &'static str, bucket: &str, key: &str, query: &str) -> Self {
        let mark = if query.is_empty() { "" } else { "?" };
        Self::new("s3", method, format!("/{bucket}/{}{mark}{query}", escape(key)))
    }

    /// A request of the JSON protocol. `target` is `<prefix>.<operation>`.
    pub(crate) fn json(service: &'static str, target: &str, body: &Value) -> Self {
        let call = Self::new(service, "POST", "/").header("x-amz-target", target);
        call.header("content-type", "application/x-amz-json-1.1").body(body.to_string())
    }

    /// A request of the query protocol.
    pub(crate) fn form(service: &'static str, version: &str, action: &str, fields: &[(&str, &str)]) -> Self {
        let fields: String = fields.iter().map(|(name, value)| format!("&{name}={}", escape(value))).collect();
        let call = Self::new(service, "POST", "/").header("content-type", "application/x-www-form-urlencoded");
        call.body(format!("Action={action}&Version={version}{fields}"))
    }

    /// A request of the REST protocol.
    pub(crate) fn rest(service: &'static str, method: &'static str, path: &str, body: &Value) -> Self {
        Self::new(service, method, path).header("content-type", "application/json").body(body.to_string())
    }

    /// A request to a route of the API that IAM authorizes. `path` is as it goes over the wire.
    pub(crate) fn api(path: impl Into<String>) -> Self {
        Self::new("execute-api", "GET", path)
    }

    /// No request, only a question: for what no request of a user's own can show.
    pub(crate) fn question(ask: Ask) -> Self {
        Self::new("", "", "").asks(ask)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Another value for a header that is there.
    pub(crate) fn replace_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|it| it.0 != name);
        self.header(name, value)
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn presigned(mut self) -> Self {
        self.presigned = true;
        self
    }

    pub(crate) fn asks(mut self, ask: Ask) -> Self {
        self.asks.push(ask);
        self
    }

    /// Another key of the first question, which is about the request's own action.
    pub(crate) fn key(mut self, key: &str, value: &str) -> Self {
        if let Some(first) = self.asks.first_mut() {
            first.keys.push((key.to_owned(), vec![value.to_owned()]));
        }
        self
    }

    /// Whether there is a request to send.
    pub(crate) fn is_request(&self) -> bool {
        !self.service.is_empty()
    }

    /// Signs the request and sends it.
    pub(crate) async fn send(&self, endpoint: &str, region: &str, credentials: &Credentials) -> Result<Answer> {
        let uri = format!("{endpoint}{}", self.path_and_query);
        let mut settings = SigningSettings::default();
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let mut body = SignableBody::Bytes(self.body.as_bytes());
        if self.presigned {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
            settings.expires_in = Some(Duration::from_secs(60));
            body = SignableBody::UnsignedPayload;
        }
        let identity = credentials.clone().into();
        let parameters = SigningParams::builder().identity(&identity).region(region).name(self.service);
        let parameters = parameters.time(SystemTime::now()).settings(settings).build()?.into();
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signed = sign(SignableRequest::new(self.method, Cow::from(&uri), headers, body)?, &parameters)?;

        let mut request = http::Request::builder().method(self.method).uri(&uri);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(self.body.clone())?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        let client = Client::builder(TokioExecutor::new()).build_http::<String>();
        let answer = client.request(request).await.with_context(|| format!("{} {uri}", self.method))?;
        let status = answer.status().as_u16();
        let body = String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned();
        Ok(Answer { status, code: if status < 300 { String::new() } else { code(&body) }, body })
    }
}

/// Percent-encodes all but what RFC 3986 leaves alone, and slashes.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The code of an error document, JSON or XML, without the namespace that some services put before it.
fn code(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let text = match &json {
        Some(json) => json["__type"].as_str().or(json["Code"].as_str()).unwrap_or_default(),
        None => body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code),
    };
    text.rsplit('#').next().unwrap_or_default().to_owned()
}
