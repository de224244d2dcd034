//! Acknowledgments: the ACK of a message and of a batch (HL7 2.5.1 §2.9, §2.10.3, §2.14.1).

use domain::{Charset, Er7};

use crate::delimiters::{Delimiters, msh};
use crate::split::{BatchProblem, PartKind, Split, framing, segment_of};

/// HL7 table 0008.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckCode {
    /// Commit accept: it is in safe keeping, and the sender need not send it again.
    CA,
    /// Commit error: it cannot be taken as it is.
    CE,
    /// Commit reject: it is not taken, for a reason that does not lie in its content.
    CR,
    /// Application accept.
    AA,
    /// Application error.
    AE,
    /// Application reject.
    AR,
}

impl AckCode {
    /// As MSA-1 has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CA => "CA",
            Self::CE => "CE",
            Self::CR => "CR",
            Self::AA => "AA",
            Self::AE => "AE",
            Self::AR => "AR",
        }
    }

    /// Whether it accepts the message.
    pub fn is_success(self) -> bool {
        matches!(self, Self::CA | Self::AA)
    }
}

/// HL7 table 0357, message error condition codes, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// 100: a segment is missing, or stands where it must not.
    SegmentSequence,
    /// 101.
    RequiredFieldMissing,
    /// 102.
    DataType,
    /// 104.
    ValueTooLong,
    /// 207: everything that has no code of its own.
    ApplicationInternal,
}

impl Condition {
    fn code(self) -> (u16, &'static str) {
        match self {
            Self::SegmentSequence => (100, "Segment sequence error"),
            Self::RequiredFieldMissing => (101, "Required field missing"),
            Self::DataType => (102, "Data type error"),
            Self::ValueTooLong => (104, "Value too long"),
            Self::ApplicationInternal => (207, "Application internal error"),
        }
    }
}

/// HL7 table 0516.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The message was not taken.
    Error,
    /// It was, and something should be looked at.
    Warning,
}

/// What ERR says. All of it is our own words: nothing of the message is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckProblem<'a> {
    /// What kind.
    pub condition: Condition,
    /// How bad.
    pub severity: Severity,
    /// Segment, and field of it: `("MSH", Some(18))`.
    pub location: Option<(&'a str, Option<usize>)>,
    /// A sentence for people.
    pub detail: &'a str,
}

impl<'a> AckProblem<'a> {
    /// Of a message that is taken though its MSH cannot be read.
    pub const MSH_UNREADABLE: AckProblem<'static> = AckProblem {
        condition: Condition::SegmentSequence,
        severity: Severity::Warning,
        location: Some(("MSH", None)),
        detail: "MSH is not readable: the message is kept as it came",
    };

    /// Of bytes that are not of their character set.
    pub fn undecodable(detail: &'a str) -> Self {
        let (condition, location) = (Condition::DataType, Some(("MSH", Some(18))));
        Self { condition, severity: Severity::Error, location, detail }
    }

    /// Of bytes in which there is no message.
    pub fn no_message(detail: &'a str) -> Self {
        Self { condition: Condition::SegmentSequence, severity: Severity::Error, location: Some(("MSH", None)), detail }
    }

    /// Of everything that has no condition of its own.
    pub fn internal(detail: &'a str) -> Self {
        Self { condition: Condition::ApplicationInternal, severity: Severity::Error, location: None, detail }
    }
}

/// An acknowledgment to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// MSA-1.
    pub code: AckCode,
    /// ERR; always there with an error or a rejection.
    pub problem: Option<AckProblem<'a>>,
    /// MSH-10 of the acknowledgment itself.
    pub control_id: &'a str,
    /// MSH-7, `yyyymmddhhmmss+0000`.
    pub time: &'a str,
}

/// What an acknowledgment takes over from the message: its delimiters, sender and receiver, control id, version.
///
/// There is one of every message, so that a sender gets an answer whatever it sent: what cannot be read is empty, without
/// MSH the delimiters are `|^~\&` and the version is 2.5.1.
#[derive(Clone, PartialEq, Eq)]
pub struct AckHeader {
    charset: Charset,
    delimiters: Delimiters,
    /// MSH-2 as it stands.
    encoding_characters: String,
    /// From MSH-3 on, as they stand.
    fields: Vec<String>,
}

