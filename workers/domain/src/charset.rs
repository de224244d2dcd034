//! Character sets: what HL7 and HTTP call them, and how bytes are decoded without ever replacing one.

use std::fmt;

use encoding_rs::{
    BIG5, DecoderResult, EUC_KR, Encoding, GB18030, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6,
    ISO_8859_7, ISO_8859_8, ISO_8859_10, ISO_8859_13, ISO_8859_14, ISO_8859_15, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE,
    WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};
use serde::{Deserialize, Serialize};

/// A character set that messages come in: one of the WHATWG Encoding Standard's.
///
/// The standard reads ISO 8859-1, -9 and -11 as windows-1252, -1254 and -874, which agree with them on every printable
/// character. ASCII is read as UTF-8, which contains it.
///
/// In JSON and in the catalog it is its [`Charset::name`].
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Charset(&'static Encoding);

/// HL7 table 0211; of two names for one set, the first is the one to write.
static HL7_NAMES: [(&str, &Encoding); 27] = [
    ("UNICODE UTF-8", UTF_8),
    ("UNICODE", UTF_8),
    ("ASCII", UTF_8),
    ("ISO IR6", UTF_8),
    ("UNICODE UTF-16", UTF_16LE),
    ("8859/1", WINDOWS_1252),
    ("8859/2", ISO_8859_2),
    ("8859/3", ISO_8859_3),
    ("8859/4", ISO_8859_4),
    ("8859/5", ISO_8859_5),
    ("8859/6", ISO_8859_6),
    ("8859/7", ISO_8859_7),
    ("8859/8", ISO_8859_8),
    ("8859/9", WINDOWS_1254),
    ("8859/10", ISO_8859_10),
    ("8859/11", WINDOWS_874),
    ("8859/13", ISO_8859_13),
    ("8859/14", ISO_8859_14),
    ("8859/15", ISO_8859_15),
    ("GB 18030-2000", GB18030),
    ("GB 18030", GB18030),
    ("KS X 1001", EUC_KR),
    ("BIG-5", BIG5),
    ("ISO IR87", ISO_2022_JP),
    ("ISO IR14", ISO_2022_JP),
    ("JIS X 0202-1990", ISO_2022_JP),
    ("ISO IR13", SHIFT_JIS),
];

/// The bytes are not of the character set that they are said to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The character set is known.
    #[error("the message is not valid {}: byte {offset} cannot be decoded", .charset.name())]
    Byte {
        /// The character set.
        charset: Charset,
        /// Of the first byte that cannot be decoded, from 0.
        offset: usize,
    },
    /// It is not, and the bytes are not UTF-8 either.
    #[error("MSH-18 names no character set that is known here, and the message is not valid UTF-8: byte {offset}")]
    UnknownCharset {
        /// Of the first byte that is not UTF-8, from 0.
        offset: usize,
    },
}

/// The text is no label of a character set. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no label of a character set that is known here")]
pub struct UnknownLabel;

impl TryFrom<String> for Charset {
    type Error = UnknownLabel;

    fn try_from(label: String) -> Result<Self, UnknownLabel> {
        Self::for_label(&label).ok_or(UnknownLabel)
    }
}

impl From<Charset> for String {
    fn from(charset: Charset) -> Self {
        charset.name().to_owned()
    }
}

impl Undecodable {
    /// Of the first byte that cannot be decoded, from 0.
    pub fn offset(self) -> usize {
        match self {
            Self::Byte { offset, .. } | Self::UnknownCharset { offset } => offset,
        }
    }
}

impl Charset {
    /// What a message is in that says nothing.
    pub const UTF_8: Self = Self(UTF_8);

    /// By a label of the IANA registry, as in `Content-Type: ...; charset=`; in any case.
    pub fn for_label(label: &str) -> Option<Self> {
        // The Encoding Standard reads ASCII as windows-1252, in which nothing is an error.
        if ["ascii", "us-ascii", "ansi_x3.4-1968"].iter().any(|ascii| label.trim().eq_ignore_ascii_case(ascii)) {
            return Some(Self::UTF_8);
        }
        Encoding::for_label_no_replacement(label.as_bytes()).map(Self)
    }

