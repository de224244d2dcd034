//! What must hold of any bytes. `fuzz_targets` looks for bytes of which it does not, and `crates/hl7/tests/replay.rs` tries those
//! once found, with `cargo test`.

use domain::{Charset, Er7, MAX_MESSAGE_BYTES, Received};
use sluice_hl7::{
    Ack, AckCode, AckHeader, AckProblem, Body, Condition, Delimiters, Part, PartKind, Severity, Verdict, acknowledge_batch_in,
    acknowledge_in, read_json, summarize, validate, write_json,
};

const TIME: &str = "20261121172300+0000";

/// Labels of character sets that messages come in.
const LABELS: [&str; 26] = [
    "utf-8",
    "utf-16le",
    "utf-16be",
    "windows-1252",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "windows-1254",
    "iso-8859-10",
    "windows-874",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "gb18030",
    "gbk",
    "big5",
    "euc-kr",
    "euc-jp",
    "shift_jis",
    "iso-2022-jp",
    "koi8-r",
    "macintosh",
];

/// Character sets: what a message says, and any.
pub fn canonical(bytes: &[u8]) {
    let said = Charset::of_message(bytes);
    let any = bytes.first().and_then(|&it| Charset::for_label(LABELS[usize::from(it) % LABELS.len()]));
    for charset in [said.ok(), any].into_iter().flatten() {
        assert_eq!(Charset::for_label(charset.name()), Some(charset));
        let text = match charset.decode(bytes) {
            Ok(text) => text,
            Err(error) => {
                assert!(error.offset() < bytes.len(), "an offset past the end");
                continue;
            }
        };
        // A text that a set can hold is the same again behind it; ISO-2022-JP and others have many bytes for one text.
        if let Some(again) = charset.encode(&text) {
            assert!(charset.decode(&again).as_ref() == Ok(&text), "{charset:?} does not read what it wrote");
        }
        let received = Received::new(bytes.to_vec(), charset);
        let Ok(message) = received.message() else {
            assert!(text.chars().all(|it| matches!(it, '\u{feff}' | '\u{b}' | '\u{1c}' | ' ' | '\t' | '\r' | '\n')), "refused");
            continue;
        };
        let text = message.as_str();
        assert!(text.ends_with('\r') && !text.contains("\r\r") && !text.contains("\r\n"), "not canonical");
        assert!(Er7::canonical(text).as_ref() == Ok(&message), "not idempotent");
        let framed = format!("\u{feff}\u{b} {}\u{1c}\r", text.replace('\n', "\r\n"));
        assert!(Er7::canonical(&framed).as_ref() == Ok(&message), "framing and the line ends of a text change it");
        // Behind a line feed only that is a segment which looks like one.
        let mut segments = text.split_terminator('\r');
        let separator = segments.next().and_then(|msh| msh.strip_prefix("MSH")?.chars().next());
        let separator = separator.filter(|it| !it.is_alphanumeric() && !it.is_whitespace() && !it.is_control());
        if separator.is_none_or(|separator| segments.all(|segment| is_segment(segment, separator))) {
            for end in ["\n", "\r\n", "\r\r\n", "\n \n"] {
                let other = Er7::canonical(&text.replace('\r', end));
                assert!(other.as_ref() == Ok(&message), "another message behind {end:?}");
            }
        }
    }
}

fn is_segment(segment: &str, separator: char) -> bool {
    let mut characters = segment.chars();
    let letter = characters.next().is_some_and(|it| it.is_ascii_uppercase());
    let rest = [characters.next(), characters.next()]
        .iter()
        .flatten()
        .filter(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
        .count();
    let is_header = ["MSH", "BHS", "FHS"].iter().any(|it| segment.starts_with(it));
    letter && rest == 2 && !is_header && characters.next() == Some(separator)
}

/// A message to JSON and back.
pub fn rendition(bytes: &[u8]) {
    let Ok(charset) = Charset::of_message(bytes) else { return };
    let Ok(message) = Received::new(bytes.to_vec(), charset).message() else { return };
    round_trip(&message);
}

fn round_trip(message: &Er7) {
    let summary = summarize(message);
    for value in [&summary.message_type, &summary.control_id, &summary.hl7_version].into_iter().flatten() {
        assert!(!value.is_empty() && value.chars().count() <= 199 && !value.contains(char::is_control), "a value of the summary");
    }
    let Ok(delimiters) = Delimiters::of(message) else { return };
    let mut json = Vec::new();
    assert!(write_json(message, &delimiters, &mut json).is_ok(), "not written");
    assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok(), "not JSON");
    assert!(json.len() <= 60 * message.size_bytes() + 1_000, "too long");
    assert!(!json.contains(&b'\n'), "more than a line");
    assert!(read_json(&json).as_ref() == Ok(message), "does not come back");
}

