//! The walk through a message: its segments, and the fields of each.

use std::collections::HashMap;

use super::level::Level;
use super::order::{Order, Step};
use super::report::{Code, Location, Report};
use crate::delimited::delimited;
use crate::delimiters::Delimiters;
use crate::dictionary::{DataType, Dictionary, Element, SegmentDefinition, Usage};
use crate::steering;

/// A walk through a message from the first segment to the last.
pub(super) struct Walk<'a> {
    pub(super) message: &'a Delimiters,
    pub(super) dictionary: &'static Dictionary,
    pub(super) report: Report,
    pub(super) place: Location,
    /// The number of segments so far with each id of the dictionary.
    occurrences: HashMap<&'static str, usize>,
    /// Whether the message continues another one (MSH-14).
    continues: bool,
    /// The last segment, if it is a DSC.
    dsc: Option<Dsc>,
    /// Scratch: a value with its escapes decoded.
    pub(super) unescaped: String,
    /// The number of parts of the message visited.
    pub(super) work: u64,
}

/// A continuation pointer (HL7 2.5.1 §2.15.4).
struct Dsc {
    place: Location,
    /// Whether it announces another message.
    announces: bool,
    /// Whether the structure has it here. A DSC may end any message.
    has_place: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn of(message: &'a Delimiters, dictionary: &'static Dictionary, report: Report, continues: bool) -> Self {
        Self {
            message,
            dictionary,
            report,
            place: Location::default(),
            occurrences: HashMap::new(),
            continues,
            dsc: None,
            unescaped: String::new(),
            work: 0,
        }
    }

    pub(super) fn find(&mut self, code: Code, detail: impl FnOnce() -> String) {
        self.report.add(code, Some(self.place), detail);
    }

    /// Reports a missing segment. `before` is the segment in its place; `None` at the end of the message.
    fn missing_segment(&mut self, missing: &'static str, before: Option<Location>) {
        let name = self.dictionary.segment(missing).map_or("", |it| it.name);
        let place = if before.is_some() { "before this segment" } else { "at the end" };
        self.report.add(Code::MissingSegment, before, || format!("{missing} ({name}) is missing {place}"));
    }

    /// Checks the next segment. With `is_continued`, an ADD follows with the rest of its last field and the fields after that
    /// (HL7 2.5.1 §2.10.2.1).
    pub(super) fn segment(&mut self, text: &str, number: usize, order: Option<&mut Order<'_>>, is_continued: bool) {
        self.work += 1;
        self.place = Location { number, ..Location::default() };
        let mut fields = text.split(self.message.field);
        let id = fields.next().unwrap_or_default();
        let Some(definition) = self.dictionary.segment(id) else {
            if !is_segment_id(id) {
                self.find(Code::NotASegment, || "the line does not begin with a segment id".to_owned());
            } else if !id.starts_with('Z') {
                let version = self.dictionary.version();
                self.find(Code::UnknownSegment, || format!("HL7 {version} has no such segment"));
            }
            return;
        };
        let occurrence = self.occurrences.entry(definition.id).or_default();
        *occurrence += 1;
        self.place = Location { segment: Some(definition.id), occurrence: Some(*occurrence), ..self.place };
        // The standard leaves the place of these to the site.
        if definition.id.starts_with('Z') {
            return self.fields(definition, fields, is_continued);
        }
        if let Some(Dsc { place, has_place: false, .. }) = self.dsc.take() {
            self.report.add(Code::MisplacedSegment, Some(place), || "only the end of a message has this segment".to_owned());
        }
        match definition.id {
            "DSC" => {
                let announces = fields.clone().next().is_some_and(|it| self.has_content(it));
                let has_place = order.is_some_and(|order| match order.step(definition.id, number) {
                    Step::Placed { missing } => {
                        // If another message follows, it may have the missing segments.
                        let missing = missing.into_iter().filter(|_| !announces);
                        missing.for_each(|it| self.missing_segment(it, Some(self.place)));
                        true
                    }
                    Step::Misplaced | Step::Unexpected => false,
                });
                self.dsc = Some(Dsc { place: self.place, announces, has_place });
            }
            // Its fields are those of the segment that it continues.
            "ADD" => return self.addendum(),
            _ => {
                if let Some(order) = order {
                    self.order(definition, number, order);
                }
            }
        }
        self.fields(definition, fields, is_continued);
    }

    /// Checks an ADD, which continues the segment before it; as the first segment, it continues the last one of the message that
    /// MSH-14 names (HL7 2.5.1 §2.10.2).
    fn addendum(&mut self) {
        let behind_msh = self.occurrences.keys().all(|it| matches!(*it, "MSH" | "ADD"));
        if behind_msh && !self.continues {
            self.find(Code::MisplacedSegment, || "there is no segment for it to continue".to_owned());
        }
    }

