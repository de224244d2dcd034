//! Reads a rendition that stands exactly as [`crate::write_json`] writes it.
//!
//! Nearly every rendition is read as it was written. The next bytes are then known: behind a position comes a name or a value,
//! and never a blank. So this reader compares the document with the bytes that must come next, skips names without decoding them,
//! and appends each value to the message as soon as it is read. It builds no tree.
//!
//! It never says what is wrong. At the first byte that it does not expect it gives up, and [`super::read_json`] reads the
//! document from its beginning with `serde_json`. That reader takes a document that was edited, sorted or indented, and names the
//! place of an error in a wrong one. So this reader may give up wherever it likes; whatever it does read, it must read as
//! `serde_json` would. The test `both_readers_read_the_same` compares the two.

use std::borrow::Cow;

use super::Text;
use crate::delimiters::Delimiters;
use crate::rendition::Classes;

/// The message of a rendition, not yet in canonical form.
pub(super) fn read(json: &[u8]) -> Option<String> {
    let json = std::str::from_utf8(json).ok()?.trim_end_matches([' ', '\t', '\r', '\n']);
    let mut rest = Rest(json);
    rest.expect(b"{")?;
    // Version 1 has neither.
    if rest.has(b"\"version\":2,") && rest.has(b"\"origin\":{\"messageId\":\"") {
        rest.skip()?;
        rest.expect(b",\"source\":\"")?;
        rest.skip()?;
        rest.expect(b",\"receivedAt\":\"")?;
        rest.skip()?;
        rest.expect(b"},")?;
    }
    rest.expect(b"\"summary\":{")?;
    let mut listed = false;
    while !rest.has(b"}") {
        rest.comma(&mut listed)?;
        rest.expect(b"\"")?;
        rest.skip()?;
        rest.expect(b":")?;
        rest.text()?;
    }
    rest.expect(b",\"dictionary\":\"")?;
    rest.skip()?;
    rest.expect(b",\"delimiters\":{\"field\":")?;
    let delimiters = Delimiters {
        field: rest.character()?,
        component: rest.optional_character(b",\"component\":")?,
        repetition: rest.optional_character(b",\"repetition\":")?,
        escape: rest.optional_character(b",\"escape\":")?,
        subcomponent: rest.optional_character(b",\"subcomponent\":")?,
        truncation: rest.optional_character(b",\"truncation\":")?,
    };
    rest.expect(b"},\"segments\":[")?;
    let mut reader = Reader { rest, classes: Classes::of(&delimiters), out: Text::new(delimiters, json.len()) };
    let mut msh_seen = false;
    loop {
        reader.segment(&mut msh_seen)?;
        if reader.rest.has(b"]}") {
            break;
        }
        reader.rest.expect(b",")?;
    }
    reader.rest.0.is_empty().then_some(reader.out.text)
}

struct Reader<'a> {
    rest: Rest<'a>,
    classes: Classes,
    out: Text,
}

impl Reader<'_> {
    fn segment(&mut self, msh_seen: &mut bool) -> Option<()> {
        self.rest.expect(b"{\"segment\":")?;
        let id = self.rest.text()?;
        let is_msh = !*msh_seen && id.starts_with("MSH");
        *msh_seen |= is_msh;
        self.out.begin(&id);
        self.rest.skip_name()?;
        self.rest.expect(b",\"fields\":[")?;
        let mut at = 0;
        let mut listed = false;
        while !self.rest.has(b"]") {
            self.rest.comma(&mut listed)?;
            self.field(&mut at, is_msh)?;
        }
        self.rest.expect(b"}")?;
        self.out.end().ok()
    }

    fn field(&mut self, at: &mut usize, is_msh: bool) -> Option<()> {
        let position = self.position()?;
        if is_msh && position <= 2 {
            self.rest.expect(b",\"repetitions\":[[{\"position\":1,\"value\":")?;
            let value = self.rest.text()?;
            // MSH-1 is a delimiter, which is written together with MSH-2.
            match (*at, position) {
                (0, 1) => *at = 1,
                (1, 2) => {
                    self.out.delimit(at, 2, Some(self.out.delimiters.field), true).ok()?;
                    self.out.text.push_str(&value);
                }
                _ => return None,
            }
            return self.rest.expect(b"}]]}");
        }
        self.out.delimit(at, position, Some(self.out.delimiters.field), true).ok()?;
        if self.rest.has(b",\"repetitions\":[[") {
            self.components()?;
            while self.rest.has(b",[") {
                self.out.text.push(self.out.delimiters.repetition?);
                self.components()?;
            }
            self.rest.expect(b"]")?;
        }
        self.rest.expect(b"}")
    }

    /// Reads a repetition, after its bracket.
    fn components(&mut self) -> Option<()> {
        let mut at = 0;
        let mut listed = false;
        while !self.rest.has(b"]") {
            self.rest.comma(&mut listed)?;
            let position = self.position()?;
            self.out.delimit(&mut at, position, self.out.delimiters.component, false).ok()?;
            let began = self.out.text.len();
            self.value(began)?;
            if self.rest.has(b",\"subcomponents\":[") {
                // The first of them repeats the value of the component.
                self.out.text.truncate(began);
                self.subcomponents()?;
            }
            self.rest.expect(b"}")?;
        }
        Some(())
    }

    fn subcomponents(&mut self) -> Option<()> {
        let mut at = 0;
        loop {
            let position = self.position()?;
            self.out.delimit(&mut at, position, self.out.delimiters.subcomponent, false).ok()?;
            self.value(self.out.text.len())?;
            self.rest.expect(b"}")?;
            if self.rest.has(b"]") {
                return Some(());
            }
            self.rest.expect(b",")?;
        }
    }

    /// Reads a value, if there is one, and its original text in the message. `began` is the end of the message before the value.
    fn value(&mut self, began: usize) -> Option<()> {
        if !self.rest.has(b",\"value\":") {
            return Some(());
        }
        match self.rest.run(|byte| self.classes.is_plain(byte)) {
            Some(plain) => self.out.text.push_str(plain),
            None => {
                let value = self.rest.text()?;
                self.out.delimiters.escape(&value, &mut self.out.text);
            }
        }
        if self.rest.has(b",\"raw\":") {
            self.out.text.truncate(began);
            self.out.text.push_str(&self.rest.text()?);
        }
        Some(())
    }

    /// Reads the beginning of the object of a field, component or subcomponent.
    fn position(&mut self) -> Option<usize> {
        self.rest.expect(b"{\"position\":")?;
        let position = self.rest.number()?;
        self.rest.skip_name()?;
        Some(position)
    }
}

