use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Delimiters;
use crate::delimiters::segments;

/// The name of a place such as `PID-3.4.1`.
fn name(version: &str, place: &str) -> Option<&'static str> {
    let (segment, positions) = place.split_once('-').unwrap();
    let mut positions = positions.split('.').map(|it| it.parse().unwrap());
    let field = Dictionary::of(version).segment(segment)?.field(positions.next().unwrap())?;
    let found = positions.try_fold(field, |it, position| it.data_type.as_ref()?.component(position))?;
    Some(found.name)
}

fn elements(dictionary: &Dictionary) -> impl Iterator<Item = &Element> {
    let of_types = dictionary.data_types.values().flat_map(|it| &it.components);
    dictionary.segments().flat_map(|it| &it.fields).chain(of_types)
}

#[test]
fn places_have_the_names_of_the_standard() {
    let expected = [
        ("2.1", "PID-5", Some("Patient Name")),
        ("2.1", "PID-19", Some("SSN Number - Patient")),
        ("2.1", "MSH-9", Some("Message Type")),
        ("2.2", "IN1-17", Some("Insured's Relationship to Patient")),
        ("2.3", "PID-3", Some("Patient ID (Internal ID)")),
        ("2.3", "PID-3.4.1", Some("Namespace ID")),
        ("2.3", "PID-5.1", Some("Family Name")),
        ("2.3", "MSH-9.2", Some("Trigger Event")),
        ("2.5.1", "MSH-9.3", Some("Message Structure")),
        ("2.5.1", "MSH-12.1", Some("Version ID")),
        ("2.5.1", "PID-1", Some("Set ID - PID")),
        ("2.5.1", "PID-3", Some("Patient Identifier List")),
        ("2.5.1", "PID-3.4", Some("Assigning Authority")),
        ("2.5.1", "PID-3.4.1", Some("Namespace ID")),
        ("2.5.1", "PID-5.1", Some("Family Name")),
        ("2.5.1", "PID-5.1.1", Some("Surname")),
        ("2.5.1", "PID-8", Some("Administrative Sex")),
        ("2.5.1", "PID-39", Some("Tribal Citizenship")),
        ("2.5.1", "PID-40", None),
        ("2.5.1", "PID-8.1", None),
        ("2.5.1", "OBR-9", Some("Collection Volume")),
        ("2.5.1", "OBX-5", Some("Observation Value")),
        ("2.5.1", "OBX-20", Some("Reserved")),
        ("2.5.1", "OBX-23", Some("Performing Organization Name")),
        ("2.5.1", "OBX-23.10", Some("Organization Identifier")),
        ("2.7.1", "PID-40", Some("Patient Telecommunication Information")),
        ("2.8", "PID-2", Some("Patient ID")),
        ("2.8", "PID-10.14", Some("Coding System OID")),
        ("2.8.2", "OBX-3.2", Some("Text")),
        ("2.8.2", "PRT-5.3", Some("Given Name")),
        ("2.8", "ZPI-1", None),
        ("2.7", "AL1-6", Some("Identification Date")),
        ("2.8.2", "AL1-6", Some("Identification Date")),
        ("2.3", "MRG-7.2", Some("Given Name")),
        ("2.5.1", "QPD-7", Some("User Parameters (in Successive Fields)")),
        ("2.5.1", "RDT-40", Some("Column Value")),
        ("2.3", "SFT-1", None),
    ];
    for (version, place, expected) in expected {
        assert_eq!(name(version, place), expected, "{place} of {version}");
    }
    assert_eq!(Dictionary::of("2.3").segment("MSH").unwrap().name, "Message Header");
    assert_eq!(Dictionary::of("2.5.1").segment("PID").unwrap().name, "Patient Identification");
}

