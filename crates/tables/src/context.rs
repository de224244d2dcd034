//! Where in its message a segment stands: the segments above it that belong to the same patient and order.

use hl7::walk::{Segment, Walk};

use crate::mapping::Place;

/// A segment with its fields cut once.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) segment: Segment<'a>,
    at: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(segment: Segment<'a>) -> Self {
        let mut at = Vec::new();
        for (position, text) in segment.fields() {
            at.resize(position + 1, "");
            if let Some(last) = at.last_mut() {
                *last = text;
            }
        }
        Self { segment, at }
    }

    /// The text of a field. Empty where there is none.
    pub(crate) fn field(&self, position: usize) -> &'a str {
        self.at.get(position).copied().unwrap_or_default()
    }

    /// A place in a repetition of its field, as it was sent.
    pub(crate) fn part(&self, repetition: &'a str, place: &Place) -> &'a str {
        match place.component {
            None => repetition,
            Some(component) => self.segment.subpart(repetition, component, place.subcomponent),
        }
    }

    /// The value of the first repetition at a place.
    pub(crate) fn value(&self, walk: &Walk<'_>, place: &Place) -> String {
        let first = self.segment.repetitions_of(self.field(place.field)).next().unwrap_or_default();
        decoded(walk, self.part(first, place), place)
    }
}

/// A whole repetition stays as it was sent: decoded, its delimiters could not be told from its text.
pub(crate) fn decoded(walk: &Walk<'_>, text: &str, place: &Place) -> String {
    if place.component.is_some() { walk.decode(text) } else { text.to_owned() }
}

/// The nearest segment of each name above the one that is looked at.
#[derive(Debug, Default)]
pub(crate) struct Above<'a>(Vec<Fields<'a>>);

impl<'a> Above<'a> {
    /// Goes on to the next segment.
    ///
    /// A PID begins a patient, and what stood above belongs to another one. An ORC begins an order; so does an OBR that stands behind
    /// the OBR of an order (HL7 2.5.1 §7.3.1: `[ORC] OBR … OBX`).
    pub(crate) fn enter(&mut self, fields: Fields<'a>) {
        let id = fields.segment.id;
        match id {
            "PID" => self.0.retain(|it| it.segment.id == "MSH"),
            "ORC" => self.0.retain(|it| !matches!(it.segment.id, "OBR" | "OBX")),
            "OBR" => {
                let is_next = self.of("OBR").is_some();
                self.0.retain(|it| it.segment.id != "OBX" && !(is_next && it.segment.id == "ORC"));
            }
            _ => {}
        }
        self.0.retain(|it| it.segment.id != id);
        self.0.push(fields);
    }

    pub(crate) fn of(&self, id: &str) -> Option<&Fields<'a>> {
        self.0.iter().find(|it| it.segment.id == id)
    }
}