    /// By a value of HL7 table 0211 (alternate character sets), as in MSH-18; else by a label, since many senders write one.
    ///
    /// Of the table, `ISO IR14` is read as the ISO-2022-JP that it is switched to in; `ISO IR159`, `CNS 11643-1992` and `UNICODE
    /// UTF-32` are not known.
    pub fn for_hl7(value: &str) -> Option<Self> {
        let value = value.trim().to_ascii_uppercase();
        let named = HL7_NAMES.iter().find(|(name, _)| *name == value);
        named.map(|(_, encoding)| Self(encoding)).or_else(|| Self::for_label(&value))
    }

    /// The character set of a byte order mark, which is meant for all that follows it.
    pub fn of_mark(bytes: &[u8]) -> Option<Self> {
        Encoding::for_bom(bytes).map(|(encoding, _)| Self(encoding))
    }

    /// The character set that a message says it is in: its byte order mark, the zero bytes of UTF-16, else MSH-18
    /// (HL7 2.5.1 §2.15.9.18), else UTF-8.
    ///
    /// Of the repetitions of MSH-18 it is the first that names more than ASCII, but ISO-2022-JP wherever it is named: what follows
    /// the first are sets that the message switches to. A value that is not known does no harm to a message in UTF-8, unless
    /// there is an escape character in it, with which it may switch to what is not known.
    ///
    /// # Errors
    /// [`Undecodable::UnknownCharset`].
    pub fn of_message(bytes: &[u8]) -> Result<Self, Undecodable> {
        if let Some(charset) = Self::of_mark(bytes) {
            return Ok(charset);
        }
        if let Some(encoding) = utf_16_by_zero_bytes(bytes) {
            return Ok(Self(encoding));
        }
        match msh_18(bytes) {
            MshCharset::None => Ok(Self::UTF_8),
            MshCharset::Known(charset) => Ok(charset),
            MshCharset::Unknown => {
                let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| bytes.len());
                let offset = bytes.iter().take(valid).position(|&byte| byte == ESCAPE).unwrap_or(valid);
                if offset == bytes.len() { Ok(Self::UTF_8) } else { Err(Undecodable::UnknownCharset { offset }) }
            }
        }
    }

    /// The name in the IANA registry.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The name in HL7 table 0211, for MSH-18; that of the IANA registry where the table has none.
    pub fn hl7_name(self) -> &'static str {
        HL7_NAMES.iter().find(|(_, encoding)| *encoding == self.0).map_or(self.name(), |(name, _)| name)
    }

    /// How many bytes a character of ASCII takes: 2 in UTF-16, else 1.
    pub fn unit_bytes(self) -> usize {
        if self.is_utf_16() { 2 } else { 1 }
    }

    fn is_utf_16(self) -> bool {
        self.0 == UTF_16LE || self.0 == UTF_16BE
    }

    /// Decodes bytes. A byte order mark stays as U+FEFF; in UTF-16 it has the last word on the order of bytes, and so have
    /// the zero bytes of a message without one.
    ///
    /// # Errors
    /// [`Undecodable::Byte`] with the offset of the first byte that is none of this set.
    pub fn decode(self, bytes: &[u8]) -> Result<String, Undecodable> {
        let encoding = match Encoding::for_bom(bytes) {
            Some((by_mark, _)) if self.is_utf_16() && by_mark != UTF_8 => by_mark,
            _ if self.is_utf_16() => utf_16_by_zero_bytes(bytes).unwrap_or(self.0),
            _ => self.0,
        };
        let (skipped, bytes) = if self.is_utf_16() { without_narrow_framing(bytes) } else { (0, bytes) };
        let undecodable = |offset| Undecodable::Byte { charset: Self(encoding), offset: skipped + offset };
        if encoding == UTF_8 {
            return std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| undecodable(error.valid_up_to()));
        }
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let capacity = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len());
        let mut text = String::with_capacity(capacity);
        match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
            (DecoderResult::InputEmpty, _) => Ok(text),
            (DecoderResult::Malformed(length, behind), read) => {
                Err(undecodable(read.saturating_sub(usize::from(length) + usize::from(behind))))
            }
            // The buffer has the size that the decoder asked for.
            (DecoderResult::OutputFull, read) => Err(undecodable(read)),
        }
    }

    /// Encodes a text; `None` if a character of it is none of this set. What comes out decodes to the same text: the standard
    /// writes a yen sign in Shift_JIS and EUC-JP as a backslash, which would be another message.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        if self.is_utf_16() {
            let bytes = |unit: u16| if self.0 == UTF_16LE { unit.to_le_bytes() } else { unit.to_be_bytes() };
            return Some(text.encode_utf16().flat_map(bytes).collect());
        }
        let (bytes, _, replaced) = self.0.encode(text);
        let reads_back = || self.0.decode_without_bom_handling_and_without_replacement(&bytes).is_some_and(|it| it == text);
        (!replaced && reads_back()).then(|| bytes.into_owned())
    }
}

