//! MLLP's framing: a start block VT, the message, an end block FS and a CR (HL7 2.5.1 Appendix C, minimal lower layer protocol).
//!
//! Senders deviate from the specification; this reader takes whatever is unambiguous:
//!
//! - Bytes between two frames are skipped: LF, blanks, keep-alive bytes. If they are the beginning of another protocol, nothing behind
//!   them is read ([`Frames::take_stray`]).
//! - FS ends a frame when CR, LF or the VT of the next message follows, or when nothing follows: the connection ends, or the peer
//!   stays silent ([`Frames::end_if_silent`]). An FS with anything else behind it is content.
//! - In UTF-16 some letters contain the bytes of FS and CR (U+0D1C, U+4E1C). There FS ends a frame as above only behind the CR of
//!   a segment. Elsewhere FS and CR end one only if the next frame, or nothing, follows them.
//! - A VT within a frame begins a new one only if the header of a message follows at once: `MSH`, `FHS` or `BHS`, a delimiter, and
//!   encoding characters that the same delimiter ends. The peer has given the old frame up, so it is dropped. Any other VT is content:
//!   Word writes one for a soft line break, and `<VT>MSH text` may stand in a report.
//! - A frame that is longer than the limit, or that is large while there is no room for it ([`Room`]), is read to its end and not kept.
//!
//! This is no codec of `tokio-util`: the reader must know between two reads that a frame has begun, for its deadline, and a codec
//! shows nothing before a frame is complete.

use std::sync::Arc;
use std::time::Duration;

use domain::{Charset, MAX_MESSAGE_BYTES};

use crate::foreign::{self, KEEP_ALIVE, Stray};
use crate::hybrid;
use crate::large::{Room, Share};

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

/// How many bytes are kept of a frame that is passed over: enough for its MSH, from which the answer is made.
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
    /// The beginning of a large frame for which there was no room.
    NoRoom {
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
            Self::NoRoom { .. } => formatter.write_str("NoRoom"),
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
    /// Where large frames take their room.
    room: Option<Arc<Room>>,
    /// The room of the open frame, and how many bytes it may grow to.
    share: Share,
    grown_bytes: usize,
    /// The room of the last frame that has ended.
    ended_share: Share,
    place: Place,
    content: Vec<u8>,
    /// Whether only the beginning of the open frame is kept: it is too long, or there is no room for it.
    is_passed_over: bool,
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
            room: None,
            share: Share::default(),
            grown_bytes: 0,
            ended_share: Share::default(),
            place: Place::Between,
            content: Vec::new(),
            is_passed_over: false,
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

    /// The same, and large frames take their room from `room`.
    pub(crate) fn with_room(limit_bytes: usize, room: Arc<Room>) -> Self {
        Self { room: Some(room), ..Self::new(limit_bytes) }
    }

    /// The room that the last frame has taken. The caller holds it as long as the frame is in memory.
    pub(crate) fn take_share(&mut self) -> Share {
        std::mem::take(&mut self.ended_share)
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
                                self.cut += u64::from(self.is_passed_over || !self.content.is_empty());
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
        // Not cleared: the buffer of a large frame that was given up has no room any more.
        self.content = Vec::new();
        self.is_passed_over = false;
        (self.share, self.grown_bytes) = (Share::default(), 0);
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
        if self.is_passed_over {
            return;
        }
        let length = self.content.len() + content.len();
        if length > self.limit_bytes || !self.has_room(length) {
            self.is_passed_over = true;
            // These bytes may be shorter than a head. The buffer, which may be as long as the limit, is freed.
            let head = HEAD_BYTES.min(self.limit_bytes);
            let missing = head.saturating_sub(self.content.len());
            let parts = [self.content.get(..head).unwrap_or(&self.content), content.get(..missing).unwrap_or_default()];
            self.content = parts.concat();
            self.share = Share::default();
        } else {
            self.content.extend_from_slice(content);
        }
    }

    /// Whether the open frame may grow to so many bytes.
    fn has_room(&mut self, length: usize) -> bool {
        let Some(room) = self.room.as_ref().filter(|_| length > self.grown_bytes) else { return true };
        let Some(grown) = room.grow(&mut self.share, length) else { return false };
        self.grown_bytes = grown;
        if grown > MAX_MESSAGE_BYTES {
            // Else the buffer could grow to more than was taken for it.
            self.content.reserve_exact(grown.min(self.limit_bytes).saturating_sub(self.content.len()));
        }
        true
    }

    fn end(&mut self) -> Frame {
        self.place = Place::Between;
        // The frame takes the buffer, so that a connection does not keep the memory of a large frame.
        let content = std::mem::take(&mut self.content);
        self.ended_share = std::mem::take(&mut self.share);
        match (std::mem::take(&mut self.is_passed_over), self.length > self.limit_bytes) {
            (false, _) => Frame::Whole(content),
            (true, true) => Frame::TooLong { head: content },
            (true, false) => Frame::NoRoom { head: content },
        }
    }
}

/// Frames a message.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[START_BLOCK], message, &[END_BLOCK, CARRIAGE_RETURN]].concat()
}

#[cfg(test)]
mod tests;
