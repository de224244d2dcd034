//! A message as one line of JSON, from which the message can be made again ([`crate::read_json`]).
//!
//! ```json
//! {"version":2,"summary":{"messageType":"ADT"},"dictionary":"2.5.1",
//!  "delimiters":{"field":"|","component":"^","repetition":"~","escape":"\\","subcomponent":"&"},
//!  "segments":[{"segment":"PID","name":"Patient Identification","fields":[
//!    {"position":5,"name":"Patient Name","repetitions":[[{"position":1,"name":"Family Name","value":"DOE"}]]}]}]}
//! ```
//!
//! The nesting is always the same, so that Athena, Glue and DuckDB need one type for it: segments, fields, repetitions (an array
//! in the order of the message), components, subcomponents. Fields, components and subcomponents have a `position` from 1, and a
//! `name` if the dictionary of the message's version has one. Absent parts are left out, except the last one of a list, so that
//! delimiters at the end come back. The HL7 null is the value `""`, in quotes. `value` is a text with its escapes decoded; the
//! `value` of a component with `subcomponents` is that of the first one. If a text cannot be rebuilt from its value (a formatting
//! or broken escape sequence), `raw` beside the value has the text. MSH-1 and MSH-2 are texts as they are. In the lake an
//! `origin` behind the version names the message ([`Origin`]). A [`Schema`] adds names, and changes nothing else.
//! `docs/rendition.schema.json` is the JSON Schema.
//!
//! # How it is written
//!
//! Storing a message writes tens of bytes of JSON for each byte of ER7, so the work for each *value* decides the time. A
//! [`Scanner`] goes through the message once. A table gives each byte a class: plain, a delimiter, or special. The scanner stops
//! at the next delimiter. It then knows the text before it, the delimiter that ended the text, and whether the text goes into
//! JSON as it is ([`Span`]). The writer needs no more than that to write the value, so nothing is split or searched twice, and no
//! tree is built. Most values take three copies: the dictionary's JSON up to the value ([`Element::json_to_first`]), the value,
//! and a constant that closes the JSON of whatever ends there. (`serde_json` writes the rest: the summary, and texts that need
//! escapes.)

use std::io::{self, Write};

use domain::{Er7, MessageId, Source, Timestamp};
use serde::Serialize;

use crate::delimiters::Delimiters;
use crate::dictionary::{DataType, Dictionary, Element, Schema, SegmentDefinition};
use crate::escape::Escapes;
use crate::steering;
use crate::summary::summarize;

/// The version of the renditions that are written here: their member `version`. Version 1 has no such member and no origin.
pub const VERSION: u8 = 2;

/// The message that a rendition shows. The key of its object names it too, but is lost once a program puts many renditions into
/// one file.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin<'a> {
    /// The message's id.
    pub message_id: &'a MessageId,
    /// The institute. Not a member of the rendition itself, where it would be in the way of the partition of that name.
    pub source: &'a Source,
    /// When the message first arrived.
    pub received_at: Timestamp,
}

/// Writes the rendition, without its origin and without a line end. Holds one value in memory at a time.
///
/// # Errors
/// Those of `out`.
pub fn write_json(message: &Er7, delimiters: &Delimiters, out: &mut impl Write) -> io::Result<()> {
    write_json_with(message, delimiters, Schema::standard(), out)
}

/// The same, with the names of a schema for a site's own segments.
///
/// # Errors
/// Those of `out`.
pub fn write_json_with(message: &Er7, delimiters: &Delimiters, schema: &'static Schema, out: &mut impl Write) -> io::Result<()> {
    write_json_of(message, delimiters, schema, None, out)
}

