//! MLLP's framing: a start block VT, the message, an end block FS and a CR (HL7 2.5.1 Appendix C, minimal lower layer protocol).
//!
//! Senders deviate from the specification; this reader takes whatever is unambiguous:
//!
//! - Bytes between two frames are skipped: LF, blanks, keep-alive bytes. If they are the beginning of another protocol, nothing behind
//!   them is read ([`Frames::take_stray`]).
//! - FS ends a frame when CR, LF or the VT of the next message follows, or when nothing follows: the connection ends, or the peer
//!   stays silent ([`Frames::end_if_silent`]). An FS with anything else behind it is content.
//! - In UTF-16 the bytes of FS and CR are also those of letters (U+0D1C, U+4E1C). There FS ends a frame as above only behind the CR of a
//!   segment. Elsewhere FS and CR end one only if the next frame, or nothing, follows them.
//! - A VT within a frame begins a new one only if the header of a message follows at once: `MSH`, `FHS` or `BHS`, a delimiter, and
//!   encoding characters that the same delimiter ends. The peer has given the old frame up, so it is dropped. Any other VT is content:
//!   Word writes one for a soft line break, and `<VT>MSH text` may stand in a report.
//! - A frame that is longer than the limit is read to its end and not kept.
//!
//! This is no codec of `tokio-util`: a deadline for a frame that has begun must be known between two reads, and a codec
//! shows nothing before a frame is complete.

use std::time::Duration;

use domain::Charset;

use crate::foreign::{self, KEEP_ALIVE, Stray};
use crate::hybrid;

/// Begins a frame.
pub(crate) const START_BLOCK: u8 = 0x0b;
/// Ends a frame, with the CR behind it.
pub(crate) const END_BLOCK: u8 = 0x1c;
const CARRIAGE_RETURN: u8 = b'\r';

/// An FS behind the end of a segment ends a frame when nothing follows it for this long.
const SILENCE: Duration = Duration::from_millis(500);

/// Elsewhere an FS may be content, and the bytes after it may be delayed. Senders wait 5 s for an answer, or longer.
const LONG_SILENCE: Duration = Duration::from_secs(3);

/// How many bytes of a message show whether it is in UTF-16: blanks may precede its header.
const UTF_16_HEAD_BYTES: usize = 64;

/// How many bytes are kept of a frame that is too long: enough for its MSH, from which the answer is made.
pub(crate) const HEAD_BYTES: usize = 4 * 1024;

/// A frame that a peer has sent.
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

/// The position of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Inside,
    /// After an FS that may or may not end the frame.
    BehindEnd,
    /// After FS and CR in UTF-16, which may be content as well: only the next frame, or silence, shows that they were the end.
    BehindWideEnd,
    /// After a VT that may or may not begin a frame; `ahead` holds the bytes read since. If an end precedes the VT, it ends the old
    /// frame as soon as the VT begins a new one.
    BehindStart {
        /// FS, or FS and CR; empty if neither stands before the VT.
        end: &'static [u8],
    },
    /// The peer speaks another protocol: nothing more is read.
    Foreign,
}

/// Takes bytes in and gives frames out. It keeps no more than one frame.
pub(crate) struct Frames {
    limit_bytes: usize,
    place: Place,
    content: Vec<u8>,
    is_too_long: bool,
    /// The length of the content, with the bytes that are not kept.
    length: usize,
    /// Its last two bytes.
    tail: [u8; 2],
    /// Bytes after a VT, as long as they may be a header.
    ahead: Vec<u8>,
    stray_bytes: usize,
    stray_head: Vec<u8>,
    stray: Option<Stray>,
    /// Whether this stretch of stray bytes was reported.
    is_told: bool,
    cut: u64,
}

/// Whether bytes are the beginning of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Yes,
    No,
    Unknown,
}

/// Whether bytes after a VT begin a message: the name of a header, a delimiter, and two to five encoding characters followed by
/// the same delimiter (MSH-1 and MSH-2). The prefix of the hybrid protocol may precede it.
fn opening(ahead: &[u8]) -> Opening {
    let message = if ahead.first() == Some(&b'D') {
        match ahead.get(hybrid::PREFIX_BYTES..) {
            Some(behind) if hybrid::is_prefix(ahead) => behind,
            None if ahead.iter().skip(1).all(u8::is_ascii_digit) => return Opening::Unknown,
            _ => return Opening::No,
        }
    } else {
        ahead
    };
    let is_name = [b"MSH", b"FHS", b"BHS"].iter().any(|name| message.iter().zip(name.iter()).all(|(byte, of)| byte == of));
    if !is_name {
        return Opening::No;
    }
    let Some((delimiter, encoding)) = message.get(3..).and_then(<[u8]>::split_first) else { return Opening::Unknown };
    if !delimiter.is_ascii_punctuation() {
        return Opening::No;
    }
    let end = encoding.iter().position(|byte| byte == delimiter);
    // `MSH: 12: high` is a line of a report.
    if !encoding.iter().take(end.unwrap_or(encoding.len())).all(u8::is_ascii_punctuation) {
        return Opening::No;
    }
    match end {
        Some(2..=5) => Opening::Yes,
        None if encoding.len() <= 5 => Opening::Unknown,
        _ => Opening::No,
    }
}

