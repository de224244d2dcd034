//! Any message that is derived from a structure fits it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Code, validate};
use crate::dictionary::{Dictionary, Item, Node};

/// Makes the choices that a structure leaves open.
trait Choose {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize;
}

/// As few segments as possible, or every possible one, repeated and with the n-th option of each choice.
struct Always {
    full: bool,
    option: usize,
}

impl Choose for Always {
    fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else if self.full {
            self.option.max(1) % end
        } else {
            0
        }
    }
}

/// Chooses by numbers that proptest finds, cyclically.
struct By<'a> {
    numbers: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Choose for By<'_> {
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.numbers.next().copied().unwrap_or_default()) % end.max(1)
    }
}

/// Derives the segments of a message from a structure.
fn derive(items: &[Item], any: &[&'static str], choose: &mut impl Choose, most: usize, segments: &mut Vec<&'static str>) {
    for item in items {
        // None, one or two; at least one if the item is required.
        let times = match (item.required, item.repeats) {
            (true, false) => 1,
            (true, true) => 1 + choose.below(2),
            (false, false) => choose.below(2),
            (false, true) => choose.below(3),
        };
        for _ in 0..times {
            if segments.len() >= most && !item.required {
                break;
            }
            match &item.node {
                Node::Segment(id) => segments.push(id),
                Node::Any => segments.extend(any.get(choose.below(any.len()))),
                Node::Group { items, .. } => derive(items, any, choose, most, segments),
                Node::Choice(options) => {
                    let option = options.get(choose.below(options.len()));
                    derive(option.map(std::slice::from_ref).unwrap_or_default(), any, choose, most, segments);
                }
            }
        }
    }
}

/// The findings of `validate` about the order of a derived message.
fn misfits(dictionary: &Dictionary, name: &str, choose: &mut impl Choose) -> Vec<String> {
    let structure = dictionary.structure(name).unwrap();
    let mut any: Vec<_> = dictionary.segments().map(|it| it.id).filter(|it| !matches!(*it, "ADD" | "DSC" | "MSH")).collect();
    any.sort_unstable();
    let mut segments = Vec::new();
    derive(&structure.items, &any, choose, 200, &mut segments);
    let version = dictionary.version();
    let mut text = String::new();
    for id in &segments {
        match *id {
            "MSH" => text.push_str(&format!("MSH|^~\\&|||||20260101||{}^^{name}|1|P|{version}\r", name.get(..3).unwrap())),
            id => text.push_str(&format!("{id}|\r")),
        }
    }
    let order =
        [Code::MissingSegment, Code::MisplacedSegment, Code::UnexpectedSegment, Code::UnknownSegment, Code::UnknownStructure];
    let message = domain::Er7::canonical(&text).unwrap();
    let report = validate(&message);
    assert_eq!(report.structure, Some(name), "{text}");
    let found = report.findings.iter().filter(|it| order.contains(&it.code));
    found.map(|it| format!("{} {name} of {version}: {segments:?}", it.detail)).collect()
}

/// All structures of all versions, as version and name.
fn structures() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = Dictionary::versions()
        .flat_map(|version| Dictionary::of(version).structures().map(move |name| (version, name)))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn the_shortest_and_the_longest_message_of_each_structure_fit_it() {
    let (mut count, mut bad) = (0, Vec::new());
    for (version, name) in structures() {
        let dictionary = Dictionary::of(version);
        bad.extend(misfits(dictionary, name, &mut Always { full: false, option: 0 }));
        for option in 1..5 {
            bad.extend(misfits(dictionary, name, &mut Always { full: true, option }));
        }
        count += 1;
    }
    println!("{count} structures");
    assert!(bad.is_empty() && count > 1000, "{count} structures, {} misfits: {:#?}", bad.len(), bad.first());
}

#[test]
fn any_message_derived_from_a_structure_fits_it() {
    let all = structures();
    let strategy = (0..all.len(), prop::collection::vec(any::<u8>(), 1..64));
    let mut runner = TestRunner::new(Config { cases: 4000, ..Config::default() });
    let ran = runner.run(&strategy, |(which, numbers)| {
        let (version, name) = all[which];
        let bad = misfits(Dictionary::of(version), name, &mut By { numbers: numbers.iter().cycle() });
        prop_assert!(bad.is_empty(), "{}", bad.first().map(String::as_str).unwrap_or_default());
        Ok(())
    });
    ran.unwrap();
}
