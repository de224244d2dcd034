use proptest::prelude::*;

use super::*;

fn message(msh_18: &str, name: &str) -> String {
    format!("MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5||||||{msh_18}\rPID|1||7||{name}\r")
}

/// Every value of table 0211 that is known, and a word that its character set has.
const TABLE: [(&str, &str, &str); 24] = [
    ("ASCII", "UTF-8", "DOE"),
    ("UNICODE", "UTF-8", "Zoë 李"),
    ("UNICODE UTF-8", "UTF-8", "Zoë 李"),
    ("8859/1", "windows-1252", "Müller"),
    ("8859/2", "ISO-8859-2", "Dvořák"),
    ("8859/3", "ISO-8859-3", "Ĉapek"),
    ("8859/4", "ISO-8859-4", "Bērziņš"),
    ("8859/5", "ISO-8859-5", "Иванов"),
    ("8859/6", "ISO-8859-6", "علي"),
    ("8859/7", "ISO-8859-7", "Παπάς"),
    ("8859/8", "ISO-8859-8", "כהן"),
    ("8859/9", "windows-1254", "Yılmaz"),
    ("8859/10", "ISO-8859-10", "Þórður"),
    ("8859/11", "windows-874", "สมชาย"),
    ("8859/13", "ISO-8859-13", "Žukauskas"),
    ("8859/14", "ISO-8859-14", "Ŵyn"),
    ("8859/15", "ISO-8859-15", "Œuvre €"),
    ("GB 18030-2000", "gb18030", "王伟"),
    ("KS X 1001", "EUC-KR", "김민준"),
    ("BIG-5", "Big5", "陳大文"),
    ("ISO IR87", "ISO-2022-JP", "山田"),
    ("~ISO IR87", "ISO-2022-JP", "山田"),
    ("ISO IR6~ISO IR87", "ISO-2022-JP", "山田"),
    ("iso-8859-2", "ISO-8859-2", "Dvořák"),
];

#[test]
fn msh_18_names_the_character_set() {
    for (value, charset, name) in TABLE {
        let text = message(value, name);
        let expected = Charset::for_label(charset).unwrap();
        let bytes = expected.encode(&text).unwrap();
        assert_eq!(Charset::of_message(&bytes), Ok(expected), "{value}");
        assert_eq!(expected.name(), charset);
        assert_eq!(expected.decode(&bytes).unwrap(), text, "{value}");
    }
}

#[test]
fn a_character_set_is_known_by_the_names_that_senders_give_it() {
    for (names, charset) in [
        (
            &["8859", "8859-1", "ISO 8859-1", "ISO8859/1", "ISO_IR 100", "iso ir 100", "ISO 2022 IR 100", "ANSI"][..],
            "windows-1252",
        ),
        (&["WINDOWS-1252", "CP1252", "windows 1252", "Cp-1252", "1252", "latin1"], "windows-1252"),
        (&["ISO 8859/15", "8859-15", "iso8859-15", "ISO_IR 203"], "iso-8859-15"),
        (&["ISO_IR 144", "ISO-8859-5"], "iso-8859-5"),
        (&["ISO_IR 192", "UTF8", "utf-8", "UNICODE  UTF-8", "UNICODE_UTF-8"], "utf-8"),
        (&["ISO_IR 101", "8859_2"], "iso-8859-2"),
        (&["ISO_IR 149", "ISO IR149"], "euc-kr"),
        (&["GB 18030-2022"], "gb18030"),
        (&["GB2312-80"], "gbk"),
        (&["ISO_IR 109"], "iso-8859-3"),
        (&["ISO_IR 110"], "iso-8859-4"),
        (&["ISO_IR 126"], "iso-8859-7"),
        (&["ISO_IR 127"], "iso-8859-6"),
        (&["ISO_IR 138"], "iso-8859-8"),
        (&["ISO_IR 148"], "iso-8859-9"),
        (&["ISO_IR 166", "CP874"], "windows-874"),
        (&["ISO_IR 13", "CP932", "MS932", "windows-31j", "SJIS", "Shift_JIS"], "shift_jis"),
        (&["ISO 2022 IR 87", "ISO_IR 87", "ISO-2022-JP"], "iso-2022-jp"),
        (&["CP936", "GBK", "GB2312"], "gbk"),
        (&["CP949", "MS949", "KSX1001", "KS_X_1001", "euc-kr", "KS_C_5601-1987"], "euc-kr"),
        (&["GB 18030-2005", "GB18030", "GB18030-2000"], "gb18030"),
        (&["BIG5", "CP950"], "big5"),
        (&["CP1250", "WINDOWS-1250"], "windows-1250"),
        (&["CP866", "IBM866"], "ibm866"),
    ] {
        for name in names {
            assert_eq!(Charset::for_hl7(name), Charset::for_label(charset), "{name}");
        }
    }
    for unknown in ["CP850", "ISO IR159", "CNS 11643-1992", "UNICODE UTF-32", "8859/12", "", "?", "x"] {
        assert_eq!(Charset::for_hl7(unknown), None, "{unknown}");
    }
    for (name, encoding) in HL7_NAMES {
        assert_eq!(Charset::for_hl7(name), Some(Charset(encoding)), "{name}");
        assert_eq!(Charset(encoding).hl7_name(), name);
    }
}

