//! A message that is too large for a request: uploaded to S3, then submitted.
//!
//! The id of an upload is the hash of its bytes. So a message whose upload was completed before, in this run or in one that was broken
//! off, is submitted without being sent again.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use domain::UploadId;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::Client;
use crate::http::{Answer, Api, JSON, TRANSFER_DEADLINE};

/// What the API answers to the announcement of an upload.
#[derive(Deserialize)]
struct Presigned {
    url: String,
    headers: std::collections::BTreeMap<String, String>,
}

/// Submits a message by way of an upload. `sent` is told how many bytes have gone out, from 0 again with each attempt.
///
/// # Errors
/// As [`Client::call`]. An answer that refuses is an answer.
pub(super) async fn submit(
    client: &Client,
    message: Bytes,
    content_type: &str,
    sent: impl Fn(usize) + Clone + Send + Sync + Unpin + 'static,
) -> Result<Answer> {
    let id = UploadId::of(&message);
    let take = async || {
        let request = |api: &Api, token: &SecretString| {
            let request = api.request(Method::POST, &format!("/er7/uploads/{id}"), Some(token));
            request.header(CONTENT_TYPE, content_type).header(ACCEPT, JSON)
        };
        client.call(request).await
    };
    let answer = take().await?;
    if answer.status != StatusCode::NOT_FOUND {
        return Ok(answer);
    }
    let announced = json!({ "size": message.len(), "sha256": id });
    let announce = |api: &Api, token: &SecretString| {
        api.request(Method::POST, "/er7/uploads", Some(token)).header(ACCEPT, JSON).json(&announced)
    };
    let answer = client.call(announce).await?;
    if answer.status != StatusCode::CREATED {
        return Ok(answer);
    }
    let Presigned { url, headers } = serde_json::from_slice(&answer.body).context("the API gives no URL to upload to")?;
    let headers: HeaderMap = headers
        .iter()
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?)))
        // The body says it.
        .filter(|(name, _)| name != CONTENT_LENGTH)
        .collect();
    let put = |api: &Api| {
        let body = Counted { rest: message.clone(), gone: 0, sent: sent.clone() };
        api.upload(&url).headers(headers.clone()).timeout(3 * TRANSFER_DEADLINE).body(reqwest::Body::wrap(body))
    };
    let answer = client.elsewhere(put).await?;
    match answer.status {
        // 412: somebody with the same bytes and the same sign-in was faster.
        StatusCode::OK | StatusCode::PRECONDITION_FAILED => take().await,
        _ => {
            let body = json!({ "detail": "S3 does not take the upload" }).to_string().into_bytes();
            Ok(Answer { body, ..answer })
        }
    }
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
}
