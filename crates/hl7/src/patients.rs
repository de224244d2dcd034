//! The patients that a message is about.

use domain::{Er7, PatientIdentifier};

use crate::walk::Walk;

/// The identifiers of PID-3 with their assigning authorities (CX.1, CX.4), of every PID, in order: at most `most`. Invalid
/// identifiers are left out. Empty if MSH cannot be read.
pub fn patient_identifiers(message: &Er7, most: usize) -> Vec<PatientIdentifier> {
    const PATIENT_IDENTIFIER_LIST: usize = 3;
    const ID: usize = 1;
    const ASSIGNING_AUTHORITY: usize = 4;
    let Ok(walk) = Walk::of(message) else { return Vec::new() };
    let mut found = Vec::new();
    for segment in walk.segments().filter(|it| it.id == "PID") {
        for repetition in segment.repetitions(PATIENT_IDENTIFIER_LIST) {
            if found.len() == most {
                return found;
            }
            let id = walk.decode(segment.part(repetition, ID));
            let [namespace, universal_id] = [1, 2].map(|at| walk.decode(segment.subpart(repetition, ASSIGNING_AUTHORITY, at)));
            found.extend(PatientIdentifier::new(&id, [&namespace, &universal_id]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let found = patient_identifiers(&Er7::canonical(text).unwrap(), 4);
        found.iter().map(|it| format!("{} {}", it.id(), it.authorities().join(","))).collect()
    }

    #[test]
    fn every_identifier_of_every_patient_is_read() {
        let msh = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5.1\r";
        let two = "PID|1|9|4711^8^M10^HIS^MR~815^^^HEALTH&1.2.3&ISO||DOE^JANE\rPID|2||A\\T\\B^^^HIS\r";
        assert_eq!(found(&format!("{msh}{two}")), ["4711 HIS", "815 HEALTH,1.2.3", "A&B HIS"]);
        assert_eq!(found(&format!("{msh}PID|1||~^^^HIS~\"\"~ 7 ~\r")), ["7 "]);
        assert_eq!(found(&format!("{msh}NTE|1||4711\r")), [""; 0]);
        assert_eq!(found("MSH$%*!@$A$B$C$D$2026$$ADT%A01$1$P$2.3\rPID$1$$4711%%%HIS@1.2@ISO\r"), ["4711 HIS,1.2"]);
        assert_eq!(found("PID|1||4711\r"), [""; 0], "without an MSH nothing is known");
        assert_eq!(found(&format!("{msh}PID|1||{}\r", "1~2~3~4~5~6")), ["1 ", "2 ", "3 ", "4 "]);
        assert_eq!(found(&format!("{msh}PID|1||{}\r", "~".repeat(1 << 20))), [""; 0]);
    }
}
