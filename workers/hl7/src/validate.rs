//! What a message has that its version of HL7 does not, and what it lacks.
//!
//! A report refuses nothing: the lake takes messages as hospitals send them. It is for the people who connect a sender.
//! It says what is wrong and where, in our own words and in names of the standard, and never what a message contains.
//!
//! Checked are the structure that MSH-9 names, required fields, repetitions, fields and components that the version does
//! not have, the form of numbers, dates and times, and codes of HL7's own tables. Not checked are conditions (usage C and
//! the sentences of the standard), lengths, which most versions do not fix, and whether the values make sense together.

use std::collections::HashMap;
use std::fmt;

use domain::Er7;
use serde::Serialize;

use crate::delimiters::{Delimiters, Unreadable, first_segment, segments};
use crate::dictionary::{DataType, Dictionary, Element, SegmentDefinition, Usage};
use crate::summary::summarize;

mod order;
mod value;

use order::{Order, Step};

/// Most findings of one report. The rest is counted.
pub const MOST_FINDINGS: usize = 500;

/// What [`validate`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version it was checked by, `2.5.1`: that of MSH-12, or the nearest there is. `None` if MSH is not readable.
    pub version: Option<&'static str>,
    /// The structure it was checked by, `ADT_A01`. `None` if the version has none for MSH-9.
    pub structure: Option<&'static str>,
    /// In the order of the message, at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: usize,
}

impl Report {
    /// The gravest severity. `None`: nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|it| it.severity).max()
    }
}

/// One thing that is not as the standard has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How grave it is: that of its code.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// Where it is. `None`: in no one place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// A sentence about it, without anything of the message.
    pub detail: String,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The standard leaves it to the site.
    Info,
    /// A receiver has to pass over something.
    Warning,
    /// Against a rule of the standard.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The message does not begin with MSH. Nothing else was checked.
    NoMsh,
    /// MSH-1 and MSH-2 are no delimiters. Nothing else was checked.
    MshDelimiters,
    /// MSH-12 is no version that the dictionary has.
    UnknownVersion,
    /// MSH-9 names no structure that the version has. The order of the segments was not checked.
    UnknownStructure,
    /// MSH-9.3 is the event's name, where the structure has another.
    WrongStructure,
    /// A line does not begin with a segment id and a field separator.
    NotASegment,
    /// The version does not have the segment, and it is none of a site (`Z..`).
    UnknownSegment,
    /// The structure asks for a segment that is not there.
    MissingSegment,
    /// The structure does not have the segment.
    UnexpectedSegment,
    /// The structure has the segment, but not here, or not so often.
    MisplacedSegment,
    /// A required field is empty.
    MissingField,
    /// A required component of a field with content is empty.
    MissingComponent,
    /// A field repeats that does not, or more often than it may.
    TooManyRepetitions,
    /// Content past the last field of the segment.
    ExtraField,
    /// Content past the last component of the data type.
    ExtraComponent,
    /// Content past the last subcomponent of the data type.
    ExtraSubcomponent,
    /// Content in a field that the version has withdrawn.
    WithdrawnField,
    /// The text has not the form of its data type.
    WrongFormat,
    /// The version does not have the data type that OBX-2 names.
    UnknownValueType,
    /// OBX-5 has content, and OBX-2 names no data type for it.
    MissingValueType,
    /// A table of HL7 does not have the code.
    NotInTable,
    /// A table of the site has a code that HL7 does not suggest for it.
    NotSuggested,
}

