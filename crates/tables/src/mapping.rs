//! The mapping: a data file that says what a row of each typed table is, and which field fills each column.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use hl7::{Dictionary, Mistake, Schema};
use serde::Deserialize;
use toml::Spanned;

use crate::cell::{Column, Kind};
use crate::derived::Derived;
use crate::number::RULE;
use crate::table::Table;

/// The versions of the mapping's form that can be read.
const VERSION: u32 = 1;

/// Every table begins with these (`rows.rs` fills them).
pub(crate) const OF_MESSAGE: [(&str, Kind, &str); 3] =
    [("message_id", Kind::Text, "catalog"), ("source", Kind::Text, "catalog"), ("received_at", Kind::Instant, "catalog")];

static STANDARD: LazyLock<Result<Mapping, Mistake>> = LazyLock::new(|| Mapping::read(include_str!("../mapping.toml")));

/// What the typed tables are, and what the parts of a message are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    tables: Vec<(Table, Definition)>,
    pub(crate) schema: &'static Schema,
}

/// A typed table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) row: String,
    pub(crate) alone: Option<String>,
    /// The field of `row`.
    pub(crate) each: Option<usize>,
    pub(crate) only: Vec<String>,
    pub(crate) columns: Vec<Mapped>,
}

/// A column, or the five of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    source: String,
}

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The first of these places that has something; the repetitions, if all are taken; five columns, if it is a time.
    Places { places: Vec<Place>, all: bool, time: bool },
    /// The place that gave the column at this index.
    PlaceOf(usize),
    /// See [`Derived`].
    Derived(Derived),
}

/// `PID-3.4.1`. Without a component it is the whole repetition, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: String,
    pub(crate) field: usize,
    pub(crate) component: Option<usize>,
    pub(crate) subcomponent: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    patients: Option<Spanned<WrittenTable>>,
    visits: Option<Spanned<WrittenTable>>,
    orders: Option<Spanned<WrittenTable>>,
    observations: Option<Spanned<WrittenTable>>,
    documents: Option<Spanned<WrittenTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    row: Spanned<String>,
    alone: Option<Spanned<String>>,
    each: Option<Spanned<String>>,
    #[serde(default)]
    only: Vec<String>,
    columns: Vec<WrittenColumn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenColumn {
    name: Spanned<String>,
    from: Option<Spanned<String>>,
    #[serde(default)]
    take: Take,
    #[serde(default)]
    time: bool,
    place_of: Option<Spanned<String>>,
    derived: Option<Spanned<String>>,
    source: Spanned<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Take {
    #[default]
    First,
    All,
}

/// What is wrong, and the byte where it begins.
type Wrong = (usize, String);

impl Mapping {
    /// That of this version of Sluice: `crates/tables/mapping.toml`.
    ///
    /// # Errors
    /// A mistake in that file, which the tests of this crate would find first.
    pub fn standard() -> Result<&'static Self, Mistake> {
        STANDARD.as_ref().map_err(Clone::clone)
    }

    /// Reads a mapping. A typed table that it leaves out has the columns of every table, and no rows.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn read(text: &str) -> Result<Self, Mistake> {
        let at = |(byte, what): Wrong| Mistake::at(text, byte, what);
        let file: File = toml::from_str(text).map_err(|error| Mistake::of_toml(text, &error))?;
        if *file.version.get_ref() != VERSION {
            return Err(at((file.version.span().start, format!("only version {VERSION} of the format is known"))));
        }
        let written = [
            (Table::Patients, file.patients),
            (Table::Visits, file.visits),
            (Table::Orders, file.orders),
            (Table::Observations, file.observations),
            (Table::Documents, file.documents),
        ];
        let mut tables = Vec::new();
        for (table, written) in written {
            if let Some(written) = written {
                tables.push((table, definition(written).map_err(at)?));
            }
        }
        Ok(Self { tables, schema: Schema::standard() })
    }

    /// The same tables, with the names of a schema for a site's own segments.
    #[must_use]
    pub fn with_schema(self, schema: &'static Schema) -> Self {
        Self { schema, ..self }
    }

    /// All that decides what the typed tables have of a message, as one text. What was made by another text may have other rows, or other
    /// values under the same columns.
    pub fn made_by(&self) -> String {
        // Not `{self:?}`: a schema's dictionaries are read when they are needed, and would change it.
        format!("numbers {RULE}\n{:?}\n{}", self.tables, self.schema.lines())
    }

    pub(crate) fn definition(&self, table: Table) -> Option<&Definition> {
        self.tables.iter().find(|(it, _)| *it == table).map(|(_, definition)| definition)
    }

    /// The columns of a table, in order.
    pub fn columns(&self, table: Table) -> Vec<Column> {
        let own = match self.definition(table) {
            Some(definition) => definition.columns.iter().flat_map(Mapped::columns).collect(),
            None => crate::plain::columns(table),
        };
        let first = OF_MESSAGE.map(|(name, kind, source)| Column { required: true, ..Column::new(name, kind, source) });
        first.into_iter().chain(own).collect()
    }
}

impl Mapped {
    fn columns(&self) -> Vec<Column> {
        let column = |name: String, kind| Column::new(name, kind, self.source.as_str());
        let kind = match &self.origin {
            Origin::Derived(derived) => derived.kind(),
            Origin::Places { .. } | Origin::PlaceOf(_) => Kind::Text,
        };
        let mut columns = Vec::from([column(self.name.clone(), kind)]);
        if let Origin::Places { time: true, .. } = self.origin {
            let beside = [("local", Kind::Local), ("utc", Kind::Instant), ("zone", Kind::Text), ("precision", Kind::Text)];
            columns.extend(beside.map(|(suffix, kind)| column(format!("{}_{suffix}", self.name), kind)));
        }
        columns
    }
}

