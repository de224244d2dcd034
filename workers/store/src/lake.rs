//! The lake bucket, under the credentials of whoever submitted the message.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Config, Credentials};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use runtime::StepError;

/// Puts objects into the lake. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct Lake {
    client: Client,
    bucket: String,
}

impl Lake {
    /// The lake in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Puts an object and gives its version.
    ///
    /// A repeated step puts it once more: another version of the same bytes. It does not trust what is there already, since
    /// a user who may write may have put anything under this key past the API.
    ///
    /// # Errors
    /// [`StepError::Denied`] if the caller may not, else those of the call.
    pub async fn put(
        &self,
        caller: &Credentials,
        key: &str,
        body: Vec<u8>,
        content_type: &str,
        tagging: &str,
    ) -> Result<Option<String>, StepError> {
        const OPERATION: &str = "s3:PutObject";
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .tagging(tagging)
            .body(ByteStream::from(body))
            .customize()
            .config_override(Config::builder().credentials_provider(caller.clone()))
            .send()
            .await;
        match put {
            Ok(output) => Ok(output.version_id),
            Err(error) => match error.code() {
                // S3's answer to two writes of one key at the same moment.
                Some("ConditionalRequestConflict") => Err(StepError::Unavailable { operation: OPERATION }),
                _ => Err(StepError::from_sdk_as_caller(OPERATION, &error)),
            },
        }
    }
}
