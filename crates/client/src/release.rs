//! Releases held messages: the pipeline tries them again, under the token of the user who releases them.

use anyhow::{Context, Result, bail};
use domain::catalog::MAX_PAGE;
use domain::{HoldReason, MessageId, SubmissionId};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serde_with::skip_serializing_none;

use crate::Client;
use crate::http::{Answer, JSON};

/// A selection of the institute's held messages: all of them, unless a member restricts it.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, Serialize)]
pub struct Held {
    /// Held for this reason.
    pub reason: Option<HoldReason>,
    /// Held since this time or later: an RFC 3339 timestamp or a date.
    pub from: Option<String>,
    /// Held since before this time.
    pub to: Option<String>,
}

/// A message that was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The message.
    pub message_id: MessageId,
    /// The submission of the release.
    pub submission_id: SubmissionId,
}

/// A message that could not be released.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The message.
    pub message_id: MessageId,
    /// The problem document.
    pub problem: Value,
}

/// The result for a page of held messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Page {
    /// The messages that were released.
    pub released: Vec<Released>,
    /// The messages that were not released.
    pub refused: Vec<Refused>,
    /// Where the next page begins.
    pub cursor: Option<String>,
}

/// Releases one message, or returns the API's refusal.
///
/// # Errors
/// When the API does not answer.
pub async fn one(client: &Client, message_id: &MessageId) -> Result<Result<Released, Answer>> {
    let path = format!("/er7/{message_id}/release");
    let answer = client.call(|api, token| api.request(Method::POST, &path, Some(token)).header(ACCEPT, JSON)).await?;
    if answer.status != StatusCode::ACCEPTED {
        return Ok(Err(answer));
    }
    parsed(&answer).map(Ok)
}

/// Releases the page of held messages that begins at `cursor`.
///
/// # Errors
/// When the API refuses or does not answer.
pub async fn page(client: &Client, held: &Held, cursor: Option<&str>) -> Result<Page> {
    let mut body = json!(held);
    if let Some(body) = body.as_object_mut() {
        body.insert("limit".to_owned(), MAX_PAGE.into());
        body.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor.into())));
    }
    let body = body.to_string();
    let request = |api: &crate::http::Api, token: &secrecy::SecretString| {
        let request = api.request(Method::POST, "/er7/release", Some(token));
        request.header(ACCEPT, JSON).header(CONTENT_TYPE, JSON).body(body.clone())
    };
    let answer = client.call(request).await?;
    if answer.status != StatusCode::ACCEPTED {
        bail!("{}", client.refusal(&answer).await);
    }
    parsed(&answer)
}

fn parsed<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).context("the API answers in a form that this version does not know")
}
