//! A body: the content of one request, one MLLP frame or one file, with one or several messages.
//!
//! The API, the gateway and the command line all read messages through [`Body`], so that they find the same messages and the
//! same faults in the same bytes.

mod split;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use domain::{Charset, Er7, MessageId, Received, Undecodable, Unreceivable};

pub use self::split::{BatchProblem, Part, PartKind, Split, split};
pub(crate) use self::split::{first_segment, framing, segments_of};
use crate::ack::has_utf_16_mark;
use crate::{AckHeader, Delimiters, Unreadable};

/// Bytes, and the places of the messages in them. Reading never copies the bytes.
///
/// `Debug` shows a length, never content.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    bytes: Bytes,
    /// The charset of every message; otherwise taken from each message.
    named: Option<Charset>,
    has_utf_16_mark: bool,
    split: Split,
    messages: Vec<Range<usize>>,
}

impl Body {
    /// Splits a body into its parts. `named` is the charset that the sender names for all messages. Without it, a byte order mark
    /// at the beginning names the charset, or else each message does ([`Charset::of_message`]). Linear in the bytes.
    pub fn of(bytes: impl Into<Bytes>, named: Option<Charset>) -> Self {
        let bytes = bytes.into();
        let named = named.or_else(|| Charset::of_mark(&bytes));
        let split = split(&bytes, charset_of(&bytes, named).unwrap_or(Charset::UTF_8));
        // A body that is no batch is one message as a whole, including the blanks before it.
        let whole = 0..bytes.len();
        let messages = if split.is_batch() { split.messages().collect() } else { Vec::from([whole]) };
        Self { has_utf_16_mark: has_utf_16_mark(&bytes), bytes, named, split, messages }
    }

    /// The whole body, as it was received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole body, as it was received.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The charset that the sender named for all messages, or that of a byte order mark; `None` if each message names its own.
    pub fn named_charset(&self) -> Option<Charset> {
        self.named
    }

    /// The charset of headers and trailers.
    pub fn charset(&self) -> Charset {
        charset_of(&self.bytes, self.named).unwrap_or(Charset::UTF_8)
    }

    /// Whether it begins with the byte order mark of UTF-16.
    pub(crate) fn has_utf_16_mark(&self) -> bool {
        self.has_utf_16_mark
    }

    /// Whether it is a batch: it has headers or several messages. An empty batch has no message.
    pub fn is_batch(&self) -> bool {
        self.split.is_batch()
    }

    /// Its headers, messages and trailers, in order.
    pub fn parts(&self) -> &[Part] {
        self.split.parts()
    }

    /// How many messages there are. A body that is no batch has one, which may be empty.
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has more than `most` messages, or more headers and trailers. An answer names each of them.
    pub fn has_more_than(&self, most: usize) -> bool {
        let messages = self.split.messages().count();
        messages > most || self.parts().len() - messages > most
    }

    /// Its messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = Piece<'_>> {
        (1..=self.count()).filter_map(|number| self.message(number))
    }

    /// A message by its number, from 1.
    pub fn message(&self, number: usize) -> Option<Piece<'_>> {
        let range = self.messages.get(number.checked_sub(1)?)?.clone();
        Some(Piece { body: self, number, bytes: self.bytes.get(range.clone())?, offset: range.start })
    }

    /// The problems of the batch itself, without those of its messages. There are at most as many as headers and trailers.
    pub fn problems(&self) -> Vec<BatchProblem> {
        self.split.problems(&self.bytes, self.charset())
    }

    /// The same body with only the first segment of each message: all that an acknowledgment needs. `None` if that has more than
    /// `max_bytes`.
    pub fn outline(&self, max_bytes: usize) -> Option<Self> {
        let charset = self.charset();
        let mut bytes: Vec<u8> = Vec::new();
        let mut parts = Vec::with_capacity(self.parts().len());
        for Part { kind, range } in self.parts() {
            let part = self.bytes.get(range.clone()).unwrap_or_default();
            let segment = first_segment(part, self.charset_of(part).unwrap_or(charset));
            if bytes.len() + segment.len() > max_bytes {
                return None;
            }
            let start = bytes.len();
            bytes.extend_from_slice(segment);
            parts.push(Part { kind: *kind, range: start..bytes.len() });
        }
        let split = Split::of_parts(parts);
        // The first message decides whether the body is UTF-16 without a mark; later ones must not change that.
        let named = self.named.or_else(|| Some(charset).filter(|it| it.unit_bytes() == 2));
        let messages = split.messages().collect();
        // Blank lines behind the mark are in no part, so the outline may lack it.
        Some(Self { bytes: bytes.into(), named, has_utf_16_mark: self.has_utf_16_mark, split, messages })
    }

    fn charset_of(&self, message: &[u8]) -> Result<Charset, Undecodable> {
        charset_of(message, self.named)
    }
}

