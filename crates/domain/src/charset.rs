//! Character sets: what HL7 and HTTP call them, and how bytes are decoded without ever replacing one.

use std::borrow::Cow;
use std::fmt;

use encoding_rs::{
    BIG5, DecoderResult, EUC_JP, EUC_KR, Encoding, GB18030, GBK, IBM866, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4,
    ISO_8859_5, ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_10, ISO_8859_13, ISO_8859_14, ISO_8859_15, ISO_8859_16, SHIFT_JIS,
    UTF_8, UTF_16BE, UTF_16LE, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1255,
    WINDOWS_1256, WINDOWS_1257,
};
use serde::{Deserialize, Serialize};

use crate::er7::{field_separator, first_segment, split_msh_1};

/// A character set that messages come in: one of the WHATWG Encoding Standard's.
///
/// The standard reads ISO 8859-1, -9 and -11 as windows-1252, -1254 and -874, which agree with them on every printable
/// character. ASCII is read as UTF-8, which contains it.
///
/// In JSON and in the catalog it is its [`Charset::name`].
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Charset(&'static Encoding);

/// The values of MSH-18 that acknowledgments give for an encoding, where HL7 table 0211 has one.
static HL7_NAMES: [(&str, &Encoding); 22] = [
    ("UNICODE UTF-8", UTF_8),
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
    ("8859/16", ISO_8859_16),
    ("GB 18030-2000", GB18030),
    ("KS X 1001", EUC_KR),
    ("BIG-5", BIG5),
    ("ISO IR87", ISO_2022_JP),
    ("ISO IR13", SHIFT_JIS),
];

/// The values of MSH-18 that are known, in capitals and digits alone (see [`plain`]): those of HL7 table 0211, and others that
/// senders write there.
///
/// The names of DICOM (PS3.3 §C.12.1.1.2) come from cardiology and radiology. A name with code extensions (`ISO 2022 IR 100`)
/// stands for the single-byte set that a message begins in. `ANSI` and the code pages are those of Windows.
static NAMES: [(&str, &Encoding); 87] = [
    ("UNICODEUTF8", UTF_8),
    ("UNICODE", UTF_8),
    ("ASCII", UTF_8),
    ("ISOIR6", UTF_8),
    ("UNICODEUTF16", UTF_16LE),
    ("88591", WINDOWS_1252),
    ("88592", ISO_8859_2),
    ("88593", ISO_8859_3),
    ("88594", ISO_8859_4),
    ("88595", ISO_8859_5),
    ("88596", ISO_8859_6),
    ("88597", ISO_8859_7),
    ("88598", ISO_8859_8),
    ("88599", WINDOWS_1254),
    ("885910", ISO_8859_10),
    ("885911", WINDOWS_874),
    ("885913", ISO_8859_13),
    ("885914", ISO_8859_14),
    ("885915", ISO_8859_15),
    ("885916", ISO_8859_16),
    ("GB180302000", GB18030),
    ("GB180302005", GB18030),
    ("GB180302022", GB18030),
    ("GB18030", GB18030),
    ("KSX1001", EUC_KR),
    ("BIG5", BIG5),
    ("ISOIR87", ISO_2022_JP),
    ("ISOIR14", ISO_2022_JP),
    ("JISX02021990", ISO_2022_JP),
    ("ISOIR13", SHIFT_JIS),
    ("8859", WINDOWS_1252),
    ("ANSI", WINDOWS_1252),
    ("ISOIR100", WINDOWS_1252),
    ("ISOIR101", ISO_8859_2),
    ("ISOIR109", ISO_8859_3),
    ("ISOIR110", ISO_8859_4),
    ("ISOIR126", ISO_8859_7),
    ("ISOIR127", ISO_8859_6),
    ("ISOIR138", ISO_8859_8),
    ("ISOIR144", ISO_8859_5),
    ("ISOIR148", WINDOWS_1254),
    ("ISOIR149", EUC_KR),
    ("ISOIR166", WINDOWS_874),
    ("ISOIR203", ISO_8859_15),
    ("ISOIR192", UTF_8),
    ("ISO2022IR6", UTF_8),
    ("ISO2022IR100", WINDOWS_1252),
    ("ISO2022IR101", ISO_8859_2),
    ("ISO2022IR109", ISO_8859_3),
    ("ISO2022IR110", ISO_8859_4),
    ("ISO2022IR126", ISO_8859_7),
    ("ISO2022IR127", ISO_8859_6),
    ("ISO2022IR138", ISO_8859_8),
    ("ISO2022IR144", ISO_8859_5),
    ("ISO2022IR148", WINDOWS_1254),
    ("ISO2022IR166", WINDOWS_874),
    ("ISO2022IR203", ISO_8859_15),
    ("ISO2022IR13", ISO_2022_JP),
    ("ISO2022IR14", ISO_2022_JP),
    ("ISO2022IR87", ISO_2022_JP),
    ("ISO2022JP", ISO_2022_JP),
    ("GB2312", GBK),
    ("GB231280", GBK),
    ("GBK", GBK),
    ("KSC5601", EUC_KR),
    ("EUCKR", EUC_KR),
    ("EUCJP", EUC_JP),
    ("SHIFTJIS", SHIFT_JIS),
    ("SJIS", SHIFT_JIS),
    ("UTF8", UTF_8),
    ("UTF16", UTF_16LE),
    ("UTF16LE", UTF_16LE),
    ("UTF16BE", UTF_16BE),
    ("CP866", IBM866),
    ("CP874", WINDOWS_874),
    ("CP932", SHIFT_JIS),
    ("CP936", GBK),
    ("CP949", EUC_KR),
    ("CP950", BIG5),
    ("CP1250", WINDOWS_1250),
    ("CP1251", WINDOWS_1251),
    ("CP1252", WINDOWS_1252),
    ("CP1253", WINDOWS_1253),
    ("CP1254", WINDOWS_1254),
    ("CP1255", WINDOWS_1255),
    ("CP1256", WINDOWS_1256),
    ("CP1257", WINDOWS_1257),
];

/// Longer than any name of a character set.
const MAX_NAME_BYTES: usize = 40;

/// A name of a character set in capitals and digits alone, with one word for a code page: `ISO_IR 100` is `ISOIR100`, `MS949` and
/// `windows-949` are `CP949`.
fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_uppercase()).collect();
    let page = ["WINDOWS", "CODEPAGE", "IBM", "MS", "WIN"].iter().find_map(|word| plain.strip_prefix(word));
    match page {
        Some(number) if !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()) => format!("CP{number}"),
        _ => plain,
    }
}

