//! The catalog's facts about a stored message.

use domain::{Er7, MessageId, Source, State, Summary, Timestamp};
use serde::Deserialize;

/// The record of a stored message, as far as tables need it. The names are those of the catalog's attributes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// SHA-256 of the canonical form.
    pub message_id: MessageId,
    /// The institute.
    pub source: Source,
    /// When it arrived first.
    pub received_at: Timestamp,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
    /// Whether it parsed.
    pub state: State,
    /// The lake.
    pub bucket: String,
    /// Of the ER7 object.
    pub key: String,
    /// Of the ER7 object.
    pub version_id: Option<String>,
    /// Of the rendition. `None` with `state=error`.
    #[serde(default)]
    pub json_key: Option<String>,
    /// Of the received bytes. `None` where they are the canonical form.
    #[serde(default)]
    pub raw_key: Option<String>,
    /// The character set of the received bytes (IANA).
    #[serde(default)]
    pub charset: Option<String>,
    /// What MSH says.
    #[serde(default)]
    pub summary: Summary,
}

impl Entry {
    /// The message in the bytes of its ER7 object. `None` if they are not what this record says.
    #[must_use]
    pub fn message(&self, bytes: Vec<u8>) -> Option<Er7> {
        if MessageId::of_canonical(&bytes) != self.message_id {
            return None;
        }
        String::from_utf8(bytes).ok().and_then(|text| Er7::canonical(&text).ok())
    }
}
