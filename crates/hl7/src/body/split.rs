//! Several messages in one body: a file or batch with its headers and trailers (HL7 2.5.1 §2.10.3), or a plain run of them.

use std::ops::Range;

use domain::Charset;
use serde::Serialize;

/// What a part of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// FHS.
    FileHeader,
    /// BHS.
    BatchHeader,
    /// From MSH up to the next part. Lines that follow no MSH are a message of their own, so that nothing is lost.
    Message,
    /// BTS.
    BatchTrailer,
    /// FTS.
    FileTrailer,
}

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Where it is, in bytes.
    pub range: Range<usize>,
}

/// A body taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    parts: Vec<Part>,
}

/// Something is wrong with a batch, and not with a message of it: perhaps it was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchProblem {
    /// `bts-count`, `fts-count`, `no-bts` or `no-fts`.
    pub code: &'static str,
    /// BTS-1 or FTS-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<u64>,
    /// Messages of the batch, or batches of the file.
    pub found: u64,
}

impl std::fmt::Display for BatchProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.declared {
            Some(declared) => write!(f, "{}: {declared} declared, {} found", self.code, self.found),
            None => write!(f, "{}: {} found", self.code, self.found),
        }
    }
}

impl Split {
    /// Parts whose places are known.
    pub(crate) fn of_parts(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// Everything, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Where the messages are.
    pub fn messages(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.iter().filter(|part| part.kind == PartKind::Message).map(|part| part.range.clone())
    }

    /// Whether it is more than a message: it has a header or trailer, or more than one message.
    pub fn is_batch(&self) -> bool {
        !matches!(self.parts.as_slice(), [Part { kind: PartKind::Message, .. }] | [])
    }

    /// Compares BTS-1 and FTS-1 with what is there, and headers with trailers. An empty count says nothing.
    pub fn problems(&self, body: &[u8], charset: Charset) -> Vec<BatchProblem> {
        let mut count = Count::default();
        for part in &self.parts {
            let declared = || declared(body, &part.range, charset);
            match part.kind {
                PartKind::FileHeader => {
                    count.end_file(None);
                    count.in_file = true;
                }
                PartKind::BatchHeader => {
                    if count.in_batch || count.messages > 0 {
                        count.end_batch(None);
                    }
                    count.in_batch = true;
                }
                PartKind::Message => count.messages += 1,
                PartKind::BatchTrailer => count.end_batch(Some(declared())),
                PartKind::FileTrailer => count.end_file(Some(declared())),
            }
        }
        count.end_file(None);
        count.problems
    }
}

/// What has been seen of a body.
#[derive(Default)]
struct Count {
    /// Whether there was a header, and no end yet.
    in_file: bool,
    in_batch: bool,
    /// Of the batch, of the file.
    messages: u64,
    batches: u64,
    problems: Vec<BatchProblem>,
}

impl Count {
    /// A batch ends with its trailer, which may have a count, or without one. BHS and BTS may be left out (HL7 2.5.1 §2.10.3.1): then the
    /// messages are a batch all the same.
    fn end_batch(&mut self, trailer: Option<Option<u64>>) {
        let found = std::mem::take(&mut self.messages);
        let had_header = std::mem::take(&mut self.in_batch);
        if had_header && trailer.is_none() {
            self.problems.push(BatchProblem { code: "no-bts", declared: None, found });
        }
        self.compare("bts-count", trailer.flatten(), found);
        self.batches += u64::from(had_header || trailer.is_some() || found > 0);
    }

    fn end_file(&mut self, trailer: Option<Option<u64>>) {
        if self.in_batch || self.messages > 0 {
            self.end_batch(None);
        }
        let found = std::mem::take(&mut self.batches);
        if std::mem::take(&mut self.in_file) && trailer.is_none() {
            self.problems.push(BatchProblem { code: "no-fts", declared: None, found });
        }
        self.compare("fts-count", trailer.flatten(), found);
    }

