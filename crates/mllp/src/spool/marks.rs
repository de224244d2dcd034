//! The `.done` file of a segment: which of its messages are submitted, and which are done.

use super::record::Place;

/// The meaning of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The API has the message. A version that does not know this mark takes it for a damaged one, and submits the message once
    /// more.
    Submitted,
    /// The message is stored, or set aside: nothing is left to do.
    Done,
}

impl Mark {
    /// Additional input for the checksum of the mark.
    fn salt(self) -> &'static [u8] {
        match self {
            Self::Submitted => b"submitted",
            Self::Done => b"",
        }
    }
}

/// A mark in a `.done` file: the offset of the record, and a checksum of the offset, the segment and the mark's meaning.
pub(super) fn mark(place: Place, what: Mark) -> [u8; 8] {
    let offset = place.offset.to_le_bytes();
    let checksum = crc32fast::hash(&[&place.segment.to_le_bytes()[..], &offset, what.salt()].concat()).to_le_bytes();
    let mut mark = [0; 8];
    for (to, from) in mark.iter_mut().zip(offset.into_iter().chain(checksum)) {
        *to = from;
    }
    mark
}

/// The offsets of the marked records of a segment, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    submitted: Vec<u32>,
    done: Vec<u32>,
}

impl Marks {
    /// Reads the marks of a segment. Ignores a damaged mark, so its message is sent once more.
    pub(super) fn read(segment: u64, bytes: &[u8]) -> Self {
        let mut marks = Self::default();
        let (found, _) = bytes.as_chunks::<8>();
        for found in found {
            let Some(offset) = found.first_chunk().map(|offset| u32::from_le_bytes(*offset)) else { continue };
            let place = Place { segment, offset };
            if *found == mark(place, Mark::Done) {
                marks.done.push(offset);
            } else if *found == mark(place, Mark::Submitted) {
                marks.submitted.push(offset);
            }
        }
        marks.done.sort_unstable();
        marks.submitted.sort_unstable();
        marks
    }

    /// Whether nothing is left to do for the record at that offset.
    pub(super) fn is_done(&self, offset: u32) -> bool {
        self.done.binary_search(&offset).is_ok()
    }

    /// Whether the API has the record at that offset.
    pub(super) fn is_submitted(&self, offset: u32) -> bool {
        self.submitted.binary_search(&offset).is_ok()
    }
}
