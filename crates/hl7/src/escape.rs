//! Escape sequences (HL7 2.5.1 §2.7): the text that they stand for, and the reverse.

use domain::{Charset, Er7};

use crate::delimiters::{Delimiters, msh};
use crate::steering;

/// Decodes the escape sequences of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escapes {
    delimiters: Delimiters,
    /// The character set of the bytes in `\Xdd..\`, as MSH-18 names it.
    charset: Option<Charset>,
}

impl Escapes {
    /// For a message. Bytes beyond ASCII are decoded only if MSH-18 names their character set.
    pub fn of(message: &Er7, delimiters: &Delimiters) -> Self {
        Self { delimiters: *delimiters, charset: msh(message).and_then(steering::charset) }
    }

    /// Appends a value with its escape sequences decoded.
    ///
    /// `\F\ \S\ \R\ \E\ \T\ \P\` are the delimiters. `\Xdd..\` are bytes of the message's character set; HAPI writes them as
    /// UTF-16 (`\X000d\`), which is understood too. `\Cxxyy\` and `\Mxxyyzz\` switch to another set, up to the next switch or the
    /// end of the value (HL7 2.5.1 §2.7.3). Formatting, highlighting, sequences of a site and broken sequences stay unchanged. So
    /// does everything after a switch whose set cannot be decoded.
    pub fn decode(&self, value: &str, out: &mut String) {
        let Some(escape) = self.delimiters.escape else { return out.push_str(value) };
        let start = out.len();
        let mut rest = value;
        let mut switched: Option<Switched<'_>> = None;
        while let Some((before, after)) = rest.split_once(escape) {
            put(&mut switched, before, self.charset, out);
            let from_escape = rest.get(before.len()..).unwrap_or_default();
            let Some((sequence, behind)) = after.split_once(escape) else {
                put(&mut switched, from_escape, self.charset, out);
                rest = "";
                break;
            };
            if let Some(repertoire) = Repertoire::of(sequence) {
                end(switched.take(), from_escape, out);
                switched = repertoire.map(|it| Switched { repertoire: it, from: from_escape, bytes: Some(Vec::new()) });
                rest = behind;
                continue;
            }
            let decoded = match &mut switched {
                None => self.character(sequence, out) || self.hexadecimal(sequence, out),
                Some(run) => {
                    let mut character = String::new();
                    let bytes = if self.character(sequence, &mut character) {
                        Some(character.into_bytes())
                    } else {
                        sequence.strip_prefix('X').and_then(|digits| bytes_of(digits).collect::<Option<Vec<u8>>>())
                    };
                    run.push(bytes.as_deref());
                    true
                }
            };
            if decoded {
                rest = behind;
            } else if is_kept_whole(sequence) {
                let length = from_escape.len() - behind.len();
                out.push_str(from_escape.get(..length).unwrap_or_default());
                rest = behind;
            } else {
                out.push(escape);
                rest = after;
            }
        }
        put(&mut switched, rest, self.charset, out);
        end(switched, "", out);
        // There is nothing but a switch. An empty result would look like an absent value.
        if out.len() == start {
            out.push_str(value);
        }
    }

    /// Appends the delimiter that a sequence stands for; false if it stands for none.
    fn character(&self, sequence: &str, out: &mut String) -> bool {
        let Delimiters { field, component, repetition, escape, subcomponent, truncation } = self.delimiters;
        let character = match sequence {
            "F" => Some(field),
            "S" => component,
            "R" => repetition,
            "E" => escape,
            "T" => subcomponent,
            "P" => truncation,
            _ => None,
        };
        out.extend(character);
        character.is_some()
    }

    /// Appends the text of `Xdd..`; false if it is invalid. NUL is never decoded, because many readers of JSON cannot hold it.
    fn hexadecimal(&self, sequence: &str, out: &mut String) -> bool {
        let Some(digits) = sequence.strip_prefix('X').filter(|it| !it.is_empty()) else { return false };
        let (mut is_ascii, mut has_null) = (true, false);
        for byte in bytes_of(digits) {
            match byte {
                None => return false,
                Some(0) => has_null = true,
                Some(byte) => is_ascii &= byte.is_ascii(),
            }
        }
        let bytes = || bytes_of(digits).flatten();
        if has_null {
            // `000d` is CR in UTF-16.
            let is_wide = digits.len() % 4 == 0 && bytes().enumerate().all(|(at, byte)| (at % 2 == 0) == (byte == 0));
            if is_wide {
                out.extend(bytes().skip(1).step_by(2).map(char::from));
            }
            return is_wide;
        }
        if is_ascii {
            out.extend(bytes().map(char::from));
            return true;
        }
        let charset = self.charset.filter(|it| it.unit_bytes() == 1);
        let Some(text) = charset.and_then(|it| Some(it.decode(&bytes().collect::<Vec<u8>>()).ok()?.into_owned())) else {
            return false;
        };
        out.push_str(&text);
        true
    }
}

