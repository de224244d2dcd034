//! Content types of HL7, and content negotiation by the `Accept` header (RFC 9110 §12.5.1).

use headers_accept::Accept;
use mediatype::names::{APPLICATION, PLAIN, Q, TEXT};
use mediatype::{MediaType, Name};

/// The content types of ER7: the registered one, the one that Google's and Azure's clients use, and plain text.
pub static ER7: [MediaType<'static>; 3] = [
    MediaType::new(APPLICATION, Name::new_unchecked("hl7-v2")),
    MediaType::from_parts(
        Name::new_unchecked("x-application"),
        Name::new_unchecked("hl7-v2"),
        Some(Name::new_unchecked("er7")),
        &[],
    ),
    MediaType::new(TEXT, PLAIN),
];

/// The available media type that an `Accept` header prefers; the first one without such a header. `None` if none is acceptable.
pub fn negotiate<'a>(accept: Option<&str>, available: &[&'a MediaType<'static>]) -> Option<&'a MediaType<'static>> {
    match accept.map(str::trim).filter(|it| !it.is_empty()) {
        None => available.first().copied(),
        Some(accept) => readable(accept)?.negotiate(available.iter().copied()),
    }
}

/// The media ranges of an `Accept` header with their weights. Invalid ranges are skipped (Java's own client sends a bare `*` among
/// valid ones), and so are other parameters.
fn readable(accept: &str) -> Option<Accept> {
    let ranges = accept.split(',').filter_map(|range| MediaType::parse(range.trim()).ok());
    let ranges = ranges.map(|range| {
        let weight: Vec<_> = range.params.iter().filter(|(name, _)| *name == Q).cloned().collect();
        MediaType { params: weight.into(), ..range }.to_string()
    });
    ranges.collect::<Vec<_>>().join(",").parse().ok()
}