    fn compare(&mut self, code: &'static str, declared: Option<u64>, found: u64) {
        if declared.is_some_and(|declared| declared != found) {
            self.problems.push(BatchProblem { code, declared, found });
        }
    }
}

/// Field 1 of a trailer, if it is a number.
fn declared(body: &[u8], range: &Range<usize>, charset: Charset) -> Option<u64> {
    let text = charset.decode(body.get(range.clone())?).ok()?;
    let mut after_name = text.chars().skip_while(|it| !it.is_alphabetic()).skip(3);
    let field = after_name.next()?;
    after_name.take_while(|&it| it != field && it.is_ascii() && !it.is_ascii_control()).collect::<String>().trim().parse().ok()
}

/// Takes a body apart where a line begins with a header, a trailer or an MSH. Linear in the body.
///
/// A segment is its name and the field separator behind it (HL7 2.5.1 §2.5.4), and here that separator must be one that is in use: of
/// the open message (MSH-1), of the open batch (BHS-1) or file (FHS-1); or `|` where no MSH is open. So `BTS-Shunt` and `FHS: 148/min` in
/// a text are text.
///
/// - Where no message is open, MSH with any separator begins one. Behind a CR, which ends a segment whatever follows, a header or MSH
///   with a separator of its own begins a part if three encoding characters or more and that separator follow. Blanks before it are passed
///   over.
/// - Behind a LF, which may be content of a field, an MSH, BHS or FHS in an open message must be followed by an encoding character too,
///   and a trailer by a count or by nothing. Behind MLLP's end block it is as behind a CR.
/// - A trailer ends what a header began. In the open message of a body without a header it is content of that message.
///
/// Nothing is lost: what stands between two parts belongs to the one before. Lines that belong to no part are a message of their own.
/// Only blank lines are in no part. Headers without messages are an empty batch.
pub fn split(body: &[u8], charset: Charset) -> Split {
    let text = Text { body, unit: charset.unit_bytes(), is_big_endian: is_big_endian(body, charset), charset };
    let mut parts: Vec<Part> = Vec::new();
    let mut open = Open::default();
    let mut behind_cr = true;
    for line in text.lines() {
        let Line { range, ends_with_cr } = line;
        let bytes = body.get(range.clone()).unwrap_or_default();
        // Before a message, a byte order mark is framing.
        let is_blank = is_blank(bytes) || open.message.is_none() && is_blank(without_marks(bytes));
        let mark = if is_blank { None } else { text.mark(&range) };
        let begun = mark.filter(|mark| open.begins(mark, behind_cr, &parts, &text));
        // Blank lines change nothing, but a CR or the end of a frame among them ends the segment before them.
        behind_cr = ends_with_cr || ends_frame(bytes) || is_blank && behind_cr;
        let last_is_message = parts.last().is_some_and(|part| part.kind == PartKind::Message);
        match begun {
            Some(mark) => {
                open.enter(&mark);
                parts.push(Part { kind: mark.kind, range });
            }
            None if last_is_message => {
                if let Some(part) = parts.last_mut() {
                    part.range.end = range.end;
                }
            }
            None if is_blank => {}
            None => {
                open.message = Some(&[]);
                parts.push(Part { kind: PartKind::Message, range });
            }
        }
    }
    Split { parts }
}

/// The field separators that are in use, as they stand in the body; empty for a message without MSH.
#[derive(Default)]
struct Open<'a> {
    file: Option<&'a [u8]>,
    batch: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
}

/// A line that begins with the name of a header, a trailer or an MSH, and a character that can be a field separator.
#[derive(Clone, Copy)]
struct Mark<'a> {
    kind: PartKind,
    separator: &'a [u8],
    /// Where the separator ends.
    behind: usize,
    /// MLLP's end block stands before the name.
    is_behind_frame: bool,
    /// Blanks stand before the name.
    is_indented: bool,
}

