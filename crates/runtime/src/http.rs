//! The API's answers: JSON, bytes or an RFC 9457 problem document.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use domain::MessageId;
use serde_json::{Value, json};

use crate::StepError;
use crate::log::{Field, log_field, trace};

/// An error answer: status, title and a detail that explains the error without quoting the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProblem {
    /// HTTP status.
    pub status: u16,
    /// The kind of problem: the same for every occurrence (RFC 9457 §3.1.3).
    pub title: &'static str,
    /// The problem of this request.
    pub detail: String,
    /// Members beside the standard ones (`messageId`).
    pub members: Vec<(&'static str, Value)>,
    /// Seconds after which to try again, for 429 and 503.
    pub retry_after_seconds: Option<u32>,
}

impl HttpProblem {
    /// A problem without extras.
    pub fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), members: Vec::new(), retry_after_seconds: None }
    }

    /// The problem document (RFC 9457 §3).
    pub fn document(&self) -> Value {
        let (problem_type, title) = (problem_type(self.title), self.title);
        let mut document = json!({ "type": problem_type, "title": title, "status": self.status, "detail": self.detail });
        if let Value::Object(object) = &mut document {
            object.extend(self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        document
    }

    /// 401: the request came without the ID token of a signed-in user.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "an ID token is required in `Authorization`")
    }
}

/// The URI that names a kind of problem to programs (RFC 9457 §3.1.1), made from its title: `Not found` is
/// `urn:sluice:problem:not-found`. `docs/API.md` has a table of them.
pub fn problem_type(title: &str) -> String {
    format!("urn:sluice:problem:{}", title.to_ascii_lowercase().replace(' ', "-"))
}

/// A JSON answer.
pub fn json_response(status: u16, body: &Value) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    respond(status, headers, Some(Body::Text(body.to_string())))
}

/// An answer with these headers and bytes. The bytes travel to API Gateway in base64 and reach the caller unchanged. Without bytes the
/// answer has no body (HEAD, 304, 307).
pub fn bytes_response(status: u16, headers: HeaderMap, body: Option<Vec<u8>>) -> ApiGatewayV2httpResponse {
    let mut response = respond(status, headers, body.map(Body::Binary));
    response.is_base64_encoded = response.body.is_some();
    response
}

/// A problem document.
pub fn problem_response(problem: &HttpProblem) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after_seconds {
        headers.insert("retry-after", seconds.into());
    }
    let mut document = problem.document();
    if let (Some(trace), Some(members)) = (trace(), document.as_object_mut()) {
        members.insert("traceId".to_owned(), trace.trace_id().to_string().into());
    }
    respond(problem.status, headers, Some(Body::Text(document.to_string())))
}

fn respond(status: u16, mut headers: HeaderMap, body: Option<Body>) -> ApiGatewayV2httpResponse {
    log_field(Field::HttpStatus, status);
    // An answer may hold a patient's data: caches must not keep it, and browsers must not show it as a page.
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(trace) = trace().and_then(|trace| HeaderValue::try_from(trace.to_string()).ok()) {
        headers.insert("traceparent", trace);
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = body;
    response
}

/// The message id in the request's path. Logs it.
///
/// # Errors
/// 400 if the path has no valid one.
pub fn message_id(request: &ApiGatewayV2httpRequest) -> Result<MessageId, HttpProblem> {
    let message_id: MessageId =
        request.path_parameters.get("messageId").and_then(|it| it.parse().ok()).ok_or_else(|| {
            HttpProblem::new(400, "Invalid message id", "the message id must be 64 lower-case hexadecimal digits")
        })?;
    log_field(Field::MessageId, &message_id);
    Ok(message_id)
}

/// The base address of the API, without a slash at the end: `public_url`, or the host of the request if that is empty.
pub fn base_url(request: &ApiGatewayV2httpRequest, public_url: &str) -> String {
    if public_url.is_empty() {
        format!("https://{}", request.request_context.domain_name.as_deref().unwrap_or_default())
    } else {
        public_url.trim_end_matches('/').to_owned()
    }
}

/// A request header, if it is text.
pub fn header<'a>(request: &'a ApiGatewayV2httpRequest, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

impl HttpProblem {
    /// The answer to a caller when an AWS call failed. The log names the call; the answer does not.
    ///
    /// A token that AWS did not accept is the caller's fault; any other failure makes the invocation's line an error.
    pub fn of_step(error: &StepError) -> Self {
        log_field(Field::Detail, error);
        match error {
            StepError::TokenExpired => return Self::new(401, "Unauthorized", "the ID token has expired"),
            StepError::TokenInvalid => return Self::new(401, "Unauthorized", "the ID token was not accepted"),
            _ => log_field(Field::Error, error.name()),
        }
        match error {
            StepError::Denied { .. } => Self::new(403, "Forbidden", "AWS refuses this to the caller"),
            StepError::Throttled { .. } => Self::retry(429, "Too many requests", 2),
            StepError::Unavailable { .. } => Self::retry(503, "Service unavailable", 5),
            _ => Self::retry(503, "Service unavailable", 60),
        }
    }

    fn retry(status: u16, title: &'static str, after_seconds: u32) -> Self {
        Self { retry_after_seconds: Some(after_seconds), ..Self::new(status, title, "not done; try again later") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_kind() {
        let document = HttpProblem::new(404, "Not found", "no such message").document();
        let expected =
            json!({ "type": "urn:sluice:problem:not-found", "title": "Not found", "status": 404, "detail": "no such message" });
        assert_eq!(document, expected);
    }

    #[test]
    fn bytes_reach_the_caller_as_they_are() {
        let text = |response| serde_json::to_value::<ApiGatewayV2httpResponse>(response).unwrap();
        let answer = text(bytes_response(200, HeaderMap::new(), Some(b"MSH|\xff\r".to_vec())));
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("TVNIfP8N"), &json!(true)));
        let answer = text(bytes_response(304, HeaderMap::new(), None));
        assert_eq!((answer.get("body"), &answer["isBase64Encoded"]), (None, &json!(false)));
    }
}
