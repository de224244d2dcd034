//! Which acknowledgments a message gets, by its kind and its MSH-15 and MSH-16.

use domain::Charset;

use super::{AckCode, Condition};
use crate::body::segments_of;
use crate::delimiters::Delimiters;
use crate::dictionary::{Dictionary, Node};

/// The outcome of a message, as its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver keeps the message: CA, AA.
    Accepted,
    /// The message itself is at fault, and sending it again would change nothing: CE, AE.
    Error,
    /// The fault is not the message's: CR, AR.
    Rejected,
}

impl Verdict {
    fn is_success(self) -> bool {
        self == Self::Accepted
    }

    pub(super) fn commit(self) -> AckCode {
        match self {
            Self::Accepted => AckCode::CA,
            Self::Error => AckCode::CE,
            Self::Rejected => AckCode::CR,
        }
    }

    pub(super) fn application(self) -> AckCode {
        match self {
            Self::Accepted => AckCode::AA,
            Self::Error => AckCode::AE,
            Self::Rejected => AckCode::AR,
        }
    }
}

/// When an acknowledgment is asked for (HL7 table 0155).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Never,
    OnError,
    OnSuccess,
}

impl When {
    fn of(field: &str) -> Option<Self> {
        [("AL", Self::Always), ("NE", Self::Never), ("ER", Self::OnError), ("SU", Self::OnSuccess)]
            .into_iter()
            .find_map(|(code, when)| code.eq_ignore_ascii_case(field).then_some(when))
    }

    fn asks(self, verdict: Verdict) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::OnError => !verdict.is_success(),
            Self::OnSuccess => verdict.is_success(),
        }
    }
}

/// The acknowledgments that MSH-15 and MSH-16 ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Neither field holds a code of table 0155: one application acknowledgment (HL7 2.5.1 §2.9.2).
    Original,
    /// One of them does (§2.9.3).
    Enhanced { accept: When, application: When },
}

impl Mode {
    /// From MSH-15 and MSH-16. A field that is empty or unknown beside one that holds a code asks for nothing: table 0155 lists the
    /// conditions under which an acknowledgment is required, and such a field states no condition.
    pub(super) fn of(msh_15: &str, msh_16: &str) -> Self {
        match (When::of(msh_15), When::of(msh_16)) {
            (None, None) => Self::Original,
            (accept, application) => {
                let or_never = |when: Option<When>| when.unwrap_or(When::Never);
                Self::Enhanced { accept: or_never(accept), application: or_never(application) }
            }
        }
    }

    fn asks_for_commit(self, verdict: Verdict) -> bool {
        match self {
            Self::Original => false,
            Self::Enhanced { accept, .. } => accept.asks(verdict),
        }
    }

    fn asks_for_application(self, verdict: Verdict) -> bool {
        match self {
            Self::Original => true,
            Self::Enhanced { application, .. } => application.asks(verdict),
        }
    }
}

/// The role of a message for its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// It tells something: every message that is none of the following.
    Notice,
    /// It asks for data or for a decision, and its sender waits for a response.
    Query(Box<Query>),
    /// It answers a query or an order (RSP, ORL, ...). Its sender may want a commit acknowledgment of it, and never an application
    /// acknowledgment (HL7 2.5.1 §2.9.3.2; the tables "Acknowledgment Choreography" of HL7 2.8 and later).
    Response,
    /// ACK, or MCF of HL7 2.1 to 2.3. It is never acknowledged: two systems that did would never stop.
    Acknowledgment,
}

/// The parts of a query that a response repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Sluice takes the message type, and the event makes it a query.
    pub(super) is_event: bool,
    /// QPD, QRD and QRF as they stand, without their ends.
    pub(super) segments: Vec<(&'static str, String)>,
}

impl Query {
    /// HL7 table 0357, 200 or 201.
    pub(super) fn condition(&self) -> Condition {
        if self.is_event { Condition::UnsupportedEvent } else { Condition::UnsupportedMessageType }
    }

