//! The one filter between texts that somebody else has chosen and a terminal.
//!
//! A message, a file name, the name of a sign-up and a problem document can hold characters that command a terminal (C0 and
//! C1 controls, DEL) or that reorder what is read (bidirectional controls, Unicode TR #36 §2.1). All that is printed for
//! people passes through [`printable`]; JSON passes through [`json_text`].

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character would act on the terminal, or on the reading order. A line break does not count.
fn acts(character: char) -> bool {
    let reorders = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(character, '\u{2028}' | '\u{2029}');
    (character.is_control() && character != '\n') || reorders || breaks
}

/// A text in which escapes replace the characters that would act on a terminal: `\u{1b}`. Line breaks stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |shown, character| shown.extend(character.escape_default()))
}

/// A text in which `escape` replaces each character that acts.
fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if acts(character) {
            escape(&mut shown, character);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// A text that somebody else has chosen, on one line and safe for a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(|character: char| character == '\n' || acts(character), " ").trim_end().to_owned()
}

/// A message for a terminal: one line per segment, and escapes in place of characters that would act on it.
pub(crate) fn for_people(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    printable(&text.trim_end().replace('\r', "\n")).into_owned()
}

/// JSON with the same value and nothing in it that acts on a terminal: JSON's own escapes stand for it.
pub(crate) fn json_text(json: &str) -> Cow<'_, str> {
    // JSON has these characters only within a text, and all of them are in the basic plane.
    escaped(json, |shown, character| {
        let _ = write!(shown, "\\u{:04x}", u32::from(character));
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// C0, DEL, C1 (a CSI of one character), and characters that reverse the order of a line.
    pub(crate) const ACTING: &str = "a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}\u{2029}z";

    #[test]
    fn a_message_cannot_control_the_terminal() {
        assert_eq!(for_people(b"MSH|^~\\&|A\rPID|1\x1b[2J|\xc3\xa9\r"), "MSH|^~\\&|A\nPID|1\\u{1b}[2J|é");
    }

    #[test]
    fn a_printable_text_holds_nothing_that_acts_on_a_terminal() {
        for shown in [printable(ACTING).into_owned(), one_line(ACTING), for_people(ACTING.as_bytes())] {
            assert!(!shown.contains(acts), "{shown:?}");
        }
        assert_eq!(printable("\u{202e}a\nb"), "\\u{202e}a\nb");
        assert_eq!(one_line("two\nlines\u{9b}"), "two lines");
        assert_eq!(printable("Łukasz Müller, 日本語"), "Łukasz Müller, 日本語");
    }

    #[test]
    fn json_on_a_terminal_is_the_same_json() {
        let value = serde_json::json!({ "name": ACTING, "é": [1, "\\u\n"] });
        for json in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = json_text(&json);
            assert!(!shown.contains(acts), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
