//! A message as one line of JSON, from which the message can be made again ([`crate::read_json`]).
//!
//! ```json
//! {"summary":{"messageType":"ADT"},"dictionary":"2.5.1",
//!  "delimiters":{"field":"|","component":"^","repetition":"~","escape":"\\","subcomponent":"&"},
//!  "segments":[{"segment":"PID","name":"Patient Identification","fields":[
//!    {"position":5,"name":"Patient Name","repetitions":[[{"position":1,"name":"Family Name","value":"DOE"}]]}]}]}
//! ```
//!
//! The nesting is always the same, so that Athena, Glue and DuckDB need one type for it: segments, fields, repetitions (an
//! array, whose n-th is the n-th), components, subcomponents. Fields, components and subcomponents have a `position` from 1,
//! and a `name` where the dictionary of the message's version has one. Absent ones are not listed; the last one of a list
//! always is, so that delimiters at the end come back. The HL7 null is the value `""`, in quotes. `value` is a text with its
//! escapes decoded; that of a component with `subcomponents` is the first of them. Where a text does not read back as it was
//! (a formatting or broken escape sequence), it stands beside its value as `raw`. MSH-1 and MSH-2 are texts as they are.
//! `docs/rendition.schema.json` is the JSON Schema.

use std::io::{self, Write};

use domain::Er7;

use crate::delimiters::{Delimiters, segments};
use crate::dictionary::{DataType, Dictionary, Element};
use crate::summary::summarize;

/// Writes the rendition, without a line end. Holds one value in memory at a time.
///
/// # Errors
/// Those of `out`.
pub fn write_json(message: &Er7, delimiters: &Delimiters, out: &mut impl Write) -> io::Result<()> {
    let summary = summarize(message);
    let dictionary = Dictionary::of(summary.hl7_version.as_deref().unwrap_or_default());
    let mut writer = Writer { delimiters, plain: plain_bytes(delimiters), out, value: String::new() };
    writer.put("{\"summary\":")?;
    serde_json::to_writer(&mut *writer.out, &summary)?;
    writer.put(",\"dictionary\":")?;
    writer.string(dictionary.version())?;
    writer.document(message, dictionary)
}

struct Writer<'a, W> {
    delimiters: &'a Delimiters,
    /// Which bytes stand for themselves, in the message as in JSON.
    plain: [bool; 256],
    out: &'a mut W,
    /// Scratch: a value with its escapes decoded.
    value: String,
}

/// Neither a delimiter within a field, nor escaped in a JSON text.
fn plain_bytes(delimiters: &Delimiters) -> [bool; 256] {
    let Delimiters { component, repetition, escape, subcomponent, .. } = *delimiters;
    let is_special = |byte: u8| {
        let delimits = |it: char| if byte.is_ascii() { it == char::from(byte) } else { !it.is_ascii() };
        byte < b' '
            || matches!(byte, b'"' | b'\\')
            || [component, repetition, escape, subcomponent].into_iter().flatten().any(delimits)
    };
    let mut plain = [true; 256];
    for (byte, plain) in (0..=u8::MAX).zip(&mut plain) {
        *plain = !is_special(byte);
    }
    plain
}

