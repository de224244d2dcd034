//! What holds of every message: of its canonical form and id, and of its rendition.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod generated;

use domain::{Charset, Er7, MessageId, Received};
use proptest::prelude::*;
use proptest::sample::select;
use sluice_hl7::{Delimiters, read_json, split, summarize, write_json};

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

/// The content of a message, segment by segment: the first begins with something, and so does the last end.
fn content() -> impl Strategy<Value = Vec<String>> {
    let segment = "[A-Z|^~\\\\&é\t \u{1c}\u{b}\u{feff}]{0,8}";
    ("[A-Z][A-Z| ]{0,4}", prop::collection::vec(segment, 0..5), "[ A-Z|]{0,4}[A-Z|]")
        .prop_map(|(first, between, last)| [vec![first], between, vec![last]].concat())
}

/// What senders put around and between segments: nothing of it is content.
fn framing() -> impl Strategy<Value = (String, Vec<&'static str>, String)> {
    let ends = select(vec!["\r", "\n", "\r\n"]);
    ("[\u{b}\u{feff}]{0,3}", prop::collection::vec(ends, 8), "(\r|\n|\r\n|\u{1c}\r|\u{1c}|\n[ \t]{0,2}\r|\r[ ]\u{1c}\r){0,3}")
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

/// An empty segment behind one that ends in CR would make a CRLF of two line ends.
fn is_one_line_end(content: &[String], framing: &(String, Vec<&'static str>, String)) -> bool {
    framed(content, framing).matches("\r\n").count() == {
        let within = (1..content.len()).filter(|i| framing.1[i % framing.1.len()] == "\r\n").count();
        within + framing.2.matches("\r\n").count()
    }
}

/// A message without a line that begins like a part of a batch.
fn one_part() -> impl Strategy<Value = String> {
    generated::message().prop_map(|text| {
        let begins = |line: &str| ["MSH", "FHS", "BHS", "BTS", "FTS"].iter().any(|it| line.starts_with(it));
        let text = text.replace('\n', " ");
        let lines = text.split_inclusive('\r').enumerate().filter(|(i, line)| *i == 0 || !begins(line));
        lines.map(|(_, line)| line).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn line_ends_framing_and_blanks_at_the_end_are_no_content(content in content(), one in framing(), other in framing()) {
        prop_assume!(is_one_line_end(&content, &one) && is_one_line_end(&content, &other));
        let plain = content.iter().map(|it| format!("{it}\r")).collect::<String>();
        let message = Er7::canonical(&framed(&content, &one)).unwrap();
        prop_assert_eq!(message.as_str(), &plain);
        prop_assert_eq!(Er7::canonical(message.as_str()).unwrap(), message);
        prop_assert_eq!(id(&framed(&content, &one)), id(&framed(&content, &other)));
    }

    #[test]
    fn other_content_is_another_message(one in content(), other in content(), first in framing(), second in framing()) {
        prop_assume!(one != other && is_one_line_end(&one, &first) && is_one_line_end(&other, &second));
        prop_assert_ne!(id(&framed(&one, &first)), id(&framed(&other, &second)));
    }

    #[test]
    fn so_is_content_with_one_character_more_or_less(text in generated::message(), at: prop::sample::Index, more in "[A-Z|^~ é]") {
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
    fn pretty_printed_and_sorted_it_is_the_same_message(text in generated::message()) {
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
    fn what_a_set_cannot_hold_is_not_encoded(text in "[ -~¥‾−é£€ßāłЖאعπ山カ한陳王ｶ\u{1b}\u{e}\u{a5}\u{203e}\u{2212}]{0,12}") {
        for label in LABELS {
            let charset = Charset::for_label(label).unwrap();
            let Some(bytes) = charset.encode(&text) else { continue };
            prop_assert_eq!(charset.decode(&bytes), Ok(text.clone()), "{}", label);
        }
    }

    #[test]
    fn a_batch_falls_into_its_messages(texts in prop::collection::vec(one_part(), 1..4), end in select(vec!["\r", "\n", "\r\n"]), framed: bool) {
        let mut body = "FHS|^~\\&|A\rBHS|^~\\&|A\r".to_owned();
        for text in &texts {
            body += &if framed { format!("\u{b}{text}\u{1c}\r") } else { text.clone() };
        }
        let body = (body + &format!("BTS|{}\rFTS|1\r", texts.len())).replace('\r', end);
        let parts = split(body.as_bytes(), Charset::UTF_8);
        let found: Vec<MessageId> = parts.messages().map(|it| id(body.get(it).unwrap())).collect();
        prop_assert_eq!(found, texts.iter().map(|it| id(it)).collect::<Vec<_>>());
        prop_assert_eq!(parts.problems(body.as_bytes(), Charset::UTF_8), []);
    }
}
