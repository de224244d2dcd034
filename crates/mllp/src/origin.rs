//! Where a message came from.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::Charset;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The origin of a message. The spool stores it beside each message, and log lines about a peer contain it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Origin {
    /// The name of the feed.
    pub feed: String,
    /// The peer's address and port; `None` in spools of versions that did not write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The number of the connection since the gateway's start.
    pub connection: u64,
    /// The character set of all messages of the feed, if its settings name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charset: Option<Charset>,
}

impl Origin {
    /// Adds feed, peer and connection to the members of a line of the log.
    pub(crate) fn add_to(&self, mut members: Value) -> Value {
        if let Some(members) = members.as_object_mut() {
            members.insert("feed".to_owned(), json!(self.feed));
            members.insert("peer".to_owned(), json!(self.peer));
            members.insert("connection".to_owned(), json!(self.connection));
        }
        members
    }
}

/// An origin and its form on disk, made once for each connection.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) origin: Origin,
    pub(crate) feed: Arc<str>,
    encoded: Vec<u8>,
}

impl Label {
    pub(crate) fn new(origin: Origin) -> Self {
        let json = serde_json::to_vec(&origin).unwrap_or_default();
        // An origin that is too long to be written is left out.
        let (length, json) = u16::try_from(json.len()).map_or((0, Vec::new()), |length| (length, json));
        Self { feed: origin.feed.as_str().into(), encoded: [&length.to_le_bytes()[..], &json].concat(), origin }
    }

    /// Two bytes of length, and JSON.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Reads a label from the beginning of a record, and returns its length in bytes as well.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Origin, usize)> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length));
        Some((serde_json::from_slice(rest.get(..length)?).unwrap_or_default(), 2 + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_was_written() {
        let origin = Origin {
            feed: "adt".to_owned(),
            peer: Some("127.0.0.1:4711".parse().unwrap()),
            connection: 7,
            charset: Charset::for_hl7("8859/1"),
        };
        let record = [Label::new(origin.clone()).encoded(), b"MSH|"].concat();
        assert_eq!(Label::read(&record), Some((origin, record.len() - 4)));
        assert_eq!(Label::read(b"\xff\xff{}"), None);
    }
}
