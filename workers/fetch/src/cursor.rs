//! The cursor of a listing: a text that names where the next page begins. The caller sends it back.
//!
//! A cursor is not secret and gives no right: the query is always made with the caller's credentials for the caller's institute. The
//! checksum binds a cursor to its institute and selection, so that a mix-up is an error and not a list with holes.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::catalog::{Position, Selection};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Cursor {
    v: u8,
    #[serde(flatten)]
    position: Position,
    checksum: String,
}

/// The cursor of a position: a small JSON in base64url.
pub(crate) fn encode(source: &Source, selection: &impl Serialize, position: &Position) -> String {
    let cursor = Cursor { v: VERSION, position: position.clone(), checksum: checksum(source, selection, position) };
    BASE64_URL_SAFE_NO_PAD.encode(json!(cursor).to_string())
}

/// The position in a cursor. `None` if the text is not a cursor of this institute and selection.
pub(crate) fn decode(text: &str, source: &Source, selection: &Selection) -> Option<Position> {
    let position = decode_for(text, source, selection)?;
    // Anybody can compute a checksum, and DynamoDB refuses a position outside the range.
    let is_in_range = match position.received_at {
        Some(at) => selection.id_prefix.is_none() && selection.covers(at),
        None => selection.id_prefix.as_deref().is_some_and(|prefix| position.message_id.as_str().starts_with(prefix)),
    };
    is_in_range.then_some(position)
}

/// The same where a selection has no range to be compared with.
pub(crate) fn decode_for(text: &str, source: &Source, selection: &impl Serialize) -> Option<Position> {
    let cursor: Cursor = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let Cursor { v, position, checksum: claimed } = cursor;
    (v == VERSION && claimed == checksum(source, selection, &position)).then_some(position)
}

fn checksum(source: &Source, selection: &impl Serialize, position: &Position) -> String {
    let digest = Sha256::digest(json!([VERSION, source, selection, position]).to_string());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

#[cfg(test)]
mod tests {
    use domain::{MessageId, Timestamp};

    use super::*;

    fn at(millis: i64) -> Position {
        let received_at = Timestamp::from_millis(millis).unwrap();
        Position { received_at: Some(received_at), message_id: MessageId::of_canonical(&millis.to_be_bytes()) }
    }

    fn selection() -> Selection {
        let from = Timestamp::range_end("2026-11-21");
        Selection { from, to: Timestamp::range_end("2026-11-22"), message_type: Some("ADT".to_owned()), ..Selection::default() }
    }

    const NOON: i64 = 1_795_262_400_000;

    #[test]
    fn a_cursor_brings_its_position_back() {
        let source = "general-hospital".parse().unwrap();
        let cursor = encode(&source, &selection(), &at(NOON));
        assert!(cursor.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it)), "needs no escapes in a query");
        assert_eq!(decode(&cursor, &source, &selection()), Some(at(NOON)));
    }

    #[test]
    fn a_cursor_of_another_institute_or_query_is_none() {
        let source = "general-hospital".parse().unwrap();
        let cursor = encode(&source, &selection(), &at(NOON));
        assert_eq!(decode(&cursor, &"st-elsewhere".parse().unwrap(), &selection()), None);
        let others = [
            Selection { from: None, ..selection() },
            Selection { to: None, ..selection() },
            Selection { message_type: None, ..selection() },
            Selection { trigger_event: Some("A01".to_owned()), ..selection() },
            Selection { control_id: Some("7".to_owned()), ..selection() },
            Selection { status: Some(domain::Status::Queued), ..selection() },
            Selection { id_prefix: Some(at(NOON).message_id.prefix(8).to_owned()), ..selection() },
        ];
        for other in others {
            assert_eq!(decode(&cursor, &source, &other), None, "{other:?}");
        }
        let outside = encode(&source, &selection(), &at(NOON + 86_400_000));
        assert_eq!(decode(&outside, &source, &selection()), None);
    }

    #[test]
    fn a_cursor_of_ids_has_no_time_and_is_of_its_prefix() {
        let source = "general-hospital".parse().unwrap();
        let position = Position { received_at: None, ..at(NOON) };
        let of_prefix = |prefix: &str| Selection { id_prefix: Some(prefix.to_owned()), ..selection() };
        let mine = of_prefix(position.message_id.prefix(8));
        assert_eq!(decode(&encode(&source, &mine, &position), &source, &mine), Some(position.clone()));
        for (selection, position) in [(mine, at(NOON)), (of_prefix("00000000"), position.clone()), (selection(), position)] {
            assert_eq!(decode(&encode(&source, &selection, &position), &source, &selection), None);
        }
    }

    #[test]
    fn a_mangled_cursor_is_none() {
        let source = "general-hospital".parse().unwrap();
        let cursor = encode(&source, &selection(), &at(NOON));
        let (shorter, longer) = (cursor.split_at(cursor.len() / 2).0, format!("{cursor}A"));
        for bad in ["", "x", "%%%", "e30", "bnVsbA", shorter, &longer] {
            assert_eq!(decode(bad, &source, &selection()), None, "{bad}");
        }
        // Every single character counts, if only for the JSON or the checksum.
        for position in 0..cursor.len() {
            let mut mangled = cursor.clone().into_bytes();
            mangled[position] = if mangled[position] == b'A' { b'B' } else { b'A' };
            let decoded = decode(std::str::from_utf8(&mangled).unwrap(), &source, &selection());
            assert_eq!(decoded, None, "character {position}");
        }
    }
}
