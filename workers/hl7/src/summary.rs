//! What MSH says of a message.

use domain::{Er7, Summary};
use hl7_parser::message::Separators;
use hl7_parser::parser::parse_field_with_separators;

use crate::delimiters::{Delimiters, msh};

/// Longest value of a summary, in characters: HL7's ST allows 199. A longer one is left out, not cut.
const MAX_CHARACTERS: usize = 199;

/// The summary of any message that has an MSH, whatever else is wrong with it: where MSH-2 is not readable, MSH-9 and the
/// others are split on `^`. Without an MSH it is empty.
pub fn summarize(message: &Er7) -> Summary {
    msh(message).and_then(|msh| Some(of_msh(msh, Delimiters::guess(msh)?))).unwrap_or_default()
}

fn of_msh(msh: &str, delimiters: Delimiters) -> Summary {
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
    Summary {
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
    }
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
        summarize(&Er7::canonical(text).unwrap())
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
    fn whatever_is_wrong_with_msh_the_rest_is_read() {
        let of = |message: &str| {
            let found = summary(message);
            [found.sending_application, found.message_type, found.trigger_event, found.message_structure, found.hl7_version]
                .map(|it| it.unwrap_or_default())
        };
        assert_eq!(of("MSH|^~\\&|A|||||| ADT ||P|"), ["A", "ADT", "", "", ""]);
        assert_eq!(of("MSH|^~\\&|A||||||ADT^A01|7|P||"), ["A", "ADT", "A01", "", ""]);
        assert_eq!(of("MSH|^~\\&|A||||||ADT^A01^ADT_A01|7|P|2.5"), ["A", "ADT", "A01", "ADT_A01", "2.5"]);
        assert_eq!(of("MSH|^~\\&#|A||||||ADT^A01^ADT_A01^x|7|P|2.5^US^1"), ["A", "ADT", "A01", "ADT_A01", "2.5"]);
        assert_eq!(of("MSH$%*!@$A$$$$$$ADT%A01$7$P$2.3.z"), ["A", "ADT", "A01", "", "2.3.z"]);
        assert_eq!(of("MSH||A||||||ADT^A01|7|P|2.5"), ["A", "ADT", "A01", "", "2.5"]);
        assert_eq!(of("MSH|^~\\&amp;|A||||||ADT^A01|7|P|2.5"), ["A", "ADT", "A01", "", "2.5"]);
        assert_eq!(of("MSH|^~\\&|A||||||ADT^A01|7|P|2.5\rgarbage\r\u{0}||^^~~\rMSH|x"), ["A", "ADT", "A01", "", "2.5"]);
        assert_eq!(of("MSH"), [""; 5]);
        assert_eq!(of("PID|1"), [""; 5]);
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
