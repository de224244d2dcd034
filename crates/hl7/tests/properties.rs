//! What holds of every message: of its canonical form and id, and of its rendition.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod generated;

use domain::{Charset, Er7, MessageId, Received};
use proptest::prelude::*;
use proptest::sample::select;
use sluice_hl7::{Body, Delimiters, read_json, summarize, write_json};

/// One or more of each kind of character set, table 0211 and what else senders use.
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
    "koi8-r",
    "macintosh",
    "gb18030",
    "gbk",
    "big5",
    "euc-kr",
    "euc-jp",
    "shift_jis",
    "iso-2022-jp",
];

fn id(text: &str) -> MessageId {
    Er7::canonical(text).unwrap().message_id()
}

/// A line of a text that begins no segment and no part of a message whose field separator is `|`.
fn line() -> impl Strategy<Value = String> {
    let looks_like_a_part = select(vec![
        "BTS-Shunt offen,",
        "FHS: 148/min",
        "MSH: hormone",
        "MSH",
        "FTS",
        "PID: 7",
        "msh|^~\\&|A",
        "MSH/AAAA++AA==",
        "BTS+AAAA",
        "BHS$%*!$A",
        "FHS#^~&#A",
        "PID^1^2",
        "ECG",
        " PID|1",
        "O2|98 %",
        "\u{c4}BC|1",
        "",
    ]);
    prop_oneof![looks_like_a_part.prop_map(str::to_owned), "[a-z|^~\\\\&é\t \u{feff}]{0,8}", "[A-Za-z0-9+/]{8}"]
}

/// A text of lines; it neither begins nor ends with a blank.
fn text() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec(line(), 0..4);
    ("[A-Z^~\\\\&é]", lines, "[a-z.]").prop_map(|(first, lines, last)| {
        let between: String = lines.iter().map(|it| format!("{it}\n")).collect();
        format!("{first}\n{between}{last}")
    })
}

/// The content of a message, segment by segment, with texts of several lines in its fields. Its control id is in [`control_id`].
fn content() -> impl Strategy<Value = Vec<String>> {
    let segment = prop_oneof![
        "[A-Z][A-Z0-9]{2}\\|[A-Z|^~\\\\&é\t \u{1c}\u{b}\u{feff}]{0,8}".prop_filter("another part", |it| !begins_a_part(it)),
        text().prop_map(|text| format!("OBX|1|TX|c||{text}||||||F")),
        text().prop_map(|text| format!("NTE|1||{text}")),
    ];
    ("[A-Z0-9]{1,8}", "[A-Z|^]{0,4}", prop::collection::vec(segment, 0..5), "[A-Z^]{0,4}").prop_map(|(id, end, between, last)| {
        let msh = format!("MSH|^~\\&|A|B|C|D|1||ORU^R01|{id}|P|2.5.1|{end}");
        [vec![msh], between, vec![format!("Z99|{last}|x")]].concat()
    })
}

/// MSH-10 of [`content`].
fn control_id(content: &[String]) -> &str {
    content[0].split('|').nth(9).unwrap()
}

fn begins_a_part(segment: &str) -> bool {
    ["MSH", "FHS", "BHS", "BTS", "FTS"].iter().any(|it| segment.starts_with(it))
}

/// What senders put around and between segments: nothing of it is content.
fn framing() -> impl Strategy<Value = (String, Vec<&'static str>, String)> {
    let ends = select(vec!["\r", "\n", "\r\n", "\r\r\n", "\n\n", "\r \t\r", "\n\r"]);
    let behind = "(\r|\n|\r\n|\u{1c}\r|\u{1c}|\n[ \t]{0,2}\r|\r[ ]\u{1c}\r){0,3}";
    ("[ \t\r\n]{0,2}[\u{b}\u{feff}]{0,2}[ \t]{0,2}", prop::collection::vec(ends, 8), behind)
}

