use domain::Er7;

use super::*;
use crate::validate::{validate, validate_with};
use crate::walk::Walk;
use crate::{Delimiters, Usage, read_json, write_json, write_json_with};

/// The example that docs/HL7.md names.
const EXAMPLE: &str = include_str!("../../../../../examples/z-segments/schema.toml");

const MESSAGE: &str = "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|1|P|2.5.1\rEVN||20260102030405\r\
                       PID|1||4711^^^HIS^MR||DOE^JANE||19800101|F\rZPI|1|x|de^German^L~en|20260102|Y|4711^^^HIS&1.2&ISO^MR\r\
                       PV1|1|I\rZPI|2||||||||\rZXX|a^b\r";

fn schema(text: &str) -> &'static Schema {
    Schema::read(text).unwrap()
}

fn message(text: &str) -> Er7 {
    Er7::canonical(text).unwrap()
}

fn json(message: &Er7, schema: &'static Schema) -> String {
    let mut out = Vec::new();
    write_json_with(message, &Delimiters::of(message).unwrap(), schema, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_segment_of_a_schema_is_defined_like_one_of_the_standard() {
    let schema = schema(EXAMPLE);
    let dictionary = schema.dictionary("2.5.1");
    let zpi = dictionary.segment("ZPI").unwrap();
    let field = |position| {
        let field = zpi.field(position)?;
        Some((field.name, field.data_type.as_ref().map(|it| it.id), field.usage, field.repetitions, field.table))
    };
    assert_eq!((zpi.id, zpi.name, zpi.fields.len()), ("ZPI", "Patient Additional Information", 6));
    assert_eq!(field(1), Some(("Set ID - ZPI", Some("SI"), Usage::Required, Some(1), None)));
    assert_eq!(field(2), None, "the file leaves it out");
    assert_eq!(field(3), Some(("Preferred Language", Some("CE"), Usage::Optional, Some(2), None)));
    assert_eq!(field(5), Some(("Consent to Research", Some("ID"), Usage::Optional, Some(1), Some(136))));
    assert_eq!(field(7), None);
    // The data types are those of the message's version.
    let authority = |version| {
        let number = schema.dictionary(version).segment("ZPI")?.field(6)?;
        Some(number.data_type.as_ref()?.component(4)?.name)
    };
    assert_eq!((authority("2.3"), authority("2.8.2")), (Some("Assigning Authority"), Some("Assigning Authority")));
    assert_eq!(schema.dictionary("2.2").segment("ZPI").unwrap().field(6).unwrap().name, "Number at the Other Hospital");
    // Nothing else differs, and without a schema nothing is known of the segment.
    for version in Dictionary::versions() {
        let (with, without) = (schema.dictionary(version), Dictionary::of(version));
        assert_eq!((with.version(), with.segments().count()), (version, without.segments().count() + 2));
        assert!(without.segment("ZPI").is_none());
    }
    assert_eq!(Schema::read("").unwrap(), Schema::standard());
}

#[test]
fn a_rendition_has_the_names_of_the_schema_and_is_otherwise_the_same() {
    let message = message(MESSAGE);
    let named = json(&message, schema(EXAMPLE));
    let zpi = concat!(
        r#"{"segment":"ZPI","name":"Patient Additional Information","fields":["#,
        r#"{"position":1,"name":"Set ID - ZPI","repetitions":[[{"position":1,"value":"1"}]]},"#,
        r#"{"position":2,"repetitions":[[{"position":1,"value":"x"}]]},"#,
        r#"{"position":3,"name":"Preferred Language","repetitions":[[{"position":1,"name":"Identifier","value":"de"},"#,
        r#"{"position":2,"name":"Text","value":"German"},{"position":3,"name":"Name of Coding System","value":"L"}],"#,
        r#"[{"position":1,"name":"Identifier","value":"en"}]]},"#,
        r#"{"position":4,"name":"Date of Consent","repetitions":[[{"position":1,"value":"20260102"}]]},"#,
        r#"{"position":5,"name":"Consent to Research","repetitions":[[{"position":1,"value":"Y"}]]},"#,
        r#"{"position":6,"name":"Number at the Other Hospital","repetitions":[[{"position":1,"name":"ID Number","value":"4711"},"#,
        r#"{"position":4,"name":"Assigning Authority","value":"HIS","subcomponents":["#,
        r#"{"position":1,"name":"Namespace ID","value":"HIS"},{"position":2,"name":"Universal ID","value":"1.2"},"#,
        r#"{"position":3,"name":"Universal ID Type","value":"ISO"}]},"#,
        r#"{"position":5,"name":"Identifier Type Code","value":"MR"}]]}]}"#,
    );
    assert!(named.contains(zpi), "{named}");
    assert!(named.contains(r#"{"segment":"ZXX","fields":[{"position":1,"repetitions":[[{"position":1,"value":"a"}"#), "{named}");
    assert_eq!(read_json(named.as_bytes()), Ok(message.clone()));
    // Without the names it is the rendition that has no schema.
    let mut plain = Vec::new();
    write_json(&message, &Delimiters::of(&message).unwrap(), &mut plain).unwrap();
    let without = |json: &[u8]| {
        let mut document: serde_json::Value = serde_json::from_slice(json).unwrap();
        for segment in document["segments"].as_array_mut().unwrap().iter_mut().filter(|it| it["segment"] == "ZPI") {
            remove_names(segment);
        }
        document
    };
    assert_ne!(named.as_bytes(), plain);
    assert_eq!(without(named.as_bytes()), without(&plain));
}

fn remove_names(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.remove("name");
            members.values_mut().for_each(remove_names);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(remove_names),
        _ => {}
    }
}

#[test]
fn a_name_beyond_ascii_is_written_and_read() {
    let schema =
        schema("[ZPI]\nname = \"Zusätzliches 附加\"\nfields = [{ position = 1, name = \"Straße, 2. Teil\", type = \"CX\" }]");
    let message = message("MSH|^~\\&|A\rZPI|1^2|3\r");
    let json = json(&message, schema);
    assert!(json.contains("\"name\":\"Zusätzliches 附加\"") && json.contains("\"name\":\"Straße, 2. Teil\""), "{json}");
    assert_eq!(read_json(json.as_bytes()), Ok(message));
}

/// `missing-field ZPI-1`, one for each finding.
fn findings(text: &str, schema: &'static Schema) -> Vec<String> {
    let report = validate_with(&message(text), schema);
    report
        .findings
        .iter()
        .map(|it| format!("{}{}", it.code, it.location.map(|it| format!(" {it}")).unwrap_or_default()))
        .collect()
}

#[test]
fn a_segment_of_a_schema_is_validated_like_one_of_the_standard() {
    let schema = schema(EXAMPLE);
    assert_eq!(findings(MESSAGE, schema), [] as [&str; 0], "it may stand anywhere, and one that no schema has is not checked");
    let with = |zpi: &str| findings(&MESSAGE.replace("ZPI|2||||||||", zpi), schema);
    assert_eq!(with("ZPI|"), ["missing-field ZPI[2]-1"]);
    assert_eq!(with("ZPI"), ["missing-field ZPI[2]-1"]);
    assert_eq!(with("ZPI|a"), ["wrong-format ZPI[2]-1"]);
    assert_eq!(with("ZPI|1|a^b~c&d"), [] as [&str; 0]);
    assert_eq!(with("ZPI|1||a~b~c"), ["too-many-repetitions ZPI[2]-3[3]"]);
    assert_eq!(with("ZPI|1|||20261301|X"), ["wrong-format ZPI[2]-4", "not-in-table ZPI[2]-5"]);
    assert_eq!(with("ZPI|1||||Y^x|1^^^^^^^^^^x"), ["extra-component ZPI[2]-5.2", "extra-component ZPI[2]-6.11"]);
    assert_eq!(with("ZPI|1||||||x"), ["extra-field ZPI[2]-7"]);
    let report = validate_with(&message(&MESSAGE.replace("ZPI|2", "ZPI|")), schema);
    assert_eq!(report.findings[0].detail, "Set ID - ZPI is required");
    // Nobody knows anything of it without the schema.
    assert_eq!(validate(&message(&MESSAGE.replace("ZPI|2", "ZPI|"))).findings, []);
    // A segment of a site does not end a message that is continued, nor is it one that the structure lacks.
    let continued = "MSH|^~\\&|A|B|C|D|20260101||ACK^A01^ACK|1|P|2.5.1\rMSA|AA|1\rDSC|x|F\rZPI|1\r";
    assert_eq!(findings(continued, schema), findings(continued, Schema::standard()));
}

#[test]
fn a_walk_has_the_names_of_the_schema() {
    let message = message(MESSAGE);
    let walk = Walk::with(&message, schema(EXAMPLE)).unwrap();
    let zpi = walk.segments().find(|it| it.id == "ZPI").unwrap();
    assert_eq!(walk.definition(&zpi).map(|it| it.name), Some("Patient Additional Information"));
    let names: Vec<_> = walk
        .values(&zpi)
        .map(|value| {
            let names = walk.names(&zpi, &value);
            format!("{} {}", value.place("ZPI"), names.subcomponent.or(names.component).or(names.field).unwrap_or("-"))
        })
        .collect();
    let expected = [
        "ZPI-1 Set ID - ZPI",
        "ZPI-2 -",
        "ZPI-3[1].1 Identifier",
        "ZPI-3[1].2 Text",
        "ZPI-3[1].3 Name of Coding System",
        "ZPI-3[2].1 Identifier",
        "ZPI-4 Date of Consent",
        "ZPI-5 Consent to Research",
        "ZPI-6.1 ID Number",
        "ZPI-6.4.1 Namespace ID",
        "ZPI-6.4.2 Universal ID",
        "ZPI-6.4.3 Universal ID Type",
        "ZPI-6.5 Identifier Type Code",
    ];
    assert_eq!(names, expected);
}

/// A schema with this as its only field.
fn with(field: &str) -> String {
    format!("[ZPI]\nname = \"x\"\nfields = [\n  {field},\n]\n")
}

#[test]
fn a_mistake_in_a_schema_is_named_with_its_line_and_column() {
    let good = "{ position = 2, name = \"a\" }";
    assert!(Schema::read(&with(good)).is_ok());
    let own = "a segment of your own is named Z and two capital letters or digits";
    let a_name = "a name has 1 to 100 characters, without quotes, backslashes, control characters and blanks at its ends";
    let position = "a position is a number from 1 to 999";
    let long = format!("{{ position = 2, name = \"{}\" }}", "a".repeat(101));
    for (text, expected) in [
        (with(good).replace("ZPI", "PID"), format!("line 1, column 2: {own}")),
        (with(good).replace("ZPI", "Zpi"), format!("line 1, column 2: {own}")),
        (with(good).replace("ZPI", "ZPIX"), format!("line 1, column 2: {own}")),
        (with("{ position = 0, name = \"a\" }"), format!("line 4, column 16: {position}")),
        (with("{ position = -1, name = \"a\" }"), format!("line 4, column 16: {position}")),
        (with("{ position = 1000, name = \"a\" }"), format!("line 4, column 16: {position}")),
        (with(&format!("{good},\n  {good}")), "line 5, column 16: ZPI has another field at this position".to_owned()),
        (with("{ position = 2, name = \"\" }"), format!("line 4, column 26: {a_name}")),
        (with("{ position = 2, name = \" a\" }"), format!("line 4, column 26: {a_name}")),
        (with("{ position = 2, name = \"a\\nR ST b\" }"), format!("line 4, column 26: {a_name}")),
        (with("{ position = 2, name = 'a\"b' }"), format!("line 4, column 26: {a_name}")),
        (with("{ position = 2, name = 'a\\b' }"), format!("line 4, column 26: {a_name}")),
        (with(&long), format!("line 4, column 26: {a_name}")),
        (with(good).replace("\"x\"", "\"\""), format!("line 2, column 8: {a_name}")),
        (
            with("{ position = 2, name = \"a\", type = \"CEX\" }"),
            "line 4, column 38: HL7 has no such data type; it has ST, NM, DT, CE, CX, XPN and others".to_owned(),
        ),
        (
            with("{ position = 2, name = \"a\", type = \"CE\", table = 136 }"),
            "line 4, column 52: `table` goes with the data types ID and IS".to_owned(),
        ),
        (
            with("{ position = 2, name = \"a\", table = 136 }"),
            "line 4, column 39: `table` goes with the data types ID and IS".to_owned(),
        ),
        (
            with("{ position = 2, name = \"a\", type = \"ID\", table = 9998 }"),
            "line 4, column 52: HL7 has no codes for a table of this number".to_owned(),
        ),
        (
            with("{ position = 2, name = \"a\", repeats = 0 }"),
            "line 4, column 41: `repeats` is true, or the most repetitions, a number from 1 to 65535".to_owned(),
        ),
        ("[ZPI]\nname = \"x\"\nfields = []\n".to_owned(), "line 3, column 10: a segment has at least one field".to_owned()),
    ] {
        assert_eq!(Schema::read(&text).unwrap_err().to_string(), expected, "{text}");
    }
    // What TOML says of a form that is none, at its place.
    for (text, place, word) in [
        (with("{ position = 2, name = \"a\", length = 5 }"), (4, 31), "unknown field `length`"),
        (with("{ name = \"a\" }"), (4, 3), "missing field `position`"),
        ("[ZPI]\nname = \"x\"\n".to_owned(), (1, 1), "missing field `fields`"),
        ("version = 1\n".to_owned(), (1, 11), "expected a segment with `name` and `fields`"),
        ("[ZPI\n".to_owned(), (1, 5), "table"),
        (format!("{}{}", with(good), with(good)), (6, 2), "duplicate key"),
    ] {
        let mistake = Schema::read(&text).unwrap_err();
        assert!(mistake.what.contains(word), "{mistake}");
        assert_eq!((mistake.line, mistake.column), place, "{mistake}");
    }
}

#[test]
fn the_schema_is_read_beside_the_program() {
    let folder = std::env::temp_dir().join(format!("sluice-schema-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (program, file) = (folder.join("bootstrap"), folder.join("schema.toml"));
    assert_eq!(Schema::beside(&program).unwrap(), Schema::standard());
    let text = "[ZPI]\nname = \"Additional\"\nfields = [{ position = 1, name = \"Language\" }]\n";
    std::fs::write(&file, text).unwrap();
    assert_eq!(Schema::beside(&program).unwrap().dictionary("2.5").segment("ZPI").unwrap().name, "Additional");
    std::fs::write(&file, text.replace("ZPI", "PID")).unwrap();
    assert!(Schema::beside(&program).unwrap_err().to_string().starts_with("line 1, column 2: "));
    std::fs::remove_dir_all(folder).unwrap();
}