impl Code {
    /// How grave a finding of this code is.
    pub fn severity(self) -> Severity {
        match self {
            Self::NoMsh | Self::MshDelimiters | Self::NotASegment | Self::MissingSegment | Self::MissingField => Severity::Error,
            Self::TooManyRepetitions | Self::WrongFormat | Self::UnknownValueType | Self::NotInTable => Severity::Error,
            Self::UnknownVersion | Self::UnknownStructure | Self::WrongStructure | Self::UnknownSegment => Severity::Warning,
            Self::UnexpectedSegment | Self::MisplacedSegment | Self::MissingComponent => Severity::Warning,
            Self::ExtraField | Self::ExtraComponent | Self::ExtraSubcomponent | Self::MissingValueType => Severity::Warning,
            Self::WithdrawnField | Self::NotSuggested => Severity::Info,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A place in a message. All numbers count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The id, if the version has it: a line that is no segment may begin with anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<&'static str>,
    /// Which segment of the message it is.
    pub number: usize,
    /// Which of those with its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<usize>,
    /// `None`: the whole segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<usize>,
    /// `None`: the whole field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition: Option<usize>,
    /// `None`: the whole repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<usize>,
    /// `None`: the whole component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subcomponent: Option<usize>,
}

/// `PID-3[2].4.1`, and `OBX[7]-5` for the seventh OBX.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segment {
            Some(segment) => f.write_str(segment)?,
            None => write!(f, "segment {}", self.number)?,
        }
        if let Some(occurrence) = self.occurrence.filter(|it| *it > 1) {
            write!(f, "[{occurrence}]")?;
        }
        if let Some(field) = self.field {
            write!(f, "-{field}")?;
        }
        if let Some(repetition) = self.repetition.filter(|it| *it > 1) {
            write!(f, "[{repetition}]")?;
        }
        [self.component, self.subcomponent].into_iter().flatten().try_for_each(|it| write!(f, ".{it}"))
    }
}

/// Holds a message against its version of HL7. Takes time in proportion to the length of the message, and memory for the
/// report alone.
pub fn validate(message: &Er7) -> Report {
    examine(message).0
}

/// The report, and how many parts of the message and places of the structure were looked at.
fn examine(message: &Er7) -> (Report, u64) {
    let mut report = Report { version: None, structure: None, findings: Vec::new(), more: 0 };
    let delimiters = match Delimiters::of(message) {
        Ok(delimiters) => delimiters,
        Err(reason) => {
            let (code, place) = match reason {
                Unreadable::NoMsh(place) => (Code::NoMsh, place),
                Unreadable::Delimiters(place) => (Code::MshDelimiters, place),
            };
            let location = Location { number: place.position, ..Location::default() };
            report.add(code, Some(location), || reason.to_string());
            return (report, 0);
        }
    };
    let summary = summarize(message);
    let version = summary.hl7_version.as_deref().map(str::trim);
    let dictionary = Dictionary::of(version.unwrap_or_default());
    report.version = Some(dictionary.version());
    let number = first_segment(message).0.position;
    let msh = Location { segment: Some("MSH"), number, occurrence: Some(1), ..Location::default() };
    if version.is_some_and(|it| Dictionary::exactly(it).is_none()) {
        let location = Location { field: Some(12), repetition: Some(1), component: Some(1), ..msh };
        let nearest = dictionary.version();
        report.add(Code::UnknownVersion, Some(location), || format!("is no version of HL7 2; {nearest} was taken for it"));
    }
    let name = Name { code: summary.message_type, event: summary.trigger_event, structure: summary.message_structure };
    let structure = name.structure(dictionary);
    report.structure = structure.as_ref().map(|it| it.id);
    match (&structure, name.structure.as_deref()) {
        (Some(found), Some(named)) if found.id != named => {
            let location = Location { field: Some(9), repetition: Some(1), component: Some(3), ..msh };
            report.add(Code::WrongStructure, Some(location), || format!("the structure of this message is {}", found.id));
        }
        (None, _) if !name.is_of_site() => {
            let location = Location { field: Some(9), ..msh };
            let version = dictionary.version();
            report.add(Code::UnknownStructure, Some(location), || format!("HL7 {version} has no such message"));
        }
        _ => {}
    }
    let mut last = HashMap::new();
    for (index, segment) in segments(message).enumerate() {
        if let Some(definition) = definition(dictionary, &delimiters, segment) {
            last.insert(definition.id, index + 1);
        }
    }
    let mut walk = Walk {
        message: &delimiters,
        dictionary,
        report,
        place: Location::default(),
        occurrences: HashMap::new(),
        unescaped: String::new(),
        work: 0,
    };
    let mut order = structure.as_ref().map(|it| Order::of(it, last));
    for (index, segment) in segments(message).enumerate() {
        walk.segment(segment, index + 1, order.as_mut());
    }
    for missing in order.iter().flat_map(Order::finish) {
        walk.missing_segment(missing, None);
    }
    (walk.report, walk.work + order.map_or(0, |it| it.work))
}

