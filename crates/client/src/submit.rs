//! Submits a message or a batch: in a request or, if it is too large for one, by an upload to S3.
//!
//! The id of an upload is the hash of its bytes. So a message whose upload was completed before, in this run or in an interrupted
//! one, is submitted without being sent again.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use domain::{MAX_MESSAGE_BYTES, UploadId};
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::Client;
use crate::http::{Answer, Api, ER7, JSON, TRANSFER_DEADLINE};

/// The problem of an upload that is not there. An API without uploads answers 404 too, without a problem document.
const NO_SUCH_UPLOAD: &str = "urn:sluice:problem:no-such-upload";

/// Texts of S3 for a URL that has expired, or whose signer's credentials have. The API then signs another one.
const RUN_OUT: [&str; 2] = ["Request has expired", "ExpiredToken"];

/// The result of submitting.
#[derive(Debug)]
pub enum Submitted {
    /// The API's answer about the message.
    Answered(Answer),
    /// The message could not be uploaded, which says nothing about the message: S3 does not take it, or this deployment has no uploads.
    /// `detail` says which.
    NotUploaded(Answer),
}

impl Submitted {
    /// The answer, whether the API's or S3's.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        match self {
            Self::Answered(answer) | Self::NotUploaded(answer) => answer,
        }
    }
}

/// The API's answer to the announcement of an upload.
#[derive(Deserialize)]
struct Presigned {
    url: String,
    headers: std::collections::BTreeMap<String, String>,
}

/// Submits a message in a request if it is small enough for this deployment, else by an upload. The call can be interrupted
/// anywhere, and repeated.
///
/// `charset` is the name of the message's character set for `Content-Type`; without it the message names its own. If `may_use`
/// refuses a token, the request goes out without a token. `sent` is told how many bytes of an upload have gone out, from 0 again
/// with each attempt.
///
/// # Errors
/// As [`Client::call`]. An answer that refuses is an answer.
pub async fn submit(
    client: &Client,
    message: Bytes,
    charset: Option<&str>,
    may_use: impl Fn(&SecretString) -> bool + Send + Sync,
    sent: impl Fn(usize) + Clone + Send + Sync + Unpin + 'static,
) -> Result<Submitted> {
    let content_type = charset.map_or_else(|| ER7.to_owned(), |charset| format!("{ER7}; charset={charset}"));
    let way = Way { client, message, content_type, may_use };
    let refusal = if way.message.len() <= MAX_MESSAGE_BYTES {
        let answer = way.post().await?;
        if answer.status != StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(Submitted::Answered(answer));
        }
        Some(answer)
    } else {
        None
    };
    let submitted = way.upload(sent).await?;
    match (submitted, refusal) {
        // A deployment without uploads has said already that it takes less.
        (Submitted::NotUploaded(answer), Some(refusal)) if answer.status == StatusCode::NOT_FOUND => {
            Ok(Submitted::Answered(refusal))
        }
        (submitted, _) => Ok(submitted),
    }
}

/// A message on its way.
struct Way<'a, M> {
    client: &'a Client,
    message: Bytes,
    content_type: String,
    may_use: M,
}

