//! The answers to a frame: the acknowledgments that the message asks for, or one batch of them for a batch.
//!
//! The message decides, and not the operator (HL7 2.5.1 §2.9). In original mode it gets one application acknowledgment (AA, AE,
//! AR). In enhanced mode it gets a commit acknowledgment (CA, CE, CR) if MSH-15 asks for it, and an application acknowledgment if
//! MSH-16 does. The operator decides when the gateway sends an application acknowledgment ([`ApplicationAck`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use domain::{Charset, MAX_MESSAGES, Timestamp, Unreceivable};
use hl7::{Ack, AckCode, AckHeader, AckProblem, Body, Condition, Piece, Severity};

use crate::destination::Ending;
use crate::spool::Unwritten;

/// The most bytes of MSH segments that the answer to a batch keeps.
const MAX_HEADERS_BYTES: usize = 1024 * 1024;

/// When the gateway sends the application acknowledgment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplicationAck {
    /// As soon as the message is in the spool. It is safe there, and will reach the lake.
    #[default]
    Safe,
    /// When the lake has stored or refused the message, or [`crate::Limits::outcome`] is over.
    Stored,
}

/// The verdict in the acknowledgment of a message, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReasonedVerdict {
    /// CA, AA.
    Accepted,
    /// CA, AA, with something that somebody should look at.
    AcceptedWith(AckProblem<'static>),
    /// AA: the gateway keeps the message, and nobody knows its outcome in the lake yet.
    Kept(String),
    /// CE, AE: sending the message again would change nothing.
    Never(Complaint),
    /// CR, AR: the message is not at fault, and it is not kept.
    NotNow(String),
}

/// The problem of a message.
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

    /// The message cannot be read.
    fn of_unreceivable(error: &Unreceivable) -> Self {
        let AckProblem { condition, location, .. } = AckProblem::of(error, "");
        Self { condition, location, detail: error.to_string() }
    }

    /// The frame has more bytes than the gateway takes.
    pub(crate) fn too_long(limit_bytes: usize) -> Self {
        let detail = format!("the message is too large: it has more than {limit_bytes} bytes, and none of it is kept");
        Self::of_frame(Condition::ValueTooLong, detail)
    }
}

/// The basis of an answer: the header of a message, or those of all messages of a batch, and the findings about them.
pub(crate) struct Answerable {
    headers: Vec<AckHeader>,
    /// For each header, the finding about its message, if there is one.
    findings: Vec<Option<ReasonedVerdict>>,
    /// The headers and trailers of a batch, and the first segment of each message.
    outline: Option<Body>,
}

impl Answerable {
    /// For bytes that are not read any further.
    pub(crate) fn of_head(head: &[u8], named: Option<Charset>) -> Self {
        let header = named.map_or_else(|| AckHeader::of(head), |charset| AckHeader::of_received(head, charset));
        Self { headers: vec![header], findings: Vec::new(), outline: None }
    }

    /// Reads a frame as the API will, as far as the answer needs it: in the character set that is named for all messages, or in
    /// that of each. Returns its content, or the reason why none of it can ever be stored.
    pub(crate) fn of(content: Vec<u8>, named: Option<Charset>) -> (Self, Result<Vec<u8>, Complaint>) {
        let body = Body::of(content, named);
        let too_many = |detail: String| {
            (Self::of_head(body.bytes(), body.named_charset()), Err(Complaint::of_frame(Condition::ValueTooLong, detail)))
        };
        if body.has_more_than(MAX_MESSAGES) {
            return too_many(format!("the batch has more than {MAX_MESSAGES} messages, and none is kept: send it in parts"));
        }
        let outline = match body.is_batch().then(|| body.outline(MAX_HEADERS_BYTES)) {
            Some(None) => {
                return too_many(
                    "the headers of the batch's messages are too long, and none is kept: send it in parts".to_owned(),
                );
            }
            outline => outline.flatten(),
        };
        let findings: Vec<_> = body.messages().map(look_at).collect();
        let first = findings.first().cloned().flatten();
        let has_a_good_one = findings.iter().any(|finding| !matches!(finding, Some(ReasonedVerdict::Never(_))));
        let answerable = Self { headers: body.messages().map(|it| it.header()).collect(), findings, outline };
        match first {
            Some(ReasonedVerdict::Never(complaint)) if !has_a_good_one => (answerable, Err(complaint)),
            _ => (answerable, Ok(body.into_bytes().into())),
        }
    }

