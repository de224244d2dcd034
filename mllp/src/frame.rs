//! MLLP's framing: a start block VT, the message, an end block FS and a CR (HL7 2.5.1 Appendix C, minimal lower layer protocol).
//!
//! Peers are not exact about it, so this takes what can be told without a guess:
//!
//! - Whatever stands between two frames is skipped: LF, blanks, keep-alive bytes.
//! - FS ends a frame when CR, LF or the VT of the next frame follows, or when nothing follows: the connection ends, or the peer
//!   stays silent ([`Frames::end_if_silent`]). An FS with anything else behind it is content.
//! - A VT within a frame begins a new one if a message follows at once (`MSH`, `FHS` or `BHS`): the peer has given the old one
//!   up. It never ended, so it is dropped. Any other VT is content: some senders have it in free text.
//! - A frame that is longer than the limit is read to its end and not kept.
//!
//! This is no codec of `tokio-util`: a deadline for a frame that has begun must be known between two reads, and a codec
//! shows nothing before a frame is complete.

/// Begins a frame.
pub(crate) const START_BLOCK: u8 = 0x0b;
/// Ends a frame, with the CR behind it.
pub(crate) const END_BLOCK: u8 = 0x1c;
const CARRIAGE_RETURN: u8 = b'\r';

/// How much is kept of a frame that is too long: enough for its MSH, which the answer is made from.
pub(crate) const HEAD_BYTES: usize = 4 * 1024;

/// What a peer has sent.
#[derive(PartialEq, Eq)]
pub(crate) enum Frame {
    /// All of a frame's content.
    Whole(Vec<u8>),
    /// The beginning of a frame that is longer than the limit.
    TooLong {
        /// [`HEAD_BYTES`] of it, or less.
        head: Vec<u8>,
    },
}

/// `Debug` shows lengths, never content.
impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(message) => write!(formatter, "Whole({} bytes)", message.len()),
            Self::TooLong { .. } => formatter.write_str("TooLong"),
        }
    }
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Inside,
    /// Behind an FS of which it is not known yet whether it ends the frame.
    BehindEnd,
    /// Behind a VT of which it is not known yet whether it begins a frame; up to two bytes of a segment's name were read.
    BehindStart {
        read: [u8; 2],
        length: u8,
    },
}

/// Takes bytes in and gives frames out. It keeps no more than one frame.
pub(crate) struct Frames {
    limit_bytes: usize,
    place: Place,
    content: Vec<u8>,
    is_too_long: bool,
    junk_bytes: usize,
    cut: u64,
}