/// The ways to name a character set for a message that does not name one: the option of gateway and command, and the parameter of
/// the API.
const NAME_IT: &str = "--charset, or charset= in Content-Type";

/// The bytes do not belong to the character set that they are said to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The character set is known.
    #[error(
        "the message is not valid {}: byte {offset} cannot be decoded: if it is in another set, name that in MSH-18, with {NAME_IT}",
        .charset.name()
    )]
    Byte {
        /// The character set.
        charset: Charset,
        /// Offset of the first byte that cannot be decoded, from 0.
        offset: usize,
    },
    /// MSH-18 names an unknown set, and the bytes are not UTF-8 either.
    #[error("MSH-18 names no character set that Sluice knows, and byte {offset} is not UTF-8: name the set with {NAME_IT}")]
    UnknownCharset {
        /// Offset of the first byte that is not UTF-8, from 0.
        offset: usize,
    },
}

/// The text is no label of a character set. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a character set that Sluice knows")]
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
    /// Offset of the first byte that cannot be decoded, from 0.
    pub fn offset(self) -> usize {
        match self {
            Self::Byte { offset, .. } | Self::UnknownCharset { offset } => offset,
        }
    }
}

impl Charset {
    /// The default for a message that declares none.
    pub const UTF_8: Self = Self(UTF_8);