/// Longest field that an acknowledgment repeats, in bytes of UTF-8; a longer one is left out, and so is one with control characters,
/// which could end a frame. MSH-10 has at most 199 characters (HL7 2.7), and MSH-3 227 (HL7 2.5.1).
const MAX_BYTES: usize = 250;

/// The same in a batch, whose acknowledgment names thousands of messages.
const MAX_BYTES_IN_BATCH: usize = 100;

/// MSH-18 of an acknowledgment in UTF-8.
const UTF_8_IN_MSH_18: &str = "UNICODE UTF-8";

impl AckHeader {
    /// Of a message as it was received, MLLP framing or not, in the character set that it says it is in.
    pub fn of(message: &[u8]) -> Self {
        Self::of_received(message, Charset::of_message(message).unwrap_or(Charset::UTF_8))
    }

    /// The same in a character set that the sender named elsewhere.
    pub fn of_received(message: &[u8], charset: Charset) -> Self {
        // Only the header is decoded: the rest may be large, or not decodable.
        let header = segment_of(message, charset);
        let text = charset
            .decode(header)
            .unwrap_or_else(|_| header.iter().filter(|it| it.is_ascii()).map(|&it| char::from(it)).collect());
        let message = Er7::canonical(&text).ok();
        let read = message.as_ref().and_then(msh).and_then(|msh| Some((msh, Delimiters::guess(msh)?)));
        let Some((msh, delimiters)) = read else { return Self::unknown(charset) };
        let mut fields = msh.get(3..).unwrap_or_default().split(delimiters.field).skip(1).take(17);
        let own = fields.next().unwrap_or_default();
        let encoding_characters = if Delimiters::is_readable(msh) { own.to_owned() } else { delimiters.encoding_characters() };
        let can_be_repeated = |field: &&str| field.len() <= MAX_BYTES && !field.contains(char::is_control);
        let short = |field: &str| Some(field).filter(can_be_repeated).unwrap_or_default().to_owned();
        Self { charset, delimiters, encoding_characters, fields: fields.map(short).collect() }
    }

    fn unknown(charset: Charset) -> Self {
        Self {
            charset,
            delimiters: Delimiters::USUAL,
            encoding_characters: Delimiters::USUAL.encoding_characters(),
            fields: Vec::new(),
        }
    }

    /// MSH-10 as it stands; empty if there is none.
    pub fn control_id(&self) -> &str {
        self.field(10)
    }

    /// What the message is in.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// Whether the sender wants that acknowledgment: MSH-15 decides for CA, CE and CR, MSH-16 for AA, AE and AR, each one of
    /// `AL`, `NE`, `ER`, `SU` (HL7 2.5.1 §2.15.9.15, table 0155). One that is empty, null or none of these leaves nothing out; with
    /// both empty or null it is the original mode, in which every message is answered.
    pub fn wants(&self, code: AckCode) -> bool {
        let is_commit = matches!(code, AckCode::CA | AckCode::CE | AckCode::CR);
        match self.component(if is_commit { 15 } else { 16 }, 0) {
            "NE" => false,
            "SU" => code.is_success(),
            "ER" => !code.is_success(),
            _ => true,
        }
    }

    /// The same header of a sender that wants every acknowledgment.
    #[must_use]
    pub fn wanting_all(mut self) -> Self {
        for number in [15, 16] {
            if let Some(field) = self.fields.get_mut(number - 3) {
                field.clear();
            }
        }
        self
    }

    /// The same header without the fields of more bytes.
    fn within(mut self, max_bytes: usize) -> Self {
        self.fields.iter_mut().filter(|field| field.len() > max_bytes).for_each(String::clear);
        self
    }

    /// A field of MSH, from 3 on.
    fn field(&self, number: usize) -> &str {
        number.checked_sub(3).and_then(|index| self.fields.get(index)).map_or("", String::as_str)
    }

