//! The rows of one message.

use std::collections::HashMap;

use domain::Er7;
use hl7::walk::{Segment, Walk};

use crate::cell::{Cell, Row};
use crate::context::{Above, Fields, decoded};
use crate::derived::Facts;
use crate::entry::Entry;
use crate::mapping::{Definition, Mapped, Mapping, Origin, Place};
use crate::number::{Observed, document_bytes};
use crate::table::Table;
use crate::time::{Hl7Time, zone};

impl Mapping {
    /// Gives the rows of a message one by one, each as long as [`Mapping::columns`]: a message of 4 MiB may have millions, which must not be
    /// in memory together. A message without a readable MSH has none but in the tables that show it as it is. `message` may be `None` where
    /// the table does not need it ([`Table::needs_messages`]).
    pub fn each_row(&self, table: Table, entry: &Entry, message: Option<&Er7>, sink: &mut dyn FnMut(Row)) {
        let first = [
            Some(Cell::Text(entry.message_id.to_string())),
            Some(Cell::Text(entry.source.to_string())),
            Some(Cell::Instant(entry.received_at.as_millis() * 1_000)),
        ];
        let mut whole = |own: Row| sink(first.iter().cloned().chain(own).collect());
        match (self.definition(table), message) {
            (Some(definition), Some(message)) => {
                if let Ok(walk) = Walk::with(message, self.schema) {
                    Typed::new(definition, &walk).rows(&mut whole);
                }
            }
            (Some(_), None) => {}
            (None, message) => crate::plain::rows(table, entry, message, self.schema, &mut whole),
        }
    }

    /// The rows of a message that is not a large one: see [`Mapping::each_row`].
    pub fn rows(&self, table: Table, entry: &Entry, message: Option<&Er7>) -> Vec<Row> {
        let mut rows = Vec::new();
        self.each_row(table, entry, message, &mut |row| rows.push(row));
        rows
    }
}

/// A typed table, being made of one message.
struct Typed<'a> {
    definition: &'a Definition,
    walk: &'a Walk<'a>,
    segments: Vec<Segment<'a>>,
    /// That of MSH-7.
    zone: String,
}

/// The row that is being made.
struct AtRow<'a, 'b> {
    above: &'b Above<'a>,
    /// Which segment is the row's, and its repetition of `each`.
    row: &'b str,
    each: Option<(usize, &'a str)>,
    facts: Facts,
}

impl<'a> Typed<'a> {
    fn new(definition: &'a Definition, walk: &'a Walk<'a>) -> Self {
        let segments: Vec<_> = walk.segments().collect();
        let sent = segments.first().map(|msh| walk.value(msh, 7, 1)).unwrap_or_default();
        Self { definition, walk, segments, zone: zone(&sent).unwrap_or_default().to_owned() }
    }

    /// Whether a segment of this name may be looked at.
    fn is_needed(&self, id: &str) -> bool {
        let definition = self.definition;
        let is_of_column = |column: &Mapped| match &column.origin {
            Origin::Places { places, .. } => places.iter().any(|it| it.segment == id),
            Origin::PlaceOf(_) | Origin::Derived(_) => false,
        };
        matches!(id, "PID" | "ORC" | "OBR") || definition.row == id || definition.columns.iter().any(is_of_column)
    }

    fn rows(&self, sink: &mut dyn FnMut(Row)) {
        let mut above = Above::default();
        let mut needed: HashMap<&str, bool> = HashMap::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let id = segment.id;
            if !*needed.entry(id).or_insert_with(|| self.is_needed(id)) {
                continue;
            }
            above.enter(Fields::of(*segment));
            let is_alone = self.definition.alone.as_deref() == Some(id) && !self.is_followed(index);
            if id == self.definition.row || is_alone {
                self.of_segment(&above, id, sink);
            }
        }
    }

    /// Whether the segment that makes rows follows in the group of this one.
    fn is_followed(&self, index: usize) -> bool {
        let own = self.segments.get(index).map(|it| it.id).unwrap_or_default();
        let behind = self.segments.iter().skip(index + 1).map(|it| it.id);
        behind.take_while(|it| *it != own && *it != "PID").any(|it| it == self.definition.row)
    }

    fn of_segment(&self, above: &Above<'a>, id: &str, sink: &mut dyn FnMut(Row)) {
        let Some(fields) = above.of(id) else { return };
        let occurrence = fields.segment.occurrence;
        let Some(each) = self.definition.each.filter(|_| id == self.definition.row) else {
            let place = AtRow { above, row: id, each: None, facts: Facts { occurrence, ..Facts::default() } };
            sink(self.row(&place));
            return;
        };
        let is_observation = id == "OBX" && each == 5;
        let value_type = fields.segment.value_type();
        if is_observation && !self.definition.only.is_empty() && !self.definition.only.iter().any(|it| it == value_type) {
            return;
        }
        for (index, repetition) in fields.segment.repetitions_of(fields.field(each)).enumerate() {
            let part = |component| fields.segment.subpart(repetition, component, 1);
            let mut facts = Facts { occurrence, repetition: index + 1, ..Facts::default() };
            if is_observation {
                facts.observed = Observed::of(value_type, |component| self.walk.decode(part(component)));
                facts.range = self.walk.decode(fields.field(7));
                facts.document_bytes = if value_type == "ED" { document_bytes(part(4), part(5)) } else { None };
            }
            sink(self.row(&AtRow { above, row: id, each: Some((each, repetition)), facts }));
        }
    }

    fn row(&self, at: &AtRow<'a, '_>) -> Row {
        let mut row = Row::new();
        let mut found_at: Vec<Option<&Place>> = Vec::new();
        for column in &self.definition.columns {
            let mut found = None;
            match &column.origin {
                Origin::Derived(derived) => row.push(derived.cell(&at.facts)),
                Origin::PlaceOf(index) => {
                    let place = found_at.get(*index).copied().flatten();
                    row.push(place.and_then(|it| Cell::text(format!("{}-{}", it.segment, it.field))));
                }
                Origin::Places { places, all, time } => {
                    let values = places.iter().map(|place| (place, self.value(at, place, *all)));
                    let value = values.into_iter().find(|(_, value)| !value.is_empty());
                    found = value.as_ref().map(|(place, _)| *place);
                    let text = value.map(|(_, value)| value).unwrap_or_default();
                    let read = if *time { Hl7Time::of(&text, Some(self.zone.as_str())) } else { None };
                    let beside = [
                        read.map(|it| Cell::Local(it.local)),
                        read.and_then(|it| it.utc).map(Cell::Instant),
                        read.and_then(|it| it.zone).and_then(Cell::text),
                        read.and_then(|it| Cell::text(it.precision)),
                    ];
                    row.push(Cell::text(text.as_str()));
                    if *time {
                        row.extend(beside);
                    }
                }
            }
            found_at.push(found);
        }
        row
    }

    fn value(&self, at: &AtRow<'a, '_>, place: &Place, all: bool) -> String {
        let Some(fields) = at.above.of(&place.segment) else { return String::new() };
        match at.each {
            Some((field, repetition)) if place.segment == at.row && place.field == field => {
                decoded(self.walk, fields.part(repetition, place), place)
            }
            _ if all => {
                let repetitions = fields.segment.repetitions_of(fields.field(place.field));
                let values: Vec<_> = repetitions.map(|it| decoded(self.walk, fields.part(it, place), place)).collect();
                values.join("~")
            }
            _ => fields.value(self.walk, place),
        }
    }
}

#[cfg(test)]
mod tests;