#[test]
fn a_place_has_its_data_type_table_usage_and_repetitions() {
    let dictionary = Dictionary::of("2.5.1");
    let pid = dictionary.segment("PID").unwrap();
    let sex = pid.field(8).unwrap();
    assert_eq!((sex.data_type.as_ref().unwrap().id, sex.table, sex.usage), ("IS", Some(1), Usage::Optional));
    assert_eq!((pid.field(3).unwrap().usage, pid.field(3).unwrap().repetitions), (Usage::Required, None));
    assert_eq!(pid.field(0).map(|it| it.name), None);
    let value = dictionary.segment("OBX").unwrap().field(5).unwrap();
    assert!(value.varies && value.data_type.is_none());
    assert_eq!(dictionary.data_type("XPN").unwrap().component(2).unwrap().name, "Given Name");
    assert_eq!(dictionary.data_type("NM").unwrap().components.len(), 0);
    assert_eq!(dictionary.data_type("???").map(|it| it.id), None);
    // Withdrawn, and sent all the same.
    assert_eq!(Dictionary::of("2.8").data_type("CE").unwrap().component(1).unwrap().name, "Identifier");
    assert_eq!(Dictionary::of("2.8").segment("PID").unwrap().field(2).unwrap().usage, Usage::Withdrawn);
    let status = dictionary.table(85).unwrap();
    assert!(status.has("F") && !status.has("f") && !status.has(""));
    assert!(dictionary.table(136).unwrap().has("Y") && dictionary.table(9998).is_none() && dictionary.table(399).is_none());
}

#[test]
fn mistakes_of_the_sources_are_corrected() {
    let pv1 = Dictionary::of("2.3").segment("PV1").unwrap();
    assert!([7, 8, 15, 17].into_iter().all(|it| pv1.field(it).unwrap().repetitions.is_none()));
    for version in ["2.5", "2.5.1", "2.6", "2.8.2"] {
        let required = |data_type: &str| {
            let components = &Dictionary::of(version).data_type(data_type).unwrap().components;
            (1..).zip(components).filter(|(_, it)| it.usage == Usage::Required).map(|(position, _)| position).collect::<Vec<_>>()
        };
        assert_eq!([required("MSG"), required("FN"), required("ED")], [vec![1, 2, 3], vec![1], vec![2, 4, 5]], "{version}");
        assert_eq!(required("CX").first(), Some(&1), "{version}");
    }
    let of = |name: &str, events: &[&str]| events.iter().map(|event| format!("{name}_{event}")).collect::<Vec<_>>();
    let responses = [
        of("ADR", &["A19"]),
        of("MFK", &["M03", "M04", "M05", "M07"]),
        of("ORF", &["R02"]),
        of("RPA", &["I09", "I10", "I11"]),
        of("RPI", &["I04"]),
        of("RPR", &["I03"]),
        of("RRI", &["I13", "I14", "I15"]),
        of("SRR", &["S02", "S03", "S04", "S05", "S06", "S07", "S08", "S09", "S10", "S11"]),
    ]
    .concat();
    assert_eq!(responses.len(), 24);
    for name in responses {
        assert!(Dictionary::of("2.3").structure(&name).is_some(), "{name}");
    }
    assert!(Dictionary::is_version("2.9") && Dictionary::is_version("2.5") && !Dictionary::is_version("2.3.z"));
}

#[test]
fn a_structure_is_found_by_its_name_and_by_the_event() {
    let dictionary = Dictionary::of("2.5.1");
    assert_eq!(dictionary.structure("ADT_A04").unwrap().id, "ADT_A01");
    let result = dictionary.structure("ORU_R01").unwrap();
    assert_eq!(result.items.first().unwrap().node, Node::Segment("MSH"));
    assert_eq!(dictionary.structure("ADT_Z99"), None);
    for (version, name) in [("2.1", "ACK"), ("2.2", "ORM_O01"), ("2.3", "SIU_S13"), ("2.7.1", "ORU_R01"), ("2.8.2", "VXU_V04")] {
        assert!(Dictionary::of(version).structure(name).is_some(), "{name} of {version}");
    }
}

#[test]
fn versions_are_read_as_senders_write_them() {
    let expected = [
        ("2.5.1", "2.5.1"),
        (" 2.3 ", "2.3"),
        ("v2.4", "2.4"),
        ("2.3.z", "2.3"),
        ("2.3.2", "2.3.1"),
        ("2.5.1^USA", "2.5"),
        ("2.6.1", "2.6"),
        ("2.10", "2.8.2"),
        ("2.0", "2.1"),
        ("2", "2.8.2"),
        ("3.0", "2.8.2"),
        ("", "2.8.2"),
        ("99999999.1", "2.8.2"),
        ("P", "2.8.2"),
    ];
    for (asked, expected) in expected {
        assert_eq!(Dictionary::of(asked).version(), expected, "{asked:?}");
    }
    assert_eq!(Dictionary::exactly("2.3.z").map(Dictionary::version), None);
    assert_eq!(Dictionary::exactly("2.7.1").map(Dictionary::version), Some("2.7.1"));
}