    /// The character set with a label of the IANA registry, as in `Content-Type: ...; charset=`; case does not matter.
    pub fn for_label(label: &str) -> Option<Self> {
        // The Encoding Standard reads ASCII as windows-1252, in which nothing is an error.
        if ["ascii", "us-ascii", "ansi_x3.4-1968"].iter().any(|ascii| label.trim().eq_ignore_ascii_case(ascii)) {
            return Some(Self::UTF_8);
        }
        Encoding::for_label_no_replacement(label.as_bytes()).map(Self)
    }

    /// The character set with a value of HL7 table 0211 (alternate character sets), as in MSH-18; or with another name that
    /// senders write there: DICOM's, those of code pages, and labels of the IANA registry. Blanks, punctuation and case do not
    /// matter: `ISO 8859-1`, `ISO8859/1` and `8859/1` are one name.
    ///
    /// `ISO IR14` of the table is read as ISO-2022-JP, which messages use to switch to it. `ISO IR159`, `CNS 11643-1992` and
    /// `UNICODE UTF-32` are unknown.
    pub fn for_hl7(value: &str) -> Option<Self> {
        Self::for_table_name(value).or_else(|| Self::for_label(value.trim())).or_else(|| Self::for_label(&plain(value)))
    }

    /// The same without the labels of the IANA registry, some of which are words of two characters.
    fn for_table_name(value: &str) -> Option<Self> {
        if value.len() > MAX_NAME_BYTES {
            return None;
        }
        let value = plain(value);
        let value = value.strip_prefix("ISO").filter(|it| it.starts_with("8859")).unwrap_or(&value);
        // `1252` alone names a code page, too.
        let is_named = |name: &str| name == value || name.strip_prefix("CP") == Some(value);
        NAMES.iter().find(|(name, _)| is_named(name)).map(|(_, encoding)| Self(encoding))
    }

    /// The character set that a decoded MSH segment names: that of MSH-18, or that of MSH-19 if MSH-18 is empty (some senders
    /// confuse the two). `None` if it names no known set.
    pub fn named_in_msh(msh: &str) -> Option<Self> {
        match named_in(msh) {
            MshCharset::Known(charset) => Some(charset),
            MshCharset::None | MshCharset::Unknown => None,
        }
    }

    /// The character set of a byte order mark, which applies to everything after it. MLLP's start block may precede it.
    pub fn of_mark(bytes: &[u8]) -> Option<Self> {
        let starts = [Some(bytes), bytes.strip_prefix(b"\x0b\0"), bytes.strip_prefix(b"\0\x0b"), bytes.strip_prefix(b"\x0b")];
        starts.into_iter().flatten().find_map(Encoding::for_bom).map(|(encoding, _)| Self(encoding))
    }

