//! The answer to a frame: one ACK, or for a batch one batch of them.
//!
//! The gateway gives one answer a frame, of one kind: a commit acknowledgment (CA, CE, CR) when it has the message, or an application
//! acknowledgment (AA, AE, AR) when the lake has it. Which one, the gateway's mode says. A sender in enhanced mode (HL7 2.5.1 §2.9.3) that
//! wants the other kind only (MSH-15, MSH-16) gets that, and one that wants neither gets none.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Charset, Received, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Condition, Part, PartKind, Severity, Split};
use jiff::Timestamp;

use crate::delivery::Fate;
use crate::lake::Outcome;
use crate::spool::Unwritten;

/// Of the messages of a batch what the answer needs is kept, their MSH: at most so much.
const MAX_HEADERS_BYTES: usize = 1024 * 1024;

/// When a message is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// As soon as the spool has it: CA.
    #[default]
    Queued,
    /// When the lake has come to an end with it: AA or AE.
    Outcome,
}

/// Which codes an answer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CA, CE, CR.
    Commit,
    /// AA, AE, AR.
    Application,
}

/// What one message is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// CA, AA.
    Accepted,
    /// AA: with something to look at.
    AcceptedWith(&'static str),
    /// CE, AE: sending it again would change nothing.
    Never(Complaint),
    /// CR, AR: it does not lie in the message.
    NotNow(String),
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) condition: Condition,
    pub(crate) location: Option<(&'static str, Option<usize>)>,
    pub(crate) detail: String,
}

impl Complaint {
    fn of_frame(condition: Condition, detail: impl Into<String>) -> Self {
        Self { condition, location: None, detail: detail.into() }
    }

    /// The frame has more bytes than the gateway takes.
    pub(crate) fn too_long(limit_bytes: usize) -> Self {
        let detail = format!("the message is too large: it has more than {limit_bytes} bytes, and none of it is kept");
        Self::of_frame(Condition::ApplicationInternal, detail)
    }
}

/// What a message is in. One that the gateway has taken says so itself, as it did when it came.
pub(crate) fn charset_of(message: &[u8]) -> Charset {
    Charset::of_message(message).unwrap_or(Charset::UTF_8)
}

/// What is answered: the headers of a message, or of all messages of a batch.
pub(crate) struct Subject {
    headers: Vec<AckHeader>,
    batch: Option<Batch>,
}

/// The headers and trailers of a batch, and the first segment of each message.
struct Batch {
    outline: Vec<u8>,
    charset: Charset,
    split: Split,
}

impl Subject {
    /// Of bytes that are not looked at any further.
    pub(crate) fn of_head(head: &[u8]) -> Self {
        Self { headers: vec![AckHeader::of(head)], batch: None }
    }

    /// Reads a frame as far as its answer needs it, or says why its content can never be stored.
    pub(crate) fn of(message: Vec<u8>) -> (Self, Result<Vec<u8>, Complaint>) {
        let charset = match Charset::of_message(&message) {
            Ok(charset) => charset,
            Err(error) => return (Self::of_head(&message), Err(undecodable(error.to_string()))),
        };
        let received = Received::new(message, charset);
        if let Err(error) = received.message() {
            let complaint = match error {
                Unreceivable::Undecodable(error) => undecodable(error.to_string()),
                Unreceivable::Empty(error) => Complaint::of_frame(Condition::SegmentSequence, error.to_string()),
            };
            return (Self::of_head(received.bytes()), Err(complaint));
        }
        let message = received.into_bytes();
        let split = hl7::split(&message, charset);
        if !split.is_batch() {
            return (Self { headers: vec![AckHeader::of_received(&message, charset)], batch: None }, Ok(message));
        }
        let mut outline = Vec::new();
        let mut headers = Vec::new();
        for Part { kind, range } in split.parts() {
            let part = message.get(range.clone()).unwrap_or_default();
            let line = first_line(part);
            if outline.len() + line.len() > MAX_HEADERS_BYTES {
                let detail =
                    "the batch has more messages than are answered at once, and none of it is kept: send them in several";
                let complaint = Complaint::of_frame(Condition::ApplicationInternal, detail);
                return (Self::of_head(&message), Err(complaint));
            }
            outline.extend_from_slice(line);
            if *kind == PartKind::Message {
                headers.push(AckHeader::of_received(part, charset));
            }
        }
        // Where the parts are in the outline is found as it was in the message.
        let split = hl7::split(&outline, charset);
        (Self { headers, batch: Some(Batch { outline, charset, split }) }, Ok(message))
    }

    /// The kind of answer that the sender gets; `None` if it wants none. The first message of a batch speaks for all.
    pub(crate) fn kind(&self, mode: AckMode) -> Option<Kind> {
        let header = self.headers.first()?;
        let wants = |kind| [Verdict::Accepted, Verdict::NotNow(String::new())].iter().any(|it| header.wants(code(kind, it)));
        let kinds = match mode {
            AckMode::Queued => [Kind::Commit, Kind::Application],
            AckMode::Outcome => [Kind::Application, Kind::Commit],
        };
        kinds.into_iter().find(|&kind| wants(kind))
    }

