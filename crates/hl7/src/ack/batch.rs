//! The acknowledgment of a batch (HL7 2.5.1 §2.10.3).

use domain::Charset;

use super::header::AckHeader;
use super::{Ack, push_fields, write};
use crate::body::{BatchProblem, Body, PartKind, framing};
use crate::delimiters::Delimiters;

/// The longest field that an acknowledgment in a batch copies from its message, in bytes. It is shorter than for a single message, because a
/// batch may acknowledge thousands of them.
const MAX_BYTES_IN_BATCH: usize = 100;

/// The acknowledgment of a batch, in UTF-8. It has the acknowledgments of the messages in their order, at most one for each,
/// under headers and trailers that mirror those of the batch. BHS-12 and FHS-12 name the header that they answer, and the comment
/// of the last trailer names the problems of the batch itself. Without headers, and with nothing to say, it is empty.
///
/// `acks` has an entry for each of the messages of `body`.
pub fn acknowledge_batch<'a>(
    body: &Body,
    control_id: &str,
    time: &str,
    acks: impl IntoIterator<Item = (AckHeader, Option<Ack<'a>>)>,
) -> Vec<u8> {
    let mut text = String::new();
    let mut writer =
        Enclosing { text: &mut text, control_id, time, file: None, batch: None, in_batch: 0, batches: 0, last: None };
    let mut acks = acks.into_iter();
    let charset = body.charset();
    for part in body.parts() {
        let segment = body.bytes().get(part.range.clone()).unwrap_or_default();
        match part.kind {
            PartKind::FileHeader => writer.open_file(segment, charset),
            PartKind::BatchHeader => writer.open_batch(segment, charset),
            PartKind::Message => {
                let Some((header, Some(ack))) = acks.next() else { continue };
                writer.in_batch += 1;
                let header = header.within(MAX_BYTES_IN_BATCH);
                let (_, msh_18) = header.answer_charset(Some(Charset::UTF_8));
                write(&header, &ack, msh_18, writer.text);
            }
            PartKind::BatchTrailer => writer.close_batch(),
            PartKind::FileTrailer => writer.close_file(),
        }
    }
    writer.close_file();
    writer.comment(&body.problems());
    text.into_bytes()
}

/// The most problems of a batch that its acknowledgment names. A body may have thousands.
const MOST_PROBLEMS: usize = 10;

/// The headers and trailers around a batch's acknowledgments.
struct Enclosing<'a> {
    text: &'a mut String,
    control_id: &'a str,
    time: &'a str,
    /// Delimiters of the header that is open.
    file: Option<Delimiters>,
    batch: Option<Delimiters>,
    in_batch: usize,
    batches: usize,
    /// Where the last trailer ends, and its delimiters.
    last: Option<(usize, Delimiters)>,
}

impl Enclosing<'_> {
    fn open_file(&mut self, header: &[u8], charset: Charset) {
        self.close_file();
        self.file = Some(self.header("FHS", header, charset));
    }

    fn open_batch(&mut self, header: &[u8], charset: Charset) {
        self.close_batch();
        self.batch = Some(self.header("BHS", header, charset));
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
    fn header(&mut self, name: &str, segment: &[u8], charset: Charset) -> Delimiters {
        let mut as_msh = Vec::with_capacity(segment.len());
        let unit = charset.unit_bytes();
        let segment = segment.get(framing(segment, charset)..).unwrap_or_default();
        // The first three characters are the name; in UTF-16 the encoder gives them their width.
        as_msh.extend(charset.encode("MSH").unwrap_or_default());
        as_msh.extend(segment.get(3 * unit..).unwrap_or_default());
        let text = charset
            .decode(&as_msh)
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
