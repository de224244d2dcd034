//! The messages that the demo sends. They are made up: no person in them exists.
//!
//! Each run has its own control ids, so that no message duplicates one of an earlier run.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use super::pdf;

/// The messages of one run, segments ended by CR as HL7 has it.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) admission: String,
    pub(super) result: String,
    pub(super) vaccination: String,
    pub(super) lab_report: String,
    /// Declares ISO 8859-1 in MSH-18, and has only characters of that set.
    pub(super) transfer: String,
    pub(super) no_hl7: String,
}

impl Messages {
    pub(super) fn of_run(at: Timestamp) -> Self {
        let run = at.as_millisecond();
        let fill = |template: &str, number: u32| {
            template
                .replace("{control_id}", &format!("DEMO{run}N{number}"))
                .replace("{time}", &at.strftime("%Y%m%d%H%M%S+0000").to_string())
                .replace("{date}", &at.strftime("%Y%m%d").to_string())
                .replace('\n', "\r")
        };
        let report = BASE64_STANDARD.encode(pdf::report());
        Self {
            admission: fill(include_str!("adt_a01.hl7"), 1),
            result: fill(include_str!("oru_r01.hl7"), 2),
            vaccination: fill(include_str!("vxu_v04.hl7"), 3),
            lab_report: fill(include_str!("lab_report.hl7"), 4).replace("{pdf}", &report),
            transfer: fill(include_str!("adt_a02.hl7"), 5),
            no_hl7: format!("I'm just a random number: {run}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(messages: &Messages) -> [&String; 6] {
        let Messages { admission, result, vaccination, lab_report, transfer, no_hl7 } = messages;
        [admission, result, vaccination, lab_report, transfer, no_hl7]
    }

    #[test]
    fn every_placeholder_is_filled_and_segments_end_with_cr() {
        let messages = Messages::of_run(Timestamp::from_millisecond(1_795_245_667_120).unwrap());
        for message in all(&messages) {
            assert!(!message.contains(['{', '}', '\n']), "{message}");
        }
        assert!(messages.admission.starts_with("MSH|^~\\&|HIS|"));
        assert!(messages.admission.contains("|20261121072107+0000||ADT^A01^ADT_A01|DEMO1795245667120N1|P|2.5.1"));
    }

    #[test]
    fn a_control_id_has_the_20_characters_it_may_have_and_is_new_in_every_run() {
        let one = Messages::of_run(Timestamp::from_millisecond(1_795_245_667_120).unwrap());
        let other = Messages::of_run(Timestamp::from_millisecond(1_795_245_667_121).unwrap());
        for (one, other) in all(&one).into_iter().zip(all(&other)) {
            assert_ne!(one, other);
        }
        let control_id = one.admission.split('|').nth(9).unwrap();
        assert!(control_id.len() <= 20, "{control_id}");
    }

    #[test]
    fn the_lab_report_is_too_large_to_travel_in_the_queue() {
        let messages = Messages::of_run(Timestamp::UNIX_EPOCH);
        assert!(messages.lab_report.len() > 96 * 1024);
        assert!(messages.result.len() < 96 * 1024);
    }
}
