//! What `sluice hl7 validate` finds in a file, for the console's page. The page loads this crate as WebAssembly, so the page and the
//! command look at a file with the same code.
//!
//! Built for `wasm32-unknown-unknown`, the module imports nothing: it reads the bytes that it is given, and has no network, no
//! clock and no storage. The page calls [`reserve`], writes a file there, calls [`validate`] and reads the answer, JSON, at [`answer`].

#![warn(missing_docs)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use hl7::validate::{Code, Report, Severity};
use hl7::{BatchProblem, Body};
use serde::Serialize;

/// Most findings that an answer lists. The rest is counted.
pub const MOST_FINDINGS: usize = 200;

/// The result for a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// How many messages the file has.
    pub messages: usize,
    /// How many findings of each severity there are: infos, warnings, errors. Those that the report of a message does not list
    /// have no severity, and are counted in `more` alone.
    pub counts: [usize; 3],
    /// The findings in the order of the file, at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Messages that cannot be decoded or are empty, at most [`MOST_FINDINGS`]; there is no finding of them.
    pub unreadable: Vec<Unreadable>,
    /// What is wrong with the batch itself.
    pub batch_problems: Vec<BatchProblem>,
    /// How many findings and unreadable messages are not listed.
    pub more: usize,
}

/// A finding of one message.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The message's number in the file, from 1.
    pub message: usize,
    /// `PID-3[2].4.1`; empty if there is no single place.
    pub place: String,
    /// Its severity.
    pub severity: Severity,
    /// What kind of departure it is.
    pub code: Code,
    /// A sentence that repeats nothing of the message.
    pub detail: String,
}

/// A message that cannot be read.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Its number in the file, from 1.
    pub message: usize,
    /// A sentence that repeats nothing of the message.
    pub detail: String,
}

/// Looks at each message of a file. The time is linear in its length.
#[must_use]
pub fn look(file: Vec<u8>) -> Findings {
    let body = Body::of(file, None);
    let (findings, unreadable) = (Vec::new(), Vec::new());
    let mut found =
        Findings { messages: body.count(), counts: [0; 3], findings, unreadable, batch_problems: body.problems(), more: 0 };
    for piece in body.messages() {
        match piece.read() {
            Ok(read) => found.add(piece.number(), hl7::validate::validate(&read.er7)),
            Err(_) if found.unreadable.len() >= MOST_FINDINGS => found.more += 1,
            Err(error) => found.unreadable.push(Unreadable { message: piece.number(), detail: error.to_string() }),
        }
    }
    found
}

impl Findings {
    fn add(&mut self, message: usize, report: Report) {
        self.more += report.more;
        for finding in report.findings {
            if let Some(count) = self.counts.get_mut(finding.severity as usize) {
                *count += 1;
            }
            if self.findings.len() >= MOST_FINDINGS {
                self.more += 1;
                continue;
            }
            let place = finding.location.map(|it| it.to_string()).unwrap_or_default();
            let (severity, code, detail) = (finding.severity, finding.code, finding.detail);
            self.findings.push(Finding { message, place, severity, code, detail });
        }
    }
}

static FILE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A page has one thread. What a panic has left is written anew by the next call.
fn of(place: &'static Mutex<Vec<u8>>) -> MutexGuard<'static, Vec<u8>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes room for a file of so many bytes, and gives the address to write it to.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(bytes: usize) -> *mut u8 {
    let mut file = of(&FILE);
    *file = vec![0; bytes];
    file.as_mut_ptr()
}

/// Looks at the file that was written, and gives the length of the answer in bytes: [`Findings`] as JSON in UTF-8, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn validate() -> usize {
    let file = std::mem::take(&mut *of(&FILE));
    let mut answer = of(&ANSWER);
    *answer = serde_json::to_vec(&look(file)).unwrap_or_default();
    answer.len()
}

/// The address of the last answer, which is there until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> *const u8 {
    of(&ANSWER).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSH: &str = "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|7|P|2.5.1\r";

    #[test]
    fn findings_are_those_of_the_validation_with_the_number_of_their_message() {
        let bad = format!("{MSH}EVN||2026-01-02\rPID|1||||DOE^JANE||19800132|Q\rgarbage\r");
        let file = format!("BHS|^~\\&\r{MSH}EVN||20260102030405\rPID|1||1^^^HIS||DOE\rPV1|1|I\r{bad}BTS|3\r");
        let found = look(file.into_bytes());
        let er7 = domain::Er7::canonical(&bad).unwrap();
        let report = hl7::validate::validate(&er7);
        assert!(report.findings.len() > 4, "{report:?}");
        let of_second: Vec<_> = found.findings.iter().filter(|it| it.message == 2).collect();
        assert_eq!(of_second.len(), report.findings.len());
        for (listed, finding) in of_second.iter().zip(&report.findings) {
            let place = finding.location.map(|it| it.to_string()).unwrap_or_default();
            assert_eq!((&listed.place, listed.severity, listed.code), (&place, finding.severity, finding.code));
            assert_eq!(listed.detail, finding.detail);
        }
        assert_eq!((found.messages, found.more, found.counts.iter().sum::<usize>()), (2, 0, found.findings.len()));
        assert_eq!(found.batch_problems.iter().map(|it| it.code).collect::<Vec<_>>(), ["bts-count"]);
    }

    #[test]
    fn an_answer_is_bounded_and_says_what_it_leaves_out() {
        let bad = format!("{MSH}garbage\r").repeat(400);
        let found = look(bad.into_bytes());
        assert_eq!((found.messages, found.findings.len()), (400, MOST_FINDINGS));
        assert_eq!(found.more + MOST_FINDINGS, found.counts.iter().sum::<usize>());
        // The numbers are the least that there are: the report of one message lists some of its findings.
        let found = look(format!("{MSH}OBX|1|NM|A||{}||||||F\r", "x~".repeat(2000)).into_bytes());
        assert!(found.findings.len() + found.more > found.counts.iter().sum(), "{:?}", found.counts);
        let undecodable = [MSH.as_bytes(), b"PID|\xff\r"].concat().repeat(300);
        let found = look(undecodable);
        assert_eq!((found.unreadable.len(), found.more), (MOST_FINDINGS, 100));
        assert!(found.unreadable[0].detail.contains("UTF-8"), "{}", found.unreadable[0].detail);
    }

    #[test]
    fn a_page_gives_a_file_and_gets_json() {
        reserve(3);
        of(&FILE).copy_from_slice(b"MSH");
        let length = validate();
        let answer = of(&ANSWER).clone();
        assert_eq!(answer.len(), length);
        let found: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&found["messages"], &found["findings"][0]["severity"]), (&1.into(), &"error".into()));
    }
}
