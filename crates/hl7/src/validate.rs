//! Checks a message against its version of HL7: its structure, its fields and their values.
//!
//! A finding never leads to a refusal: the lake accepts messages as hospitals send them. Findings are for the people who connect
//! a sender. A finding says what is wrong and where, in our own words and in names of the standard, and never what a message
//! contains.
//!
//! Validation checks the structure that MSH-9 names, required fields, repetitions, fields and components that the version does
//! not have, the form of numbers, dates and times, and codes of HL7's own tables. A [`Schema`] defines a site's own segments in
//! the same way, and these may stand anywhere. Validation does not check conditions (usage C and the sentences of the standard),
//! lengths, which most versions do not fix, or whether the values make sense together.

use std::collections::HashMap;

use domain::Er7;

use crate::delimiters::{Delimiters, Unreadable, first_segment, segments};
use crate::dictionary::{Dictionary, Schema};
use crate::summary::summarize;

mod components;
mod header;
mod level;
mod order;
mod report;
mod segments;
mod value;

pub use report::{Code, Finding, Location, MOST_FINDINGS, Report, Severity};

use self::segments::Walk;
use header::Header;
use order::Order;

/// Compares a message with its version of HL7. The time is linear in the length of the message, and the memory is that of the
/// report.
pub fn validate(message: &Er7) -> Report {
    validate_with(message, Schema::standard())
}

/// The same, with a schema for a site's own segments.
pub fn validate_with(message: &Er7, schema: &'static Schema) -> Report {
    examine(message, schema).0
}

/// The report, and the number of parts of the message and places of the structure that were visited.
fn examine(message: &Er7, schema: &'static Schema) -> (Report, u64) {
    let mut report = Report { version: None, structure: None, findings: Vec::new(), more: 0 };
    let delimiters = match Delimiters::of(message) {
        Ok(delimiters) => delimiters,
        Err(reason) => {
            let (code, place) = match reason {
                Unreadable::NoMsh(place) => (Code::NoMsh, place),
                Unreadable::Delimiters(place) => (Code::MshDelimiters, place),
            };
            let location = Location { number: place.position, ..Location::default() };
            report.add(code, Some(location), || reason.to_string());
            return (report, 0);
        }
    };
    let (place, msh) = first_segment(message);
    let summary = summarize(message);
    let dictionary = schema.dictionary(summary.hl7_version.as_deref().unwrap_or_default());
    let header = Header::of(msh, place.position, &delimiters, summary, dictionary);
    let structure = header.structure();
    report.version = Some(dictionary.version());
    report.structure = structure.map(|(id, _)| id);
    header.report(report.structure, &mut report);

    let mut order = structure
        .filter(|_| !header.continues())
        .map(|(_, places)| Order::of(places, || last_segments(message, &delimiters, dictionary)));
    let mut walk = Walk::of(&delimiters, dictionary, report, header.continues());
    let mut texts = (1..).zip(segments(message)).peekable();
    while let Some((number, text)) = texts.next() {
        let is_continued = texts.peek().is_some_and(|(_, next)| id(next, &delimiters) == "ADD");
        walk.segment(text, number, order.as_mut(), is_continued);
    }
    walk.end(order.as_ref());
    (walk.report, walk.work + order.map_or(0, |it| it.work))
}

/// The number of the last segment with each id of the dictionary.
fn last_segments(message: &Er7, delimiters: &Delimiters, dictionary: &'static Dictionary) -> HashMap<&'static str, usize> {
    let definitions =
        (1..).zip(segments(message)).filter_map(|(number, it)| Some((dictionary.segment(id(it, delimiters))?.id, number)));
    definitions.collect()
}

fn id<'t>(segment: &'t str, delimiters: &Delimiters) -> &'t str {
    segment.split(delimiters.field).next().unwrap_or_default()
}

#[cfg(test)]
mod derived;
#[cfg(test)]
mod tests;
