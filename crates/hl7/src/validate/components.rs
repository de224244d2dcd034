//! Components and subcomponents of a field, and the values in them.

use super::level::Level;
use super::report::Code;
use super::segments::Walk;
use super::value;
use crate::delimited::delimited;
use crate::delimiters::Delimiters;
use crate::dictionary::{DataType, Element, Usage};

/// The value that tells the receiver to delete its own (HL7 2.5.1 §2.5.3).
const NULL: &str = "\"\"";

impl Walk<'_> {
    /// Checks a text of one data type: a repetition, a component or a subcomponent.
    pub(super) fn typed(&mut self, element: &Element, text: &str, data_type: &DataType, level: Level) {
        self.work += 1;
        if text == NULL {
            return;
        }
        if data_type.components.is_empty() {
            self.primitive(element, text, data_type, level);
        } else if level == Level::Subcomponent {
            // There is no delimiter left for its components, so it has only the first one.
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
        for (position, text) in (1..).zip(delimited(text, level.delimiter(self.message))) {
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
                // TS is a text until 2.4, but holds a time all the same (HL7 2.3 §2.8.43).
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
            self.find(Code::WrongFormat, || format!("is not a value of the data type {data_type}"));
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
    pub(super) fn has_content(&mut self, text: &str) -> bool {
        let Delimiters { component, repetition, subcomponent, .. } = *self.message;
        let is_delimiter = |it: char| [component, repetition, subcomponent].contains(&Some(it));
        let delimiters = text.chars().take_while(|it| is_delimiter(*it)).count();
        self.work += u64::try_from(delimiters).unwrap_or(u64::MAX);
        text.chars().nth(delimiters).is_some()
    }
}