    pub(super) fn segment(&self, name: &str) -> Option<&str> {
        self.segments.iter().find(|(id, _)| *id == name).map(|(_, text)| text.as_str())
    }
}

/// Message types that ask for data or for a decision: queries (HL7 2.5.1 chapter 5 and the chapters of each domain), requests for
/// patient information and authorization (RQ*, chapter 11) and for appointments (SRM, chapter 10). Orders, master files and referrals
/// are none of them, though the standard has responses to them, too: a feed of orders tells the lake what was ordered.
const QUERY_TYPES: [&str; 21] = [
    "CCQ", "EQQ", "MFQ", "NMQ", "OSQ", "QBP", "QCN", "QRY", "QSB", "QSX", "QVR", "RQA", "RQC", "RQI", "RQP", "RQQ", "SPQ", "SQM",
    "SRM", "VQQ", "VXQ",
];

/// Events that make a query of a message whose type usually tells: `ADT^A19` for `QRY^A19`, seen with HL7 2.1 and 2.2.
const QUERY_EVENTS: [(&str, &str); 1] = [("ADT", "A19")];

/// Longest QPD, QRD or QRF that a response repeats, in bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// How many segments behind MSH are searched for MSA, QPD and QRD. Only SFT, UAC, ARV and NTE stand before them.
const MOST_SEGMENTS: usize = 16;

impl Exchange {
    /// The role of a message with this MSH-9.1 and MSH-9.2.
    pub(super) fn of(kind: &str, event: &str, version: &str, message: &[u8], charset: Charset) -> Self {
        if ["ACK", "MCF"].iter().any(|it| it.eq_ignore_ascii_case(kind)) {
            return Self::Acknowledgment;
        }
        let behind_msh = || segments_of(message, charset).skip(1).take(MOST_SEGMENTS);
        let is_event = QUERY_EVENTS.contains(&(kind, event));
        if is_event || QUERY_TYPES.contains(&kind) {
            let segments = behind_msh().filter_map(|segment| {
                let id = ["QPD", "QRD", "QRF"].into_iter().find(|id| name(segment) == id.as_bytes())?;
                let text = charset.decode(segment).ok()?;
                let text = text.trim_end_matches(['\r', '\n', '\u{1c}']);
                (text.len() <= MAX_QUERY_BYTES && !text.contains(char::is_control)).then(|| (id, text.to_owned()))
            });
            return Self::Query(Box::new(Query { is_event, segments: segments.collect() }));
        }
        let carries_msa = behind_msh()
            .find(|segment| !matches!(name(segment).as_slice(), b"SFT" | b"UAC" | b"ARV" | b"NTE"))
            .is_some_and(|segment| name(segment) == b"MSA");
        // Some senders of results add an MSA that the structure does not have. They wait for an answer all the same.
        if carries_msa && !is_known_without_msa(kind, event, version) { Self::Response } else { Self::Notice }
    }

    /// CA, CE or CR, if the message gets it.
    pub(super) fn commit(&self, mode: Mode, verdict: Verdict) -> Option<AckCode> {
        (*self != Self::Acknowledgment && mode.asks_for_commit(verdict)).then(|| verdict.commit())
    }

    /// AA, AE or AR, if the message gets it. A query that is kept gets a rejection, because nobody answers it.
    pub(super) fn application(&self, mode: Mode, verdict: Verdict) -> Option<AckCode> {
        let verdict = match (self, verdict) {
            (Self::Acknowledgment | Self::Response, _) => return None,
            (Self::Query(_), Verdict::Accepted) => Verdict::Rejected,
            (Self::Query(_) | Self::Notice, verdict) => verdict,
        };
        mode.asks_for_application(verdict).then(|| verdict.application())
    }
}

/// The event of an ACK, which is the message's, but where the standard's table has another one: the results of point-of-care devices
/// without an order, `ORU^R30` to `ORU^R32`, are answered with `ACK^R33^ACK` (HL7 2.5 §7.3.7-9).
pub(super) fn ack_event<'a>(kind: &str, event: &'a str) -> &'a str {
    match (kind, event) {
        ("ORU", "R30" | "R31" | "R32") => "R33",
        _ => event,
    }
}

