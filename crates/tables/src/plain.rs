//! The tables that show a message as it is: `messages`, `segments`, `fields`, `raw`.

use domain::Er7;
use hl7::Schema;
use hl7::walk::Walk;

use crate::cell::{Cell, Column, Kind, Row};
use crate::entry::Entry;
use crate::table::Table;

use Kind::{Instant, Integer, Text};

const MESSAGES: [(&str, Kind); 21] = [
    ("stored_at", Instant),
    ("state", Text),
    ("charset", Text),
    ("message_type", Text),
    ("trigger_event", Text),
    ("message_structure", Text),
    ("control_id", Text),
    ("hl7_version", Text),
    ("sending_application", Text),
    ("sending_facility", Text),
    ("receiving_application", Text),
    ("receiving_facility", Text),
    ("message_time", Text),
    ("sequence_number", Text),
    ("continues", Text),
    ("continuation_pointer", Text),
    ("bucket", Text),
    ("key", Text),
    ("version_id", Text),
    ("json_key", Text),
    ("raw_key", Text),
];

const SEGMENTS: [(&str, Kind); 4] = [("number", Integer), ("segment", Text), ("occurrence", Integer), ("er7", Text)];

const FIELDS: [(&str, Kind); 10] = [
    ("number", Integer),
    ("segment", Text),
    ("occurrence", Integer),
    ("field", Integer),
    ("repetition", Integer),
    ("component", Integer),
    ("subcomponent", Integer),
    ("field_name", Text),
    ("name", Text),
    ("value", Text),
];

/// The columns behind those of every table.
pub(crate) fn columns(table: Table) -> Vec<Column> {
    let (columns, source): (&[(&str, Kind)], _) = match table {
        Table::Messages => (&MESSAGES, "catalog"),
        Table::Segments => (&SEGMENTS, "the message"),
        Table::Fields => (&FIELDS, "the message, and the dictionary of its version or a schema"),
        Table::Raw => (&[("er7", Text)], "the message"),
        _ => (&[], ""),
    };
    columns.iter().map(|(name, kind)| Column::new(*name, *kind, source)).collect()
}

/// The cells behind those of every table, row by row.
pub(crate) fn rows(table: Table, entry: &Entry, message: Option<&Er7>, schema: &'static Schema, sink: &mut dyn FnMut(Row)) {
    match (table, message) {
        (Table::Messages, _) => sink(of_catalog(entry)),
        (Table::Raw, Some(message)) => sink(Vec::from([Some(Cell::Text(message.as_str().to_owned()))])),
        (Table::Segments, Some(message)) => {
            if let Ok(walk) = Walk::with(message, schema) {
                segments(&walk, sink);
            }
        }
        (Table::Fields, Some(message)) => {
            if let Ok(walk) = Walk::with(message, schema) {
                fields(&walk, sink);
            }
        }
        _ => {}
    }
}

fn of_catalog(entry: &Entry) -> Row {
    let summary = &entry.summary;
    let optional = |text: &Option<String>| text.clone().and_then(Cell::text);
    let first = [
        entry.stored_at.map(|it| Cell::Instant(it.as_millis() * 1_000)),
        Cell::text(entry.state.as_str()),
        optional(&entry.charset),
    ];
    let texts = [
        &summary.message_type,
        &summary.trigger_event,
        &summary.message_structure,
        &summary.control_id,
        &summary.hl7_version,
        &summary.sending_application,
        &summary.sending_facility,
        &summary.receiving_application,
        &summary.receiving_facility,
        &summary.message_time,
        &summary.sequence_number,
        &summary.continues,
        &summary.continuation_pointer,
    ];
    let pointers = [
        Cell::text(entry.bucket.as_str()),
        Cell::text(entry.key.as_str()),
        optional(&entry.version_id),
        optional(&entry.json_key),
        optional(&entry.raw_key),
    ];
    first.into_iter().chain(texts.map(optional)).chain(pointers).collect()
}

fn segments(walk: &Walk<'_>, sink: &mut dyn FnMut(Row)) {
    for (index, segment) in walk.segments().enumerate() {
        let (number, occurrence) = (Cell::integer(index + 1), Cell::integer(segment.occurrence));
        sink(Vec::from([number, Cell::text(segment.id), occurrence, Cell::text(segment.text())]));
    }
}

/// A row for each value that is there. HL7's null is one of them, `""`.
fn fields(walk: &Walk<'_>, sink: &mut dyn FnMut(Row)) {
    for (index, segment) in walk.segments().enumerate() {
        for value in walk.values(&segment) {
            let names = walk.names(&segment, &value);
            let name = names.subcomponent.or(names.component).or(names.field);
            sink(Vec::from([
                Cell::integer(index + 1),
                Cell::text(segment.id),
                Cell::integer(segment.occurrence),
                Cell::integer(value.field),
                Cell::integer(value.repetition.0),
                Cell::integer(value.component.unwrap_or(1)),
                Cell::integer(value.subcomponent.unwrap_or(1)),
                names.field.and_then(Cell::text),
                name.and_then(Cell::text),
                Some(Cell::Text(value.text)),
            ]));
        }
    }
}