impl<'a> Open<'a> {
    /// Whether the line is what it looks like, and not content of the open message.
    fn begins(&self, mark: &Mark<'_>, behind_cr: bool, parts: &[Part], text: &Text<'_>) -> bool {
        let in_use = [self.message, self.batch, self.file];
        let is_usual = self.message.is_none_or(<[u8]>::is_empty) && text.ascii(mark.separator) == Some(b'|');
        let is_known = is_usual || in_use.contains(&Some(mark.separator));
        let is_content_possible = self.message.is_some() && !behind_cr && !mark.is_behind_frame;
        match mark.kind {
            PartKind::Message if self.message.is_none() => true,
            PartKind::Message | PartKind::FileHeader | PartKind::BatchHeader => {
                let encoding = text.encoding_characters(mark);
                if mark.is_indented && self.message.is_some() {
                    return mark.kind == PartKind::Message && is_known && !is_content_possible && encoding > 0;
                }
                if is_known { !is_content_possible || encoding > 0 } else { !is_content_possible && encoding >= 3 }
            }
            PartKind::BatchTrailer | PartKind::FileTrailer => {
                // Behind a trailer nothing is open that this could be content of.
                let follows_a_trailer = self.message.is_none()
                    && parts.last().is_some_and(|it| matches!(it.kind, PartKind::BatchTrailer | PartKind::FileTrailer));
                let ends_something = match mark.kind {
                    PartKind::BatchTrailer => self.batch.is_some() || self.file.is_some(),
                    _ => self.file.is_some(),
                };
                let is_trailer = follows_a_trailer || ends_something && is_known && (!is_content_possible || text.is_count(mark));
                is_trailer && (!mark.is_indented || self.message.is_none())
            }
        }
    }

    fn enter(&mut self, mark: &Mark<'a>) {
        let separator = Some(mark.separator);
        *self = match mark.kind {
            PartKind::FileHeader => Self { file: separator, batch: None, message: None },
            PartKind::BatchHeader => Self { batch: separator, message: None, ..*self },
            PartKind::Message => Self { message: separator, ..*self },
            PartKind::BatchTrailer => Self { batch: None, message: None, ..*self },
            PartKind::FileTrailer => Self::default(),
        };
    }
}

/// Behind byte order marks and MLLP's framing, in any number.
fn without_marks(line: &[u8]) -> &[u8] {
    line.get(framing(line, Charset::UTF_8)..).unwrap_or_default()
}

/// Whether a line ends with MLLP's end block, in UTF-16 or not.
fn ends_frame(line: &[u8]) -> bool {
    line.iter().rev().find(|byte| !matches!(byte, 0 | b'\r' | b'\n')) == Some(&0x1c)
}

/// Nothing but line ends, blanks and framing, in UTF-16 or not.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x1c))
}

/// Bytes of which only the characters of ASCII are known.
#[derive(Clone, Copy)]
struct Text<'a> {
    body: &'a [u8],
    /// How many bytes a character of ASCII has.
    unit: usize,
    is_big_endian: bool,
    charset: Charset,
}

/// A line with its end.
struct Line {
    range: Range<usize>,
    /// A CR without LF, which is the end of a segment.
    ends_with_cr: bool,
}

