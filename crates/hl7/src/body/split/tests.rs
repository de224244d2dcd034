use proptest::prelude::*;

use super::*;

const MSH: &str = "MSH|^~\\&|A\rPID|1\r";

fn kinds(body: &str) -> String {
    let split = split(body.as_bytes(), Charset::UTF_8);
    split
        .parts()
        .iter()
        .map(|part| match part.kind {
            PartKind::FileHeader => 'F',
            PartKind::BatchHeader => 'B',
            PartKind::Message => 'M',
            PartKind::BatchTrailer => 'b',
            PartKind::FileTrailer => 'f',
        })
        .collect()
}

fn problems(body: &str) -> Vec<(&'static str, Option<u64>, u64)> {
    let problems = split(body.as_bytes(), Charset::UTF_8).problems(body.as_bytes(), Charset::UTF_8);
    problems.into_iter().map(|it| (it.code, it.declared, it.found)).collect()
}

#[test]
fn bodies_are_split_into_parts() {
    let table = [
        (MSH.to_owned(), "M"),
        (MSH.repeat(3), "MMM"),
        (MSH.replace('\r', "\n").repeat(2), "MM"),
        (MSH.replace('\r', "\r\n").repeat(2), "MM"),
        (format!("FHS|^~\\&|\rBHS|^~\\&|\r{MSH}{MSH}BTS|2\rFTS|1\r"), "FBMMbf"),
        (format!("BHS|^~\\&|\r{MSH}BTS|1\r"), "BMb"),
        (format!("FHS|\rBHS|\r{MSH}BTS|1\rBHS|\r{MSH}BTS|1\rFTS|2"), "FBMbBMbf"),
        (format!("\u{b}{MSH}\u{1c}\r\u{b}{MSH}\u{1c}\r"), "MM"),
        (format!("\u{feff}{MSH}{MSH}"), "MM"),
        (format!("\r\n  \r\n{MSH}\r\n\r\n"), "M"),
        (format!("junk\r{MSH}"), "MM"),
        (format!("  {MSH}{MSH}"), "MM"),
        (format!("BHS|\r{MSH}BTS|1\rjunk\rFTS|1"), "BMbM"),
        (format!("BHS|\r{MSH}BTS|1\rFTS|1"), "BMbf"),
        ("FHS|\rBHS|\rBTS|0\rFTS|1\r".to_owned(), "FBbf"),
        ("BHS|\n".to_owned(), "B"),
        ("BTS|0\rFTS|1\r".to_owned(), "M"),
        // A trailer without a header is content.
        (format!("{MSH}{MSH}BTS|2\rFTS|1\r"), "MM"),
        (format!("BHS|\r{MSH}FTS|1\rBTS|1\r"), "BMb"),
        // A BHS in the middle.
        (format!("{MSH}BHS|^~\\&|\r{MSH}BTS|1"), "MBMb"),
        (format!("{MSH}BHS|\nx\r{MSH}"), "MBMM"),
        // Separators of their own.
        (format!("{MSH}MSH$%*!@$A\rPID$1\r{MSH}"), "MMM"),
        (format!("{MSH}MSH$%*$A\r{MSH}"), "MM"),
        (format!("BHS$%*!@$A\r{MSH}BTS$1\r"), "BMb"),
        ("BHS|^~\\&|A\rMSH$%*!@$A\rBTS|1\r".to_owned(), "BMb"),
        (format!("FHS$%*!@$A\rBHS$%*!@$A\r{MSH}BTS$1\rFTS$1\r"), "FBMbf"),
        ("MSH\u{a7}^~\\&\u{a7}A\rPID\u{a7}1\rMSH\u{a7}^~\\&\u{a7}A".to_owned(), "MM"),
        ("hello".to_owned(), "M"),
        ("MSH".to_owned(), "M"),
        ("MSH|\rMSHX|\rMSH |\rmsh|".to_owned(), "M"),
        (String::new(), ""),
        ("\r\n".to_owned(), ""),
    ];
    for (body, expected) in table {
        assert_eq!(kinds(&body), expected, "{body:?}");
    }
}

#[test]
fn a_text_that_looks_like_a_header_or_trailer_tears_no_message() {
    let torn = "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|77|P|2.5.1\rPID|1||7\rOBR|1||9|c\r\
                OBX|1|TX|c||Norwood I,\nBTS-Shunt offen,\nkeine Stenose.||||||F\r";
    assert_eq!(kinds(torn), "M");
    assert_eq!(domain::Er7::canonical(torn).unwrap().as_str(), torn);
    for line in [
        "FHS: 148/min",
        "MSH: hormone",
        "BTS+AAAA",
        "MSH/AAAA",
        "MSH/++/AA",
        "BHS/AAAA",
        "FTS+",
        "MSH",
        "MSH|",
        "MSH| 12 mIU/ml",
        "MSH|12",
        "FHS|148",
        "BHS|",
        "BTS|open",
        "BTS|2",
        "FTS",
        "fhs|^~\\&|",
    ] {
        for end in ["\n", "\r\n"] {
            let message = format!("{MSH}OBX|1|TX|c||one{end}{line}{end}three||||||F\r");
            assert_eq!(kinds(&message), "M", "{message:?}");
            // In a batch, a trailer with a count is one, and what follows it is a message of its own.
            let batch = format!("BHS|^~\\&|\r{message}BTS|1\r");
            assert_eq!(kinds(&batch), if line == "BTS|2" { "BMbM" } else { "BMb" }, "{batch:?}");
        }
        if !line.contains('|') {
            let message = format!("{MSH}OBX|1|TX|c||one\r{line}\rthree||||||F\r");
            assert_eq!(kinds(&message), "M", "{message:?}");
        }
    }
}