    /// The character set that a message declares: by its byte order mark, the zero bytes of UTF-16, or MSH-18 (HL7 2.5.1
    /// §2.15.9.18); otherwise UTF-8.
    ///
    /// Among the repetitions of MSH-18, the first that names more than ASCII counts. But ISO-2022-JP counts wherever it stands,
    /// because the repetitions after the first name the sets that the message switches to. An unknown value does no harm to a
    /// message in UTF-8, unless the message contains an escape character, which could switch to that set.
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
            MshCharset::Known(charset) if charset.0 == ISO_2022_JP => Ok(charset.or_of_eight_bits(bytes)),
            MshCharset::Known(charset) => Ok(charset),
            MshCharset::Unknown => {
                let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| bytes.len());
                let offset = bytes.iter().take(valid).position(|&byte| byte == ESCAPE).unwrap_or(valid);
                if offset == bytes.len() { Ok(Self::UTF_8) } else { Err(Undecodable::UnknownCharset { offset }) }
            }
        }
    }

    /// ISO-2022-JP has seven bits. If a message names it, has bytes of eight bits and never switches, it is in the set that its
    /// sender works with: UTF-8, Shift_JIS or EUC-JP, the first in which it can be decoded.
    fn or_of_eight_bits(self, bytes: &[u8]) -> Self {
        if bytes.is_ascii() || bytes.contains(&ESCAPE) {
            return self;
        }
        [UTF_8, SHIFT_JIS, EUC_JP].map(Self).into_iter().find(|it| it.decode(bytes).is_ok()).unwrap_or(self)
    }

    /// Whether the beginning of a message contradicts this set: it has the byte order mark of another set, or the set is UTF-16 and the
    /// message begins with a header of single bytes, or the other way round.
    pub fn is_contradicted_by(self, message: &[u8]) -> bool {
        if Self::utf_16_of(message).is_some() {
            return !self.is_utf_16();
        }
        let is_marked = Self::of_mark(message).is_some();
        if !self.is_utf_16() {
            return is_marked && self != Self::UTF_8;
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x1c);
        let start = message.iter().position(|byte| !is_blank(byte)).unwrap_or(message.len());
        let header = message.get(start..).unwrap_or_default();
        let is_header =
            matches!(header, [b'M', b'S', b'H', next, ..] | [b'F' | b'B', b'H', b'S', next, ..] if next.is_ascii_punctuation());
        is_marked || is_header
    }

    /// UTF-16 in one of its two byte orders, if the beginning of a message shows it: by a byte order mark, or by the zero bytes
    /// in the name of its first segment.
    pub fn utf_16_of(message: &[u8]) -> Option<Self> {
        let by_mark = Self::of_mark(message).filter(|it| it.is_utf_16());
        by_mark.or_else(|| utf_16_by_zero_bytes(message).map(Self))
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

    /// Decodes bytes. A byte order mark stays as U+FEFF. In UTF-16, the mark decides the order of bytes; without a mark, the zero
    /// bytes of the message decide.
    ///
    /// UTF-8 is not copied.
    ///
    /// # Errors
    /// [`Undecodable::Byte`] with the offset of the first byte that does not belong to this set.
    pub fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, Undecodable> {
        let encoding = match Self::of_mark(bytes) {
            Some(by_mark) if self.is_utf_16() && by_mark.is_utf_16() => by_mark.0,
            _ if self.is_utf_16() => utf_16_by_zero_bytes(bytes).unwrap_or(self.0),
            _ => self.0,
        };
        if encoding == UTF_8 {
            let undecodable = |error: std::str::Utf8Error| Undecodable::Byte { charset: self, offset: error.valid_up_to() };
            return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(undecodable);
        }
        let (skipped, bytes) = if self.is_utf_16() { without_narrow_framing(bytes) } else { (0, bytes) };
        let (bytes, idle) =
            if encoding == ISO_2022_JP { without_idle_escapes(bytes) } else { (Cow::Borrowed(bytes), Vec::new()) };
        let undecodable = |offset| {
            let left_out = idle.iter().take_while(|before| **before <= offset).count() * ESCAPE_BYTES;
            Undecodable::Byte { charset: Self(encoding), offset: skipped + offset + left_out }
        };
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let capacity = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len());
        let mut text = String::with_capacity(capacity);
        match decoder.decode_to_string_without_replacement(&bytes, &mut text, true) {
            (DecoderResult::InputEmpty, _) => Ok(Cow::Owned(text)),
            (DecoderResult::Malformed(length, behind), read) => {
                Err(undecodable(read.saturating_sub(usize::from(length) + usize::from(behind))))
            }
            // The decoder itself asked for a buffer of this size, so this does not happen.
            (DecoderResult::OutputFull, read) => Err(undecodable(read)),
        }
    }

    /// Encodes a text; `None` if this set lacks one of its characters. The result decodes to the same text. This needs a check:
    /// the standard encodes a yen sign in Shift_JIS and EUC-JP as a backslash, which would make another message.
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