/// What MSH-9 says.
struct Name {
    code: Option<String>,
    event: Option<String>,
    structure: Option<String>,
}

impl Name {
    /// By MSH-9.3, else by type and event, else by the type alone, as an ACK has it.
    fn structure(&self, dictionary: &Dictionary) -> Option<crate::Structure> {
        let both = self.code.as_ref().zip(self.event.as_ref()).map(|(code, event)| format!("{code}_{event}"));
        let names = [&self.structure, &both, &self.code];
        names.into_iter().flatten().find_map(|name| dictionary.structure(name))
    }

    /// Whether it is of a site's own making.
    fn is_of_site(&self) -> bool {
        [&self.code, &self.event].into_iter().flatten().any(|it| it.starts_with('Z'))
    }
}

fn definition<'a>(dictionary: &'a Dictionary, delimiters: &Delimiters, segment: &str) -> Option<&'a SegmentDefinition> {
    dictionary.segment(segment.split(delimiters.field).next().unwrap_or_default())
}

impl Report {
    fn add(&mut self, code: Code, location: Option<Location>, detail: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { severity: code.severity(), code, location, detail: detail() });
        } else {
            self.more += 1;
        }
    }
}

/// A message on its way from the first segment to the last.
struct Walk<'a> {
    message: &'a Delimiters,
    dictionary: &'static Dictionary,
    report: Report,
    /// Where it is.
    place: Location,
    /// How many segments there were with each id of the dictionary.
    occurrences: HashMap<&'static str, usize>,
    /// Scratch: a value with its escapes decoded.
    unescaped: String,
    work: u64,
}

