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
    /// From MSH up to what follows; or lines before any MSH, which are nobody's and so a message of their own.
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

/// Takes a body apart where a line begins with `MSH`, `FHS`, `BHS`, `BTS` or `FTS` and a delimiter. Nothing of it is lost: what
/// stands between two parts belongs to the one before, and a body without any of them is one message.
///
/// A body with headers and no message is one message, too, and so is kept by whoever keeps messages. Linear in the body.
pub fn split(body: &[u8], charset: Charset) -> Split {
    let mut parts: Vec<Part> = Vec::new();
    for line in lines(body, charset) {
        let kind = match name(body.get(line.clone()).unwrap_or_default(), charset) {
            Some(b"MSH") => PartKind::Message,
            Some(b"FHS") => PartKind::FileHeader,
            Some(b"BHS") => PartKind::BatchHeader,
            Some(b"BTS") => PartKind::BatchTrailer,
            Some(b"FTS") => PartKind::FileTrailer,
            _ => match parts.last_mut() {
                Some(open) if open.kind == PartKind::Message => {
                    open.range.end = line.end;
                    continue;
                }
                _ => PartKind::Message,
            },
        };
        parts.push(Part { kind, range: line });
    }
    parts.retain(|part| part.kind != PartKind::Message || !is_blank(body.get(part.range.clone()).unwrap_or_default()));
    if !parts.is_empty() && !parts.iter().any(|part| part.kind == PartKind::Message) {
        parts = vec![Part { kind: PartKind::Message, range: 0..body.len() }];
    }
    Split { parts }
}

/// Nothing but line ends, blanks and framing, in UTF-16 or not.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x1c))
}

/// The lines of a body, each with its end. In UTF-16 a line end has two bytes.
fn lines(body: &[u8], charset: Charset) -> impl Iterator<Item = Range<usize>> {
    let unit = charset.unit_bytes();
    let big_endian = is_big_endian(body, charset);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= body.len() {
            return None;
        }
        let line_end = match unit {
            1 => memchr::memchr2(b'\r', b'\n', body.get(start..).unwrap_or_default()).map(|at| start + at),
            _ => wide_line_end(body, start, big_endian),
        };
        let end = line_end.map_or(body.len(), |at| {
            let character = |at| ascii_at(body, at, unit, big_endian);
            // CRLF is one line end.
            let is_crlf = character(at) == Some(b'\r') && character(at + unit) == Some(b'\n');
            at + if is_crlf { 2 * unit } else { unit }
        });
        let line = start..end.min(body.len());
        start = line.end;
        Some(line)
    })
}

fn wide_line_end(body: &[u8], from: usize, big_endian: bool) -> Option<usize> {
    (from..body.len()).step_by(2).find(|&at| matches!(ascii_at(body, at, 2, big_endian), Some(b'\r' | b'\n')))
}

fn is_big_endian(body: &[u8], charset: Charset) -> bool {
    charset.unit_bytes() == 2 && (body.starts_with(b"\xfe\xff") || (body.first() == Some(&0) && body.get(1) != Some(&0)))
}

/// The character at an offset, if it is of ASCII.
fn ascii_at(body: &[u8], at: usize, unit: usize, big_endian: bool) -> Option<u8> {
    if unit == 1 {
        return body.get(at).copied().filter(u8::is_ascii);
    }
    let pair: [u8; 2] = body.get(at..at.checked_add(2)?)?.try_into().ok()?;
    u8::try_from(if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }).ok().filter(u8::is_ascii)
}

/// The segment's name, if it is one that begins a part: three letters and a delimiter, MLLP framing before them or not.
fn name(line: &[u8], charset: Charset) -> Option<&'static [u8; 3]> {
    let unit = charset.unit_bytes();
    let skip = framing(line, charset);
    // What is at hand here is one line, whose first character tells the order of bytes.
    let start = line.get(skip..)?;
    let big_endian = unit == 2 && start.first() == Some(&0);
    let character = |n: usize| ascii_at(start, n * unit, unit, big_endian);
    let name = [character(0)?, character(1)?, character(2)?];
    // MSH-1 can be any character, of ASCII or not; a letter or digit makes it another word.
    let next = start.get(3 * unit..).filter(|it| !it.is_empty())?;
    let delimits = ascii_at(next, 0, unit, big_endian).is_none_or(|it| !it.is_ascii_alphanumeric() && !it.is_ascii_whitespace());
    [b"MSH", b"FHS", b"BHS", b"BTS", b"FTS"].into_iter().find(|it| **it == name && delimits)
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

