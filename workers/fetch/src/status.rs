//! `GET /institutes/{source}/er7/{messageId}/status`: how far a message of a named institute has come.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use runtime::{HttpProblem, json_response, message_id};
use serde_json::json;

use crate::{Answer, Fetch, Reader};

impl Fetch {
    /// The answer of the worker `status`, for a caller who may read the named institute's record.
    pub(crate) async fn status(&self, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let message_id = message_id(request)?;
        let caller = self.credentials(&reader).await?;
        let record = self.catalog.get(&caller, &reader.source, &message_id).await;
        let record = record.map_err(|error| HttpProblem::of_step(&error))?;
        let record = record.ok_or_else(|| HttpProblem::new(404, "Not found", "the institute has submitted no such message"))?;
        Ok((record.status.as_str(), json_response(200, &json!(record.progress()))))
    }
}