impl Frames {
    /// A reader of frames of at most so many bytes of content.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, place: Place::Between, content: Vec::new(), is_too_long: false, junk_bytes: 0, cut: 0 }
    }

    /// Whether a frame has begun that has not ended.
    pub(crate) fn is_within(&self) -> bool {
        self.place != Place::Between
    }

    /// Whether all of a frame is here but what makes its end certain.
    pub(crate) fn is_behind_end(&self) -> bool {
        self.place == Place::BehindEnd
    }

    /// Bytes since the last frame that were none of one.
    pub(crate) fn junk_bytes(&self) -> usize {
        self.junk_bytes
    }

    /// How many frames have begun and were given up for another; the count begins anew.
    pub(crate) fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    /// Reads up to the end of a frame, and takes what it has read off `input`. `None` when all is read and no frame has ended.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        while let Some((&byte, rest)) = input.split_first() {
            match self.place {
                Place::Between => match memchr::memchr(START_BLOCK, input) {
                    Some(before) => {
                        self.junk_bytes += before;
                        *input = input.get(before + 1..).unwrap_or_default();
                        self.begin();
                    }
                    None => {
                        self.junk_bytes += input.len();
                        *input = &[];
                    }
                },
                Place::Inside => {
                    let until = memchr::memchr2(START_BLOCK, END_BLOCK, input).unwrap_or(input.len());
                    let (content, behind) = input.split_at_checked(until).unwrap_or((input, &[]));
                    self.keep(content);
                    *input = behind.get(1..).unwrap_or_default();
                    match behind.first() {
                        Some(&END_BLOCK) => self.place = Place::BehindEnd,
                        Some(_) => self.place = Place::BehindStart { read: [0; 2], length: 0 },
                        None => {}
                    }
                }
                Place::BehindEnd => match byte {
                    CARRIAGE_RETURN | b'\n' => {
                        *input = rest;
                        return Some(self.end());
                    }
                    // The CR is missing. The VT is read again as what begins the next frame.
                    START_BLOCK => return Some(self.end()),
                    // Content. Another FS may be the end.
                    _ => {
                        self.keep(&[END_BLOCK]);
                        self.place = Place::Inside;
                    }
                },
                Place::BehindStart { mut read, length } => {
                    let name = [read[0], read[1], byte];
                    let begins = match length {
                        0 => matches!(byte, b'M' | b'F' | b'B'),
                        1 => matches!((read[0], byte), (b'M', b'S') | (b'F' | b'B', b'H')),
                        _ => matches!(&name, b"MSH" | b"FHS" | b"BHS"),
                    };
                    if begins && length == 2 {
                        self.cut += 1;
                        self.begin();
                        self.keep(&name);
                        *input = rest;
                    } else if begins {
                        if let Some(slot) = read.get_mut(usize::from(length)) {
                            *slot = byte;
                        }
                        self.place = Place::BehindStart { read, length: length + 1 };
                        *input = rest;
                    } else {
                        self.place = Place::Inside;
                        self.keep(&[START_BLOCK]);
                        self.keep(read.get(..usize::from(length)).unwrap_or_default());
                    }
                }
            }
        }
        None
    }

    /// The frame whose end block was read, when the peer sends nothing behind it.
    pub(crate) fn end_if_silent(&mut self) -> Option<Frame> {
        self.is_behind_end().then(|| self.end())
    }

    fn begin(&mut self) {
        self.content.clear();
        self.is_too_long = false;
        self.junk_bytes = 0;
        self.place = Place::Inside;
    }

    fn keep(&mut self, content: &[u8]) {
        if !self.is_too_long && self.content.len() + content.len() > self.limit_bytes {
            self.is_too_long = true;
            // What is here may be shorter than a head. The buffer that may be as long as the limit goes.
            let head = HEAD_BYTES.min(self.limit_bytes);
            let missing = head.saturating_sub(self.content.len());
            let parts = [self.content.get(..head).unwrap_or(&self.content), content.get(..missing).unwrap_or_default()];
            self.content = parts.concat();
        } else if !self.is_too_long {
            self.content.extend_from_slice(content);
        }
    }

    fn end(&mut self) -> Frame {
        self.place = Place::Between;
        // The buffer goes with the frame, so that a connection that has once had a large one does not keep its memory.
        let content = std::mem::take(&mut self.content);
        if std::mem::take(&mut self.is_too_long) { Frame::TooLong { head: content } } else { Frame::Whole(content) }
    }
}