/// A response that a receiver can give without any data: MSH-9, and the segments behind MSH, MSA and ERR.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    pub(super) kind: &'static str,
    pub(super) event: &'a str,
    pub(super) structure: &'static str,
    /// QAK, QPD, QRD, QRF: the last three are the query's.
    pub(super) segments: Vec<&'static str>,
}

/// Responses to queries by parameter (QBP; HL7 2.5.1 §5.4 and the chapters of each domain): the query's event, the response's type and
/// event, and its structure where several events share one.
///
/// `WOS` is the one of IHE's profile for analyzers (LAW, transaction LAB-27).
const RESPONSES_TO_QBP: [(&str, &str, &str, &str); 17] = [
    ("E03", "RSP", "E03", ""),
    ("E22", "RSP", "E22", ""),
    ("O33", "RSP", "O33", ""),
    ("O34", "RSP", "O34", ""),
    ("Q11", "RSP", "K11", ""),
    ("Q13", "RTB", "K13", ""),
    ("Q15", "RDY", "K15", ""),
    ("Q21", "RSP", "K21", ""),
    ("Q22", "RSP", "K22", "RSP_K21"),
    ("Q23", "RSP", "K23", ""),
    ("Q24", "RSP", "K24", "RSP_K23"),
    ("Q25", "RSP", "K25", ""),
    ("Q31", "RSP", "K31", ""),
    ("Q32", "RSP", "K32", ""),
    ("Q33", "RSP", "K33", ""),
    ("Q34", "RSP", "K34", ""),
    ("WOS", "RSP", "K11", ""),
];

/// Type, event and structure of the response to a query, where some version allows one without data. The others, and queries of a
/// site's own (`QBP^Z77`), are answered with ACK, which the standard has for errors that preclude processing (HL7 2.5.1 §2.13.1).
fn response_to<'a>(kind: &str, event: &'a str) -> Option<(&'static str, &'a str, &'static str)> {
    match (kind, event) {
        ("QBP", event) => {
            let row = RESPONSES_TO_QBP.into_iter().find(|row| row.0 == event)?;
            Some((row.1, row.2, row.3))
        }
        ("QRY", "Q02") => Some(("QCK", event, "")),
        ("OSQ", "Q06") => Some(("OSR", event, "")),
        ("SQM", "S25") => Some(("SQR", event, "")),
        ("SRM", event) => Some(("SRR", event, "SRR_S01")),
        _ => None,
    }
}

impl<'a> Response<'a> {
    /// The response to a query, if its structure in that version requires nothing that is missing here.
    pub(super) fn to(query: &Query, kind: &str, event: &'a str, version: &str) -> Option<Self> {
        let (kind, event, shared) = response_to(kind, event)?;
        let dictionary = Dictionary::of(version);
        let structure = dictionary.structure(&format!("{kind}_{event}")).or_else(|| dictionary.structure(shared))?;
        let mut segments = Vec::new();
        for item in &structure.items {
            match item.node {
                Node::Segment("MSH" | "MSA" | "ERR") => {}
                Node::Segment("QAK") => segments.push("QAK"),
                Node::Segment(id @ ("QPD" | "QRD" | "QRF")) if query.segment(id).is_some() => segments.push(id),
                _ if item.required => return None,
                _ => {}
            }
        }
        Some(Self { kind, event, structure: structure.id, segments })
    }
}

/// Whether the standard has that message, and no MSA in it.
fn is_known_without_msa(kind: &str, event: &str, version: &str) -> bool {
    let structure = Dictionary::of(version).structure(&format!("{kind}_{event}"));
    structure.is_some_and(|it| !it.items.iter().any(|item| item.node == Node::Segment("MSA")))
}

/// The name of a segment of a message, in any character set that has ASCII in it.
fn name(segment: &[u8]) -> Vec<u8> {
    segment.iter().copied().filter(|byte| *byte != 0).take(3).collect()
}

