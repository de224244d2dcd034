//! A user's requests to the API: a message, its status, a list.

use anyhow::{Context, Result, bail, ensure};
use domain::catalog::MAX_PAGE;
use domain::catalog::Problem;
use domain::{Held, MessageId, PatientIdentifier, Source, State, Status, Summary, Timestamp};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use crate::Client;
use crate::http::{Answer, ER7, JSON, RAW, TRANSFER_DEADLINE};

/// The status of a message.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The message's id.
    pub message_id: MessageId,
    /// The status.
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
    /// With the status `held`: the reason, the beginning and the end of the hold.
    pub held: Option<Held>,
}

/// A message in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Its status.
    #[serde(flatten)]
    pub status: MessageStatus,
    /// The facts from MSH.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The conditions of a list. A message must meet every condition that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The beginning of the range of arrival: an RFC 3339 timestamp or a date.
    pub from: Option<String>,
    /// The end of the range, exclusive.
    pub to: Option<String>,
    /// The type, `ADT` or `ADT^A01`.
    pub message_type: Option<String>,
    /// The trigger event, `A01`.
    pub event: Option<String>,
    /// MSH-10.
    pub control_id: Option<String>,
    /// The sending application or facility.
    pub sender: Option<String>,
    /// The receiving application or facility.
    pub receiver: Option<String>,
    /// The beginning of the range of MSH-7, on the sender's clock.
    pub message_from: Option<String>,
    /// The end of the range of MSH-7, exclusive.
    pub message_to: Option<String>,
    /// The status.
    pub status: Option<String>,
    /// The submission that brought the message.
    pub submission: Option<String>,
    /// The first digits of the message id, eight or more.
    pub id_prefix: Option<String>,
    /// An identifier of the patient (PID-3). The API combines it with `from` and `to` only. It travels in the body of a request.
    pub patient: Option<PatientIdentifier>,
    /// The institute of the messages; without one, the caller's own.
    pub institute: Option<Source>,
}

impl Query {
    /// Whether a condition is about the message itself. The catalog knows that once the message is stored.
    pub fn asks_for_content(&self) -> bool {
        let of_header = [
            &self.message_type,
            &self.event,
            &self.control_id,
            &self.sender,
            &self.receiver,
            &self.message_from,
            &self.message_to,
        ];
        of_header.iter().any(|it| it.is_some()) || self.patient.is_some()
    }

    /// The conditions, by the names that the API has for them.
    fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parameters = [
            ("from", &self.from),
            ("to", &self.to),
            ("type", &self.message_type),
            ("event", &self.event),
            ("controlId", &self.control_id),
            ("sender", &self.sender),
            ("receiver", &self.receiver),
            ("messageFrom", &self.message_from),
            ("messageTo", &self.message_to),
            ("status", &self.status),
            ("submission", &self.submission),
            ("idPrefix", &self.id_prefix),
        ];
        parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// The forms a message is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The message itself.
    Er7,
    /// The JSON rendition. A message that did not parse has no rendition.
    Json,
    /// The bytes as they were received.
    Raw,
}

/// The path of an institute's messages; without an institute, of the caller's own.
fn messages_of(institute: Option<&Source>) -> String {
    // A name of an institute needs no quoting in a path.
    institute.map_or_else(|| "/er7".to_owned(), |institute| format!("/institutes/{institute}/er7"))
}

/// The status of a message, or the API's refusal to tell it. Without an institute, the message is one of the caller's own.
///
/// # Errors
/// When the API does not answer.
pub async fn status(client: &Client, institute: Option<&Source>, message_id: &str) -> Result<Result<MessageStatus, Answer>> {
    let path = format!("{}/{message_id}/status", messages_of(institute));
    let answer = client.call(|api, token| api.request(Method::GET, &path, Some(token)).header(ACCEPT, JSON)).await?;
    if answer.status != StatusCode::OK {
        return Ok(Err(answer));
    }
    parsed(client, &answer).await.map(Ok)
}

/// The API's knowledge of a message.
#[derive(Debug, Clone)]
pub enum Known {
    /// It has a record.
    Status(Box<MessageStatus>),
    /// The institute has no such message.
    Unknown,
}

/// The maximum number of messages that [`statuses`] asks for at a time.
pub const MOST_ASKED: usize = 500;

/// The status of each of these messages of the caller's own institute, in their order, or the API's refusal to tell it. At most
/// [`MOST_ASKED`].
///
/// # Errors
/// When the API does not answer, or answers something else.
pub async fn statuses(client: &Client, message_ids: &[MessageId]) -> Result<Result<Vec<Known>, Answer>> {
    #[derive(Deserialize)]
    struct Statuses {
        statuses: Vec<Value>,
    }
    let body = serde_json::json!({ "messageIds": message_ids }).to_string();
    let request = |api: &crate::http::Api, token: &secrecy::SecretString| {
        let request = api.request(Method::POST, "/er7/status", Some(token)).header(ACCEPT, JSON);
        request.header(CONTENT_TYPE, JSON).body(body.clone())
    };
    let answer = client.call(request).await?;
    if answer.status != StatusCode::OK {
        return Ok(Err(answer));
    }
    let Statuses { statuses } = parsed(client, &answer).await?;
    ensure!(statuses.len() == message_ids.len(), "the API answered for other messages than requested");
    let known = statuses.into_iter().zip(message_ids).map(|(status, id)| {
        if status.get("status").and_then(Value::as_str) == Some("unknown") {
            return Ok(Known::Unknown);
        }
        let status: MessageStatus = serde_json::from_value(status).context(UNKNOWN_FORM)?;
        ensure!(status.message_id == *id, "the API answered for another message than requested");
        Ok(Known::Status(Box::new(status)))
    });
    known.collect::<Result<_>>().map(Ok)
}

