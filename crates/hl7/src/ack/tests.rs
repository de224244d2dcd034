use super::*;
use crate::Body;

const ACCEPTED: Ack<'_> = Ack { code: AckCode::CA, problem: None, control_id: "S1", time: "20261121172300+0000" };
const REFUSED: Ack<'_> = Ack {
    code: AckCode::CE,
    problem: Some(AckProblem {
        condition: Condition::DataType,
        severity: Severity::Error,
        location: Some(("MSH", Some(18))),
        detail: "byte 9 | is none",
    }),
    ..ACCEPTED
};

fn text(message: &str, ack: &Ack<'_>) -> String {
    String::from_utf8(acknowledge(&AckHeader::of(message.as_bytes()), ack)).unwrap()
}

#[test]
fn sender_and_receiver_change_places_and_the_rest_is_the_messages() {
    let message =
        "\u{b}MSH|^~\\&|LAB^1.2^ISO|HOSP|LAKE|SLUICE|20260101||ORU^R01^ORU_R01|C\\T\\7|T^A|2.5.1^DEU||||||UNICODE UTF-8\nPID|1\n";
    assert_eq!(
        text(message, &ACCEPTED),
        "MSH|^~\\&|LAKE|SLUICE|LAB^1.2^ISO|HOSP|20261121172300+0000||ACK^R01^ACK|S1|T^A|2.5.1^DEU||||||UNICODE UTF-8\r\
         MSA|CA|C\\T\\7\r"
    );
}

#[test]
fn a_refusal_has_an_err_segment_of_the_messages_version() {
    let of = |version: &str| text(&format!("MSH|^~\\&|||||||ADT^A01|7|P|{version}"), &REFUSED);
    let msh = |type_and_id: &str, version: &str| format!("MSH|^~\\&|||||20261121172300+0000||{type_and_id}|P|{version}\r");
    assert_eq!(
        of("2.5.1"),
        msh("ACK^A01^ACK|S1", "2.5.1")
            + "MSA|CE|7|byte 9 \\F\\ is none\rERR||MSH^1^18|102^Data type error^HL70357|E||||byte 9 \\F\\ is none\r"
    );
    assert_eq!(
        of("2.8"),
        msh("ACK^A01^ACK|S1", "2.8") + "MSA|CE|7\rERR||MSH^1^18|102^Data type error^HL70357|E||||byte 9 \\F\\ is none\r"
    );
    assert_eq!(of("2.3"), msh("ACK^A01|S1", "2.3") + "MSA|CE|7|byte 9 \\F\\ is none\rERR|MSH^1^18^102&Data type error&HL70357\r");
    assert_eq!(of("2.2"), msh("ACK|S1", "2.2") + "MSA|CE|7|byte 9 \\F\\ is none\rERR|MSH^1^18^102&Data type error&HL70357\r");
}

#[test]
fn an_acknowledgment_has_the_delimiters_of_the_message() {
    assert_eq!(
        text("MSH$%*!@$A$B$C$D$1$$ADT%A01$77$P$2.6", &REFUSED),
        "MSH$%*!@$C$D$A$B$20261121172300+0000$$ACK%A01%ACK$S1$P$2.6\rMSA$CE$77$byte 9 | is none\r\
         ERR$$MSH%1%18$102%Data type error%HL70357$E$$$$byte 9 | is none\r"
    );
    // VistA's.
    assert!(text("MSH^~|\\&^A^B^C^D^1^^ADT~A01^77^P^2.3.1", &ACCEPTED).starts_with("MSH^~|\\&^C^D^A^B^2026"));
}