/// Recognizes UTF-16 without a byte order mark by the beginning of the first segment's name, after any blanks.
fn utf_16_by_zero_bytes(bytes: &[u8]) -> Option<&'static Encoding> {
    // MLLP's start block may precede it, in one byte or in two. `0b 00 4d 00` may be either; after two bytes, everything is in
    // units of two.
    let framed = bytes.strip_prefix(b"\x0b").unwrap_or(bytes);
    let framed_wide = bytes.strip_prefix(b"\x0b\0").or_else(|| bytes.strip_prefix(b"\0\x0b")).unwrap_or(bytes);
    let [first, second] = if bytes.len().is_multiple_of(2) { [framed_wide, framed] } else { [framed, framed_wide] };
    let begins = |start: &[u8], character: fn(&[u8]) -> Option<u8>| {
        let mut units = start.chunks_exact(2).map(character).skip_while(|it| matches!(it, Some(b' ' | b'\t' | b'\r' | b'\n')));
        matches!((units.next(), units.next()), (Some(Some(b'M' | b'F' | b'B')), Some(Some(b'S' | b'H'))))
    };
    for start in [bytes, first, second] {
        if begins(start, |unit| if let [byte, 0] = *unit { Some(byte) } else { None }) {
            return Some(UTF_16LE);
        }
        if begins(start, |unit| if let [0, byte] = *unit { Some(byte) } else { None }) {
            return Some(UTF_16BE);
        }
    }
    None
}

/// UTF-16 without MLLP's framing, if the framing has single bytes, and the number of bytes that it skips.
fn without_narrow_framing(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes.strip_prefix(b"\x0b") {
        Some(rest) if !bytes.starts_with(b"\x0b\0") || !bytes.len().is_multiple_of(2) => {
            let end = [&b"\x1c\r"[..], b"\x1c"].into_iter().find(|end| rest.ends_with(end)).map_or(0, <[u8]>::len);
            (1, rest.get(..rest.len() - end).unwrap_or(rest))
        }
        _ => (0, bytes),
    }
}

/// The character that switches to another set (ISO 2022).
const ESCAPE: u8 = 0x1b;

/// An escape sequence of ISO-2022-JP (RFC 1468): ESC, one byte that says how many bytes a character has, and one that names the set.
const ESCAPE_BYTES: usize = 3;

/// ISO-2022-JP without the escape sequences that another one follows at once, and for each of them how many bytes were kept before it.
/// Senders that encode a text piece by piece write such sequences, which ISO 2022 allows and the decoder of the WHATWG refuses
/// (Encoding Standard, "ISO-2022-JP decoder", the output flag).
fn without_idle_escapes(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<usize>) {
    let is_escape = |at: usize| matches!(bytes.get(at..at + ESCAPE_BYTES), Some([ESCAPE, b'(' | b'$', _]));
    let mut idle: Vec<usize> = memchr::memchr_iter(ESCAPE, bytes).collect();
    idle.retain(|&at| is_escape(at) && is_escape(at + ESCAPE_BYTES));
    if idle.is_empty() {
        return (Cow::Borrowed(bytes), idle);
    }
    let mut kept = Vec::with_capacity(bytes.len());
    let mut read = 0;
    for at in &mut idle {
        kept.extend_from_slice(bytes.get(read..*at).unwrap_or_default());
        read = *at + ESCAPE_BYTES;
        *at = kept.len();
    }
    kept.extend_from_slice(bytes.get(read..).unwrap_or_default());
    (Cow::Owned(kept), idle)
}

#[derive(Clone, Copy)]
enum MshCharset {
    /// MSH-18 is empty, or names nothing beyond ASCII, or there is no MSH.
    None,
    Known(Charset),
    Unknown,
}

/// How many bytes show MSH-1, even where it is lost: `MSH^~\&|`.
const MSH_1_BYTES: usize = 8;

