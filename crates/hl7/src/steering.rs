//! The fields that say how the rest of a message is read: MSH-9, MSH-12, MSH-18 and OBX-2.
//!
//! Each is read here and nowhere else, so that parser, rendition, validation and acknowledgment agree. Senders write components where the
//! standard has one text (`CWE^^HL70125` in OBX-2), and the version in ways of their own (`HL7 2.3`, `2,5`).

use domain::Charset;

use crate::delimited::delimited;
use crate::delimiters::Delimiters;

/// Longest value that steers, in characters: HL7's ST allows 199. A longer value is left out, not cut.
const MAX_CHARACTERS: usize = 199;

/// MSH-9: type, event and structure of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageType {
    /// MSH-9.1, `ADT`.
    pub(crate) code: Option<String>,
    /// MSH-9.2, `A04`.
    pub(crate) event: Option<String>,
    /// MSH-9.3, `ADT_A01`.
    pub(crate) structure: Option<String>,
}

impl MessageType {
    /// Reads the text of MSH-9.
    pub(crate) fn of(msh_9: &str, delimiters: &Delimiters) -> Self {
        let part = |number| first_part(msh_9, number, delimiters);
        Self { code: part(1), event: part(2), structure: part(3) }
    }
}

/// MSH-12 as the standard writes it: `2.5` for `2.5^FRA^2.11`, `HL7 2.5`, `v2.5` and `2,5`. A text that is no version of HL7 2
/// stays unchanged; `None` if there is none.
pub(crate) fn version(msh_12: &str, delimiters: &Delimiters) -> Option<String> {
    let text = first_part(msh_12, 1, delimiters)?;
    let without = |text: &str, prefix: &str| {
        let head = text.get(..prefix.len()).filter(|it| it.eq_ignore_ascii_case(prefix))?;
        Some(text.get(head.len()..)?.trim_start_matches([' ', '-', '_', '.', ':']).to_owned())
    };
    let mut number = text.clone();
    for prefix in ["HL7", "Version", "V"] {
        number = without(&number, prefix).unwrap_or(number);
    }
    let number = number.replace(',', ".");
    let is_version = number.strip_prefix("2.").is_some_and(|it| it.starts_with(|digit: char| digit.is_ascii_digit()));
    Some(if is_version { number } else { text })
}

/// The data type of OBX-5 that OBX-2 names (HL7 2.5.1 §7.4.2.2). `None` if it is empty or null.
pub(crate) fn value_type<'t>(obx_2: &'t str, delimiters: &Delimiters) -> Option<&'t str> {
    let Delimiters { component, repetition, subcomponent, .. } = *delimiters;
    let ends = |it: char| [component, repetition, subcomponent].contains(&Some(it));
    let text = obx_2.split(ends).next().unwrap_or_default().trim();
    Some(text).filter(|it| !it.is_empty() && *it != "\"\"")
}

/// The character set that an MSH segment names: MSH-18, or MSH-19 where careless senders put it.
pub(crate) fn charset(msh: &str) -> Option<Charset> {
    Charset::named_in_msh(msh)
}

/// The first subcomponent of a component: older versions have one text where newer ones have subcomponents.
fn first_part(field: &str, number: usize, delimiters: &Delimiters) -> Option<String> {
    read(field, number, delimiters, |it| delimited(it, delimiters.subcomponent).next().unwrap_or_default())
}

/// A component of the first repetition of a field of MSH, decoded and trimmed. `None` if it is empty, null or too long, or has
/// characters that SQS and SNS refuse or people cannot read.
pub(crate) fn component(field: &str, number: usize, delimiters: &Delimiters) -> Option<String> {
    read(field, number, delimiters, |it| it)
}

fn read(field: &str, number: usize, delimiters: &Delimiters, of_component: impl Fn(&str) -> &str) -> Option<String> {
    // Steering fields are short, so a hostile one is not read to its end.
    if has_more_characters(field, 4 * MAX_CHARACTERS) {
        return None;
    }
    let text = of_component(component_of(field, number, delimiters)?);
    let mut value = String::with_capacity(text.len());
    delimiters.unescape(text, &mut value);
    let trimmed = value.trim();
    let fits = !trimmed.is_empty() && trimmed != "\"\"" && !has_more_characters(trimmed, MAX_CHARACTERS);
    if !fits || trimmed.contains(|it: char| it.is_control() || matches!(it, '\u{fffe}' | '\u{ffff}')) {
        return None;
    }
    Some(if trimmed.len() == value.len() { value } else { trimmed.to_owned() })
}

fn has_more_characters(text: &str, most: usize) -> bool {
    text.len() > most && text.chars().nth(most).is_some()
}

/// A component of the first repetition of a field, up to its first subcomponent and trimmed, otherwise unchanged; empty if there
/// is none.
pub(crate) fn part<'t>(field: &'t str, number: usize, delimiters: &Delimiters) -> &'t str {
    let component = component_of(field, number, delimiters).unwrap_or_default();
    delimited(component, delimiters.subcomponent).next().unwrap_or_default().trim()
}

fn component_of<'t>(field: &'t str, number: usize, delimiters: &Delimiters) -> Option<&'t str> {
    let first = delimited(field, delimiters.repetition).next().unwrap_or_default();
    delimited(first, delimiters.component).nth(number.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msh_12_is_read_as_senders_write_it() {
        for (written, expected) in [
            ("2.5.1", Some("2.5.1")),
            ("2.5^FRA^2.11", Some("2.5")),
            ("2.4^AUS&Australia&ISO3166_1^HL7AU-OO-201701&&L", Some("2.4")),
            ("2.3.1", Some("2.3.1")),
            (" 2.6 ", Some("2.6")),
            ("HL7 2.3", Some("2.3")),
            ("hl7v2.5", Some("2.5")),
            ("HL7 Version 2.5.1", Some("2.5.1")),
            ("V2.4", Some("2.4")),
            ("2,5", Some("2.5")),
            ("2.5&x", Some("2.5")),
            ("2.3.z", Some("2.3.z")),
            ("HL7", Some("HL7")),
            ("3.0", Some("3.0")),
            ("", None),
            ("\"\"", None),
            ("^FRA", None),
        ] {
            assert_eq!(version(written, &Delimiters::USUAL).as_deref(), expected, "{written:?}");
        }
    }

    #[test]
    fn obx_2_is_read_as_senders_write_it() {
        for (written, expected) in [
            ("NM", Some("NM")),
            ("CWE^^HL70125", Some("CWE")),
            (" ST ", Some("ST")),
            ("ST~NM", Some("ST")),
            ("CE&x", Some("CE")),
            ("", None),
            ("\"\"", None),
            ("^^HL70125", None),
        ] {
            assert_eq!(value_type(written, &Delimiters::USUAL), expected, "{written:?}");
        }
    }

    #[test]
    fn msh_9_is_read_as_senders_write_it() {
        let of = |written: &str| {
            let MessageType { code, event, structure } = MessageType::of(written, &Delimiters::USUAL);
            [code, event, structure].map(|it| it.unwrap_or_default())
        };
        assert_eq!(of("ADT^A04^ADT_A01"), ["ADT", "A04", "ADT_A01"]);
        assert_eq!(of("ACK"), ["ACK", "", ""]);
        assert_eq!(of(" ORU ^R01&x~ADT^A01"), ["ORU", "R01", ""]);
        assert_eq!(of("\"\"^A01"), ["", "A01", ""]);
        assert_eq!(of(&format!("ADT{}", "^".repeat(1000))), [""; 3]);
        assert_eq!(of(&format!("{}^A01", "x".repeat(200))), ["", "A01", ""]);
    }
}
