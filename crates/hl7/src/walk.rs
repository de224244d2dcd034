//! A message part by part: where each value stands, and what the standard calls the place.

use domain::Er7;

use crate::delimited::delimited;
use crate::delimiters::{Delimiters, Unreadable};
use crate::dictionary::{DataType, Dictionary, Element, Schema, SegmentDefinition};
use crate::escape::Escapes;
use crate::steering;
use crate::summary::summarize;

/// A message whose delimiters are known.
#[derive(Debug)]
pub struct Walk<'a> {
    text: &'a str,
    delimiters: Delimiters,
    escapes: Escapes,
    dictionary: &'static Dictionary,
}

/// A segment at its place.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// `OBX`.
    pub id: &'a str,
    /// Its index among the segments with this id, from 1.
    pub occurrence: usize,
    /// The whole text.
    text: &'a str,
    is_msh: bool,
    delimiters: &'a Delimiters,
}

/// A value at its place in the segment. Positions count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The field.
    pub field: usize,
    /// The index of the repetition, and the number of repetitions.
    pub repetition: (usize, usize),
    /// The component, if the field has several or the standard defines some.
    pub component: Option<usize>,
    /// The subcomponent, likewise.
    pub subcomponent: Option<usize>,
    /// The text with its escapes decoded.
    pub text: String,
}

/// The names of a place: the field's, and those of the parts within it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names {
    /// The field's name.
    pub field: Option<&'static str>,
    /// The component's name.
    pub component: Option<&'static str>,
    /// The subcomponent's name.
    pub subcomponent: Option<&'static str>,
}

impl<'a> Walk<'a> {
    /// Reads the delimiters and the version.
    ///
    /// # Errors
    /// When there is no readable MSH.
    pub fn of(message: &'a Er7) -> Result<Self, Unreadable> {
        Self::with(message, Schema::standard())
    }

    /// The same, with the names of a schema for a site's own segments.
    ///
    /// # Errors
    /// When there is no readable MSH.
    pub fn with(message: &'a Er7, schema: &'static Schema) -> Result<Self, Unreadable> {
        let delimiters = Delimiters::of(message)?;
        let version = summarize(message).hl7_version.unwrap_or_default();
        let escapes = Escapes::of(message, &delimiters);
        Ok(Self { text: message.as_str(), delimiters, escapes, dictionary: schema.dictionary(&version) })
    }

