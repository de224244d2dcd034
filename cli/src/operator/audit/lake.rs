//! The objects of the lake and of the held bucket, as an operator reads them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use domain::{Source, State, Timestamp, object};

use super::content::{Content, MAX_READ_BYTES, is_held_copy};
use super::finding::{Finding, Kind};
use crate::operator::records::Key;
use client::aws::Aws;
use client::error::explain;

/// Whether S3 gives this size of an object that is read.
fn is_read(size_bytes: i64) -> bool {
    usize::try_from(size_bytes).is_ok_and(|it| it <= MAX_READ_BYTES)
}

/// A version of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) version_id: Option<&'a str>,
}

/// An object in a listing.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) written_at: Timestamp,
}

impl Listed {
    /// The message that the key names: `source=<institute>/…/<message id>.<extension>`.
    pub(super) fn message(&self) -> Option<Key> {
        let (source, rest) = self.key.strip_prefix("source=")?.split_once('/')?;
        let (message_id, _) = rest.rsplit('/').next()?.split_once('.')?;
        Some((source.parse().ok()?, message_id.parse().ok()?))
    }
}

/// S3, with the operator's credentials.
#[derive(Debug)]
pub(super) struct Objects {
    client: Client,
}

impl Objects {
    pub(super) fn new(aws: &Aws) -> Self {
        Self { client: aws.s3() }
    }

    /// The findings about an object of a stored message.
    pub(super) async fn check(
        &self,
        message: &Key,
        object: Object<'_>,
        content: Content,
        state: State,
        quick: bool,
    ) -> Result<Vec<Finding>> {
        let finding = |kind| Finding::of(kind, message).at(object.bucket, object.key, object.version_id);
        let Some(size_bytes) = self.size_bytes(object).await? else { return Ok(vec![finding(Kind::ObjectMissing)]) };
        let mut findings = Vec::new();
        if !quick && is_read(size_bytes) && !content.is_of(&self.bytes(object).await?, &message.1) {
            findings.push(finding(Kind::ObjectChanged));
        }
        if self.tags(object).await? != expected_tags(&message.0, state) {
            findings.push(finding(Kind::TagsChanged));
        }
        // Readers by key, such as Athena, get the current version.
        let current = Object { version_id: None, ..object };
        let head = self.client.head_object().bucket(object.bucket).key(object.key).send().await;
        let covered = match head {
            Ok(head) if head.version_id() == object.version_id => None,
            // A step that ran twice wrote the same bytes twice.
            Ok(_) if quick => None,
            Ok(head) if !is_read(head.content_length().unwrap_or_default()) => None,
            Ok(_) => (!content.is_of(&self.bytes(current).await?, &message.1)).then_some("by another version"),
            Err(error) if is_gone(&error) => Some("by a delete marker"),
            Err(error) => return Err(explain(format!("looking at the object `{}`", object.key))(error)),
        };
        findings.extend(covered.map(|detail| finding(Kind::ObjectCovered).with(detail)));
        Ok(findings)
    }

    /// The findings about the copy of a held message.
    pub(super) async fn check_held(&self, message: &Key, object: Object<'_>, quick: bool) -> Result<Option<Finding>> {
        let finding = |kind| Finding::of(kind, message).at(object.bucket, object.key, object.version_id);
        if self.size_bytes(object).await?.is_none() {
            return Ok(Some(finding(Kind::HeldObjectMissing)));
        }
        if !quick && !is_held_copy(&self.bytes(object).await?, message) {
            return Ok(Some(finding(Kind::HeldObjectChanged)));
        }
        Ok(None)
    }

    /// Whether there is an object with that key.
    pub(super) async fn has(&self, bucket: &str, key: &str) -> Result<bool> {
        Ok(self.size_bytes(Object { bucket, key, version_id: None }).await?.is_some())
    }

    /// A page of the objects of one institute or of all, and the key after which the next one begins.
    pub(super) async fn list(
        &self,
        bucket: &str,
        of: Option<&Source>,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, Option<String>)> {
        let request = self.client.list_objects_v2().bucket(bucket).set_prefix(of.map(|source| format!("source={source}/")));
        let page = request.set_start_after(after.map(str::to_owned)).send().await;
        let page = page.map_err(explain(format!("listing the bucket `{bucket}`")))?;
        let mut objects = Vec::new();
        for object in page.contents() {
            let key = object.key().context("an object without a key")?.to_owned();
            let written_at = object.last_modified().and_then(|it| it.to_millis().ok()).and_then(Timestamp::from_millis);
            objects.push(Listed { key, written_at: written_at.context("an object without a time")? });
        }
        let next = if page.is_truncated() == Some(true) { objects.last().map(|it| it.key.clone()) } else { None };
        Ok((objects, next))
    }

    /// `None` if that version is not there.
    async fn size_bytes(&self, object: Object<'_>) -> Result<Option<i64>> {
        let request = self.client.head_object().bucket(object.bucket).key(object.key);
        match request.set_version_id(object.version_id.map(str::to_owned)).send().await {
            Ok(head) => Ok(Some(head.content_length().unwrap_or_default())),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(explain(format!("looking at the object `{}`", object.key))(error)),
        }
    }

    async fn bytes(&self, object: Object<'_>) -> Result<Vec<u8>> {
        let request = self.client.get_object().bucket(object.bucket).key(object.key);
        let found = request.set_version_id(object.version_id.map(str::to_owned)).send().await;
        let found = found.map_err(explain(format!("reading the object `{}`", object.key)))?;
        Ok(found.body.collect().await.with_context(|| format!("reading the object `{}`", object.key))?.to_vec())
    }

    async fn tags(&self, object: Object<'_>) -> Result<BTreeMap<String, String>> {
        let request = self.client.get_object_tagging().bucket(object.bucket).key(object.key);
        let found = request.set_version_id(object.version_id.map(str::to_owned)).send().await;
        let found = found.map_err(explain(format!("reading the tags of the object `{}`", object.key)))?;
        Ok(found.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }
}

/// The tags that the lake's objects of a message have.
pub(super) fn expected_tags(source: &Source, state: State) -> BTreeMap<String, String> {
    let tagging = object::tagging(source, state);
    tagging.split('&').filter_map(|tag| tag.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether S3 says that the object, or that version of it, is not there. An answer to HEAD has no body, so it has no code.
fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> bool
where
    SdkError<E, aws_sdk_s3::config::http::HttpResponse>: RequestId,
{
    // 405: the version is a delete marker.
    error.raw_response().is_some_and(|response| matches!(response.status().as_u16(), 404 | 405))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_message() {
        let id = "0".repeat(64);
        let message = |key: String| Listed { key, written_at: Timestamp::from_millis(0).unwrap() }.message();
        let expected: Key = ("west".parse().unwrap(), id.parse().unwrap());
        let keys = [
            object::er7_key(&expected.0, &expected.1, Timestamp::from_millis(0).unwrap()),
            object::json_key(&expected.0, &expected.1, Timestamp::from_millis(0).unwrap()),
            object::raw_key(&expected.0, &expected.1, Timestamp::from_millis(0).unwrap()),
            format!("source=west/{id}.json"),
        ];
        for key in keys {
            assert_eq!(message(key), Some(expected.clone()));
        }
        for key in ["x", "source=west/x.hl7", "source=/x", "source=west"] {
            assert_eq!(message(key.to_owned()), None, "{key}");
        }
    }

    #[test]
    fn tags_are_those_that_store_writes() {
        let tags = expected_tags(&"west".parse().unwrap(), State::Error);
        assert_eq!(tags, [("source", "west"), ("state", "error")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }
}
