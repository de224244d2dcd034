//! What the index has of a message.

use std::collections::BTreeMap;
use std::fmt;

use domain::{MessageId, PatientIdentifier, Timestamp};

use crate::PatientKey;

/// The maximum number of identifiers of one message in the index: the limit of one BatchWriteItem. A message about more patients
/// is found by its first ones.
pub const MAX_ENTRIES: usize = 25;

/// Separates the parts of a key.
const SEPARATOR: char = '\t';
/// The character after [`SEPARATOR`].
const AFTER: char = '\n';

/// A message's place among those of a patient: the attribute `patient_at`, by which an institute's entries are sorted. A hash, a tab,
/// the time of arrival, a tab and the message id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey(String);

impl EntryKey {
    /// The key of a message of the patient with this hash.
    pub(crate) fn new(hash: &str, received_at: Timestamp, message_id: &MessageId) -> Self {
        Self(format!("{hash}{SEPARATOR}{received_at}{SEPARATOR}{message_id}"))
    }

    /// A key before and a key after all keys of messages of this patient that arrived at `from` or later and before `to`. `None`
    /// leaves an end open.
    pub(crate) fn range(hash: &str, from: Option<Timestamp>, to: Option<Timestamp>) -> (Self, Self) {
        let first = from.map_or_else(|| format!("{hash}{SEPARATOR}"), |at| format!("{hash}{SEPARATOR}{at}"));
        let last = to.map_or_else(|| format!("{hash}{AFTER}"), |at| format!("{hash}{SEPARATOR}{at}"));
        (Self(first), Self(last))
    }

    /// Arrival and id of the message with this key. `None` if the text is no key.
    pub(crate) fn parts(text: &str) -> Option<(Timestamp, MessageId)> {
        let mut parts = text.split(SEPARATOR).skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hashes of the identifiers, each with the hashes of its authorities. An identifier that several authorities assigned is one
/// entry.
pub(crate) fn entries(key: &PatientKey, identifiers: &[PatientIdentifier]) -> BTreeMap<String, Vec<String>> {
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for identifier in identifiers {
        let hash = key.id(identifier);
        if entries.len() == MAX_ENTRIES && !entries.contains_key(&hash) {
            continue;
        }
        let known = entries.entry(hash).or_default();
        for authority in key.authorities(identifier) {
            if !known.contains(&authority) && known.len() < MAX_ENTRIES {
                known.push(authority);
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_messages_of_one_patient_in_order_of_their_arrival() {
        let at = |text: &str| Timestamp::range_end(text).unwrap();
        let id = MessageId::of_canonical(b"x");
        let key = |hash: &str, time: &str| EntryKey::new(hash, at(time), &id);
        let (first, last) = EntryKey::range("ab", None, None);
        for time in ["1970-01-01", "2026-11-29", "9999-12-30"] {
            let inside = key("ab", time);
            assert!(first < inside && inside < last, "{inside}");
            assert_eq!(EntryKey::parts(&inside.to_string()), Some((at(time), id.clone())));
            for other in ["a", "abc", "ac", "aa"] {
                let outside = key(other, time);
                assert!(outside < first || last < outside, "{outside}");
            }
        }
        let (first, last) = EntryKey::range("ab", Some(at("2026-11-28")), Some(at("2026-11-29")));
        assert!(first < key("ab", "2026-11-28") && key("ab", "2026-11-28") < last && last < key("ab", "2026-11-29"));
        assert!(key("ab", "2026-11-27") < first);
        assert_eq!(EntryKey::parts("ab"), None);
    }
}
