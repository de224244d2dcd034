//! Texts that occur nowhere by chance, put where a patient and a secret would be, and the search for them.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sluice_tests::unique;

/// A patient whom nobody else has.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    pub(crate) name: String,
    pub(crate) record_number: String,
    /// What somebody wrote about them.
    pub(crate) note: String,
}

impl Patient {
    pub(crate) fn new() -> Self {
        let text = |prefix: &str| format!("{prefix}{}", unique().to_ascii_uppercase());
        Self { name: text("NAME"), record_number: text("MRN"), note: text("NOTE") }
    }

    pub(crate) fn adt(&self) -> String {
        format!("{}PV1|1|I\rNTE|1||{}\r", self.head("ADT^A01^ADT_A01", "2.5.1"), self.note)
    }

    pub(crate) fn oru(&self) -> String {
        format!(
            "{}OBR|1||7|718-7^Hemoglobin^LN\rOBX|1|TX|718-7^Hemoglobin^LN||{}||||||F\r",
            self.head("ORU^R01", "2.4"),
            self.note
        )
    }

    /// What is no HL7 at all.
    pub(crate) fn free_text(&self) -> String {
        format!("Dear colleague, {} ({}) came in today: {}", self.name, self.record_number, self.note)
    }

    fn head(&self, message_type: &str, version: &str) -> String {
        let (name, record_number, control_id) = (&self.name, &self.record_number, unique());
        format!(
            "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||{message_type}|{control_id}|P|{version}\r\
             PID|1||{record_number}^^^HIS^MR||{name}^JANE||19800101|F\r"
        )
    }

    pub(crate) fn texts(&self) -> [&str; 3] {
        [&self.name, &self.record_number, &self.note]
    }
}

/// What is searched for.
#[derive(Debug, Default)]
pub(crate) struct Canaries {
    needles: Vec<(&'static str, String)>,
}

impl Canaries {
    /// The texts of a patient as they stand.
    pub(crate) fn patient(mut self, patient: &Patient) -> Self {
        self.needles.extend(patient.texts().map(|text| ("patient", text.to_owned())));
        self
    }

    /// The texts of a patient, and what they look like inside a longer text in base64.
    pub(crate) fn patient_in_any_form(mut self, patient: &Patient) -> Self {
        for text in patient.texts() {
            self.needles.extend(within_base64(text).map(|needle| ("patient in base64", needle)));
        }
        self.patient(patient)
    }

    /// A token: claims and signature each, for the first part is no secret. Also once more in base64.
    pub(crate) fn token(mut self, token: &SecretString) -> Self {
        for part in token.expose_secret().split('.').filter(|part| part.len() > 20).skip(1) {
            self.needles.extend(within_base64(part).map(|needle| ("token in base64", needle)));
            self.needles.push(("token", part.to_owned()));
        }
        self
    }

    /// Which of them occur in the text, by kind: the text itself is not to be shown.
    pub(crate) fn found_in(&self, text: &str) -> Vec<&'static str> {
        self.needles.iter().filter(|(_, needle)| text.contains(needle.as_str())).map(|(kind, _)| *kind).collect()
    }
}

/// The part of the base64 of any text around `text` that depends on `text` alone, for each way it can begin, in both
/// alphabets.
fn within_base64(text: &str) -> impl Iterator<Item = String> {
    let forms = (0..3).flat_map(|shift| {
        let padded = [vec![0; shift], text.as_bytes().to_vec()].concat();
        let whole = padded.len() / 3 * 4;
        let first = [0, 2, 3][shift];
        [BASE64_STANDARD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)].map(|it| it[first..whole].to_owned())
    });
    forms.collect::<Vec<_>>().into_iter()
}

#[test]
fn a_canary_is_found_however_it_is_wrapped() {
    let (patient, other) = (Patient::new(), Patient::new());
    let token: SecretString = format!("header-header-header-header.{}.{}", "c".repeat(40), "s?>".repeat(20)).into();
    let canaries = Canaries::default().patient_in_any_form(&patient).token(&token);
    for around in ["", "a", "ab", "abc"] {
        let text = format!("{around}{}{around}", patient.record_number);
        assert_eq!(canaries.found_in(&format!("{{\"x\":\"{text}\"}}")), ["patient"]);
        assert!(!canaries.found_in(&BASE64_STANDARD.encode(&text)).is_empty(), "{around}");
        let token = format!("{around}{}", token.expose_secret());
        assert!(canaries.found_in(&token).contains(&"token"));
        assert!(canaries.found_in(&BASE64_URL_SAFE_NO_PAD.encode(&token)).contains(&"token in base64"));
    }
    assert!(canaries.found_in(&format!("{} {}", other.free_text(), other.adt())).is_empty());
    assert!(canaries.found_in(&BASE64_STANDARD.encode(other.oru())).is_empty());
}