impl<'a> Text<'a> {
    /// All lines. In UTF-16 a line end has two bytes. CRLF is one line end.
    fn lines(self) -> impl Iterator<Item = Line> + use<'a> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= self.body.len() {
                return None;
            }
            let line_end = match self.unit {
                1 => memchr::memchr2(b'\r', b'\n', self.body.get(start..).unwrap_or_default()).map(|at| start + at),
                _ => (start..self.body.len()).step_by(2).find(|&at| matches!(self.ascii_at(at), Some(b'\r' | b'\n'))),
            };
            let (end, ends_with_cr) = line_end.map_or((self.body.len(), true), |at| {
                let is_cr = self.ascii_at(at) == Some(b'\r');
                let is_crlf = is_cr && self.ascii_at(at + self.unit) == Some(b'\n');
                (at + if is_crlf { 2 * self.unit } else { self.unit }, is_cr && !is_crlf)
            });
            let range = start..end.min(self.body.len());
            start = range.end;
            Some(Line { range, ends_with_cr })
        })
    }

    /// The character at an offset, if it is of ASCII.
    fn ascii_at(self, at: usize) -> Option<u8> {
        self.ascii(self.body.get(at..at.checked_add(self.unit)?)?)
    }

    /// A character, if it is of ASCII.
    fn ascii(self, character: &[u8]) -> Option<u8> {
        let byte = match *character {
            [byte] => byte,
            [high, low] => {
                let [high, low] = if self.is_big_endian { [high, low] } else { [low, high] };
                Some(low).filter(|_| high == 0)?
            }
            _ => return None,
        };
        Some(byte).filter(u8::is_ascii)
    }

    /// The characters of ASCII from an offset on, up to another one.
    fn characters(self, from: usize) -> impl Iterator<Item = u8> {
        (from..).step_by(self.unit).map_while(move |at| self.ascii_at(at))
    }

    /// The line as the beginning of a part, with MLLP framing and blanks before it or not.
    fn mark(self, line: &Range<usize>) -> Option<Mark<'a>> {
        let mut start = line.start;
        let mut is_indented = false;
        loop {
            start += framing(self.body.get(start..line.end)?, self.charset);
            match self.ascii_at(start) {
                Some(b' ' | b'\t') => start += self.unit,
                _ => break,
            }
            is_indented = true;
        }
        let character = |n: usize| self.ascii_at(start + n * self.unit);
        let kind = match [character(0)?, character(1)?, character(2)?] {
            [b'M', b'S', b'H'] => PartKind::Message,
            [b'F', b'H', b'S'] => PartKind::FileHeader,
            [b'B', b'H', b'S'] => PartKind::BatchHeader,
            [b'B', b'T', b'S'] => PartKind::BatchTrailer,
            [b'F', b'T', b'S'] => PartKind::FileTrailer,
            _ => return None,
        };
        let at = start + 3 * self.unit;
        // Seen in the wild: an MSH that has lost its MSH-1.
        let has_lost_its_own = kind == PartKind::Message && self.characters(at).take(5).eq(*b"^~\\&|");
        if has_lost_its_own {
            let usual = self.separator(at + 4 * self.unit)?;
            return Some(Mark { kind, separator: usual, behind: at, is_behind_frame: false, is_indented });
        }
        let separator = self.separator(at)?;
        let is_behind_frame = self.body.get(line.start..start).is_some_and(|framing| framing.contains(&0x1c));
        Some(Mark { kind, separator, behind: at + separator.len(), is_behind_frame, is_indented })
    }

    /// The character at an offset, if it can be a field separator: of ASCII or not, but no letter, digit, blank or control character.
    fn separator(self, at: usize) -> Option<&'a [u8]> {
        let rest = self.body.get(at..).filter(|it| !it.is_empty())?;
        let separates = self.ascii_at(at).is_none_or(|it| it.is_ascii_punctuation());
        let bytes = match (self.unit, rest.first()) {
            (1, Some(&lead)) if self.charset == Charset::UTF_8 => match lead {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0.. => 4,
                _ => 1,
            },
            (unit, _) => unit,
        };
        rest.get(..bytes).filter(|_| separates)
    }

    /// How many different encoding characters (MSH-2, BHS-2, FHS-2) stand behind the separator, from none to five. Less than they are, if
    /// nothing but the end of the line or the separator may follow them, and does not.
    fn encoding_characters(self, mark: &Mark<'_>) -> usize {
        let separator = self.ascii(mark.separator);
        let mut found: Vec<u8> = Vec::with_capacity(5);
        for character in self.characters(mark.behind).take(7) {
            if Some(character) == separator || matches!(character, b'\r' | b'\n') {
                // MSH-2 may be empty; what follows then is another field of MSH all the same.
                return found.len().max(usize::from(Some(character) == separator));
            }
            if !character.is_ascii_punctuation() {
                return found.len().min(1);
            }
            if !found.contains(&character) {
                found.push(character);
            }
        }
        found.len().min(1)
    }

    /// Whether field 1 of a trailer is empty or a number.
    fn is_count(self, mark: &Mark<'_>) -> bool {
        let separator = self.ascii(mark.separator);
        let behind = (mark.behind..).step_by(self.unit).map(|at| (at, self.ascii_at(at)));
        let mut behind = behind.skip_while(|(_, it)| it.is_some_and(|it| it.is_ascii_digit() || it == b' '));
        behind.next().is_some_and(|(at, it)| at >= self.body.len() || it == separator || matches!(it, Some(b'\r' | b'\n')))
    }

    /// Whether a segment of a message with that field separator begins at an offset: a name (HL7 2.5.1 §2.5.2), which is
    /// not that of a header, and the separator.
    fn begins_segment(self, at: usize, separator: &[u8]) -> bool {
        let character = |n: usize| self.ascii_at(at + n * self.unit);
        let is_letter = |n| character(n).is_some_and(|it| it.is_ascii_uppercase());
        let is_name =
            is_letter(0) && [1, 2].into_iter().all(|n| is_letter(n) || character(n).is_some_and(|it| it.is_ascii_digit()));
        let is_header = [b"MSH", b"BHS", b"FHS"].iter().any(|it| self.characters(at).take(3).eq(it.iter().copied()));
        is_name && !is_header && self.body.get(at + 3 * self.unit..).is_some_and(|it| it.starts_with(separator))
    }
}

