//! `docs/rendition.schema.json` and the tables of `docs/SQL.md`: what [`write_json`] writes, and nothing else.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corpus_messages;
mod generated;

use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use domain::{Er7, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_hl7::{Delimiters, Dictionary, MAX_JSON_BYTES, Origin, compressed_json, decompressed, write_json};

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(path)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&document("rendition.schema.json")).unwrap()
}

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn read() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("rendition.json", schema()).unwrap();
        let index = compiler.compile("rendition.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn allows(&self, rendition: &Value) -> Result<(), String> {
        self.schemas.validate(rendition, self.index).map_err(|error| format!("{error:#}"))
    }
}

fn rendition(text: &str) -> Value {
    let message = Er7::canonical(text).unwrap();
    let mut json = Vec::new();
    write_json(&message, &Delimiters::of(&message).unwrap(), &mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// As the lake has it, with its origin.
fn stored(text: &str) -> Value {
    let message = Er7::canonical(text).unwrap();
    let (message_id, source) = (message.message_id(), "00.12-a_b".parse().unwrap());
    let received_at = Timestamp::from_millis(1_795_245_667_120).unwrap();
    let origin = Origin { message_id: &message_id, source: &source, received_at };
    let bytes = compressed_json(&message, &Delimiters::of(&message).unwrap(), &origin, sluice_hl7::Schema::standard()).unwrap();
    serde_json::from_slice(&decompressed(&bytes, MAX_JSON_BYTES).unwrap()).unwrap()
}

/// Has every property that there is.
const EVERYTHING: &str =
    "MSH|^~\\&#|APP|FAC|APP2|FAC2|20260102||ADT^A01^ADT_A01|7|P|2.5.1|1|a\rPID|1||7^^^A&\\X41\\&||DOE^\\.br\\~|\r|\rDSC|b\r";

#[test]
fn every_rendition_of_the_corpus_is_allowed() {
    let schema = Schema::read();
    let mut renditions = 0;
    for (name, message) in corpus_messages::messages() {
        if Delimiters::of(&message).is_ok() {
            schema.allows(&rendition(message.as_str())).unwrap_or_else(|error| panic!("{name}: {error}"));
            renditions += 1;
        }
    }
    assert!(renditions >= 100, "{renditions}");
}

proptest! {
    #[test]
    fn the_rendition_of_any_message_is_allowed(text in generated::message()) {
        prop_assert_eq!(Schema::read().allows(&rendition(&text)), Ok(()));
    }
}

#[test]
fn a_rendition_of_every_version_is_allowed() {
    let schema = Schema::read();
    for version in Dictionary::versions() {
        schema.allows(&rendition(&format!("MSH|^~\\&|||||||ACK|1|P|{version}"))).unwrap();
    }
}

#[test]
fn a_rendition_of_version_1_is_allowed() {
    let mut first = rendition(EVERYTHING);
    assert_eq!(first.as_object_mut().unwrap().remove("version"), Some(json!(2)));
    Schema::read().allows(&first).unwrap();
}

/// Calls `spoil` with a copy of the document for each place in it.
fn everywhere(document: &Value, pointer: &str, spoil: &mut impl FnMut(&str, &Value)) {
    let place = document.pointer(pointer).unwrap();
    spoil(pointer, place);
    let children: Vec<String> = match place {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|it| it.to_string()).collect(),
        _ => return,
    };
    for child in children {
        everywhere(document, &format!("{pointer}/{child}"), spoil);
    }
}

#[test]
fn a_spoiled_rendition_is_refused() {
    let schema = Schema::read();
    let whole = stored(EVERYTHING);
    schema.allows(&whole).unwrap();
    let mut refused = 0;
    let mut refuse = |pointer: &str, instead: Value| {
        let mut spoiled = whole.clone();
        *spoiled.pointer_mut(pointer).unwrap() = instead;
        assert!(schema.allows(&spoiled).is_err(), "{pointer} may be something else: {spoiled}");
        refused += 1;
    };
    everywhere(&whole, "", &mut |pointer, place| {
        refuse(pointer, Value::Null);
        refuse(pointer, json!(true));
        match place {
            Value::Object(members) => {
                refuse(pointer, json!([]));
                let mut more = members.clone();
                more.insert("more".to_owned(), json!("x"));
                refuse(pointer, more.into());
                for required in [
                    "messageId",
                    "source",
                    "receivedAt",
                    "summary",
                    "dictionary",
                    "delimiters",
                    "segments",
                    "segment",
                    "fields",
                    "position",
                ] {
                    let mut less = members.clone();
                    if less.remove(required).is_some() {
                        refuse(pointer, less.into());
                    }
                }
                if members.contains_key("raw") {
                    let mut less = members.clone();
                    less.remove("value");
                    refuse(pointer, less.into());
                }
            }
            Value::Array(items) => {
                refuse(pointer, json!({}));
                let mut more = items.clone();
                more.push(json!("x"));
                refuse(pointer, more.into());
                if ["/segments", "repetitions", "subcomponents"].iter().any(|it| pointer.ends_with(it)) {
                    refuse(pointer, json!([]));
                }
            }
            Value::String(_) => {
                refuse(pointer, json!(1));
                // Only a blank line has no name.
                if !pointer.ends_with("/segment") {
                    refuse(pointer, json!(""));
                }
                if pointer.starts_with("/delimiters") {
                    refuse(pointer, json!("||"));
                }
            }
            Value::Number(_) => {
                for bad in [json!(0), json!(-1), json!(1.5), json!("1")] {
                    refuse(pointer, bad);
                }
            }
            _ => {}
        }
    });
    assert!(refused > 500, "{refused}");
}

/// Every property of the schema is in [`EVERYTHING`], so that none of them is allowed without a test.
#[test]
fn every_part_of_the_schema_is_tried() {
    let mut found = std::collections::BTreeSet::new();
    everywhere(&stored(EVERYTHING), "", &mut |_, place| {
        found.extend(place.as_object().into_iter().flat_map(|it| it.keys().cloned()))
    });
    let mut named = std::collections::BTreeSet::new();
    everywhere(&schema(), "", &mut |pointer, place| {
        if pointer.ends_with("/properties") {
            named.extend(place.as_object().unwrap().keys().cloned());
        }
    });
    assert_eq!(found, named);
}

/// A type of the schema: `"string"`, `"int"`, an array of one type, an object of types.
fn of_schema(schema: &Value, of: &Value) -> Value {
    let of = match of.get("$ref").and_then(Value::as_str) {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => of,
    };
    match of.get("type").and_then(Value::as_str).unwrap_or("string") {
        "object" => {
            of["properties"].as_object().unwrap().iter().map(|(name, of)| (name.clone(), of_schema(schema, of))).collect()
        }
        "array" => json!([of_schema(schema, &of["items"])]),
        "integer" => json!("int"),
        other => json!(other),
    }
}

/// The same of `struct<position:int,..>` and `array<..>`, and of `STRUCT(position INTEGER, ..)` and `..[]`.
fn of_sql(sql: &mut &str) -> Value {
    let word = |sql: &mut &str| {
        let (word, behind) = sql.split_at(sql.find(|it: char| !it.is_alphanumeric()).unwrap_or(sql.len()));
        *sql = behind;
        word.to_owned()
    };
    let skip = |sql: &mut &str, what: &str| {
        let behind = sql.strip_prefix(what);
        *sql = behind.unwrap_or(sql);
        behind.is_some()
    };
    let mut found = match word(sql).to_lowercase().as_str() {
        "struct" => {
            let mut members = serde_json::Map::new();
            let hive = skip(sql, "<") || !skip(sql, "(");
            while !skip(sql, if hive { ">" } else { ")" }) {
                skip(sql, if hive { "," } else { ", " });
                let name = word(sql);
                assert!(skip(sql, if hive { ":" } else { " " }), "{name} has no type: {sql}");
                members.insert(name, of_sql(sql));
            }
            members.into()
        }
        "array" => {
            skip(sql, "<");
            let items = of_sql(sql);
            skip(sql, ">");
            json!([items])
        }
        "integer" => json!("int"),
        "varchar" => json!("string"),
        other => json!(other),
    };
    while skip(sql, "[]") {
        found = json!([found]);
    }
    found
}

#[test]
fn the_tables_have_the_types_of_the_schema() {
    let (schema, document) = (schema(), document("SQL.md"));
    let expected = of_schema(&schema, &schema);
    for (begin, separator, end) in [("EXTERNAL TABLE hl7v2 (\n", " ", "\n)"), ("columns = {\n", ": ", "\n  }")] {
        let columns = document.split_once(begin).unwrap().1.split(end).next().unwrap();
        let columns = columns.lines().map(|line| {
            let (name, text) = line.trim().trim_end_matches(',').split_once(separator).unwrap();
            let mut text = text.trim_matches('\'');
            let found = of_sql(&mut text);
            assert_eq!(text, "", "{name}");
            (name.to_owned(), found)
        });
        assert_eq!(columns.collect::<Value>(), expected, "{begin}");
    }
}