fn definition(written: Spanned<WrittenTable>) -> Result<Definition, Wrong> {
    let start = written.span().start;
    let written = written.into_inner();
    let row = segment(&written.row)?;
    let alone = written.alone.as_ref().map(segment).transpose()?;
    let each = written.each.as_ref().map(|each| each_of(each, &row)).transpose()?;
    let is_of_observation = row == "OBX" && each == Some(5);
    if !written.only.is_empty() && !is_of_observation {
        return Err((start, "`only` needs rows of each OBX-5".to_owned()));
    }
    let mut columns: Vec<Mapped> = Vec::new();
    let mut names: BTreeSet<String> = OF_MESSAGE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for column in written.columns {
        let at = column.name.span().start;
        let mapped = mapped(column, &columns, is_of_observation)?;
        for column in mapped.columns() {
            if !names.insert(column.name.clone()) {
                return Err((at, format!("there is another column `{}`", column.name)));
            }
        }
        columns.push(mapped);
    }
    if columns.is_empty() {
        return Err((start, "a table without columns".to_owned()));
    }
    Ok(Definition { row, alone, each, only: written.only, columns })
}

fn mapped(column: WrittenColumn, before: &[Mapped], is_of_observation: bool) -> Result<Mapped, Wrong> {
    let (at, name) = (column.name.span().start, column.name.into_inner());
    let is_plain = name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_');
    if !is_plain || !name.starts_with(|it: char| it.is_ascii_lowercase()) {
        return Err((at, "a name is a lower-case letter, then lower-case letters, digits and `_`".to_owned()));
    }
    if column.source.get_ref().trim().is_empty() {
        return Err((column.source.span().start, "a source says where the standard defines the column".to_owned()));
    }
    let origin = match (column.from, column.place_of, column.derived) {
        (Some(from), None, None) => Origin::Places { places: places(&from)?, all: column.take == Take::All, time: column.time },
        (None, Some(of), None) => {
            let found = before.iter().position(|it| it.name == *of.get_ref());
            let index = found.filter(|index| matches!(before.get(*index), Some(Mapped { origin: Origin::Places { .. }, .. })));
            Origin::PlaceOf(index.ok_or_else(|| (of.span().start, "no column above it with this name has places".to_owned()))?)
        }
        (None, None, Some(word)) => {
            let at = word.span().start;
            let derived = Derived::of(word.get_ref()).ok_or_else(|| (at, "nothing of this name is derived".to_owned()))?;
            if derived.is_of_observation() && !is_of_observation {
                return Err((at, "it needs rows of each OBX-5".to_owned()));
            }
            Origin::Derived(derived)
        }
        _ => return Err((at, "a column has one of `from`, `place_of` and `derived`".to_owned())),
    };
    if let Origin::PlaceOf(_) | Origin::Derived(_) = origin
        && (column.time || column.take == Take::All)
    {
        return Err((at, "`time` and `take` go with `from`".to_owned()));
    }
    if column.time && column.take == Take::All {
        return Err((at, "a time takes one repetition, and not all".to_owned()));
    }
    Ok(Mapped { name, origin, source: column.source.into_inner() })
}

fn segment(written: &Spanned<String>) -> Result<String, Wrong> {
    let id = written.get_ref();
    check_segment(id).map_err(|what| (written.span().start, what))?;
    Ok(id.clone())
}

/// A segment of the newest version, or a Z segment, of which nobody knows the fields.
fn check_segment(id: &str) -> Result<(), String> {
    let is_id = id.len() == 3 && id.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit());
    let is_known = is_id && (id.starts_with('Z') || newest().segment(id).is_some());
    if is_known { Ok(()) } else { Err("there is no such segment".to_owned()) }
}

fn newest() -> &'static Dictionary {
    Dictionary::of(Dictionary::versions().last().unwrap_or_default())
}

fn each_of(written: &Spanned<String>, row: &str) -> Result<usize, Wrong> {
    let wrong = |what: String| (written.span().start, what);
    let place = place(written.get_ref()).map_err(wrong)?;
    if place.segment != row || place.component.is_some() {
        return Err(wrong(format!("`each` is a field of {row}")));
    }
    Ok(place.field)
}

fn places(written: &Spanned<String>) -> Result<Vec<Place>, Wrong> {
    // Behind the quote.
    let mut at = written.span().start + 1;
    let mut places = Vec::new();
    for text in written.get_ref().split(" else ") {
        places.push(place(text).map_err(|what| (at, what))?);
        at += text.len() + " else ".len();
    }
    Ok(places)
}

fn place(text: &str) -> Result<Place, String> {
    let unread = || "a place is written PID-3, PID-3.4 or PID-3.4.1".to_owned();
    let (segment, rest) = text.split_once('-').ok_or_else(unread)?;
    check_segment(segment)?;
    let numbers: Option<Vec<usize>> =
        rest.split('.').map(|it| it.parse().ok().filter(|number| (1..=999).contains(number) && !it.starts_with('+'))).collect();
    let numbers = numbers.filter(|it| it.len() <= 3).ok_or_else(unread)?;
    let at = |index: usize| numbers.get(index).copied();
    let field = at(0).ok_or_else(unread)?;
    if let Some(definition) = newest().segment(segment)
        && definition.field(field).is_none()
    {
        return Err(format!("{segment} has {} fields", definition.fields.len()));
    }
    Ok(Place { segment: segment.to_owned(), field, component: at(1), subcomponent: at(2).unwrap_or(1) })
}

#[cfg(test)]
mod tests;
