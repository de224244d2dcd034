use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn report(text: &str) -> Report {
    validate(&Er7::canonical(text).unwrap())
}

/// `missing-field PID-5`, one for each finding.
fn findings(text: &str) -> Vec<String> {
    let place = |it: &Finding| it.location.map(|it| format!(" {it}")).unwrap_or_default();
    report(text).findings.iter().map(|it| format!("{}{}", it.code, place(it))).collect()
}

/// What is found in a segment of an ORU of 2.5.1 that is fine but for it.
fn of_segment(segment: &str) -> Vec<String> {
    let (before, after) = match segment.split('|').next().unwrap() {
        "PID" => ("", "OBR|1|||A\r"),
        "OBR" => (PID, ""),
        "OBX" => ("PID|1||7||DOE\rOBR|1|||A\r", ""),
        _ => panic!("{segment}"),
    };
    findings(&format!("{MSH}{before}{segment}\r{after}"))
}

const MSH: &str = "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|1|P|2.5.1\r";
const PID: &str = "PID|1||7^^^A&1.2.3&ISO^MR||DOE^JANE||19700101|F\r";

#[test]
fn nothing_is_found_in_a_message_of_the_standard() {
    let text = format!(
        "{MSH}{PID}PV1|1|I\rORC|RE\rOBR|1|||GLU^Glucose^L|||20260101\rOBX|1|NM|GLU^Glucose^L||5.4|mmol/L|||||F\rZZZ|any\r"
    );
    let found = report(&text);
    assert_eq!(found.findings, []);
    assert_eq!((found.version, found.structure, found.more, found.worst()), (Some("2.5.1"), Some("ORU_R01"), 0, None));
}

#[test]
fn a_validation_report_is_written_as_json() {
    let text = format!("{MSH}{PID}OBR|1|||A\rOBX|1|NM|A||5~x||||||F\r");
    let expected = concat!(
        r#"{"version":"2.5.1","structure":"ORU_R01","findings":[{"severity":"error","code":"wrong-format","location":"#,
        r#"{"segment":"OBX","number":4,"occurrence":1,"field":5,"repetition":2},"#,
        r#""detail":"is not a value of the data type NM"}],"more":0}"#,
    );
    assert_eq!(serde_json::to_string(&report(&text)).unwrap(), expected);
    assert_eq!(report(&text).worst(), Some(Severity::Error));
}

#[test]
fn a_message_without_a_readable_msh_has_one_finding() {
    assert_eq!(findings("PID|1"), ["no-msh segment 1"]);
    assert_eq!(findings("\rMSH|ABC|"), ["msh-delimiters segment 1"]);
    assert_eq!(report("PID|1").version, None);
}

#[test]
fn the_version_and_the_structure_of_msh_are_checked() {
    let msh = |nine: &str, twelve: &str| findings(&format!("MSH|^~\\&|||||20260101||{nine}|1|P|{twelve}\rMSA|AA|1"));
    assert_eq!(msh("ACK", "2.5.1"), ["missing-component MSH-9.2", "missing-component MSH-9.3"]);
    assert_eq!(msh("ACK", "2.4"), Vec::<String>::new());
    assert_eq!(msh("ACK^A01^ACK", "2.5.1^USA"), Vec::<String>::new());
    assert_eq!(msh("ACK", "2.3.z"), ["unknown-version MSH-12.1"]);
    assert_eq!(msh("ACK", ""), ["missing-component MSH-9.2", "missing-component MSH-9.3", "missing-field MSH-12"]);
    assert_eq!(msh("XXX^Y01^XXX_Y01", "2.5.1"), ["unknown-structure MSH-9"]);
    assert_eq!(msh("ZZZ^Z01^ZZZ_Z01", "2.5.1"), Vec::<String>::new());
    let adt = |nine: &str| findings(&format!("MSH|^~\\&|||||20260101||{nine}|1|P|2.5.1\rEVN||20260101\r{PID}PV1||I"));
    assert_eq!(adt("ADT^A08^ADT_A01"), Vec::<String>::new());
    assert_eq!(adt("ADT^A08"), ["missing-component MSH-9.3"]);
    assert_eq!(adt("ADT^A08^ADT_A08"), ["wrong-structure MSH-9.3"]);
}

