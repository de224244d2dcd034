//! HL7's names and rules for the parts of a message, for each version from 2.1 to 2.8.2.
//!
//! The data is text beside the crate, `dictionary/`, with its licences, its shape and how it was made. Each file holds only what
//! differs from the version before. The first request for a version reads it, and it stays in memory.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

mod places;
mod schema;
mod structure;

pub(crate) use places::{Places, Reach};
pub use schema::Schema;
pub use structure::{Item, Node, Structure};

macro_rules! versions {
    ($($version:literal),*) => {
        [$(($version, include_str!(concat!("../dictionary/", $version, ".txt")))),*]
    };
}

/// Oldest first: each builds on those before it.
static VERSIONS: [(&str, &str); 13] =
    versions!["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2"];

/// Published versions for which there is no data here.
const WITHOUT_DATA: [&str; 2] = ["2.9", "2.9.1"];

/// Data types that are one text each (HL7 2.8.2 §2A, and TN, which 2.3.1 withdrew).
const PRIMITIVES: [&str; 13] = ["DT", "DTM", "FT", "GTS", "ID", "IS", "NM", "SI", "SNM", "ST", "TM", "TN", "TX"];

/// One version of HL7.
#[derive(Debug)]
pub struct Dictionary {
    version: &'static str,
    segments: HashMap<&'static str, SegmentDefinition>,
    data_types: HashMap<&'static str, Arc<DataType>>,
    tables: HashMap<u16, Table>,
    structures: HashMap<&'static str, StoredStructure>,
    /// Maps type and event, `ADT_A04`, to the structure of the message, where the two differ.
    events: HashMap<&'static str, &'static str>,
}

/// A structure in the form of the data. Only a validation prepares it further, and then for every message of its type.
#[derive(Debug)]
struct StoredStructure {
    text: &'static str,
    places: OnceLock<Option<Places>>,
}

/// The definition of a segment in a version.
#[derive(Debug)]
pub struct SegmentDefinition {
    /// The three characters: `PID`.
    pub id: &'static str,
    /// `Patient Identification`.
    pub name: &'static str,
    /// The fields from 1 on, without a gap. Those that a [`Schema`] leaves out have an empty name.
    pub fields: Vec<Element>,
    /// `{"segment":"PID","name":"Patient Identification","fields":[`.
    json: Box<str>,
}

impl SegmentDefinition {
    /// The beginning of a segment's JSON, up to its first field.
    pub(crate) fn json_to_fields(&self) -> &str {
        &self.json
    }

    /// The field at a position, from 1. `None` after the last one of the version, and where a [`Schema`] leaves one out.
    pub fn field(&self, position: usize) -> Option<&Element> {
        let index = position.checked_sub(1)?;
        let field = self.fields.get(index).or_else(|| self.fields.last().filter(|_| self.is_open()));
        field.filter(|it| !it.name.is_empty())
    }

    /// Whether the last field stands for any number of fields: the parameters of a query and the columns of a row (HL7 2.5.1
    /// §5.5.4, §5.5.7).
    pub fn is_open(&self) -> bool {
        matches!(self.id, "QPD" | "RDT")
    }
}

/// A field, a component or a subcomponent.
#[derive(Debug)]
pub struct Element {
    /// `Patient Name`. Without quotes, backslashes and control characters, so that JSON takes it as it is. ASCII but for the
    /// names of a [`Schema`].
    pub name: &'static str,
    /// `None` if another field names it ([`Element::varies`]), or the version leaves it open.
    pub data_type: Option<Arc<DataType>>,
    /// Whether HL7 requires it.
    pub usage: Usage,
    /// How often a field may stand in one segment; `None` if there is no limit. 1 for components.
    pub repetitions: Option<u16>,
    /// The number of the table of its values, or of the values of its first component.
    pub table: Option<u16>,
    /// Whether another field names its data type, as OBX-2 does for OBX-5.
    pub varies: bool,
    position: usize,
    /// `,{"position":5,"name":"Patient Name","value":"`. A rendition writes it for each value, so it is prepared once.
    json: Box<str>,
    /// For a field: `,{"position":5,"name":"Patient Name","repetitions":[[{"position":1,"name":"Family Name","value":"`. It ends
    /// with `[[` if another field names the data type. Empty for a component.
    json_of_field: Box<str>,
}