impl<W: Write> Writer<'_, W> {
    fn document(&mut self, message: &Er7, dictionary: &'static Dictionary) -> io::Result<()> {
        let Delimiters { field, component, repetition, escape, subcomponent, truncation } = *self.delimiters;
        self.put(",\"delimiters\":{\"field\":")?;
        self.character(field)?;
        let optional = [
            (",\"component\":", component),
            (",\"repetition\":", repetition),
            (",\"escape\":", escape),
            (",\"subcomponent\":", subcomponent),
            (",\"truncation\":", truncation),
        ];
        for (name, character) in optional {
            if let Some(character) = character {
                self.put(name)?;
                self.character(character)?;
            }
        }
        self.put("},\"segments\":[")?;
        let mut msh_seen = false;
        for (i, segment) in segments(message).enumerate() {
            if i > 0 {
                self.put(",")?;
            }
            let is_msh = !msh_seen && segment.starts_with("MSH");
            msh_seen |= is_msh;
            self.segment(segment, is_msh, dictionary)?;
        }
        self.put("]}")
    }

    fn segment(&mut self, segment: &str, is_msh: bool, dictionary: &'static Dictionary) -> io::Result<()> {
        let mut fields = split(segment, Some(self.delimiters.field));
        let id = fields.next().unwrap_or_default();
        let definition = dictionary.segment(id);
        let element = |position: usize| definition.and_then(|it| it.field(position));
        let name = |position: usize| element(position).map(|it| it.name);
        self.put("{\"segment\":")?;
        self.string(id)?;
        self.name(definition.map(|it| it.name))?;
        self.put(",\"fields\":[")?;
        let mut position = 0;
        if is_msh {
            self.position(1, name(1))?;
            self.put(",\"repetitions\":[[{\"position\":1,\"value\":")?;
            self.character(self.delimiters.field)?;
            self.put("}]]},")?;
            self.position(2, name(2))?;
            self.put(",\"repetitions\":[[{\"position\":1,\"value\":")?;
            self.string(fields.next().unwrap_or_default())?;
            self.put("}]]}")?;
            position = 2;
        }
        let mut listed = position > 0;
        let mut fields = fields.peekable();
        while let Some(field) = fields.next() {
            position += 1;
            if field.is_empty() && fields.peek().is_some() {
                continue;
            }
            if std::mem::replace(&mut listed, true) {
                self.put(",")?;
            }
            let element = element(position);
            self.position(position, element.map(|it| it.name))?;
            if !field.is_empty() {
                self.put(",\"repetitions\":[")?;
                let data_type = match element {
                    // HL7 2.5.1 §7.4.2.2: OBX-2 names the type of OBX-5.
                    Some(element) if element.varies => {
                        split(segment, Some(self.delimiters.field)).nth(2).and_then(|obx_2| dictionary.data_type(obx_2))
                    }
                    Some(element) => element.data_type.as_deref(),
                    None => None,
                };
                self.repetitions(field, data_type)?;
                self.put("]")?;
            }
            self.put("}")?;
        }
        self.put("]}")
    }

    fn repetitions(&mut self, field: &str, data_type: Option<&'static DataType>) -> io::Result<()> {
        // Nearly every field is one text that nothing has to be done with.
        if self.is_plain(field) {
            self.put("[")?;
            self.position(1, data_type.and_then(|it| it.component(1)).map(|it| it.name))?;
            self.plain_value(field)?;
            return self.put("}]");
        }
        for (i, repetition) in split(field, self.delimiters.repetition).enumerate() {
            self.put(if i > 0 { ",[" } else { "[" })?;
            let mut listed = false;
            let mut parts = split(repetition, self.delimiters.component).enumerate().peekable();
            while let Some((index, part)) = parts.next() {
                // A repetition of one empty component is an empty one.
                if part.is_empty() && (parts.peek().is_some() || index == 0) {
                    continue;
                }
                if std::mem::replace(&mut listed, true) {
                    self.put(",")?;
                }
                let element: Option<&'static Element> = data_type.and_then(|it| it.component(index + 1));
                self.position(index + 1, element.map(|it| it.name))?;
                if !part.is_empty() {
                    self.component(part, element.and_then(|it| it.data_type.as_deref()))?;
                }
                self.put("}")?;
            }
            self.put("]")?;
        }
        Ok(())
    }

    fn component(&mut self, component: &str, data_type: Option<&'static DataType>) -> io::Result<()> {
        if self.is_plain(component) {
            return self.plain_value(component);
        }
        let mut parts = split(component, self.delimiters.subcomponent).enumerate().peekable();
        let first = parts.peek().map_or("", |(_, first)| *first);
        if first.len() == component.len() {
            return self.value(first, true);
        }
        if !first.is_empty() {
            self.value(first, false)?;
        }
        self.put(",\"subcomponents\":[")?;
        let mut listed = false;
        while let Some((index, part)) = parts.next() {
            if part.is_empty() && parts.peek().is_some() {
                continue;
            }
            if std::mem::replace(&mut listed, true) {
                self.put(",")?;
            }
            self.position(index + 1, data_type.and_then(|it| it.component(index + 1)).map(|it| it.name))?;
            if !part.is_empty() {
                self.value(part, true)?;
            }
            self.put("}")?;
        }
        self.put("]")
    }

    fn is_plain(&self, text: &str) -> bool {
        text.bytes().all(|byte| self.plain.get(usize::from(byte)).copied().unwrap_or_default())
    }

    fn plain_value(&mut self, text: &str) -> io::Result<()> {
        self.put(",\"value\":\"")?;
        self.put(text)?;
        self.put("\"")
    }

    /// A text that is not empty, and with `keep` what it was where it does not read back.
    fn value(&mut self, raw: &str, keep: bool) -> io::Result<()> {
        if self.is_plain(raw) {
            return self.plain_value(raw);
        }
        self.put(",\"value\":")?;
        // A line end in a value was an escape sequence; one that is not decoded has the escape character in it.
        let escaped = self.delimiters.escape.is_some_and(|escape| raw.contains(escape));
        if !escaped {
            return self.string(raw);
        }
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        self.delimiters.unescape(raw, &mut value);
        let written = self.string(&value);
        let reads_back = self.delimiters.escapes_to(&value, raw);
        self.value = value;
        written?;
        if keep && !reads_back {
            self.put(",\"raw\":")?;
            self.string(raw)?;
        }
        Ok(())
    }

    /// Begins the object of a field, component or subcomponent.
    fn position(&mut self, position: usize, name: Option<&'static str>) -> io::Result<()> {
        self.put("{\"position\":")?;
        self.put(itoa::Buffer::new().format(position))?;
        self.name(name)
    }

    /// The dictionary's names need no escapes; a test of it says so.
    fn name(&mut self, name: Option<&'static str>) -> io::Result<()> {
        let Some(name) = name else { return Ok(()) };
        self.put(",\"name\":\"")?;
        self.put(name)?;
        self.put("\"")
    }

    fn put(&mut self, json: &str) -> io::Result<()> {
        self.out.write_all(json.as_bytes())
    }

    fn character(&mut self, character: char) -> io::Result<()> {
        self.string(character.encode_utf8(&mut [0; 4]))
    }

    fn string(&mut self, text: &str) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, text).map_err(io::Error::from)
    }
}

/// The parts of a text; without a delimiter it is one part.
fn split(text: &str, delimiter: Option<char>) -> Parts<'_> {
    Parts { rest: Some(text), delimiter }
}

/// As [`str::split`] gives them, which takes half of all the time for parts as short as these.
struct Parts<'a> {
    rest: Option<&'a str>,
    delimiter: Option<char>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let parts = match self.delimiter {
            Some(delimiter) if delimiter.is_ascii() => split_once(text, delimiter as u8),
            Some(delimiter) => text.split_once(delimiter),
            None => None,
        };
        self.rest = parts.map(|(_, rest)| rest);
        Some(parts.map_or(text, |(part, _)| part))
    }
}

fn split_once(text: &str, delimiter: u8) -> Option<(&str, &str)> {
    // Absent fields follow one another.
    let at = if text.as_bytes().first() == Some(&delimiter) { 0 } else { memchr::memchr(delimiter, text.as_bytes())? };
    let (part, rest) = text.split_at_checked(at)?;
    Some((part, rest.get(1..)?))
}

#[cfg(test)]
mod tests;