/// Whether the first character of UTF-16 says so, behind MLLP's framing.
fn is_big_endian(body: &[u8], charset: Charset) -> bool {
    let begun = body.get(framing(body, charset)..).unwrap_or_default();
    charset.unit_bytes() == 2
        && (body.starts_with(b"\xfe\xff") || (begun.first() == Some(&0) && begun.get(1).is_some_and(|&it| it != 0)))
}

/// How many bytes of framing a line begins with: byte order mark, MLLP's start block, and the end block of the frame before.
pub(crate) fn framing(line: &[u8], charset: Charset) -> usize {
    let unit = charset.unit_bytes();
    let mut skip = 0;
    loop {
        let rest = line.get(skip..).unwrap_or_default();
        let mark = [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].into_iter().find(|mark| rest.starts_with(mark));
        skip += match (mark, rest) {
            (Some(mark), _) => mark.len(),
            (None, [0x0b | 0x1c, 0, ..] | [0, 0x0b | 0x1c, ..]) if unit == 2 => 2,
            (None, [0x0b | 0x1c, ..]) => 1,
            _ => return skip,
        };
    }
}

/// The first segment of a message, with its end: its MSH if it has one.
pub(crate) fn first_segment(message: &[u8], charset: Charset) -> &[u8] {
    segments_of(message, charset).next().unwrap_or_default()
}

/// The segments of a message, with their ends. Line ends that are content of a segment are part of it, as [`domain::Er7::canonical`] has
/// them. Read one by one: whoever needs the first few reads no more. Linear.
pub(crate) fn segments_of(message: &[u8], charset: Charset) -> impl Iterator<Item = &[u8]> {
    let text = Text { body: message, unit: charset.unit_bytes(), is_big_endian: is_big_endian(message, charset), charset };
    let is_blank = |line: &Line| is_blank(message.get(line.range.clone()).unwrap_or_default());
    let mut lines = text.lines().peekable();
    let mut separator = None;
    let mut is_first = true;
    std::iter::from_fn(move || {
        let Line { range, mut ends_with_cr } = lines.by_ref().find(|line| !is_blank(line))?;
        if std::mem::take(&mut is_first) {
            separator = text.mark(&range).filter(|it| it.kind == PartKind::Message).map(|it| it.separator);
        }
        let mut end = range.end;
        while let Some(separator) = separator.filter(|_| !ends_with_cr) {
            let Some(line) = lines.next_if(|line| is_blank(line) || !text.begins_segment(line.range.start, separator)) else {
                break;
            };
            ends_with_cr = line.ends_with_cr;
            if !is_blank(&line) {
                end = line.range.end;
            }
        }
        message.get(range.start..end)
    })
}

#[cfg(test)]
mod tests;