/// MSA-4 (HL7 2.5.1 §2.10.1): the number that is expected next, if MSH-13 numbers the messages. A refused message is expected
/// again. 0 and -1 in MSH-13 ask for the number; any number may follow, which is written -1. `None` if MSH-13 is no number.
pub(super) fn expected_sequence_number(msh_13: &str, is_success: bool) -> Option<i64> {
    match msh_13.trim().parse::<i64>().ok()? {
        i64::MIN..=0 => Some(-1),
        number if is_success => number.checked_add(1),
        number => Some(number),
    }
}

/// A text of ours as a value: escaped, or without the delimiters where the message has no escape character.
pub(super) fn value_of(delimiters: &Delimiters, text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    if delimiters.escape.is_some() {
        delimiters.escape(text, &mut value);
        return value;
    }
    let Delimiters { field, component, repetition, subcomponent, .. } = *delimiters;
    let taken = [Some(field), component, repetition, subcomponent];
    value.extend(text.chars().filter(|it| !taken.contains(&Some(*it)) && !it.is_control()));
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Ack, AckHeader, acknowledge};
    use super::*;
    use crate::validate::{Severity, validate};

    fn header(kind: &str, msh_15_and_16: &str) -> AckHeader {
        AckHeader::of(format!("MSH|^~\\&|A|B|C|D|20260101||{kind}|7|P|2.5.1|||{msh_15_and_16}\rPID|1\r").as_bytes())
    }

    fn answers(header: &AckHeader, verdict: Verdict) -> String {
        header.answers(verdict).map(AckCode::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_combination_of_msh_15_and_msh_16_has_its_answers_in_order() {
        let table = [
            ("AL|AL", "CA AA", "CE AE"),
            ("AL|NE", "CA", "CE"),
            ("AL|ER", "CA", "CE AE"),
            ("AL|SU", "CA AA", "CE"),
            ("NE|AL", "AA", "AE"),
            ("NE|NE", "", ""),
            ("NE|ER", "", "AE"),
            ("NE|SU", "AA", ""),
            ("ER|AL", "AA", "CE AE"),
            ("ER|NE", "", "CE"),
            ("ER|ER", "", "CE AE"),
            ("ER|SU", "AA", "CE"),
            ("SU|AL", "CA AA", "AE"),
            ("SU|NE", "CA", ""),
            ("SU|ER", "CA", "AE"),
            ("SU|SU", "CA AA", ""),
        ];
        for (asked, success, failure) in table {
            let header = header("ADT^A01^ADT_A01", asked);
            assert_eq!(answers(&header, Verdict::Accepted), success, "{asked}");
            assert_eq!(answers(&header, Verdict::Error), failure, "{asked}");
            assert_eq!(answers(&header, Verdict::Rejected), failure.replace('E', "R"), "{asked}");
            let only = |verdict| header.only_answer(verdict).map_or("", AckCode::as_str);
            assert_eq!(only(Verdict::Accepted), success.split(' ').next_back().unwrap(), "{asked}");
            assert_eq!(only(Verdict::Error), failure.split(' ').next_back().unwrap(), "{asked}");
        }
    }

    #[test]
    fn without_a_code_of_table_0155_it_is_the_original_mode_with_one_answer() {
        for asked in ["", "|", "\"\"|\"\"", " | ", "|0", "|2", "0|1", "ACCEPT|ACKNOWLEDGE", "Y|Y", "^AL|^NE"] {
            let header = header("ORU^R01", asked);
            let found = [Verdict::Accepted, Verdict::Error, Verdict::Rejected].map(|verdict| answers(&header, verdict));
            assert_eq!(found, ["AA", "AE", "AR"], "{asked}");
        }
    }

    #[test]
    fn a_field_that_is_empty_or_unknown_beside_one_that_is_not_asks_for_nothing() {
        let table = [
            ("AL|", "CA", "CE"),
            ("|AL", "AA", "AE"),
            ("NE|", "", ""),
            ("|ER", "", "AE"),
            ("AL|2", "CA", "CE"),
            ("al|ne", "CA", "CE"),
        ];
        for (asked, success, failure) in table {
            let header = header("ADT^A01", asked);
            assert_eq!(
                (answers(&header, Verdict::Accepted), answers(&header, Verdict::Error)),
                (success.into(), failure.into()),
                "{asked}"
            );
        }
    }

    #[test]
    fn an_acknowledgment_is_never_acknowledged() {
        for kind in ["ACK", "ACK^R01^ACK", "ACK^A01", "MCF^Q02", "ack^A01"] {
            for asked in ["|", "AL|AL", "ER|ER"] {
                let header = header(kind, asked);
                for verdict in [Verdict::Accepted, Verdict::Error, Verdict::Rejected] {
                    assert_eq!(answers(&header, verdict), "", "{kind} {asked}");
                    assert_eq!(header.answer_in_batch(verdict), None, "{kind} {asked}");
                }
            }
        }
    }

    #[test]
    fn a_response_has_the_commit_acknowledgment_that_it_asks_for_and_no_other() {
        let table = [("", ""), ("NE|AL", ""), ("AL|AL", "CA"), ("SU|NE", "CA"), ("ER|NE", "")];
        for kind in ["RSP^K22^RSP_K21", "ORL^O34^ORL_O34", "ORR^O02", "DSR^Q03", "ZZR^Z01^ZZR_Z01"] {
            for (asked, expected) in table {
                let text = format!("MSH|^~\\&|A|B|C|D|1||{kind}|7|P|2.5.1|||{asked}\rSFT|a\rMSA|AA|1\r");
                for end in ["\r", "\n", "\r\n"] {
                    let header = AckHeader::of(text.replace('\r', end).as_bytes());
                    assert_eq!(answers(&header, Verdict::Accepted), expected, "{kind} {asked}");
                }
                let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
                assert_eq!(answers(&AckHeader::of(&wide), Verdict::Accepted), expected, "{kind} {asked}");
            }
        }
    }

    #[test]
    fn an_msa_outside_the_structure_does_not_turn_a_result_into_a_response() {
        let result = |behind: &str| AckHeader::of(format!("MSH|^~\\&|A|B|C|D|1||ORU^R01|7|P|2.2|||AL|AL\r{behind}\r").as_bytes());
        assert_eq!(answers(&result("MSA|AA|1\rPID|1"), Verdict::Accepted), "CA AA");
        assert_eq!(answers(&result("PID|1\rMSA|AA|1"), Verdict::Accepted), "CA AA");
    }

    #[test]
    fn a_query_is_kept_and_rejected() {
        for kind in ["QRY^Q02", "QBP^Q11^QBP_Q11", "QBP^Z77", "SRM^S01", "ADT^A19", "VXQ^V01"] {
            let of = |asked, verdict| answers(&header(kind, asked), verdict);
            assert_eq!(of("", Verdict::Accepted), "AR", "{kind}");
            assert_eq!(of("", Verdict::Error), "AE", "{kind}");
            assert_eq!(of("AL|AL", Verdict::Accepted), "CA AR", "{kind}");
            assert_eq!(of("AL|SU", Verdict::Accepted), "CA", "{kind}");
            assert_eq!(of("ER|ER", Verdict::Accepted), "AR", "{kind}");
            assert_eq!(of("NE|NE", Verdict::Accepted), "", "{kind}");
        }
        for kind in ["ORM^O01", "OML^O21^OML_O21", "MFN^M02", "REF^I12", "SIU^S12", "UDM^Q05", "VXU^V04", "ADT^A01"] {
            assert_eq!(answers(&header(kind, ""), Verdict::Accepted), "AA", "{kind}");
        }
    }

    const QPD: &str = "QPD|IHE PDQ Query^^IHE|T-1|@PID.5.1^DOE";

    fn rejected(kind: &str, version: &str, behind: &str) -> String {
        let message = format!("MSH|^~\\&|A|B|C|D|20260101||{kind}|7|P|{version}\r{behind}\r");
        let ack = Ack { code: AckCode::AR, problem: None, control_id: "S1", time: "20261121172300+0000" };
        String::from_utf8(acknowledge(&AckHeader::of(message.as_bytes()), &ack)).unwrap()
    }

    #[test]
    fn a_query_is_answered_in_the_structure_of_its_response() {
        let detail = "the message is kept, and no query is answered here";
        let msh = |kind: &str, version: &str| format!("MSH|^~\\&|C|D|A|B|20261121172300+0000||{kind}|S1|P|{version}\r");
        let err = format!("ERR||MSH^1^9|200^Unsupported message type^HL70357|E||||{detail}\r");
        assert_eq!(
            rejected("QBP^Q22^QBP_Q21", "2.5", &format!("{QPD}\rRCP|I")),
            msh("RSP^K22^RSP_K21", "2.5") + &format!("MSA|AR|7|{detail}\r{err}QAK|T-1|AR|IHE PDQ Query^^IHE\r{QPD}\r")
        );
        let old_err = "ERR|MSH^1^9^200&Unsupported message type&HL70357\r";
        assert_eq!(
            rejected("QRY^Q02", "2.3.1", "QRD|20260101|R|D|4|||RD|||OTH|||T\rQRF|BC-5380"),
            msh("QCK^Q02^QCK_Q02", "2.3.1") + &format!("MSA|AR|7|{detail}\r{old_err}QAK|4|AR\r")
        );
        assert_eq!(
            rejected("OSQ^Q06", "2.3", "QRD|20260101|R|I|4|||RD|||OTH"),
            msh("OSR^Q06", "2.3") + &format!("MSA|AR|7|{detail}\r{old_err}QRD|20260101|R|I|4|||RD|||OTH\r")
        );
        assert_eq!(
            rejected("SRM^S03^SRM_S01", "2.4", "ARQ|1"),
            msh("SRR^S03^SRR_S01", "2.4") + &format!("MSA|AR|7|{detail}\r{old_err}")
        );
        // The response would require data that nobody has, the segment that it repeats is missing, or the query is a site's own.
        for (kind, version, behind, expected) in [
            ("QRY^A19", "2.4", "QRD|20260101|R|I|4", "ACK^A19^ACK"),
            ("QBP^Q22^QBP_Q21", "2.5", "RCP|I", "ACK^Q22^ACK"),
            ("QBP^Z34^QBP_Q11", "2.5.1", QPD, "ACK^Z34^ACK"),
            ("QRY^Q02", "2.2", "QRD|1", "ACK"),
        ] {
            let answer = rejected(kind, version, behind);
            assert!(answer.starts_with(&msh(expected, version)) && answer.matches('\r').count() == 3, "{answer}");
        }
        assert!(rejected("ADT^A19", "2.2", "QRD|1").contains("&Unsupported event code&"));
    }

    #[test]
    fn a_commit_acknowledgment_of_a_query_is_a_plain_one() {
        let header = AckHeader::of(format!("MSH|^~\\&|A|B|C|D|1||QBP^Q22^QBP_Q21|7|P|2.5|||AL|AL\r{QPD}\r").as_bytes());
        let ack = Ack { code: AckCode::CA, problem: None, control_id: "S1", time: "T" };
        assert_eq!(acknowledge(&header, &ack), b"MSH|^~\\&|C|D|A|B|T||ACK^Q22^ACK|S1|P|2.5\rMSA|CA|7\r");
    }

    #[test]
    fn every_answer_to_a_query_is_valid_in_its_version() {
        let mut responses = 0;
        for version in Dictionary::versions() {
            let others = [("QRY", "Q02"), ("OSQ", "Q06"), ("SQM", "S25"), ("SRM", "S01"), ("SRM", "S11")];
            for (kind, event) in RESPONSES_TO_QBP.into_iter().map(|row| ("QBP", row.0)).chain(others) {
                let behind = "QPD|Q22^Find Candidates^HL7nnn|T-1|x\rQRD|20260101|R|I|4|||1^RD|1|DEM|OTH\rQRF|x";
                let answer = rejected(&format!("{kind}^{event}"), version, behind);
                responses += usize::from(!answer.contains("||ACK"));
                let report = validate(&domain::Er7::canonical(&answer).unwrap());
                let errors: Vec<_> = report.findings.iter().filter(|it| it.severity == Severity::Error).collect();
                assert!(errors.is_empty(), "{version}: {answer}{errors:?}");
            }
        }
        assert!(responses > 100, "{responses}");
    }

    /// A query is a structure with a segment that defines a query, and without MSA. Up to 2.2 a deferred response has no MSA
    /// either.
    #[test]
    fn every_query_of_the_standard_is_known() {
        for version in Dictionary::versions() {
            let dictionary = Dictionary::of(version);
            for name in dictionary.structure_names() {
                let structure = dictionary.structure(name).unwrap();
                let has = |id| structure.items.iter().any(|item| item.node == Node::Segment(id));
                let asks = ["QRD", "QPD", "EQL", "ERQ", "SPR", "VTQ"].into_iter().any(has) && !has("MSA");
                let kind = name.split('_').next().unwrap();
                assert!(!asks || QUERY_TYPES.contains(&kind) || name == "DSR_Q03", "{name} of {version}");
                // The sources of the dictionary have two responses under the name of their query.
                let is_misnamed = matches!(name, "QBP_K13" | "QBP_Qnn");
                assert!(!QUERY_TYPES.contains(&kind) || !has("MSA") || is_misnamed, "{name} of {version} is a response");
            }
        }
    }

    #[test]
    fn results_of_point_of_care_devices_are_acknowledged_as_r33() {
        for (kind, expected) in
            [("ORU^R30^ORU_R30", "ACK^R33^ACK"), ("ORU^R32", "ACK^R33^ACK"), ("ORU^R01^ORU_R01", "ACK^R01^ACK")]
        {
            let ack = Ack { code: AckCode::AA, problem: None, control_id: "S1", time: "T" };
            let answer = String::from_utf8(acknowledge(&header(kind, ""), &ack)).unwrap();
            assert!(answer.contains(&format!("||{expected}|")), "{answer}");
        }
    }

    #[test]
    fn a_number_in_msh_13_is_answered_with_the_one_that_is_expected_next() {
        let table =
            [("7", Some(8), Some(7)), ("0", Some(-1), Some(-1)), ("-1", Some(-1), Some(-1)), (" 41 ", Some(42), Some(41))];
        for (msh_13, success, failure) in table {
            assert_eq!(expected_sequence_number(msh_13, true), success, "{msh_13}");
            assert_eq!(expected_sequence_number(msh_13, false), failure, "{msh_13}");
        }
        for none in ["", "x", "9223372036854775807", "1.5"] {
            assert_eq!(expected_sequence_number(none, true), None, "{none}");
        }
    }

    proptest! {
        /// So two systems of this kind always stop.
        #[test]
        fn no_answer_is_ever_answered(
            kind in "(ACK|ADT|ORU|QBP|QRY|RSP|SRM|[A-Z]{3})(\\^(A01|R30|Q22|Q02|S01|[A-Z][0-9]{2}))?",
            version in "2\\.([1-9]|3\\.1|5\\.1|8\\.2)",
            asked in "(AL|NE|ER|SU|)\\|(AL|NE|ER|SU|)",
            behind in "(MSA\\|AA\\|1\r)?(QPD\\|a\\|b\r)?(QRD\\|1\r)?",
        ) {
            let message = format!("MSH|^~\\&|A|B|C|D|1||{kind}|7|P|{version}|||{asked}\r{behind}");
            let header = AckHeader::of(message.as_bytes());
            for verdict in [Verdict::Accepted, Verdict::Error, Verdict::Rejected] {
                for code in header.answers(verdict) {
                    let answer = acknowledge(&header, &Ack { code, problem: None, control_id: "S1", time: "T" });
                    let again = AckHeader::of(&answer);
                    prop_assert_eq!(again.answers(verdict).count(), 0);
                }
            }
        }
    }
}