impl Walk<'_> {
    fn find(&mut self, code: Code, detail: impl FnOnce() -> String) {
        self.report.add(code, Some(self.place), detail);
    }

    /// `before` is the segment that came instead; `None`, the end of the message.
    fn missing_segment(&mut self, missing: &'static str, before: Option<Location>) {
        let name = self.dictionary.segment(missing).map_or("", |it| it.name);
        let place = if before.is_some() { "before this segment" } else { "at the end" };
        self.report.add(Code::MissingSegment, before, || format!("{missing} ({name}) is missing {place}"));
    }

    fn segment(&mut self, text: &str, number: usize, order: Option<&mut Order<'_>>) {
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
        if let Some(order) = order {
            self.order(definition, number, order);
        }
        self.fields(definition, fields);
    }

    fn order(&mut self, definition: &'static SegmentDefinition, number: usize, order: &mut Order<'_>) {
        let name = definition.name;
        match order.step(definition.id, number) {
            Step::Placed { missing } => missing.into_iter().for_each(|it| self.missing_segment(it, Some(self.place))),
            Step::Misplaced => self.find(Code::MisplacedSegment, || format!("the structure has no {name} here")),
            // Pieces of a message may continue in another (HL7 2.5.1 §2.10.2).
            Step::Unexpected if matches!(definition.id, "ADD" | "DSC") => {}
            Step::Unexpected => self.find(Code::UnexpectedSegment, || format!("the structure has no {name}")),
        }
    }

    fn fields<'t>(&mut self, definition: &'static SegmentDefinition, texts: impl Iterator<Item = &'t str>) {
        // MSH-1 is the separator itself, and MSH-2 the delimiters, which separate nothing there.
        let names_delimiters = matches!(definition.id, "MSH" | "BHS" | "FHS");
        let first = if names_delimiters { 2 } else { 1 };
        let (mut count, mut value_type) = (first - 1, "");
        for (position, text) in (first..).zip(texts) {
            self.work += 1;
            count = position;
            self.place = Location { field: Some(position), ..self.whole_segment() };
            let Some(field) = definition.field(position) else {
                if self.has_content(text) {
                    let last = definition.fields.len();
                    self.find(Code::ExtraField, || format!("the last field of the segment is {last}"));
                    break;
                }
                continue;
            };
            match (definition.id, position) {
                (_, 1 | 2) if names_delimiters => {}
                ("OBX", 2) => {
                    value_type = text.split(|it| Some(it) == self.message.component).next().unwrap_or_default().trim();
                    self.field(field, text, None);
                    if !value_type.is_empty() && value_type != NULL && self.dictionary.data_type(value_type).is_none() {
                        let version = self.dictionary.version();
                        self.find(Code::UnknownValueType, || format!("HL7 {version} has no such data type"));
                    }
                }
                ("OBX", 5) => {
                    self.field(field, text, self.dictionary.data_type(value_type));
                    if value_type.is_empty() && self.has_content(text) {
                        self.find(Code::MissingValueType, || "OBX-2 does not say which data type this is".to_owned());
                    }
                }
                _ => self.field(field, text, field.data_type.as_deref()),
            }
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
        for (repetition, text) in (1..).zip(parts(text, self.message.repetition)) {
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

    /// A text of one data type: a repetition, a component or a subcomponent.
    fn typed(&mut self, element: &Element, text: &str, data_type: &DataType, level: Level) {
        self.work += 1;
        if text == NULL {
            return;
        }
        if data_type.components.is_empty() {
            self.primitive(element, text, data_type, level);
        } else if level == Level::Subcomponent {
            // No delimiter is left for its components, so that it has the first alone.
            if let Some((first, of_first)) = data_type.component(1).and_then(|it| Some((it, it.data_type.as_deref()?))) {
                self.typed(first, text, of_first, level);
            }
        } else {
            self.composite(text, data_type, level);
        }
    }

    fn composite(&mut self, text: &str, data_type: &DataType, level: Level) {
        let whole = self.place;
        let mut count = 0;
        for (position, text) in (1..).zip(parts(text, level.delimiter(self.message))) {
            self.work += 1;
            count = position;
            self.place = level.within(whole, position);
            let Some(part) = data_type.component(position) else {
                if self.has_content(text) {
                    let (id, last) = (data_type.id, data_type.components.len());
                    self.find(level.extra(), || format!("the last part of the data type {id} is {last}"));
                    break;
                }
                continue;
            };
            if !self.has_content(text) {
                self.missing_component(part);
            } else if part.usage == Usage::Withdrawn {
                continue;
            } else if data_type.id == "TS" && position == 1 {
                // A text until 2.4, and a time for all that (HL7 2.3 §2.8.43).
                self.form(text, "DTM");
            } else if let Some(of_part) = part.data_type.as_deref() {
                self.typed(part, text, of_part, level.next());
            }
        }
        for (position, part) in (1..).zip(&data_type.components).skip(count) {
            self.place = level.within(whole, position);
            self.missing_component(part);
        }
        self.place = whole;
    }

    fn missing_component(&mut self, part: &Element) {
        if part.usage == Usage::Required {
            self.find(Code::MissingComponent, || format!("{} is required", part.name));
        }
    }

    fn primitive(&mut self, element: &Element, text: &str, data_type: &DataType, level: Level) {
        let mut text = text;
        for level in level.to_the_last() {
            let Some((first, rest)) = level.delimiter(self.message).and_then(|it| text.split_once(it)) else { continue };
            if self.has_content(rest) {
                let whole = self.place;
                self.place = level.within(whole, 2);
                let (id, name) = (data_type.id, element.name);
                self.find(level.extra(), || format!("{name} is one text of the data type {id}"));
                self.place = whole;
            }
            text = first;
        }
        if text.is_empty() || text == NULL {
            return;
        }
        self.form(text, data_type.id);
        self.code(text, data_type.id, element.table);
    }

    fn form(&mut self, text: &str, data_type: &'static str) {
        let cut = self.message.truncation.is_some_and(|it| text.ends_with(it));
        if !cut && !value::is_well_formed(data_type, text) {
            self.find(Code::WrongFormat, || format!("has not the form of the data type {data_type}"));
        }
    }

    fn code(&mut self, text: &str, data_type: &str, number: Option<u16>) {
        let code = match data_type {
            "ID" => Code::NotInTable,
            "IS" => Code::NotSuggested,
            _ => return,
        };
        // Events, messages, versions and structures have findings of their own.
        let number = number.filter(|it| !matches!(it, 3 | 76 | 104 | 354));
        let Some((number, table)) = number.and_then(|it| Some((it, self.dictionary.table(it)?))) else { return };
        let known = if self.message.escape.is_some_and(|it| text.contains(it)) {
            self.unescaped.clear();
            self.message.unescape(text, &mut self.unescaped);
            table.has(&self.unescaped)
        } else {
            table.has(text)
        };
        if !known {
            self.find(code, || format!("table {number:04} ({}) does not have this code", table.name));
        }
    }

    /// Whether there is anything but delimiters. The HL7 null is content.
    fn has_content(&mut self, text: &str) -> bool {
        let Delimiters { component, repetition, subcomponent, .. } = *self.message;
        let is_delimiter = |it: char| [component, repetition, subcomponent].contains(&Some(it));
        let delimiters = text.chars().take_while(|it| is_delimiter(*it)).count();
        self.work += u64::try_from(delimiters).unwrap_or(u64::MAX);
        text.chars().nth(delimiters).is_some()
    }
}

/// The value that deletes what the receiver has (HL7 2.5.1 §2.5.3).
const NULL: &str = "\"\"";

/// What a text is a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Repetition,
    Component,
    Subcomponent,
}

