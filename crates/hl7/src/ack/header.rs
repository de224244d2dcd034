//! The values that an acknowledgment copies from the message that it answers.

use domain::{Charset, Er7};

use super::exchange::{Exchange, Mode, Verdict, expected_sequence_number};
use super::{AckCode, UTF_8_IN_MSH_18};
use crate::body::first_segment;
use crate::delimiters::{Delimiters, msh};
use crate::steering;

/// The parts of a message that its acknowledgment repeats: delimiters, sender and receiver, control id, version; and the
/// acknowledgments that the message gets.
///
/// Every message has one, so a sender gets an answer whatever it sent. Unreadable parts are empty; without MSH the delimiters are
/// `|^~\&` and the version is 2.5.1.
#[derive(Clone, PartialEq, Eq)]
pub struct AckHeader {
    pub(super) charset: Charset,
    /// The message is in UTF-16 and begins with a byte order mark.
    pub(super) has_mark: bool,
    /// With the truncation character only from HL7 2.7 on, which introduced it.
    pub(super) delimiters: Delimiters,
    /// The fields from MSH-3 on, as they stand.
    pub(super) fields: Vec<String>,
    pub(super) exchange: Exchange,
}

/// Longest field that an acknowledgment repeats, in bytes of UTF-8. Longer fields are left out, and so are fields with control
/// characters, which could end a frame. MSH-10 has at most 199 characters (HL7 2.7), and MSH-3 227 (HL7 2.5.1).
const MAX_BYTES: usize = 250;

impl AckHeader {
    /// Reads the header of a message as it was received, with or without MLLP framing, in the character set that the message
    /// declares.
    pub fn of(message: &[u8]) -> Self {
        Self::of_received(message, Charset::of_message(message).unwrap_or(Charset::UTF_8))
    }

    /// The same in a character set that the sender named elsewhere.
    pub fn of_received(message: &[u8], charset: Charset) -> Self {
        // Only the header is decoded: the rest may be large, or undecodable.
        let header = first_segment(message, charset);
        let text = charset
            .decode(header)
            .unwrap_or_else(|_| header.iter().filter(|it| it.is_ascii()).map(|&it| char::from(it)).collect());
        let mut read = Self::of_text(&text, charset);
        read.has_mark = charset.unit_bytes() == 2 && has_utf_16_mark(message);
        let (_, version) = read.minor_version();
        read.exchange = Exchange::of(read.component(9, 0), read.component(9, 1), &version, message, charset);
        read
    }

    /// Reads the text of a header segment.
    pub(super) fn of_text(text: &str, charset: Charset) -> Self {
        let unknown =
            Self { charset, has_mark: false, delimiters: Delimiters::USUAL, fields: Vec::new(), exchange: Exchange::Notice };
        let Ok(message) = Er7::canonical(text) else { return unknown };
        let Some(msh) = msh(&message) else { return unknown };
        // Seen in practice: a header that has lost its MSH-1. By itself it would make `^` the field separator, and have no
        // fields.
        let repaired = msh.strip_prefix("MSH^~\\&|").map(|rest| format!("MSH|^~\\&|{rest}"));
        let msh = repaired.as_deref().unwrap_or(msh);
        let Some(delimiters) = Delimiters::guess(msh) else { return unknown };
        let fields = msh.get(3..).unwrap_or_default().split(delimiters.field).skip(2).take(16);
        let can_be_repeated = |field: &&str| field.len() <= MAX_BYTES && !field.contains(char::is_control);
        let short = |field: &str| Some(field).filter(can_be_repeated).unwrap_or_default().to_owned();
        let mut read = Self { delimiters, fields: fields.map(short).collect(), ..unknown };
        if read.minor_version().0 < 7 {
            read.delimiters.truncation = None;
        }
        read
    }

    /// MSH-10 as it stands; empty if there is none.
    pub fn control_id(&self) -> &str {
        self.field(10)
    }

    /// The character set of the message.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// The commit acknowledgment (CA, CE, CR) that the message gets: only in enhanced mode, and only if MSH-15 asks for it (HL7
    /// 2.5.1 §2.9.3, table 0155). `None` for an ACK.
    pub fn commit(&self, kept: Verdict) -> Option<AckCode> {
        self.exchange.commit(self.mode(), kept)
    }

