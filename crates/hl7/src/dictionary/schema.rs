//! A schema: names and data types for the segments that a site made up (`Z..`), from a data file.
//!
//! ```toml
//! [ZPI]
//! name = "Patient Additional Information"
//! fields = [
//!   { position = 1, name = "Set ID - ZPI", type = "SI", required = true },
//!   { position = 3, name = "Preferred Language", type = "CE", repeats = true },
//! ]
//! ```
//!
//! Reading it gives lines like those of `dictionary/`, which stand behind those of each version. So such a segment is defined like one
//! of the standard, with the data types of the message's version, and whoever asks a dictionary need not know of schemas.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use toml::Spanned;

use super::{Dictionary, Reader, VERSIONS, nearest};
use crate::mistake::Mistake;

/// A rendition repeats the name of a field for each value.
const MAX_NAME_CHARACTERS: usize = 100;

/// No segment of the standard has nearly as many fields.
const MAX_POSITION: u16 = 999;

static STANDARD: Schema = Schema::of("");

/// The dictionaries of all versions, with segments of a site's own. Each is read when a message asks for it, and stays.
#[derive(Debug)]
pub struct Schema {
    /// As the files of `dictionary/` have them.
    lines: &'static str,
    read: [OnceLock<Dictionary>; VERSIONS.len()],
}

/// The same segments.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

impl Eq for Schema {}

impl Schema {
    /// The name of the file of a deployment's schema, beside the program that reads it.
    pub const FILE: &str = "schema.toml";

    const fn of(lines: &'static str) -> Self {
        Self { lines, read: [const { OnceLock::new() }; VERSIONS.len()] }
    }

