//! Answers of the API: JSON, or an RFC 9457 problem document.

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
}

/// A JSON answer.
pub fn json_response(status: u16, body: &Value) -> ApiGatewayV2httpResponse {
    respond(status, "application/json", body, None)
}

/// A problem document.
pub fn problem_response(problem: &HttpProblem) -> ApiGatewayV2httpResponse {
    let HttpProblem { status, title, detail, members, retry_after_seconds } = problem;
    let mut body = json!({ "type": "about:blank", "title": title, "status": status, "detail": detail });
    if let Value::Object(object) = &mut body {
        object.extend(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    respond(*status, "application/problem+json", &body, *retry_after_seconds)
}

fn respond(status: u16, content_type: &'static str, body: &Value, retry_after: Option<u32>) -> ApiGatewayV2httpResponse {
    note(Field::HttpStatus, status);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        headers.insert("retry-after", seconds.into());
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = Some(Body::Text(body.to_string()));
    response
}

/// A claim of the ID token that API Gateway's JWT authorizer has verified. Empty counts as absent.
pub fn claim<'a>(request: &'a ApiGatewayV2httpRequest, name: &str) -> Option<&'a str> {
    let claims = &request.request_context.authorizer.as_ref()?.jwt.as_ref()?.claims;
    claims.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// A request header, if it is text.
pub fn header<'a>(request: &'a ApiGatewayV2httpRequest, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

impl HttpProblem {
    /// The answer to a caller when one of our own calls failed. Which one is for the log, not for the caller.
    pub fn of_step(error: &StepError) -> Self {
        note(Field::Error, error.name());
        note(Field::Detail, error);
        match error {
            StepError::Throttled { .. } => Self::retry(429, "Too many requests", 2),
            StepError::Unavailable { .. } => Self::retry(503, "Service unavailable", 5),
            _ => Self::retry(503, "Service unavailable", 60),
        }
    }

    fn retry(status: u16, title: &'static str, after_seconds: u32) -> Self {
        Self { retry_after_seconds: Some(after_seconds), ..Self::new(status, title, "not done; try again later") }
    }
}