    /// Whether an answer depends on the outcome in the lake.
    pub(crate) fn waits_for_outcome(&self, application_ack: ApplicationAck) -> bool {
        let verdicts = [hl7::Verdict::Accepted, hl7::Verdict::Error];
        let depends = |header: &AckHeader| !header.is_query() && verdicts.iter().any(|it| header.application(*it).is_some());
        application_ack == ApplicationAck::Stored && self.headers.iter().any(depends)
    }

    /// The verdict for each message. If there is no verdict for each, the first one applies to all.
    pub(crate) fn settle(&self, verdicts: &[ReasonedVerdict]) -> Vec<ReasonedVerdict> {
        let one_each = verdicts.len() == self.headers.len();
        let verdict = |nth: usize| if one_each { verdicts.get(nth) } else { verdicts.first() };
        let settle = |nth: usize| {
            let verdict = verdict(nth).cloned().unwrap_or(ReasonedVerdict::Accepted);
            match (verdict, self.findings.get(nth).cloned().flatten()) {
                (verdict @ ReasonedVerdict::NotNow(_), _) => verdict,
                (_, Some(never @ ReasonedVerdict::Never(_))) => never,
                (ReasonedVerdict::Accepted, Some(finding)) => finding,
                (verdict, _) => verdict,
            }
        };
        (0..self.headers.len()).map(settle).collect()
    }

    /// The commit acknowledgment, without framing, if the message gets one. A batch gets none: its one answer is
    /// [`Answerable::application`].
    pub(crate) fn commit(&self, verdicts: &[ReasonedVerdict], ids: &ControlIds) -> Option<Vec<u8>> {
        let (None, [header], [verdict]) = (&self.outline, self.headers.as_slice(), verdicts) else { return None };
        acknowledge(header, header.commit(verdict.hl7())?, verdict, ids)
    }

    /// The application acknowledgment, without framing, if the message gets one. A batch gets a batch of acknowledgments, one for
    /// each message: the application acknowledgment if the message asks for one, else the commit acknowledgment.
    pub(crate) fn application(&self, verdicts: &[ReasonedVerdict], ids: &ControlIds) -> Option<Vec<u8>> {
        let Some(outline) = &self.outline else {
            let (header, verdict) = self.headers.first().zip(verdicts.first())?;
            return acknowledge(header, header.application(verdict.hl7())?, verdict, ids);
        };
        let codes: Vec<_> = self.headers.iter().zip(verdicts).map(|(header, it)| header.answer_in_batch(it.hl7())).collect();
        if !codes.is_empty() && codes.iter().all(Option::is_none) {
            return None;
        }
        let time = Timestamp::from(SystemTime::now()).hl7();
        let control_ids: Vec<String> = self.headers.iter().map(|_| ids.next()).collect();
        let acks =
            self.headers.iter().zip(verdicts).zip(codes).zip(&control_ids).map(|(((header, verdict), code), control_id)| {
                (header.clone(), code.map(|code| Ack { code, problem: verdict.problem(), control_id, time: &time }))
            });
        let answer = hl7::acknowledge_batch(outline, &ids.next(), &time, acks);
        Some(answer).filter(|answer| !answer.is_empty())
    }
}

fn acknowledge(header: &AckHeader, code: AckCode, verdict: &ReasonedVerdict, ids: &ControlIds) -> Option<Vec<u8>> {
    let ack = Ack { code, problem: verdict.problem(), control_id: &ids.next(), time: &Timestamp::from(SystemTime::now()).hl7() };
    Some(hl7::acknowledge(header, &ack))
}

/// Reads a message as the API will, and returns the finding about it.
fn look_at(piece: Piece<'_>) -> Option<ReasonedVerdict> {
    match piece.read() {
        Ok(message) => message.delimiters.is_err().then_some(ReasonedVerdict::AcceptedWith(AckProblem::MSH_UNREADABLE)),
        Err(error) => Some(ReasonedVerdict::Never(Complaint::of_unreceivable(&error))),
    }
}

impl ReasonedVerdict {
    /// The verdict for a message that was not written.
    pub(crate) fn of_unwritten(error: Unwritten) -> Self {
        Self::NotNow(format!("{error}: the message is not kept, send it again later"))
    }