    /// The segments of the standard alone.
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    /// Reads a schema from the text of its file. It stays in memory until the process ends, as the dictionaries do: a process has
    /// one.
    ///
    /// # Errors
    /// A mistake, with its place and what is expected there.
    pub fn read(text: &str) -> Result<&'static Self, Mistake> {
        let segments: BTreeMap<Spanned<String>, WrittenSegment> =
            toml::from_str(text).map_err(|error| Mistake::of_toml(text, &error))?;
        let mut lines = String::new();
        for (id, segment) in segments {
            add(&mut lines, &id, segment).map_err(|(byte, what)| Mistake::at(text, byte, what))?;
        }
        Ok(Box::leak(Box::new(Self::of(lines.leak()))))
    }

    /// A deployment's schema: the file beside the program. That of the standard if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or has a mistake, for which `sluice deploy` would have refused it.
    pub fn beside(program: &Path) -> io::Result<&'static Self> {
        match std::fs::read_to_string(program.with_file_name(Self::FILE)) {
            Ok(text) => Self::read(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::standard()),
            Err(error) => Err(error),
        }
    }

    /// Its segments, as the files of `dictionary/` have them. Empty for the standard's.
    pub fn lines(&self) -> &'static str {
        self.lines
    }

    /// The dictionary for the first component of MSH-12, as [`Dictionary::of`] finds it.
    pub fn dictionary(&'static self, version: &str) -> &'static Dictionary {
        self.at(nearest(version))
    }

    #[allow(clippy::indexing_slicing, reason = "both arrays have a place for each version, and so has every caller")]
    pub(super) fn at(&'static self, index: usize) -> &'static Dictionary {
        self.read[index].get_or_init(|| Reader::of(index, self.lines).dictionary(VERSIONS[index].0))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a segment with `name` and `fields`")]
struct WrittenSegment {
    name: Spanned<String>,
    fields: Spanned<Vec<WrittenField>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a field with `position` and `name`")]
struct WrittenField {
    position: Spanned<i64>,
    name: Spanned<String>,
    #[serde(rename = "type")]
    data_type: Option<Spanned<String>>,
    #[serde(default)]
    required: bool,
    repeats: Option<Spanned<Repeats>>,
    table: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`repeats` is true, or the most repetitions, a number from 1 to 65535")]
enum Repeats {
    Any(bool),
    Most(std::num::NonZeroU16),
}

/// What is wrong, and the byte where it begins.
type Wrong = (usize, String);

/// Adds the lines of a segment.
fn add(lines: &mut String, id: &Spanned<String>, segment: WrittenSegment) -> Result<(), Wrong> {
    let at = id.span().start;
    let id = id.get_ref();
    if !is_of_a_site(id) {
        return Err((at, "a segment of your own is named Z and two capital letters or digits".to_owned()));
    }
    lines.push_str(&format!("segment {id} {}\n", name(&segment.name)?));
    let at = segment.fields.span().start;
    let mut fields = BTreeMap::new();
    for field in segment.fields.into_inner() {
        let position = u16::try_from(*field.position.get_ref()).ok().filter(|it| (1..=MAX_POSITION).contains(it));
        let start = field.position.span().start;
        let position = position.ok_or_else(|| (start, format!("a position is a number from 1 to {MAX_POSITION}")))?;
        if fields.insert(position, line(&field)?).is_some() {
            return Err((start, format!("{id} has another field at this position")));
        }
    }
    let last = *fields.keys().next_back().ok_or_else(|| (at, "a segment has at least one field".to_owned()))?;
    for position in 1..=last {
        // Positions that the file leaves out have no name, and are not checked.
        lines.push_str(fields.get(&position).map_or("O* - ", String::as_str));
        lines.push('\n');
    }
    Ok(())
}

/// HL7 2.5.1 §2.5.2: all names that begin with Z are left to sites.
fn is_of_a_site(id: &str) -> bool {
    id.len() == 3 && id.starts_with('Z') && id.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}

/// A field as the dictionary writes it: `R*3 XPN:0200 Patient Name`.
fn line(field: &WrittenField) -> Result<String, Wrong> {
    let usage = if field.required { "R" } else { "O" };
    let repeats = match field.repeats.as_ref().map(Spanned::get_ref) {
        None | Some(Repeats::Any(false)) => String::new(),
        Some(Repeats::Any(true)) => "*".to_owned(),
        Some(Repeats::Most(most)) => format!("*{most}"),
    };
    let data_type = field.data_type.as_ref().map_or(Ok("-"), data_type)?;
    let table = field.table.as_ref().map(|it| table(it, data_type)).transpose()?.unwrap_or_default();
    Ok(format!("{usage}{repeats} {data_type}{table} {}", name(&field.name)?))
}

fn name(written: &Spanned<String>) -> Result<&str, Wrong> {
    let name = written.get_ref();
    let is_plain = !name.contains(|it: char| it.is_control() || matches!(it, '"' | '\\')) && name.trim() == name;
    if !is_plain || name.is_empty() || name.chars().count() > MAX_NAME_CHARACTERS {
        let expected = format!(
            "a name has 1 to {MAX_NAME_CHARACTERS} characters, without quotes, backslashes, control characters and blanks at its ends"
        );
        return Err((written.span().start, expected));
    }
    Ok(name)
}

/// A data type of any version: those that were withdrawn are still sent, so the newest version has all of them.
fn data_type(written: &Spanned<String>) -> Result<&str, Wrong> {
    let id = written.get_ref().as_str();
    match Dictionary::of("").data_type(id) {
        Some(_) => Ok(id),
        None => Err((written.span().start, "HL7 has no such data type; it has ST, NM, DT, CE, CX, XPN and others".to_owned())),
    }
}

fn table(written: &Spanned<i64>, data_type: &str) -> Result<String, Wrong> {
    let at = written.span().start;
    if !matches!(data_type, "ID" | "IS") {
        return Err((at, "`table` goes with the data types ID and IS".to_owned()));
    }
    let has_it = |dictionary: &Dictionary, number| dictionary.table(number).is_some();
    let number = u16::try_from(*written.get_ref()).ok().filter(|number| {
        has_it(Dictionary::of(""), *number)
            || Dictionary::versions().filter_map(Dictionary::exactly).any(|it| has_it(it, *number))
    });
    let number = number.ok_or_else(|| (at, "HL7 has no codes for a table of this number".to_owned()))?;
    Ok(format!(":{number:04}"))
}

#[cfg(test)]
mod tests;