impl Element {
    /// The JSON of a component at `position`, after others, up to the text of its value. `None` for a position other than its
    /// own: the last field of some segments stands for all that follow.
    pub(crate) fn json_to_value(&self, position: usize) -> Option<&str> {
        (self.position == position).then_some(&*self.json)
    }

    /// The same, up to the name.
    pub(crate) fn json_to_name(&self, position: usize) -> Option<&str> {
        self.json_to_value(position)?.strip_suffix(VALUE)
    }

    /// The JSON of a field with a single text, up to that text.
    pub(crate) fn json_to_first(&self, position: usize) -> Option<&str> {
        (self.position == position && !self.varies).then_some(&*self.json_of_field)
    }

    /// The JSON of a field, up to its first component.
    pub(crate) fn json_to_repetitions(&self, position: usize) -> Option<&str> {
        let length = self.json.len() - VALUE.len() + REPETITIONS.len();
        self.json_of_field.get(..length).filter(|_| self.position == position)
    }
}

const VALUE: &str = ",\"value\":\"";
const REPETITIONS: &str = ",\"repetitions\":[[";

/// Whether HL7 requires a part. The data has no conditions (C), so they count as optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// R: required.
    Required,
    /// O, C and B: optional.
    Optional,
    /// W and X (withdrawn), and positions that no version has filled. Senders fill them all the same.
    Withdrawn,
}

/// A data type: one text, or components.
#[derive(Debug)]
pub struct DataType {
    /// `XPN`.
    pub id: &'static str,
    /// The components from 1 on, without a gap. Empty for a primitive type. Their own components are the subcomponents.
    pub components: Vec<Element>,
}

impl DataType {
    /// The component at a position, from 1. `None` after the last one of the version, and in a primitive type.
    pub fn component(&self, position: usize) -> Option<&Element> {
        self.components.get(position.checked_sub(1)?)
    }
}

/// The codes of a table. A data type of ID allows only these; IS allows codes of the site too.
#[derive(Debug)]
pub struct Table {
    /// `Observation Result Status Codes Interpretation`.
    pub name: &'static str,
    /// Its codes, sorted.
    codes: Vec<&'static str>,
}

impl Table {
    /// Whether the table lists a code.
    pub fn has(&self, code: &str) -> bool {
        self.codes.binary_search(&code).is_ok()
    }
}