    /// The answer, without framing; `None` if the sender does not want it. Without a verdict for each message the first one is that of
    /// all.
    pub(crate) fn answer(&self, kind: Kind, verdicts: &[Verdict], ids: &ControlIds) -> Option<Vec<u8>> {
        let shared = verdicts.first()?;
        let verdict =
            |nth: usize| if verdicts.len() == self.headers.len() { verdicts.get(nth).unwrap_or(shared) } else { shared };
        let wanted = self.headers.iter().enumerate().any(|(nth, header)| header.wants(code(kind, verdict(nth))));
        if !wanted {
            return None;
        }
        let time = Timestamp::now().strftime("%Y%m%d%H%M%S+0000").to_string();
        let control_ids: Vec<String> = self.headers.iter().map(|_| ids.next()).collect();
        let ack = |nth: usize| Ack {
            code: code(kind, verdict(nth)),
            problem: problem(verdict(nth)),
            control_id: control_ids.get(nth).map_or("", String::as_str),
            time: &time,
        };
        Some(match &self.batch {
            None => hl7::acknowledge(self.headers.first()?, &ack(0)),
            Some(batch) => {
                let acks = |nth| (self.headers.get(nth).cloned().unwrap_or_else(|| AckHeader::of(b"")), ack(nth));
                hl7::acknowledge_batch(&batch.outline, batch.charset, &batch.split, &ids.next(), &time, acks)
            }
        })
    }
}

/// A line with its end, or all there is. In UTF-16 the end has a second byte.
fn first_line(part: &[u8]) -> &[u8] {
    let begin = part.iter().position(|byte| !matches!(byte, b'\r' | b'\n' | 0 | 0x0b)).unwrap_or_default();
    let end = memchr::memchr2(b'\r', b'\n', part.get(begin..).unwrap_or_default());
    let Some(end) = end.map(|end| begin + end + 1) else { return part };
    let end = if part.get(end) == Some(&0) { end + 1 } else { end };
    part.get(..end).unwrap_or(part)
}

fn undecodable(detail: String) -> Complaint {
    Complaint { condition: Condition::DataType, location: Some(("MSH", Some(18))), detail }
}

fn code(kind: Kind, verdict: &Verdict) -> AckCode {
    match (kind, verdict) {
        (Kind::Commit, Verdict::Accepted | Verdict::AcceptedWith(_)) => AckCode::CA,
        (Kind::Commit, Verdict::Never(_)) => AckCode::CE,
        (Kind::Commit, Verdict::NotNow(_)) => AckCode::CR,
        (Kind::Application, Verdict::Accepted | Verdict::AcceptedWith(_)) => AckCode::AA,
        (Kind::Application, Verdict::Never(_)) => AckCode::AE,
        (Kind::Application, Verdict::NotNow(_)) => AckCode::AR,
    }
}

fn problem(verdict: &Verdict) -> Option<AckProblem<'_>> {
    let internal = |severity, detail| AckProblem { condition: Condition::ApplicationInternal, severity, location: None, detail };
    match verdict {
        Verdict::Accepted => None,
        Verdict::AcceptedWith(detail) => Some(internal(Severity::Warning, detail)),
        Verdict::NotNow(detail) => Some(internal(Severity::Error, detail)),
        Verdict::Never(complaint) => Some(AckProblem {
            condition: complaint.condition,
            severity: Severity::Error,
            location: complaint.location,
            detail: &complaint.detail,
        }),
    }
}

impl Verdict {
    /// Of a message that was not written.
    pub(crate) fn of_unwritten(error: Unwritten) -> Self {
        Self::NotNow(format!("{error}: the message is not kept, send it again later"))
    }

    /// Whether it is an acceptance.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted | Self::AcceptedWith(_))
    }
}

impl From<Fate> for Verdict {
    /// A message that the lake keeps though it cannot be parsed is accepted with a warning: sending it again would change nothing, and
    /// nothing of it is lost.
    fn from(fate: Fate) -> Self {
        let never = |detail: &str| Self::Never(Complaint::of_frame(Condition::ApplicationInternal, detail));
        match fate {
            Fate::Ended(Outcome::Stored) => Self::Accepted,
            Fate::Ended(Outcome::Unparsable) => Self::AcceptedWith("the message is stored as it came, and cannot be parsed"),
            Fate::Ended(Outcome::Denied) => never("the message is not stored: its sender may not write"),
            Fate::Ended(Outcome::Expired) => never("the message is not stored: the gateway's sign-in ended before it was"),
            Fate::Ended(Outcome::Failed) => never("the message is not stored: the lake has failed to"),
            Fate::Refused(detail) => never(&format!("the API does not take the message: {detail}")),
        }
    }
}