/// The first line of a message that is not blank, which is its MSH if it has one.
pub(crate) fn segment_of(message: &[u8], charset: Charset) -> &[u8] {
    let mut lines = lines(message, charset).filter_map(|line| message.get(line));
    lines.find(|line| !is_blank(line)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MSH: &str = "MSH|^~\\&|A\rPID|1\r";

    fn kinds(body: &str) -> String {
        let split = split(body.as_bytes(), Charset::UTF_8);
        split
            .parts()
            .iter()
            .map(|part| match part.kind {
                PartKind::FileHeader => 'F',
                PartKind::BatchHeader => 'B',
                PartKind::Message => 'M',
                PartKind::BatchTrailer => 'b',
                PartKind::FileTrailer => 'f',
            })
            .collect()
    }

    fn problems(body: &str) -> Vec<(&'static str, Option<u64>, u64)> {
        let problems = split(body.as_bytes(), Charset::UTF_8).problems(body.as_bytes(), Charset::UTF_8);
        problems.into_iter().map(|it| (it.code, it.declared, it.found)).collect()
    }

    #[test]
    fn bodies_are_taken_apart() {
        let table = [
            (MSH.to_owned(), "M"),
            (MSH.repeat(3), "MMM"),
            (MSH.replace('\r', "\n").repeat(2), "MM"),
            (MSH.replace('\r', "\r\n").repeat(2), "MM"),
            (format!("FHS|^~\\&|\rBHS|^~\\&|\r{MSH}{MSH}BTS|2\rFTS|1\r"), "FBMMbf"),
            (format!("BHS|^~\\&|\r{MSH}BTS|1\r"), "BMb"),
            (format!("FHS|\rBHS|\r{MSH}BTS|1\rBHS|\r{MSH}BTS|1\rFTS|2"), "FBMbBMbf"),
            (format!("\u{b}{MSH}\u{1c}\r\u{b}{MSH}\u{1c}\r"), "MM"),
            (format!("\u{feff}{MSH}{MSH}"), "MM"),
            (format!("\r\n  \r\n{MSH}\r\n\r\n"), "M"),
            (format!("junk\r{MSH}"), "MM"),
            (format!("BHS|\r{MSH}BTS|1\rjunk\rFTS|1"), "BMbMf"),
            ("FHS|\rBHS|\rBTS|0\rFTS|1\r".to_owned(), "M"),
            ("hello".to_owned(), "M"),
            ("MSH".to_owned(), "M"),
            ("MSH|\rMSHX|\rMSH |\rmsh|".to_owned(), "M"),
            (String::new(), ""),
            ("\r\n".to_owned(), ""),
        ];
        for (body, expected) in table {
            assert_eq!(kinds(&body), expected, "{body:?}");
        }
    }

    #[test]
    fn framing_between_messages_changes_none_of_them() {
        for body in [format!("\u{b}{MSH}\u{1c}\r\u{b}{MSH}\u{1c}\r"), format!("\u{b}{MSH}\u{1c}\u{b}{MSH}\u{1c}")] {
            let split = split(body.as_bytes(), Charset::UTF_8);
            let messages: Vec<_> =
                split.messages().map(|range| domain::Er7::canonical(body.get(range).unwrap()).unwrap()).collect();
            assert_eq!(messages.iter().map(domain::Er7::as_str).collect::<Vec<_>>(), [MSH, MSH], "{body:?}");
        }
    }

    #[test]
    fn utf_16_is_taken_apart_too() {
        for label in ["utf-16le", "utf-16be"] {
            let charset = Charset::for_label(label).unwrap();
            let bytes =
                charset.encode(&format!("BHS|\r\n{}{}BTS|2\r\n", MSH.replace('\r', "\r\n"), MSH.replace('A', "李"))).unwrap();
            let split = split(&bytes, charset);
            assert_eq!(split.messages().count(), 2, "{label}");
            assert_eq!(split.problems(&bytes, charset), []);
            let second = split.messages().nth(1).unwrap();
            assert_eq!(charset.decode(&bytes[second]).unwrap(), MSH.replace('A', "李"));
        }
    }

    #[test]
    fn counts_are_compared() {
        assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}{MSH}BTS|2\rFTS|1\r")), []);
        assert_eq!(problems(&format!("BHS|\r{MSH}BTS|\r")), []);
        assert_eq!(problems(&format!("BHS|\r{MSH}BTS| 3 |x\r")), [("bts-count", Some(3), 1)]);
        assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}BTS|1\rFTS|2\r")), [("fts-count", Some(2), 1)]);
        assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}{MSH}")), [("no-bts", None, 2), ("no-fts", None, 1)]);
        assert_eq!(problems(&format!("BHS|\r{MSH}BHS|\r{MSH}BTS|1")), [("no-bts", None, 1)]);
        assert_eq!(problems(&MSH.repeat(2)), []);
        assert_eq!(problems(&format!("FHS|\r{MSH}{MSH}FTS|1\r")), []);
        assert_eq!(problems(&format!("FHS|\r{MSH}BTS|1\rFTS|1\r")), []);
        assert_eq!(problems(&format!("FHS|\r{MSH}BHS|\r{MSH}BTS|1\rFTS|2\r")), []);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_stays(pieces in prop::collection::vec("(MSH\\|A|FHS\\||BHS\\||BTS\\|1|FTS|PID|x|\u{b}|\u{1c}| |\u{e9})(\r|\n|\r\n|)", 0..12)) {
            let body = pieces.concat();
            let split = split(body.as_bytes(), Charset::UTF_8);
                        let mut end = 0;
            for Part { range, .. } in split.parts() {
                prop_assert!(is_blank(&body.as_bytes()[end..range.start]), "{:?}", body);
                end = range.end;
            }
            prop_assert!(is_blank(&body.as_bytes()[end..]));
            let _ = split.problems(body.as_bytes(), Charset::UTF_8);
        }

        #[test]
        fn any_bytes_are_taken_apart(body in prop::collection::vec(any::<u8>(), 0..80), wide: bool) {
            let charset = Charset::for_label(if wide { "utf-16le" } else { "utf-8" }).unwrap();
            let split = split(&body, charset);
            prop_assert!(split.messages().all(|range| range.end <= body.len()));
        }
    }
}