impl Dictionary {
    /// The dictionary for the first component of MSH-12. A version without data has that of the nearest lower one: `2.3.z` is
    /// read as 2.3, `2.9` as 2.8.2. A text that is no version of HL7 2 is read as the newest.
    pub fn of(version: &str) -> &'static Self {
        Schema::standard().dictionary(version)
    }

    /// The dictionary of exactly this version, `2.5.1`.
    pub fn exactly(version: &str) -> Option<&'static Self> {
        VERSIONS.iter().position(|(name, _)| *name == version).map(|index| Schema::standard().at(index))
    }

    /// Whether there is a version of HL7 2 with this name, `2.9`. Some of them are read by the nearest earlier one.
    pub fn is_version(version: &str) -> bool {
        WITHOUT_DATA.contains(&version) || VERSIONS.iter().any(|(name, _)| *name == version)
    }

    /// The versions with data, oldest first.
    pub fn versions() -> impl Iterator<Item = &'static str> {
        VERSIONS.iter().map(|(name, _)| *name)
    }

    /// Its version, as MSH-12 writes it.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Whether its version is this one or a newer one.
    pub(crate) fn is_at_least(&self, version: &str) -> bool {
        numbers(self.version) >= numbers(version)
    }

    /// A segment by its id. `None` for those that no version up to this one has, and for a site's own (`ZPI`) unless a
    /// [`Schema`] has it.
    pub fn segment(&self, id: &str) -> Option<&SegmentDefinition> {
        self.segments.get(id)
    }

    /// The segments there are, in no order.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentDefinition> {
        self.segments.values()
    }

    /// A data type by its id, such as OBX-2 names it for OBX-5.
    pub fn data_type(&self, id: &str) -> Option<&DataType> {
        self.data_types.get(id).map(AsRef::as_ref)
    }

    /// The codes of a table. `None` if the version has none for it, if it describes codes by a pattern, and for tables that
    /// others maintain: countries, coding systems, media types. Up to 2.3 there are none at all.
    pub fn table(&self, number: u16) -> Option<&Table> {
        self.tables.get(&number)
    }

    /// The names of the structures there are, in no order.
    pub fn structure_names(&self) -> impl Iterator<Item = &'static str> {
        self.structures.keys().copied()
    }

    /// The structure of a message by its name in MSH-9.3, `ADT_A01`, or by type and event, `ADT_A04`.
    pub fn structure(&self, name: &str) -> Option<Structure> {
        let (id, stored) = self.stored_structure(name)?;
        Structure::parse(id, stored.text)
    }

    /// The same structure, prepared for walks, and the name that MSH-9.3 should have for it.
    pub(crate) fn places(&self, name: &str) -> Option<(&'static str, &Places)> {
        let (id, stored) = self.stored_structure(name)?;
        let places = stored.places.get_or_init(|| Places::of(&Structure::parse(id, stored.text)?));
        Some((id, places.as_ref()?))
    }

    fn stored_structure(&self, name: &str) -> Option<(&'static str, &StoredStructure)> {
        let name = self.events.get(name).copied().unwrap_or(name);
        self.structures.get_key_value(name).map(|(id, stored)| (*id, stored))
    }

    /// The structures of the version, as MSH-9.3 names them, in no order.
    pub fn structures(&self) -> impl Iterator<Item = &'static str> {
        self.structures.keys().copied()
    }
}

/// The index of the version whose dictionary applies.
fn nearest(version: &str) -> usize {
    if let Some(index) = VERSIONS.iter().position(|(name, _)| *name == version) {
        return index;
    }
    let asked = numbers(version.trim().trim_start_matches(['v', 'V']));
    match asked.as_slice() {
        [2, _, ..] => VERSIONS.iter().rposition(|(name, _)| numbers(name) <= asked).unwrap_or(0),
        _ => VERSIONS.len() - 1,
    }
}

/// The numbers at the beginning of a version: 2 and 3 of `2.3.z`.
fn numbers(version: &str) -> Vec<u16> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// Reads the definitions of one version: for each name the last one, as the lines below its heading.
struct Reader {
    definitions: HashMap<(&'static str, &'static str), (&'static str, Vec<&'static str>)>,
    /// `None` while it is being read. No data type of HL7 contains itself.
    data_types: HashMap<&'static str, Option<Arc<DataType>>>,
}

impl Reader {
    /// `more` has the lines behind those of the version.
    fn of(index: usize, more: &'static str) -> Self {
        let mut definitions = HashMap::new();
        let versions = VERSIONS.iter().take(index + 1).map(|(_, text)| *text);
        for text in versions.chain([more]) {
            let mut open = None;
            for line in text.lines() {
                match heading(line) {
                    Some(("drop", kind, name)) => {
                        definitions.remove(&(kind, name));
                        open = None;
                    }
                    Some((kind, name, title)) => {
                        open = Some((kind, name));
                        definitions.insert((kind, name), (title, Vec::new()));
                    }
                    None => {
                        let below = open.and_then(|key| definitions.get_mut(&key));
                        below.into_iter().for_each(|(_, lines): &mut (_, Vec<_>)| lines.push(line));
                    }
                }
            }
        }
        Self { definitions, data_types: HashMap::new() }
    }