impl<M: Fn(&SecretString) -> bool + Send + Sync> Way<'_, M> {
    async fn post(&self) -> Result<Answer> {
        let request = |api: &Api, token: &SecretString| {
            let request = api.request(Method::POST, "/er7", self.usable(token)).timeout(TRANSFER_DEADLINE);
            request.header(CONTENT_TYPE, &self.content_type).header(ACCEPT, JSON).body(self.message.clone())
        };
        self.client.call(request).await
    }

    async fn upload(&self, sent: impl Fn(usize) + Clone + Send + Sync + Unpin + 'static) -> Result<Submitted> {
        let message = self.message.clone();
        // For 64 MiB this takes a moment, in which other messages go on.
        let id = tokio::task::spawn_blocking(move || UploadId::of(&message)).await?;
        let answer = self.take(&id).await?;
        if answer.status != StatusCode::NOT_FOUND {
            return Ok(Submitted::Answered(answer));
        }
        if answer.text("type") != NO_SUCH_UPLOAD {
            return Ok(no_uploads(answer));
        }
        let mut has_run_out = false;
        loop {
            let answer = self.announce(&id).await?;
            match answer.status {
                StatusCode::CREATED => {}
                StatusCode::NOT_FOUND => return Ok(no_uploads(answer)),
                _ => return Ok(Submitted::Answered(answer)),
            }
            let answer = self.put(&answer, sent.clone()).await?;
            match answer.status {
                // 412: somebody with the same bytes and the same sign-in was faster.
                StatusCode::OK | StatusCode::PRECONDITION_FAILED => return Ok(Submitted::Answered(self.take(&id).await?)),
                // Once: a clock that is wrong makes every URL too old.
                _ if is_run_out(&answer) && !has_run_out => has_run_out = true,
                _ => return Ok(not_uploaded(answer, "S3 does not take the upload")),
            }
        }
    }

    /// Submits the uploaded bytes.
    async fn take(&self, id: &UploadId) -> Result<Answer> {
        let request = |api: &Api, token: &SecretString| {
            let request = api.request(Method::POST, &format!("/er7/uploads/{id}"), self.usable(token));
            request.header(CONTENT_TYPE, &self.content_type).header(ACCEPT, JSON)
        };
        self.client.call(request).await
    }

    /// Asks for a URL.
    async fn announce(&self, id: &UploadId) -> Result<Answer> {
        let announced = json!({ "size": self.message.len(), "sha256": id });
        let request = |api: &Api, token: &SecretString| {
            api.request(Method::POST, "/er7/uploads", self.usable(token)).header(ACCEPT, JSON).json(&announced)
        };
        self.client.call(request).await
    }

    async fn put(&self, announced: &Answer, sent: impl Fn(usize) + Clone + Send + Sync + Unpin + 'static) -> Result<Answer> {
        let Presigned { url, headers } = serde_json::from_slice(&announced.body).context("the API gives no URL to upload to")?;
        let headers: HeaderMap = headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?)))
            // The body sets it.
            .filter(|(name, _)| name != CONTENT_LENGTH)
            .collect();
        let put = |api: &Api| {
            let body = Counted { rest: self.message.clone(), gone: 0, sent: sent.clone() };
            api.upload(&url).headers(headers.clone()).timeout(3 * TRANSFER_DEADLINE).body(reqwest::Body::wrap(body))
        };
        self.client.elsewhere(put).await
    }

    fn usable<'t>(&self, token: &'t SecretString) -> Option<&'t SecretString> {
        (self.may_use)(token).then_some(token)
    }
}

fn is_run_out(answer: &Answer) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    answer.status.is_client_error() && RUN_OUT.iter().any(|said| text.contains(said))
}

fn no_uploads(answer: Answer) -> Submitted {
    let detail = "the message is too large for a request, and this deployment has no uploads: whoever runs it has to update it";
    not_uploaded(answer, detail)
}

/// In place of the other side's own words, which may quote the URL.
fn not_uploaded(answer: Answer, detail: &str) -> Submitted {
    let body = json!({ "detail": detail }).to_string().into_bytes();
    Submitted::NotUploaded(Answer { body, ..answer })
}

/// A body that goes out in pieces, and says how much of it has gone.
struct Counted<F> {
    rest: Bytes,
    gone: usize,
    sent: F,
}

/// The bytes of a piece.
const PIECE_BYTES: usize = 256 * 1024;

impl<F: Fn(usize) + Unpin> Body for Counted<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.gone += length;
        (self.sent)(self.gone);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_body_has_a_length_and_says_how_much_has_gone() {
        let gone: Arc<Mutex<Vec<usize>>> = Arc::default();
        let told = Arc::clone(&gone);
        let message = Bytes::from(vec![7; 2 * PIECE_BYTES + 1]);
        let mut body = Counted { rest: message.clone(), gone: 0, sent: move |bytes| told.lock().unwrap().push(bytes) };
        assert_eq!(body.size_hint().exact(), Some(message.len() as u64));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            read.extend(frame.into_data().unwrap());
        }
        assert_eq!((read, body.is_end_stream()), (message.to_vec(), true));
        assert_eq!(*gone.lock().unwrap(), [PIECE_BYTES, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1]);
    }

    #[test]
    fn a_url_that_has_run_out_is_told_from_a_refusal() {
        let is_run_out = |status, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            is_run_out(&Answer { status, headers: HeaderMap::new(), body: body.into() })
        };
        // As S3 says it, of a URL and of the credentials that signed it.
        assert!(is_run_out(403, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"));
        assert!(is_run_out(400, "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"));
        assert!(!is_run_out(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"));
        assert!(!is_run_out(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>") && !is_run_out(503, "Request has expired"));
    }
}