#[test]
fn msh_18_with_components_or_in_msh_19_is_found() {
    let of = |msh_18_and_19: &str| {
        let bytes = Charset(WINDOWS_1252).encode(&message(msh_18_and_19, "M\u{fc}ller")).unwrap();
        Charset::of_message(&bytes)
    };
    assert_eq!(of("8859/1^Latin 1"), Ok(Charset(WINDOWS_1252)));
    assert_eq!(of("8859/1&x"), Ok(Charset(WINDOWS_1252)));
    assert_eq!(of("|8859/1"), Ok(Charset(WINDOWS_1252)));
    assert_eq!(of("\"\"|ISO_IR 100^x"), Ok(Charset(WINDOWS_1252)));
    for language in ["|DE", "|GER^German^ISO639", "|l2", "|"] {
        assert_eq!(of(language), Ok(Charset::UTF_8), "{language} is a language");
    }
    assert!(matches!(of("CP850|8859/1"), Err(Undecodable::UnknownCharset { .. })), "MSH-18 counts where it is filled");
}

#[test]
fn msh_18_behind_blanks_before_msh_is_found() {
    for before in ["", " ", "\r\n", "\u{b} ", "\t\r\n", "\u{1c}\r\u{b}"] {
        let bytes = Charset(WINDOWS_1252).encode(&format!("{before}{}", message("8859/1", "M\u{fc}ller"))).unwrap();
        assert_eq!(Charset::of_message(&bytes), Ok(Charset(WINDOWS_1252)), "{before:?}");
    }
}

#[test]
fn msh_18_behind_a_line_end_inside_msh_is_found() {
    // `next` is in MSH-3 if MSH goes on behind the line end.
    let of = |end: &str, next: &str| {
        let text = format!("MSH|^~\\&|A{end}{next}{}8859/1\rPID|1||7||M\u{fc}ller\r", "|".repeat(15));
        Charset::of_message(&Charset(WINDOWS_1252).encode(&text).unwrap())
    };
    for end in ["\n", "\r\n", "\n \r\n"] {
        for content in ["x", "MSH: x", "PID^1", "pid"] {
            assert_eq!(of(end, content), Ok(Charset(WINDOWS_1252)), "{end:?} {content}");
        }
        assert_eq!(of(end, "Z01"), Ok(Charset::UTF_8), "{end:?}: the next segment");
    }
    for end in ["\r", "\r\r\n", "\n\r"] {
        assert_eq!(of(end, "x"), Ok(Charset::UTF_8), "{end:?}: a CR ends MSH");
    }
    // The second byte of one of these characters is `|`.
    let text = format!("MSH|^~\\&|A\nx|竹弓病院{}ISO IR13\rPID|1||7||山田\r", "|".repeat(14));
    assert_eq!(Charset::of_message(&Charset(SHIFT_JIS).encode(&text).unwrap()), Ok(Charset(SHIFT_JIS)));
}