    fn dictionary(mut self, version: &'static str) -> Dictionary {
        let of_kind = |wanted: &str| -> Vec<&'static str> {
            self.definitions.keys().filter(|(kind, _)| *kind == wanted).map(|(_, name)| *name).collect()
        };
        let (types, segments) = (of_kind("type"), of_kind("segment"));
        let (tables, structures, events) = (of_kind("table"), of_kind("structure"), of_kind("event"));
        let data_types = types.iter().chain(&PRIMITIVES).filter_map(|id| Some((*id, self.data_type(id)?))).collect();
        let segments = segments.into_iter().map(|id| (id, self.segment(id))).collect();
        let title = |kind, name| self.definitions.get(&(kind, name)).map(|(title, _)| *title);
        Dictionary {
            version,
            segments,
            data_types,
            tables: tables.into_iter().filter_map(|number| Some((number.parse().ok()?, self.table(number)?))).collect(),
            structures: structures
                .into_iter()
                .filter_map(|name| Some((name, StoredStructure { text: title("structure", name)?, places: OnceLock::new() })))
                .collect(),
            events: events.into_iter().filter_map(|name| Some((name, title("event", name)?))).collect(),
        }
    }

    fn lines(&self, kind: &'static str, name: &'static str) -> Vec<&'static str> {
        self.definitions.get(&(kind, name)).map(|(_, lines)| lines.clone()).unwrap_or_default()
    }

    fn segment(&mut self, id: &'static str) -> SegmentDefinition {
        let mut fields = self.elements("segment", id);
        for field in &mut fields {
            field.json_of_field = json_of_field(field);
        }
        let name = self.definitions.get(&("segment", id)).map(|(name, _)| *name).unwrap_or_default();
        let json = format!("{{\"segment\":\"{id}\",\"name\":\"{name}\",\"fields\":[").into();
        SegmentDefinition { id, name, fields, json }
    }

    fn data_type(&mut self, id: &'static str) -> Option<Arc<DataType>> {
        if let Some(known) = self.data_types.get(id) {
            return known.clone();
        }
        if self.lines("type", id).is_empty() && !PRIMITIVES.contains(&id) {
            return None;
        }
        self.data_types.insert(id, None);
        let components = self.elements("type", id);
        let read = Some(Arc::new(DataType { id, components }));
        self.data_types.insert(id, read.clone());
        read
    }

    fn elements(&mut self, kind: &'static str, name: &'static str) -> Vec<Element> {
        let mut elements = Vec::new();
        for line in self.lines(kind, name) {
            let position = elements.len() + 1;
            elements.extend(self.element(line, position));
        }
        elements
    }

    /// Reads a line such as `R*3 XPN:0200 Patient Name`.
    fn element(&mut self, line: &'static str, position: usize) -> Option<Element> {
        let mut parts = line.splitn(3, ' ');
        let (usage, data_type, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (data_type, table) = data_type.split_once(':').unwrap_or((data_type, ""));
        let (usage, repetitions) = usage.split_at_checked(1)?;
        Some(Element {
            name,
            position,
            json: format!(",{{\"position\":{position},\"name\":\"{name}\"{VALUE}").into(),
            json_of_field: Box::default(),
            data_type: self.data_type(data_type),
            usage: match usage {
                "R" => Usage::Required,
                "O" => Usage::Optional,
                "W" => Usage::Withdrawn,
                _ => return None,
            },
            repetitions: match repetitions.strip_prefix('*') {
                None => Some(1),
                Some("") => None,
                Some(most) => most.parse().ok(),
            },
            table: table.parse().ok(),
            varies: data_type == "varies",
        })
    }

    fn table(&self, number: &'static str) -> Option<Table> {
        let (name, lines) = self.definitions.get(&("table", number))?;
        Some(Table { name, codes: lines.first()?.split('|').collect() })
    }
}

fn json_of_field(field: &Element) -> Box<str> {
    let begin = field.json.strip_suffix(VALUE).unwrap_or_default();
    let first = field.data_type.as_ref().and_then(|it| it.component(1)).and_then(|it| it.json_to_value(1));
    let first = match first {
        _ if field.varies => "",
        None => "{\"position\":1,\"value\":\"",
        Some(first) => first.strip_prefix(',').unwrap_or_default(),
    };
    [begin, REPETITIONS, first].concat().into()
}

/// Reads a heading such as `segment PID Patient Identification`: the kind, the name and the rest.
fn heading(line: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, title) = rest.split_once(' ').unwrap_or((rest, ""));
    ["type", "segment", "table", "structure", "event", "drop"].contains(&kind).then_some((kind, name, title))
}

#[cfg(test)]
mod tests;
