//! What the made-up messages are read as and what their renditions look like, in files that a reviewer sees change.
//!
//! `INSTA_UPDATE=always cargo test -p sluice-hl7 --test snapshots` writes them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus_messages;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use corpus::Sample;
use domain::{Charset, Er7};
use sluice_hl7::validate::validate;
use sluice_hl7::{Delimiters, summarize, write_json};

/// Of these, the whole rendition: each shows a construct of `docs/HL7.md` or `docs/SQL.md`.
const RENDITIONS: [&str; 28] = [
    "charset-iso-2022-jp",
    "charset-utf-8-astral",
    "delimiters-at-the-end",
    "delimiters-custom",
    "delimiters-lost-backslash",
    "delimiters-truncation",
    "delimiters-two",
    "delimiters-vista",
    "escape-broken",
    "escape-delimiters",
    "escape-hapi",
    "escape-hex",
    "escape-highlight",
    "escape-latin-1",
    "sender-ed-without-source",
    "sender-obx-2-components",
    "sender-query",
    "text-base64-lines",
    "text-bts",
    "text-line-feeds",
    "text-types",
    "value-coded",
    "value-null-and-absent",
    "value-past-the-standard",
    "value-site-segments",
    "value-structured-numbers",
    "version-2.5.1-oru-r01",
    "version-2.9-adt-a01",
];

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_file_of_the_corpus_is_read_as_the_snapshot_says() {
    let mut table = String::new();
    for sample in corpus::made_up().unwrap() {
        let messages = corpus_messages::bodies(&sample.bytes);
        let charset = Charset::of_message(&sample.bytes).map_or_else(|error| error.to_string(), |it| it.name().to_owned());
        writeln!(table, "{}: {charset}, messages: {}", sample.name(), messages.len()).unwrap();
        messages.iter().for_each(|it| writeln!(table, "    {}", read_as(it)).unwrap());
    }
    assert_snapshot("corpus", &table);
}

/// Type, control id and version, or why it does not parse; then what the standard would object to.
fn read_as(message: &Er7) -> String {
    let summary = summarize(message);
    let parts = [summary.message_type, summary.trigger_event, summary.message_structure];
    let message_type = parts.map(Option::unwrap_or_default).join("^");
    let [id, version] = [summary.control_id, summary.hl7_version].map(Option::unwrap_or_default);
    let state = match Delimiters::of(message) {
        Ok(_) => format!("{message_type} {id} {version}"),
        Err(unreadable) => format!("{message_type} {id} {version} (error: {unreadable})"),
    };
    let findings = validate(message).findings;
    let found: BTreeSet<_> = findings.iter().map(|it| it.code.to_string()).collect();
    let found = found.into_iter().collect::<Vec<_>>().join(", ");
    if found.is_empty() { state } else { format!("{state}; {found}") }
}

#[test]
fn renditions_are_those_of_the_snapshots() {
    let samples = corpus::made_up().unwrap();
    for name in RENDITIONS {
        let sample = samples.iter().find(|it| it.name() == name).unwrap_or_else(|| panic!("there is no {name}"));
        assert_snapshot(name, &rendition(sample));
    }
}

/// A segment on each line, so that a difference shows where it is.
fn rendition(sample: &Sample) -> String {
    let messages = corpus_messages::bodies(&sample.bytes);
    let mut lines = String::new();
    for message in &messages {
        let mut json = Vec::new();
        write_json(message, &Delimiters::of(message).unwrap(), &mut json).unwrap();
        lines.push_str(&String::from_utf8(json).unwrap().replace("{\"segment\":", "\n{\"segment\":"));
        lines.push('\n');
    }
    lines
}

/// What no test asks for any more would stay for ever.
#[test]
fn no_snapshot_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let there: BTreeSet<_> =
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let asked: BTreeSet<_> = RENDITIONS.iter().chain(["corpus"].iter()).map(|it| format!("{it}.snap")).collect();
    assert_eq!(there, asked);
}
