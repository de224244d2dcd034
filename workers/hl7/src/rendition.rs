//! A message as one line of JSON, from which the message can be made again.
//!
//! ```json
//! {"delimiters":{"field":"|","component":"^","repetition":"~","escape":"\\","subcomponent":"&"},
//!  "segments":[{"segment":"PID","fields":[[],[[["7"],["a","b"]]]]}]}
//! ```
//!
//! `fields[i]` is field i+1: an array of repetitions, of components, of subcomponents, which are texts with their escapes
//! decoded. The nesting is always the same, so that Athena, Glue and DuckDB need one type for it. An absent field is `[]`,
//! the HL7 null is the text `""` in quotes. MSH-1 and MSH-2 are texts as they stand. Where decoding loses something (a
//! formatting or broken escape sequence reads back differently), the segment's text is kept beside it as `raw`.

use std::io::{self, Write};

use domain::Er7;

use crate::delimiters::{Delimiters, segments};

/// Writes the rendition, without a line end. Holds one value in memory at a time.
///
/// # Errors
/// Those of `out`.
pub fn write_json(message: &Er7, delimiters: &Delimiters, out: &mut impl Write) -> io::Result<()> {
    let mut writer = Writer { delimiters, out, value: String::new(), escaped: String::new(), lossy: false };
    writer.document(message)
}

struct Writer<'a, W> {
    delimiters: &'a Delimiters,
    out: &'a mut W,
    /// Scratch: a value with its escapes decoded, and that value escaped again.
    value: String,
    escaped: String,
    /// Whether a value of the segment at hand does not read back as it was.
    lossy: bool,
}