#[test]
fn the_truncation_character_is_repeated_from_2_7_on_only() {
    for (version, expected) in
        [("2.3", "^~\\&"), ("2.5.1", "^~\\&"), ("2.6", "^~\\&"), ("2.7", "^~\\&#"), ("2.8.2", "^~\\&#"), ("", "^~\\&")]
    {
        let answer = text(&format!("MSH|^~\\&#|||||||ADT^A01|7|P|{version}"), &ACCEPTED);
        assert!(answer.starts_with(&format!("MSH|{expected}|||||2026")), "{version}: {answer}");
    }
    let batch = "BHS|^~\\&#|LAB\rMSH|^~\\&#|||||||ADT^A01|7|P|2.3\rBTS|1\r";
    let body = Body::of(batch, None);
    let acks = body.messages().map(|it| (it.header(), Some(ACCEPTED)));
    let answer = acknowledge_batch(&body, "S1", "T", acks);
    assert!(!String::from_utf8(answer).unwrap().contains('#'));
}

#[test]
fn a_header_that_lost_its_field_separator_is_answered_with_the_usual_one() {
    assert_eq!(
        text("MSH^~\\&|LAB|HOSP|LAKE|SLUICE|1||ADT^A01|7|P|2.5", &ACCEPTED),
        "MSH|^~\\&|LAKE|SLUICE|LAB|HOSP|20261121172300+0000||ACK^A01^ACK|S1|P|2.5\rMSA|CA|7\r"
    );
}

#[test]
fn without_an_escape_character_delimiters_are_left_out_of_texts() {
    let problem = AckProblem { detail: "a|b^c~d\re & f", ..REFUSED.problem.unwrap() };
    let answer = text("MSH|^~|A|B|C|D|1||ADT^A01|7|P|2.5", &Ack { problem: Some(problem), ..REFUSED });
    assert!(answer.contains("\rMSA|CE|7|abcde & f\r") && answer.ends_with("|E||||abcde & f\r"), "{answer}");
}

#[test]
fn utf_16_is_answered_with_the_byte_order_mark_that_the_message_had() {
    let message = "MSH|^~\\&|A|B|C|D|1||ADT^A01|7|P|2.5\rPID|1\r";
    for (label, mark) in [("utf-16le", b"\xff\xfe"), ("utf-16be", b"\xfe\xff")] {
        let bytes = Charset::for_label(label).unwrap().encode(message).unwrap();
        let with_mark = [&mark[..], &bytes].concat();
        assert!(!acknowledge(&AckHeader::of(&bytes), &ACCEPTED).starts_with(mark), "{label}");
        let header = AckHeader::of(&with_mark);
        let answer = acknowledge(&header, &ACCEPTED);
        assert!(answer.starts_with(mark) && answer.len().is_multiple_of(2), "{label}");
        assert!(header.charset().decode(&answer).unwrap().starts_with("\u{feff}MSH|^~\\&|C|D|"), "{label}");
        let (charset, asked) = acknowledge_in(&header, &ACCEPTED, Some(Charset::UTF_8));
        assert!(charset == Charset::UTF_8 && asked.starts_with(b"MSH"), "{label}");
    }
}

#[test]
fn a_numbered_message_is_answered_with_the_number_that_is_expected() {
    let message = "MSH|^~\\&|A|B|C|D|1||ADT^A01|7|P|2.5|41";
    assert!(text(message, &ACCEPTED).ends_with("\rMSA|CA|7||42\r"));
    assert!(text(message, &REFUSED).contains("\rMSA|CE|7|byte 9 \\F\\ is none|41\r"));
}

#[test]
fn a_note_beside_an_acceptance_is_information() {
    let ack = Ack { code: AckCode::AA, problem: Some(AckProblem::note("kept, outcome unknown")), ..ACCEPTED };
    assert!(
        text("MSH|^~\\&|||||||ADT^A01|7|P|2.5.1", &ack)
            .ends_with("\rMSA|AA|7|kept, outcome unknown\rERR|||0^Message accepted^HL70357|I||||kept, outcome unknown\r")
    );
    assert!(text("MSH|^~\\&|||||||ADT^A01|7|P|2.3", &ack).ends_with("\rMSA|AA|7|kept, outcome unknown\r"));
}

