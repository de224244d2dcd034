//! Validates MSH.

use super::report::{Code, Location, Report};
use crate::delimiters::{Delimiters, has_lost_its_backslash};
use crate::dictionary::{Dictionary, Places};
use domain::Summary;

/// The MSH segment of a message with readable delimiters.
pub(super) struct Header<'a> {
    /// The parts from the field separator on: "", MSH-2, MSH-3 ...
    fields: Vec<&'a str>,
    delimiters: &'a Delimiters,
    summary: Summary,
    /// The dictionary of MSH-12, or the nearest one.
    dictionary: &'static Dictionary,
    location: Location,
}

impl<'a> Header<'a> {
    /// `number` is the index of the segment.
    pub(super) fn of(
        msh: &'a str,
        number: usize,
        delimiters: &'a Delimiters,
        summary: Summary,
        dictionary: &'static Dictionary,
    ) -> Self {
        let fields = msh.get(3..).unwrap_or_default().split(delimiters.field).take(14).collect();
        let location = Location { segment: Some("MSH"), number, occurrence: Some(1), ..Location::default() };
        Self { fields, delimiters, summary, dictionary, location }
    }

    fn field(&self, number: usize) -> &'a str {
        self.fields.get(number - 1).copied().unwrap_or_default()
    }

    /// The structure of MSH-9, with its name: by MSH-9.3, else by type and event, else by the type alone, as for an ACK.
    pub(super) fn structure(&self) -> Option<(&'static str, &'static Places)> {
        let Summary { message_type, trigger_event, message_structure, .. } = &self.summary;
        let both = message_type.as_ref().zip(trigger_event.as_ref()).map(|(code, event)| format!("{code}_{event}"));
        let names = [message_structure, &both, message_type];
        names.into_iter().flatten().find_map(|name| self.dictionary.places(name))
    }

    /// Whether the message continues another one: it has a continuation pointer in MSH-14 (HL7 2.5.1 §2.10.2).
    pub(super) fn continues(&self) -> bool {
        !matches!(self.field(14).trim(), "" | "\"\"")
    }

    /// Reports the problems of MSH-1, MSH-2, MSH-9, MSH-12 and MSH-14 as a whole.
    pub(super) fn report(&self, structure: Option<&'static str>, report: &mut Report) {
        self.delimiters(report);
        self.version(report);
        self.message_type(structure, report);
        if self.continues() {
            let location = Location { field: Some(14), ..self.location };
            let detail = || "the message continues another: the order of its segments was not checked".to_owned();
            report.add(Code::Continuation, Some(location), detail);
        }
    }

    /// Checks the delimiters: HL7 2.5.1 §2.15.9.1-2, and HL7 2.7 §2.5.5.2 for the truncation character.
    fn delimiters(&self, report: &mut Report) {
        let encoding: Vec<char> = self.field(2).chars().take(10).collect();
        let is_repeated =
            (1..encoding.len()).any(|end| encoding.get(..end).zip(encoding.get(end)).is_some_and(|(it, last)| it.contains(last)));
        let has_truncation = self.dictionary.is_at_least("2.7");
        let is_usual = *self.delimiters == Delimiters { truncation: self.delimiters.truncation, ..Delimiters::USUAL };
        let location = Location { field: Some(2), ..self.location };
        let mut add = |code, detail: String| report.add(code, Some(location), || detail);
        if has_lost_its_backslash(&encoding) {
            add(
                Code::WrongDelimiters,
                "the escape character is missing; the message was read as if it were a backslash".to_owned(),
            );
        } else if is_repeated {
            add(Code::WrongDelimiters, "a character has two tasks; the second was passed over".to_owned());
        } else if encoding.len() > 4 && !has_truncation {
            let version = self.dictionary.version();
            add(
                Code::WrongDelimiters,
                format!("HL7 {version} has four encoding characters: the one for truncation came with 2.7"),
            );
        } else if !is_usual || self.delimiters.truncation.is_some_and(|it| it != '#') {
            add(Code::UnusualDelimiters, "HL7 recommends | with ^~\\& and, from 2.7 on, # behind them".to_owned());
        }
    }

    fn version(&self, report: &mut Report) {
        let Some(version) = self.summary.hl7_version.as_deref() else { return };
        if Dictionary::exactly(version).is_some() {
            return;
        }
        let location = Location { field: Some(12), repetition: Some(1), component: Some(1), ..self.location };
        let nearest = self.dictionary.version();
        if Dictionary::is_version(version) {
            report.add(Code::NearestVersion, Some(location), || {
                format!("there is no dictionary of this version; {nearest} was taken for it")
            });
        } else {
            report.add(Code::UnknownVersion, Some(location), || format!("is no version of HL7 2; {nearest} was taken for it"));
        }
    }

    fn message_type(&self, structure: Option<&'static str>, report: &mut Report) {
        let Summary { message_type, trigger_event, message_structure, .. } = &self.summary;
        let is_of_site = [message_type, trigger_event].into_iter().flatten().any(|it| it.starts_with('Z'));
        match (structure, message_structure.as_deref()) {
            (Some(found), Some(named)) if found != named => {
                let location = Location { field: Some(9), repetition: Some(1), component: Some(3), ..self.location };
                report.add(Code::WrongStructure, Some(location), || format!("the structure of this message is {found}"));
            }
            (None, _) if !is_of_site => {
                let location = Location { field: Some(9), ..self.location };
                let version = self.dictionary.version();
                report.add(Code::UnknownStructure, Some(location), || format!("HL7 {version} has no such message"));
            }
            _ => {}
        }
    }
}