#[test]
fn invalid_unknown_missing_unexpected_and_misplaced_segments_are_found() {
    let text =
        format!("{MSH}PID|1||7||DOE\rno segment|\rpid|1\rXYZ|1\rZAB|1\r|\rOBX|1|ST|A||b||||||F\rOBX|2|ST|A||b||||||F\rRXA\r");
    let found: Vec<_> = findings(&text).into_iter().filter(|it| !it.starts_with("missing-field")).collect();
    let expected = [
        "not-a-segment segment 3",
        "not-a-segment segment 4",
        "unknown-segment segment 5",
        "not-a-segment segment 7",
        "missing-segment OBX",
        "unexpected-segment RXA",
    ];
    assert_eq!(found, expected);
    let text = format!("{MSH}PID|1||7||DOE\rOBX|1|ST|A||b||||||F\rOBR|1|||A\rPID|1||7||DOE\r");
    assert_eq!(findings(&text), ["misplaced-segment OBX", "missing-segment"]);
}

#[test]
fn missing_fields_and_components_are_found() {
    assert_eq!(of_segment("PID|1||7||DOE"), Vec::<String>::new());
    assert_eq!(of_segment("PID|1||~^&"), ["missing-field PID-3", "missing-field PID-5"]);
    assert_eq!(of_segment("PID|1||\"\"||\"\""), Vec::<String>::new());
    let text = "MSH|^~\\&|||||20260101||ACK^A01^ACK|1|P|2.6\rSFT|A^^^^^&&^B|1|1|1\rMSA|AA|1\rERR|||207^x^y|E|^b\r";
    assert_eq!(findings(text), ["missing-component MSH-9.2"; 0]);
    let text = "MSH|^~\\&|||||20260101||ACK^^ACK|1|P|2.6\rMSA|AA|1\r";
    assert_eq!(findings(text), ["missing-component MSH-9.2"]);
}

#[test]
fn parts_that_the_version_does_not_have_are_found() {
    assert_eq!(of_segment("PID|1||7||DOE||||||||||||||||||||||||||||||||||"), Vec::<String>::new());
    let long = format!("PID|1||7||DOE{}||x|y", "|".repeat(34));
    assert_eq!(of_segment(&long), ["extra-field PID-41"]);
    assert_eq!(of_segment("PID|1~2||7||DOE"), ["too-many-repetitions PID-1[2]"]);
    assert_eq!(of_segment("PID|1||7||DOE|||F^x&"), ["extra-component PID-8.2"]);
    assert_eq!(of_segment("PID|1||7||DOE|||F&x"), ["extra-subcomponent PID-8.2"]);
    assert_eq!(of_segment("PID|1||7^^^A&1.2.3&ISO&x||DOE"), ["extra-subcomponent PID-3.4.4"]);
    assert_eq!(of_segment("PID|1||7^^^^^^^^^^x^y||DOE"), ["extra-component PID-3.11"]);
    let newer = "MSH|^~\\&|||||20260101||ACK^A01^ACK|1|P|2.8\rMSA|AA|1|text\r";
    assert_eq!(findings(newer), ["withdrawn-field MSA-3"]);
}

#[test]
fn values_without_the_form_of_their_data_type_are_found() {
    assert_eq!(of_segment("PID|x||7||DOE||19701301"), ["wrong-format PID-1", "wrong-format PID-7.1"]);
    assert_eq!(of_segment("PID|1||7^^^^^^1970-01-01||DOE||19700101\"\""), ["wrong-format PID-3.7", "wrong-format PID-7.1"]);
    let old = "MSH|^~\\&|||||1 Jan 1970||ACK|1|P|2.3\rMSA|AA|1";
    assert_eq!(findings(old), ["wrong-format MSH-7.1"]);
    let cut = "MSH|^~\\&#|||||2026#||ACK^A01^ACK|1|P|2.7\rMSA|AA|1";
    assert_eq!(findings(cut), Vec::<String>::new());
}

