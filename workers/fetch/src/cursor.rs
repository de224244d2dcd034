//! The cursor of a listing: a text that names where the next page begins. The caller sends it back.
//!
//! A cursor is not secret and gives no right: the query is always made with the caller's credentials for the caller's institute. The
//! checksum binds a cursor to its institute and selection, so that a mix-up is an error and not a list with holes.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::arrivals::{Reached, SHARDS};
use domain::{Source, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::catalog::{Place, Position, Selection};

/// The second has a position for each partition of the index by arrival.
const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Cursor<P> {
    v: u8,
    #[serde(flatten)]
    position: P,
    checksum: String,
}

/// Where a page begins, after the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Next {
    /// In the table, in the index by control id or in that of held records.
    After(Position),
    /// In each of the institute's partitions of the index by arrival.
    Arrivals(Arrivals),
}

/// How far a list by arrival has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    /// The arrival of the list's first message. A partition that has given none yet begins there and not with what came since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// For each partition.
    pub reached: Vec<Reached>,
}

impl Arrivals {
    pub(crate) fn beginning() -> Self {
        Self { newest: None, reached: vec![Reached::Start; SHARDS] }
    }
}

/// The cursor of a position: a small JSON in base64url.
pub(crate) fn encode(source: &Source, selection: &impl Serialize, position: &impl Serialize) -> String {
    let cursor = Cursor { v: VERSION, position, checksum: checksum(source, selection, position) };
    BASE64_URL_SAFE_NO_PAD.encode(json!(cursor).to_string())
}

/// The position in a cursor. `None` if the text is not a cursor of this institute and selection.
pub(crate) fn decode(text: &str, source: &Source, selection: &Selection, place: Place) -> Option<Next> {
    let position = decode_for(text, source, selection)?;
    // Anybody can compute a checksum, and DynamoDB refuses a position outside the range.
    let is_in_range = match (&position, place) {
        (Next::Arrivals(Arrivals { newest, reached }), Place::Arrivals) => {
            let covers = |it: &Reached| if let Reached::After(last) = it { selection.covers(last.received_at) } else { true };
            reached.len() == SHARDS && reached.iter().all(covers) && newest.is_none_or(|it| selection.covers(it))
        }
        (Next::After(Position { received_at: Some(at), held_since: None, .. }), Place::ControlIds) => selection.covers(*at),
        (Next::After(Position { received_at: None, held_since: Some(_), .. }), Place::Holds) => true,
        (Next::After(Position { received_at: None, held_since: None, message_id }), Place::Ids) => {
            selection.id_prefix.as_deref().is_some_and(|prefix| message_id.as_str().starts_with(prefix))
        }
        _ => false,
    };
    is_in_range.then_some(position)
}

/// The same where a selection has no range to be compared with.
pub(crate) fn decode_for<P: Serialize + DeserializeOwned>(text: &str, source: &Source, selection: &impl Serialize) -> Option<P> {
    let cursor: Cursor<P> = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let Cursor { v, position, checksum: claimed } = cursor;
    (v == VERSION && claimed == checksum(source, selection, &position)).then_some(position)
}