/// Any JSON, and what is none.
pub fn document(bytes: &[u8]) {
    let Ok(message) = read_json(bytes) else { return };
    assert!(message.size_bytes() <= 4 * MAX_MESSAGE_BYTES + 3 * bytes.len(), "too long");
    if message.size_bytes() < 100_000 {
        round_trip(&message);
    }
}

/// A batch, its messages and its acknowledgment.
pub fn batch(bytes: &[u8]) {
    let body = Body::of(bytes.to_vec(), None);
    let mut end = 0;
    for Part { range, .. } in body.parts() {
        assert!(range.start >= end && range.start < range.end && range.end <= bytes.len(), "not in order");
        let between = &bytes[end..range.start];
        assert!(between.iter().all(|it| matches!(it, 0 | b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x1c)), "something is lost");
        end = range.end;
    }
    let found = body.parts().iter().filter(|it| it.kind == PartKind::Message).count();
    assert!(if body.is_batch() { body.count() == found } else { body.count() == 1 && found <= 1 }, "messages");
    assert!(body.problems().len() <= 2 * body.parts().len() + 2);
    for piece in body.messages() {
        let alone = Body::of(piece.bytes().to_vec(), body.named_charset());
        assert!(!alone.is_batch(), "a message of a batch is several");
        assert!(alone.message(1).map(|it| it.read()) == Some(piece.read()), "a message is another one outside of its batch");
    }
    let headers: Vec<AckHeader> = body.messages().map(|it| it.header()).collect();
    let acks: Vec<_> = headers
        .into_iter()
        .map(|header| {
            let code = header.answer_in_batch(Verdict::Accepted);
            (header, code.map(|code| Ack { code, problem: None, control_id: "S1", time: TIME }))
        })
        .collect();
    let wanted = acks.iter().filter(|(_, ack)| ack.is_some()).count();
    for asked in [None, Some(Charset::UTF_8), Charset::for_label("iso-8859-1"), Charset::for_label("utf-16le")] {
        let (charset, answer) = acknowledge_batch_in(&body, "S1", TIME, acks.clone(), asked);
        let text = charset.decode(&answer).expect("what was written in a character set is of it");
        let text = text.trim_start_matches('\u{feff}');
        assert_eq!(text.split('\r').filter(|it| it.starts_with("MSH")).count(), wanted, "acknowledgments");
    }
}

/// An acknowledgment of anything.
pub fn ack(bytes: &[u8]) {
    let header = AckHeader::of(bytes);
    let problem = AckProblem {
        condition: Condition::DataType,
        severity: Severity::Error,
        location: Some(("MSH", Some(18))),
        detail: "the message is not valid UTF-8: byte 4 | & ~ \\ ^ cannot be decoded",
    };
    for (code, problem) in [(AckCode::CA, None), (AckCode::CE, Some(problem))] {
        let ack = Ack { code, problem, control_id: "S1", time: TIME };
        for asked in [None, Some(Charset::UTF_8), Charset::for_label("iso-8859-1"), Charset::for_label("utf-16le")] {
            let (charset, answer) = acknowledge_in(&header, &ack, asked);
            let text = charset.decode(&answer).expect("what was written in a character set is of it");
            let message = Er7::canonical(&text).expect("an acknowledgment is not empty");
            let delimiters = Delimiters::of(&message).expect("an acknowledgment is readable");
            let text = text.trim_start_matches('\u{feff}');
            let segments: Vec<&str> = text.split_terminator('\r').collect();
            assert_eq!(segments.len(), if problem.is_some() { 3 } else { 2 }, "segments");
            assert_eq!(AckHeader::of(&answer).answers(Verdict::Accepted).count(), 0, "an acknowledgment is acknowledged");
            let mut msa = segments[1].split(delimiters.field);
            assert_eq!((msa.next(), msa.next()), (Some("MSA"), Some(code.as_str())));
            assert_eq!(msa.next().unwrap_or_default(), header.control_id(), "the control id");
            if asked.is_none() {
                round_trip(&message);
            }
        }
    }
}

/// A message held against its version.
pub fn validation(bytes: &[u8]) {
    let Ok(charset) = Charset::of_message(bytes) else { return };
    let Ok(message) = Received::new(bytes.to_vec(), charset).message() else { return };
    let report = validate::validate(&message);
    assert!(report.findings.len() <= validate::MOST_FINDINGS, "too many");
    assert!(report.more == 0 || report.findings.len() == validate::MOST_FINDINGS, "more, and not full");
    assert_eq!(report.version.is_some(), Delimiters::of(&message).is_ok());
    let segments = message.as_str().matches('\r').count();
    for finding in &report.findings {
        assert_eq!(finding.severity, finding.code.severity());
        assert!(finding.location.is_none_or(|it| (1..=segments).contains(&it.number)), "a place that is not there");
        assert!(finding.detail.len() < 400 && !finding.detail.contains(char::is_control), "an odd sentence");
    }
    assert!(serde_json::to_string(&report).is_ok(), "not JSON");
}