    /// The segments in order, without blank ones.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut seen: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        let mut msh_seen = false;
        self.text.split('\r').filter(|text| !text.trim().is_empty()).map(move |text| {
            let id = text.split(self.delimiters.field).next().unwrap_or_default();
            let is_msh = !std::mem::replace(&mut msh_seen, true);
            // The name in MSH ends where its delimiters begin, whatever they are.
            let id = if is_msh { text.get(..3).unwrap_or(id) } else { id };
            let occurrence = seen.entry(id).or_default();
            *occurrence += 1;
            Segment { id, occurrence: *occurrence, text, is_msh, delimiters: &self.delimiters }
        })
    }

    /// The definition of a segment: the standard's, or the schema's.
    pub fn definition(&self, segment: &Segment<'_>) -> Option<&'static SegmentDefinition> {
        self.dictionary.segment(segment.id)
    }

    /// A text with its escapes decoded.
    pub fn decode(&self, text: &str) -> String {
        let mut out = String::new();
        self.escapes.decode(text, &mut out);
        out
    }

    /// The value at a place, in the first repetition, and in the first part of each level that is not named. Empty if there is
    /// none.
    pub fn value(&self, segment: &Segment<'_>, field: usize, component: usize) -> String {
        let text = segment.repetitions(field).next().unwrap_or_default();
        self.decode(segment.part(text, component))
    }

    /// All values that are present in a segment.
    pub fn values<'b>(&'b self, segment: &'b Segment<'b>) -> impl Iterator<Item = Value> + 'b {
        segment.fields().flat_map(move |(field, text)| {
            let data_type = self.data_type(segment, field);
            // MSH-1 and MSH-2 are the delimiters themselves.
            let are_delimiters = segment.is_msh && field <= 2;
            let repetitions: Vec<&str> =
                if are_delimiters { Vec::from([text]) } else { delimited(text, self.delimiters.repetition).collect() };
            let count = repetitions.len();
            let mut found = Vec::new();
            for (index, repetition) in repetitions.into_iter().enumerate() {
                let place = (field, (index + 1, count));
                if are_delimiters {
                    found.push(value(place, None, None, text.to_owned()));
                } else {
                    self.repetition(place, data_type, repetition, &mut found);
                }
            }
            found
        })
    }

    fn repetition(&self, place: (usize, (usize, usize)), data_type: Option<&DataType>, text: &str, found: &mut Vec<Value>) {
        let components: Vec<&str> = delimited(text, self.delimiters.component).collect();
        let is_composite = components.len() > 1 || data_type.is_some_and(|it| !it.components.is_empty());
        for (component, text) in components.into_iter().enumerate() {
            let component = is_composite.then_some(component + 1);
            let subcomponents: Vec<&str> = delimited(text, self.delimiters.subcomponent).collect();
            let is_deep = subcomponents.len() > 1;
            for (subcomponent, text) in subcomponents.into_iter().enumerate() {
                if !text.is_empty() {
                    let subcomponent = is_deep.then_some(subcomponent + 1);
                    found.push(value(place, component, subcomponent, self.decode(text)));
                }
            }
        }
    }

    /// The names of a place.
    pub fn names(&self, segment: &Segment<'_>, value: &Value) -> Names {
        let field = self.definition(segment).and_then(|it| it.field(value.field));
        let data_type = self.data_type(segment, value.field);
        let component = value.component.and_then(|at| data_type?.component(at));
        let subcomponent = value.subcomponent.and_then(|at| component?.data_type.as_deref()?.component(at));
        let name = |element: Option<&'static Element>| element.map(|it| it.name);
        Names { field: name(field), component: name(component), subcomponent: name(subcomponent) }
    }

    /// The data type of a field. OBX-2 names that of OBX-5.
    fn data_type(&self, segment: &Segment<'_>, field: usize) -> Option<&'static DataType> {
        let dictionary: &'static Dictionary = self.dictionary;
        if segment.id == "OBX" && field == 5 {
            return dictionary.data_type(segment.value_type());
        }
        dictionary.segment(segment.id)?.field(field)?.data_type.as_deref()
    }
}

