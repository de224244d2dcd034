use domain::Er7;
use proptest::prelude::*;

use super::{exact, read_tolerantly};
use crate::{Delimiters, write_json};

fn json(text: &str) -> String {
    let message = Er7::canonical(text).unwrap();
    let mut json = Vec::new();
    write_json(&message, &Delimiters::of(&message).unwrap(), &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

/// Wherever the exact reader reads a document, the tolerant one reads the same message.
fn agree(json: &[u8]) -> bool {
    exact::read(json).is_none_or(|text| read_tolerantly(json).as_ref() == Ok(&text))
}

#[test]
fn a_rendition_as_written_is_read_without_a_tree() {
    for text in [
        "MSH|^~\\&|A|B||\"q\"|2026||ADT^A01^ADT_A01|1\"|P|2.5\rPID|1||7^^^A&B&C~8||DOE^JANE||||\rZ\"1|a\\.br\\b|\"\"|\u{e9}\u{1}",
        "MSH$%*!@#$A$$$$$$ADT%A01$1$P$2.8\rPID$%%x@@y*%\rNTE$1$$a!F!b!X0D!c!.br!d",
        "\rMSH|^~\\&\r\rmsh\rMSH|^~\\&|again",
        "MSH\u{a7}^~\\&\u{a7}\u{e9}^\u{1f600}",
        "MSH|^",
    ] {
        let json = json(text);
        assert!(exact::read(json.as_bytes()).is_some(), "{json}");
        assert!(exact::read(format!("{json}\n").as_bytes()).is_some(), "{json}");
        assert!(agree(json.as_bytes()), "{json}");
        let origin = r#""version":2,"origin":{"messageId":"0","source":"west","receivedAt":"2026"},"#;
        for begins in ["", origin] {
            let other = json.replacen("\"version\":2,", begins, 1);
            assert!(exact::read(other.as_bytes()).is_some() && agree(other.as_bytes()), "{other}");
        }
    }
}

#[test]
fn an_edited_rendition_is_left_to_the_tolerant_reader() {
    let json = json("MSH|^~\\&|A\rPID|1||7^8");
    for (from, to) in [
        ("\"segments\":[", "\"segments\": ["),
        ("\"position\":3", "\"position\":03"),
        ("\"position\":3", "\"position\":1"),
        ("\"position\":3", "\"position\":9999999999"),
        ("\"value\":\"7\"", "\"value\":\"7"),
        ("\"value\":\"7\"", "\"value\":7"),
        ("\"value\":\"7\"", "\"value\":\"\\x\""),
        ("\"component\":\"^\"", "\"component\":\"^^\""),
        ("\"component\":\"^\",", ""),
        ("\"summary\"", "\"SUMMARY\""),
        ("\"version\":2", "\"version\":1"),
        ("\"version\":2", "\"version\":3"),
        ("\"version\":2,", "\"origin\":{},"),
        ("]}]}", "]}],\"more\":1}"),
        ("]}]}", "]}]}}"),
        ("]}]}", "]},]}"),
    ] {
        let edited = json.replacen(from, to, 1);
        assert_ne!(edited, json);
        assert_eq!(exact::read(edited.as_bytes()), None, "{edited}");
    }
    assert_eq!(exact::read(json.replacen('A', "\u{0}", 1).as_bytes()), None);
    assert_eq!(exact::read(&json.bytes().chain([0xff]).collect::<Vec<u8>>()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn both_readers_read_the_same(
        body in "[A-Z|^~\\\\&\r\"FSRETX0D4.\u{e9}\u{1}\u{1f600}]{0,80}",
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, "[\\[\\]{},:\"\\\\0-9a-z|^&\u{1} \n]{0,3}"), 0..3),
    ) {
        let mut json = json(&format!("MSH|^~\\&|{body}"));
        for (at, removed, added) in changes {
            let places: Vec<usize> = json.char_indices().map(|(place, _)| place).collect();
            let start = at.index(places.len());
            let end = places.get(start + removed).copied().unwrap_or(json.len());
            json.replace_range(places[start]..end, &added);
        }
        prop_assert!(agree(json.as_bytes()), "{}", json);
    }
}
