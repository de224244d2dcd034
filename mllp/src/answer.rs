//! The answer to a frame: one ACK, or for a batch one batch of them.
//!
//! The gateway gives one answer a frame, of one kind: a commit acknowledgment (CA, CE, CR) when it has the message, or an application
//! acknowledgment (AA, AE, AR) when the lake has it. Which one, the gateway's mode says. A sender in enhanced mode (HL7 2.5.1 §2.9.3) that
//! wants the other kind only (MSH-15, MSH-16) gets that, and one that wants neither gets none.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Charset, MAX_MESSAGES, Received, Timestamp, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Condition, Part, PartKind, Severity, Split};

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
        Self::of_frame(Condition::ValueTooLong, detail)
    }
}

/// What is answered: the headers of a message, or of all messages of a batch, and what was found on reading them.
pub(crate) struct Subject {
    headers: Vec<AckHeader>,
    /// For each header: what stands against the message, or is to be looked at.
    findings: Vec<Option<Verdict>>,
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
    pub(crate) fn of_head(head: &[u8], named: Option<Charset>) -> Self {
        Self { headers: vec![header(head, named)], findings: Vec::new(), batch: None }
    }

    /// Reads a frame as the API will, as far as its answer needs it: in the character set that is named for all messages, or in that of
    /// each. Gives its content back, or why none of it can ever be stored.
    pub(crate) fn of(content: Vec<u8>, named: Option<Charset>) -> (Self, Result<Vec<u8>, Complaint>) {
        let named = named.or_else(|| Charset::of_mark(&content));
        let charset = named.or_else(|| Charset::of_message(&content).ok()).unwrap_or(Charset::UTF_8);
        let split = hl7::split(&content, charset);
        if !split.is_batch() {
            let subject = Self::of_head(&content, named);
            return match look_at(&content, named) {
                Some(Verdict::Never(complaint)) => (subject, Err(complaint)),
                finding => (Self { findings: vec![finding], ..subject }, Ok(content)),
            };
        }
        let too_many =
            |detail: String| (Self::of_head(&content, named), Err(Complaint::of_frame(Condition::ValueTooLong, detail)));
        if split.messages().count() > MAX_MESSAGES {
            return too_many(format!("the batch has more than {MAX_MESSAGES} messages, and none is kept: send it in parts"));
        }
        let (mut outline, mut headers, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        for Part { kind, range } in split.parts() {
            let part = content.get(range.clone()).unwrap_or_default();
            let line = first_line(part);
            if outline.len() + line.len() > MAX_HEADERS_BYTES {
                return too_many(
                    "the headers of the batch's messages are too long, and none is kept: send it in parts".to_owned(),
                );
            }
            outline.extend_from_slice(line);
            if *kind == PartKind::Message {
                headers.push(header(part, named));
                findings.push(look_at(part, named));
            }
        }
        // Where the parts are in the outline is found as it was in the message.
        let split = hl7::split(&outline, charset);
        let first = findings.first().cloned().flatten();
        let has_a_good_one = findings.iter().any(|finding| !matches!(finding, Some(Verdict::Never(_))));
        let subject = Self { headers, findings, batch: Some(Batch { outline, charset, split }) };
        match first {
            Some(Verdict::Never(complaint)) if !has_a_good_one => (subject, Err(complaint)),
            _ => (subject, Ok(content)),
        }
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

    /// What each message is told. Without a verdict for each the first one is that of all.
    pub(crate) fn settle(&self, verdicts: &[Verdict]) -> Vec<Verdict> {
        let one_each = verdicts.len() == self.headers.len();
        let verdict = |nth: usize| if one_each { verdicts.get(nth) } else { verdicts.first() };
        let settle = |nth: usize| {
            let verdict = verdict(nth).cloned().unwrap_or(Verdict::Accepted);
            match (verdict, self.findings.get(nth).cloned().flatten()) {
                (verdict @ Verdict::NotNow(_), _) => verdict,
                (_, Some(never @ Verdict::Never(_))) => never,
                (Verdict::Accepted, Some(finding)) => finding,
                (verdict, _) => verdict,
            }
        };
        (0..self.headers.len()).map(settle).collect()
    }

    /// The answer, without framing, with a verdict for each message; `None` if the sender does not want it.
    pub(crate) fn answer(&self, kind: Kind, verdicts: &[Verdict], ids: &ControlIds) -> Option<Vec<u8>> {
        if !self.headers.iter().zip(verdicts).any(|(header, verdict)| header.wants(code(kind, verdict))) {
            return None;
        }
        let time = Timestamp::now().hl7();
        let control_ids: Vec<String> = self.headers.iter().map(|_| ids.next()).collect();
        let mut acks = self.headers.iter().zip(verdicts).zip(&control_ids).map(|((header, verdict), control_id)| {
            let ack = Ack { code: code(kind, verdict), problem: problem(verdict), control_id, time: &time };
            (header.clone(), ack)
        });
        match &self.batch {
            None => acks.next().map(|(header, ack)| hl7::acknowledge(&header, &ack)),
            Some(Batch { outline, charset, split }) => {
                let answer = hl7::acknowledge_batch(outline, *charset, split, &ids.next(), &time, acks);
                Some(answer).filter(|answer| !answer.is_empty())
            }
        }
    }
}

fn header(message: &[u8], named: Option<Charset>) -> AckHeader {
    named.map_or_else(|| AckHeader::of(message), |charset| AckHeader::of_received(message, charset))
}

/// Reads a message as the API will, and says what stands against it, or is to be looked at.
fn look_at(message: &[u8], named: Option<Charset>) -> Option<Verdict> {
    let undecodable = |detail: String| Complaint { condition: Condition::DataType, location: Some(("MSH", Some(18))), detail };
    let charset = match named.map_or_else(|| Charset::of_message(message), Ok) {
        Ok(charset) => charset,
        Err(error) => return Some(Verdict::Never(undecodable(error.to_string()))),
    };
    match Received::new(message.to_vec(), charset).message() {
        Ok(message) if hl7::Delimiters::of(&message).is_err() => Some(Verdict::AcceptedWith(AckProblem::MSH_UNREADABLE.detail)),
        Ok(_) => None,
        Err(Unreceivable::Undecodable(error)) => Some(Verdict::Never(undecodable(error.to_string()))),
        Err(Unreceivable::Empty(error)) => {
            let complaint = Complaint::of_frame(Condition::SegmentSequence, error.to_string());
            Some(Verdict::Never(Complaint { location: Some(("MSH", None)), ..complaint }))
        }
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
            // Neither lies in the message: sent again, it is tried anew.
            Fate::Ended(Outcome::Expired) => {
                Self::NotNow("the message is not stored: the gateway's sign-in ended before it was; send it again".to_owned())
            }
            Fate::Ended(Outcome::Failed) => {
                Self::NotNow("the message is not stored: the lake has failed to; send it again".to_owned())
            }
            Fate::Damaged => Self::NotNow("the gateway's disk has damaged the message: it is not kept, send it again".to_owned()),
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
        let (subject, content) = Subject::of(message.as_bytes().to_vec(), None);
        assert_eq!(content.as_deref(), Ok(message.as_bytes()));
        let answer = subject.answer(subject.kind(mode)?, &subject.settle(verdicts), &ControlIds::new(1_700_000_000_000))?;
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

        let (subject, message) = Subject::of(batch.into_bytes(), None);
        assert!(subject.batch.unwrap().outline.len() + 100 < message.unwrap().len(), "the messages themselves are not kept");
        let many = format!("{MSH}1|P|2.5\r").repeat(5001);
        assert!(
            Subject::of(many.into_bytes(), None).1.is_err_and(|complaint| complaint.detail.contains("more than 5000 messages"))
        );
        let long = format!("{MSH}{}|P|2.5\r", "1".repeat(1000)).repeat(2000);
        assert!(Subject::of(long.into_bytes(), None).1.is_err_and(|complaint| complaint.detail.contains("too long")));
    }

    #[test]
    fn each_message_of_a_batch_has_its_own_character_set_and_its_own_fault() {
        let of = |msh_18: &str, name: &[u8]| {
            [format!("{MSH}{msh_18}|P|2.5||||||{msh_18}\r").as_bytes(), b"PID|1||||", name, b"\r"].concat()
        };
        let batch =
            [b"BHS|^~\\&|A\r".to_vec(), of("8859/1", b"M\xfcller"), of("", "M\u{fc}ller".as_bytes()), of("", b"M\xfcller")]
                .concat();
        let (subject, content) = Subject::of(batch.clone(), None);
        assert_eq!(content.unwrap(), batch);
        let settled = subject.settle(&[Verdict::Accepted]);
        assert!(settled[0].is_accepted() && settled[1].is_accepted());
        assert!(matches!(&settled[2], Verdict::Never(complaint) if complaint.detail.contains("not valid UTF-8")), "{settled:?}");
        let full = Verdict::of_unwritten(Unwritten::Full);
        assert_eq!(subject.settle(std::slice::from_ref(&full)), [full.clone(), full.clone(), full]);
        let bad = [of("", b"\xff"), of("", b"\xff")].concat();
        assert!(Subject::of(bad, None).1.is_err());
    }

    #[test]
    fn a_message_without_a_readable_msh_is_taken_with_a_warning() {
        let (subject, content) = Subject::of(b"PID|1\r".to_vec(), None);
        assert_eq!(
            (content.is_ok(), subject.settle(&[Verdict::Accepted])),
            (true, vec![Verdict::AcceptedWith(AckProblem::MSH_UNREADABLE.detail)])
        );
        assert_eq!(codes(&answer("PID|1\r", AckMode::Queued, &[Verdict::Accepted]).unwrap()), [("CA", "")]);
    }

    #[test]
    fn what_can_never_be_stored_is_said_with_its_place() {
        let complaint = |message: &[u8]| Subject::of(message.to_vec(), None).1.unwrap_err();
        assert_eq!(complaint(b" \r\n").condition, Condition::SegmentSequence);
        let bad = complaint(b"MSH|^~\\&|A|\xff");
        assert_eq!((bad.location, bad.detail.contains("byte 11")), (Some(("MSH", Some(18))), true), "{bad:?}");
        let unknown = format!("{MSH}1|P|2.5||||||CNS 11643-1992\rPID|1\r");
        let bad = complaint(&[unknown.as_bytes(), b"\xff"].concat());
        assert!(bad.detail.contains(&format!("byte {}", unknown.len())), "{bad:?}");
    }

    #[test]
    fn a_character_set_that_is_named_is_that_of_all_messages() {
        let latin_1 = Charset::for_label("iso-8859-1").unwrap();
        let message = format!("{MSH}7|P|2.5\rPID|1||7||M\u{fc}ller\r");
        let bytes = latin_1.encode(&message).unwrap();
        assert!(Subject::of(bytes.clone(), None).1.is_err());
        assert_eq!(Subject::of(bytes.clone(), Some(latin_1)).1, Ok(bytes.clone()));
        assert_eq!(Subject::of(bytes.repeat(2), Some(latin_1)).1, Ok(bytes.repeat(2)));
    }

    #[test]
    fn control_ids_are_short_and_differ() {
        let ids = ControlIds::new(1_800_000_000_000);
        let (one, two) = (ids.next(), ids.next());
        assert!(one != two && one.len() <= 20, "{one} {two}");
        assert_ne!(one, ControlIds::new(1_800_000_000_001).next());
    }
}