fn charset_of(message: &[u8], named: Option<Charset>) -> Result<Charset, Undecodable> {
    match named {
        None => Charset::of_message(message),
        // UTF-16 and the other sets decode nearly any bytes of each other, into nonsense.
        Some(named) if named.is_contradicted_by(message) => Err(Undecodable::Byte { charset: named, offset: 0 }),
        Some(named) => Ok(named),
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes, {} messages)", self.bytes.len(), self.messages.len())
    }
}

/// A message at its place in the body, not read yet.
///
/// `Debug` shows a length, never content.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    body: &'a Body,
    number: usize,
    bytes: &'a [u8],
    offset: usize,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The canonical form.
    pub er7: Er7,
    /// The SHA-256 of the canonical form.
    pub id: MessageId,
    /// The charset that it was decoded from.
    pub charset: Charset,
    /// Its delimiters, or the reason why its MSH cannot be read. Such a message is kept as it came.
    pub delimiters: Result<Delimiters, Unreadable>,
}

impl<'a> Piece<'a> {
    /// Its 1-based number in the body.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its offset in the body, in bytes from 0.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its bytes, as they were received.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its bytes, as they were received. They share the body's memory.
    pub fn shared(&self) -> Bytes {
        self.body.bytes.slice_ref(self.bytes)
    }

    /// Its charset: the one that is named for all messages, or else its own.
    ///
    /// # Errors
    /// [`Undecodable::UnknownCharset`] when MSH-18 names an unknown charset, and the message is not UTF-8. [`Undecodable::Byte`]
    /// when the charset that is named for all messages cannot be right ([`Charset::is_contradicted_by`]).
    pub fn charset(&self) -> Result<Charset, Undecodable> {
        self.body.charset_of(self.bytes)
    }

    /// The parts of its MSH that an acknowledgment repeats. Any bytes have a header.
    pub fn header(&self) -> AckHeader {
        // If the named set cannot be right, the sender still learns from its own header which message is refused.
        let charset = self.charset().or_else(|_| Charset::of_message(self.bytes));
        AckHeader::of_received(self.bytes, charset.unwrap_or(Charset::UTF_8))
    }

    /// Its bytes with their charset, which share the body's memory.
    ///
    /// # Errors
    /// As [`Piece::charset`].
    pub fn received(&self) -> Result<Received, Undecodable> {
        Ok(Received::new(self.shared(), self.charset()?))
    }

    /// Decodes it, brings it into canonical form and hashes that, each once.
    ///
    /// # Errors
    /// [`Unreceivable`], with an offset into the message.
    pub fn read(&self) -> Result<Message, Unreceivable> {
        let received = self.received()?;
        let er7 = received.message()?;
        Ok(Message { id: er7.message_id(), charset: received.charset(), delimiters: Delimiters::of(&er7), er7 })
    }
}

impl fmt::Debug for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes at {})", self.bytes.len(), self.offset)
    }
}