/// Writes the rendition, with its origin if there is one.
pub(crate) fn write_json_of(
    message: &Er7,
    delimiters: &Delimiters,
    schema: &'static Schema,
    origin: Option<&Origin<'_>>,
    out: &mut impl Write,
) -> io::Result<()> {
    let summary = summarize(message);
    let dictionary = schema.dictionary(summary.hl7_version.as_deref().unwrap_or_default());
    let mut writer = Writer { delimiters, message, escapes: None, out, value: String::new(), observed: ("", None) };
    write!(writer.out, "{{\"version\":{VERSION},")?;
    if let Some(origin) = origin {
        writer.put("\"origin\":")?;
        serde_json::to_writer(&mut *writer.out, origin)?;
        writer.put(",")?;
    }
    writer.put("\"summary\":")?;
    serde_json::to_writer(&mut *writer.out, &summary)?;
    writer.put(",\"dictionary\":")?;
    writer.string(dictionary.version())?;
    writer.document(dictionary)
}

/// The end of a text: a delimiter, or the end of the segment. A later variant also ends what the earlier ones separate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Subcomponent,
    Component,
    Repetition,
    Field,
    Segment,
}

/// The text between two delimiters.
struct Span<'a> {
    text: &'a str,
    /// Whether the text can go into JSON unchanged, without escape sequences of HL7 or JSON.
    plain: bool,
    end: End,
}

/// The class of a byte.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    /// May stand for itself, but cannot go into JSON unchanged. It ends no text.
    Special,
    /// Part of a character beyond ASCII, in a message with a delimiter beyond ASCII.
    Wide,
    Delimiter(End),
}

/// The class of each byte.
pub(crate) struct Classes([Class; 256]);

impl Classes {
    /// The classes of the bytes that JSON escapes, whatever the message's delimiters are.
    #[allow(clippy::indexing_slicing, reason = "the compiler evaluates it, and would refuse an index out of bounds")]
    const OF_JSON: [Class; 256] = {
        let mut classes = [Class::Plain; 256];
        let mut control = 0;
        while control < b' ' {
            classes[control as usize] = Class::Special;
            control += 1;
        }
        classes[b'"' as usize] = Class::Special;
        classes[b'\\' as usize] = Class::Special;
        classes
    };

    pub(crate) fn of(delimiters: &Delimiters) -> Self {
        let Delimiters { field, component, repetition, escape, subcomponent, truncation: _ } = *delimiters;
        let mut classes = Self(Self::OF_JSON);
        let delimiting = [
            (escape, Class::Special),
            (subcomponent, Class::Delimiter(End::Subcomponent)),
            (component, Class::Delimiter(End::Component)),
            (repetition, Class::Delimiter(End::Repetition)),
            (Some(field), Class::Delimiter(End::Field)),
            (Some('\r'), Class::Delimiter(End::Segment)),
        ];
        for (character, class) in delimiting {
            match character {
                Some(character) if character.is_ascii() => classes.set(character as u8..=character as u8, class),
                Some(_) => classes.set(0x80..=0xff, Class::Wide),
                None => {}
            }
        }
        classes
    }

    fn set(&mut self, bytes: std::ops::RangeInclusive<u8>, class: Class) {
        let range = usize::from(*bytes.start())..=usize::from(*bytes.end());
        self.0.get_mut(range).into_iter().flatten().for_each(|it| *it = class);
    }

    /// Whether a byte stands for itself, in the message and in JSON.
    pub(crate) fn is_plain(&self, byte: u8) -> bool {
        matches!(self.class(byte), Class::Plain)
    }

    fn class(&self, byte: u8) -> Class {
        self.0.get(usize::from(byte)).copied().unwrap_or(Class::Special)
    }
}

/// Cuts a message at every delimiter.
struct Scanner<'a, 's> {
    rest: &'a str,
    delimiters: &'s Delimiters,
    classes: &'s Classes,
}

