//! Acknowledgments: the ACK of a message and of a batch (HL7 2.5.1 §2.9, §2.10.3, §2.14.1).

use domain::{Charset, Unreceivable};

use crate::delimiters::Delimiters;

mod batch;
mod exchange;
mod header;

pub use batch::{acknowledge_batch, acknowledge_batch_in};
pub use exchange::Verdict;
pub use header::AckHeader;
pub(crate) use header::has_utf_16_mark;

use exchange::{Exchange, Query, Response, ack_event, value_of};

/// HL7 table 0008.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckCode {
    /// Commit accept: the message is in safe keeping, and the sender need not send it again.
    CA,
    /// Commit error: the message cannot be accepted as it is.
    CE,
    /// Commit reject: the message is not accepted, for a reason other than its content.
    CR,
    /// Application accept.
    AA,
    /// Application error.
    AE,
    /// Application reject.
    AR,
}

impl AckCode {
    /// The text of MSA-1.
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

    /// Whether it is CA, CE or CR.
    pub fn is_commit(self) -> bool {
        matches!(self, Self::CA | Self::CE | Self::CR)
    }

    /// The verdict that the code gives.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::CA | Self::AA => Verdict::Accepted,
            Self::CE | Self::AE => Verdict::Error,
            Self::CR | Self::AR => Verdict::Rejected,
        }
    }

    /// The code of the same kind, commit or application, with this verdict.
    #[must_use]
    pub fn with_verdict(self, verdict: Verdict) -> Self {
        if self.is_commit() { verdict.commit() } else { verdict.application() }
    }

    /// Whether it accepts the message.
    pub fn is_success(self) -> bool {
        matches!(self, Self::CA | Self::AA)
    }
}

/// The codes of HL7 table 0357 (message error condition codes) that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// 0: the message is accepted, with a remark.
    Accepted,
    /// 100: a segment is missing, or stands where it must not.
    SegmentSequence,
    /// 101: a required field is missing.
    RequiredFieldMissing,
    /// 102: a value does not fit its data type.
    DataType,
    /// 104: a value is too long.
    ValueTooLong,
    /// 200: a query, of any type.
    UnsupportedMessageType,
    /// 201: an event that is a query.
    UnsupportedEvent,
    /// 207: everything that has no code of its own.
    ApplicationInternal,
}

impl Condition {
    fn code(self) -> (u16, &'static str) {
        match self {
            Self::Accepted => (0, "Message accepted"),
            Self::SegmentSequence => (100, "Segment sequence error"),
            Self::RequiredFieldMissing => (101, "Required field missing"),
            Self::DataType => (102, "Data type error"),
            Self::ValueTooLong => (104, "Value too long"),
            Self::UnsupportedMessageType => (200, "Unsupported message type"),
            Self::UnsupportedEvent => (201, "Unsupported event code"),
            Self::ApplicationInternal => (207, "Application internal error"),
        }
    }
}

/// HL7 table 0516.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The message was not accepted.
    Error,
    /// The message was accepted, and somebody should look at it.
    Warning,
    /// The message was accepted, and there is nothing to do.
    Information,
}

/// The content of ERR. Every word is our own: nothing of the message is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckProblem<'a> {
    /// The kind of problem.
    pub condition: Condition,
    /// The severity.
    pub severity: Severity,
    /// Segment, and field of it: `("MSH", Some(18))`.
    pub location: Option<(&'a str, Option<usize>)>,
    /// A sentence for people.
    pub detail: &'a str,
}

