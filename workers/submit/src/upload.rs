//! Messages too large for a request: `POST /er7/uploads` gives a presigned URL of S3, and `POST /er7/uploads/{uploadId}` takes
//! the uploaded bytes like any body.
//!
//! S3 itself binds the bytes to the URL: the length, the SHA-256 and `If-None-Match: *` are signed headers. So the URL takes these bytes,
//! once. The key holds the institute and the caller, both from the token, and the id is the hash of the bytes: nobody can name what
//! another has uploaded. Nothing is recorded in the catalog until the bytes are there, and the bucket removes an upload after a day.

use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::presigning::PresigningConfig;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{UploadId, object};
use hl7::Body;
use runtime::{Field, HttpProblem, StepError, header, json_response, log_field, problem_response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::refusal::{Refusal, bad_request};
use crate::{Submission, Submit, body};

/// Route key of the request for a URL.
pub(crate) const ANNOUNCE: &str = "POST /er7/uploads";

/// For how long a PUT may begin. S3 asks for the time when a request begins, so a slow one may end later.
const PRESIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// An announced upload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Announced {
    /// In bytes.
    size: u64,
    sha256: UploadId,
}

impl Submit {
    /// Answers [`ANNOUNCE`] with the URL, and the headers that the PUT must have.
    pub(crate) async fn announced(&self, request: &mut ApiGatewayV2httpRequest, base_url: &str) -> ApiGatewayV2httpResponse {
        match self.presigned(request, base_url).await {
            Ok(answer) => {
                log_field(Field::Outcome, "presigned");
                json_response(201, &answer)
            }
            Err(refusal) => {
                let problem = refusal.problem();
                log_field(Field::Outcome, problem.title);
                problem_response(&problem)
            }
        }
    }

    async fn presigned(&self, request: &mut ApiGatewayV2httpRequest, base_url: &str) -> Result<Value, Refusal> {
        let submission = Submission::of(request)?;
        let Announced { size, sha256: id } = announced(request)?;
        log_field(Field::SizeBytes, size);
        if size > self.max_upload_bytes as u64 {
            return Err(self.too_large().into());
        }
        let failed = || HttpProblem::of_step(&StepError::InvalidInput { what: "a URL to be signed" });
        let length = i64::try_from(size).map_err(|_| failed())?;
        let put = self
            .s3
            .put_object()
            .bucket(&self.overflow_bucket)
            .key(object::upload_key(&submission.source, &submission.requester(), &id))
            .content_length(length)
            .checksum_sha256(id.checksum())
            .if_none_match("*");
        let presigning = PresigningConfig::expires_in(PRESIGNED_FOR).map_err(|_| failed())?;
        // Nothing is sent here, so an error is a fault of the configuration.
        let presigned = put.presigned(presigning).await.map_err(|_: SdkError<_, _>| failed())?;
        let headers: Map<String, Value> = presigned.headers().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Ok(json!({
            "uploadId": id,
            "method": presigned.method(),
            "url": presigned.uri(),
            "headers": headers,
            "expiresAt": submission.received_at.plus(PRESIGNED_FOR),
            "submitUrl": format!("{base_url}/er7/uploads/{id}"),
        }))
    }

    /// The bytes that the caller has uploaded under the id of the path.
    ///
    /// 400 for a path without an id, 404 if the caller has uploaded nothing under it, 415 for a content type that is not of ER7.
    pub(crate) async fn uploaded(&self, request: &ApiGatewayV2httpRequest, submission: &Submission) -> Result<Body, Refusal> {
        let id = request.path_parameters.get("uploadId").and_then(|it| it.parse::<UploadId>().ok()).ok_or_else(|| {
            HttpProblem::new(400, "Invalid upload id", "the upload id must be 64 lower-case hexadecimal digits")
        })?;
        if header(request, "content-encoding").is_some_and(|it| !it.is_empty()) {
            return Err(Refusal::UnknownCoding);
        }
        let charset = body::charset_of_upload(request)?;
        let key = object::upload_key(&submission.source, &submission.requester(), &id);
        let bytes = match overflow::object(&self.s3, &self.overflow_bucket, &key).await {
            Ok(bytes) => bytes,
            Err(StepError::PayloadExpired) => return Err(no_such_upload().into()),
            Err(error) => return Err(error.into()),
        };
        if bytes.len() > self.max_upload_bytes {
            return Err(self.too_large().into());
        }
        // S3 compared them when they came. If the bucket holds others, the bucket is at fault, and not the caller.
        if UploadId::of(&bytes) != id {
            return Err(StepError::InvalidInput { what: "an upload, whose bytes are not those of its id" }.into());
        }
        Ok(Body::of(bytes, charset))
    }

    fn too_large(&self) -> HttpProblem {
        let detail = format!("an upload may have at most {} bytes", self.max_upload_bytes);
        HttpProblem::new(413, "Content too large", detail)
    }
}

fn announced(request: &mut ApiGatewayV2httpRequest) -> Result<Announced, Refusal> {
    let body = request.body.take().unwrap_or_default();
    let expected = || bad_request("the body must be JSON with `size`, in bytes, and `sha256`, 64 lower-case hexadecimal digits");
    let body = if request.is_base64_encoded { BASE64_STANDARD.decode(body).map_err(|_| expected())? } else { body.into_bytes() };
    let announced: Announced = serde_json::from_slice(&body).map_err(|_| expected())?;
    if announced.size == 0 {
        return Err(bad_request("the message is empty"));
    }
    Ok(announced)
}

fn no_such_upload() -> HttpProblem {
    let detail = "the caller has uploaded nothing with this hash for the institute, or more than a day ago: upload it";
    HttpProblem::new(404, "No such upload", detail)
}