impl<'a> Scanner<'a, '_> {
    fn next(&mut self) -> Span<'a> {
        self.span(End::Subcomponent)
    }

    /// The text up to the next delimiter of this level or a higher one.
    #[inline(always)]
    fn span(&mut self, least: End) -> Span<'a> {
        let bytes = self.rest.as_bytes();
        let (mut at, mut plain) = (0, true);
        while let Some(run) = bytes.get(at..).and_then(|it| it.iter().position(|&byte| !self.classes.is_plain(byte))) {
            at += run;
            match bytes.get(at).map_or(Class::Special, |&byte| self.classes.class(byte)) {
                Class::Delimiter(end) if end >= least => return self.cut(at, 1, plain, end),
                Class::Wide => {
                    if let Some((end, width)) = self.wide(at).filter(|(end, _)| *end >= least) {
                        return self.cut(at, width, plain, end);
                    }
                }
                Class::Plain | Class::Special | Class::Delimiter(_) => {}
            }
            plain = false;
            at += 1;
        }
        self.cut(self.rest.len(), 0, plain, End::Segment)
    }

    /// Skips absent parts, which often follow one another: returns the number of delimiters of one kind here.
    fn skip(&mut self, end: End) -> usize {
        let is_one = |byte: &&u8| matches!(self.classes.class(**byte), Class::Delimiter(it) if it == end);
        let count = self.rest.as_bytes().iter().take_while(is_one).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
        count
    }

    fn cut(&mut self, at: usize, width: usize, plain: bool, end: End) -> Span<'a> {
        let (text, behind) = self.rest.split_at_checked(at).unwrap_or_default();
        self.rest = behind.get(width..).unwrap_or_default();
        Span { text, plain, end }
    }

    /// The end that a character beyond ASCII makes, if any, and its width in bytes.
    fn wide(&self, at: usize) -> Option<(End, usize)> {
        let character = self.rest.get(at..)?.chars().next()?;
        Some((self.ends(character)?, character.len_utf8()))
    }

    fn ends(&self, character: char) -> Option<End> {
        let Delimiters { field, component, repetition, subcomponent, .. } = *self.delimiters;
        let ends = [
            (Some(field), End::Field),
            (repetition, End::Repetition),
            (component, End::Component),
            (subcomponent, End::Subcomponent),
        ];
        ends.into_iter().find(|(delimiter, _)| *delimiter == Some(character)).map(|(_, end)| end)
    }
}

struct Writer<'a, W> {
    delimiters: &'a Delimiters,
    message: &'a Er7,
    /// Created for the first value with an escape sequence, because it looks for the message's character set.
    escapes: Option<Escapes>,
    out: &'a mut W,
    /// Scratch: a value with its escapes decoded.
    value: String,
    /// The last OBX-2, and the type that it names: observations of one type often follow one another.
    observed: (&'a str, Option<&'static DataType>),
}

impl<'a, W: Write> Writer<'a, W> {
    fn document(&mut self, dictionary: &'static Dictionary) -> io::Result<()> {
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
        let classes = Classes::of(self.delimiters);
        let mut scanner = Scanner { rest: self.message.as_str(), delimiters: self.delimiters, classes: &classes };
        let mut msh_seen = false;
        let mut listed = false;
        // Segments of one kind often follow one another.
        let mut known: (&str, Option<&SegmentDefinition>) = ("", None);
        while !scanner.rest.is_empty() {
            self.comma(&mut listed)?;
            let id = scanner.span(End::Field);
            let is_msh = !msh_seen && id.text.starts_with("MSH");
            msh_seen |= is_msh;
            if id.text != known.0 {
                known = (id.text, dictionary.segment(id.text));
            }
            self.segment(&id, is_msh, &mut scanner, dictionary, known.1)?;
        }
        self.put("]}")
    }