impl<'a> Segment<'a> {
    /// The fields with content: their positions and texts.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &'a str)> {
        // MSH-1 is the delimiter after the name.
        let (skipped, first) = if self.is_msh { (2, Some((1, self.text.get(3..).unwrap_or_default()))) } else { (1, None) };
        let separator = self.delimiters.field;
        let first = first.map(|(at, text)| (at, text.get(..separator.len_utf8()).unwrap_or_default()));
        let others = self.text.split(separator).enumerate().skip(1).map(move |(index, text)| (index + skipped - 1, text));
        first.into_iter().chain(others).filter(|(_, text)| !text.is_empty())
    }

    /// The text of a field; `None` if it is empty.
    pub fn field(&self, position: usize) -> Option<&'a str> {
        self.fields().find(|(at, _)| *at == position).map(|(_, text)| text)
    }

    /// The data type in OBX-2, which is that of OBX-5. Empty if there is none.
    pub fn value_type(&self) -> &'a str {
        self.field(2).and_then(|it| steering::value_type(it, self.delimiters)).unwrap_or_default()
    }

    /// The repetitions of a field.
    pub fn repetitions(&self, position: usize) -> impl Iterator<Item = &'a str> {
        self.repetitions_of(self.field(position).unwrap_or_default())
    }

    /// The repetitions of the text of a field.
    pub fn repetitions_of(&self, field: &'a str) -> impl Iterator<Item = &'a str> {
        delimited(field, self.delimiters.repetition)
    }

    /// A component of a repetition, from 1; its first subcomponent if it has several. Empty if there is none.
    pub fn part(&self, repetition: &'a str, component: usize) -> &'a str {
        self.subpart(repetition, component, 1)
    }

    /// A subcomponent of a component of a repetition, both from 1. Empty if there is none.
    pub fn subpart(&self, repetition: &'a str, component: usize, subcomponent: usize) -> &'a str {
        let component = delimited(repetition, self.delimiters.component).nth(component.saturating_sub(1)).unwrap_or_default();
        delimited(component, self.delimiters.subcomponent).nth(subcomponent.saturating_sub(1)).unwrap_or_default()
    }

    /// The whole segment, as it stands in the message.
    pub fn text(&self) -> &'a str {
        self.text
    }
}

impl Value {
    /// The place in the usual notation: `PID-3[2].4.1`. The repetition is named if there are several.
    pub fn place(&self, segment: &str) -> String {
        let (repetition, count) = self.repetition;
        let mut place = format!("{segment}-{}", self.field);
        if count > 1 {
            place.push_str(&format!("[{repetition}]"));
        }
        for part in [self.component, self.subcomponent].into_iter().flatten() {
            place.push_str(&format!(".{part}"));
        }
        place
    }
}

fn value(
    (field, repetition): (usize, (usize, usize)),
    component: Option<usize>,
    subcomponent: Option<usize>,
    text: String,
) -> Value {
    Value { field, repetition, component, subcomponent, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(String, String, String)> {
        let message = Er7::canonical(text).unwrap();
        let walk = Walk::of(&message).unwrap();
        let mut found = Vec::new();
        for segment in walk.segments() {
            for value in walk.values(&segment) {
                let names = walk.names(&segment, &value);
                let name = names.subcomponent.or(names.component).or(names.field).unwrap_or_default().to_owned();
                found.push((value.place(segment.id), name, value.text));
            }
        }
        found
    }

    #[test]
    fn each_value_has_its_place_and_its_name() {
        let text = "MSH|^~\\&|HIS||LAKE\r\rPID|1||1^^^A&1.2&ISO~2^^^B||D\\T\\E^J\rZPI||x\rOBX|1|CWE^^HL70125|a||9^Nine^L\rOBX|2|NM|b||7\r";
        let found = places(&text.replace("LAKE", "LAKE|||||||2.5.1"));
        let found: Vec<_> = found.iter().map(|(place, name, text)| format!("{place} {name}: {text}")).collect();
        let expected = [
            "MSH-1 Field Separator: |",
            "MSH-2 Encoding Characters: ^~\\&",
            "MSH-3.1 Namespace ID: HIS",
            "MSH-5.1 Namespace ID: LAKE",
            "MSH-12.1 Version ID: 2.5.1",
            "PID-1 Set ID - PID: 1",
            "PID-3[1].1 ID Number: 1",
            "PID-3[1].4.1 Namespace ID: A",
            "PID-3[1].4.2 Universal ID: 1.2",
            "PID-3[1].4.3 Universal ID Type: ISO",
            "PID-3[2].1 ID Number: 2",
            "PID-3[2].4 Assigning Authority: B",
            "PID-5.1 Family Name: D&E",
            "PID-5.2 Given Name: J",
            "ZPI-2 : x",
            "OBX-1 Set ID - OBX: 1",
            "OBX-2.1 Value Type: CWE",
            "OBX-2.3 Value Type: HL70125",
            "OBX-3.1 Identifier: a",
            "OBX-5.1 Identifier: 9",
            "OBX-5.2 Text: Nine",
            "OBX-5.3 Name of Coding System: L",
            "OBX-1 Set ID - OBX: 2",
            "OBX-2 Value Type: NM",
            "OBX-3.1 Identifier: b",
            "OBX-5 Observation Value: 7",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_message_of_the_corpus_has_values() {
        let mut walked = 0;
        for sample in corpus::messages().unwrap() {
            let body = crate::Body::of(sample.bytes.clone(), None);
            let Some(Ok(read)) = body.message(1).map(|it| it.read()) else { continue };
            let Ok(walk) = Walk::of(&read.er7) else { continue };
            let count = walk.segments().map(|segment| walk.values(&segment).count()).sum::<usize>();
            assert!(count > 2, "{}", sample.name());
            walked += 1;
        }
        assert!(walked > 50);
    }
}