/// Gives MSH-10 of the answers, which has 20 characters at most (HL7 2.5.1 §2.15.9.10): the time of the start and a number.
#[derive(Debug)]
pub(crate) struct ControlIds {
    start_ms: u64,
    next: AtomicU64,
}

impl ControlIds {
    pub(crate) fn new(start_ms: u64) -> Self {
        Self { start_ms, next: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        // 11 digits of milliseconds do until 2527, and 9 of the number for 68 billion answers.
        format!("{:011X}{:X}", self.start_ms, self.next.fetch_add(1, Ordering::Relaxed) & 0xf_ffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSH: &str = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|";

    fn answer(message: &str, mode: AckMode, verdicts: &[Verdict]) -> Option<String> {
        let (subject, content) = Subject::of(message.as_bytes().to_vec());
        assert_eq!(content.as_deref(), Ok(message.as_bytes()));
        let answer = subject.answer(subject.kind(mode)?, verdicts, &ControlIds::new(1_700_000_000_000))?;
        Some(String::from_utf8(answer).unwrap())
    }

    /// MSA-1 and MSA-2 of all acknowledgments.
    fn codes(answer: &str) -> Vec<(&str, &str)> {
        let msa = answer.split('\r').filter_map(|segment| segment.strip_prefix("MSA|"));
        msa.map(|fields| fields.split('|').collect::<Vec<_>>()).map(|fields| (fields[0], fields[1])).collect()
    }

    #[test]
    fn the_mode_decides_and_the_sender_may_have_the_other_kind() {
        let first = |accept_and_application: &str, mode| {
            let message = format!("{MSH}7|P|2.5.1|||{accept_and_application}\rPID|1\r");
            let answers = [Verdict::Accepted, Verdict::NotNow("no".to_owned())].map(|verdict| {
                answer(&message, mode, &[verdict]).map(|answer| codes(&answer)[0].0.to_owned()).unwrap_or_default()
            });
            format!("{} {}", answers[0], answers[1])
        };
        let cases = [
            ("|", "CA CR", "AA AR"),
            ("AL|AL", "CA CR", "AA AR"),
            ("AL|NE", "CA CR", "CA CR"),
            ("NE|AL", "AA AR", "AA AR"),
            ("ER|NE", " CR", " CR"),
            ("ER|AL", " CR", "AA AR"),
            ("NE|ER", " AR", " AR"),
            ("NE|NE", " ", " "),
        ];
        for (asked, queued, outcome) in cases {
            assert_eq!(first(asked, AckMode::Queued), queued, "{asked}");
            assert_eq!(first(asked, AckMode::Outcome), outcome, "{asked}");
        }
    }

    #[test]
    fn a_batch_is_answered_by_a_batch_with_an_acknowledgment_for_each_message() {
        let batch =
            format!("FHS|^~\\&|A\rBHS|^~\\&|A\r{MSH}1|P|2.5\rPID|1\r\r{MSH}2|P|2.5\rOBX|1|ST|{}\rBTS|2\rFTS|1\r", "x".repeat(99));
        let never = || Verdict::from(Fate::Ended(Outcome::Denied));
        let answered = answer(&batch, AckMode::Outcome, &[Verdict::Accepted, never()]).unwrap();
        assert_eq!(codes(&answered), [("AA", "1"), ("AE", "2")]);
        assert!(answered.starts_with("FHS|") && answered.contains("\rBTS|2\r"), "{answered}");
        let answered = answer(&batch, AckMode::Queued, &[Verdict::Accepted]).unwrap();
        assert_eq!(codes(&answered), [("CA", "1"), ("CA", "2")]);

        let (subject, message) = Subject::of(batch.into_bytes());
        assert!(subject.batch.unwrap().outline.len() + 100 < message.unwrap().len(), "the messages themselves are not kept");
        let many = format!("{MSH}1|P|2.5\r").repeat(40_000);
        assert!(Subject::of(many.into_bytes()).1.is_err_and(|complaint| complaint.detail.contains("more messages")));
    }

    #[test]
    fn what_can_never_be_stored_is_said_with_its_place() {
        let complaint = |message: &[u8]| Subject::of(message.to_vec()).1.unwrap_err();
        assert_eq!(complaint(b" \r\n").condition, Condition::SegmentSequence);
        let bad = complaint(b"MSH|^~\\&|A|\xff");
        assert_eq!((bad.location, bad.detail.contains("byte 11")), (Some(("MSH", Some(18))), true), "{bad:?}");
        let unknown = format!("{MSH}1|P|2.5||||||CNS 11643-1992\rPID|1\r");
        let bad = complaint(&[unknown.as_bytes(), b"\xff"].concat());
        assert!(bad.detail.contains(&format!("byte {}", unknown.len())), "{bad:?}");
    }

    #[test]
    fn control_ids_are_short_and_differ() {
        let ids = ControlIds::new(1_800_000_000_000);
        let (one, two) = (ids.next(), ids.next());
        assert!(one != two && one.len() <= 20, "{one} {two}");
        assert_ne!(one, ControlIds::new(1_800_000_000_001).next());
    }
}
