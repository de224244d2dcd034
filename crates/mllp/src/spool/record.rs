//! The format of a message in a segment file.
//!
//! ```text
//! magic "SLR2" | length u32 | received, ms since 1970, u64 | CRC-32 of the content u32 | CRC-32 of the 20 bytes before u32 | content
//! ```
//!
//! The content is the origin of the message (two bytes of length, JSON) and the message. Records with the magic `SLR1`, of earlier
//! versions, have no origin.
//!
//! Numbers are little-endian. The header has a checksum of its own: when the message alone is damaged, its length still leads to
//! the next record, and when the header is damaged the next one is looked for by its magic.

use std::ops::Range;

use memchr::memmem;

/// The place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The number of the segment file.
    pub(super) segment: u64,
    /// The offset of the record in it, in bytes.
    pub(super) offset: u32,
}

const MAGIC: [u8; 4] = *b"SLR2";
/// The magic bytes of records without an origin.
const MAGIC_1: [u8; 4] = *b"SLR1";
/// The common beginning of both.
const MAGIC_START: [u8; 3] = *b"SLR";

/// The number of bytes before the message.
pub(super) const HEADER_BYTES: usize = 24;

/// The content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the content begins with the origin.
    pub(super) has_origin: bool,
    /// The content's length in bytes.
    pub(super) length: u32,
    /// When the message was received, in milliseconds since 1970.
    pub(super) received_ms: u64,
    checksum: u32,
}

impl Header {
    /// The header of a message and its origin.
    pub(super) fn of(origin: &[u8], message: &[u8], received_ms: u64) -> Option<Self> {
        let length = u32::try_from(origin.len() + message.len()).ok()?;
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(origin);
        checksum.update(message);
        Some(Self { has_origin: true, length, received_ms, checksum: checksum.finalize() })
    }

    /// Appends its bytes to `out`.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(if self.has_origin { &MAGIC } else { &MAGIC_1 });
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header; `None` if the bytes are not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.first_chunk::<HEADER_BYTES>()?.split_at_checked(HEADER_BYTES - 4)?;
        if crc32fast::hash(content) != u32::from_le_bytes(checksum.try_into().ok()?) {
            return None;
        }
        let (magic, rest) = content.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (received, rest) = rest.split_first_chunk()?;
        let header = Self {
            has_origin: *magic == MAGIC,
            length: u32::from_le_bytes(*length),
            received_ms: u64::from_le_bytes(*received),
            checksum: u32::from_le_bytes(*rest.first_chunk()?),
        };
        (*magic == MAGIC || *magic == MAGIC_1).then_some(header)
    }

    /// Whether it is the header of this content.
    pub(super) fn is_of(&self, content: &[u8]) -> bool {
        usize::try_from(self.length).is_ok_and(|length| length == content.len()) && crc32fast::hash(content) == self.checksum
    }
}

/// The content of a segment file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The offset and the header of each record.
    pub(super) records: Vec<(u32, Header)>,
    /// Bytes that belong to no record, or to a record with a damaged message.
    pub(super) damaged: Vec<Range<usize>>,
}

/// The content of a record at an offset of a segment file.
pub(super) fn content<'bytes>(segment: &'bytes [u8], offset: u32, header: &Header) -> &'bytes [u8] {
    let content = || {
        let from = usize::try_from(offset).ok()?.checked_add(HEADER_BYTES)?;
        segment.get(from..from.checked_add(usize::try_from(header.length).ok()?)?)
    };
    content().unwrap_or_default()
}

/// Finds all records in the bytes of a segment file, whatever is between them.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let magic = memmem::Finder::new(&MAGIC_START);
    let mut at = 0;
    // Start of the bytes skipped so far that belong to no record.
    let mut damage_from = None;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let header = Header::read(rest);
        let message =
            header.and_then(|header| rest.get(HEADER_BYTES..HEADER_BYTES.checked_add(usize::try_from(header.length).ok()?)?));
        match (header, message) {
            (Some(header), Some(message)) if header.is_of(message) => {
                found.damaged.extend(damage_from.take().map(|from| from..at));
                found.records.extend(u32::try_from(at).ok().map(|at| (at, header)));
                at += HEADER_BYTES + message.len();
            }
            (Some(_), Some(message)) => {
                damage_from.get_or_insert(at);
                at += HEADER_BYTES + message.len();
            }
            _ => {
                damage_from.get_or_insert(at);
                let next = rest.get(1..).and_then(|behind| magic.find(behind));
                at = next.map_or(bytes.len(), |next| at + 1 + next);
            }
        }
    }
    found.damaged.extend(damage_from.map(|from| from..bytes.len()));
    // Blocks that a power failure left unwritten are zeros and hold nothing.
    found.damaged.retain(|range| bytes.get(range.clone()).is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0)));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            Header::of(b"", message, 1_700_000_000_000).unwrap().write(&mut bytes);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    fn messages(bytes: &[u8], scan: &Scan) -> Vec<Vec<u8>> {
        let message = |&(at, header): &(u32, Header)| {
            let from = at as usize + HEADER_BYTES;
            bytes[from..from + header.length as usize].to_vec()
        };
        scan.records.iter().map(message).collect()
    }

    #[test]
    fn one_damaged_record_costs_no_other() {
        let written: Vec<Vec<u8>> = (0..3).map(|nth| format!("message {nth}").into_bytes()).collect();
        let bytes = segment(&written);
        let one = bytes.len() / 3;
        // Any byte of the record in the middle.
        for at in one..2 * one {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            let found = scan(&bytes);
            assert_eq!(messages(&bytes, &found), [written[0].clone(), written[2].clone()], "{at}");
            assert_eq!((found.damaged.len(), &found.damaged[0]), (1, &(one..2 * one)), "{at}");
        }
    }

    #[test]
    fn a_record_that_was_not_written_to_its_end_is_set_apart() {
        let bytes = segment(&[b"one".to_vec(), b"two".to_vec()]);
        let one = bytes.len() / 2;
        for cut in one + 1..bytes.len() {
            let found = scan(&bytes[..cut]);
            assert_eq!((found.records.len(), found.damaged.len(), &found.damaged[0]), (1, 1, &(one..cut)), "{cut}");
        }
        let found = scan(&[&bytes[..], &[0; 100]].concat());
        assert_eq!((found.records.len(), found.damaged.len()), (2, 0), "blocks that were never written");
        assert_eq!(scan(b""), Scan::default());
    }

    #[test]
    fn an_empty_message_is_a_record() {
        assert_eq!(scan(&segment(&[vec![]])).records.len(), 1);
    }

    proptest! {
        #[test]
        fn every_record_is_found_around_any_damage(
            before in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            junk in prop::collection::vec(any::<u8>(), 0..60),
            after in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        ) {
            let bytes = [segment(&before), junk, segment(&after)].concat();
            let found = scan(&bytes);
            prop_assert_eq!(messages(&bytes, &found), [before, after].concat());
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(scan(&bytes).records.is_empty());
        }
    }
}