/// Frames a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[START_BLOCK], message, &[END_BLOCK, CARRIAGE_RETURN]].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames of some bytes that come in pieces of one size.
    fn frames(limit: usize, bytes: &[u8], piece: usize) -> (Vec<Frame>, Frames) {
        let mut reader = Frames::new(limit);
        let mut found = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while let Some(frame) = reader.next(&mut piece) {
                found.push(frame);
            }
        }
        (found, reader)
    }

    fn whole(messages: &[&[u8]]) -> Vec<Frame> {
        messages.iter().map(|message| Frame::Whole(message.to_vec())).collect()
    }

    #[test]
    fn frames_in_pieces_of_any_size() {
        let cases: [(&[u8], &[&[u8]]); 11] = [
            (b"\x0bMSH|a\r\x1c\r", &[b"MSH|a\r"]),
            (b"\x0bone\x1c\r\x0btwo\x1c\r", &[b"one", b"two"]),
            (b"junk\r\n\x0bone\x1c\r\n\n \0\x0btwo\x1c\r\n", &[b"one", b"two"]),
            (b"\x0b\x1c\r\x0bx\x1c\r", &[b"", b"x"]),
            // Without the CR.
            (b"\x0bone\x1c\x0btwo\x1c\r", &[b"one", b"two"]),
            (b"\x0bone\x1c\n\x0btwo\x1c\n", &[b"one", b"two"]),
            // Content.
            (b"\x0ba\x1cb\x1c\x1c\r", &[b"a\x1cb\x1c"]),
            (b"\x0ba\x0bb\0\x0bMS\x0bMSX\x0bFH\x1c\r", &[b"a\x0bb\0\x0bMS\x0bMSX\x0bFH"]),
            // A peer that begins anew.
            (b"\x0bMSH|lost\x0bMSH|kept\x1c\r", &[b"MSH|kept"]),
            (b"\x0b\x0bMSH|kept\x1c\r", &[b"MSH|kept"]),
            (b"no frame at all", &[]),
        ];
        for (bytes, expected) in cases {
            for piece in 1..=bytes.len() {
                assert_eq!(frames(100, bytes, piece).0, whole(expected), "{bytes:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_end_without_a_cr_is_one_when_the_peer_is_silent() {
        let (found, mut reader) = frames(100, b"\x0bone\x1c", 3);
        assert_eq!((found, reader.is_behind_end()), (vec![], true));
        assert_eq!(reader.end_if_silent(), Some(Frame::Whole(b"one".to_vec())));
        assert_eq!(reader.end_if_silent(), None);
        assert!(!reader.is_within());
        let (found, mut reader) = frames(100, b"\x0bone", 3);
        assert_eq!((found, reader.end_if_silent(), reader.is_within()), (vec![], None, true));
    }

    #[test]
    fn what_is_too_long_is_read_to_its_end_and_not_kept() {
        let bytes = [&framed(&[b'x'; 10_000])[..], &framed(b"short")].concat();
        for piece in [1, 7, 4_000, 20_000] {
            let (found, reader) = frames(9_999, &bytes, piece);
            assert_eq!(found, [Frame::TooLong { head: vec![b'x'; HEAD_BYTES] }, Frame::Whole(b"short".to_vec())], "{piece}");
            assert_eq!(reader.content.capacity(), 0);
            assert_eq!(frames(10_000, &bytes, piece).0, whole(&[&[b'x'; 10_000], b"short"]));
        }
        let mut reader = Frames::new(100_000);
        reader.next(&mut &b"\x0b"[..]);
        for _ in 0..1_000 {
            assert_eq!(reader.next(&mut &[b'x'; 1_000][..]), None);
            assert!(reader.content.capacity() <= 256 * 1024);
        }
    }

    #[test]
    fn junk_and_frames_that_were_given_up_are_counted() {
        let (_, mut reader) = frames(100, b"abc\x0bMSH|1\x0bMSH|2\x1c\rGET / HTTP/1.1", 4);
        assert_eq!((reader.take_cut(), reader.take_cut(), reader.junk_bytes()), (1, 0, 14));
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Frame::Whole(b"secret".to_vec())), "Whole(6 bytes)");
    }

    proptest! {
        #[test]
        fn any_message_comes_through_in_pieces_of_any_size(
            // Neither FS nor VT: those are in the cases above.
            messages in prop::collection::vec(prop::collection::vec((0..=255_u8).prop_filter("content", |it| ![0x0b, 0x1c].contains(it)), 0..50), 0..5),
            piece in 1..40_usize,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let expected: Vec<Frame> = messages.into_iter().map(Frame::Whole).collect();
            prop_assert_eq!(frames(50, &bytes, piece).0, expected);
        }

        #[test]
        fn the_pieces_do_not_matter(bytes in prop::collection::vec(prop::sample::select(b"\x0b\x1c\r\nMSHFB|".to_vec()), 0..60), piece in 1..20_usize, limit in 0..20_usize) {
            let (whole, one) = frames(limit, &bytes, usize::MAX);
            let (pieces, many) = frames(limit, &bytes, piece);
            prop_assert_eq!(whole, pieces);
            prop_assert_eq!(one.place, many.place);
            prop_assert_eq!(one.content, many.content);
        }
    }
}
