//! The lake bucket, under the credentials of whoever submitted the message.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use runtime::StepError;

pub(crate) const PUT_OBJECT: &str = "s3:PutObject";

/// Puts objects into the lake. Has no credentials of its own.
#[derive(Clone, Debug)]
pub struct LakeWriter {
    client: Client,
    bucket: String,
}

impl LakeWriter {
    /// The lake in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Puts an object and returns its version.
    ///
    /// A repeated step puts it once more: another version of the same bytes. It does not trust an existing object, because a user
    /// with the right to write may have put anything under this key without the API.
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
        let config = overflow::put_config(body.len());
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .tagging(tagging)
            .body(ByteStream::from(body))
            .customize()
            .config_override(config.credentials_provider(caller.clone()))
            .send()
            .await;
        put.map(|output| output.version_id).map_err(|error| StepError::from_sdk_as_caller(PUT_OBJECT, &error))
    }
}
