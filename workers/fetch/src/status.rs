//! `GET /institutes/{source}/er7/{messageId}/status`: how far a message of a named institute has come.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::MessageId;
use runtime::{Field, HttpProblem, json_response, note};
use serde_json::json;

use crate::{Answer, Fetch, Reader};

impl Fetch {
    /// What the worker `status` says of a caller's own message, here by the caller's right to read the record.
    pub(crate) async fn status(&self, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let message_id = request.path_parameters.get("messageId").and_then(|it| it.parse::<MessageId>().ok());
        let message_id = message_id.ok_or_else(HttpProblem::invalid_message_id)?;
        note(Field::MessageId, &message_id);
        let caller = self.credentials(&reader).await?;
        let record = self.catalog.get(&caller, &reader.source, &message_id).await;
        let record = record.map_err(|error| HttpProblem::of_step(&error))?;
        let record = record.ok_or_else(|| HttpProblem::new(404, "Not found", "the institute has submitted no such message"))?;
        Ok((record.status.as_str(), json_response(200, &json!(record.progress()))))
    }
}
