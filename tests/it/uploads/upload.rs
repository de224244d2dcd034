//! An upload: announced, put to a presigned URL of S3, and then submitted.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use client::http::{Answer, JSON};
use domain::UploadId;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::json;
use sluice_tests::{Caller, Harness};

pub(crate) async fn announce(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Answer> {
    let body = json!({ "size": bytes.len(), "sha256": UploadId::of(bytes) });
    client::http::send(it.api.request(Method::POST, "/er7/uploads", Some(&caller.token)).json(&body)).await
}

pub(crate) async fn take(it: &Harness, token: Option<&SecretString>, id: &str) -> Result<Answer> {
    client::http::send(it.api.request(Method::POST, &format!("/er7/uploads/{id}"), token).header("accept", JSON)).await
}

/// Submits what [`put`] has uploaded.
pub(crate) async fn taken(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Answer> {
    take(it, Some(&caller.token), &UploadId::of(bytes).to_string()).await
}

/// The URL of an upload, and the headers that it needs.
pub(crate) struct Presigned {
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Presigned {
    pub(crate) async fn of(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<Self> {
        let answer = announce(it, caller, bytes).await?;
        ensure!(answer.status == 201, "{}: {}", answer.status, answer.json());
        let headers = serde_json::from_value(answer.json()["headers"].clone())?;
        Ok(Self { url: answer.text("url"), headers })
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.insert(name.to_owned(), value.to_owned());
        Self { url: self.url.clone(), headers }
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.remove(name);
        Self { url: self.url.clone(), headers }
    }

    /// The status of the PUT.
    pub(crate) async fn put(&self, bytes: &[u8]) -> Result<u16> {
        let request =
            self.headers.iter().fold(reqwest::Client::new().put(&self.url), |put, (name, value)| put.header(name, value));
        Ok(request.body(bytes.to_vec()).send().await?.status().as_u16())
    }
}

/// Uploads these bytes, and does not submit them.
pub(crate) async fn put(it: &Harness, caller: &Caller, bytes: &[u8]) -> Result<()> {
    let status = Presigned::of(it, caller, bytes).await?.put(bytes).await?;
    ensure!(status == 200, "S3 answered {status}");
    Ok(())
}