    /// The application acknowledgment (AA, AE, AR) that the message gets: always in original mode (HL7 2.5.1 §2.9.2), and in
    /// enhanced mode if MSH-16 asks for it (§2.9.3). `None` for an ACK and for a response.
    ///
    /// A query that is accepted, which means kept, gets AR: its sender waits for data that the lake does not give.
    pub fn application(&self, outcome: Verdict) -> Option<AckCode> {
        self.exchange.application(self.mode(), outcome)
    }

    /// All acknowledgments that the message gets, in order, once the verdict is final.
    pub fn answers(&self, verdict: Verdict) -> impl Iterator<Item = AckCode> {
        self.commit(verdict).into_iter().chain(self.application(verdict))
    }

    /// The one acknowledgment of a message whose sender can receive no more than one: the application acknowledgment, which says
    /// more, else the commit acknowledgment.
    pub fn only_answer(&self, verdict: Verdict) -> Option<AckCode> {
        self.application(verdict).or_else(|| self.commit(verdict))
    }

    /// The same in a batch. It includes a refusal that the message does not ask for, because no HTTP status tells of it.
    pub fn answer_in_batch(&self, verdict: Verdict) -> Option<AckCode> {
        let refusal = || Some(verdict.commit()).filter(|it| !it.is_success() && self.exchange != Exchange::Acknowledgment);
        self.only_answer(verdict).or_else(refusal)
    }

    /// Whether the message asks for data or for a decision (QRY, QBP, SRM, ...).
    pub fn is_query(&self) -> bool {
        matches!(self.exchange, Exchange::Query(_))
    }

    /// Whether the message is an ACK, which is never acknowledged.
    pub fn is_acknowledgment(&self) -> bool {
        self.exchange == Exchange::Acknowledgment
    }

    /// The same header for a sender in original mode, who gets one application acknowledgment for each message.
    #[must_use]
    pub fn in_original_mode(mut self) -> Self {
        for number in [15, 16] {
            if let Some(field) = self.fields.get_mut(number - 3) {
                field.clear();
            }
        }
        self
    }

    fn mode(&self) -> Mode {
        Mode::of(self.component(15, 0), self.component(16, 0))
    }

    /// The same header without the fields that have more bytes.
    pub(super) fn within(mut self, max_bytes: usize) -> Self {
        self.fields.iter_mut().filter(|field| field.len() > max_bytes).for_each(String::clear);
        self
    }

    /// A field of MSH, from 3 on.
    pub(super) fn field(&self, number: usize) -> &str {
        number.checked_sub(3).and_then(|index| self.fields.get(index)).map_or("", String::as_str)
    }

    pub(super) fn component(&self, field: usize, index: usize) -> &str {
        steering::part(self.field(field), index + 1, &self.delimiters)
    }

    /// The minor version and the text of MSH-12; HL7 2.5.1 if it names none. `HL7 2.3` and `2,3` are read as `2.3`.
    pub(super) fn minor_version(&self) -> (u32, String) {
        let version = steering::version(self.field(12), &self.delimiters).unwrap_or_else(|| "2.5.1".to_owned());
        let minor = version.strip_prefix("2.").and_then(|it| it.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok());
        (minor.unwrap_or(5), version)
    }

    /// MSA-4, if the message is numbered.
    pub(super) fn expected_sequence_number(&self, code: AckCode) -> String {
        expected_sequence_number(self.field(13), code.is_success()).map(|it| it.to_string()).unwrap_or_default()
    }

    /// The character set and MSH-18 of an answer in `asked`, if that set has all characters of the header.
    pub(super) fn answer_charset(&self, asked: Option<Charset>) -> (Charset, &str) {
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

/// Whether a message or a body begins with the byte order mark of UTF-16, after MLLP's start block or without it.
pub(crate) fn has_utf_16_mark(message: &[u8]) -> bool {
    let starts = [Some(message), message.strip_prefix(b"\x0b"), message.strip_prefix(b"\x0b\0"), message.strip_prefix(b"\0\x0b")];
    starts.into_iter().flatten().any(|it| it.starts_with(b"\xff\xfe") || it.starts_with(b"\xfe\xff"))
}
