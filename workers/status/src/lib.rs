//! `GET /er7/{messageId}/status` and `POST /er7/status`: how far a message has come, and how far each of many.
//!
//! The worker reads the catalog under its own role, which allows nothing else. The institutes that the API's authorizer verified decide
//! which record the caller sees. The message itself cannot be read here.

mod many;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use catalog::Catalog;
use domain::Source;
use runtime::{Caller, Field, HttpProblem, StepError, json_response, log_field, message_id, problem_response};
use serde_json::{Value, json};

pub use many::MOST;

/// Answers one request: 200, or a problem document.
///
/// # Errors
/// Only for an event that is not API Gateway's.
pub async fn answer(catalog: &Catalog, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
    let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
    let answer = match request.route_key.as_deref() {
        Some("POST /er7/status") => many::statuses(catalog, &request).await,
        _ => status(catalog, &request).await,
    };
    let (outcome, response) = match answer {
        Ok((outcome, body)) => (outcome, json_response(200, &body)),
        Err(problem) => (problem.title, problem_response(&problem)),
    };
    log_field(Field::Outcome, outcome);
    Ok(response)
}

/// The outcome for the log, and the body.
type Answer = (&'static str, Value);

async fn status(catalog: &Catalog, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
    let institutes = institutes(request)?;
    let message_id = message_id(request)?;
    for source in &institutes {
        log_field(Field::Source, source);
        if let Some(record) = catalog.get(source, &message_id).await.map_err(|error| HttpProblem::of_step(&error))? {
            return Ok((record.status.as_str(), json!(record.progress())));
        }
    }
    Err(HttpProblem::new(404, "Not found", "the institute has submitted no message with this id"))
}

/// The institutes whose records the caller sees: the one that the caller submits for, then the one that the caller reads from.
fn institutes(request: &ApiGatewayV2httpRequest) -> Result<Vec<Source>, HttpProblem> {
    let caller = Caller::of(request)?;
    let mut institutes: Vec<Source> = [caller.write, caller.read].into_iter().flatten().collect();
    institutes.dedup();
    if institutes.is_empty() {
        return Err(HttpProblem::new(403, "Forbidden", "the caller has no institute to submit for or to read from"));
    }
    Ok(institutes)
}
