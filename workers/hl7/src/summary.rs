//! What MSH says of a message.

use domain::{Er7, Summary};
use hl7_parser::message::Separators;
use hl7_parser::parser::parse_field_with_separators;

use crate::delimiters::{Delimiters, Unreadable, msh};

/// Longest value of a summary, in characters: HL7's ST allows 199. A longer one is left out, not cut.
const MAX_CHARACTERS: usize = 199;

/// The summary of any message that has a readable MSH, whatever else is wrong with it.
///
/// # Errors
/// [`Unreadable`], if there is none.
pub fn summarize(message: &Er7) -> Result<Summary, Unreadable> {
    let delimiters = Delimiters::of(message)?;
    let msh = msh(message).ok_or(Unreadable::NoMsh)?;
    // The text after "MSH" begins with MSH-1, so that the split gives "", MSH-2, MSH-3 ...
    let fields: Vec<&str> = msh.get(3..).unwrap_or_default().split(delimiters.field).take(13).collect();
    let component = |field: usize, component: usize| {
        let text = fields.get(field - 1)?;
        if text.chars().nth(4 * MAX_CHARACTERS).is_some() {
            return None;
        }
        let parsed = parse_field_with_separators(text, separators(&delimiters)).ok()?;
        let mut value = String::new();
        delimiters.unescape(parsed.component(component)?.raw_value(), &mut value);
        let value = value.trim();
        let fits = !value.is_empty() && value != "\"\"" && value.chars().count() <= MAX_CHARACTERS;
        (fits && !value.contains(cannot_be_sent)).then(|| value.to_owned())
    };
    Ok(Summary {
        message_type: component(9, 1),
        trigger_event: component(9, 2),
        message_structure: component(9, 3),
        control_id: component(10, 1),
        hl7_version: component(12, 1),
        sending_application: component(3, 1),
        sending_facility: component(4, 1),
        receiving_application: component(5, 1),
        receiving_facility: component(6, 1),
        message_time: component(7, 1),
    })
}

/// What SQS and SNS do not take, or people cannot read: control characters and U+FFFE, U+FFFF.
fn cannot_be_sent(character: char) -> bool {
    character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// For `hl7-parser`, which knows no missing delimiter: CR never occurs within a segment.
fn separators(delimiters: &Delimiters) -> Separators {
    let or_never = |character: Option<char>| character.unwrap_or('\r');
    Separators {
        field: delimiters.field,
        component: or_never(delimiters.component),
        repetition: or_never(delimiters.repetition),
        escape: or_never(delimiters.escape),
        subcomponent: or_never(delimiters.subcomponent),
        lenient_newlines: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> Summary {
        summarize(&Er7::canonical(text).unwrap()).unwrap()
    }

    #[test]
    fn everything_msh_says() {
        let found = summary(
            "MSH|^~\\&|APP^1.2.3^ISO|FAC|RAPP|RFAC|20260102030405||ORU^R01^ORU_R01|C\\T\\1|P|2.5.1^USA\rPID|||||DOE^JANE",
        );
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            found,
            Summary {
                message_type: text("ORU"),
                trigger_event: text("R01"),
                message_structure: text("ORU_R01"),
                control_id: text("C&1"),
                hl7_version: text("2.5.1"),
                sending_application: text("APP"),
                sending_facility: text("FAC"),
                receiving_application: text("RAPP"),
                receiving_facility: text("RFAC"),
                message_time: text("20260102030405"),
            }
        );
    }

    #[test]
    fn a_fifth_encoding_character_shifts_nothing() {
        assert_eq!(summary("MSH|^~\\&#|APP|FAC").sending_facility.as_deref(), Some("FAC"));
    }

    #[test]
    fn what_is_missing_null_or_too_long_is_absent() {
        assert_eq!(summary("MSH|^~\\&"), Summary::default());
        assert_eq!(summary("MSH|^~\\&|A\u{ffff}|B\u{7}"), Summary::default());
        let found = summary(&format!("MSH|^~\\&|\"\"|{}|||||ACK||P|", "x".repeat(200)));
        assert_eq!(found, Summary { message_type: Some("ACK".into()), ..Summary::default() });
        assert_eq!(summary(&format!("MSH|^~\\&|{}", "^".repeat(4 << 20))), Summary::default());
    }
}
