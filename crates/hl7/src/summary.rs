//! Reads the summary of a message from MSH, and its continuation from DSC.

use domain::{Er7, Summary};

use crate::delimited::delimited;
use crate::delimiters::{Delimiters, msh};
use crate::steering::{MessageType, component, version};

/// The summary of any message with an MSH, whatever else is wrong with it: if MSH-2 is unreadable, MSH-9 and the others are split
/// on `^`. Empty without an MSH.
pub fn summarize(message: &Er7) -> Summary {
    let of_message = |msh| {
        let delimiters = Delimiters::guess(msh)?;
        Some(Summary { continuation_pointer: continuation_pointer(message, &delimiters), ..of_msh(msh, delimiters) })
    };
    msh(message).and_then(of_message).unwrap_or_default()
}

/// DSC-1, if DSC is the last segment.
fn continuation_pointer(message: &Er7, delimiters: &Delimiters) -> Option<String> {
    let last = message.as_str().trim_end_matches('\r').rsplit('\r').next()?;
    let fields = last.strip_prefix("DSC")?.strip_prefix(delimiters.field)?;
    component(fields.split(delimiters.field).next()?, 1, delimiters)
}

fn of_msh(msh: &str, delimiters: Delimiters) -> Summary {
    // The text after "MSH" begins with MSH-1, so that the fields are "", MSH-2, MSH-3 ...
    let mut fields = [""; 14];
    for (field, text) in fields.iter_mut().zip(delimited(msh.get(3..).unwrap_or_default(), Some(delimiters.field))) {
        *field = text;
    }
    let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
    let first = |number: usize| component(field(number), 1, &delimiters);
    let MessageType { code, event, structure } = MessageType::of(field(9), &delimiters);
    Summary {
        message_type: code,
        trigger_event: event,
        message_structure: structure,
        control_id: first(10),
        hl7_version: version(field(12), &delimiters),
        sending_application: first(3),
        sending_facility: first(4),
        receiving_application: first(5),
        receiving_facility: first(6),
        message_time: first(7),
        sequence_number: first(13),
        continues: first(14),
        continuation_pointer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> Summary {
        summarize(&Er7::canonical(text).unwrap())
    }

    #[test]
    fn a_summary_has_everything_that_msh_says() {
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
                ..Summary::default()
            }
        );
    }

    #[test]
    fn a_message_in_parts_says_what_it_continues_and_what_continues_it() {
        let found = |message: &str| {
            let Summary { sequence_number, continues, continuation_pointer, .. } = summary(message);
            [sequence_number, continues, continuation_pointer].map(Option::unwrap_or_default)
        };
        let msh = "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|7|P|2.5.1|";
        assert_eq!(found(&format!("{msh}12\rPID|1\rOBX|1|TX|c||one\rADD|\rDSC|ptr-1|F\r")), ["12", "", "ptr-1"]);
        assert_eq!(found(&format!("{msh}13|ptr-1\rADD|two||||||F\rDSC|ptr-2\r")), ["13", "ptr-1", "ptr-2"]);
        assert_eq!(found(&format!("{msh}|ptr-2\rADD|three\r")), ["", "ptr-2", ""]);
        assert_eq!(found(&format!("{msh}\rDSC|x\rOBX|1\r")), ["", "", ""], "DSC is the last segment, or is nothing");
        assert_eq!(found(&format!("{msh}\rDSC\r")), ["", "", ""]);
    }

    #[test]
    fn a_fifth_encoding_character_shifts_nothing() {
        assert_eq!(summary("MSH|^~\\&#|APP|FAC").sending_facility.as_deref(), Some("FAC"));
    }

    #[test]
    fn a_fault_in_msh_does_not_hide_the_rest_of_the_summary() {
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
    fn a_missing_null_or_too_long_value_is_absent() {
        assert_eq!(summary("MSH|^~\\&"), Summary::default());
        assert_eq!(summary("MSH|^~\\&|A\u{ffff}|B\u{7}"), Summary::default());
        let found = summary(&format!("MSH|^~\\&|\"\"|{}|||||ACK||P|", "x".repeat(200)));
        assert_eq!(found, Summary { message_type: Some("ACK".into()), ..Summary::default() });
        assert_eq!(summary(&format!("MSH|^~\\&|{}", "^".repeat(4 << 20))), Summary::default());
    }
}