impl Delimiters {
    /// The same as [`Escapes::decode`] for a message that does not declare its character set.
    pub fn unescape(&self, value: &str, out: &mut String) {
        Escapes { delimiters: *self, charset: None }.decode(value, out);
    }

    /// The reverse of [`Delimiters::unescape`] for a value without sequences of its own. CR, which would end the segment, becomes
    /// `\X0D\`; a line feed becomes `\X0A\` where it could end the segment, and stays elsewhere.
    pub fn escape(&self, value: &str, out: &mut String) {
        let last_line = last_line(value);
        for (at, character) in value.char_indices() {
            match (self.sequence(character, at >= last_line), self.escape) {
                (Some(name), Some(escape)) => {
                    out.push(escape);
                    out.push_str(name);
                    out.push(escape);
                }
                _ => out.push(character),
            }
        }
    }

    /// Whether [`Delimiters::escape`] turns a value into `raw`.
    pub(crate) fn escapes_to(&self, value: &str, raw: &str) -> bool {
        let last_line = last_line(value);
        let mut rest = raw;
        for (at, character) in value.char_indices() {
            let stripped = match (self.sequence(character, at >= last_line), self.escape) {
                (Some(name), Some(escape)) => {
                    rest.strip_prefix(escape).and_then(|it| it.strip_prefix(name)).and_then(|it| it.strip_prefix(escape))
                }
                _ => rest.strip_prefix(character),
            };
            let Some(stripped) = stripped else { return false };
            rest = stripped;
        }
        rest.is_empty()
    }

    /// The sequence, without its escape characters, for a character that cannot stand in a value.
    fn sequence(&self, character: char, in_last_line: bool) -> Option<&'static str> {
        match Some(character) {
            it if it == Some(self.field) => Some("F"),
            it if it == self.component => Some("S"),
            it if it == self.repetition => Some("R"),
            it if it == self.escape => Some("E"),
            it if it == self.subcomponent => Some("T"),
            Some('\r') => Some("X0D"),
            Some('\n') if in_last_line => Some("X0A"),
            _ => None,
        }
    }
}

/// The byte from which on a line feed of a value could end the segment: so little follows that it may be blank, or the name of a
/// segment whose field separator comes after the value.
fn last_line(value: &str) -> usize {
    let before = value.as_bytes().get(..value.len().saturating_sub(3)).unwrap_or_default();
    before.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap_or(0)
}

/// A character set that `\C..\` or `\M..\` switches to, from ASCII.
#[derive(Clone, Copy)]
struct Repertoire {
    /// Its label in `encoding_rs`.
    label: &'static str,
    /// Whether the message writes its pairs of bytes without the high bit.
    is_pairs: bool,
    /// The byte before each pair in that encoding.
    lead: Option<u8>,
}

impl Repertoire {
    /// Finds the set by the escape sequence of ISO 2022 in hexadecimal digits. `Some(None)`: back to ASCII. `None`: no switch, or
    /// a switch to an unknown set.
    fn of(sequence: &str) -> Option<Option<Self>> {
        let single = |label| Some(Some(Self { label, is_pairs: false, lead: None }));
        let pairs = |label, lead| Some(Some(Self { label, is_pairs: true, lead }));
        if !sequence.starts_with(['C', 'M']) || sequence.len() > 7 {
            return None;
        }
        match sequence.to_ascii_uppercase().as_str() {
            "C2842" | "C284A" => Some(None),
            "C2D41" => single("iso-8859-1"),
            "C2D42" => single("iso-8859-2"),
            "C2D43" => single("iso-8859-3"),
            "C2D44" => single("iso-8859-4"),
            "C2D46" => single("iso-8859-7"),
            "C2D47" => single("iso-8859-6"),
            "C2D48" => single("iso-8859-8"),
            "C2D4C" => single("iso-8859-5"),
            "C2D4D" => single("iso-8859-9"),
            "C2949" => single("shift_jis"),
            "M2440" | "M2442" => pairs("euc-jp", None),
            // JIS X 0212: three bytes in EUC-JP.
            "M242844" => pairs("euc-jp", Some(0x8f)),
            "M242941" => pairs("gbk", None),
            "M242943" => pairs("euc-kr", None),
            _ => None,
        }
    }

    fn decode(self, bytes: &[u8]) -> Option<String> {
        let charset = Charset::for_label(self.label)?;
        if !self.is_pairs {
            return Some(charset.decode(bytes).ok()?.into_owned());
        }
        let high = bytes.chunks(2).flat_map(|pair| self.lead.into_iter().chain(pair.iter().map(|byte| byte | 0x80)));
        Some(charset.decode(&high.collect::<Vec<u8>>()).ok()?.into_owned())
    }
}

