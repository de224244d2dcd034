//! The worst that may be sent: none of it makes anything panic, or takes memory or time out of proportion.
//!
//! Memory is counted by the allocator, so that a tree of the message would be seen. Time is not: a machine may be busy.
//! What it takes for one, two and four MiB is in `docs/BENCHMARKS.md`; of what is not linear in a message of 4 MiB, these tests
//! would never end.

mod inputs;

use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use domain::{Charset, Er7, Received};
use peak_alloc::PeakAlloc;
use sluice_hl7::{
    Ack, AckCode, AckHeader, Body, Delimiters, MAX_JSON_BYTES, NotARendition, Origin, Schema, acknowledge, acknowledge_batch,
    compressed_json, decompressed, read_json, split, summarize, validate, write_json,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MAX: usize = domain::MAX_MESSAGE_BYTES;
const MIB: usize = 1 << 20;
const ACCEPTED: Ack<'_> = Ack { code: AckCode::CA, problem: None, control_id: "S1", time: "20261121172300+0000" };

/// The allocator counts for the whole process, so the tests wait for one another.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What something gives, and the most bytes that it held at a time.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let result = work();
    (result, ALLOCATED.peak_usage().saturating_sub(before))
}

fn received(bytes: Vec<u8>) -> Option<Er7> {
    let charset = Charset::of_message(&bytes).ok()?;
    Received::new(bytes, charset).message().ok()
}

/// Counts what is written.
#[derive(Default)]
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_rendition_is_written_without_a_tree() {
    let _alone = alone();
    for name in inputs::NAMES {
        let Some(message) = received(inputs::input(name, MAX)) else {
            assert_eq!(name, "UTF-16 with a lone surrogate");
            continue;
        };
        let delimiters = Delimiters::of(&message).unwrap();
        let mut written = Count::default();
        // The dictionary is read once and stays.
        let _ = sluice_hl7::Dictionary::of("2.4");
        let ((), held) = counted(|| write_json(&message, &delimiters, &mut written).unwrap());
        // One value, in a text that doubles as it grows.
        assert!(held <= 3 * MAX + 65_536, "{name}: {held} bytes held");
        assert!(written.0 <= 56 * message.size_bytes(), "{name}: {} bytes of JSON", written.0);
    }
}

#[test]
fn a_rendition_is_compressed_without_being_in_memory() {
    let _alone = alone();
    let source = "west".parse().unwrap();
    for name in ["a letter in every field of CSR", "blank segments", "one value"] {
        let message = received(inputs::input(name, MIB)).unwrap();
        let delimiters = Delimiters::of(&message).unwrap();
        let message_id = message.message_id();
        let origin = Origin { message_id: &message_id, source: &source, received_at: "2026-11-21T00:00:00Z".parse().unwrap() };
        let _ = sluice_hl7::Dictionary::of("2.4");
        let (compressed, held) = counted(|| compressed_json(&message, &delimiters, &origin, Schema::standard()).unwrap());
        // One value, and the result, both of which double as they grow; and what the compressor looks back on.
        assert!(held <= 3 * MIB + 3 * compressed.len() + 1_000_000, "{name}: {held} bytes held");
        assert!(decompressed(&compressed, MAX_JSON_BYTES).is_ok(), "{name}");
    }
}

#[test]
fn a_message_is_read_in_a_few_times_its_size() {
    let _alone = alone();
    for name in inputs::NAMES {
        let bytes = inputs::input(name, MAX);
        let size = bytes.len();
        let (_, held) = counted(|| received(bytes.clone()));
        assert!(held <= 5 * size, "{name}: {held} bytes held to read it");
        let (_, held) = counted(|| acknowledge(&AckHeader::of(&bytes), &ACCEPTED));
        assert!(held <= 5 * size + 65_536, "{name}: {held} bytes held to answer it");
        let (parts, held) = counted(|| split(&bytes, Charset::UTF_8));
        assert!(held <= 32 * size, "{name}: {held} bytes held to split it");
        let (_, held) = counted(|| parts.problems(&bytes, Charset::UTF_8));
        assert!(held <= 2 * size, "{name}: {held} bytes held to count it");
    }
}

