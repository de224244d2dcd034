//! The acknowledgment of a batch (HL7 2.5.1 §2.10.3).

use domain::Charset;

use super::header::AckHeader;
use super::{Ack, push_fields, write};
use crate::body::{BatchProblem, Body, PartKind, framing};
use crate::delimiters::Delimiters;

/// The longest field that an acknowledgment in a batch copies from its message, in bytes. It is shorter than for a single message, because a
/// batch may acknowledge thousands of them.
const MAX_BYTES_IN_BATCH: usize = 100;

/// The acknowledgment of a batch. It has the acknowledgments of the messages in their order, at most one for each, under headers
/// and trailers that mirror those of the batch. BHS-12 and FHS-12 name the header that they answer, and the comment of the last
/// trailer names the problems of the batch itself. Without headers, and with nothing to say, it is empty.
///
/// It is in the character set of the messages if they have one in common that has all characters of the answer; else in UTF-8. In
/// UTF-16 it has a byte order mark if the batch had one.
///
/// `acks` has an entry for each of the messages of `body`.
pub fn acknowledge_batch<'a>(
    body: &Body,
    control_id: &str,
    time: &str,
    acks: impl IntoIterator<Item = (AckHeader, Option<Ack<'a>>)>,
) -> Vec<u8> {
    acknowledge_batch_in(body, control_id, time, acks, None).1
}

/// The same in a character set that the sender asks for, if that set has all characters; else in UTF-8. Returns the charset that
/// was used.
pub fn acknowledge_batch_in<'a>(
    body: &Body,
    control_id: &str,
    time: &str,
    acks: impl IntoIterator<Item = (AckHeader, Option<Ack<'a>>)>,
    asked: Option<Charset>,
) -> (Charset, Vec<u8>) {
    let acks: Vec<_> = acks.into_iter().map(|(header, ack)| (header.within(MAX_BYTES_IN_BATCH), ack)).collect();
    let own = charset_of(body, &acks);
    let charset = asked.unwrap_or(own);
    let is_marked = body.has_utf_16_mark() && charset == own;
    let answer = Answer { body, control_id, time, acks: &acks, own };
    let fits = acks.iter().all(|(header, ack)| ack.is_none() || header.answer_charset(Some(charset)).0 == charset);
    match fits.then(|| charset.encode(&answer.text(charset, is_marked))).flatten() {
        Some(bytes) => (charset, bytes),
        None => (Charset::UTF_8, answer.text(Charset::UTF_8, false).into_bytes()),
    }
}

/// The charset of all messages of a batch, or UTF-8 if they differ: BHS and FHS name none. An empty batch has that of its headers.
fn charset_of(body: &Body, acks: &[(AckHeader, Option<Ack<'_>>)]) -> Charset {
    let mut of_messages = acks.iter().map(|(header, _)| header.charset());
    match of_messages.next() {
        Some(first) if of_messages.all(|it| it == first) => first,
        Some(_) => Charset::UTF_8,
        None => body.charset(),
    }
}

/// The content of an acknowledgment.
struct Answer<'a> {
    body: &'a Body,
    control_id: &'a str,
    time: &'a str,
    acks: &'a [(AckHeader, Option<Ack<'a>>)],
    /// The charset of the messages.
    own: Charset,
}

impl Answer<'_> {
    /// The text, which says in each MSH-18 that it is in this charset.
    fn text(&self, charset: Charset, is_marked: bool) -> String {
        let mut text = String::new();
        let mut writer = Enclosing {
            text: &mut text,
            control_id: self.control_id,
            time: self.time,
            charsets: [self.body.charset(), self.own],
            file: None,
            batch: None,
            in_batch: 0,
            batches: 0,
            last: None,
        };
        let mut acks = self.acks.iter();
        for part in self.body.parts() {
            let segment = self.body.bytes().get(part.range.clone()).unwrap_or_default();
            match part.kind {
                PartKind::FileHeader => writer.open_file(segment),
                PartKind::BatchHeader => writer.open_batch(segment),
                PartKind::Message => {
                    let Some((header, Some(ack))) = acks.next() else { continue };
                    writer.in_batch += 1;
                    let (_, msh_18) = header.answer_charset(Some(charset));
                    write(header, ack, msh_18, writer.text);
                }
                PartKind::BatchTrailer => writer.close_batch(),
                PartKind::FileTrailer => writer.close_file(),
            }
        }
        writer.close_file();
        writer.comment(&self.body.problems());
        if is_marked && !text.is_empty() {
            text.insert(0, '\u{feff}');
        }
        text
    }
}