#[test]
fn versions_as_senders_write_them_have_an_answer_in_their_shape() {
    for (version, message_type) in
        [("2.5^FRA^2.11", "ACK^A01^ACK"), ("HL7 2.3", "ACK^A01"), ("2,2", "ACK"), ("2.3.1", "ACK^A01^ACK"), ("", "ACK^A01^ACK")]
    {
        let answer = text(&format!("MSH|^~\\&|||||||ADT^A01|7|P|{version}"), &ACCEPTED);
        assert!(answer.contains(&format!("||{message_type}|S1|P|")), "{version}: {answer}");
    }
}

#[test]
fn any_bytes_get_an_answer() {
    let unknown = "MSH|^~\\&|||||20261121172300+0000||ACK|S1|P|2.5.1\rMSA|CA\r";
    for message in ["", "hello", "MSH", "MSH|", "PID|1", "MSHABC|"] {
        assert_eq!(text(message, &ACCEPTED), unknown, "{message:?}");
    }
    let long = format!("MSH|^~\\&|{}|||||||7|P|2.5", "x".repeat(1 << 20));
    assert!(text(&long, &ACCEPTED).len() < 200);
}

#[test]
fn the_answer_is_in_the_messages_character_set_or_the_one_asked_for() {
    let message = "MSH|^~\\&|M\u{fc}ller|H|||1||ADT^A01|7|P|2.5||||||8859/1\rPID|1\r";
    let latin_1 = Charset::for_label("iso-8859-1").unwrap();
    let header = AckHeader::of(&latin_1.encode(message).unwrap());
    let answer = acknowledge(&header, &ACCEPTED);
    let decoded = latin_1.decode(&answer).unwrap();
    assert!(decoded.contains("|M\u{fc}ller|") && decoded.contains("||8859/1\r"), "{decoded}");
    let asked = |label| {
        let (charset, bytes) = acknowledge_in(&header, &ACCEPTED, Charset::for_label(label));
        (charset.name(), charset.decode(&bytes).unwrap().into_owned())
    };
    let (name, decoded) = asked("utf-8");
    assert!(name == "UTF-8" && decoded.contains("|M\u{fc}ller|") && decoded.contains("|UNICODE UTF-8\r"), "{decoded}");
    assert!(asked("iso-8859-2").1.contains("|8859/2\r"));
    assert_eq!(asked("iso-8859-7").0, "UTF-8", "Greek has no \u{fc}");
}

#[test]
fn an_undecodable_message_is_answered_with_what_can_be_read() {
    let header = AckHeader::of(b"MSH|^~\\&|M\xfcller|H|||1||ADT^A01|7|P|2.5||||||UNICODE UTF-8\rPID|\xff");
    let answer = String::from_utf8(acknowledge(&header, &REFUSED)).unwrap();
    assert!(answer.contains("|||Mller|H|") && answer.contains("MSA|CE|7|"), "{answer}");
    let header = AckHeader::of(b"MSH|^~\\&|A|H|||1||ADT^A01|7|P|2.5\rPID|\xff");
    assert_eq!(header.control_id(), "7");
}

#[test]
fn a_batch_is_answered_by_a_batch() {
    let body = "FHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||F1\rBHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||B1\r\
                MSH|^~\\&|LAB|HOSP|||1||ADT^A01|7|P|2.5\rPID|1\rMSH|^~\\&|LAB|HOSP|||1||ADT^A01|8|P|2.5|||NE|NE\rBTS|2\rFTS|1\r";
    let body = Body::of(body.to_owned(), None);
    let ack = Ack { code: AckCode::AA, time: "T", ..ACCEPTED };
    let acks = body.messages().map(|it| it.header()).map(|header| {
        let wanted = header.answer_in_batch(Verdict::Accepted).map(|_| ack);
        (header, wanted)
    });
    let answer = acknowledge_batch(&body, "S1", "T", acks);
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "FHS|^~\\&|LAKE|SLUICE|LAB|HOSP|T||||S1|F1\rBHS|^~\\&|LAKE|SLUICE|LAB|HOSP|T||||S1|B1\r\
         MSH|^~\\&|||LAB|HOSP|T||ACK^A01^ACK|S1|P|2.5\rMSA|AA|7\rBTS|1\rFTS|1\r"
    );
}

