use domain::{Er7, Summary};
use hl7_parser::Message;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::write_json;
use crate::{Delimiters, NotARendition, read_json, summarize};

/// Of one field: repetitions of components of subcomponents.
type Repetitions = Vec<Vec<Vec<String>>>;

fn json(message: &Er7) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(message, &Delimiters::of(message).unwrap(), &mut out).unwrap();
    out
}

fn segments(text: &str) -> Value {
    let document: Value = serde_json::from_slice(&json(&Er7::canonical(text).unwrap())).unwrap();
    document["segments"].clone()
}

#[test]
fn a_message_is_written_as_json() {
    let message =
        Er7::canonical("MSH|^~\\&|APP||||||ADT^A01|7|P|2.5.1\rPID|1||7^^^A&B~8||DOE^JANE\rZZZ\rZ01|\rPV1|||x^^").unwrap();
    let expected = concat!(
        r#"{"version":2,"summary":{"messageType":"ADT","triggerEvent":"A01","controlId":"7","hl7Version":"2.5.1","sendingApplication":"APP"},"#,
        r#""dictionary":"2.5.1","#,
        r#""delimiters":{"field":"|","component":"^","repetition":"~","escape":"\\","subcomponent":"&"},"segments":["#,
        r#"{"segment":"MSH","name":"Message Header","fields":["#,
        r#"{"position":1,"name":"Field Separator","repetitions":[[{"position":1,"value":"|"}]]},"#,
        r#"{"position":2,"name":"Encoding Characters","repetitions":[[{"position":1,"value":"^~\\&"}]]},"#,
        r#"{"position":3,"name":"Sending Application","repetitions":[[{"position":1,"name":"Namespace ID","value":"APP"}]]},"#,
        r#"{"position":9,"name":"Message Type","repetitions":[[{"position":1,"name":"Message Code","value":"ADT"},"#,
        r#"{"position":2,"name":"Trigger Event","value":"A01"}]]},"#,
        r#"{"position":10,"name":"Message Control ID","repetitions":[[{"position":1,"value":"7"}]]},"#,
        r#"{"position":11,"name":"Processing ID","repetitions":[[{"position":1,"name":"Processing ID","value":"P"}]]},"#,
        r#"{"position":12,"name":"Version ID","repetitions":[[{"position":1,"name":"Version ID","value":"2.5.1"}]]}]},"#,
        r#"{"segment":"PID","name":"Patient Identification","fields":["#,
        r#"{"position":1,"name":"Set ID - PID","repetitions":[[{"position":1,"value":"1"}]]},"#,
        r#"{"position":3,"name":"Patient Identifier List","repetitions":[[{"position":1,"name":"ID Number","value":"7"},"#,
        r#"{"position":4,"name":"Assigning Authority","value":"A","subcomponents":["#,
        r#"{"position":1,"name":"Namespace ID","value":"A"},{"position":2,"name":"Universal ID","value":"B"}]}],"#,
        r#"[{"position":1,"name":"ID Number","value":"8"}]]},"#,
        r#"{"position":5,"name":"Patient Name","repetitions":[[{"position":1,"name":"Family Name","value":"DOE"},"#,
        r#"{"position":2,"name":"Given Name","value":"JANE"}]]}]},"#,
        r#"{"segment":"ZZZ","fields":[]},{"segment":"Z01","fields":[{"position":1}]},"#,
        r#"{"segment":"PV1","name":"Patient Visit","fields":[{"position":3,"name":"Assigned Patient Location","repetitions":["#,
        r#"[{"position":1,"name":"Point of Care","value":"x"},{"position":3,"name":"Bed"}]]}]}]}"#,
    );
    assert_eq!(String::from_utf8(json(&message)).unwrap(), expected);
    assert_eq!(read_json(expected.as_bytes()), Ok(message));
}

#[test]
fn a_rendition_of_either_version_is_read_and_one_of_a_later_is_not() {
    let message = Er7::canonical("MSH|^~\\&|A\rPID|1||7^8\r").unwrap();
    let now = String::from_utf8(json(&message)).unwrap();
    let with = |begins: &str| now.replacen("{\"version\":2,", begins, 1);
    for version in ["{", "{\"version\":1,", "{\"version\":2,", "{\"version\": 2,"] {
        assert_eq!(read_json(with(version).as_bytes()), Ok(message.clone()), "{version}");
    }
    for version in [0, 3, u64::MAX] {
        let later = with(&format!("{{\"version\":{version},"));
        assert_eq!(read_json(later.as_bytes()), Err(NotARendition::Version(version)));
    }
}