#[test]
fn the_first_segment_keeps_the_line_ends_of_its_content() {
    let of = |text: &str| String::from_utf8(first_segment(text.as_bytes(), Charset::UTF_8).to_vec()).unwrap();
    assert_eq!(of("\r\n\u{b}MSH|^~\\&|A\nPID|1\n"), "\u{b}MSH|^~\\&|A\n");
    assert_eq!(of("MSH|^~\\&|A\nB|C\n\nD|E\n\nPID|1\n"), "MSH|^~\\&|A\nB|C\n\nD|E\n");
    assert_eq!(of("MSH|^~\\&|A\nB|C\rPID|1\r"), "MSH|^~\\&|A\nB|C\r");
    assert_eq!(of("MSH|^~\\&|A\n\rB|C\r"), "MSH|^~\\&|A\n");
    assert_eq!(of("one\ntwo\n"), "one\n");
    for label in ["utf-16le", "utf-16be"] {
        let charset = Charset::for_label(label).unwrap();
        let bytes = charset.encode("\u{b}MSH|^~\\&|A\nB|C\nPID|1\n").unwrap();
        assert_eq!(charset.decode(first_segment(&bytes, charset)).unwrap(), "\u{b}MSH|^~\\&|A\nB|C\n", "{label}");
    }
}

#[test]
fn framing_between_messages_changes_none_of_them() {
    for body in [format!("\u{b}{MSH}\u{1c}\r\u{b}{MSH}\u{1c}\r"), format!("\u{b}{MSH}\u{1c}\u{b}{MSH}\u{1c}")] {
        let split = split(body.as_bytes(), Charset::UTF_8);
        let messages: Vec<_> = split.messages().map(|range| domain::Er7::canonical(body.get(range).unwrap()).unwrap()).collect();
        assert_eq!(messages.iter().map(domain::Er7::as_str).collect::<Vec<_>>(), [MSH, MSH], "{body:?}");
    }
}

#[test]
fn utf_16_bodies_are_split_too() {
    for label in ["utf-16le", "utf-16be"] {
        let charset = Charset::for_label(label).unwrap();
        let bytes = charset.encode(&format!("BHS|\r\n{}{}BTS|2\r\n", MSH.replace('\r', "\r\n"), MSH.replace('A', "李"))).unwrap();
        let split = split(&bytes, charset);
        assert_eq!(split.messages().count(), 2, "{label}");
        assert_eq!(split.problems(&bytes, charset), []);
        let second = split.messages().nth(1).unwrap();
        assert_eq!(charset.decode(&bytes[second]).unwrap(), MSH.replace('A', "李"));
    }
}

#[test]
fn the_counts_of_trailers_are_compared() {
    assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}{MSH}BTS|2\rFTS|1\r")), []);
    assert_eq!(problems(&format!("BHS|\r{MSH}BTS|\r")), []);
    assert_eq!(problems(&format!("BHS|\r{MSH}BTS| 3 |x\r")), [("bts-count", Some(3), 1)]);
    assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}BTS|1\rFTS|2\r")), [("fts-count", Some(2), 1)]);
    assert_eq!(problems(&format!("FHS|\rBHS|\r{MSH}{MSH}")), [("no-bts", None, 2), ("no-fts", None, 1)]);
    assert_eq!(problems(&format!("BHS|\r{MSH}BHS|\r{MSH}BTS|1")), [("no-bts", None, 1)]);
    assert_eq!(problems(&MSH.repeat(2)), []);
    assert_eq!(problems(&format!("FHS|\r{MSH}{MSH}FTS|1\r")), []);
    assert_eq!(problems(&format!("FHS|\r{MSH}BTS|1\rFTS|1\r")), []);
    assert_eq!(problems(&format!("FHS|\r{MSH}BHS|\r{MSH}BTS|1\rFTS|2\r")), []);
}

proptest! {
    #[test]
    fn splitting_loses_nothing_and_keeps_the_order(pieces in prop::collection::vec("(MSH\\|A|MSH\\|\\^|FHS\\||BHS\\||BTS\\|1|FTS|PID|x|\u{b}|\u{1c}| |\u{e9})(\r|\n|\r\n|)", 0..12)) {
        let body = pieces.concat();
        let split = split(body.as_bytes(), Charset::UTF_8);
        let mut end = 0;
        for Part { range, .. } in split.parts() {
            prop_assert!(is_blank(&body.as_bytes()[end..range.start]), "{:?}", body);
            end = range.end;
        }
        prop_assert!(is_blank(&body.as_bytes()[end..]));
        let _ = split.problems(body.as_bytes(), Charset::UTF_8);
    }

    #[test]
    fn any_bytes_are_split(body in prop::collection::vec(any::<u8>(), 0..80), wide: bool) {
        let charset = Charset::for_label(if wide { "utf-16le" } else { "utf-8" }).unwrap();
        let split = split(&body, charset);
        prop_assert!(split.messages().all(|range| range.end <= body.len()));
    }
}
