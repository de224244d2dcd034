//! `GET /institutes/{source}/summary`: how many messages an institute has, by hour, type and status.
//!
//! The API authorizes this route with IAM. The caller signs the request with the AWS credentials that their ID token was exchanged for,
//! and IAM compares the path with the caller's tag `read`. API Gateway hands on who the caller is, and none of the caller's credentials.
//! So the worker assumes a role with the one institute of that path for its session tag `read`: DynamoDB compares the tag with the
//! partition of each query. The worker's own role cannot read the catalog, and the session sees the attributes that are counted and no
//! others.

mod counter;
mod request;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use runtime::{Field, HttpProblem, StepError, json_response, log_field, problem_response};
use serde_json::{Value, json};
use sessions::InstituteSessions;

pub use counter::CatalogCounter;

/// Answers one request: 200 with the counts, or a problem document.
///
/// # Errors
/// Only for an event that is not API Gateway's.
pub async fn answer(
    sessions: &InstituteSessions,
    counter: &CatalogCounter,
    event: Value,
) -> Result<ApiGatewayV2httpResponse, StepError> {
    let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
    let (outcome, response) = match summary(sessions, counter, &request).await {
        Ok(body) => ("summarized", json_response(200, &body)),
        Err(problem) => (problem.title, problem_response(&problem)),
    };
    log_field(Field::Outcome, outcome);
    Ok(response)
}

async fn summary(
    sessions: &InstituteSessions,
    counter: &CatalogCounter,
    request: &ApiGatewayV2httpRequest,
) -> Result<Value, HttpProblem> {
    let source = request::institute(request)?;
    log_field(Field::Source, &source);
    let range = request::range(request, runtime::now())?;
    let session = sessions.of(&source).await.map_err(|error| HttpProblem::of_step(&error))?;
    let counted = counter.count(&session, &source, &range).await.map_err(|error| HttpProblem::of_step(&error))?;
    log_field(Field::Messages, counted.records);
    let mut body = json!({ "institute": source, "from": range.from, "to": range.to, "counts": counted.counts() });
    if let (Some(next), Some(body)) = (counted.next, body.as_object_mut()) {
        body.insert("next".to_owned(), json!(next));
    }
    Ok(body)
}