/// The text after a switch.
struct Switched<'t> {
    repertoire: Repertoire,
    /// The value from the switch on, unchanged.
    from: &'t str,
    /// `None` if a part cannot be decoded.
    bytes: Option<Vec<u8>>,
}

impl Switched<'_> {
    /// Adds bytes; `None` stands for a part that cannot be decoded.
    fn push(&mut self, more: Option<&[u8]>) {
        match (&mut self.bytes, more) {
            (Some(bytes), Some(more)) => bytes.extend_from_slice(more),
            (bytes, _) => *bytes = None,
        }
    }
}

/// Appends a text, or adds its bytes to those after a switch.
fn put(switched: &mut Option<Switched<'_>>, text: &str, charset: Option<Charset>, out: &mut String) {
    match switched {
        None => out.push_str(text),
        Some(_) if text.is_empty() => {}
        Some(run) => {
            // A message in UTF-8 contains no bytes of another set.
            let of_bytes = charset.filter(|it| !text.is_ascii() && *it != Charset::UTF_8 && it.unit_bytes() == 1);
            let encoded = of_bytes.and_then(|it| it.encode(text));
            run.push(if text.is_ascii() { Some(text.as_bytes()) } else { encoded.as_deref() });
        }
    }
}

/// Ends the text after a switch, before `behind`.
fn end(switched: Option<Switched<'_>>, behind: &str, out: &mut String) {
    let Some(Switched { repertoire, from, bytes }) = switched else { return };
    match bytes.and_then(|it| repertoire.decode(&it)) {
        Some(text) => out.push_str(&text),
        None => out.push_str(from.get(..from.len() - behind.len()).unwrap_or(from)),
    }
}

/// Whether a sequence that is not decoded is valid all the same: highlighting, formatting, a site's own, or bytes that cannot be
/// read. Then its end begins no other sequence.
fn is_kept_whole(sequence: &str) -> bool {
    let is_word = |text: &str| text.bytes().all(|it| it.is_ascii_alphanumeric());
    match sequence.split_at_checked(1) {
        Some(("H" | "N", "")) => true,
        Some((".", command)) => {
            command.len() <= 8 && command.bytes().all(|it| it.is_ascii_alphanumeric() || b" +-".contains(&it))
        }
        Some(("X" | "C" | "M", digits)) => !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_hexdigit()),
        Some(("Z", name)) => is_word(name),
        _ => false,
    }
}