    /// The reason why the message is not kept, in words that contain nothing of it.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted | Self::AcceptedWith(_) | Self::Kept(_) => None,
            Self::Never(complaint) => Some(&complaint.detail),
            Self::NotNow(detail) => Some(detail),
        }
    }

    /// Whether the message is kept.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted | Self::AcceptedWith(_) | Self::Kept(_))
    }

    fn hl7(&self) -> hl7::Verdict {
        match self {
            Self::Accepted | Self::AcceptedWith(_) | Self::Kept(_) => hl7::Verdict::Accepted,
            Self::Never(_) => hl7::Verdict::Error,
            Self::NotNow(_) => hl7::Verdict::Rejected,
        }
    }

    fn problem(&self) -> Option<AckProblem<'_>> {
        match self {
            Self::Accepted => None,
            Self::AcceptedWith(problem) => Some(*problem),
            Self::Kept(detail) => Some(AckProblem::note(detail)),
            Self::NotNow(detail) => Some(AckProblem::internal(detail)),
            Self::Never(Complaint { condition, location, detail }) => {
                Some(AckProblem { condition: *condition, severity: Severity::Error, location: *location, detail })
            }
        }
    }
}

impl From<Ending> for ReasonedVerdict {
    /// A message that the lake keeps although it cannot be parsed is accepted with a warning: sending it again would change
    /// nothing, and nothing of it is lost.
    fn from(ending: Ending) -> Self {
        let never = |detail: &str| Self::Never(Complaint::of_frame(Condition::ApplicationInternal, detail));
        match ending {
            Ending::Stored => Self::Accepted,
            Ending::Unparsable => Self::AcceptedWith(AckProblem {
                detail: "the message is stored as it came, and cannot be parsed",
                ..AckProblem::MSH_UNREADABLE
            }),
            // The lake keeps it, so it is not refused: the sender need not send it again.
            Ending::Held(reason) => Self::Kept(format!("the lake keeps the message and has not stored it ({reason})")),
            Ending::Lost { is_kept: true } => {
                Self::Kept("the lake has not stored the message: the gateway keeps it and submits it again".to_owned())
            }
            Ending::Lost { is_kept: false } => Self::NotNow("the lake has not stored the message: send it again".to_owned()),
            Ending::Discarded => never("an operator of the lake has discarded the message"),
            Ending::Damaged => {
                Self::NotNow("the gateway's disk has damaged the message: it is not kept, send it again".to_owned())
            }
            Ending::Refused(detail) => never(&format!("the API refuses the message: {detail}")),
        }
    }
}