impl fmt::Debug for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// UTF-16 without a byte order mark, by how the name of its first segment begins.
fn utf_16_by_zero_bytes(bytes: &[u8]) -> Option<&'static Encoding> {
    // MLLP's start block may stand before it, in one byte or in two. `0b 00 4d 00` may be either; behind two bytes, all of it
    // is units of two.
    let framed = bytes.strip_prefix(b"\x0b").unwrap_or(bytes);
    let framed_wide = bytes.strip_prefix(b"\x0b\0").or_else(|| bytes.strip_prefix(b"\0\x0b")).unwrap_or(bytes);
    let [first, second] = if bytes.len().is_multiple_of(2) { [framed_wide, framed] } else { [framed, framed_wide] };
    for start in [bytes, first, second] {
        match start {
            [b'M' | b'F' | b'B', 0, b'S' | b'H', 0, ..] => return Some(UTF_16LE),
            [0, b'M' | b'F' | b'B', 0, b'S' | b'H', ..] => return Some(UTF_16BE),
            _ => {}
        }
    }
    None
}

/// UTF-16 without MLLP's framing, where that is of single bytes, and how many bytes that skips.
fn without_narrow_framing(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.strip_prefix(b"\x0b") {
        Some(rest) if !bytes.starts_with(b"\x0b\0") || !bytes.len().is_multiple_of(2) => {
            let end = [&b"\x1c\r"[..], b"\x1c"].into_iter().find(|end| rest.ends_with(end)).map_or(0, <[u8]>::len);
            (1, rest.get(..rest.len() - end).unwrap_or(rest))
        }
        _ => (0, bytes),
    }
}

/// What switches to another set (ISO 2022).
const ESCAPE: u8 = 0x1b;

#[derive(Clone, Copy)]
enum MshCharset {
    /// MSH-18 is empty, or names nothing beyond ASCII, or there is no MSH.
    None,
    Known(Charset),
    Unknown,
}

/// Reads MSH-18 from bytes that are not decoded yet.
///
/// Where a set has characters of several bytes, one of them can be that of a delimiter. So what the bytes say is believed when
/// the segment says it when it is decoded as well; else each of those sets is tried that names itself.
fn msh_18(bytes: &[u8]) -> MshCharset {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x1c);
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let Some(rest) = bytes.get(start..).filter(|it| it.starts_with(b"MSH")) else { return MshCharset::None };
    let msh = rest.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let as_bytes: String = msh.iter().map(|&byte| char::from(byte)).collect();
    let found = named_in(&as_bytes);
    if msh.iter().all(|&byte| byte.is_ascii() && byte != ESCAPE) {
        return found;
    }
    let names_itself = |charset: Charset| {
        let decoded = charset.decode(msh).ok();
        decoded.is_some_and(|text| matches!(named_in(&text), MshCharset::Known(named) if named == charset))
    };
    match found {
        MshCharset::Known(charset) if names_itself(charset) => found,
        _ => {
            let several_bytes = [ISO_2022_JP, SHIFT_JIS, BIG5, GB18030, EUC_KR].map(Charset);
            several_bytes.into_iter().find(|&charset| names_itself(charset)).map_or(found, MshCharset::Known)
        }
    }
}