impl<'a> AckProblem<'a> {
    /// The problem of an accepted message whose MSH cannot be read.
    pub const MSH_UNREADABLE: AckProblem<'static> = AckProblem {
        condition: Condition::SegmentSequence,
        severity: Severity::Warning,
        location: Some(("MSH", None)),
        detail: "MSH is not readable: the message is kept as it came",
    };

    /// The problem of bytes that cannot be read as a message. `detail` is the sentence of the error, with an offset that the
    /// sender understands.
    pub fn of(error: &Unreceivable, detail: &'a str) -> Self {
        match error {
            Unreceivable::Undecodable(_) => Self::undecodable(detail),
            Unreceivable::Empty(_) => Self::no_message(detail),
        }
    }

    /// The problem of bytes that do not belong to their character set.
    pub fn undecodable(detail: &'a str) -> Self {
        let (condition, location) = (Condition::DataType, Some(("MSH", Some(18))));
        Self { condition, severity: Severity::Error, location, detail }
    }

    /// The problem of bytes that contain no message.
    pub fn no_message(detail: &'a str) -> Self {
        Self { condition: Condition::SegmentSequence, severity: Severity::Error, location: Some(("MSH", None)), detail }
    }

    /// A note on an accepted message, which asks for nothing.
    pub fn note(detail: &'a str) -> Self {
        Self { condition: Condition::Accepted, severity: Severity::Information, location: None, detail }
    }

    /// The remark on a query: it is kept, as every message is, and nobody answers it.
    fn query(condition: Condition) -> AckProblem<'static> {
        AckProblem {
            condition,
            severity: Severity::Error,
            location: Some(("MSH", Some(9))),
            detail: "the message is kept, and no query is answered here",
        }
    }

    /// Any other problem.
    pub fn internal(detail: &'a str) -> Self {
        Self { condition: Condition::ApplicationInternal, severity: Severity::Error, location: None, detail }
    }
}

/// An acknowledgment to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// MSA-1.
    pub code: AckCode,
    /// ERR; every error and every rejection has it.
    pub problem: Option<AckProblem<'a>>,
    /// MSH-10 of the acknowledgment itself.
    pub control_id: &'a str,
    /// MSH-7, `yyyymmddhhmmss+0000`.
    pub time: &'a str,
}

/// MSH-18 of an acknowledgment in UTF-8.
const UTF_8_IN_MSH_18: &str = "UNICODE UTF-8";

/// The acknowledgment of one message, in the message's character set; segments ended by CR, no framing. In UTF-16 it has a byte order
/// mark if the message had one.
pub fn acknowledge(header: &AckHeader, ack: &Ack<'_>) -> Vec<u8> {
    acknowledge_in(header, ack, None).1
}

/// The same in a character set that the sender asks for, if that set has all characters; else in UTF-8. Returns the charset that
/// was used.
pub fn acknowledge_in(header: &AckHeader, ack: &Ack<'_>, asked: Option<Charset>) -> (Charset, Vec<u8>) {
    let (charset, msh_18) = header.answer_charset(asked);
    let mut text = String::with_capacity(256);
    if header.has_mark && charset == header.charset {
        text.push('\u{feff}');
    }
    write(header, ack, msh_18, &mut text);
    if let Some(bytes) = charset.encode(&text) {
        return (charset, bytes);
    }
    // Some sets decode characters that they do not encode.
    text.clear();
    write(header, ack, UTF_8_IN_MSH_18, &mut text);
    (Charset::UTF_8, text.into_bytes())
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
    let Delimiters { field, component, .. } = header.delimiters;
    let (minor, version) = header.minor_version();
    let version = version.as_str();
    let query = match &header.exchange {
        Exchange::Query(query) if !ack.code.is_commit() => Some(query),
        _ => None,
    };
    let problem = ack.problem.or_else(|| query.filter(|_| !ack.code.is_success()).map(|it| AckProblem::query(it.condition())));
    let response = query.and_then(|query| Response::to(query, header.component(9, 0), header.component(9, 1), version));
    let message_type = match &response {
        Some(it) => message_type(component, minor, version, [it.kind, it.event, it.structure]),
        None => {
            let event = ack_event(header.component(9, 0), header.component(9, 1));
            message_type(component, minor, version, ["ACK", event, "ACK"])
        }
    };
    let processing_id = Some(header.field(11)).filter(|it| !it.is_empty()).unwrap_or("P");
    let version_field = Some(header.field(12)).filter(|it| !it.is_empty()).unwrap_or(version);
    text.push_str("MSH");
    text.push(field);
    text.push_str(&header.delimiters.encoding_characters());
    let sender_and_receiver = [header.field(5), header.field(6), header.field(3), header.field(4)];
    let msh_rest = [ack.time, "", &message_type, ack.control_id, processing_id, version_field, "", "", "", "", "", msh_18];
    push_fields(text, field, &[&sender_and_receiver[..], &msh_rest].concat());

    let detail = problem.map(|problem| value_of(&header.delimiters, problem.detail)).unwrap_or_default();
    // Receivers of older versions show MSA-3; 2.7 removed it.
    let msa_3 = if minor < 7 { detail.as_str() } else { "" };
    let msa_4 = header.expected_sequence_number(ack.code);
    text.push_str("MSA");
    push_fields(text, field, &[ack.code.as_str(), header.control_id(), msa_3, &msa_4]);
    if let Some(problem) = problem {
        write_err(header, &problem, &detail, minor, text);
    }
    if let (Some(query), Some(response)) = (query, response) {
        for id in response.segments {
            match query.segment(id) {
                Some(segment) => text.push_str(segment),
                None => write_qak(header, query, ack.code, text),
            }
            if !text.ends_with('\r') {
                text.push('\r');
            }
        }
    }
}