#[test]
fn msh_18_of_a_header_that_lost_its_field_separator_is_found() {
    let text = message("8859/1", "M\u{fc}ller").replacen("MSH|", "MSH", 1);
    assert_eq!(Charset::named_in_msh(text.split('\r').next().unwrap()), Some(Charset(WINDOWS_1252)));
    for text in [text.replacen("|A|", "|A\nx|", 1), text.replace('\r', "\n"), text] {
        let bytes = Charset(WINDOWS_1252).encode(&text).unwrap();
        assert_eq!(Charset::of_message(&bytes), Ok(Charset(WINDOWS_1252)), "{text:?}");
    }
}

#[test]
fn eight_bits_under_iso_2022_jp_are_shift_jis() {
    for (value, facility) in [("~ISO IR87", "HIS"), ("~ISO IR87", "竹弓病院"), ("ISO IR6~ISO IR87", "山田病院")] {
        let text = format!("MSH|^~\\&|HIS|{facility}|LAKE|SLUICE|20260101||ADT^A01|1|P|2.5||||||{value}\rPID|1||7||山田^太郎\r");
        for encoding in [SHIFT_JIS, UTF_8, ISO_2022_JP] {
            let bytes = Charset(encoding).encode(&text).unwrap();
            let found = Charset::of_message(&bytes).unwrap();
            assert_eq!(
                (found, found.decode(&bytes).unwrap().into_owned()),
                (Charset(encoding), text.clone()),
                "{value} {facility}"
            );
        }
    }
    let both = [Charset(ISO_2022_JP).encode(&message("~ISO IR87", "山田")).unwrap(), b"\x8e\x52".to_vec()].concat();
    assert_eq!(Charset::of_message(&both), Ok(Charset(ISO_2022_JP)), "and so it is refused at that byte");
}

#[test]
fn a_refusal_names_what_would_help() {
    let latin_1 = Charset(WINDOWS_1252).encode(&message("CP850", "M\u{fc}ller")).unwrap();
    for refusal in [Charset::of_message(&latin_1).unwrap_err(), Charset::UTF_8.decode(&latin_1).unwrap_err()] {
        let said = refusal.to_string();
        assert!(said.contains("--charset") && said.contains("charset= in Content-Type"), "{said}");
        assert!(!said.contains("CP850"), "{said}");
    }
}

#[test]
fn utf_16_is_recognized_by_its_mark_and_by_its_zero_bytes() {
    let text = message("UNICODE UTF-16", "Zoë 李 😀");
    for (charset, mark) in [(UTF_16LE, &b"\xff\xfe"[..]), (UTF_16BE, b"\xfe\xff")] {
        let bytes = Charset(charset).encode(&text).unwrap();
        assert_eq!(Charset::of_message(&bytes), Ok(Charset(charset)));
        assert_eq!(Charset::for_hl7("UNICODE UTF-16").unwrap().decode(&bytes).unwrap(), text);
        let marked = [mark, &bytes].concat();
        assert_eq!(Charset::of_message(&marked), Ok(Charset(charset)));
        assert_eq!(Charset(charset).decode(&marked).unwrap(), format!("\u{feff}{text}"));
        let framed = format!("\u{b}{text}\u{1c}\r");
        let bytes = Charset(charset).encode(&framed).unwrap();
        assert_eq!(Charset::of_message(&bytes), Ok(Charset(charset)));
        assert_eq!(Charset(charset).decode(&bytes).unwrap(), framed);
        for blanks in [" \r\n", "\n\n\t", "\u{b}\r\n "] {
            let bytes = Charset(charset).encode(&format!("{blanks}{text}")).unwrap();
            assert_eq!(Charset::of_message(&bytes), Ok(Charset(charset)), "{blanks:?}");
        }
        // Framed byte by byte, as MLLP does.
        let framed = [b"\x0b", &Charset(charset).encode(&text).unwrap()[..], b"\x1c\r"].concat();
        assert_eq!(Charset::of_message(&framed), Ok(Charset(charset)));
        assert_eq!(Charset(charset).decode(&framed).unwrap(), text);
        let framed = [b"\x0b", &marked[..], b"\x1c\r"].concat();
        assert_eq!(Charset::of_message(&framed), Ok(Charset(charset)));
        for named in [UTF_16LE, UTF_16BE] {
            assert_eq!(Charset(named).decode(&framed).unwrap(), format!("\u{feff}{text}"));
            assert!(!Charset(named).is_contradicted_by(&framed));
        }
    }
}