/// What the repetitions of MSH-18 name.
fn named_in(msh: &str) -> MshCharset {
    let mut characters = msh.chars();
    let Some(field) = characters.nth(3) else { return MshCharset::None };
    let mut fields = characters.as_str().split(field);
    let repetition = fields.next().and_then(|it| it.chars().nth(1)).unwrap_or('~');
    let Some(msh_18) = fields.nth(15) else { return MshCharset::None };
    let mut found = MshCharset::None;
    for value in msh_18.split(repetition).map(str::trim).filter(|value| !value.is_empty() && *value != "\"\"") {
        match (Charset::for_hl7(value), found) {
            (Some(charset), _) if charset.0 == ISO_2022_JP => return MshCharset::Known(charset),
            // Whose MSH could be read byte by byte is not in UTF-16.
            (Some(charset), MshCharset::None) if charset.is_utf_16() => found = MshCharset::Unknown,
            (Some(charset), MshCharset::None | MshCharset::Unknown) if charset != Charset::UTF_8 => {
                found = MshCharset::Known(charset);
            }
            // ASCII may be switched from; UTF-8 needs nothing that follows it.
            (Some(_), MshCharset::None) if !value.eq_ignore_ascii_case("ASCII") && !value.eq_ignore_ascii_case("ISO IR6") => {
                found = MshCharset::Known(Charset::UTF_8);
            }
            (None, MshCharset::None) => found = MshCharset::Unknown,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
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
    fn utf_16_is_known_by_its_mark_and_by_its_zero_bytes() {
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
            // Framed byte by byte, as MLLP does.
            let framed = [b"\x0b", &Charset(charset).encode(&text).unwrap()[..], b"\x1c\r"].concat();
            assert_eq!(Charset::of_message(&framed), Ok(Charset(charset)));
            assert_eq!(Charset(charset).decode(&framed).unwrap(), text);
        }
    }

    #[test]
    fn what_could_be_read_byte_by_byte_is_not_utf_16() {
        let text = message("UNICODE UTF-16", "DOE");
        assert_eq!(Charset::of_message(text.as_bytes()), Ok(Charset::UTF_8));
        let latin_1 = Charset::for_label("iso-8859-1").unwrap().encode(&message("UTF-16", "M\u{fc}ller")).unwrap();
        assert!(matches!(Charset::of_message(&latin_1), Err(Undecodable::UnknownCharset { .. })));
    }

    #[test]
    fn a_delimiter_within_a_character_is_none() {
        // The second byte of each of these is `|` in that set; in ISO-2022-JP it is the second of `8|`.
        for (value, label, facility) in [
            ("~ISO IR87", "iso-2022-jp", "厚生病院"),
            ("ISO IR6~ISO IR87", "iso-2022-jp", "厚生病院"),
            ("ISO IR13", "shift_jis", "竹弓病院"),
            ("BIG-5", "big5", "臺大醫院"),
            ("GB 18030-2000", "gb18030", "北京東院"),
        ] {
            let charset = Charset::for_label(label).unwrap();
            let text = format!(
                "MSH|^~\\&|HIS|{facility}|LAKE|SLUICE|20260101||ADT^A01|1|P|2.5|||AL|NE|JPN|{value}\rPID|1||7||{facility}\r"
            );
            let bytes = charset.encode(&text).unwrap();
            let delimiters = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'|').count();
            assert!(delimiters(&bytes) > delimiters(text.as_bytes()), "{label} does not show what it should");
            assert_eq!(Charset::of_message(&bytes), Ok(charset), "{label}");
        }
    }

    #[test]
    fn a_set_that_is_switched_to_and_not_known_is_refused() {
        assert_eq!(Charset::for_hl7("ISO IR159"), None);
        let text = message("~ISO IR159", "\u{1b}$(D0!\u{1b}(B");
        let offset = text.find('\u{1b}').unwrap();
        assert_eq!(Charset::of_message(text.as_bytes()), Err(Undecodable::UnknownCharset { offset }));
        let katakana_and_kanji = Charset::of_message(message("ISO IR13~ISO IR87", "x").as_bytes());
        assert_eq!(katakana_and_kanji, Ok(Charset(ISO_2022_JP)), "and not Shift_JIS, in which escapes are text");
    }

    #[test]
    fn without_msh_18_it_is_utf_8() {
        for text in ["", "MSH", "MSH|", "MSH|^~\\&|A", "PID|1", "\r\n\u{b}MSH|^~\\&|A", &message("", "X"), &message("\"\"", "X")]
        {
            assert_eq!(Charset::of_message(text.as_bytes()), Ok(Charset::UTF_8), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_has_an_offset() {
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
    fn a_name_reads_back_as_the_set() {
        let utf_16 = ["UTF-16LE", "UTF-16BE"];
        for name in TABLE.iter().map(|(_, charset, _)| *charset).chain(utf_16) {
            let charset = Charset::for_label(name).unwrap();
            let json = serde_json::to_string(&charset).unwrap();
            assert_eq!(
                (json.as_str(), serde_json::from_str::<Charset>(&json).unwrap()),
                (format!("\"{name}\"").as_str(), charset)
            );
        }
        let error = serde_json::from_str::<Charset>("\"SECRET\"").unwrap_err();
        assert!(!error.to_string().contains("SECRET"), "{error}");
    }

    #[test]
    fn what_a_set_has_not_is_not_encoded() {
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
}