/// The text that has not been read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Whether this comes next; if so, reads past it.
    #[inline(always)]
    fn has<const N: usize>(&mut self, json: &[u8; N]) -> bool {
        // An array is compared in a few instructions, a slice by a call.
        let behind = self.0.get(N..).filter(|_| self.0.as_bytes().first_chunk() == Some(json));
        self.0 = behind.unwrap_or(self.0);
        behind.is_some()
    }

    /// Reads past this; `None` if something else comes next.
    #[inline(always)]
    fn expect<const N: usize>(&mut self, json: &[u8; N]) -> Option<()> {
        self.has(json).then_some(())
    }

    /// Reads the comma before each object of a list but the first.
    #[inline]
    fn comma(&mut self, listed: &mut bool) -> Option<()> {
        if std::mem::replace(listed, true) { self.expect(b",") } else { Some(()) }
    }

    fn skip_name(&mut self) -> Option<()> {
        if self.has(b",\"name\":\"") { self.skip() } else { Some(()) }
    }

    /// Skips the rest of a text without escape sequences, after its opening quote, and its closing quote.
    fn skip(&mut self) -> Option<()> {
        let end = self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
        self.0 = self.0.get(end..)?.strip_prefix('"')?;
        Some(())
    }

    /// Reads a text that consists of such bytes alone; the quote must not be one of them. `None`, and nothing read, if others
    /// come.
    #[inline]
    fn run(&mut self, is_plain: impl Fn(u8) -> bool) -> Option<&'a str> {
        let text = self.0.strip_prefix('"')?;
        let end = text.bytes().position(|byte| !is_plain(byte))?;
        let (text, behind) = text.split_at_checked(end)?;
        self.0 = behind.strip_prefix('"')?;
        Some(text)
    }

    /// Reads and decodes a text.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        if let Some(text) = self.run(|byte| !matches!(byte, b'"' | b'\\' | 0..b' ')) {
            return Some(Cow::Borrowed(text));
        }
        let mut texts = serde_json::Deserializer::from_str(self.0).into_iter::<String>();
        let text = texts.next()?.ok()?;
        self.0 = self.0.get(texts.byte_offset()..)?;
        Some(Cow::Owned(text))
    }

    fn character(&mut self) -> Option<char> {
        let text = self.text()?;
        let mut characters = text.chars();
        characters.next().filter(|_| characters.next().is_none())
    }

    /// Reads a member with an optional character. `Some(None)` if another member comes next.
    fn optional_character<const N: usize>(&mut self, member: &[u8; N]) -> Option<Option<char>> {
        if self.has(member) { self.character().map(Some) } else { Some(None) }
    }

    /// Reads a whole number from 1 on. Positions that need more delimiters than a message can have are left to the other reader.
    fn number(&mut self) -> Option<usize> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = self.0.split_at_checked(digits).filter(|_| digits < 10)?;
        if number.starts_with('0') {
            return None;
        }
        self.0 = behind;
        number.parse().ok()
    }
}