#[test]
fn escapes_are_decoded_and_kept_where_they_do_not_read_back() {
    let component = |field: &str| segments(&format!("MSH|^~\\&|\rNTE|{field}"))[1]["fields"][0]["repetitions"][0][0].clone();
    assert_eq!(component("O\\T\\H\\X0D\\"), json!({ "position": 1, "value": "O&H\r" }));
    assert_eq!(component("a\\.br\\b"), json!({ "position": 1, "value": "a\\.br\\b", "raw": "a\\.br\\b" }));
    assert_eq!(component("\\X41\\"), json!({ "position": 1, "value": "A", "raw": "\\X41\\" }));
    let parts = json!([{ "position": 1, "value": "A", "raw": "\\X41\\" }, { "position": 2 }]);
    assert_eq!(component("\\X41\\&"), json!({ "position": 1, "value": "A", "subcomponents": parts }));
}

#[test]
fn bytes_of_the_messages_character_set_are_decoded_and_kept_as_raw() {
    let component = |msh_18: &str, field: &str| {
        segments(&format!("MSH|^~\\&|||||||||||||||||{msh_18}\rNTE|{field}"))[1]["fields"][0]["repetitions"][0][0].clone()
    };
    let decoded = |value: &str, raw: &str| json!({ "position": 1, "value": value, "raw": raw });
    assert_eq!(component("8859/1", "voil\\XE0\\"), decoded("voilà", "voil\\XE0\\"));
    assert_eq!(component("", "a\\X000d\\b"), decoded("a\rb", "a\\X000d\\b"));
    assert_eq!(component("~ISO IR87", "\\M2442\\;3ED\\C2842\\"), decoded("山田", "\\M2442\\;3ED\\C2842\\"));
}

#[test]
fn a_lost_backslash_changes_no_byte_of_the_message() {
    let message = Er7::canonical("MSH|^~&|A\rPID|1||7^^^A&1.2&ISO||A\\F\\B&F&").unwrap();
    let document: Value = serde_json::from_slice(&json(&message)).unwrap();
    assert_eq!(document["segments"][0]["fields"][1]["repetitions"][0][0]["value"], "^~&");
    let authority = &document["segments"][1]["fields"][1]["repetitions"][0][1];
    assert_eq!((&authority["value"], authority["subcomponents"].as_array().unwrap().len()), (&json!("A"), 3));
    assert_eq!(document["segments"][1]["fields"][2]["repetitions"][0][0]["value"], "A|B");
    assert_eq!(read_json(&json(&message)), Ok(message));
}

#[test]
fn an_observation_has_the_names_of_the_type_that_obx_2_begins_with() {
    for obx_2 in ["CWE", "CWE^^HL70125", " CWE "] {
        let text = format!("MSH|^~\\&|||||||ORU^R01|7|P|2.5.1^USA\rOBX|1|{obx_2}|||8302-2^Height^LN");
        let names = segments(&text)[1]["fields"].as_array().unwrap().last().unwrap()["repetitions"][0].clone();
        let names: Vec<_> = names.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap_or_default()).collect();
        assert_eq!(names, ["Identifier", "Text", "Name of Coding System"], "{obx_2:?}");
    }
}

#[test]
fn only_obx_takes_the_type_of_a_varying_field_from_its_second_field() {
    for (message_type, segment) in [("RDY^K15", "RDT|a^b|CWE"), ("MFN^M02", "MFE|MAD|CWE||a^b")] {
        let fields = segments(&format!("MSH|^~\\&|||||||{message_type}|7|P|2.5.1\r{segment}"))[1]["fields"].clone();
        let varying = fields.as_array().unwrap().iter().find(|it| it["repetitions"][0][0]["value"] == "a").unwrap();
        assert_eq!(varying["repetitions"][0][0], json!({ "position": 1, "value": "a" }), "{segment}");
    }
}

#[test]
fn hl7s_null_is_not_an_absent_value() {
    let fields = segments("MSH|^~\\&|\rZZ1|\"\"||x")[1]["fields"].clone();
    assert_eq!(fields[0], json!({ "position": 1, "repetitions": [[{ "position": 1, "value": "\"\"" }]] }));
    assert_eq!(fields[1]["position"], 3);
}