    /// A segment, from its name on.
    fn segment(
        &mut self,
        id: &Span<'a>,
        is_msh: bool,
        scanner: &mut Scanner<'a, '_>,
        dictionary: &'static Dictionary,
        definition: Option<&'static SegmentDefinition>,
    ) -> io::Result<()> {
        let element = |position: usize| definition.and_then(|it| it.field(position));
        match definition {
            Some(definition) => self.put(definition.json_to_fields())?,
            None => {
                self.put("{\"segment\":")?;
                self.string(id.text)?;
                self.put(",\"fields\":[")?;
            }
        }
        let (mut listed, mut position, mut end) = (false, 0, id.end);
        if is_msh {
            self.field(&mut listed, 1, element(1))?;
            self.put("{\"position\":1,\"value\":")?;
            self.character(self.delimiters.field)?;
            self.put("}]]}")?;
            let encoding = (end == End::Field).then(|| scanner.span(End::Field));
            end = encoding.as_ref().map_or(end, |it| it.end);
            self.field(&mut listed, 2, element(2))?;
            self.put("{\"position\":1,\"value\":")?;
            self.string(encoding.map_or("", |it| it.text))?;
            self.put("}]]}")?;
            position = 2;
        }
        let mut second = "";
        while end == End::Field {
            position += 1 + scanner.skip(End::Field);
            let first = scanner.next();
            end = first.end;
            let element = element(position);
            if position == 2 {
                second = first.text;
            }
            if first.text.is_empty() && end >= End::Field {
                if end == End::Segment {
                    self.object(&mut listed, position, element)?;
                    self.put("}")?;
                }
                continue;
            }
            // Most fields are one text that needs no escapes.
            let json = element.filter(|_| first.plain && end >= End::Field).and_then(|it| it.json_to_first(position));
            if let Some(json) = json {
                self.listed(&mut listed, json)?;
                self.put(first.text)?;
                self.put("\"}]]}")?;
                continue;
            }
            let data_type = match element {
                // HL7 2.5.1 §7.4.2.2: OBX-2 names the type of OBX-5.
                Some(element) if element.varies => {
                    definition.filter(|it| it.id == "OBX").and_then(|_| self.observed(second, dictionary))
                }
                Some(element) => element.data_type.as_deref(),
                None => None,
            };
            self.field(&mut listed, position, element)?;
            end = self.repetitions(first, scanner, data_type)?;
        }
        self.put("]}")
    }