fn checksum(source: &Source, selection: &impl Serialize, position: &impl Serialize) -> String {
    let digest = Sha256::digest(json!([VERSION, source, selection, position]).to_string());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

#[cfg(test)]
mod tests {
    use domain::MessageId;
    use domain::arrivals::Arrival;

    use super::*;

    fn position(millis: i64) -> Position {
        let received_at = Timestamp::from_millis(millis).unwrap();
        Position { received_at: Some(received_at), held_since: None, message_id: MessageId::of_canonical(&millis.to_be_bytes()) }
    }

    /// One partition was not read yet, and one to its end.
    fn at(millis: i64) -> Next {
        let Position { received_at, message_id, .. } = position(millis);
        let after = Reached::After(Arrival { received_at: received_at.unwrap(), message_id });
        let reached = vec![Reached::Start, after.clone(), Reached::End, after];
        Next::Arrivals(Arrivals { newest: position(millis).received_at, reached })
    }

    fn decode_arrivals(text: &str, source: &Source, selection: &Selection) -> Option<Next> {
        decode(text, source, selection, Place::Arrivals)
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
        assert_eq!(decode_arrivals(&cursor, &source, &selection()), Some(at(NOON)));
    }

    #[test]
    fn a_cursor_of_another_institute_or_query_is_none() {
        let source = "general-hospital".parse().unwrap();
        let cursor = encode(&source, &selection(), &at(NOON));
        assert_eq!(decode_arrivals(&cursor, &"st-elsewhere".parse().unwrap(), &selection()), None);
        let others = [
            Selection { from: None, ..selection() },
            Selection { to: None, ..selection() },
            Selection { message_type: None, ..selection() },
            Selection { trigger_event: Some("A01".to_owned()), ..selection() },
            Selection { control_id: Some("7".to_owned()), ..selection() },
            Selection { status: Some(domain::Status::Queued), ..selection() },
            Selection { id_prefix: Some(position(NOON).message_id.prefix(8).to_owned()), ..selection() },
        ];
        for other in others {
            assert_eq!(decode_arrivals(&cursor, &source, &other), None, "{other:?}");
        }
        let outside = encode(&source, &selection(), &at(NOON + 86_400_000));
        assert_eq!(decode_arrivals(&outside, &source, &selection()), None);
    }

    #[test]
    fn a_cursor_is_of_the_place_that_it_was_made_for() {
        let source = "general-hospital".parse().unwrap();
        let of_id = Position { received_at: None, ..position(NOON) };
        let of_prefix = |prefix: &str| Selection { id_prefix: Some(prefix.to_owned()), ..selection() };
        let mine = of_prefix(of_id.message_id.prefix(8));
        let decoded = |selection: &Selection, next: &Next, place| {
            let decoded = decode(&encode(&source, selection, next), &source, selection, place);
            decoded.inspect(|it| assert_eq!(it, next)).is_some()
        };
        let [ids, control_ids] = [of_id, position(NOON)].map(Next::After);
        assert!(decoded(&mine, &ids, Place::Ids) && !decoded(&of_prefix("00000000"), &ids, Place::Ids));
        assert!(decoded(&selection(), &control_ids, Place::ControlIds));
        assert!(decoded(&selection(), &at(NOON), Place::Arrivals));
        for (next, place) in [
            (&ids, Place::ControlIds),
            (&ids, Place::Arrivals),
            (&control_ids, Place::Ids),
            (&control_ids, Place::Arrivals),
            (&at(NOON), Place::Ids),
            (&at(NOON), Place::ControlIds),
            (&Next::Arrivals(Arrivals { newest: None, reached: vec![Reached::End; 3] }), Place::Arrivals),
            (
                &Next::Arrivals(Arrivals {
                    newest: position(NOON + 86_400_000).received_at,
                    reached: vec![Reached::Start; SHARDS],
                }),
                Place::Arrivals,
            ),
        ] {
            assert!(!decoded(&mine, next, place), "{next:?} {place:?}");
        }
        // Of an earlier build.
        let old = json!({ "v": 1, "received_at": "2026-11-21T12:00:00.000Z", "message_id": "0".repeat(64), "checksum": "" });
        assert_eq!(decode_arrivals(&BASE64_URL_SAFE_NO_PAD.encode(old.to_string()), &source, &selection()), None);
    }

    #[test]
    fn a_cursor_of_held_messages_has_the_beginning_of_the_hold_and_no_other_time() {
        let source = "general-hospital".parse().unwrap();
        let held = Selection { status: Some(domain::Status::Held), ..Selection::default() };
        let at_noon = position(NOON);
        let since = at_noon.received_at;
        let held_since = Next::After(Position { received_at: None, held_since: since, ..at_noon.clone() });
        let decoded = |next: &Next, place| decode(&encode(&source, &held, next), &source, &held, place);
        assert_eq!(decoded(&held_since, Place::Holds), Some(held_since.clone()));
        let both = Next::After(Position { held_since: since, ..at_noon.clone() });
        let neither = Next::After(Position { received_at: None, ..at_noon.clone() });
        for next in [Next::After(at_noon), both, neither] {
            assert_eq!(decoded(&next, Place::Holds), None);
        }
        for place in [Place::Ids, Place::ControlIds, Place::Arrivals] {
            assert_eq!(decoded(&held_since, place), None);
        }
    }

    #[test]
    fn a_mangled_cursor_is_none() {
        let source = "general-hospital".parse().unwrap();
        let cursor = encode(&source, &selection(), &at(NOON));
        let (shorter, longer) = (cursor.split_at(cursor.len() / 2).0, format!("{cursor}A"));
        for bad in ["", "x", "%%%", "e30", "bnVsbA", shorter, &longer] {
            assert_eq!(decode_arrivals(bad, &source, &selection()), None, "{bad}");
        }
        // Every single character counts, if only for the JSON or the checksum.
        for position in 0..cursor.len() {
            let mut mangled = cursor.clone().into_bytes();
            mangled[position] = if mangled[position] == b'A' { b'B' } else { b'A' };
            let decoded = decode_arrivals(std::str::from_utf8(&mangled).unwrap(), &source, &selection());
            assert_eq!(decoded, None, "character {position}");
        }
    }
}