#[test]
fn names_are_those_of_the_messages_version() {
    let of = |version: &str| {
        let text = format!("MSH|^~\\&|||||||ADT^A01|7|P|{version}\rPID|||||DOE&VAN^J\rOBX||CE|||A^b^c\rZPI|1");
        let document: Value = serde_json::from_slice(&json(&Er7::canonical(&text).unwrap())).unwrap();
        let name = document["segments"][1]["fields"][0]["repetitions"][0][0].clone();
        let observed = document["segments"][2]["fields"][1]["repetitions"][0][1]["name"].clone();
        assert_eq!(document["segments"][3]["name"], Value::Null, "a Z segment is nobody's");
        [&document["dictionary"], &name["name"], &name["subcomponents"][0]["name"], &observed]
            .map(|it| it.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(of("2.5.1"), ["2.5.1", "Family Name", "Surname", "Text"]);
    assert_eq!(of("2.3.z")[0], "2.3");
    assert_eq!(of("2.5.1^DEU")[0], "2.5.1");
    assert_eq!(of("9.9")[1], "Family Name");
    assert_eq!(of("")[1], "Family Name");
}

#[test]
fn an_invalid_rendition_is_refused_without_being_quoted() {
    let document = |segments: &str| format!(r#"{{"delimiters":{{"field":"|","component":"^"}},"segments":{segments}}}"#);
    let table = [
        ("SECRET".to_owned(), NotARendition::Unreadable { line: 1, column: 1 }),
        (document("[]"), NotARendition::Empty),
        (document(r#"[{"segment":"PID","fields":[{"position":2},{"position":2}]}]"#), NotARendition::Positions { segment: 1 }),
        (document(r#"[{"segment":"PID","fields":[{"position":0}]}]"#), NotARendition::Positions { segment: 1 }),
        (document(r#"[{"segment":"PID","fields":[{"position":18446744073709551615}]}]"#), NotARendition::TooLarge),
        (
            document(r#"[{"segment":"P","fields":[{"position":1,"repetitions":[[{"position":13000000}]]}]}]"#),
            NotARendition::TooLarge,
        ),
        (
            document(r#"[{"segment":"P","fields":[{"position":1,"repetitions":[[],[]]}]}]"#),
            NotARendition::Delimiter { segment: 1 },
        ),
        (
            document(
                r#"[{"segment":"P","fields":[{"position":1,"repetitions":[[{"position":1,"subcomponents":[{"position":2}]}]]}]}]"#,
            ),
            NotARendition::Delimiter { segment: 1 },
        ),
    ];
    for (json, expected) in table {
        let error = read_json(json.as_bytes()).unwrap_err();
        assert_eq!(error, expected, "{json}");
        assert!(!error.to_string().contains("SECRET"));
    }
}

#[test]
fn a_rendition_can_be_edited() {
    let edited = r#"{"delimiters":{"field":"|","component":"^","escape":"\\"},"segments":[{"segment":"MSH","fields":[{"position":1},
        {"position":2,"repetitions":[[{"position":1,"value":"^~\\"}]]}]},
        {"segment":"NTE","fields":[{"position":3,"repetitions":[[{"position":2,"value":"a|b\r\nc"}]]}]}]}"#;
    assert_eq!(read_json(edited.as_bytes()).unwrap().as_str(), "MSH|^~\\\rNTE|||^a\\F\\b\\X0D\\\\X0A\\c\r");
}

#[test]
fn a_message_comes_back_from_its_rendition() {
    let texts = [
        "MSH|^~\\&#|A#",
        "\r\rMSH$%*!@$x%y$!F!",
        "MSH|^~|a\\b&c",
        "MSH|^~\\&\rmsh\r\r |x\rMSH|^~\\&|again",
        "MSH|^",
        "MSH|^~\\&|\rPID|~^&|^|&|~|^&^|&&~~^^",
        "MSH|^~\\&|a&^b~&|\\\\|\\E|\\X",
        "MSH\u{a7}^~\\&\u{a7}\u{e9}",
        "MSHX|^~\\&",
    ];
    for text in texts {
        let message = Er7::canonical(text).unwrap();
        match Delimiters::of(&message) {
            Ok(_) => assert_eq!(read_json(&json(&message)), Ok(message), "{text:?}"),
            Err(_) => assert_eq!(text, "MSHX|^~\\&"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_message_comes_back_from_its_rendition(body in "[A-Z|^~\\\\&\r\"FSRETX0D4.\u{e9}\u{0}\u{1f600}]{0,200}") {
        let message = Er7::canonical(&format!("MSH|^~\\&|{body}")).unwrap();
        prop_assert_eq!(read_json(&json(&message)), Ok(message));
    }

    #[test]
    fn any_message_with_any_delimiters_comes_back_from_its_rendition(delimiters in "[!-/:-@\\[-`{-~\u{a7}]{1,6}", body in "[!-~\r]{0,80}") {
        let message = Er7::canonical(&format!("MSH{delimiters}{body}")).unwrap();
        if Delimiters::of(&message).is_ok() {
            prop_assert_eq!(read_json(&json(&message)), Ok(message));
        }
    }

    #[test]
    fn any_json_is_read_or_refused(json in "[\\[\\]{}\",:0-9]{0,60}") {
        let _ = read_json(json.as_bytes());
    }
}

/// What `hl7-parser` reads of a message, in our shape. It stops without a word at the first segment that it cannot
/// read, and takes a fifth encoding character for a field; such messages are left out.
fn as_hl7_parser_reads(message: &Er7) -> Option<Vec<Vec<Repetitions>>> {
    let parsed = Message::parse(message.as_str()).ok()?;
    let complete = parsed.raw_value().len() + 1 >= message.as_str().len();
    if !complete || Delimiters::of(message).ok()?.truncation.is_some() {
        return None;
    }
    let field = |field: &hl7_parser::message::Field<'_>| {
        let repetitions = field.repeats().map(|repeat| {
            let components = repeat.components().map(|it| it.subcomponents().map(|it| it.value.to_owned()).collect());
            components.collect::<Vec<Vec<String>>>()
        });
        if field.raw_value().is_empty() { Vec::new() } else { repetitions.collect::<Vec<_>>() }
    };
    Some(parsed.segments().map(|segment| segment.fields().map(field).collect()).collect())
}

/// The list that the objects of a rendition stand for, by their positions.
fn listed<T: Clone>(objects: &Value, absent: T, one: impl Fn(&Value) -> T) -> Vec<T> {
    let mut list = Vec::new();
    for object in objects.as_array().into_iter().flatten() {
        let position = usize::try_from(object["position"].as_u64().unwrap()).unwrap();
        list.resize(position - 1, absent.clone());
        list.push(one(object));
    }
    list
}

fn as_we_read(document: &Value) -> Vec<Vec<Repetitions>> {
    let text = |it: &Value| it["value"].as_str().unwrap_or_default().to_owned();
    let component = |it: &Value| match it.get("subcomponents") {
        Some(parts) => listed(parts, String::new(), text),
        None => vec![text(it)],
    };
    let empty = || vec![String::new()];
    let repetition = |it: &Value| {
        let components = listed(it, empty(), component);
        if components.is_empty() { vec![empty()] } else { components }
    };
    let field = |it: &Value| it["repetitions"].as_array().into_iter().flatten().map(repetition).collect::<Repetitions>();
    document["segments"].as_array().unwrap().iter().map(|it| listed(&it["fields"], Vec::new(), field)).collect()
}

#[test]
fn every_message_of_the_corpus_is_summarized_and_comes_back() {
    let (mut readable, mut compared) = (0, 0);
    for (name, message) in crate::corpus_messages::messages() {
        if Delimiters::of(&message).is_err() {
            continue;
        }
        readable += 1;
        let json = json(&message);
        assert!(read_json(&json).as_ref() == Ok(&message), "{name} does not come back");
        assert!(summarize(&message) != Summary::default(), "{name} has nothing in MSH");
        if let Some(theirs) = as_hl7_parser_reads(&message).filter(|_| message.as_str().matches('\\').count() == 1) {
            let ours = as_we_read(&serde_json::from_slice(&json).unwrap());
            assert!(ours == theirs, "{name} is read differently by hl7-parser");
            compared += 1;
        }
    }
    println!("{readable} messages of the corpus, {compared} compared with hl7-parser");
    assert!(readable >= 100 && compared >= 60);
}