    /// The type that OBX-2 names, by its first text.
    fn observed(&mut self, obx_2: &'a str, dictionary: &'static Dictionary) -> Option<&'static DataType> {
        if self.observed.0 != obx_2 {
            let named = steering::value_type(obx_2, self.delimiters);
            self.observed = (obx_2, named.and_then(|it| dictionary.data_type(it)));
        }
        self.observed.1
    }

    /// Writes a field that is not empty, from its first span to its end. Returns the end.
    fn repetitions<'m>(
        &mut self,
        mut span: Span<'m>,
        scanner: &mut Scanner<'m, '_>,
        data_type: Option<&'static DataType>,
    ) -> io::Result<End> {
        loop {
            let end = self.components(span, scanner, data_type)?;
            if end >= End::Field {
                return Ok(end);
            }
            span = scanner.next();
        }
    }

    /// Writes a repetition, from its first span to the next repetition or the end of the field. Returns the end.
    fn components<'m>(
        &mut self,
        mut span: Span<'m>,
        scanner: &mut Scanner<'m, '_>,
        data_type: Option<&'static DataType>,
    ) -> io::Result<End> {
        let mut listed = false;
        let mut position = 1;
        loop {
            let mut end = span.end;
            let is_empty = span.text.is_empty() && end >= End::Component;
            let element = data_type.and_then(|it| it.component(position));
            if span.plain && !is_empty && end >= End::Component {
                self.plain(&mut listed, position, element, span.text)?;
                match end {
                    End::Subcomponent | End::Component => self.put("\"}")?,
                    End::Repetition => self.put("\"}],[")?,
                    End::Field | End::Segment => self.put("\"}]]}")?,
                }
            } else {
                // A repetition with a single empty component is empty.
                if !is_empty || (end >= End::Repetition && position > 1) {
                    self.object(&mut listed, position, element)?;
                    if end == End::Subcomponent {
                        end = self.subcomponents(span, scanner, element.and_then(|it| it.data_type.as_deref()))?;
                    } else if !is_empty {
                        self.value(&span, true)?;
                    }
                    self.put("}")?;
                }
                match end {
                    End::Subcomponent | End::Component => {}
                    End::Repetition => self.put("],[")?,
                    End::Field | End::Segment => self.put("]]}")?,
                }
            }
            if end >= End::Repetition {
                return Ok(end);
            }
            position += 1 + scanner.skip(End::Component);
            span = scanner.next();
        }
    }

    /// Writes a component with several subcomponents, from its first span on. Returns the end.
    fn subcomponents<'m>(
        &mut self,
        mut span: Span<'m>,
        scanner: &mut Scanner<'m, '_>,
        data_type: Option<&'static DataType>,
    ) -> io::Result<End> {
        if !span.text.is_empty() {
            self.value(&span, false)?;
        }
        self.put(",\"subcomponents\":[")?;
        let mut listed = false;
        for position in 1.. {
            let is_last = span.end >= End::Component;
            if !span.text.is_empty() || is_last {
                self.object(&mut listed, position, data_type.and_then(|it| it.component(position)))?;
                if !span.text.is_empty() {
                    self.value(&span, true)?;
                }
                self.put("}")?;
            }
            if is_last {
                break;
            }
            span = scanner.next();
        }
        self.put("]")?;
        Ok(span.end)
    }

    /// Writes a text that is not empty; with `keep` also its original, if the text does not lead back to it.
    fn value(&mut self, span: &Span<'_>, keep: bool) -> io::Result<()> {
        let raw = span.text;
        if span.plain {
            self.put(",\"value\":\"")?;
            self.put(raw)?;
            return self.put("\"");
        }
        self.put(",\"value\":")?;
        // A line feed is escaped on the way back where it could end the segment.
        let reads_back = !raw.contains(|it| Some(it) == self.delimiters.escape || it == '\n');
        if reads_back {
            return self.string(raw);
        }
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let escapes = self.escapes.get_or_insert_with(|| Escapes::of(self.message, self.delimiters));
        escapes.decode(raw, &mut value);
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

    /// Begins the object of a field, component or subcomponent, after a comma if it is not the first of the list.
    fn object(&mut self, listed: &mut bool, position: usize, element: Option<&'static Element>) -> io::Result<()> {
        match element.and_then(|it| it.json_to_name(position)) {
            Some(json) => self.listed(listed, json),
            None => {
                self.position(listed, position)?;
                match element {
                    Some(element) => self.name(element.name),
                    None => Ok(()),
                }
            }
        }
    }

    /// Begins the object of a field, up to its first component.
    fn field(&mut self, listed: &mut bool, position: usize, element: Option<&'static Element>) -> io::Result<()> {
        match element.and_then(|it| it.json_to_repetitions(position)) {
            Some(json) => self.listed(listed, json),
            None => {
                self.object(listed, position, element)?;
                self.put(",\"repetitions\":[[")
            }
        }
    }

    fn position(&mut self, listed: &mut bool, position: usize) -> io::Result<()> {
        self.comma(listed)?;
        self.put("{\"position\":")?;
        self.put(itoa::Buffer::new().format(position))
    }

    /// Begins a component or subcomponent that needs no escapes, as most do. Its closing quote follows later.
    #[inline]
    fn plain(&mut self, listed: &mut bool, position: usize, element: Option<&'static Element>, text: &str) -> io::Result<()> {
        match element.and_then(|it| it.json_to_value(position)) {
            Some(json) => self.listed(listed, json)?,
            // The JSON of a field with a single text.
            None if position == 1 && element.is_none() => self.listed(listed, ",{\"position\":1,\"value\":\"")?,
            None => {
                self.object(listed, position, element)?;
                self.put(",\"value\":\"")?;
            }
        }
        self.put(text)
    }

    /// Writes a name of the dictionary or a schema, which needs no escapes, as tests of both show.
    fn name(&mut self, name: &'static str) -> io::Result<()> {
        self.put(",\"name\":\"")?;
        self.put(name)?;
        self.put("\"")
    }

    /// Writes the dictionary's JSON for an object of a list, without its comma if the object is the first.
    #[inline]
    fn listed(&mut self, listed: &mut bool, json: &str) -> io::Result<()> {
        let from = usize::from(!std::mem::replace(listed, true));
        self.put(json.get(from..).unwrap_or_default())
    }

    /// Writes the comma before each object of a list but the first.
    #[inline]
    fn comma(&mut self, listed: &mut bool) -> io::Result<()> {
        if std::mem::replace(listed, true) { self.put(",") } else { Ok(()) }
    }

    #[inline(always)]
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

#[cfg(test)]
mod tests;