#[test]
fn an_observation_is_checked_by_the_type_that_it_names() {
    assert_eq!(of_segment("OBX|1|NM|A||5~<6||||||F"), ["wrong-format OBX-5[2]"]);
    assert_eq!(of_segment("OBX|1|CE|A||a^b^c^d^e^f^g||||||F"), ["extra-component OBX-5.7"]);
    assert_eq!(of_segment("OBX|1|TS|A||x||||||F"), ["wrong-format OBX-5.1"]);
    assert_eq!(of_segment("OBX|1|XYZ|A||x^y||||||F"), ["unknown-value-type OBX-2"]);
    assert_eq!(of_segment("OBX|1||A||x||||||F"), ["missing-value-type OBX-5"]);
    assert_eq!(of_segment("OBX|1||A||||||||F"), Vec::<String>::new());
}

#[test]
fn codes_that_their_table_does_not_have_are_found() {
    assert_eq!(of_segment("OBX|1|ST|A||b||||||9"), ["not-in-table OBX-11"]);
    assert_eq!(of_segment("PID|1||7||DOE|||9"), ["not-suggested PID-8"]);
    assert_eq!(of_segment("PID|1||7||DOE^^^^^^9"), ["not-in-table PID-5.7"]);
    // There are no codes for 2.2, and countries are not checked.
    assert_eq!(findings("MSH|^~\\&|||||20260101||ACK|1|9|2.2\rMSA|AA|1"), Vec::<String>::new());
    assert_eq!(findings(&MSH.replace("|2.5.1", "|2.5.1|||AL|NE|QQQ|UNICODE UTF-8")), ["missing-segment"]);
}

#[test]
fn an_unusual_msh_2_is_reported() {
    let ack = |delimiters: &str, version: &str| {
        let component = delimiters.chars().nth(1).unwrap();
        let nine = format!("ACK{component}A01{component}ACK");
        let text =
            format!("MSH|^~\\&|||||20260101||{nine}|1|P|{version}\rMSA|AA|1\r").replace("|^~\\&|", &format!("{delimiters}|"));
        let field = delimiters.chars().next().unwrap();
        findings(&text.replace('|', &field.to_string()).replacen(&delimiters.replace('|', &field.to_string()), delimiters, 1))
    };
    assert_eq!(ack("|^~\\&", "2.5.1"), Vec::<String>::new());
    assert_eq!(ack("|^~\\&#", "2.7"), Vec::<String>::new());
    for (delimiters, version) in [("|^~&", "2.5.1"), ("|^~\\&#", "2.5.1"), ("|^~\\\\&", "2.5.1"), ("|^~&", "2.8")] {
        assert_eq!(ack(delimiters, version), ["wrong-delimiters MSH-2"], "{delimiters} {version}");
    }
    for (delimiters, version) in [("|^~\\&$", "2.7"), ("$^~\\&", "2.5.1"), ("|^~\\", "2.5.1"), ("^~|\\&", "2.5.1")] {
        assert_eq!(ack(delimiters, version), ["unusual-delimiters MSH-2"], "{delimiters} {version}");
    }
}

#[test]
fn a_lost_backslash_neither_joins_ids_nor_makes_delimiters() {
    let text = format!("{}{PID}", MSH.replace("^~\\&", "^~&")) + "OBR|1|||A&F&B^x\r";
    assert_eq!(findings(&text), ["wrong-delimiters MSH-2", "extra-subcomponent OBR-4.1.2"]);
}