    fn component(&self, field: usize, index: usize) -> &str {
        let text = self.field(field);
        match self.delimiters.component {
            Some(delimiter) => text.split(delimiter).nth(index).unwrap_or_default(),
            None if index == 0 => text,
            None => "",
        }
        .trim()
    }

    /// HL7 2.x of MSH-12, 2.5.1 if it does not say.
    fn minor_version(&self) -> (u32, &str) {
        let version = Some(self.component(12, 0)).filter(|it| !it.is_empty()).unwrap_or("2.5.1");
        let minor = version.strip_prefix("2.").and_then(|it| it.split('.').next()?.parse().ok());
        (minor.unwrap_or(5), version)
    }

    /// The character set and MSH-18 of an answer in `asked`, if all of the header can be said in it.
    fn answer_charset(&self, asked: Option<Charset>) -> (Charset, &str) {
        match asked {
            None => (self.charset, self.field(18)),
            Some(asked) if asked == self.charset => (asked, self.field(18)),
            Some(asked) if asked == Charset::UTF_8 => (Charset::UTF_8, UTF_8_IN_MSH_18),
            Some(asked) if self.fields.iter().all(|field| asked.encode(field).is_some()) => (asked, asked.hl7_name()),
            Some(_) => (Charset::UTF_8, UTF_8_IN_MSH_18),
        }
    }
}

impl std::fmt::Debug for AckHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AckHeader").field("charset", &self.charset).finish_non_exhaustive()
    }
}

/// The acknowledgment of one message, in the message's character set; segments ended by CR, no framing.
pub fn acknowledge(header: &AckHeader, ack: &Ack<'_>) -> Vec<u8> {
    acknowledge_in(header, ack, None).1
}

/// The same in a character set that the sender asks for, where it can be said in it; else in UTF-8. Gives what it is in.
pub fn acknowledge_in(header: &AckHeader, ack: &Ack<'_>, asked: Option<Charset>) -> (Charset, Vec<u8>) {
    let (charset, msh_18) = header.answer_charset(asked);
    let mut text = String::with_capacity(256);
    write(header, ack, msh_18, &mut text);
    if let Some(bytes) = charset.encode(&text) {
        return (charset, bytes);
    }
    // Some sets decode characters that they do not encode.
    text.clear();
    write(header, ack, UTF_8_IN_MSH_18, &mut text);
    (Charset::UTF_8, text.into_bytes())
}

/// The acknowledgment of a batch, in UTF-8: one for each message that wants one or was refused, in their order, under headers and
/// trailers that mirror those of the batch. BHS-12 and FHS-12 name what they answer, and what is wrong with the batch itself is the
/// comment of the last trailer. Without headers, and with nothing to say, it is empty.
///
/// `acks` are those of the messages of `split`.
pub fn acknowledge_batch<'a>(
    body: &[u8],
    charset: Charset,
    split: &Split,
    control_id: &str,
    time: &str,
    acks: impl IntoIterator<Item = (AckHeader, Ack<'a>)>,
) -> Vec<u8> {
    let mut text = String::new();
    let mut writer =
        Enclosing { text: &mut text, control_id, time, file: None, batch: None, in_batch: 0, batches: 0, last: None };
    let mut acks = acks.into_iter();
    for part in split.parts() {
        let segment = body.get(part.range.clone()).unwrap_or_default();
        match part.kind {
            PartKind::FileHeader => writer.open_file(segment, charset),
            PartKind::BatchHeader => writer.open_batch(segment, charset),
            PartKind::Message => {
                let Some((header, ack)) = acks.next() else { continue };
                // A refusal has no status of its own here that would tell of it.
                if header.wants(ack.code) || !ack.code.is_success() {
                    writer.in_batch += 1;
                    let header = header.within(MAX_BYTES_IN_BATCH);
                    let (_, msh_18) = header.answer_charset(Some(Charset::UTF_8));
                    write(&header, &ack, msh_18, writer.text);
                }
            }
            PartKind::BatchTrailer => writer.close_batch(),
            PartKind::FileTrailer => writer.close_file(),
        }
    }
    writer.close_file();
    writer.comment(&split.problems(body, charset));
    text.into_bytes()
}