#[test]
fn a_message_that_can_be_read_byte_by_byte_is_not_utf_16() {
    let text = message("UNICODE UTF-16", "DOE");
    assert_eq!(Charset::of_message(text.as_bytes()), Ok(Charset::UTF_8));
    let latin_1 = Charset::for_label("iso-8859-1").unwrap().encode(&message("UTF-16", "M\u{fc}ller")).unwrap();
    assert!(matches!(Charset::of_message(&latin_1), Err(Undecodable::UnknownCharset { .. })));
}

#[test]
fn a_delimiter_byte_within_a_character_is_no_delimiter() {
    // The second byte of each of these is `|` in that set; in ISO-2022-JP it is the second of `8|`.
    for (value, label, facility) in [
        ("~ISO IR87", "iso-2022-jp", "厚生病院"),
        ("ISO IR6~ISO IR87", "iso-2022-jp", "厚生病院"),
        ("ISO IR13", "shift_jis", "竹弓病院"),
        ("BIG-5", "big5", "臺大醫院"),
        ("GB 18030-2000", "gb18030", "北京東院"),
    ] {
        let charset = Charset::for_label(label).unwrap();
        let text =
            format!("MSH|^~\\&|HIS|{facility}|LAKE|SLUICE|20260101||ADT^A01|1|P|2.5|||AL|NE|JPN|{value}\rPID|1||7||{facility}\r");
        let bytes = charset.encode(&text).unwrap();
        let delimiters = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'|').count();
        assert!(delimiters(&bytes) > delimiters(text.as_bytes()), "{label} does not show what it should");
        assert_eq!(Charset::of_message(&bytes), Ok(charset), "{label}");
    }
}

#[test]
fn a_switch_to_an_unknown_character_set_is_refused() {
    assert_eq!(Charset::for_hl7("ISO IR159"), None);
    let text = message("~ISO IR159", "\u{1b}$(D0!\u{1b}(B");
    let offset = text.find('\u{1b}').unwrap();
    assert_eq!(Charset::of_message(text.as_bytes()), Err(Undecodable::UnknownCharset { offset }));
    let katakana_and_kanji = Charset::of_message(message("ISO IR13~ISO IR87", "x").as_bytes());
    assert_eq!(katakana_and_kanji, Ok(Charset(ISO_2022_JP)), "and not Shift_JIS, in which escapes are text");
}

#[test]
fn a_message_without_msh_18_is_utf_8() {
    for text in ["", "MSH", "MSH|", "MSH|^~\\&|A", "PID|1", "\r\n\u{b}MSH|^~\\&|A", &message("", "X"), &message("\"\"", "X")] {
        assert_eq!(Charset::of_message(text.as_bytes()), Ok(Charset::UTF_8), "{text}");
    }
}

#[test]
fn undecodable_bytes_have_an_offset() {
    let offset = |label: &str, bytes: &[u8]| Charset::for_label(label).unwrap().decode(bytes).unwrap_err().offset();
    assert_eq!(offset("utf-8", b"MSH|\xff"), 4);
    assert_eq!(offset("us-ascii", b"MSH|\xfc"), 4);
    assert_eq!(offset("shift_jis", b"MSH|\x81\x20"), 4);
    assert_eq!(offset("iso-8859-6", b"MSH|A\xa1"), 5);
    assert_eq!(offset("utf-16le", b"M\0\x00\xd8M\0"), 2, "a lone surrogate");
    assert_eq!(offset("utf-16le", b"M\0S"), 2, "half a unit");
    let unknown = message("CNS 11643-1992", "X\u{fc}");
    assert_eq!(Charset::of_message(unknown.as_bytes()), Ok(Charset::UTF_8));
    let latin_1: Vec<u8> = unknown.chars().map(|character| character as u8).collect();
    let error = Charset::of_message(&latin_1).unwrap_err();
    assert_eq!(error, Undecodable::UnknownCharset { offset: latin_1.len() - 2 });
    assert_eq!(Charset::for_hl7("UNICODE UTF-32"), None);
}