#[test]
fn a_version_that_has_no_dictionary_is_read_by_the_nearest() {
    let found = report("MSH|^~\\&|||||20260101||ACK^A01^ACK|1|P|2.9\rMSA|AA|1\r");
    assert_eq!((found.version, found.worst()), (Some("2.8.2"), Some(Severity::Info)));
    assert_eq!(findings("MSH|^~\\&|||||20260101||ACK^A01^ACK|1|P|2.9\rMSA|AA|1\r"), ["nearest-version MSH-12.1"]);
    for written in ["HL7 2.3", "2,3", "v2.3"] {
        let found = report(&format!("MSH|^~\\&|||||20260101||ACK|1|P|{written}\rMSA|AA|1\r"));
        assert_eq!(found.version, Some("2.3"), "{written}");
        assert!(!found.findings.iter().any(|it| it.code == Code::UnknownVersion), "{written}");
    }
}

#[test]
fn orders_with_results_of_earlier_ones_may_follow_each_other() {
    let orders = "PID|1||7||DOE\rORC|NW|1\rOBR|1|1||a\rORC|NW|2\rOBR|2|2||b\r";
    for version in ["2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1"] {
        let text = format!("MSH|^~\\&|A|B|C|D|20260101||OML^O21^OML_O21|1|P|{version}\r{orders}");
        let found = findings(&text);
        assert!(!found.iter().any(|it| it.contains("segment")), "{found:?} in {version}");
    }
}

#[test]
fn parameters_of_a_query_and_columns_of_a_row_are_any_number() {
    let text = "MSH|^~\\&|||||20260101||QBP^Q11^QBP_Q11|1|P|2.5.1\rQPD|Z44^x|Q1|a|b~c|d^e^f||g&h\rRCP|I\r";
    assert_eq!(findings(text), Vec::<String>::new());
    let text = "MSH|^~\\&|||||20260101||RTB^K13^RTB_K13|1|P|2.5.1\rMSA|AA|1\rQAK|Q1\rQPD|Z44^x|Q1\rRDF|2|a^ST\rRDT|x|y||z\r";
    let found = findings(text);
    assert!(!found.iter().any(|it| it.contains("RDT") || it.contains("QPD")), "{found:?}");
}

#[test]
fn a_message_in_pieces_lacks_nothing_that_may_stand_in_another() {
    let first = format!("{MSH}PID|1||7||DOE\rOBR|1|||A\rOBX|1|TX|A||begins\rADD|\rDSC|page-2\r");
    assert_eq!(findings(&first), ["continuation DSC"]);
    let msh = MSH.replace("|2.5.1", "|2.5.1||page-2");
    assert_eq!(findings(&format!("{msh}ADD|and ends||||||F\rOBX|2|ST|A||b||||||F\r")), ["continuation MSH-14"]);
    // Behind the last piece nothing follows.
    assert_eq!(findings(&format!("{MSH}PID|1||7||DOE\rDSC|\r")), ["missing-segment DSC"]);
    assert_eq!(findings(&format!("{MSH}ADD|x\r{PID}OBR|1|||A\r")), ["misplaced-segment ADD"]);
    assert_eq!(findings(&format!("{MSH}{PID}DSC|2\rOBR|1|||A\r")), ["misplaced-segment OBR"]);
    let adt = format!("MSH|^~\\&|||||20260101||ADT^A01^ADT_A01|1|P|2.5.1\rEVN||20260101\r{PID}DSC|2\rPV1||I\r");
    assert_eq!(findings(&adt), ["misplaced-segment DSC"]);
    assert_eq!(findings(&MSH.replace("|2.5.1", "|2.5.1|x")), ["wrong-format MSH-13", "missing-segment"]);
}

#[test]
fn findings_beyond_the_maximum_are_counted() {
    let found = report(&format!("{MSH}{PID}OBR|1|||A\rOBX|1|NM|A||{}||||||F", "x~".repeat(2000)));
    assert_eq!((found.findings.len(), found.more), (MOST_FINDINGS, 1500));
}