fn framed(content: &[String], (before, ends, behind): &(String, Vec<&'static str>, String)) -> String {
    let mut text = before.clone();
    for (i, segment) in content.iter().enumerate() {
        if i > 0 {
            text.push_str(ends[i % ends.len()]);
        }
        text.push_str(segment);
    }
    text + behind
}

/// A message without a line that begins like a part of a batch, and with delimiters that tell it from a text.
fn one_part() -> impl Strategy<Value = String> {
    let is_told = |text: &String| {
        let delimiters = Delimiters::of(&Er7::canonical(text).unwrap()).unwrap();
        let Delimiters { field, component, repetition, escape, .. } = delimiters;
        let ascii = |it: Option<char>| it.is_some_and(|it| it.is_ascii());
        field == '|' || field.is_ascii() && ascii(component) && ascii(repetition) && ascii(escape) && text.is_ascii()
    };
    generated::message().prop_filter("delimiters", is_told).prop_map(|text| {
        let text = text.replace('\n', " ");
        let lines = text.split_inclusive('\r').enumerate().filter(|(i, line)| *i == 0 || !begins_a_part(line));
        lines.map(|(_, line)| line).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_message_with_any_text_is_one_message_with_one_id_and_one_header(content in content(), one in framing(), crlf: bool) {
        let plain = content.iter().map(|it| format!("{it}\r")).collect::<String>();
        let sent = framed(&content, &one);
        let sent = if crlf { sent.replace("\r\n", "\n").replace('\n', "\r\n") } else { sent };
        let body = Body::of(sent.clone(), None);
        prop_assert_eq!(body.count(), 1, "{:?}", sent);
        prop_assert!(!body.is_batch());
        let message = body.message(1).unwrap().read().unwrap();
        prop_assert_eq!(message.er7.as_str(), &plain);
        prop_assert_eq!(message.id, id(&plain));
        prop_assert_eq!(body.messages().map(|it| it.header().control_id().to_owned()).collect::<Vec<_>>(), [control_id(&content)]);
        let mut json = Vec::new();
        write_json(&message.er7, &message.delimiters.unwrap(), &mut json).unwrap();
        prop_assert_eq!(read_json(&json), Ok(message.er7));
    }

    #[test]
    fn a_batch_of_messages_with_any_text_has_these_messages(
        contents in prop::collection::vec((content(), framing()), 0..4),
        header in select(vec!["BHS|^~\\&|", "BHS|", "BHS;%*!@;", "FHS|^~\\&|\rBHS|^~\\&|", "FHS!^~\\&!\rBHS|"]),
    ) {
        let mut sent = format!("{header}\r");
        for (content, framing) in &contents {
            // A line feed would make a CRLF of the end before it.
            sent += framed(content, framing).trim_start_matches('\n');
            sent.push('\r');
        }
        let field = |line: &str| line.chars().nth(3).unwrap();
        for line in header.split('\r').collect::<Vec<_>>().into_iter().rev() {
            let (name, count) = if line.starts_with('B') { ("BTS", contents.len()) } else { ("FTS", 1) };
            sent += &format!("{name}{}{count}\r", field(line));
        }
        let body = Body::of(sent, None);
        let found: Vec<_> = body.messages().map(|it| it.read().unwrap().er7.as_str().to_owned()).collect();
        let expected: Vec<_> = contents.iter().map(|(it, _)| it.iter().map(|it| format!("{it}\r")).collect::<String>()).collect();
        prop_assert_eq!(found, expected);
        let ids: Vec<_> = body.messages().map(|it| it.header().control_id().to_owned()).collect();
        prop_assert_eq!(ids, contents.iter().map(|(it, _)| control_id(it)).collect::<Vec<_>>());
        prop_assert_eq!(body.problems(), []);
        prop_assert!(body.is_batch());
        for piece in body.messages() {
            let alone = Body::of(piece.bytes().to_vec(), None);
            prop_assert!(!alone.is_batch());
            prop_assert_eq!(alone.message(1).unwrap().read(), piece.read());
            prop_assert_eq!(alone.message(1).unwrap().header(), piece.header());
        }
        let outline = body.outline(usize::MAX).unwrap();
        prop_assert_eq!(outline.problems(), []);
        prop_assert_eq!(outline.messages().map(|it| it.header()).collect::<Vec<_>>(), body.messages().map(|it| it.header()).collect::<Vec<_>>());
    }

    #[test]
    fn line_ends_framing_and_blank_segments_are_no_content(content in content(), one in framing(), other in framing()) {
        let plain = content.iter().map(|it| format!("{it}\r")).collect::<String>();
        let message = Er7::canonical(&framed(&content, &one)).unwrap();
        prop_assert_eq!(message.as_str(), &plain);
        prop_assert_eq!(Er7::canonical(message.as_str()).unwrap(), message);
        prop_assert_eq!(id(&framed(&content, &one)), id(&framed(&content, &other)));
    }

    #[test]
    fn other_content_is_another_message(one in content(), other in content(), first in framing(), second in framing()) {
        prop_assume!(one != other);
        prop_assert_ne!(id(&framed(&one, &first)), id(&framed(&other, &second)));
    }

    #[test]
    fn content_with_one_character_more_or_less_is_another_message(
        text in generated::message(),
        at: prop::sample::Index,
        more in "[A-Z|^~ é]",
    ) {
        // Canonical, so that nothing in it is no content.
        let text = Er7::canonical(&text).unwrap().as_str().to_owned();
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).filter(|&place| place > 0 && place + 4 < text.len()).collect();
        let place = places[at.index(places.len())];
        let (before, behind) = text.split_at(place);
        prop_assert_ne!(id(&format!("{before}{more}{behind}")), id(&text));
        let gone = behind.chars().next().unwrap();
        if !matches!(gone, '\r' | '\n') {
            prop_assert_ne!(id(&format!("{before}{}", behind.strip_prefix(gone).unwrap())), id(&text));
        }
    }

    #[test]
    fn a_message_comes_back_from_its_rendition(text in generated::message()) {
        let message = Er7::canonical(&text).unwrap();
        let delimiters = Delimiters::of(&message).unwrap();
        let mut json = Vec::new();
        write_json(&message, &delimiters, &mut json).unwrap();
        prop_assert_eq!(read_json(&json), Ok(message.clone()));
        let document: serde_json::Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(document["segments"].as_array().unwrap().len(), message.as_str().matches('\r').count());
        prop_assert_eq!(&document["summary"], &serde_json::to_value(summarize(&message)).unwrap());
        prop_assert_eq!(summarize(&message).control_id, Some("4711".to_owned()));
    }

    #[test]
    fn a_pretty_printed_and_sorted_rendition_is_the_same_message(text in generated::message()) {
        let message = Er7::canonical(&text).unwrap();
        let mut json = Vec::new();
        write_json(&message, &Delimiters::of(&message).unwrap(), &mut json).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read_json(&serde_json::to_vec_pretty(&document).unwrap()), Ok(message));
    }

    #[test]
    fn a_message_has_one_id_in_every_character_set_that_can_hold_it(text in generated::message(), wide: bool) {
        // Few sets have everything; ASCII is in all of them.
        let text = if wide { text } else { text.chars().filter(char::is_ascii).collect() };
        let expected = id(&text);
        for label in LABELS {
            let charset = Charset::for_label(label).unwrap();
            let Some(bytes) = charset.encode(&text) else { continue };
            let message = Received::new(bytes, charset).message();
            prop_assert_eq!(message.map(|it| it.message_id()), Ok(expected.clone()), "{}", label);
        }
    }

    #[test]
    fn a_text_that_a_character_set_cannot_hold_is_not_encoded(text in "[ -~¥‾−é£€ßāłЖאعπ山カ한陳王ｶ\u{1b}\u{e}\u{a5}\u{203e}\u{2212}]{0,12}") {
        for label in LABELS {
            let charset = Charset::for_label(label).unwrap();
            let Some(bytes) = charset.encode(&text) else { continue };
            prop_assert_eq!(charset.decode(&bytes), Ok(text.as_str().into()), "{}", label);
        }
    }

    #[test]
    fn a_batch_falls_into_its_messages(
        mut texts in prop::collection::vec(one_part(), 1..4),
        end in select(vec!["\r", "\n", "\r\n"]),
        framed: bool,
    ) {
        if end != "\r" && !framed {
            // After a line feed, a line with another separator is content, and so is one without an ASCII encoding character.
            texts.retain(|it| it.strip_prefix("MSH|").is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_punctuation())));
        }
        let mut body = "FHS|^~\\&|A\rBHS|^~\\&|A\r".to_owned();
        for text in &texts {
            body += &if framed { format!("\u{b}{text}\u{1c}\r") } else { text.clone() };
        }
        let body = (body + &format!("BTS|{}\rFTS|1\r", texts.len())).replace('\r', end);
        let body = Body::of(body, None);
        let found: Vec<MessageId> = body.messages().map(|it| it.read().unwrap().id).collect();
        prop_assert_eq!(found, texts.iter().map(|it| id(&it.replace('\r', end))).collect::<Vec<_>>());
        prop_assert_eq!(body.problems(), []);
    }
}