/// The same for bytes after FS and VT, where a byte order mark or `M` in UTF-16 is enough.
fn opening_behind_end(ahead: &[u8]) -> Opening {
    const WIDE: [&[u8]; 5] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"M\0S\0", b"\0M\0S"];
    if WIDE.contains(&ahead) {
        Opening::Yes
    } else if !ahead.is_empty() && WIDE.iter().any(|start| start.starts_with(ahead)) {
        Opening::Unknown
    } else {
        opening(ahead)
    }
}

impl Frames {
    /// A reader of frames of at most so many bytes of content.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            place: Place::Between,
            content: Vec::new(),
            is_too_long: false,
            length: 0,
            tail: [0; 2],
            ahead: Vec::new(),
            stray_bytes: 0,
            stray_head: Vec::new(),
            stray: None,
            is_told: false,
            cut: 0,
        }
    }

    /// Whether a frame has begun that has not ended.
    pub(crate) fn is_within(&self) -> bool {
        !matches!(self.place, Place::Between | Place::Foreign)
    }

    /// How long the peer must stay silent until what was read counts as a frame. `None` as long as no end block was read.
    pub(crate) fn silence(&self) -> Option<Duration> {
        match self.place {
            Place::BehindEnd if self.is_behind_segment() => Some(SILENCE),
            Place::BehindEnd if self.utf_16().is_some() => None,
            Place::BehindEnd | Place::BehindWideEnd => Some(LONG_SILENCE),
            _ => None,
        }
    }

    /// The order of bytes of a content in UTF-16.
    fn utf_16(&self) -> Option<Charset> {
        Charset::utf_16_of(self.content.get(..UTF_16_HEAD_BYTES).unwrap_or(&self.content))
    }

    /// Whether the content ends as a segment does, or is empty. An end block is expected there.
    fn is_behind_segment(&self) -> bool {
        match self.utf_16().and_then(|charset| charset.encode("\r\n")).as_deref() {
            Some([a, b, c, d]) => self.length.is_multiple_of(2) && [[*a, *b], [*c, *d]].contains(&self.tail),
            _ => self.length == 0 || matches!(self.tail, [_, CARRIAGE_RETURN | b'\n']),
        }
    }

    /// Whether FS may be half of a letter here.
    fn may_be_half_a_letter(&self) -> bool {
        self.utf_16().is_some() && !self.is_behind_segment()
    }

    /// Bytes received since the last frame that belong to no frame and are no keep-alive.
    pub(crate) fn stray_bytes(&self) -> usize {
        self.stray_bytes
    }

    /// The kind of the bytes since the last frame, as soon as it is known; once for each stretch of them.
    pub(crate) fn take_stray(&mut self) -> Option<Stray> {
        self.stray.take()
    }

    /// The number of frames that began and gave way to another, since the last call.
    pub(crate) fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    /// Reads up to the end of a frame, and removes the bytes read from `input`. `None` if all bytes are read and no frame has
    /// ended.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Option<Frame> {
        while let Some((&byte, rest)) = input.split_first() {
            match self.place {
                Place::Between => {
                    let start = memchr::memchr(START_BLOCK, input);
                    let (before, behind) = input.split_at_checked(start.unwrap_or(input.len())).unwrap_or((input, &[]));
                    *input = behind.get(1..).unwrap_or_default();
                    self.skip(before);
                    // A foreign protocol is not read any further.
                    if self.place == Place::Between && start.is_some() {
                        self.begin();
                    }
                }
                Place::Inside => {
                    let until = memchr::memchr2(START_BLOCK, END_BLOCK, input).unwrap_or(input.len());
                    let (content, behind) = input.split_at_checked(until).unwrap_or((input, &[]));
                    self.keep(content);
                    *input = behind.get(1..).unwrap_or_default();
                    match behind.first() {
                        Some(&END_BLOCK) => self.place = Place::BehindEnd,
                        Some(_) => self.look_ahead(&[]),
                        None => {}
                    }
                }
                Place::BehindEnd if self.may_be_half_a_letter() => {
                    if byte == CARRIAGE_RETURN {
                        *input = rest;
                        self.place = Place::BehindWideEnd;
                    } else {
                        self.go_on(&[END_BLOCK]);
                    }
                }
                Place::BehindEnd => match byte {
                    CARRIAGE_RETURN | b'\n' => {
                        *input = rest;
                        return Some(self.end());
                    }
                    START_BLOCK => {
                        *input = rest;
                        self.look_ahead(&[END_BLOCK]);
                    }
                    // Content. Another FS may be the end.
                    _ => self.go_on(&[END_BLOCK]),
                },
                Place::BehindWideEnd => {
                    if byte == START_BLOCK {
                        *input = rest;
                        self.look_ahead(&[END_BLOCK, CARRIAGE_RETURN]);
                    } else {
                        self.go_on(&[END_BLOCK, CARRIAGE_RETURN]);
                    }
                }
                Place::BehindStart { end } => {
                    self.ahead.push(byte);
                    let is_behind_end = !end.is_empty();
                    let opening = if is_behind_end { opening_behind_end(&self.ahead) } else { opening(&self.ahead) };
                    match opening {
                        Opening::Unknown => *input = rest,
                        // This byte may be a VT or an FS, so it is read again.
                        Opening::No => {
                            self.ahead.pop();
                            self.stay(end);
                        }
                        Opening::Yes => {
                            *input = rest;
                            let ended = is_behind_end.then(|| self.end());
                            if !is_behind_end {
                                // A doubled start block, with nothing after the first one, cuts no frame.
                                self.cut += u64::from(self.is_too_long || !self.content.is_empty());
                            }
                            self.begin();
                            self.keep_ahead();
                            if ended.is_some() {
                                return ended;
                            }
                        }
                    }
                }
                Place::Foreign => *input = &[],
            }
        }
        None
    }

    /// The frame whose end block was read, if the peer sends nothing after it.
    pub(crate) fn end_if_silent(&mut self) -> Option<Frame> {
        match self.place {
            Place::BehindEnd if self.may_be_half_a_letter() => None,
            Place::BehindEnd | Place::BehindWideEnd => Some(self.end()),
            Place::BehindStart { end: [_, ..] } => {
                let ended = self.end();
                self.begin();
                self.keep_ahead();
                Some(ended)
            }
            _ => None,
        }
    }

    /// Skips bytes that belong to no frame.
    fn skip(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let counts = !KEEP_ALIVE.contains(&byte);
            self.stray_bytes += usize::from(counts);
            // From the first byte on that is no keep-alive.
            if (counts || !self.stray_head.is_empty()) && self.stray_head.len() < foreign::HEAD_BYTES {
                self.stray_head.push(byte);
            }
        }
        let stray = if self.is_told { Stray::Unknown } else { foreign::tell(&self.stray_head) };
        if stray != Stray::Unknown {
            self.is_told = true;
            self.stray = Some(stray);
        }
        // Nothing after it is read.
        if matches!(stray, Stray::Protocol(_)) {
            self.place = Place::Foreign;
        }
    }

    fn begin(&mut self) {
        self.content.clear();
        self.is_too_long = false;
        (self.length, self.tail) = (0, [0; 2]);
        self.stray_bytes = 0;
        self.stray_head.clear();
        self.is_told = false;
        self.place = Place::Inside;
    }

    /// Checks whether a VT within a frame begins another one.
    fn look_ahead(&mut self, end: &'static [u8]) {
        self.ahead.clear();
        self.place = Place::BehindStart { end };
    }

    /// Takes what looked like an end for content.
    fn go_on(&mut self, end: &[u8]) {
        self.keep(end);
        self.place = Place::Inside;
    }

    /// Takes a VT and the bytes after it as content of the open frame.
    fn stay(&mut self, end: &[u8]) {
        self.go_on(end);
        self.keep(&[START_BLOCK]);
        self.keep_ahead();
    }

    fn keep_ahead(&mut self) {
        let ahead = std::mem::take(&mut self.ahead);
        self.keep(&ahead);
    }

    fn keep(&mut self, content: &[u8]) {
        self.length += content.len();
        match *content {
            [.., one, two] => self.tail = [one, two],
            [one] => self.tail = [self.tail[1], one],
            [] => {}
        }
        if !self.is_too_long && self.content.len() + content.len() > self.limit_bytes {
            self.is_too_long = true;
            // These bytes may be shorter than a head. The buffer, which may be as long as the limit, is freed.
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
        // The frame takes the buffer, so that a connection does not keep the memory of a large frame.
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
    fn frames_are_read_in_pieces_of_any_size() {
        let cases: [(&[u8], &[&[u8]]); 20] = [
            (b"\x0bMSH|a\r\x1c\r", &[b"MSH|a\r"]),
            (b"\x0bone\x1c\r\x0btwo\x1c\r", &[b"one", b"two"]),
            (b"junk\r\n\x0bone\x1c\r\n\n \0\x0btwo\x1c\r\n", &[b"one", b"two"]),
            (b"\x0b\x1c\r\x0bx\x1c\r", &[b"", b"x"]),
            // Without the CR.
            (b"\x0bone\x1c\x0bMSH|^~\\&|2\x1c\r", &[b"one", b"MSH|^~\\&|2"]),
            (b"\x0bone\x1c\n\x0btwo\x1c\n", &[b"one", b"two"]),
            // Content.
            (b"\x0ba\x1cb\x1c\x1c\r", &[b"a\x1cb\x1c"]),
            (b"\x0ba\x0bb\0\x0bMS\x0bMSX\x0bFH\x1c\r", &[b"a\x0bb\0\x0bMS\x0bMSX\x0bFH"]),
            // A peer that starts over.
            (b"\x0bMSH|lost\x0bMSH|^~\\&|kept\x1c\r", &[b"MSH|^~\\&|kept"]),
            (b"\x0b\x0bMSH#^~\\&#kept\x1c\r", &[b"MSH#^~\\&#kept"]),
            (b"\x0bMSH|lost\x0bD23\rMSH|^~\\&|kept\r00011123\x1c\r", &[b"D23\rMSH|^~\\&|kept\r00011123"]),
            // A soft line break of Word, and names of headers in a text.
            (
                b"\x0bMSH|^~\\&|a\x0bMSH text\x0bMSH|text\x0bBHS, too\x0bMSH.\x1c\r",
                &[b"MSH|^~\\&|a\x0bMSH text\x0bMSH|text\x0bBHS, too\x0bMSH."],
            ),
            (
                b"\x0bMSH|^~\\&|a\x0bMSH: 12: high\x0bMSH|12|\x0bMSH-(a)-b\x1c\r",
                &[b"MSH|^~\\&|a\x0bMSH: 12: high\x0bMSH|12|\x0bMSH-(a)-b"],
            ),
            (b"\x0bMSH|^~\\&|a\x1c\x0bb\x1c\r", &[b"MSH|^~\\&|a\x1c\x0bb"]),
            // In UTF-16.
            (b"\x0bone\x1c\x0b\xff\xfeM\0S\0\r\0\x1c\r", &[b"one", b"\xff\xfeM\0S\0\r\0"]),
            (b"\x0b\0M\0S\0\r\x1c\r\x0btwo\x1c\r", &[b"\0M\0S\0\r", b"two"]),
            // Letters with the bytes of FS, CR, LF and VT: U+0D1C, U+4E1C and U+0B1C, in the one order and the other.
            (b"\x0bM\0S\0\x1c\r\x1cN\x1c\x0bM\0\r\0\x1c\r", &[b"M\0S\0\x1c\r\x1cN\x1c\x0bM\0\r\0"]),
            (b"\x0b\0M\0S\x20\x1c\r\x15\x1c\r\0x\0\r\x1c\r", &[b"\0M\0S\x20\x1c\r\x15\x1c\r\0x\0\r"]),
            // Without the CR of the last segment, the next frame shows that it was one.
            (b"\x0bM\0S\0x\0\x1c\r\x0bMSH|^~\\&|2\x1c\r", &[b"M\0S\0x\0", b"MSH|^~\\&|2"]),
            (b"no frame at all", &[]),
        ];
        for (bytes, expected) in cases {
            for piece in 1..=bytes.len() {
                assert_eq!(frames(100, bytes, piece).0, whole(expected), "{bytes:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_end_block_without_cr_ends_a_frame_when_the_peer_is_silent() {
        let (found, mut reader) = frames(100, b"\x0bone\x1c", 3);
        assert_eq!((found, reader.silence()), (vec![], Some(LONG_SILENCE)));
        assert_eq!(reader.end_if_silent(), Some(Frame::Whole(b"one".to_vec())));
        assert_eq!(reader.end_if_silent(), None);
        assert!(!reader.is_within());
        let (found, mut reader) = frames(100, b"\x0bone", 3);
        assert_eq!((found, reader.silence(), reader.end_if_silent(), reader.is_within()), (vec![], None, None, true));
        // Behind the end of a segment there is less doubt, and within a letter of UTF-16 there is no end.
        for (bytes, silence, ends) in [
            (&b"\x0bone\r\x1c"[..], Some(SILENCE), true),
            (b"\x0bM\0S\0\r\0\x1c", Some(SILENCE), true),
            (b"\x0bM\0S\0x\0\x1c\r", Some(LONG_SILENCE), true),
            (b"\x0bM\0S\0x\0\x1c", None, false),
            (b"\x0b\0M\0S\x20\x1c", None, false),
        ] {
            let (_, mut reader) = frames(100, bytes, 3);
            assert_eq!((reader.silence(), reader.end_if_silent().is_some()), (silence, ends), "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_read_to_its_end_and_not_kept() {
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
    fn stray_bytes_and_frames_that_were_given_up_are_counted() {
        let (_, mut reader) = frames(100, b"abc\x0bMSH|1\x0bMSH|^~\\&|2\x1c\r\0\x02\r\nhello world", 4);
        assert_eq!((reader.take_cut(), reader.take_cut(), reader.stray_bytes()), (1, 0, 10), "keep-alive bytes do not count");
        // A doubled start block has no frame before it.
        let (_, mut reader) = frames(100, b"\x0b\x0bMSH|^~\\&|2\x1c\r", 4);
        assert_eq!(reader.take_cut(), 0);
    }

    #[test]
    fn nothing_is_read_behind_the_first_bytes_of_another_protocol() {
        let request = b"\r\nPOST /x HTTP/1.1\r\nHost: localhost:2575\r\n\r\n\x0bMSH|^~\\&|a\x1c\r";
        for piece in 1..request.len() {
            let (found, mut reader) = frames(100, request, piece);
            assert_eq!((found, reader.take_stray()), (vec![], Some(Stray::Protocol("HTTP"))), "{piece}");
        }
    }

    #[test]
    fn an_unframed_message_and_astm_are_reported_once_and_later_frames_are_read() {
        for (bytes, stray) in
            [(&b"\0MSH|^~\\&|1\rPID|1\r\x0bx\x1c\r"[..], Stray::Unframed), (b"\x05\x05\x0bx\x1c\r", Stray::Astm)]
        {
            let mut reader = Frames::new(100);
            let mut input = bytes;
            assert_eq!(reader.next(&mut input), Some(Frame::Whole(b"x".to_vec())));
            assert_eq!((reader.take_stray(), reader.take_stray()), (Some(stray), None));
        }
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
            // Nor UTF-16, where FS and CR may be a letter.
            prop_assume!(messages.iter().all(|message| Charset::utf_16_of(message).is_none()));
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let expected: Vec<Frame> = messages.into_iter().map(Frame::Whole).collect();
            prop_assert_eq!(frames(50, &bytes, piece).0, expected);
        }

        #[test]
        fn a_frame_with_one_message_is_one_frame_whatever_its_text_holds(
            text in prop::collection::vec(prop::sample::select(vec![&b"\x0b"[..], b"\x1c", b"MSH", b"MSH text", b"BHS|", b"D23\r", b"x", b" ", b"|", b"^~\\&", b"\0", b"\x05", b"GET / HTTP/1.1"]), 0..20),
            piece in 1..20_usize,
        ) {
            let message = [&b"MSH|^~\\&|A|"[..], &text.concat(), b"x"].concat();
            // Only these two mean something to MLLP.
            let is_ambiguous = [&b"\x1c\r"[..], b"\x0bMSH|^~\\&|", b"\x0bMSH^~\\&^", b"\x0bD23\rMSH|^~\\&|", b"\x0bD23\rMSH^~\\&^", b"\x0bBHS|^~\\&|", b"\x0bD23\rBHS|^~\\&|"].iter().any(|it| memchr::memmem::find(&message, it).is_some());
            prop_assume!(!is_ambiguous);
            prop_assert_eq!(frames(1000, &framed(&message), piece).0, vec![Frame::Whole(message)]);
        }

        #[test]
        fn the_size_of_the_pieces_does_not_matter(bytes in prop::collection::vec(prop::sample::select(b"\x0b\x1c\r\nMSHFB|^~D23\xff\xfe".to_vec()), 0..60), piece in 1..20_usize, limit in 0..20_usize) {
            let (whole, one) = frames(limit, &bytes, usize::MAX);
            let (pieces, many) = frames(limit, &bytes, piece);
            prop_assert_eq!(whole, pieces);
            prop_assert_eq!(one.place, many.place);
            prop_assert_eq!(one.content, many.content);
        }
    }
}