    /// Checks the end of the message.
    pub(super) fn end(&mut self, order: Option<&Order<'_>>) {
        if let Some(Dsc { place, announces: true, .. }) = self.dsc {
            let detail = || "the message continues in another: what it lacks may stand there".to_owned();
            return self.report.add(Code::Continuation, Some(place), detail);
        }
        for missing in order.map(Order::finish).into_iter().flatten() {
            self.missing_segment(missing, None);
        }
    }

    fn order(&mut self, definition: &'static SegmentDefinition, number: usize, order: &mut Order<'_>) {
        let name = definition.name;
        match order.step(definition.id, number) {
            Step::Placed { missing } => missing.into_iter().for_each(|it| self.missing_segment(it, Some(self.place))),
            Step::Misplaced => self.find(Code::MisplacedSegment, || format!("the structure has no {name} here")),
            Step::Unexpected => self.find(Code::UnexpectedSegment, || format!("the structure has no {name}")),
        }
    }

    fn fields<'t>(&mut self, definition: &'static SegmentDefinition, texts: impl Iterator<Item = &'t str>, is_continued: bool) {
        // MSH-1 is the separator itself. MSH-2 holds the delimiters, which separate nothing there.
        let names_delimiters = matches!(definition.id, "MSH" | "BHS" | "FHS");
        let first = if names_delimiters { 2 } else { 1 };
        let last = definition.fields.len();
        let (mut count, mut value_type) = (first - 1, None);
        let mut texts = (first..).zip(texts).peekable();
        while let Some((position, text)) = texts.next() {
            self.work += 1;
            count = position;
            if is_continued && texts.peek().is_none() {
                break;
            }
            self.place = Location { field: Some(position), ..self.whole_segment() };
            let Some(field) = definition.field(position) else {
                if position > last && self.has_content(text) {
                    self.find(Code::ExtraField, || format!("the last field of the segment is {last}"));
                    break;
                }
                continue;
            };
            match (definition.id, position) {
                (_, 1 | 2) if names_delimiters => {}
                ("OBX", 2) => {
                    value_type = steering::value_type(text, self.message);
                    self.field(field, text, None);
                    if value_type.is_some_and(|it| self.dictionary.data_type(it).is_none()) {
                        let version = self.dictionary.version();
                        self.find(Code::UnknownValueType, || format!("HL7 {version} has no such data type"));
                    }
                }
                ("OBX", 5) => {
                    self.field(field, text, value_type.and_then(|it| self.dictionary.data_type(it)));
                    if value_type.is_none() && self.has_content(text) {
                        self.find(Code::MissingValueType, || "OBX-2 does not say which data type this is".to_owned());
                    }
                }
                // Any number of parameters or columns, whose types a query profile names.
                _ if definition.is_open() && position >= last => {
                    if position == last && !self.has_content(text) {
                        self.missing_field(field);
                    }
                }
                _ => self.field(field, text, field.data_type.as_deref()),
            }
        }
        if is_continued {
            return;
        }
        for (position, field) in (1..).zip(&definition.fields).skip(count) {
            self.place = Location { field: Some(position), ..self.whole_segment() };
            self.missing_field(field);
        }
    }

    fn whole_segment(&self) -> Location {
        Location { field: None, repetition: None, component: None, subcomponent: None, ..self.place }
    }

    fn missing_field(&mut self, field: &Element) {
        if field.usage == Usage::Required {
            self.find(Code::MissingField, || format!("{} is required", field.name));
        }
    }

    fn field(&mut self, field: &Element, text: &str, data_type: Option<&DataType>) {
        if !self.has_content(text) {
            return self.missing_field(field);
        }
        if field.usage == Usage::Withdrawn {
            let (version, name) = (self.dictionary.version(), field.name);
            return self.find(Code::WithdrawnField, || match field.data_type {
                Some(_) => format!("HL7 {version} has withdrawn {name}"),
                None => format!("HL7 {version} does not use this field"),
            });
        }
        let whole = self.place;
        for (repetition, text) in (1..).zip(delimited(text, self.message.repetition)) {
            self.work += 1;
            self.place = Location { repetition: Some(repetition), ..whole };
            if field.repetitions.is_some_and(|most| repetition == usize::from(most) + 1) {
                let most = field.repetitions.unwrap_or(1);
                self.find(Code::TooManyRepetitions, || match most {
                    1 => format!("{} does not repeat", field.name),
                    most => format!("{} repeats at most {most} times", field.name),
                });
            }
            if let Some(data_type) = data_type.filter(|_| !text.is_empty()) {
                self.typed(field, text, data_type, Level::Repetition);
            }
        }
        self.place = whole;
    }
}

/// Whether it is a letter and two letters or digits (HL7 2.5.1 §2.5.2).
fn is_segment_id(id: &str) -> bool {
    id.len() == 3
        && id.starts_with(|it: char| it.is_ascii_uppercase())
        && id.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}