/// The most problems of a batch that its acknowledgment names. A body may have thousands.
const MOST_PROBLEMS: usize = 10;

/// The headers and trailers around a batch's acknowledgments.
struct Enclosing<'a> {
    text: &'a mut String,
    control_id: &'a str,
    time: &'a str,
    /// The charset of the body, and that of its messages: a header may be in either.
    charsets: [Charset; 2],
    /// Delimiters of the header that is open.
    file: Option<Delimiters>,
    batch: Option<Delimiters>,
    in_batch: usize,
    batches: usize,
    /// Where the last trailer ends, and its delimiters.
    last: Option<(usize, Delimiters)>,
}

impl Enclosing<'_> {
    fn open_file(&mut self, header: &[u8]) {
        self.close_file();
        self.file = Some(self.header("FHS", header));
    }

    fn open_batch(&mut self, header: &[u8]) {
        self.close_batch();
        self.batch = Some(self.header("BHS", header));
    }

    fn close_batch(&mut self) {
        if let Some(delimiters) = self.batch.take() {
            self.batches += 1;
            self.trailer("BTS", delimiters, self.in_batch);
        }
        self.in_batch = 0;
    }

    fn close_file(&mut self) {
        self.close_batch();
        if let Some(delimiters) = self.file.take() {
            self.trailer("FTS", delimiters, self.batches);
        }
        self.batches = 0;
    }

    fn trailer(&mut self, name: &str, delimiters: Delimiters, count: usize) {
        self.text.push_str(name);
        push_fields(self.text, delimiters.field, &[&count.to_string()]);
        self.last = Some((self.text.len() - 1, delimiters));
    }

    /// Puts the problems of the batch into the last trailer, BTS-2 or FTS-2.
    fn comment(&mut self, problems: &[BatchProblem]) {
        let Some((end, delimiters)) = self.last.filter(|_| !problems.is_empty()) else { return };
        let mut said: Vec<String> = problems.iter().take(MOST_PROBLEMS).map(ToString::to_string).collect();
        if problems.len() > MOST_PROBLEMS {
            said.push(format!("{} more", problems.len() - MOST_PROBLEMS));
        }
        let mut comment = String::from(delimiters.field);
        delimiters.escape(&said.join("; "), &mut comment);
        self.text.insert_str(end, &comment);
    }

    /// FHS and BHS have sender and receiver where MSH has them, and a control id in field 11 (HL7 2.5.1 §2.15.2, §2.15.6).
    fn header(&mut self, name: &str, segment: &[u8]) -> Delimiters {
        let mut as_msh = Vec::with_capacity(segment.len());
        let [charset, of_messages] = self.charsets;
        let unit = charset.unit_bytes();
        let segment = segment.get(framing(segment, charset)..).unwrap_or_default();
        // The first three characters are the name; in UTF-16 the encoder gives them their width.
        as_msh.extend(charset.encode("MSH").unwrap_or_default());
        as_msh.extend(segment.get(3 * unit..).unwrap_or_default());
        let text = charset
            .decode(&as_msh)
            .or_else(|_| of_messages.decode(&as_msh))
            .unwrap_or_else(|_| as_msh.iter().filter(|it| it.is_ascii()).map(|&it| char::from(it)).collect());
        let mut header = AckHeader::of_text(&text, charset);
        // The header of a batch names no version, and HL7 has a truncation character from 2.7 on only.
        header.delimiters.truncation = None;
        let field = header.delimiters.field;
        let values = [
            header.field(5),
            header.field(6),
            header.field(3),
            header.field(4),
            self.time,
            "",
            "",
            "",
            self.control_id,
            header.field(11),
        ];
        self.text.push_str(name);
        self.text.push(field);
        self.text.push_str(&header.delimiters.encoding_characters());
        push_fields(self.text, field, &values);
        header.delimiters
    }
}
