//! The messages of the lake, read with the user's own rights.

use std::sync::Arc;

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use client::error::explain;
use domain::Er7;
use futures_util::stream::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tables::Entry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a person does about a refusal.
pub(crate) const RIGHTS: &str = "reading needs s3:GetObject on the lake's objects and kms:Decrypt on their key. When the account has \
    both, the same command resumes behind the last complete part, which ends before this message; to stdout it begins anew";

/// Why a message is missing.
pub(crate) enum Unread {
    /// It is gone, or is not what its record says.
    Message,
    /// It is gone, or the right to read it is: users may not list the bucket, so S3 gives the same answer to both.
    Refused,
    /// No message can be read.
    All(anyhow::Error),
}

/// An object that was readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    bucket: String,
    key: String,
    version_id: Option<String>,
}

impl From<&Entry> for Object {
    fn from(entry: &Entry) -> Self {
        Self { bucket: entry.bucket.clone(), key: entry.key.clone(), version_id: entry.version_id.clone() }
    }
}

impl Object {
    async fn get(&self, lake: &Client) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        lake.get_object().bucket(&self.bucket).key(&self.key).set_version_id(self.version_id.clone()).send().await
    }

    /// Whether the user may still read it.
    ///
    /// # Errors
    /// When S3 does not answer, or says something else.
    pub(crate) async fn is_readable(&self, lake: &Client) -> Result<bool> {
        match self.get(lake).await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("AccessDenied") => Ok(false),
            Err(error) => Err(explain("reading the lake")(error)),
        }
    }
}

/// The answer of S3 for a message, whose bytes are not read yet.
pub(crate) async fn open(lake: &Client, entry: &Entry) -> Result<GetObjectOutput, Unread> {
    Object::from(entry).get(lake).await.map_err(|error| {
        let service = error.as_service_error();
        let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
        // A refusal of KMS has this code too, and names KMS's action.
        let is_of_kms = service.and_then(ProvideErrorMetadata::message).is_some_and(|it| it.contains("kms:"));
        match code {
            "NoSuchKey" | "NoSuchVersion" => Unread::Message,
            "AccessDenied" if !is_of_kms => Unread::Refused,
            _ => {
                let needs_rights = code == "AccessDenied" || code.starts_with("KMS");
                let error = explain(format!("reading message {}", entry.message_id))(error);
                Unread::All(if needs_rights { anyhow::anyhow!("{error:#}; {RIGHTS}") } else { error })
            }
        }
    })
}

/// The number of bytes that an object takes, at most `unknown`.
pub(crate) fn length(object: &GetObjectOutput, unknown: u32) -> u32 {
    object.content_length().and_then(|it| u32::try_from(it).ok()).unwrap_or(unknown)
}

/// Reads the bytes of a message.
pub(crate) async fn collected(entry: &Entry, object: GetObjectOutput) -> Result<Er7, Unread> {
    let bytes = object.body.collect().await.map_err(|error| Unread::All(error.into()))?.to_vec();
    entry.message(bytes).ok_or(Unread::Message)
}

/// Reads several things at the same time, each with its number of bytes, and gives them in their order. No more than `most` bytes are read or
/// held at once, unless a single thing has more: then it is alone. Whoever takes a thing drops the permit when it has no more use for it, and
/// before it asks for the next one.
///
/// The permits are given out in the order of the things, so that the next one to be taken always has its own.
pub(crate) fn bounded<T, F>(
    things: impl Stream<Item = (u32, F)>,
    most: u32,
    concurrency: usize,
) -> impl Stream<Item = Result<(OwnedSemaphorePermit, T)>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most as usize));
    things
        .then(move |(bytes, read)| {
            let permit = Arc::clone(&room).acquire_many_owned(bytes.min(most));
            async move { (permit.await, read) }
        })
        // A task of its own, so that several are read and checked at the same time.
        .map(|(permit, read)| tokio::spawn(async move { anyhow::Ok((permit?, read.await)) }))
        .buffered(concurrency)
        .map(|done| done.context("a task broke off")?)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_bytes_are_held_at_once_than_there_is_room_for() {
        const MOST: u32 = 100;
        let (held, highest) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        // The larger ones come after smaller ones and before them; 250 and 101 are more than there is room for.
        let sizes: Vec<u32> = [40, 250, 0, 60, 100, 1, 101, 30, 30, 30, 30, 99].repeat(20);
        let things = stream::iter(sizes.clone()).map(|size| {
            let (held, highest) = (Arc::clone(&held), Arc::clone(&highest));
            let read = async move {
                let now = held.fetch_add(size, SeqCst) + size;
                assert!(now <= MOST || now == size || size == 0, "{now} bytes at once, {size} of them in one");
                highest.fetch_max(now, SeqCst);
                // The first ones are not the first that are ready.
                tokio::time::sleep(Duration::from_micros(u64::from(300 - size))).await;
                size
            };
            (size, read)
        });
        let take = async {
            let mut read = pin!(bounded(things, MOST, 32));
            let mut taken = Vec::new();
            while let Some(thing) = read.next().await {
                let (permit, size) = thing.unwrap();
                tokio::time::sleep(Duration::from_micros(100)).await;
                taken.push(size);
                held.fetch_sub(size, SeqCst);
                drop(permit);
            }
            taken
        };
        let taken = tokio::time::timeout(Duration::from_secs(60), take).await.expect("nothing waits for ever");
        assert_eq!(taken, sizes, "in their order");
        assert_eq!(highest.load(SeqCst), 250);
        assert_eq!(held.load(SeqCst), 0);
    }
}