#[test]
fn every_readable_message_comes_back_from_its_rendition() {
    let _alone = alone();
    for name in inputs::NAMES {
        let Some(message) = received(inputs::input(name, MAX / 16)) else { continue };
        let mut json = Vec::new();
        write_json(&message, &Delimiters::of(&message).unwrap(), &mut json).unwrap();
        let (back, held) = counted(|| read_json(&json));
        assert!(back.as_ref() == Ok(&message), "{name} does not come back");
        // A tree, of which the smallest part is `[],`, and the message.
        assert!(
            held <= 24 * json.len() + 4 * message.size_bytes(),
            "{name}: {held} bytes held to read {} bytes of JSON",
            json.len()
        );
        assert!(summarize(&message) != domain::Summary::default() || name.starts_with("MSH-2"), "{name}");
    }
}

#[test]
fn a_message_is_held_against_its_version_in_the_memory_of_a_report() {
    let _alone = alone();
    for name in inputs::NAMES {
        let Some(message) = received(inputs::input(name, MIB)) else { continue };
        // The dictionaries are read once and stay.
        let _ = (sluice_hl7::Dictionary::of("2.4"), sluice_hl7::Dictionary::of("2.8.2"));
        let (report, held) = counted(|| validate::validate(&message));
        assert!(report.findings.len() <= validate::MOST_FINDINGS, "{name}");
        assert!(held <= 3 * MIB + 500_000, "{name}: {held} bytes held");
    }
}

#[test]
fn two_hundred_thousand_segments_come_back_from_their_rendition() {
    let _alone = alone();
    let text = format!("MSH|^~\\&|||||||ORU^R01|1|P|2.5.1\r{}", "OBX|1|NM|x^y\r".repeat(200_000));
    let message = Er7::canonical(&text).unwrap();
    let mut json = Vec::new();
    write_json(&message, &Delimiters::of(&message).unwrap(), &mut json).unwrap();
    assert!(read_json(&json) == Ok(message));
}

#[test]
fn framing_and_blanks_around_a_message_are_cut_in_linear_time() {
    let _alone = alone();
    let message = Er7::canonical("MSH|^~\\&|A").unwrap();
    for filling in ["\r", "\n", "\r\n", "\u{1c}", " \u{1c}", "\u{1c}\r", " \r", "\t \u{1c} \r\n"] {
        let behind = filling.repeat(MIB / filling.len());
        assert!(Er7::canonical(&format!("MSH|^~\\&|A\r{behind}")).unwrap() == message, "{filling:?}");
        assert!(Er7::canonical(&behind).is_err(), "{filling:?} is no message");
        let mut parts = 0;
        let (_, held) = counted(|| parts = split(behind.as_bytes(), Charset::UTF_8).parts().len());
        assert!(parts <= 1 && held <= 64 * MIB, "{filling:?}: {parts} parts, {held} bytes held");
    }
    for filling in ["\u{feff}", "\u{b}", "\u{b}\u{feff}", " ", "\r\n", "\t\u{b}\r"] {
        let before = filling.repeat(MIB / filling.len());
        assert!(Er7::canonical(&format!("{before}MSH|^~\\&|A")).unwrap() == message, "{filling:?}");
    }
}

#[test]
fn line_ends_that_may_be_content_are_read_in_linear_time() {
    let _alone = alone();
    let begin = "MSH|^~\\&|A\rOBX|1|TX|c||one";
    for filling in
        ["\n", "\r\n", "\n \t", "\nBTS", "\nMSH|", "\nMSH|\n\n\n", "\nFHS/^~\\&", "\nMSH$%*!@\n", "\n\u{b}\u{1c}", "\nx"]
    {
        let text = format!("{begin}{}\nthree", filling.repeat(MAX / filling.len()));
        let (message, held) = counted(|| Er7::canonical(&text).unwrap());
        assert!(held <= 5 * text.len(), "{filling:?}: {held} bytes held to read it");
        assert!(Er7::canonical(message.as_str()).unwrap() == message, "{filling:?}");
        let (body, held) = counted(|| Body::of(text.clone(), None));
        assert!(held <= 3 * text.len(), "{filling:?}: {held} bytes held to split it");
        assert_eq!(body.count(), 1, "{filling:?}");
        let batch = Body::of(format!("BHS|^~\\&|\r{text}\r{begin}\rBTS|2\r"), None);
        assert_eq!((batch.count(), batch.problems()), (2, Vec::new()), "{filling:?}");
        // An MSH may have line ends in its fields, too.
        let header = format!("MSH|^~\\&|A{}B|C\rPID|1", filling.repeat(MAX / filling.len()));
        let answer = acknowledge(&AckHeader::of(header.as_bytes()), &ACCEPTED);
        assert!(answer.len() < 1000, "{filling:?}");
        assert!(Body::of(header, None).outline(MIB).is_none_or(|it| !it.is_batch()), "{filling:?}");
    }
}

