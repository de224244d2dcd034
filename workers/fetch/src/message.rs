//! `GET` and `HEAD /er7/{messageId}`: one message.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use aws_lambda_events::http::{HeaderMap, HeaderValue};
use domain::{Record, Status};
use runtime::{Field, HttpProblem, StepError, bytes_response, header, log_field, message_id};
use serde_json::json;

use crate::lake::Content;
use crate::representation::Representation;
use crate::{Answer, Fetch, Reader};

impl Fetch {
    /// The message, or its headers alone.
    ///
    /// Every answer, also to HEAD and 304, is sent only after S3 has authorized the caller.
    pub(crate) async fn message(&self, request: &ApiGatewayV2httpRequest, with_content: bool) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let message_id = message_id(request)?;

        let caller = self.credentials(&reader).await?;
        let record =
            self.catalog.get(&caller, &reader.source, &message_id).await.map_err(|error| HttpProblem::of_step(&error))?;
        let record = record.ok_or_else(|| HttpProblem::new(404, "Not found", "the institute has no message with this id"))?;
        let stored = record.facts.as_ref().filter(|_| record.status == Status::Stored).ok_or_else(|| not_stored(&record))?;
        let chosen = Representation::negotiate(header(request, "accept"), &message_id, stored).ok_or_else(not_acceptable)?;

        let mut headers = HeaderMap::new();
        headers.insert("vary", HeaderValue::from_static("Accept"));
        headers.insert("etag", text(&chosen.etag)?);
        let unchanged = header(request, "if-none-match").is_some_and(|it| chosen.is_named_by(it));
        if unchanged || !with_content {
            log_field(Field::SizeBytes, self.lake.size_bytes(&caller, &chosen).await?);
            if unchanged {
                return Ok(("unchanged", bytes_response(304, headers, None)));
            }
            headers.insert("content-type", text(&chosen.content_type)?);
            return Ok(("head", bytes_response(200, headers, None)));
        }
        match self.lake.content(&caller, &chosen).await? {
            Content::Bytes(bytes) => {
                log_field(Field::SizeBytes, bytes.len());
                if !chosen.form.is_of(&message_id, &bytes) {
                    return Err(damaged("the SHA-256 of what the object holds, in canonical form, is not the message id"));
                }
                headers.insert("content-type", text(&chosen.content_type)?);
                Ok(("read", bytes_response(200, headers, Some(bytes))))
            }
            Content::Damaged => Err(damaged("the object is not gzip, or not all of it")),
            Content::Elsewhere { url, size_bytes } => {
                log_field(Field::SizeBytes, size_bytes);
                headers.insert("location", text(&url)?);
                Ok(("redirected", bytes_response(307, headers, None)))
            }
        }
    }
}

/// The caller's institute has submitted the message, so the answer may name its status.
fn not_stored(record: &Record) -> HttpProblem {
    let mut problem = HttpProblem::new(404, "Not stored", "the message is not stored; `messageStatus` says how far it has come");
    problem.members.push(("messageStatus", json!(record.status)));
    problem
}

fn not_acceptable() -> HttpProblem {
    let detail = "a message is application/hl7-v2, x-application/hl7-v2+er7 or text/plain, as it was received \
                  application/octet-stream, and application/json if it parsed";
    HttpProblem::new(406, "Not acceptable", detail)
}

/// The object in the lake is not the message that was stored. Nobody gets to see it.
fn damaged(detail: &'static str) -> HttpProblem {
    log_field(Field::Error, "Damaged");
    log_field(Field::Detail, detail);
    HttpProblem::new(500, "Damaged message", "what the lake holds is not the message that was stored")
}

fn text(value: &str) -> Result<HeaderValue, HttpProblem> {
    HeaderValue::from_str(value).map_err(|_| HttpProblem::of_step(&StepError::InvalidInput { what: "a catalog record" }))
}
