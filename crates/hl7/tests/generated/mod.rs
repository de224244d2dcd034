//! Messages of the shape of HL7v2, with what senders do to it: custom delimiters, five of them, segments of a site, escape
//! sequences that are right and that are not, delimiters at the end, blank segments.

use proptest::prelude::*;
use proptest::sample::select;
use sluice_hl7::{Delimiters, Dictionary};

/// A message, segments ended by CR, with a readable MSH and a segment that is not blank at its end.
pub(crate) fn message() -> impl Strategy<Value = String> {
    // Two of three are as nearly all are.
    let delimiters = prop_oneof![4 => Just(Delimiters::USUAL), 1 => five(), 1 => custom()];
    (delimiters, version(), select(vec!["ADT^A01^ADT_A01", "ORU^R01", "SIU^S12", "ACK", "", "MDM^T02^MDM_T02"])).prop_flat_map(
        |(delimiters, version, message_type)| {
            let body = prop::collection::vec(segment(Dictionary::of(version)), 0..12);
            (header(), body, trailing()).prop_map(move |(header, body, trailing)| {
                let mut text = String::from("MSH");
                text.push(delimiters.field);
                text.extend(encoding_characters(&delimiters));
                let message_type = message_type.replace('^', &delimiters.component.map(String::from).unwrap_or_default());
                for value in header.iter().map(String::as_str).chain([&*message_type, "4711", "P", version]) {
                    text.push(delimiters.field);
                    text.push_str(value);
                }
                text.push('\r');
                for (name, fields) in body {
                    text.push_str(name);
                    for field in fields {
                        text.push(delimiters.field);
                        write_field(&field, &delimiters, &mut text);
                    }
                    text.extend(std::iter::repeat_n(delimiters.field, trailing));
                    text.push('\r');
                }
                text.push_str("ZZZ\r");
                text
            })
        },
    )
}

/// One text in a component or subcomponent, as pieces.
#[derive(Clone, Debug)]
enum Piece {
    /// Whose delimiters are escaped.
    Text(String),
    /// Put between two escape characters.
    Sequence(&'static str),
    /// As it is, whatever it does.
    Raw(char),
}

type Field = Vec<Vec<Vec<Vec<Piece>>>>;

fn version() -> impl Strategy<Value = &'static str> {
    let known: Vec<&'static str> = Dictionary::versions().collect();
    prop_oneof![9 => select(known), 1 => select(vec!["", "2.3.z", "9.1", "V2.4"])]
}

fn header() -> impl Strategy<Value = [String; 6]> {
    prop::array::uniform6("[A-Z0-9]{0,8}")
}

fn trailing() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 1..4usize]
}

fn five() -> impl Strategy<Value = Delimiters> {
    Just(Delimiters { truncation: Some('#'), ..Delimiters::USUAL })
}

/// Two to six different characters in the order of MSH-1 and MSH-2, of ASCII and not.
fn custom() -> impl Strategy<Value = Delimiters> {
    let pool: Vec<char> = "|^~\\&#$%*!@/+:;=<>?-,'`{}[]()\u{a7}\u{2020}".chars().collect();
    (Just(pool).prop_shuffle(), 2..7usize).prop_map(|(pool, count)| {
        let at = |index: usize| pool.get(index).copied().filter(|_| index < count);
        Delimiters {
            field: at(0).unwrap_or('|'),
            component: at(1),
            repetition: at(2),
            escape: at(3),
            subcomponent: at(4),
            truncation: at(5),
        }
    })
}

/// MSH-2.
fn encoding_characters(delimiters: &Delimiters) -> impl Iterator<Item = char> {
    let Delimiters { component, repetition, escape, subcomponent, truncation, .. } = *delimiters;
    [component, repetition, escape, subcomponent, truncation].into_iter().flatten()
}

fn segment(dictionary: &'static Dictionary) -> impl Strategy<Value = (&'static str, Vec<Field>)> {
    let mut known: Vec<(&'static str, usize)> = dictionary.segments().map(|it| (it.id, it.fields.len())).collect();
    known.sort_unstable();
    let odd = select(vec![("ZPI", 5), ("Z", 2), ("pid", 3), ("", 0), (" ", 1), ("PIDX", 4), ("MSH", 4), ("É1", 2)]);
    prop_oneof![8 => select(known), 1 => odd].prop_flat_map(|(name, fields)| {
        // Senders fill the first fields, and some past the last one.
        let count = if name.trim().is_empty() { 0..1 } else { 0..(fields.min(20) + 3) };
        (Just(name), prop::collection::vec(field(), count))
    })
}

fn field() -> impl Strategy<Value = Field> {
    let full = prop::collection::vec(prop::collection::vec(prop::collection::vec(value(), 1..3), 1..4), 1..3);
    let plain = value().prop_map(|it| vec![vec![vec![it]]]);
    prop_oneof![3 => Just(Vec::new()), 4 => plain, 2 => full]
}

fn value() -> impl Strategy<Value = Vec<Piece>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => Just(vec![Piece::Text("\"\"".to_owned())]),
        5 => "[A-Z][a-z0-9 .-]{0,12}".prop_map(|it| vec![Piece::Text(it)]),
        1 => prop::collection::vec(piece(), 1..4),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    let sequences =
        vec!["F", "S", "R", "E", "T", "P", ".br", ".sp 2", "H", "N", "X0D", "X0d0A", "X41", "XC3BC", "X", "Z1", "C2842"];
    prop_oneof![
        4 => "[ -~éß李\u{1f600}\t\"]{1,10}".prop_map(Piece::Text),
        3 => select(sequences).prop_map(Piece::Sequence),
        1 => select(vec!['\\', '^', '&', '~', '\u{0}', '\u{1}', '\u{7f}', '\u{85}', '\u{2028}', '\u{feff}', '\n']).prop_map(Piece::Raw),
    ]
}

fn write_field(field: &Field, delimiters: &Delimiters, text: &mut String) {
    for (i, repetition) in field.iter().enumerate() {
        text.extend(delimiters.repetition.filter(|_| i > 0));
        for (i, component) in repetition.iter().enumerate() {
            text.extend(delimiters.component.filter(|_| i > 0));
            for (i, value) in component.iter().enumerate() {
                text.extend(delimiters.subcomponent.filter(|_| i > 0));
                for piece in value {
                    match piece {
                        Piece::Text(it) => delimiters.escape(it, text),
                        Piece::Sequence(it) => {
                            text.extend(delimiters.escape);
                            text.push_str(it);
                            text.extend(delimiters.escape);
                        }
                        Piece::Raw(it) => text.push(*it),
                    }
                }
            }
        }
    }
}