#[test]
fn a_batch_is_answered_in_the_character_set_of_its_messages_or_the_one_asked_for() {
    let message = |id: &str, msh_18: &str| format!("MSH|^~\\&|M\u{fc}ller|H|||1||ADT^A01|{id}|P|2.5||||||{msh_18}\rPID|1\r");
    let batch = |msh_18: &str| {
        let headers = "FHS|^~\\&|M\u{fc}ller\rBHS|^~\\&|M\u{fc}ller\r";
        format!("{headers}{}{}BTS|2\rFTS|1\r", message("1", msh_18), message("2", msh_18))
    };
    let expected = |msh_18: &str| {
        let header = |name: &str| format!("{name}|^~\\&|||M\u{fc}ller||T||||S1\r");
        let ack = |id: &str| {
            let msh = "MSH|^~\\&|||M\u{fc}ller|H|20261121172300+0000||ACK^A01^ACK|S1|P|2.5";
            format!("{msh}||||||{msh_18}\rMSA|CA|{id}\r")
        };
        format!("{}{}{}{}BTS|2\rFTS|1\r", header("FHS"), header("BHS"), ack("1"), ack("2"))
    };
    let answer = |bytes: &[u8], asked: Option<&str>| {
        let body = Body::of(bytes.to_vec(), None);
        let acks = || body.messages().map(|it| (it.header(), Some(ACCEPTED)));
        let asked = asked.and_then(Charset::for_label);
        let answer = acknowledge_batch_in(&body, "S1", "T", acks(), asked);
        // The gateway has no more than the outline when it answers.
        let outline = body.outline(usize::MAX).unwrap();
        assert_eq!(acknowledge_batch_in(&outline, "S1", "T", acks(), asked), answer);
        answer
    };
    let set = |label: &str| Charset::for_label(label).unwrap();
    let latin_1 = set("iso-8859-1");
    let bytes = latin_1.encode(&batch("8859/1")).unwrap();
    let in_set = |charset: Charset, msh_18: &str| (charset, charset.encode(&expected(msh_18)).unwrap());
    assert_eq!(answer(&bytes, None), in_set(latin_1, "8859/1"));
    assert_eq!(answer(&bytes, Some("iso-8859-2")), in_set(set("iso-8859-2"), "8859/2"));
    assert_eq!(answer(&bytes, Some("utf-8")), in_set(Charset::UTF_8, "UNICODE UTF-8"));
    assert_eq!(answer(&bytes, Some("iso-8859-7")), in_set(Charset::UTF_8, "UNICODE UTF-8"), "Greek has no \u{fc}");

    for (label, mark) in [("utf-16le", b"\xff\xfe"), ("utf-16be", b"\xfe\xff")] {
        let wide = |text: &str| set(label).encode(text).unwrap();
        let (bytes, unmarked) = (wide(&batch("UNICODE UTF-16")), wide(&expected("UNICODE UTF-16")));
        let marked = [&mark[..], &unmarked].concat();
        assert_eq!(answer(&bytes, None), (set(label), unmarked));
        assert_eq!(answer(&[&mark[..], &bytes].concat(), None), (set(label), marked.clone()));
        assert_eq!(answer(&[&mark[..], &wide("\r\n"), &bytes].concat(), None), (set(label), marked));
        assert_eq!(answer(&[&mark[..], &bytes].concat(), Some("utf-8")), in_set(Charset::UTF_8, "UNICODE UTF-8"));
        let empty = answer(&[&mark[..], &wide("BHS|^~\\&|A\rBTS|0\r")].concat(), None).1;
        assert_eq!(empty, [&mark[..], &wide("BHS|^~\\&|||A||T||||S1\rBTS|0\r")].concat());
        let run = Body::of([&mark[..], &wide(&message("1", "").repeat(2))].concat(), None);
        let silent = run.messages().map(|it| (it.header(), None));
        assert_eq!(acknowledge_batch(&run, "S1", "T", silent), b"", "a mark alone is no answer");
    }

    let mixed = [latin_1.encode(&message("1", "8859/1")).unwrap(), message("2", "").into_bytes()].concat();
    let (charset, bytes) = answer(&mixed, None);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!((charset, text.matches("M\u{fc}ller").count()), (Charset::UTF_8, 2), "{text}");
    assert!(text.contains("|UNICODE UTF-8\rMSA|CA|1\r") && text.contains("|P|2.5\rMSA|CA|2\r"), "{text}");
}