#[test]
fn the_work_of_a_validation_is_linear_in_the_length() {
    let size = 1 << 16;
    let fill = |pattern: &str| pattern.repeat(size / pattern.len());
    let hostile = ["|", "~", "^", "&", "a", "a|", "a~", "a^", "a&", "~^&", "\\", "^~", "&^", "\u{e9}&"];
    let fields = ["ZZZ|", "PID|", "PID|1||", "OBX|1|CWE|||", "OBX|1|NM|||", "PID|1||7||"];
    for (pattern, before) in hostile.iter().flat_map(|pattern| fields.map(|before| (pattern, before))) {
        let message = Er7::canonical(&format!("{MSH}{before}{}", fill(pattern))).unwrap();
        let (found, work) = examine(&message, Schema::standard());
        assert!(work <= 6 * message.as_str().len() as u64, "{work} for {before:?} and {pattern:?}");
        assert!(found.findings.len() <= MOST_FINDINGS);
    }
}

#[test]
fn the_work_for_segments_is_linear_in_their_number() {
    let lines = 1 << 14;
    for line in ["\r", "PID\r", "OBX\r", "OBX\rPV1\r", "ZZZ\r", "ORC\rOBX\r", "XXX\r", "a\r"] {
        let message = Er7::canonical(&format!("{MSH}{}OBX|1", line.repeat(lines))).unwrap();
        let (found, work) = examine(&message, Schema::standard());
        assert!(work <= 400 * lines as u64, "{work} for {line:?}");
        assert!(found.findings.len() <= MOST_FINDINGS);
    }
}

#[test]
fn the_corpus_has_findings_of_many_kinds() {
    let (mut all, mut without_error, mut of_code) = (0, 0, BTreeMap::<_, (usize, usize)>::new());
    for (_, message) in crate::corpus_messages::messages() {
        let found = validate(&message);
        all += 1;
        without_error += usize::from(found.worst() < Some(Severity::Error));
        let mut codes: Vec<_> = found.findings.iter().map(|it| it.code).collect();
        codes.iter().for_each(|code| of_code.entry(*code).or_default().0 += 1);
        codes.sort();
        codes.dedup();
        codes.iter().for_each(|code| of_code.entry(*code).or_default().1 += 1);
    }
    println!("{all} messages, {without_error} without an error");
    of_code.iter().for_each(|(code, (times, messages))| println!("{code:24} {times:6} times in {messages:4} messages"));
    assert!(all >= 100 && of_code.len() > 10 && without_error > 0);
}

proptest! {
    #[test]
    fn any_text_has_a_report(text in "\\PC{0,200}", body in "[A-Z0-9|^~\\\\&\r\"#.é]{0,300}") {
        let texts = [text.clone(), format!("MSH|^~\\&|{body}"), format!("{MSH}{body}"), format!("{MSH}OBX|1|{text}\r{body}")];
        for message in texts.iter().filter_map(|it| Er7::canonical(it).ok()) {
            let found = validate(&message);
            prop_assert!(found.findings.len() <= MOST_FINDINGS);
            for finding in &found.findings {
                prop_assert_eq!(finding.severity, finding.code.severity());
            }
        }
    }

    /// Whatever is wrong with them, values stay out of the report.
    #[test]
    fn a_validation_report_has_nothing_of_the_message(body in prop::collection::vec("[|^~&]{0,3}(qjx|PID|OBX|NM|XYZ|\\r|1)[|^~&]{0,3}", 0..60)) {
        let body = body.concat();
        for msh in [MSH.to_owned(), format!("MSH|^~\\&|qjx|||qjx|qjx||qjx^qjx^qjx|qjx|qjx|qjx\r{MSH}")] {
            let found = report(&format!("{msh}{body}"));
            prop_assert!(!serde_json::to_string(&found).unwrap().contains("qjx"));
            let debug = format!("{found:?}");
            prop_assert!(!debug.contains("qjx"));
        }
    }
}
