//! `POST /er7/status`: how far each of many messages has come.

use std::collections::{BTreeSet, HashMap};

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catalog::Catalog;
use domain::{MessageId, Record};
use runtime::{Field, HttpProblem, log_field};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Answer, institutes};

/// The maximum number of messages in one question.
pub const MOST: usize = 500;

/// The body of a question.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    message_ids: Vec<Value>,
}

/// For each id, in the order of the request, the answer of `GET /er7/{messageId}/status`, or `unknown`.
pub(crate) async fn statuses(catalog: &Catalog, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
    let institutes = institutes(request)?;
    let asked = question(request)?;
    log_field(Field::Messages, asked.len());
    let mut found: HashMap<MessageId, Record> = HashMap::new();
    for source in &institutes {
        log_field(Field::Source, source);
        // Each id once: DynamoDB refuses a request with a duplicate key.
        let missing: BTreeSet<&MessageId> = asked.iter().filter(|id| !found.contains_key(*id)).collect();
        let records = catalog.get_many(source, missing).await.map_err(|error| HttpProblem::of_step(&error))?;
        found.extend(records.into_iter().map(|record| (record.message_id.clone(), record)));
    }
    let statuses = asked.iter().map(|id| match found.get(id) {
        Some(record) => json!(record.progress()),
        None => json!({ "messageId": id, "status": "unknown" }),
    });
    Ok(("answered", json!({ "statuses": statuses.collect::<Vec<_>>() })))
}

/// The ids that the body asks for. No answer quotes the body.
fn question(request: &ApiGatewayV2httpRequest) -> Result<Vec<MessageId>, HttpProblem> {
    let refused = |detail: String| HttpProblem::new(400, "Bad request", detail);
    let text = request.body.as_deref().unwrap_or_default();
    let decoded = request.is_base64_encoded.then(|| BASE64_STANDARD.decode(text).unwrap_or_default());
    let question: Result<Question, _> = serde_json::from_slice(decoded.as_deref().unwrap_or(text.as_bytes()));
    let question = question.map_err(|_| refused("the body is not a JSON object with a list `messageIds`".to_owned()))?;
    if question.message_ids.len() > MOST {
        return Err(refused(format!("`messageIds` may have at most {MOST} ids")));
    }
    let id = |(nth, id): (usize, &Value)| id.as_str().and_then(|id| id.parse().ok()).ok_or(nth);
    question.message_ids.iter().enumerate().map(id).collect::<Result<_, _>>().map_err(|nth| {
        let detail = format!("`messageIds[{nth}]` is not 64 lower-case hexadecimal digits");
        HttpProblem::new(400, "Invalid message id", detail)
    })
}