#[test]
fn a_batch_is_always_told_of_refusals_and_of_missing_parts() {
    let of = |body: &str, ack: &Ack<'_>| {
        let body = Body::of(body.to_owned(), None);
        let verdict = if ack.code.is_success() { Verdict::Accepted } else { Verdict::Error };
        let acks = body.messages().map(|it| it.header()).map(|header| {
            let answered = header.answer_in_batch(verdict).map(|code| Ack { code, ..*ack });
            (header, answered)
        });
        String::from_utf8(acknowledge_batch(&body, "S1", "T", acks)).unwrap()
    };
    let none = "MSH|^~\\&|||||||ADT^A01|7|P|2.5|||NE|NE\r".repeat(2);
    assert_eq!(of(&none, &ACCEPTED), "");
    assert_eq!(of(&none, &REFUSED).matches("MSA|CE|7").count(), 2);
    let cut = format!("\u{feff}BHS|^~\\&|LAB|HOSP|||1||||B1\r{none}BTS|3\r");
    assert_eq!(of(&cut, &ACCEPTED), "BHS|^~\\&|||LAB|HOSP|T||||S1|B1\rBTS|0|bts-count: 3 declared, 2 found\r");
    let file = format!("\u{b}FHS|^~\\&|LAB\rBHS|^~\\&|LAB\r{none}");
    assert!(of(&file, &ACCEPTED).ends_with("BTS|0\rFTS|1|no-bts: 2 found; no-fts: 1 found\r"), "{}", of(&file, &ACCEPTED));
}

#[test]
fn the_control_id_is_found_even_if_msh_2_is_unreadable() {
    assert_eq!(
        text("MSH|^~\\&amp;|LAB|HOSP|||1||ADT^A01|7|P|2.5", &ACCEPTED),
        "MSH|^~\\&|||LAB|HOSP|20261121172300+0000||ACK^A01^ACK|S1|P|2.5\rMSA|CA|7\r"
    );
}

#[test]
fn a_field_that_could_end_a_frame_is_not_repeated() {
    assert!(text("MSH|^~\\&|A\u{1c}|B|||1||ADT^A01|7\u{b}|P|2.5", &ACCEPTED).ends_with("\rMSA|CA\r"));
}

#[test]
fn steering_fields_with_components_do_not_change_the_kind_of_answer() {
    let of = |msh_9: &str, msh_12: &str| text(&format!("MSH|^~\\&|||||||{msh_9}|7|P^not present|{msh_12}"), &REFUSED);
    for (msh_12, type_field) in
        [("2.3^FRA", "ACK^A01|"), ("HL7 2.3", "ACK^A01|"), ("2,3", "ACK^A01|"), ("2.5^FRA^2.11", "ACK^A01^ACK|")]
    {
        let answer = of("ADT^A01&x^ADT_A01~x", msh_12);
        assert!(answer.contains(&format!("||{type_field}S1|P^not present|{msh_12}\r")), "{answer}");
        assert_eq!(answer.contains("ERR|MSH^1^18^102"), !msh_12.starts_with("2.5"), "{answer}");
    }
}