/// Reads MSH-18 from bytes that are not decoded yet. MSH ends where [`Er7::canonical`](crate::Er7::canonical) ends it, so a line end
/// inside a field does not hide what follows it.
///
/// A set may have characters of several bytes, one of which equals a delimiter. So the value in the raw bytes counts only if the
/// decoded segment has it as well. Otherwise each such set is tried, and counts if it names itself.
fn msh_18(bytes: &[u8]) -> MshCharset {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x1c);
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let Some(rest) = bytes.get(start..).filter(|it| it.starts_with(b"MSH")) else { return MshCharset::None };
    let each_as_character = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    // Beyond ASCII, MSH-1 may have several bytes. Then MSH ends at its first line end.
    let separator = field_separator(&each_as_character(rest.get(..MSH_1_BYTES).unwrap_or(rest))).filter(char::is_ascii);
    let msh = first_segment(rest, separator);
    let found = named_in(&each_as_character(msh));
    if msh.iter().all(|&byte| byte.is_ascii() && byte != ESCAPE) {
        return found;
    }
    let names_itself = |charset: Charset| {
        let decoded = charset.decode(msh).ok();
        decoded.is_some_and(|text| match named_in(&text) {
            // A message in Shift_JIS may name ISO-2022-JP.
            MshCharset::Known(named) => named == charset || (named.0 == ISO_2022_JP && charset.0 == SHIFT_JIS),
            MshCharset::None | MshCharset::Unknown => false,
        })
    };
    match found {
        // `or_of_eight_bits` decides by the whole message whether it is in that set.
        MshCharset::Known(charset) if charset.0 == ISO_2022_JP || names_itself(charset) => found,
        _ => {
            let several_bytes = [ISO_2022_JP, SHIFT_JIS, BIG5, GB18030, EUC_KR].map(Charset);
            let of_bytes = several_bytes.into_iter().find(|&charset| names_itself(charset));
            of_bytes.map_or(found, MshCharset::Known)
        }
    }
}

/// The set that the repetitions of MSH-18 name, or else MSH-19.
fn named_in(msh: &str) -> MshCharset {
    let Some((field, from_msh_2)) = msh.strip_prefix("MSH").and_then(split_msh_1) else { return MshCharset::None };
    let mut fields = from_msh_2.split(field);
    let msh_2 = fields.next().unwrap_or_default();
    let component = msh_2.chars().next().unwrap_or('^');
    let repetition = msh_2.chars().nth(1).unwrap_or('~');
    // `^~&` has lost its escape character.
    let subcomponent = msh_2.chars().nth(3).unwrap_or('&');
    let first_component = |value: &str| value.find([component, subcomponent]).unwrap_or(value.len());
    let Some(msh_18) = fields.nth(15) else { return MshCharset::None };
    let mut found = MshCharset::None;
    let mut is_empty = true;
    for value in msh_18.split(repetition) {
        let value = value.get(..first_component(value)).unwrap_or_default().trim();
        if value.is_empty() || value == "\"\"" {
            continue;
        }
        is_empty = false;
        match (Charset::for_hl7(value), found) {
            (Some(charset), _) if charset.0 == ISO_2022_JP => return MshCharset::Known(charset),
            // If MSH could be read byte by byte, the message is not in UTF-16.
            (Some(charset), MshCharset::None) if charset.is_utf_16() => found = MshCharset::Unknown,
            (Some(charset), MshCharset::None | MshCharset::Unknown) if charset != Charset::UTF_8 => {
                found = MshCharset::Known(charset);
            }
            // A message in ASCII may switch to other sets; UTF-8 needs no other set.
            (Some(_), MshCharset::None) if !["ASCII", "ISOIR6", "ISO2022IR6"].contains(&plain(value).as_str()) => {
                found = MshCharset::Known(Charset::UTF_8);
            }
            (None, MshCharset::None) => found = MshCharset::Unknown,
            _ => {}
        }
    }
    if !is_empty {
        return found;
    }
    // MSH-19 usually has a language, and no language has such a name.
    let msh_19 = fields.next().unwrap_or_default();
    let value = msh_19.get(..first_component(msh_19)).unwrap_or_default();
    Charset::for_table_name(value).filter(|it| !it.is_utf_16()).map_or(MshCharset::None, MshCharset::Known)
}

#[cfg(test)]
mod tests;
