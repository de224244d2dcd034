//! The API's answers: JSON, bytes or an RFC 9457 problem document.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::StepError;
use crate::log::{Field, note};

/// An answer that is an error: status, title and a detail that names what is wrong, without quoting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProblem {
    /// HTTP status.
    pub status: u16,
    /// What kind of problem: the same for every occurrence (RFC 9457 §3.1.3).
    pub title: &'static str,
    /// What is wrong with this request.
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

    /// As JSON (RFC 9457 §3).
    pub fn document(&self) -> Value {
        let mut document = json!({ "type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail });
        if let Value::Object(object) = &mut document {
            object.extend(self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        document
    }

    /// 400: the path names no message.
    pub fn invalid_message_id() -> Self {
        Self::new(400, "Invalid message id", "the message id must be 64 lower-case hexadecimal digits")
    }

    /// 401: the request came without the ID token of a signed-in user.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "an ID token is required in `Authorization`")
    }
}

/// A JSON answer.
pub fn json_response(status: u16, body: &Value) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    respond(status, headers, Some(Body::Text(body.to_string())))
}

/// An answer with these headers and bytes. They travel in base64 and reach the caller as they are; without them the answer
/// has no body (HEAD, 304, 307).
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
    respond(problem.status, headers, Some(Body::Text(problem.document().to_string())))
}

fn respond(status: u16, mut headers: HeaderMap, body: Option<Body>) -> ApiGatewayV2httpResponse {
    note(Field::HttpStatus, status);
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = body;
    response
}

/// A request header, if it is text.
pub fn header<'a>(request: &'a ApiGatewayV2httpRequest, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

impl HttpProblem {
    /// The answer to a caller when a call failed. Which one is for the log, not for the caller.
    ///
    /// A token that was not accepted is the caller's affair; everything else makes the invocation's line an error.
    pub fn of_step(error: &StepError) -> Self {
        note(Field::Detail, error);
        match error {
            StepError::TokenExpired => return Self::new(401, "Unauthorized", "the ID token has expired"),
            StepError::TokenInvalid => return Self::new(401, "Unauthorized", "the ID token was not accepted"),
            _ => note(Field::Error, error.name()),
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
    fn bytes_reach_the_caller_as_they_are() {
        let text = |response| serde_json::to_value::<ApiGatewayV2httpResponse>(response).unwrap();
        let answer = text(bytes_response(200, HeaderMap::new(), Some(b"MSH|\xff\r".to_vec())));
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("TVNIfP8N"), &json!(true)));
        let answer = text(bytes_response(304, HeaderMap::new(), None));
        assert_eq!((answer.get("body"), &answer["isBase64Encoded"]), (None, &json!(false)));
    }
}
