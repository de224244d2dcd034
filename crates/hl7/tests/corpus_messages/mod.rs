//! The messages in the files of the corpus, for the tests of this crate and its benchmark.

use domain::Er7;
use sluice_hl7::Body;

#[allow(dead_code, reason = "a test may want only the other one")]
/// Every body of every file that can be decoded, with the file's name; of a batch, each of its messages.
pub(crate) fn messages() -> Vec<(String, Er7)> {
    let samples = corpus::messages().unwrap();
    samples.iter().flat_map(|sample| bodies(&sample.bytes).into_iter().map(move |it| (format!("{sample:?}"), it))).collect()
}

/// The messages of one body, in canonical form.
pub(crate) fn bodies(body: &[u8]) -> Vec<Er7> {
    Body::of(body.to_vec(), None).messages().filter_map(|it| Some(it.read().ok()?.er7)).collect()
}