/// A whole message.
///
/// A large message comes from S3, by an address that is valid for a minute, and no longer than the credentials that signed it.
/// The API keeps these credentials with the token. So when S3 refuses, both are renewed, once.
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
            _ => bail!("{}", client.refusal(&answer).await),
        };
        let address = address.context("the API's redirect has no address")?;
        // The address was signed for this token's credentials.
        let token = client.session().await?.tokens.id;
        let object = client.call_elsewhere(address).await?;
        if object.status == StatusCode::OK {
            return whole(object, message_id, format);
        }
        // The body is XML of S3, and contains the key.
        refused = Some(object.status);
        client.replace(&token).await?;
    }
    bail!("S3 refused to return the message: {}", refused.unwrap_or_default())
}

/// The body, if it is the requested message: the id is the digest of the text. Bytes as received may have any form, and the API
/// has checked them. S3 sends a large rendition as it is stored, compressed.
fn whole(answer: Answer, message_id: &MessageId, format: Format) -> Result<Vec<u8>> {
    if answer.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip") {
        return hl7::decompressed(&answer.body, hl7::MAX_JSON_BYTES).context("the downloaded rendition");
    }
    if format == Format::Er7 && MessageId::of_canonical(&answer.body) != *message_id {
        bail!("the downloaded bytes do not match the message id");
    }
    Ok(answer.body)
}

/// Messages of an institute whose ids begin with these digits: a few of them, enough to know whether there is exactly one.
///
/// # Errors
/// When the API refuses or does not answer.
pub async fn with_prefix(client: &Client, institute: Option<&Source>, digits: &str) -> Result<Vec<Listed>> {
    const ENOUGH: usize = 6;
    let query = Query { id_prefix: Some(digits.to_owned()), institute: institute.cloned(), ..Query::default() };
    Pages::new(client, query).next(ENOUGH).await
}

/// The pages of a list, newest message first.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    query: Query,
    cursor: Option<String>,
    /// Whether the last page was returned.
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
        let page: Page = match &self.query.patient {
            Some(patient) => {
                let body = self.search(patient, limit.clamp(1, MAX_PAGE));
                let request = |api: &crate::http::Api, token: &secrecy::SecretString| {
                    let request = api.request(Method::POST, "/er7/search", Some(token)).header(ACCEPT, JSON);
                    request.header(CONTENT_TYPE, JSON).body(body.clone())
                };
                parsed(self.client, &self.client.call(request).await?).await?
            }
            None => parsed(self.client, &self.listed(limit.clamp(1, MAX_PAGE)).await?).await?,
        };
        self.ended = page.cursor.is_none();
        self.cursor = page.cursor;
        Ok(page.messages)
    }

    /// The body of a search for a patient's messages.
    fn search(&self, patient: &PatientIdentifier, limit: usize) -> String {
        let Query { from, to, .. } = &self.query;
        let members = [("from", from), ("to", to), ("cursor", &self.cursor)];
        let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.as_deref()?.into())));
        let mut body =
            serde_json::Map::from_iter([("patient".to_owned(), patient.to_cx().into()), ("limit".to_owned(), limit.into())]);
        body.extend(members);
        serde_json::Value::from(body).to_string()
    }

    async fn listed(&self, limit: usize) -> Result<Answer> {
        let limit = limit.to_string();
        let paging = [("cursor", self.cursor.as_deref()), ("limit", Some(limit.as_str()))];
        let paging = paging.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let query: Vec<_> = self.query.parameters().chain(paging).collect();
        let path = messages_of(self.query.institute.as_ref());
        let request =
            |api: &crate::http::Api, token: &secrecy::SecretString| api.request(Method::GET, &path, Some(token)).query(&query);
        self.client.call(request).await
    }
}

const UNKNOWN_FORM: &str = "the API answers in a form that this version does not know";

async fn parsed<T: for<'de> Deserialize<'de>>(client: &Client, answer: &Answer) -> Result<T> {
    if answer.status != StatusCode::OK {
        bail!("{}", client.refusal(answer).await);
    }
    serde_json::from_slice(&answer.body).context(UNKNOWN_FORM)
}

#[cfg(test)]
mod tests {
    use domain::Er7;

    use super::*;

    #[test]
    fn a_large_rendition_comes_compressed_from_s3_and_is_json() {
        let message = Er7::canonical("MSH|^~\\&|A\rPID|1||4711\r").unwrap();
        let (message_id, source) = (message.message_id(), "west".parse().unwrap());
        let received_at = Timestamp::from_millis(1_795_245_667_120).unwrap();
        let origin = hl7::Origin { message_id: &message_id, source: &source, received_at };
        let compressed =
            hl7::compressed_json(&message, &hl7::Delimiters::of(&message).unwrap(), &origin, hl7::Schema::standard()).unwrap();
        let answer = |coding: Option<&'static str>, body: &[u8]| {
            let headers = coding.map(|it| (CONTENT_ENCODING, it.parse().unwrap())).into_iter().collect();
            whole(Answer { status: StatusCode::OK, headers, body: body.to_vec() }, &message_id, Format::Json)
        };
        let json = answer(Some("gzip"), &compressed).unwrap();
        assert_eq!(hl7::read_json(&json), Ok(message.clone()));
        assert_eq!(answer(None, &json).unwrap(), json, "that of version 1");
        assert!(answer(Some("gzip"), &compressed[1..]).is_err());
    }
}
