//! Buckets: the code goes into one, and some have to be empty before they can be deleted.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::output::Step;
use client::aws::Aws;
use client::error::explain;

/// The bucket that the stacks take code and state machine from. A key holds the hash of the content, so an object that exists has
/// the right content.
#[derive(Debug)]
pub(super) struct ArtifactStore {
    client: Client,
    bucket: String,
}

impl ArtifactStore {
    pub(super) fn new(aws: &Aws, bucket: &str) -> Self {
        Self::of(aws.s3(), bucket)
    }

    pub(super) fn of(client: Client, bucket: &str) -> Self {
        Self { client, bucket: bucket.to_owned() }
    }

    /// Uploads a file unless its key is there; says whether it did.
    pub(super) async fn put_file(&self, key: &str, path: &Path) -> Result<bool> {
        if self.has(key).await? {
            return Ok(false);
        }
        let body = ByteStream::from_path(path).await.with_context(|| format!("reading {}", path.display()))?;
        self.put(key, body).await
    }

    /// Uploads bytes unless their key is there; says whether it did.
    pub(super) async fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        if self.has(key).await? {
            return Ok(false);
        }
        self.put(key, ByteStream::from(bytes.to_vec())).await
    }

    /// The address under which CloudFormation finds a template in the bucket.
    pub(super) fn template_url(&self, key: &str, region: &str) -> String {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://s3.{region}.amazonaws.com{suffix}/{}/{key}", self.bucket)
    }

    /// Removes objects that no stack refers to any more and that were uploaded before that moment (in seconds since 1970).
    /// Returns their number. A later deployment of the same code uploads it again.
    pub(super) async fn remove_unused(&self, used: &BTreeSet<String>, before: i64) -> Result<usize> {
        let listing = || explain(format!("listing the bucket `{}`", self.bucket));
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).into_paginator().send();
        let mut unused = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(listing())?;
            let objects = page.contents().iter().filter_map(|it| Some((it.key()?.to_owned(), it.last_modified()?.secs())));
            unused.extend(objects.filter(|(key, uploaded)| !used.contains(key) && *uploaded < before).map(|(key, _)| key));
        }
        for key in &unused {
            let delete = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
            delete.map_err(explain(format!("removing `{key}` from the bucket `{}`", self.bucket)))?;
        }
        Ok(unused.len())
    }

    async fn has(&self, key: &str) -> Result<bool> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
            Err(error) => Err(explain(format!("looking for `{key}` in the bucket `{}`", self.bucket))(error)),
        }
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<bool> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(body)
            .send()
            .await
            .map_err(explain(format!("uploading `{key}` to the bucket `{}`", self.bucket)))?;
        Ok(true)
    }
}

/// Deletes every version of every object in a bucket. A bucket that does not exist is empty.
///
/// # Errors
/// When S3 refuses, also for a single object.
pub async fn empty(client: &Client, bucket: &str, step: &Step) -> Result<()> {
    let mut deleted = 0_usize;
    loop {
        // Always the first page: the ones before are gone.
        let page = match client.list_object_versions().bucket(bucket).max_keys(1000).send().await {
            Ok(page) => page,
            Err(error) if error.as_service_error().is_some_and(|error| error.meta().code() == Some("NoSuchBucket")) => {
                return Ok(());
            }
            Err(error) => return Err(explain(format!("listing the bucket `{bucket}`"))(error)),
        };
        let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        let mut objects = Vec::new();
        for (key, version) in versions.chain(markers) {
            objects.push(
                ObjectIdentifier::builder().key(key.unwrap_or_default()).set_version_id(version.map(str::to_owned)).build()?,
            );
        }
        if objects.is_empty() {
            return Ok(());
        }
        deleted += objects.len();
        let answer = client
            .delete_objects()
            .bucket(bucket)
            .delete(Delete::builder().set_objects(Some(objects)).quiet(true).build()?)
            .send()
            .await
            .map_err(explain(format!("emptying the bucket `{bucket}`")))?;
        if let Some(error) = answer.errors().first() {
            bail!(
                "emptying the bucket `{bucket}`: {} of {} objects stay: {}: {}",
                answer.errors().len(),
                deleted,
                error.code().unwrap_or("unknown error"),
                error.message().unwrap_or("no message")
            );
        }
        step.at(format!("{bucket}: {deleted} deleted"));
    }
}
