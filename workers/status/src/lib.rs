//! `GET /er7/{messageId}/status`: how far a message has come.
//!
//! With the worker's own role, which reads the catalog and nothing else. Which institute's record the caller sees is
//! decided by what the API's authorizer has verified; the message itself is not here to be read.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use catalog::Catalog;
use domain::{MessageId, Record, Source};
use runtime::{Field, HttpProblem, Identity, StepError, json_response, note, problem_response};
use serde_json::{Value, json};

/// Answers one request: 200, or a problem document.
///
/// # Errors
/// Only for an event that is not API Gateway's.
pub async fn answer(catalog: &Catalog, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
    let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
    let (outcome, response) = match status(catalog, &request).await {
        Ok(record) => (record.status.as_str(), json_response(200, &json!(record.progress()))),
        Err(problem) => (problem.title, problem_response(&problem)),
    };
    note(Field::Outcome, outcome);
    Ok(response)
}

async fn status(catalog: &Catalog, request: &ApiGatewayV2httpRequest) -> Result<Record, HttpProblem> {
    let caller = Identity::of(request)?;
    // Where they write, and where they read.
    let mut institutes: Vec<Source> = [caller.write, caller.read].into_iter().flatten().collect();
    institutes.dedup();
    if institutes.is_empty() {
        return Err(HttpProblem::new(403, "Forbidden", "the caller has no institute to submit for or to read from"));
    }
    let message_id = request.path_parameters.get("messageId").and_then(|it| it.parse::<MessageId>().ok());
    let message_id = message_id.ok_or_else(HttpProblem::invalid_message_id)?;
    note(Field::MessageId, &message_id);
    for source in &institutes {
        note(Field::Source, source);
        if let Some(record) = catalog.get(source, &message_id).await.map_err(|error| HttpProblem::of_step(&error))? {
            return Ok(record);
        }
    }
    Err(HttpProblem::new(404, "Not found", "the institute has submitted no message with this id"))
}