#[test]
fn a_charset_that_the_bytes_contradict_is_recognized() {
    let text = message("", "DOE");
    let wide = Charset(UTF_16LE).encode(&text).unwrap();
    let big_endian = Charset(UTF_16BE).encode(&text).unwrap();
    let latin_1 = Charset::for_label("iso-8859-1").unwrap();
    for (charset, bytes, expected) in [
        (Charset(UTF_16LE), text.as_bytes(), true),
        (Charset(UTF_16BE), b"\x0bMSH|^~\\&|".as_slice(), true),
        (Charset(UTF_16LE), b"\r\nFHS|", true),
        (Charset(UTF_16LE), &wide, false),
        (Charset(UTF_16LE), &big_endian, false),
        (Charset(UTF_16LE), b"hello", false),
        (Charset::UTF_8, &wide, true),
        (latin_1, &big_endian, true),
        (latin_1, b"\xff\xfeM\0", true),
        (latin_1, text.as_bytes(), false),
        (Charset::UTF_8, b"\xef\xbb\xbfMSH|", false),
        (latin_1, b"\xef\xbb\xbfMSH|", true),
        (Charset(UTF_16LE), b"\xef\xbb\xbfMSH|", true),
        (Charset::UTF_8, b"", false),
    ] {
        assert_eq!(charset.is_contradicted_by(bytes), expected, "{charset:?} {bytes:?}");
    }
}

#[test]
fn the_name_of_a_character_set_reads_back() {
    let utf_16 = ["UTF-16LE", "UTF-16BE"];
    for name in TABLE.iter().map(|(_, charset, _)| *charset).chain(utf_16) {
        let charset = Charset::for_label(name).unwrap();
        let json = serde_json::to_string(&charset).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<Charset>(&json).unwrap()), (format!("\"{name}\"").as_str(), charset));
    }
    let error = serde_json::from_str::<Charset>("\"SECRET\"").unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");
}

#[test]
fn a_character_outside_a_set_is_not_encoded() {
    assert_eq!(Charset::for_hl7("8859/1").unwrap().encode("李"), None);
    assert_eq!(Charset::for_hl7("8859/1").unwrap().encode("ü"), Some(vec![0xfc]));
    assert_eq!(Charset::for_label("shift_jis").unwrap().encode("\u{a5}"), None, "not a backslash");
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused_within_them(bytes in prop::collection::vec(any::<u8>(), 0..60), which in 0..TABLE.len()) {
        let charset = Charset::for_label(TABLE[which].1).unwrap();
        if let Err(error) = charset.decode(&bytes) {
            prop_assert!(error.offset() < bytes.len());
        }
        let _ = Charset::of_message(&bytes);
    }
}

#[test]
fn an_escape_that_another_one_follows_at_once_switches_to_nothing() {
    let iso_2022_jp = Charset(ISO_2022_JP);
    for (bytes, expected) in [
        (&b"A^\x1b$B4A\x1b(B\x1b$B;z\x1b(B"[..], Some("A^漢字")),
        (b"A\x1b$B\x1b(BB", Some("AB")),
        (b"A\x1b(J\x1b$B4A\x1b(BB", Some("A漢B")),
        (b"A\x1b(B\x1b(B\x1b(BC", Some("AC")),
        (b"A\x1b(B\x1b$", None),
    ] {
        assert_eq!(iso_2022_jp.decode(bytes).ok().as_deref(), expected, "{bytes:?}");
    }
    // Offsets are those of the bytes as they came.
    let damaged = b"A\x1b(B\x1b(BB\x1b$B\x1b(BC\xff";
    assert_eq!(iso_2022_jp.decode(damaged), Err(Undecodable::Byte { charset: iso_2022_jp, offset: 15 }));
}
