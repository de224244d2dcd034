//! The `.done` file of a segment: which of its messages are submitted, and which are done.

use super::record::Place;

/// What a mark says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The API has it. A version that does not know this mark takes it for a damaged one, and submits the message once more.
    Submitted,
    /// It is stored, or set aside: nothing is left to do.
    Done,
}

impl Mark {
    /// What the checksum of the mark covers beside the place.
    fn salt(self) -> &'static [u8] {
        match self {
            Self::Submitted => b"submitted",
            Self::Done => b"",
        }
    }
}

/// A mark in a `.done` file: where the record begins, and a checksum of that, the segment and what the mark says.
pub(super) fn mark(place: Place, what: Mark) -> [u8; 8] {
    let offset = place.offset.to_le_bytes();
    let checksum = crc32fast::hash(&[&place.segment.to_le_bytes()[..], &offset, what.salt()].concat()).to_le_bytes();
    let mut mark = [0; 8];
    for (to, from) in mark.iter_mut().zip(offset.into_iter().chain(checksum)) {
        *to = from;
    }
    mark
}

/// Where the records begin of which the marks of a segment say something, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    submitted: Vec<u32>,
    done: Vec<u32>,
}

impl Marks {
    /// Reads the marks of a segment. One that is damaged is none: its message is sent once more.
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

    /// Whether nothing is left to do with the record that begins there.
    pub(super) fn is_done(&self, offset: u32) -> bool {
        self.done.binary_search(&offset).is_ok()
    }

    /// Whether the API has it.
    pub(super) fn is_submitted(&self, offset: u32) -> bool {
        self.submitted.binary_search(&offset).is_ok()
    }
}
