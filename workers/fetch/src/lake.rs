//! The lake, under the credentials of whoever reads it.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use hl7::NotDecompressed;
use runtime::{HttpProblem, StepError};

use crate::representation::Representation;

/// Largest content of an answer, in bytes. Lambda takes 6 MiB, in which it travels as base64, a third larger.
pub const MAX_BODY_BYTES: usize = 4_500_000;

/// For how long a presigned URL can be followed.
const PRESIGNED_FOR: Duration = Duration::from_secs(60);

const GET_OBJECT: &str = "s3:GetObject";

/// Reads the lake's objects. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct LakeReader {
    client: Client,
}

/// The content of an object, or the way to it.
pub(crate) enum Content {
    /// All of it, decompressed.
    Bytes(Vec<u8>),
    /// A compressed object that cannot be decompressed.
    Damaged,
    /// The content is larger than [`MAX_BODY_BYTES`]: the caller gets the object from S3, a compressed one with
    /// `Content-Encoding: gzip`.
    Elsewhere {
        /// A URL signed with the caller's credentials. Whoever has it may read the object while it lasts.
        url: String,
        /// How large the object is.
        size_bytes: usize,
    },
}

impl LakeReader {
    /// The lake.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The size of an object that the caller may read, in bytes.
    pub(crate) async fn size_bytes(&self, caller: &Credentials, of: &Representation) -> Result<usize, HttpProblem> {
        let head = self
            .client
            .head_object()
            .bucket(&of.bucket)
            .key(&of.key)
            .set_version_id(of.version_id.clone())
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await
            .map_err(|error| refused("s3:HeadObject", &error))?;
        Ok(size_bytes(head.content_length))
    }

    /// The content of an object that the caller may read.
    pub(crate) async fn content(&self, caller: &Credentials, of: &Representation) -> Result<Content, HttpProblem> {
        let get = || self.client.get_object().bucket(&of.bucket).key(&of.key).set_version_id(of.version_id.clone());
        let as_caller = || Config::builder().credentials_provider(caller.clone());
        let unavailable = || HttpProblem::of_step(&StepError::Unavailable { operation: GET_OBJECT });

        let object = get().customize().config_override(as_caller()).send().await.map_err(|error| refused(GET_OBJECT, &error))?;
        let size_bytes = size_bytes(object.content_length);
        if size_bytes <= MAX_BODY_BYTES {
            let bytes = object.body.collect().await.map_err(|_| unavailable())?.to_vec();
            if !of.is_compressed() {
                return Ok(Content::Bytes(bytes));
            }
            match hl7::decompressed(&bytes, MAX_BODY_BYTES) {
                Ok(bytes) => return Ok(Content::Bytes(bytes)),
                Err(NotDecompressed::Damaged) => return Ok(Content::Damaged),
                Err(NotDecompressed::TooLarge) => {}
            }
        }
        let presigning = PresigningConfig::expires_in(PRESIGNED_FOR).map_err(|_| unavailable())?;
        let presigned = get()
            .response_content_type(&of.content_type)
            .response_cache_control("no-store")
            .set_response_content_encoding(of.is_compressed().then(|| "gzip".to_owned()))
            .customize()
            .config_override(as_caller())
            .presigned(presigning)
            .await
            .map_err(|error| refused(GET_OBJECT, &error))?;
        Ok(Content::Elsewhere { url: presigned.uri().to_owned(), size_bytes })
    }
}

fn size_bytes(content_length: Option<i64>) -> usize {
    content_length.and_then(|it| it.try_into().ok()).unwrap_or(usize::MAX)
}

/// The answer when S3 refuses an object that the catalog names.
///
/// S3 answers 403, not 404, for an object that does not exist if the caller has no `s3:ListBucket`, and no user has it. So on AWS a
/// deleted object is usually 403, and 410 only in an account that allows listing the bucket.
fn refused<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> HttpProblem {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (status, error.code()) {
        // 405: the version is a delete marker.
        (Some(404), Some("NoSuchKey" | "NoSuchVersion" | "NotFound")) | (Some(405), _) => {
            HttpProblem::new(410, "Gone", "the message was stored, and has been deleted from the lake since")
        }
        // An answer to HEAD has no body, so it has no code.
        (Some(403), None | Some("AccessDenied")) => {
            let code = error.code().unwrap_or("403").to_owned();
            let problem = HttpProblem::of_step(&StepError::Denied { operation, code });
            let detail = "S3 refuses the message to the caller: it was deleted, or its tags were changed";
            HttpProblem { detail: detail.to_owned(), ..problem }
        }
        _ => HttpProblem::of_step(&StepError::from_sdk_as_caller(operation, error)),
    }
}