/// Generates MSH-10 of the answers, at most 20 characters (HL7 2.5.1 §2.15.9.10): the start time and a number.
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
        // 11 digits of milliseconds last until 2527, and 9 digits of the number for 68 billion answers.
        format!("{:011X}{:X}", self.start_ms, self.next.fetch_add(1, Ordering::Relaxed) & 0xf_ffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::frame::{Frame, Frames, framed};

    const MSH: &str = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|";

    /// The answers to one message or batch, in order.
    fn answers(message: &str, verdict: &ReasonedVerdict) -> Vec<String> {
        let (answerable, content) = Answerable::of(message.as_bytes().to_vec(), None);
        assert_eq!(content.as_deref(), Ok(message.as_bytes()));
        let (verdicts, ids) = (answerable.settle(std::slice::from_ref(verdict)), ControlIds::new(1_700_000_000_000));
        let answers = [answerable.commit(&verdicts, &ids), answerable.application(&verdicts, &ids)];
        answers.into_iter().flatten().map(|it| String::from_utf8(it).unwrap()).collect()
    }

    fn batch_answer(batch: &str, verdicts: &[ReasonedVerdict]) -> Option<String> {
        let (answerable, _) = Answerable::of(batch.as_bytes().to_vec(), None);
        let (verdicts, ids) = (answerable.settle(verdicts), ControlIds::new(1_700_000_000_000));
        assert_eq!(answerable.commit(&verdicts, &ids), None);
        answerable.application(&verdicts, &ids).map(|it| String::from_utf8(it).unwrap())
    }

    /// MSA-1 and MSA-2 of all acknowledgments.
    fn codes(answer: &str) -> Vec<(&str, &str)> {
        let msa = answer.split('\r').filter_map(|segment| segment.strip_prefix("MSA|"));
        msa.map(|fields| fields.split('|').collect::<Vec<_>>()).map(|fields| (fields[0], fields[1])).collect()
    }

    #[test]
    fn only_messages_that_are_not_kept_are_refused() {
        let message = format!("{MSH}7|P|2.5.1|||AL|AL\rPID|1\r");
        let code = |verdict| answers(&message, &verdict).iter().map(|it| codes(it)[0].0.to_owned()).collect::<Vec<_>>().join(" ");
        assert_eq!(code(ReasonedVerdict::Accepted), "CA AA");
        assert_eq!(code(ReasonedVerdict::Kept("no outcome yet".to_owned())), "CA AA");
        assert_eq!(code(ReasonedVerdict::AcceptedWith(AckProblem::MSH_UNREADABLE)), "CA AA");
        assert_eq!(code(ReasonedVerdict::NotNow("full".to_owned())), "CR AR");
        assert_eq!(code(ReasonedVerdict::from(Ending::Discarded)), "CE AE");
    }

    #[test]
    fn a_message_in_another_character_set_than_its_feeds_is_refused_by_its_control_id() {
        let message = format!("{MSH}77|P|2.5.1\rPID|1||7||MÜLLER\r");
        let wide: Vec<u8> = message.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for content in [wide, format!("\u{feff}{message}").into_bytes()] {
            let (answerable, content) = Answerable::of(content, Charset::for_label("iso-8859-1"));
            let complaint = content.unwrap_err();
            let (verdicts, ids) = (answerable.settle(&[ReasonedVerdict::Never(complaint)]), ControlIds::new(1_700_000_000_000));
            let answer = answerable.application(&verdicts, &ids).unwrap();
            // Without the zero bytes of UTF-16.
            let answer: String = answer.iter().filter(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect();
            assert_eq!(codes(&answer), [("AE", "77")], "{answer}");
        }
    }

    #[test]
    fn only_an_application_acknowledgment_waits_for_the_outcome() {
        let waits = |kind: &str, msh_15_16: &str| {
            let message = format!("MSH|^~\\&|A|B|C|D|1||{kind}|7|P|2.5.1|||{msh_15_16}\rPID|1\r");
            let (answerable, _) = Answerable::of(message.into_bytes(), None);
            assert!(!answerable.waits_for_outcome(ApplicationAck::Safe), "{kind} {msh_15_16}");
            answerable.waits_for_outcome(ApplicationAck::Stored)
        };
        for msh_15_16 in ["", "AL|AL", "NE|ER", "NE|SU"] {
            assert!(waits("ADT^A01", msh_15_16), "{msh_15_16}");
        }
        assert!(!waits("ADT^A01", "AL|NE") && !waits("ACK^A01", "") && !waits("QRY^Q02", ""));
    }

    #[test]
    fn a_batch_is_answered_by_a_batch_with_an_acknowledgment_for_each_message() {
        let batch =
            format!("FHS|^~\\&|A\rBHS|^~\\&|A\r{MSH}1|P|2.5\rPID|1\r\r{MSH}2|P|2.5\rOBX|1|ST|{}\rBTS|2\rFTS|1\r", "x".repeat(99));
        let never = || ReasonedVerdict::from(Ending::Discarded);
        let answered = batch_answer(&batch, &[ReasonedVerdict::Accepted, never()]).unwrap();
        assert_eq!(codes(&answered), [("AA", "1"), ("AE", "2")]);
        assert!(answered.starts_with("FHS|") && answered.contains("\rBTS|2\r"), "{answered}");
        let answered = batch_answer(&batch, &[ReasonedVerdict::Accepted]).unwrap();
        assert_eq!(codes(&answered), [("AA", "1"), ("AA", "2")]);
        let mixed = format!("{MSH}1|P|2.5|||AL|NE\r{MSH}2|P|2.5|||AL|AL\r{MSH}3|P|2.5|||NE|NE\r");
        assert_eq!(codes(&batch_answer(&mixed, &[ReasonedVerdict::Accepted]).unwrap()), [("CA", "1"), ("AA", "2")]);
        assert_eq!(batch_answer(&format!("BHS|^~\\&|A\r{MSH}3|P|2.5|||NE|NE\rBTS|1\r"), &[ReasonedVerdict::Accepted]), None);

        let (answerable, message) = Answerable::of(batch.into_bytes(), None);
        assert!(answerable.outline.unwrap().bytes().len() + 100 < message.unwrap().len(), "the messages themselves are not kept");
        for many in [format!("{MSH}1|P|2.5\r"), "BHS|\r".to_owned(), "FHS|^~\\&|A\r".to_owned()] {
            let (answerable, content) = Answerable::of(many.repeat(5001).into_bytes(), None);
            assert!(content.is_err_and(|complaint| complaint.detail.contains("more than 5000 messages")), "{many:?}");
            assert_eq!(answerable.settle(&[ReasonedVerdict::Accepted]).len(), 1, "one answer, and not thousands: {many:?}");
        }
        let long = format!("{MSH}{}|P|2.5\r", "1".repeat(1000)).repeat(2000);
        assert!(Answerable::of(long.into_bytes(), None).1.is_err_and(|complaint| complaint.detail.contains("too long")));
    }

    #[test]
    fn an_empty_batch_is_answered_with_a_batch() {
        let empty = "FHS|^~\\&|A|B\rBHS|^~\\&|A|B\rBTS|0\rFTS|1\r";
        let answered = batch_answer(empty, &[ReasonedVerdict::Accepted]).unwrap();
        let segments: Vec<_> = answered.split_terminator('\r').map(|it| it.split('|').next().unwrap()).collect();
        assert_eq!(segments, ["FHS", "BHS", "BTS", "FTS"], "{answered}");
    }

    #[test]
    fn a_batch_in_utf_16_is_answered_in_it_with_the_mark_that_it_had() {
        let batch = format!("\u{feff}BHS|^~\\&|A\r{MSH}1|P|2.5\r{MSH}2|P|2.5\rBTS|2\r");
        let charset = Charset::for_label("utf-16be").unwrap();
        let (answerable, _) = Answerable::of(charset.encode(&batch).unwrap(), None);
        let verdicts = answerable.settle(&[ReasonedVerdict::Accepted]);
        let answer = answerable.application(&verdicts, &ControlIds::new(1_700_000_000_000)).unwrap();
        let answer = charset.decode(&answer).unwrap();
        assert!(answer.starts_with("\u{feff}BHS|") && answer.ends_with("\rBTS|2\r"), "{answer}");
        assert_eq!(codes(&answer), [("AA", "1"), ("AA", "2")]);
    }

    #[test]
    fn a_report_with_lines_that_look_like_trailers_has_one_acknowledgment() {
        let report = format!("{MSH}77|P|2.5.1\rOBX|1|TX|c||Norwood I,\nBTS-Shunt offen,\nkeine Stenose.||||||F\r");
        let answered = answers(&report, &ReasonedVerdict::Accepted);
        assert_eq!(answered.iter().map(|it| codes(it)).collect::<Vec<_>>(), [[("AA", "77")]]);
        assert_eq!(answered[0].matches("MSH|").count(), 1);
    }

    #[test]
    fn each_message_of_a_batch_has_its_own_character_set_and_its_own_fault() {
        let of = |msh_18: &str, name: &[u8]| {
            [format!("{MSH}{msh_18}|P|2.5||||||{msh_18}\r").as_bytes(), b"PID|1||||", name, b"\r"].concat()
        };
        let batch =
            [b"BHS|^~\\&|A\r".to_vec(), of("8859/1", b"M\xfcller"), of("", "M\u{fc}ller".as_bytes()), of("", b"M\xfcller")]
                .concat();
        let (answerable, content) = Answerable::of(batch.clone(), None);
        assert_eq!(content.unwrap(), batch);
        let settled = answerable.settle(&[ReasonedVerdict::Accepted]);
        assert!(settled[0].is_accepted() && settled[1].is_accepted());
        assert!(
            matches!(&settled[2], ReasonedVerdict::Never(complaint) if complaint.detail.contains("not valid UTF-8")),
            "{settled:?}"
        );
        let full = ReasonedVerdict::of_unwritten(Unwritten::Full);
        assert_eq!(answerable.settle(std::slice::from_ref(&full)), [full.clone(), full.clone(), full]);
        let bad = [of("", b"\xff"), of("", b"\xff")].concat();
        assert!(Answerable::of(bad, None).1.is_err());
    }

    #[test]
    fn a_message_without_a_readable_msh_is_taken_with_a_warning() {
        let (answerable, content) = Answerable::of(b"PID|1\r".to_vec(), None);
        assert_eq!(
            (content.is_ok(), answerable.settle(&[ReasonedVerdict::Accepted])),
            (true, vec![ReasonedVerdict::AcceptedWith(AckProblem::MSH_UNREADABLE)])
        );
        assert_eq!(codes(&answers("PID|1\r", &ReasonedVerdict::Accepted)[0]), [("AA", "")]);
    }

    #[test]
    fn a_message_that_can_never_be_stored_is_refused_with_the_place() {
        let complaint = |message: &[u8]| Answerable::of(message.to_vec(), None).1.unwrap_err();
        assert_eq!(complaint(b" \r\n").condition, Condition::SegmentSequence);
        let bad = complaint(b"MSH|^~\\&|A|\xff");
        assert_eq!((bad.location, bad.detail.contains("byte 11")), (Some(("MSH", Some(18))), true), "{bad:?}");
        let unknown = format!("{MSH}1|P|2.5||||||CNS 11643-1992\rPID|1\r");
        let bad = complaint(&[unknown.as_bytes(), b"\xff"].concat());
        assert!(bad.detail.contains(&format!("byte {}", unknown.len())), "{bad:?}");
    }

    #[test]
    fn a_named_character_set_applies_to_all_messages() {
        let latin_1 = Charset::for_label("iso-8859-1").unwrap();
        let message = format!("{MSH}7|P|2.5\rPID|1||7||M\u{fc}ller\r");
        let bytes = latin_1.encode(&message).unwrap();
        assert!(Answerable::of(bytes.clone(), None).1.is_err());
        assert_eq!(Answerable::of(bytes.clone(), Some(latin_1)).1, Ok(bytes.clone()));
        assert_eq!(Answerable::of(bytes.repeat(2), Some(latin_1)).1, Ok(bytes.repeat(2)));
    }

    /// A line of a text that looks like a part of a body or of a frame, and is none.
    fn line() -> impl Strategy<Value = String> {
        let looks_like_a_part = select(vec![
            "BTS-Shunt offen,",
            "FHS: 148/min",
            "MSH: hormone",
            "MSH",
            "FTS",
            "PID: 7",
            "MSH/AAAA++AA==",
            "BTS+AAAA",
            "BHS$%*!$A",
            "\u{b}",
            "\u{b}MSH text",
            "\u{b}MSH|text",
            "\u{b}BHS, and more",
            "\u{1c}x",
            "a\u{1c}\u{b}b",
            "",
        ]);
        let any = "[a-z|^~\\\\&é\t \u{b}\u{1c}]{0,8}".prop_filter("the end of a frame", |it| !it.ends_with('\u{1c}'));
        prop_oneof![looks_like_a_part.prop_map(str::to_owned), any, "[A-Za-z0-9+/]{8}"]
    }

    proptest! {
        #[test]
        fn a_frame_with_one_message_has_one_answer_with_its_control_id_whatever_its_text_holds(
            id in "[A-Z0-9]{1,9}",
            lines in prop::collection::vec(line(), 0..6),
            end in select(vec!["\r", "\n", "\r\n"]),
            piece in 1..60_usize,
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let message = format!("{MSH}{id}|P|2.5.1{end}OBR|1||9|c{end}OBX|1|TX|c||{text}x||||||F{end}");
            let (mut frames, mut found) = (Frames::new(100_000), Vec::new());
            for mut piece in framed(message.as_bytes()).chunks(piece) {
                while let Some(frame) = frames.next(&mut piece) {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, [Frame::Whole(message.clone().into_bytes())], "{:?}", message);
            let answered = answers(&message, &ReasonedVerdict::Accepted);
            prop_assert_eq!(answered.iter().map(|it| codes(it)).collect::<Vec<_>>(), [[("AA", id.as_str())]], "{:?}", message);
            prop_assert_eq!(answered[0].matches("MSH|").count(), 1);
        }
    }

    #[test]
    fn control_ids_are_short_and_differ() {
        let ids = ControlIds::new(1_800_000_000_000);
        let (one, two) = (ids.next(), ids.next());
        assert!(one != two && one.len() <= 20, "{one} {two}");
        assert_ne!(one, ControlIds::new(1_800_000_000_001).next());
    }
}
