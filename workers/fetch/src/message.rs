//! `GET` and `HEAD /er7/{messageId}`: one message.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use domain::{MessageId, Record, Status};
use runtime::{Field, HttpProblem, StepError, bytes_response, header, note};
use serde_json::json;

use crate::lake::Content;
use crate::representation::Representation;
use crate::{Answer, Fetch, Reader};

impl Fetch {
    /// The message, or its headers alone.
    ///
    /// Whatever is answered, S3 has allowed it to the caller: also a HEAD, and that the caller's copy is the current one.
    pub(crate) async fn message(&self, request: &ApiGatewayV2httpRequest, with_content: bool) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let message_id = request.path_parameters.get("messageId").and_then(|it| it.parse::<MessageId>().ok());
        let message_id = message_id.ok_or_else(HttpProblem::invalid_message_id)?;
        note(Field::MessageId, &message_id);

        let caller = self.credentials(&reader).await?;
        let record =
            self.catalog.get(&caller, &reader.source, &message_id).await.map_err(|error| HttpProblem::of_step(&error))?;
        let record = record.ok_or_else(|| HttpProblem::new(404, "Not found", "the institute has no message with this id"))?;
        let stored = record.stored().filter(|_| record.status == Status::Stored).ok_or_else(|| not_stored(&record))?;
        let chosen = Representation::negotiate(header(request, "accept"), &message_id, &stored).ok_or_else(not_acceptable)?;

        let mut headers = HeaderMap::new();
        headers.insert("vary", HeaderValue::from_static("Accept"));
        headers.insert("etag", text(&chosen.etag)?);
        let unchanged = header(request, "if-none-match").is_some_and(|it| chosen.is_named_by(it));
        if unchanged || !with_content {
            note(Field::SizeBytes, self.lake.size_bytes(&caller, &chosen).await?);
            if unchanged {
                return Ok(("unchanged", bytes_response(304, headers, None)));
            }
            headers.insert("content-type", text(&chosen.content_type)?);
            return Ok(("head", bytes_response(200, headers, None)));
        }
        match self.lake.content(&caller, &chosen).await? {
            Content::Bytes(bytes) => {
                note(Field::SizeBytes, bytes.len());
                if !chosen.form.is_of(&message_id, &bytes) {
                    return Err(damaged());
                }
                headers.insert("content-type", text(&chosen.content_type)?);
                Ok(("read", bytes_response(200, headers, Some(bytes))))
            }
            Content::Elsewhere { url, size_bytes } => {
                note(Field::SizeBytes, size_bytes);
                headers.insert("location", text(&url)?);
                Ok(("redirected", bytes_response(307, headers, None)))
            }
        }
    }
}

/// The caller's institute has submitted the message, so that much may be told.
fn not_stored(record: &Record) -> HttpProblem {
    let mut problem = HttpProblem::new(404, "Not found", "the message is not stored; `messageStatus` says how far it has come");
    problem.members.push(("messageStatus", json!(record.status)));
    problem
}

fn not_acceptable() -> HttpProblem {
    let detail = "a message is application/hl7-v2, x-application/hl7-v2+er7 or text/plain, as it was received \
                  application/octet-stream, and application/json if it parsed";
    HttpProblem::new(406, "Not acceptable", detail)
}

/// The lake holds something else than what was stored. It is not shown to anybody.
fn damaged() -> HttpProblem {
    note(Field::Error, "Damaged");
    note(Field::Detail, "the SHA-256 of what the object holds, in canonical form, is not the message id");
    HttpProblem::new(500, "Internal server error", "what the lake holds is not the message that was stored")
}

fn text(value: &str) -> Result<HeaderValue, HttpProblem> {
    HeaderValue::from_str(value).map_err(|_| HttpProblem::of_step(&StepError::InvalidInput { what: "a catalog record" }))
}