impl<W: Write> Writer<'_, W> {
    fn document(&mut self, message: &Er7) -> io::Result<()> {
        let Delimiters { field, component, repetition, escape, subcomponent, truncation } = *self.delimiters;
        self.put("{\"delimiters\":{\"field\":")?;
        self.string(field.encode_utf8(&mut [0; 4]))?;
        let optional = [
            ("component", component),
            ("repetition", repetition),
            ("escape", escape),
            ("subcomponent", subcomponent),
            ("truncation", truncation),
        ];
        for (name, character) in optional {
            if let Some(character) = character {
                write!(self.out, ",\"{name}\":")?;
                self.string(character.encode_utf8(&mut [0; 4]))?;
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
            self.segment(segment, is_msh)?;
        }
        self.put("]}")
    }

    fn segment(&mut self, segment: &str, is_msh: bool) -> io::Result<()> {
        let mut fields = segment.split(self.delimiters.field);
        self.lossy = false;
        self.put("{\"segment\":")?;
        self.string(fields.next().unwrap_or_default())?;
        self.put(",\"fields\":[")?;
        if is_msh {
            self.put("[[[")?;
            self.string(self.delimiters.field.encode_utf8(&mut [0; 4]))?;
            self.put("]]],[[[")?;
            self.string(fields.next().unwrap_or_default())?;
            self.put("]]]")?;
        }
        for (i, field) in fields.enumerate() {
            if i > 0 || is_msh {
                self.put(",")?;
            }
            if field.is_empty() { self.put("[]")? } else { self.repetitions(field)? }
        }
        self.put("]")?;
        if self.lossy {
            self.put(",\"raw\":")?;
            self.string(segment)?;
        }
        self.put("}")
    }

    fn repetitions(&mut self, field: &str) -> io::Result<()> {
        self.list(field, self.delimiters.repetition, |it, repetition| {
            it.list(repetition, it.delimiters.component, |it, component| {
                it.list(component, it.delimiters.subcomponent, Self::value)
            })
        })
    }

    fn list(&mut self, text: &str, delimiter: Option<char>, each: fn(&mut Self, &str) -> io::Result<()>) -> io::Result<()> {
        self.put("[")?;
        match delimiter {
            Some(delimiter) => {
                for (i, part) in text.split(delimiter).enumerate() {
                    if i > 0 {
                        self.put(",")?;
                    }
                    each(self, part)?;
                }
            }
            None => each(self, text)?,
        }
        self.put("]")
    }

    fn value(&mut self, raw: &str) -> io::Result<()> {
        let escaped = self.delimiters.escape.is_some_and(|escape| raw.contains(escape));
        if !escaped {
            return self.string(raw);
        }
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        self.delimiters.unescape(raw, &mut value);
        self.escaped.clear();
        self.delimiters.escape(&value, &mut self.escaped);
        self.lossy |= self.escaped != raw;
        let written = self.string(&value);
        self.value = value;
        written
    }

    fn put(&mut self, json: &str) -> io::Result<()> {
        self.out.write_all(json.as_bytes())
    }

    fn string(&mut self, text: &str) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, text).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hl7_parser::Message;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::summarize;

    /// Of one field: repetitions of components of subcomponents.
    type Repetitions = Vec<Vec<Vec<String>>>;

    #[derive(Deserialize)]
    struct Document {
        delimiters: JsonDelimiters,
        segments: Vec<JsonSegment>,
    }

    #[derive(Deserialize)]
    struct JsonDelimiters {
        field: char,
        component: Option<char>,
        repetition: Option<char>,
        escape: Option<char>,
        subcomponent: Option<char>,
    }

    #[derive(Deserialize)]
    struct JsonSegment {
        segment: String,
        fields: Vec<Repetitions>,
        raw: Option<String>,
    }

    fn json(message: &Er7) -> String {
        let mut out = Vec::new();
        write_json(message, &Delimiters::of(message).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The message that a rendition was made from.
    fn er7(json: &str) -> String {
        let document: Document = serde_json::from_str(json).unwrap();
        let names = document.delimiters;
        let delimiters = Delimiters {
            field: names.field,
            component: names.component,
            repetition: names.repetition,
            escape: names.escape,
            subcomponent: names.subcomponent,
            truncation: None,
        };
        let join = |parts: Vec<String>, delimiter: Option<char>| parts.join(&delimiter.map(String::from).unwrap_or_default());
        let escape = |value: &String| {
            let mut out = String::new();
            delimiters.escape(value, &mut out);
            out
        };
        let field = |repetitions: &Repetitions, verbatim: bool| {
            let component = |values: &Vec<String>| join(values.iter().map(escape).collect(), delimiters.subcomponent);
            let repetition = |parts: &Vec<Vec<String>>| join(parts.iter().map(component).collect(), delimiters.component);
            if verbatim {
                repetitions[0][0][0].clone()
            } else {
                join(repetitions.iter().map(repetition).collect(), delimiters.repetition)
            }
        };
        let mut text = String::new();
        for (i, segment) in document.segments.iter().enumerate() {
            let first_msh = segment.segment == "MSH" && !document.segments[..i].iter().any(|it| it.segment == "MSH");
            match &segment.raw {
                Some(raw) => text.push_str(raw),
                None => {
                    text.push_str(&segment.segment);
                    for (n, repetitions) in segment.fields.iter().enumerate() {
                        if first_msh && n == 0 {
                            continue; // MSH-1 is the delimiter that the next field brings with it.
                        }
                        text.push(delimiters.field);
                        text.push_str(&field(repetitions, first_msh && n == 1));
                    }
                }
            }
            text.push('\r');
        }
        text
    }

    #[test]
    fn a_message_as_json() {
        let message = Er7::canonical("MSH|^~\\&|APP\rPID|1||7^^A&B~8|\"\"|O\\T\\H\rZZZ\rOBX|a\\.br\\b\\X41\\").unwrap();
        let expected = concat!(
            r#"{"delimiters":{"field":"|","component":"^","repetition":"~","escape":"\\","subcomponent":"&"},"segments":["#,
            r#"{"segment":"MSH","fields":[[[["|"]]],[[["^~\\&"]]],[[["APP"]]]]},"#,
            r#"{"segment":"PID","fields":[[[["1"]]],[],[[["7"],[""],["A","B"]],[["8"]]],[[["\"\""]]],[[["O&H"]]]]},"#,
            r#"{"segment":"ZZZ","fields":[]},"#,
            r#"{"segment":"OBX","fields":[[[["a\\.br\\b\\X41\\"]]]],"raw":"OBX|a\\.br\\b\\X41\\"}]}"#,
        );
        assert_eq!(json(&message), expected);
        assert_eq!(er7(expected), message.as_str());
    }

    #[test]
    fn a_message_comes_back_from_its_rendition() {
        for text in ["MSH|^~\\&#|A#", "\r\rMSH$%*!@$x%y$!F!", "MSH|^~|a\\b&c", "MSH|^~\\&\rmsh\r\r |x\rMSH|^~\\&|again", "MSH|^"]
        {
            let message = Er7::canonical(text).unwrap();
            assert_eq!(er7(&json(&message)), message.as_str(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_comes_back_from_its_rendition(body in "[A-Z|^~\\\\&\r\"FSRET.é\u{0}\u{1f600}]{0,200}") {
            let message = Er7::canonical(&format!("MSH|^~\\&|{body}")).unwrap();
            prop_assert_eq!(er7(&json(&message)), message.as_str());
        }
    }

    /// What `hl7-parser` reads of a message, in our shape. It stops without a word at the first segment that it cannot
    /// read, and takes a fifth encoding character for a field; such messages are left out.
    fn as_hl7_parser_reads(message: &Er7) -> Option<Vec<Vec<Repetitions>>> {
        let parsed = Message::parse(message.as_str()).ok()?;
        let complete = parsed.raw_value().len() + 1 >= message.as_str().len();
        if !complete || Delimiters::of(message).ok()?.truncation.is_some() {
            return None;
        }
        let field = |field: &hl7_parser::message::Field<'_>| {
            let repetitions = field.repeats().map(|repeat| {
                let components = repeat.components().map(|it| it.subcomponents().map(|it| it.value.to_owned()).collect());
                components.collect::<Vec<Vec<String>>>()
            });
            if field.raw_value().is_empty() { Vec::new() } else { repetitions.collect::<Vec<_>>() }
        };
        Some(parsed.segments().map(|segment| segment.fields().map(field).collect()).collect())
    }

    #[test]
    fn every_message_of_the_corpus_is_summarized_and_comes_back() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
        let files = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path()).collect::<Vec<_>>();
        let messages: Vec<_> = files(&corpus).iter().flat_map(|project| files(project)).collect();
        let mut compared = 0;
        for path in &messages {
            let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
            let message = Er7::canonical(&text).unwrap();
            let summary = summarize(&message).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let json = json(&message);
            assert!(er7(&json) == message.as_str(), "{path:?} does not come back");
            assert!(summary != domain::Summary::default(), "{path:?} has nothing in MSH");
            if let Some(theirs) = as_hl7_parser_reads(&message).filter(|_| message.as_str().matches('\\').count() == 1) {
                let ours: Document = serde_json::from_str(&json).unwrap();
                let ours: Vec<_> = ours.segments.into_iter().map(|it| it.fields).collect();
                assert!(ours == theirs, "{path:?} is read differently by hl7-parser");
                compared += 1;
            }
        }
        println!("{} messages of the corpus, {compared} compared with hl7-parser", messages.len());
        assert!(messages.is_empty() || compared > 0);
    }
}
