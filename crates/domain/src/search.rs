//! Keys by which the catalog is searched.

use std::fmt;

use crate::Timestamp;

/// Separates a control id from a time. No control id has a control character (crate `hl7`), so none can be confused with the
/// beginning of another.
const SEPARATOR: char = '\t';

/// The character after [`SEPARATOR`].
const AFTER: char = '\n';

/// A message's place among those with the same control id: the attribute `control_id_at`, which the index `by-control-id` sorts by.
/// `Q1<tab>2026-11-21T07:21:07.120Z`; at most 823 bytes, since a control id has at most 199 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControlIdKey(String);

impl ControlIdKey {
    /// The key of a message with this control id (MSH-10) and this time of first arrival.
    pub fn new(control_id: &str, received_at: Timestamp) -> Self {
        Self(format!("{control_id}{SEPARATOR}{received_at}"))
    }

    /// The first and the last key that a message with this control id can have if it arrived between `from` and `last`, both
    /// included. `None` leaves an end open.
    pub fn range(control_id: &str, from: Option<Timestamp>, last: Option<Timestamp>) -> (Self, Self) {
        let first = from.map_or_else(|| Self(format!("{control_id}{SEPARATOR}")), |at| Self::new(control_id, at));
        let last = last.map_or_else(|| Self(format!("{control_id}{AFTER}")), |at| Self::new(control_id, at));
        (first, last)
    }

    /// When the message with this key arrived. `None` if the text is no key.
    pub fn received_at(text: &str) -> Option<Timestamp> {
        text.rsplit_once(SEPARATOR)?.1.parse().ok()
    }
}

impl fmt::Display for ControlIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_messages_of_one_control_id_in_order_of_their_arrival() {
        let at = |text: &str| Timestamp::range_end(text).unwrap();
        let key = |id: &str, time: &str| ControlIdKey::new(id, at(time));
        let (first, last) = ControlIdKey::range("Q1", None, None);
        for time in ["1970-01-01", "2026-11-21", "9999-12-30"] {
            let inside = key("Q1", time);
            assert!(first < inside && inside < last, "{inside}");
            assert_eq!(ControlIdKey::received_at(&inside.to_string()), Some(at(time)));
            for other in ["Q", "Q10", "Q1 ", "Q1\u{fffd}", "q1"] {
                let outside = key(other, time);
                assert!(outside < first || last < outside, "{outside:?}");
            }
        }
        assert!(key("Q1", "2026-11-21") < key("Q1", "2026-11-22"));
        let (first, last) = ControlIdKey::range("Q1", Some(at("2026-11-21")), Some(at("2026-11-22")));
        assert_eq!((first, last), (key("Q1", "2026-11-21"), key("Q1", "2026-11-22")));
        assert_eq!(ControlIdKey::received_at("Q1"), None);
    }
}
