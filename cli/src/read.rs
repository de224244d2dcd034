//! What a user asks of the API: a message, its status, a list.

use anyhow::{Context, Result, bail};
use domain::catalog::MAX_PAGE;
use domain::catalog::Problem;
use domain::{MessageId, Source, State, Status, Summary, Timestamp};
use reqwest::header::{ACCEPT, LOCATION};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::client::Client;
use crate::http::{Answer, ER7, JSON, RAW, TRANSFER_DEADLINE};

/// How far a message is.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The message's id.
    pub message_id: MessageId,
    /// How far it is.
    pub status: Status,
    /// Whether it parsed, once it is stored.
    pub state: Option<State>,
    /// How often it was submitted.
    pub submissions: u64,
    /// When it first arrived.
    pub received_at: Timestamp,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
    /// Why it did not parse, or is not stored.
    pub error: Option<Problem>,
}

/// A message in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// How far it is.
    #[serde(flatten)]
    pub status: MessageStatus,
    /// What MSH says.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The first moment: an RFC 3339 timestamp or a date.
    pub from: Option<String>,
    /// The moment after the last.
    pub to: Option<String>,
    /// `ADT`, or `ADT^A01`.
    pub message_type: Option<String>,
    /// The institute whose messages these are, by its name; the caller's own without one.
    pub institute: Option<Source>,
}

/// The forms a message is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The message itself.
    Er7,
    /// Its rendition in JSON; there is none of a message that did not parse.
    Json,
    /// The bytes as they were received.
    #[value(skip)]
    Raw,
}

/// Where the messages of an institute are: of the one that is named, or else of the caller's own.
fn messages_of(institute: Option<&Source>) -> String {
    // A name of an institute needs no quoting in a path.
    institute.map_or_else(|| "/er7".to_owned(), |institute| format!("/institutes/{institute}/er7"))
}

/// How far a message of an institute is, or the answer that refuses to say. Without an institute it is the caller's own.
///
/// # Errors
/// When the API does not answer.
pub async fn status(client: &Client, institute: Option<&Source>, message_id: &str) -> Result<Result<MessageStatus, Answer>> {
    let path = format!("{}/{message_id}/status", messages_of(institute));
    let answer = client.call(|api, token| api.request(Method::GET, &path, Some(token)).header(ACCEPT, JSON)).await?;
    if answer.status != StatusCode::OK {
        return Ok(Err(answer));
    }
    parsed(&answer).map(Ok)
}

/// A message, whole.
///
/// A large one comes from S3 by an address that is good for a minute, and only for as long as the credentials that made
/// it, which the API keeps with the token: when S3 refuses, both are got anew, once.
///
/// # Errors
/// When the API or S3 refuses, or the transfer breaks off each time.
pub async fn message(client: &Client, message_id: &MessageId, format: Format) -> Result<Vec<u8>> {
    let path = format!("/er7/{message_id}");
    let accept = match format {
        Format::Er7 => ER7,
        Format::Json => JSON,
        Format::Raw => RAW,
    };
    let mut refused = None;
    for _ in 0..2 {
        let answer = client
            .call(|api, token| api.request(Method::GET, &path, Some(token)).header(ACCEPT, accept).timeout(TRANSFER_DEADLINE))
            .await?;
        let address = match answer.status {
            StatusCode::OK => return whole(answer, message_id, format),
            StatusCode::TEMPORARY_REDIRECT => answer.headers.get(LOCATION).and_then(|address| address.to_str().ok()),
            _ => bail!("{}", answer.problem()),
        };
        let address = address.context("the API redirects to nowhere")?;
        // The address was signed for this token's credentials.
        let token = client.session().await?.tokens.id;
        let object = client.call_elsewhere(address).await?;
        if object.status == StatusCode::OK {
            return whole(object, message_id, format);
        }
        // The body is XML of S3, with the key in it.
        refused = Some(object.status);
        client.replace(&token).await?;
    }
    bail!("S3 does not give the message out: {}", refused.unwrap_or_default())
}

/// The body, if it is the message that was asked for: its id is the digest of the text. What was received may be in any form;
/// the API has compared it.
fn whole(answer: Answer, message_id: &MessageId, format: Format) -> Result<Vec<u8>> {
    if format == Format::Er7 && MessageId::of_canonical(&answer.body) != *message_id {
        bail!("what was received is not the message");
    }
    Ok(answer.body)
}

/// The pages of a list, newest message first.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    query: Query,
    cursor: Option<String>,
    /// Whether the last page has been given.
    ended: bool,
}

impl<'a> Pages<'a> {
    /// The list that `query` asks for.
    #[must_use]
    pub fn new(client: &'a Client, query: Query) -> Self {
        Self { client, query, cursor: None, ended: false }
    }

    /// Whether there is more.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.ended
    }

    /// The next page, of at most `limit` messages; empty after the last.
    ///
    /// # Errors
    /// When the API refuses or does not answer.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Listed>> {
        #[derive(Deserialize)]
        struct Page {
            messages: Vec<Listed>,
            cursor: Option<String>,
        }
        if self.ended {
            return Ok(Vec::new());
        }
        let limit = limit.clamp(1, MAX_PAGE).to_string();
        let query = [
            ("from", self.query.from.as_deref()),
            ("to", self.query.to.as_deref()),
            ("type", self.query.message_type.as_deref()),
            ("cursor", self.cursor.as_deref()),
            ("limit", Some(limit.as_str())),
        ];
        let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let path = messages_of(self.query.institute.as_ref());
        let request =
            |api: &crate::http::Api, token: &secrecy::SecretString| api.request(Method::GET, &path, Some(token)).query(&query);
        let page: Page = parsed(&self.client.call(request).await?)?;
        self.ended = page.cursor.is_none();
        self.cursor = page.cursor;
        Ok(page.messages)
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T> {
    if answer.status != StatusCode::OK {
        bail!("{}", answer.problem());
    }
    serde_json::from_slice(&answer.body).context("the API answers in a form that this version does not know")
}