/// Most problems of a batch that its acknowledgment tells of. A body may have thousands.
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

    /// Puts what is wrong with the batch into the last trailer, BTS-2 or FTS-2.
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
        let header = AckHeader::of_received(&as_msh, charset);
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
        self.text.push_str(&header.encoding_characters);
        push_fields(self.text, field, &values);
        header.delimiters
    }
}

/// Appends fields, without the empty ones at the end, and ends the segment.
fn push_fields(text: &mut String, field: char, values: &[&str]) {
    let used = values.iter().rposition(|value| !value.is_empty()).map_or(0, |last| last + 1);
    for value in values.iter().take(used) {
        text.push(field);
        text.push_str(value);
    }
    text.push('\r');
}

fn write(header: &AckHeader, ack: &Ack<'_>, msh_18: &str, text: &mut String) {
    let Delimiters { field, component, subcomponent, .. } = header.delimiters;
    // Where a message has no such delimiter, its receiver could not split on another one either.
    let join = |delimiter: Option<char>, parts: &[&str]| match delimiter {
        Some(delimiter) => parts.join(delimiter.encode_utf8(&mut [0; 4])),
        None => parts.first().map(|&it| it.to_owned()).unwrap_or_default(),
    };
    let (minor, version) = header.minor_version();
    let trigger = header.component(9, 1);
    let message_type = match minor {
        0..=2 => "ACK".to_owned(),
        _ if trigger.is_empty() => "ACK".to_owned(),
        3 if version == "2.3" => join(component, &["ACK", trigger]),
        _ => join(component, &["ACK", trigger, "ACK"]),
    };
    let processing_id = Some(header.field(11)).filter(|it| !it.is_empty()).unwrap_or("P");
    let version_field = Some(header.field(12)).filter(|it| !it.is_empty()).unwrap_or(version);
    text.push_str("MSH");
    text.push(field);
    text.push_str(&header.encoding_characters);
    let sender_and_receiver = [header.field(5), header.field(6), header.field(3), header.field(4)];
    let msh_rest = [ack.time, "", &message_type, ack.control_id, processing_id, version_field, "", "", "", "", "", msh_18];
    push_fields(text, field, &[&sender_and_receiver[..], &msh_rest].concat());

    let mut escaped = String::new();
    if let Some(problem) = ack.problem {
        header.delimiters.escape(problem.detail, &mut escaped);
    }
    // MSA-3 is what receivers of older versions show; 2.7 took it away.
    let msa_3 = if minor < 7 { escaped.as_str() } else { "" };
    text.push_str("MSA");
    push_fields(text, field, &[ack.code.as_str(), header.control_id(), msa_3]);

    let Some(problem) = ack.problem else { return };
    let (code, meaning) = problem.condition.code();
    let code = code.to_string();
    let (segment, number) = problem.location.unwrap_or_default();
    let number = number.map(|it| it.to_string()).unwrap_or_default();
    text.push_str("ERR");
    if minor < 5 {
        // ERR-1, code and location (ELD): withdrawn in 2.7, and all there was before 2.5.
        let code_identifying_error = join(subcomponent, &[&code, meaning, "HL70357"]);
        let sequence = if segment.is_empty() { "" } else { "1" };
        push_fields(text, field, &[&join(component, &[segment, sequence, &number, &code_identifying_error])]);
    } else {
        let location = match (segment, number.as_str()) {
            ("", _) => String::new(),
            (segment, "") => join(component, &[segment, "1"]),
            (segment, number) => join(component, &[segment, "1", number]),
        };
        let severity = if problem.severity == Severity::Warning { "W" } else { "E" };
        let condition = join(component, &[&code, meaning, "HL70357"]);
        push_fields(text, field, &["", &location, &condition, severity, "", "", "", &escaped]);
    }
}

#[cfg(test)]
mod tests;