#[test]
fn a_lone_surrogate_is_refused_where_it_stands() {
    let _alone = alone();
    let bytes = inputs::input("UTF-16 with a lone surrogate", MAX);
    let charset = Charset::of_message(&bytes).unwrap();
    assert_eq!((charset.name(), charset.decode(&bytes).unwrap_err().offset()), ("UTF-16LE", bytes.len() - 4));
}

#[test]
fn a_header_of_any_size_is_answered() {
    let _alone = alone();
    let long = "x".repeat(MAX);
    for header in [
        format!("MSH|{}|A", (33..127_u8).map(char::from).filter(|&it| it != '|').collect::<String>().repeat(MAX / 93)),
        format!("MSH|^~\\&|{long}|{long}"),
        format!("MSH|^~\\&||||||||{long}"),
        format!("MSH|^~\\&|||||||||||||||{long}"),
        format!("MSH{long}"),
        "MSH".to_owned(),
        "M".repeat(MAX),
        "\u{0}".repeat(MAX),
    ] {
        let answer = acknowledge(&AckHeader::of(header.as_bytes()), &ACCEPTED);
        // MSH-2 is repeated as it stands, fields of more than a thousand characters are not.
        assert!(answer.len() <= header.len() + 10_000, "{} bytes for {}", answer.len(), header.len());
        if let Ok(message) = Er7::canonical(&header) {
            let _ = (Delimiters::of(&message), summarize(&message));
        }
    }
}

#[test]
fn a_batch_of_nothing_but_headers_is_answered() {
    let _alone = alone();
    for line in ["FHS|^~\\&|\r", "BHS|^~\\&|\r", "MSH|^~\\&|\r", "BTS|\r", "FTS|9\r", "BHS|\rMSH|\rBTS|2\r"] {
        let body = Body::of(line.repeat(MAX / 16 / line.len()), None);
        let size = body.bytes().len();
        let answer = acknowledge_batch(&body, "S1", ACCEPTED.time, body.messages().map(|it| (it.header(), Some(ACCEPTED))));
        assert!(answer.len() <= 20 * size, "{line:?}: {} bytes for {size}", answer.len());
        assert!(body.problems().len() <= body.parts().len() + 2, "{line:?}");
    }
}

#[test]
fn a_document_that_promises_much_is_refused_before_it_is_made() {
    let _alone = alone();
    let document = |delimiters: &str, repetitions: &str| {
        format!(
            r#"{{"delimiters":{{"field":"|"{delimiters}}},"segments":[{{"segment":"P","fields":[{{"position":1,"repetitions":[{repetitions}]}}]}}]}}"#
        )
    };
    let far = r#"[{"position":8388607}],"#.repeat(10_000);
    let far = far.trim_end_matches(',');
    for (json, expected) in [
        (document("", far), NotARendition::Delimiter { segment: 1 }),
        (document(r#","component":"^","repetition":"~""#, far), NotARendition::TooLarge),
    ] {
        let (read, held) = counted(|| read_json(json.as_bytes()));
        assert_eq!(read, Err(expected));
        assert!(held <= 8 * MAX, "{held} bytes held");
    }
    for deep in
        ["[".repeat(MAX), r#"{"segments":["#.repeat(MAX / 13), "9".repeat(MAX), format!("\"{}", "\\u0000".repeat(MAX / 6))]
    {
        let (read, held) = counted(|| read_json(deep.as_bytes()));
        assert!(matches!(read, Err(NotARendition::Unreadable { .. })) && held <= 2 * MAX, "{held} bytes held");
    }
}