impl Level {
    /// Between the parts of a text of this level.
    fn delimiter(self, delimiters: &Delimiters) -> Option<char> {
        match self {
            Self::Repetition => delimiters.component,
            Self::Component => delimiters.subcomponent,
            Self::Subcomponent => None,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Repetition => Self::Component,
            Self::Component | Self::Subcomponent => Self::Subcomponent,
        }
    }

    fn to_the_last(self) -> impl Iterator<Item = Self> {
        [Self::Repetition, Self::Component].into_iter().skip(match self {
            Self::Repetition => 0,
            Self::Component => 1,
            Self::Subcomponent => 2,
        })
    }

    /// The place of a part of a text of this level.
    fn within(self, place: Location, position: usize) -> Location {
        match self {
            Self::Repetition => Location { component: Some(position), ..place },
            Self::Component | Self::Subcomponent => Location { subcomponent: Some(position), ..place },
        }
    }

    fn extra(self) -> Code {
        match self {
            Self::Repetition => Code::ExtraComponent,
            Self::Component | Self::Subcomponent => Code::ExtraSubcomponent,
        }
    }
}

/// The parts of a text; the text itself if there is no delimiter.
fn parts(text: &str, delimiter: Option<char>) -> impl Iterator<Item = &str> {
    text.split(move |it| Some(it) == delimiter)
}

/// A letter, and two letters or digits (HL7 2.5.1 §2.5.2).
fn is_segment_id(id: &str) -> bool {
    id.len() == 3
        && id.starts_with(|it: char| it.is_ascii_uppercase())
        && id.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}

#[cfg(test)]
mod tests;