#[test]
fn all_data_of_the_dictionary_is_read() {
    for (index, version) in Dictionary::versions().enumerate() {
        let dictionary = Dictionary::of(version);
        let reader = Reader::of(index, "");
        let lines = |kind| reader.definitions.iter().filter(move |(key, _)| key.0 == kind);
        let elements_written: usize = lines("segment").chain(lines("type")).map(|(_, (_, lines))| lines.len()).sum();
        // The primitive types have no lines.
        assert_eq!(elements(dictionary).count(), elements_written, "{version}");
        assert_eq!(dictionary.tables.len(), lines("table").count(), "{version}");
        assert_eq!(dictionary.segments.len(), lines("segment").count(), "{version}");
        for (_, name) in lines("structure").chain(lines("event")).map(|(key, _)| key) {
            let structure = dictionary.structure(name).unwrap_or_else(|| panic!("{name} of {version}"));
            let mut items: Vec<&Item> = structure.items.iter().collect();
            while let Some(item) = items.pop() {
                match &item.node {
                    Node::Segment(id) => assert!(dictionary.segment(id).is_some(), "{id} in {name} of {version}"),
                    Node::Any => {}
                    Node::Group { items: inside, .. } | Node::Choice(inside) => items.extend(inside),
                }
            }
        }
        for table in dictionary.tables.values() {
            assert!(table.codes.is_sorted() && !table.codes.contains(&""), "{} of {version}", table.name);
        }
        for segment in dictionary.segments() {
            let plain = segment.id.len() == 3 && segment.id.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit());
            assert!(plain && !segment.id.starts_with('Z') && !segment.fields.is_empty(), "{} of {version}", segment.id);
        }
    }
}

/// Neither a data type nor open: CM, which older versions leave undefined, NUL and a withdrawn position.
#[test]
fn nearly_every_place_has_a_data_type() {
    for version in Dictionary::versions() {
        let of_no_type = elements(Dictionary::of(version)).filter(|it| it.data_type.is_none() && !it.varies).count();
        let most = if version == "2.1" { 25 } else { 6 };
        assert!(of_no_type <= most, "{of_no_type} of {version}");
    }
}

#[test]
fn names_of_the_dictionary_need_no_escapes() {
    for version in Dictionary::versions() {
        let dictionary = Dictionary::of(version);
        let names = elements(dictionary).map(|it| it.name).chain(dictionary.segments().map(|it| it.name));
        for name in names.chain(dictionary.tables.values().map(|it| it.name)) {
            let plain = name.bytes().all(|it| matches!(it, b' '..=b'~') && !matches!(it, b'"' | b'\\'));
            assert!(plain && !name.is_empty() && name.trim() == name, "{name:?} of {version}");
        }
    }
}

#[test]
fn the_segments_of_the_corpus_are_mostly_known() {
    let (mut known, mut of_site, mut unknown, mut fields) = (0, 0, BTreeMap::<_, usize>::new(), (0, 0));
    // Of the file that shows lines which nobody knows, nothing can be expected.
    for (_, message) in crate::corpus_messages::messages().iter().filter(|(name, _)| !name.contains("value-unknown-lines")) {
        let Ok(delimiters) = Delimiters::of(message) else { continue };
        let version = crate::summarize(message).hl7_version.unwrap_or_default();
        for segment in segments(message) {
            let mut parts = segment.split(delimiters.field);
            let id = parts.next().unwrap().to_owned();
            match Dictionary::of(&version).segment(&id) {
                Some(definition) => {
                    known += 1;
                    let positions = 1..=parts.count();
                    fields.1 += positions.clone().count();
                    fields.0 += positions.filter(|it| definition.field(*it).is_some()).count();
                }
                None if id.starts_with('Z') => of_site += 1,
                None => *unknown.entry(id.chars().take(3).collect::<String>()).or_default() += 1,
            }
        }
    }
    let all = known + unknown.values().sum::<usize>();
    println!(
        "{known} of {all} segments known, and {} of {} of their fields; {of_site} of a site; {unknown:?}",
        fields.0, fields.1
    );
    assert!(all >= 300 && known * 100 >= all * 98);
}

proptest! {
    #[test]
    fn any_version_has_a_dictionary(version in "[v2-9.a-z ]{0,8}|\\PC{0,8}") {
        let found = Dictionary::of(&version).version();
        prop_assert!(Dictionary::versions().any(|it| it == found));
    }
}