/// The bytes of pairs of hexadecimal digits; `None` for an invalid pair. python-hl7 pads with blanks: ` a`.
fn bytes_of(digits: &str) -> impl Iterator<Item = Option<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    digits.as_bytes().chunks(2).map(move |pair| match *pair {
        [b' ', low] => u8::try_from(nibble(low)?).ok(),
        [high, low] => u8::try_from(nibble(high)? * 16 + nibble(low)?).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(msh_18: &str, value: &str) -> String {
        let message = Er7::canonical(&format!("MSH|^~\\&|||||||ADT^A01|1|P|2.5||||||{msh_18}")).unwrap();
        let mut out = String::new();
        Escapes::of(&message, &Delimiters::of(&message).unwrap()).decode(value, &mut out);
        out
    }

    #[test]
    fn escapes_are_decoded_and_unknown_ones_kept() {
        let unescape = |value: &str| decode("", value);
        assert_eq!(unescape("a\\F\\b\\S\\\\R\\\\E\\\\T\\"), "a|b^~\\&");
        assert_eq!(unescape("é\\F\\é"), "é|é");
        assert_eq!(unescape("a\\X0D\\b\\X0d0A\\c\\X41\\"), "a\rb\r\ncA");
        for as_it_is in
            ["\\.br\\ \\H\\x\\N\\ open\\ end", "\\X\\", "\\X4\\", "\\XC3BC\\", "\\X00\\", "\\X+1\\", "\\Z1\\", "\\P\\"]
        {
            assert_eq!(unescape(as_it_is), as_it_is);
        }
        assert_eq!(unescape("\\"), "\\");
    }

    #[test]
    fn a_sequence_that_is_kept_does_not_lend_its_end_to_the_next() {
        for as_it_is in ["\\H\\F\\N\\", "\\.br\\F\\.sp2\\", "\\Z12\\T\\Z\\", "\\XE0\\E\\XE0\\"] {
            assert_eq!(decode("", as_it_is), as_it_is);
        }
        assert_eq!(decode("", "5 \\ 6 \\F\\ 7"), "5 \\ 6 | 7", "a lone escape character");
    }

    #[test]
    fn escaped_bytes_are_decoded_in_the_set_that_msh_18_names() {
        for (msh_18, value, expected) in [
            ("8859/1", "voil\\XE0\\", "voilà"),
            ("ISO_IR 100", "\\XE9E8\\", "éè"),
            ("8859/5", "\\XB8\\", "И"),
            ("8859/15", "\\xA4\\\\XA4\\", "\\xA4\\€"),
            ("UNICODE UTF-8", "\\XC3BC\\", "ü"),
            ("UNICODE UTF-8", "\\XFC\\", "\\XFC\\"),
            ("", "\\XE0\\", "\\XE0\\"),
            ("GB 18030-2000", "\\XCDF5\\", "王"),
        ] {
            assert_eq!(decode(msh_18, value), expected, "{msh_18}");
        }
    }

    #[test]
    fn line_ends_are_decoded_as_hapi_and_python_hl7_write_them() {
        assert_eq!(decode("", "a\\X000d\\b\\X000d000a\\"), "a\rb\r\n");
        assert_eq!(decode("", "a\\X a\\b\\X d\\"), "a\nb\r");
        for as_it_is in ["\\X0000\\", "\\X000d00\\", "\\X0d00\\", "\\X  \\"] {
            assert_eq!(decode("", as_it_is), as_it_is);
        }
    }

    #[test]
    fn switches_to_other_character_sets_are_followed() {
        for (msh_18, value, expected) in [
            ("~ISO IR87", "Yamada \\M2442\\;3ED\\C2842\\ Taro", "Yamada 山田 Taro"),
            ("~ISO IR87", "\\M2442\\\\X3B33\\ED", "山田"),
            ("", "\\M242844\\0!\\C2842\\", "丂"),
            ("8859/1~8859/7", "\\C2D46\\\u{d0}\\C2D41\\\u{d0}", "Π\u{d0}"),
            ("ASCII", "\\C2D42\\\\XF8\\\\C2842\\!", "ř!"),
            // Half a character, and an unknown set.
            ("~ISO IR87", "\\M2442\\;\\C2842\\x", "\\M2442\\;x"),
            ("", "\\C2D7A\\x\\F\\", "\\C2D7A\\x|"),
            ("", "\\M2442\\é", "\\M2442\\é"),
            ("", "\\C2842\\", "\\C2842\\"),
        ] {
            assert_eq!(decode(msh_18, value), expected, "{msh_18} {value}");
        }
    }

    #[test]
    fn a_line_feed_stays_where_it_cannot_end_a_segment() {
        let delimiters = Delimiters::USUAL;
        let escape = |value: &str| {
            let mut out = String::new();
            delimiters.escape(value, &mut out);
            out
        };
        assert_eq!(escape("one\ntwo\n\n three"), "one\ntwo\n\n three");
        for (value, expected) in [
            ("\n", "\\X0A\\"),
            ("a\n", "a\\X0A\\"),
            ("a\n \n", "a\\X0A\\ \\X0A\\"),
            ("one\nPID", "one\\X0A\\PID"),
            ("\r\n", "\\X0D\\\\X0A\\"),
        ] {
            assert_eq!(escape(value), expected);
        }
        assert!(delimiters.escapes_to("one\ntwo\n four", "one\ntwo\n four") && !delimiters.escapes_to("a\n", "a\n"));
    }

    proptest! {
        /// Every value comes back, and none ends a segment.
        #[test]
        fn a_value_comes_back_from_its_escapes(value in "[A-Z|^~\\\\&\r\n #é\u{0}]{0,30}", behind in "[|^~&]") {
            let mut raw = String::new();
            Delimiters::USUAL.escape(&value, &mut raw);
            let mut back = String::new();
            Delimiters::USUAL.unescape(&raw, &mut back);
            prop_assert_eq!(&back, &value);
            prop_assert!(Delimiters::USUAL.escapes_to(&value, &raw));
            let field = format!("{raw}{behind}x");
            prop_assert!(!raw.contains('\r'));
            for (at, _) in field.match_indices('\n') {
                let next = field.get(at..).unwrap().trim_start();
                let is_name = next.get(..3).is_some_and(|it| it.bytes().all(|it| it.is_ascii_uppercase()));
                prop_assert!(!is_name || !next.get(3..).unwrap().starts_with('|'), "{:?} ends the segment", field);
            }
        }

        #[test]
        fn any_value_is_decoded(value in "(\\\\|[XCM]|2442|2D41|0[0-9A-F]|[A-F0-9]{1,4}|é|[a-zF.H])*", msh_18 in "(|8859/1|~ISO IR87|UNICODE UTF-8)") {
            let _ = decode(&msh_18, &value);
        }
    }
}
