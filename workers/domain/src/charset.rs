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
static HL7_NAMES: [(&str, &Encoding); 28] = [
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
    ("ISO IR159", ISO_2022_JP),
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
    /// Of the table, `ISO IR14` and `ISO IR159` are read as the ISO-2022-JP that they are switched to in, and `CNS 11643-1992`
    /// and `UNICODE UTF-32` are not known.
    pub fn for_hl7(value: &str) -> Option<Self> {
        let value = value.trim().to_ascii_uppercase();
        let named = HL7_NAMES.iter().find(|(name, _)| *name == value);
        named.map(|(_, encoding)| Self(encoding)).or_else(|| Self::for_label(&value))
    }

    /// The character set that a message says it is in: its byte order mark, the zero bytes of UTF-16, else MSH-18
    /// (HL7 2.5.1 §2.15.9.18), else UTF-8.
    ///
    /// Of the repetitions of MSH-18 it is the first that names more than ASCII: what follows the first are sets that the
    /// message switches to, and each of them contains ASCII. A value that is not known does no harm to a message in UTF-8.
    ///
    /// # Errors
    /// [`Undecodable::UnknownCharset`].
    pub fn of_message(bytes: &[u8]) -> Result<Self, Undecodable> {
        if let Some((encoding, _)) = Encoding::for_bom(bytes) {
            return Ok(Self(encoding));
        }
        if let Some(encoding) = utf_16_by_zero_bytes(bytes) {
            return Ok(Self(encoding));
        }
        match msh_18(bytes) {
            MshCharset::None => Ok(Self::UTF_8),
            MshCharset::Known(charset) => Ok(charset),
            MshCharset::Unknown => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(Self::UTF_8),
                Err(error) => Err(Undecodable::UnknownCharset { offset: error.valid_up_to() }),
            },
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
        let undecodable = |offset| Undecodable::Byte { charset: Self(encoding), offset };
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

    /// Encodes a text; `None` if a character of it is none of this set.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        if self.is_utf_16() {
            let bytes = |unit: u16| if self.0 == UTF_16LE { unit.to_le_bytes() } else { unit.to_be_bytes() };
            return Some(text.encode_utf16().flat_map(bytes).collect());
        }
        let (bytes, _, replaced) = self.0.encode(text);
        (!replaced).then(|| bytes.into_owned())
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

enum MshCharset {
    /// MSH-18 is empty, or names nothing beyond ASCII, or there is no MSH.
    None,
    Known(Charset),
    Unknown,
}

/// Reads MSH-18 from bytes that are not decoded yet. Every character set that it can name has ASCII where ASCII has it.
fn msh_18(bytes: &[u8]) -> MshCharset {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\x0b');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let Some(msh) = bytes.get(start..).and_then(|it| it.strip_prefix(b"MSH")) else { return MshCharset::None };
    let segment = msh.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let Some((&field, rest)) = segment.split_first() else { return MshCharset::None };
    let mut fields = rest.split(|&byte| byte == field);
    let encoding_characters = fields.next().unwrap_or_default();
    let Some(msh_18) = fields.nth(15) else { return MshCharset::None };
    let repetition = encoding_characters.get(1);
    let mut found = MshCharset::None;
    for value in msh_18.split(|byte| Some(byte) == repetition).map(<[u8]>::trim_ascii) {
        let charset = std::str::from_utf8(value).ok().and_then(Charset::for_hl7);
        match charset {
            _ if value.is_empty() || value == b"\"\"" => {}
            Some(charset) if charset != Charset::UTF_8 => return MshCharset::Known(charset),
            Some(charset) => {
                // `UNICODE UTF-8` needs nothing that follows it; ASCII may be switched from.
                if !value.eq_ignore_ascii_case(b"ASCII") && !value.eq_ignore_ascii_case(b"ISO IR6") {
                    return MshCharset::Known(charset);
                }
            }
            None => found = MshCharset::Unknown,
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
            // Framed byte by byte, of which the message in it is told.
            let framed = [b"\x0b", bytes.get(2..).unwrap()].concat();
            assert_eq!(Charset::of_message(&framed), Ok(Charset(charset)));
        }
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
