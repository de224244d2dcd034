//! Several messages in one body: a file or batch with its headers and trailers (HL7 2.5.1 §2.10.3), or a plain run of them.

use std::ops::Range;

use domain::Charset;
use serde::Serialize;

/// The kind of a part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// An FHS segment.
    FileHeader,
    /// A BHS segment.
    BatchHeader,
    /// A message: from MSH up to the next part. Lines that follow no MSH are a message of their own, so that nothing is lost.
    Message,
    /// A BTS segment.
    BatchTrailer,
    /// An FTS segment.
    FileTrailer,
}

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its kind.
    pub kind: PartKind,
    /// Its place, in bytes.
    pub range: Range<usize>,
}

/// The parts of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    parts: Vec<Part>,
}

/// A problem of a batch itself, and not of one of its messages. Perhaps the batch was cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchProblem {
    /// `bts-count`, `fts-count`, `no-bts` or `no-fts`.
    pub code: &'static str,
    /// The count in BTS-1 or FTS-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<u64>,
    /// The number of messages of the batch, or of batches of the file.
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
    /// A body whose parts are known already.
    pub(crate) fn of_parts(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// All parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The places of the messages.
    pub fn messages(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.iter().filter(|part| part.kind == PartKind::Message).map(|part| part.range.clone())
    }

    /// Whether it is a batch: it has a header or trailer, or more than one message.
    pub fn is_batch(&self) -> bool {
        !matches!(self.parts.as_slice(), [Part { kind: PartKind::Message, .. }] | [])
    }

    /// Compares BTS-1 and FTS-1 with the real counts, and headers with trailers. An empty count is no problem.
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

/// The counts while walking through a body.
#[derive(Default)]
struct Count {
    /// Whether a file header is open.
    in_file: bool,
    in_batch: bool,
    /// The messages of the batch, and of the file.
    messages: u64,
    batches: u64,
    problems: Vec<BatchProblem>,
}

impl Count {
    /// A batch ends with its trailer, which may have a count, or without a trailer. BHS and BTS may be left out (HL7 2.5.1
    /// §2.10.3.1), and the messages are a batch all the same.
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

/// Splits a body where a line begins with a header, a trailer or an MSH. Linear in the body.
///
/// A segment is its name followed by a field separator (HL7 2.5.1 §2.5.4). Here the separator must be in use already: by the open
/// message (MSH-1), the open batch (BHS-1) or the open file (FHS-1); or be `|` if no MSH is open. So `BTS-Shunt` and
/// `FHS: 148/min` in a text are text.
///
/// - If no message is open, MSH with any separator begins one. After a CR, which always ends a segment, a header or MSH with a new
///   separator begins a part if at least three encoding characters and that separator follow. Blanks before it are ignored.
/// - After an LF, which may be content of a field, an MSH, BHS or FHS in an open message also needs an encoding character after
///   its separator, and a trailer a count or nothing. After MLLP's end block, the rule for CR applies.
/// - A trailer ends the batch or file that a header began. In a body without a header, it is content of the open message.
///
/// Nothing is lost: text between two parts belongs to the earlier one. Lines that belong to no part are a message of their own. Only
/// blank lines are in no part. Headers without messages are an empty batch.
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
        // Blank lines change nothing, unless there is a CR or the end of a frame among them: that ends the segment before them.
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

/// The field separators in use, as bytes of the body; empty for a message without MSH.
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
    /// The offset behind the separator.
    behind: usize,
    /// MLLP's end block precedes the name.
    is_behind_frame: bool,
    /// Blanks precede the name.
    is_indented: bool,
}

impl<'a> Open<'a> {
    /// Whether the line begins a part, and is no content of the open message.
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
                // After a trailer no message is open whose content this could be.
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

/// The line without leading byte order marks and MLLP framing, in any number.
fn without_marks(line: &[u8]) -> &[u8] {
    line.get(framing(line, Charset::UTF_8)..).unwrap_or_default()
}

/// Whether a line ends with MLLP's end block, in UTF-16 or not.
fn ends_frame(line: &[u8]) -> bool {
    line.iter().rev().find(|byte| !matches!(byte, 0 | b'\r' | b'\n')) == Some(&0x1c)
}

/// Whether there are only line ends, blanks and framing, in UTF-16 or not.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x1c))
}

/// Bytes in which only ASCII characters are known.
#[derive(Clone, Copy)]
struct Text<'a> {
    body: &'a [u8],
    /// The number of bytes of an ASCII character.
    unit: usize,
    is_big_endian: bool,
    charset: Charset,
}

/// A line with its end.
struct Line {
    range: Range<usize>,
    /// It ends with a CR without LF, which ends a segment.
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

    /// The character at an offset, if it is ASCII.
    fn ascii_at(self, at: usize) -> Option<u8> {
        self.ascii(self.body.get(at..at.checked_add(self.unit)?)?)
    }

    /// A character, if it is ASCII.
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

    /// The ASCII characters from an offset up to another one.
    fn characters(self, from: usize) -> impl Iterator<Item = u8> {
        (from..).step_by(self.unit).map_while(move |at| self.ascii_at(at))
    }

    /// Reads the line as the beginning of a part, with or without MLLP framing and blanks before it.
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
        // Seen in practice: an MSH that has lost its MSH-1.
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

    /// The number of different encoding characters (MSH-2, BHS-2, FHS-2) after the separator, from none to five. At most one if
    /// neither the separator nor the end of the line follows them.
    fn encoding_characters(self, mark: &Mark<'_>) -> usize {
        let separator = self.ascii(mark.separator);
        let mut found: Vec<u8> = Vec::with_capacity(5);
        for character in self.characters(mark.behind).take(7) {
            if Some(character) == separator || matches!(character, b'\r' | b'\n') {
                // MSH-2 may be empty. The separator after it then counts, because it begins another field of MSH.
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

    /// Whether a segment of a message with that field separator begins at an offset: with a name (HL7 2.5.1 §2.5.2) that is not
    /// that of a header, and the separator.
    fn begins_segment(self, at: usize, separator: &[u8]) -> bool {
        let character = |n: usize| self.ascii_at(at + n * self.unit);
        let is_letter = |n| character(n).is_some_and(|it| it.is_ascii_uppercase());
        let is_name =
            is_letter(0) && [1, 2].into_iter().all(|n| is_letter(n) || character(n).is_some_and(|it| it.is_ascii_digit()));
        let is_header = [b"MSH", b"BHS", b"FHS"].iter().any(|it| self.characters(at).take(3).eq(it.iter().copied()));
        is_name && !is_header && self.body.get(at + 3 * self.unit..).is_some_and(|it| it.starts_with(separator))
    }
}

/// Whether the first UTF-16 character, after MLLP's framing, is big-endian.
fn is_big_endian(body: &[u8], charset: Charset) -> bool {
    let begun = body.get(framing(body, charset)..).unwrap_or_default();
    charset.unit_bytes() == 2
        && (body.starts_with(b"\xfe\xff") || (begun.first() == Some(&0) && begun.get(1).is_some_and(|&it| it != 0)))
}

/// The number of framing bytes at the beginning of a line: byte order mark, MLLP's start block, and the end block of the frame
/// before.
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

/// The segments of a message, with their line ends. Line ends that are content of a segment belong to it, as in
/// [`domain::Er7::canonical`]. Lazy: a caller who needs the first few reads no more. Linear.
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
