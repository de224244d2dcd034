//! What a fuzzer found once, tried again: every file of `fuzz/regressions`, by the code that the fuzzer runs.

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the library of the fuzzer, where a panic is what is looked for"
)]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

#[test]
fn no_finding_of_the_fuzzer_comes_again() {
    let targets: [fn(&[u8]); 6] =
        [targets::ack, targets::batch, targets::canonical, targets::document, targets::rendition, targets::validation];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
    let mut tried = 0;
    for found in std::fs::read_dir(&folder).unwrap() {
        let found = found.unwrap().path();
        let bytes = std::fs::read(&found).unwrap();
        println!("{}", found.display());
        // What one of them could not stand, none should.
        for target in targets {
            target(&bytes);
        }
        tried += 1;
    }
    assert!(tried > 0);
}
