use domain::{MessageId, State, Summary};

use super::*;
use crate::Kind;

fn entry() -> Entry {
    Entry {
        message_id: MessageId::of_canonical(b"x"),
        source: "west".parse().unwrap(),
        received_at: "2026-11-28T21:00:00.120Z".parse().unwrap(),
        stored_at: "2026-11-28T21:00:01Z".parse().ok(),
        state: State::Parsed,
        bucket: "lake".to_owned(),
        key: "source=west/x.hl7".to_owned(),
        version_id: None,
        json_key: None,
        raw_key: None,
        charset: None,
        summary: Summary { message_type: Some("ORU".to_owned()), ..Summary::default() },
    }
}

/// The rows without the first three columns and without what is absent.
fn shown(table: Table, text: &str) -> Vec<String> {
    shown_by(Mapping::standard().unwrap(), table, text)
}

fn shown_by(mapping: &Mapping, table: Table, text: &str) -> Vec<String> {
    let columns = mapping.columns(table);
    let row = |row: Row| {
        assert_eq!(row.len(), columns.len());
        let cells = columns.iter().zip(row).skip(3).filter_map(|(column, cell)| {
            let cell = cell?;
            assert_eq!(cell.kind(), column.kind, "{}", column.name);
            Some(format!("{}={cell}", column.name))
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    mapping.rows(table, &entry(), Some(&Er7::canonical(text).unwrap())).into_iter().map(row).collect()
}

const REPORT: &str = "MSH|^~\\&|LAB||||20260103+0100||ORU^R01|7|P|2.5.1\r\
                      PID|1||4711^^^LAB&1.2&ISO^MR~5||DOE&VAN^JANE||1980|F\rPV1|1|I|W1^2^3||||||||||||||||V9\r\
                      ORC|RE|P0\rOBR|1|P1|F1|24323-8^Panel^LN|||202601010203\r\
                      OBX|1|NM|2951-2^Sodium^LN||140|mmol/L^^UCUM|135-145|N~A|||F|||20260102\r\
                      OBX|2|SN|1^a||<^5\rOBX|3|SN|1||^1^:^128\rOBX|4|ST|1||>=0.5~1e5~NaN~007\r\
                      OBX|5|CWE|1||A^Text\\T\\^L\rOBX|6|ED|1||LAB^AP^PDF^Base64^JVBERg==\rOBX|7|ST|1||\"\"\r\
                      OBR|2||F2\rOBX|1|ST|2||><5\r";

#[test]
fn a_result_is_a_number_only_where_it_is_one() {
    let found = shown(Table::Observations, REPORT);
    let patient = "patient_id=4711 patient_authority=LAB patient_authority_oid=1.2 patient_identifiers=4711^^^LAB&1.2&ISO^MR~5";
    let sodium = format!(
        "{patient} placer_number=P1 filler_number=F1 service_code=24323-8 number=1 set_id=1 code=2951-2 code_text=Sodium \
         code_system=LN value_type=NM repetition=1 value=140 value_number=140 unit=mmol/L unit_system=UCUM \
         reference_range=135-145 range_low=135 range_high=145 flags=N~A status=F time=20260102 time_local=2026-01-02T00:00:00 \
         time_precision=day time_from=OBX-14 message_time=20260103+0100"
    );
    assert_eq!(found[0], sodium);
    let values: Vec<_> = found.iter().skip(1).map(|it| it.split_once("value_type=").unwrap().1).collect();
    let time = "time=202601010203 time_local=2026-01-01T02:03:00 time_utc=2026-01-01T01:03:00.000Z time_zone=+0100 \
                time_precision=minute time_from=OBR-7 message_time=20260103+0100";
    let expected = [
        "SN repetition=1 value=<5 comparator=< value_number=5",
        "SN repetition=1 value=1:128 value_first=1 value_separator=: value_second=128",
        "ST repetition=1 value=>=0.5 comparator=>= value_number=0.5",
        "ST repetition=2 value=1e5",
        "ST repetition=3 value=NaN",
        "ST repetition=4 value=007 value_number=7",
        "CWE repetition=1 value=A value_text=Text& value_system=L",
        "ED repetition=1",
        "ST repetition=1",
    ];
    let mut expected = expected.map(|it| format!("{it} {time}")).to_vec();
    expected.push("ST repetition=1 value=><5 message_time=20260103+0100".to_owned());
    assert_eq!(values, expected);
    // The second order has neither the ORC nor the time of the first.
    assert!(found[10].starts_with(&format!("{patient} filler_number=F2 number=8")), "{}", found[10]);
    // Digits are a number only in a type that may hold one. An OBX-2 that is absent or null says nothing against it.
    for (value_type, value, expected) in [
        ("DT", "20260903", "value_type=DT repetition=1 value=20260903"),
        ("TS", "202609031200", "value_type=TS repetition=1 value=202609031200"),
        ("DTM", "20260903120000.5", "value_type=DTM repetition=1 value=20260903120000.5"),
        ("TM", "1200", "value_type=TM repetition=1 value=1200"),
        ("CX", "4711^^^LAB", "value_type=CX repetition=1 value=4711"),
        ("NR", "1^5", "value_type=NR repetition=1 value=1"),
        ("TX", "<5", "value_type=TX repetition=1 value=<5 comparator=< value_number=5"),
        ("FT", "7", "value_type=FT repetition=1 value=7 value_number=7"),
        ("", "6.3", "repetition=1 value=6.3 value_number=6.3"),
        ("\"\"", "6.3", "repetition=1 value=6.3 value_number=6.3"),
    ] {
        let text = format!("MSH|^~\\&|LAB\rOBX|1|{value_type}|1||{value}|||||||||20260102\r");
        let time = "time=20260102 time_local=2026-01-02T00:00:00 time_precision=day time_from=OBX-14";
        assert_eq!(shown(Table::Observations, &text), [format!("number=1 set_id=1 code=1 {expected} {time}")]);
    }
}

#[test]
fn each_table_has_its_segments() {
    let patient = "patient_id=4711 patient_authority=LAB";
    assert_eq!(
        shown(Table::Patients, REPORT),
        [format!(
            "{patient} patient_authority_oid=1.2 patient_id_type=MR patient_identifiers=4711^^^LAB&1.2&ISO^MR~5 family_name=DOE \
             given_name=JANE birth_time=1980 birth_time_local=1980-01-01T00:00:00 birth_time_precision=year sex=F"
        )]
    );
    let visit = "visit_number=V9 patient_class=I point_of_care=W1 room=2 bed=3";
    assert_eq!(shown(Table::Visits, REPORT), [format!("{patient} {visit}")]);
    let document = "placer_number=P1 filler_number=F1 number=6 repetition=1 code=1 source_application=LAB data_type=AP \
                    data_subtype=PDF encoding=Base64 bytes=4 time=202601010203";
    let found = shown(Table::Documents, REPORT);
    assert!(found.len() == 1 && found[0].starts_with(&format!("{patient} {document}")), "{found:?}");
    let msh = "number=1 segment=MSH occurrence=1 field=1 repetition=1 component=1 subcomponent=1 field_name=Field Separator name=Field \
               Separator value=|";
    let fields = shown(Table::Fields, REPORT);
    assert_eq!(fields[0], msh);
    let oid = "number=2 segment=PID occurrence=1 field=3 repetition=1 component=4 subcomponent=2 field_name=Patient Identifier List \
               name=Universal ID value=1.2";
    assert!(fields.contains(&oid.to_owned()), "{fields:#?}");
    assert!(fields.iter().any(|it| it.ends_with("value=\"\"")), "HL7's null is a value of this table");
    let segments = shown(Table::Segments, REPORT);
    assert_eq!(segments[0], format!("number=1 segment=MSH occurrence=1 er7={}", REPORT.split('\r').next().unwrap()));
    assert_eq!(shown(Table::Raw, REPORT), [format!("er7={REPORT}")]);
    assert!(shown(Table::Messages, REPORT)[0].contains("message_type=ORU"));
    // What cannot be read is in the tables that show it as it is.
    for (table, rows) in [(Table::Messages, 1), (Table::Raw, 1), (Table::Segments, 0), (Table::Observations, 0)] {
        assert_eq!(shown(table, "no HL7").len(), rows, "{table}");
    }
}

#[test]
fn values_of_a_sites_own_segments_have_the_names_of_the_schema() {
    let schema = hl7::Schema::read(include_str!("../../../../examples/z-segments/schema.toml")).unwrap();
    let named = Mapping::standard().unwrap().clone().with_schema(schema);
    let text = "MSH|^~\\&|A||||||ADT^A01|1|P|2.5.1\rZPI|1|x|de^German\r";
    let place = "number=2 segment=ZPI occurrence=1";
    let rows = |names: [&str; 4]| {
        let places = [
            "field=1 repetition=1 component=1 subcomponent=1",
            "field=2 repetition=1 component=1 subcomponent=1",
            "field=3 repetition=1 component=1 subcomponent=1",
            "field=3 repetition=1 component=2 subcomponent=1",
        ];
        let values = ["value=1", "value=x", "value=de", "value=German"];
        (0..4).map(|at| format!("{place} {}{} {}", places[at], names[at], values[at])).collect::<Vec<_>>()
    };
    let of_zpi = |mapping: &Mapping| {
        let mut rows = shown_by(mapping, Table::Fields, text);
        rows.retain(|row| row.contains("segment=ZPI"));
        rows
    };
    let language = " field_name=Preferred Language name";
    let expected =
        rows([" field_name=Set ID - ZPI name=Set ID - ZPI", "", &format!("{language}=Identifier"), &format!("{language}=Text")]);
    assert_eq!(of_zpi(&named), expected);
    assert_eq!(of_zpi(Mapping::standard().unwrap()), rows([""; 4]));
}

#[test]
fn an_order_is_an_obr_or_an_orc_that_stands_alone() {
    let orders = "MSH|^~\\&|P||||2026||OMP^O09|1|P|2.5.1\rPID|1||1\rORC|NW|A\rRXO|x\rORC|NW|B\rOBR|1||F\rOBR|2||G\r\
                  PID|1||2\rORC|CA|C\r";
    let expected = [
        "patient_id=1 order_control=NW placer_number=A",
        "patient_id=1 order_control=NW placer_number=B filler_number=F",
        "patient_id=1 filler_number=G",
        "patient_id=2 order_control=CA placer_number=C",
    ];
    assert_eq!(shown(Table::Orders, orders), expected);
}

/// An OBX that laboratories send a number in: NM and SN.
#[test]
fn the_numbers_of_the_corpus_are_found() {
    let mapping = Mapping::standard().unwrap();
    let columns = mapping.columns(Table::Observations);
    let at = |name: &str| columns.iter().position(|it| it.name == name).unwrap();
    let (kind, value, number, first) = (at("value_type"), at("value"), at("value_number"), at("value_first"));
    let (mut numeric, mut found, mut texts) = (0, 0, 0);
    for sample in corpus::messages().unwrap() {
        let body = hl7::Body::of(sample.bytes.clone(), None);
        let Some(Ok(read)) = body.message(1).map(|it| it.read()) else { continue };
        for row in mapping.rows(Table::Observations, &entry(), Some(&read.er7)) {
            for (column, cell) in columns.iter().zip(&row) {
                assert!(cell.as_ref().is_none_or(|it| it.kind() == column.kind), "{}: {}", sample.name(), column.name);
            }
            let has_number = row[number].is_some() || row[first].is_some();
            match &row[kind] {
                Some(Cell::Text(kind)) if kind == "NM" || kind == "SN" => {
                    numeric += 1;
                    found += usize::from(has_number);
                    // The text is beside the number, and there too where none is found.
                    assert!(!has_number || row[value].is_some(), "{}", sample.name());
                }
                Some(Cell::Text(kind)) if kind == "ST" => texts += usize::from(has_number),
                _ => {}
            }
        }
    }
    println!("{found} of {numeric}, and {texts} in ST");
    let is_whole = std::env::var_os(corpus::VARIABLE).is_some();
    assert!(if is_whole { found >= 985 && numeric >= 998 } else { found >= 14 }, "{found} of {numeric}");
    assert_eq!(columns[number].kind, Kind::Number);
}
