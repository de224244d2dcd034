//! Converts a rendition back to the message.

use domain::Er7;
use serde::Deserialize;

use crate::delimiters::Delimiters;
use crate::rendition::VERSION;

mod exact;

/// Why a JSON document is no rendition of a message. Never quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARendition {
    /// Not JSON, or of another shape.
    #[error("not a rendition: unreadable at line {line}, column {column}")]
    Unreadable {
        /// Line of the JSON text, from 1.
        line: usize,
        /// Column of that line, from 1.
        column: usize,
    },
    /// Of a version that this reader does not know.
    #[error("not a rendition of a version from 1 to {VERSION}, but of version {0}")]
    Version(u64),
    /// Positions of a list do not ascend from 1.
    #[error("not a rendition: the positions in segment {segment} do not ascend")]
    Positions {
        /// Index of the segment, from 1.
        segment: usize,
    },
    /// A part needs a delimiter that the message does not have.
    #[error("not a rendition: segment {segment} has parts that no delimiter separates")]
    Delimiter {
        /// Index of the segment, from 1.
        segment: usize,
    },
    /// The message would be larger than any message may be, or than a document of this size can describe.
    #[error("not a rendition: its message would be too large for a document of this size")]
    TooLarge,
    /// The result would be empty.
    #[error("not a rendition: the message is empty")]
    Empty,
}

/// The limit, in bytes, of the message that a document of `size_bytes` describes. A position can be any number, and delimiters
/// fill the gap before it, so a small document must not make a large message. A byte of a message can become three in UTF-8.
fn most_bytes(size_bytes: usize) -> usize {
    size_bytes.saturating_add(3 * domain::MAX_MESSAGE_BYTES + 1).min(3 * domain::MAX_UPLOAD_BYTES + 1)
}

#[derive(Deserialize)]
struct Document {
    /// Absent in version 1.
    version: Option<u64>,
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
    truncation: Option<char>,
}

#[derive(Deserialize)]
struct JsonSegment {
    segment: String,
    fields: Vec<JsonField>,
}

#[derive(Deserialize)]
struct JsonField {
    position: usize,
    #[serde(default)]
    repetitions: Vec<Vec<JsonComponent>>,
}

#[derive(Deserialize)]
struct JsonComponent {
    position: usize,
    value: Option<String>,
    raw: Option<String>,
    #[serde(default)]
    subcomponents: Vec<JsonSubcomponent>,
}

#[derive(Deserialize)]
struct JsonSubcomponent {
    position: usize,
    value: Option<String>,
    raw: Option<String>,
}

/// Rebuilds the message of a rendition, in canonical form. For the output of [`crate::write_json`], that is exactly the original
/// message.
///
/// Reads each version. Ignores names, the summary, the origin and the dictionary's version, so that people can edit a rendition: `raw`
/// has precedence over `value`, and `subcomponents` over both.
///
/// # Errors
/// [`NotARendition`].
pub fn read_json(json: &[u8]) -> Result<Er7, NotARendition> {
    let text = match exact::read(json) {
        Some(text) => text,
        None => read_tolerantly(json)?,
    };
    Er7::canonical(&text).map_err(|_| NotARendition::Empty)
}

/// Reads a rendition in any order and spacing, through a tree of the document. The result is not in canonical form yet.
fn read_tolerantly(json: &[u8]) -> Result<String, NotARendition> {
    let document: Document =
        serde_json::from_slice(json).map_err(|error| NotARendition::Unreadable { line: error.line(), column: error.column() })?;
    if let Some(version) = document.version.filter(|it| !(1..=u64::from(VERSION)).contains(it)) {
        return Err(NotARendition::Version(version));
    }
    let JsonDelimiters { field, component, repetition, escape, subcomponent, truncation } = document.delimiters;
    let delimiters = Delimiters { field, component, repetition, escape, subcomponent, truncation };
    let mut text = Text::new(delimiters, json.len());
    let mut msh_seen = false;
    for segment in &document.segments {
        let is_msh = !msh_seen && segment.segment.starts_with("MSH");
        msh_seen |= is_msh;
        text.segment(segment, is_msh)?;
    }
    Ok(text.text)
}

/// A message under construction.
struct Text {
    delimiters: Delimiters,
    text: String,
    /// Index of the segment that is being written, from 1.
    segment: usize,
    /// See [`most_bytes`].
    most_bytes: usize,
}

impl Text {
    /// `size_bytes` is the size of the rendition, which is a few times that of the message.
    fn new(delimiters: Delimiters, size_bytes: usize) -> Self {
        Self { delimiters, text: String::with_capacity(size_bytes / 4), segment: 0, most_bytes: most_bytes(size_bytes) }
    }

    fn segment(&mut self, segment: &JsonSegment, is_msh: bool) -> Result<(), NotARendition> {
        self.begin(&segment.segment);
        let mut at = 0;
        for field in &segment.fields {
            // MSH-1 is a delimiter, which is written together with MSH-2.
            if is_msh && field.position == 1 {
                at = 1;
                continue;
            }
            self.delimit(&mut at, field.position, Some(self.delimiters.field), true)?;
            for (i, repetition) in field.repetitions.iter().enumerate() {
                if i > 0 {
                    let missing = NotARendition::Delimiter { segment: self.segment };
                    self.text.push(self.delimiters.repetition.ok_or(missing)?);
                }
                match repetition.as_slice() {
                    [JsonComponent { value: Some(value), .. }] if is_msh && field.position == 2 => self.text.push_str(value),
                    components => self.components(components)?,
                }
            }
        }
        self.end()
    }

    fn begin(&mut self, id: &str) {
        self.segment += 1;
        self.text.push_str(id);
    }

    fn end(&mut self) -> Result<(), NotARendition> {
        self.text.push('\r');
        self.within_limit()
    }

    fn components(&mut self, components: &[JsonComponent]) -> Result<(), NotARendition> {
        let mut at = 0;
        for component in components {
            self.delimit(&mut at, component.position, self.delimiters.component, false)?;
            if component.subcomponents.is_empty() {
                self.value(component.value.as_deref(), component.raw.as_deref());
            }
            let mut at = 0;
            for part in &component.subcomponents {
                self.delimit(&mut at, part.position, self.delimiters.subcomponent, false)?;
                self.value(part.value.as_deref(), part.raw.as_deref());
            }
        }
        Ok(())
    }

    /// Writes the delimiters between the last written item of a list, at `at`, and a position. With `before`, one also precedes
    /// the first item.
    fn delimit(&mut self, at: &mut usize, to: usize, delimiter: Option<char>, before: bool) -> Result<(), NotARendition> {
        let steps = to.checked_sub(*at).filter(|&steps| steps > 0).ok_or(NotARendition::Positions { segment: self.segment })?;
        let count = if *at == 0 && !before { steps - 1 } else { steps };
        if count > self.most_bytes {
            return Err(NotARendition::TooLarge);
        }
        if count > 0 {
            let delimiter = delimiter.ok_or(NotARendition::Delimiter { segment: self.segment })?;
            self.text.extend(std::iter::repeat_n(delimiter, count));
        }
        *at = to;
        self.within_limit()
    }

    fn value(&mut self, value: Option<&str>, raw: Option<&str>) {
        match (raw, value) {
            (Some(raw), _) => self.text.push_str(raw),
            (None, Some(value)) => self.delimiters.escape(value, &mut self.text),
            (None, None) => {}
        }
    }

    fn within_limit(&self) -> Result<(), NotARendition> {
        if self.text.len() > self.most_bytes { Err(NotARendition::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