/// Before 2.5 ERR has one field: code and location (ELD), withdrawn in 2.7.
fn write_err(header: &AckHeader, problem: &AckProblem<'_>, detail: &str, minor: u32, text: &mut String) {
    let Delimiters { field, component, subcomponent, .. } = header.delimiters;
    let (code, meaning) = problem.condition.code();
    let code = code.to_string();
    let (segment, number) = problem.location.unwrap_or_default();
    let number = number.map(|it| it.to_string()).unwrap_or_default();
    if minor < 5 {
        // This ERR has no severity, so a mere note goes to MSA-3 alone.
        if problem.severity == Severity::Information {
            return;
        }
        let code_identifying_error = join(subcomponent, &[&code, meaning, "HL70357"]);
        let sequence = if segment.is_empty() { "" } else { "1" };
        text.push_str("ERR");
        push_fields(text, field, &[&join(component, &[segment, sequence, &number, &code_identifying_error])]);
        return;
    }
    let location = match (segment, number.as_str()) {
        ("", _) => String::new(),
        (segment, "") => join(component, &[segment, "1"]),
        (segment, number) => join(component, &[segment, "1", number]),
    };
    let severity = match problem.severity {
        Severity::Error => "E",
        Severity::Warning => "W",
        Severity::Information => "I",
    };
    let condition = join(component, &[&code, meaning, "HL70357"]);
    text.push_str("ERR");
    push_fields(text, field, &["", &location, &condition, severity, "", "", "", detail]);
}

/// QAK (HL7 2.5.1 §5.5.2): the query's tag and name, which the sender finds its query by, and the status (table 0208).
fn write_qak(header: &AckHeader, query: &Query, code: AckCode, text: &mut String) {
    let field = header.delimiters.field;
    let of = |segment, position| query.segment(segment).and_then(|it| it.split(field).nth(position)).unwrap_or_default();
    let tag = if query.segment("QPD").is_some() { of("QPD", 2) } else { of("QRD", 4) };
    text.push_str("QAK");
    push_fields(text, field, &[tag, code.as_str(), of("QPD", 1)]);
}

/// MSH-9: one component up to 2.2, two in 2.3, three from 2.3.1 on.
fn message_type(component: Option<char>, minor: u32, version: &str, [kind, event, structure]: [&str; 3]) -> String {
    match minor {
        0..=2 => kind.to_owned(),
        _ if event.is_empty() => kind.to_owned(),
        3 if version == "2.3" => join(component, &[kind, event]),
        _ => join(component, &[kind, event, structure]),
    }
}

/// If a message lacks such a delimiter, its receiver could not split on another one either.
fn join(delimiter: Option<char>, parts: &[&str]) -> String {
    match delimiter {
        Some(delimiter) => parts.join(delimiter.encode_utf8(&mut [0; 4])),
        None => parts.first().map(|&it| it.to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
