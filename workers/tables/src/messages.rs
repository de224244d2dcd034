//! The messages of the lake, read in a session that sees one institute's objects.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use domain::Er7;
use runtime::StepError;
use tables::Entry;

use crate::progress::Object;

const GET_OBJECT: &str = "s3:GetObject";

/// A longer message is read when it is its turn, and no other one with it. A message of a POST is no longer than this.
const AT_ONCE_BYTES: i64 = 4 << 20;

/// A message of the lake.
pub(crate) enum Message {
    Read(Er7),
    /// Read it with [`Messages::read_large`].
    Large,
    /// S3 did not give the object: it is gone, or this session may not read it.
    Gone,
    /// The object is not what its record says.
    Damaged,
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct Messages {
    client: Client,
}

impl Messages {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The message of a record, unless it is a large one.
    pub(crate) async fn read(&self, entry: &Entry) -> Result<Message, StepError> {
        match self.get(&Object::from(entry)).await? {
            Some(object) if object.content_length().is_some_and(|it| it > AT_ONCE_BYTES) => Ok(Message::Large),
            Some(object) => collected(entry, object).await,
            None => Ok(Message::Gone),
        }
    }

    /// The message of a record, whatever its size: memory has room for one of them.
    pub(crate) async fn read_large(&self, entry: &Entry) -> Result<Message, StepError> {
        match self.get(&Object::from(entry)).await? {
            Some(object) => collected(entry, object).await,
            None => Ok(Message::Gone),
        }
    }

    /// Whether there is such an object, and this session may read it.
    pub(crate) async fn can_read(&self, object: &Object) -> Result<bool, StepError> {
        Ok(self.get(object).await?.is_some())
    }

    async fn get(&self, object: &Object) -> Result<Option<GetObjectOutput>, StepError> {
        let get = self.client.get_object().bucket(&object.bucket).key(&object.key).set_version_id(object.version_id.clone());
        match get.send().await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.as_service_error().is_some_and(|it| is_gone(it.code(), it.message())) => Ok(None),
            Err(error) => Err(StepError::from_sdk(GET_OBJECT, &error)),
        }
    }
}

/// Whether S3 says so of an object that is gone. A session may not list, so this is the answer as well to what the session may not read.
/// A bucket that is gone, a clock that is wrong and a key that refuses are no message's fault.
fn is_gone(code: Option<&str>, message: Option<&str>) -> bool {
    match code {
        Some("NoSuchKey" | "NoSuchVersion") => true,
        // S3 gives a refusal of KMS this code too, and names KMS's action.
        Some("AccessDenied") => !message.is_some_and(|it| it.contains("kms:")),
        _ => false,
    }
}

async fn collected(entry: &Entry, object: GetObjectOutput) -> Result<Message, StepError> {
    let bytes = object.body.collect().await.map_err(|_| StepError::Unavailable { operation: GET_OBJECT })?;
    Ok(entry.message(bytes.to_vec()).map_or(Message::Damaged, Message::Read))
}

#[cfg(test)]
mod tests {
    use super::is_gone;

    #[test]
    fn only_an_object_that_is_gone_or_refused_is_unreadable() {
        for code in ["NoSuchKey", "NoSuchVersion", "AccessDenied"] {
            assert!(is_gone(Some(code), Some("Access Denied")), "{code}");
        }
        for code in ["NoSuchBucket", "RequestTimeTooSkewed", "KMS.DisabledException", "InvalidAccessKeyId", "SlowDown"] {
            assert!(!is_gone(Some(code), None), "{code}");
        }
        let kms =
            "User: arn:aws:sts::000000000000:assumed-role/r/tables is not authorized to perform: kms:Decrypt on resource: k";
        assert!(!is_gone(Some("AccessDenied"), Some(kms)));
        assert!(!is_gone(None, None));
    }
}
