//! The bytes of a message, in the one form that has an id.

use std::fmt;

use crate::MessageId;

/// The largest message that the API takes, in bytes as it is sent. A deployment may take less (`MaximumMessageBytes`).
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The largest message that is uploaded to S3 and then submitted, in bytes. A deployment may take less (`MaximumUploadBytes`).
pub const MAX_UPLOAD_BYTES: usize = 64 * 1024 * 1024;

/// The most messages of one body: 4 MiB can hold a million that begin with `MSH|` and no more, and the answer names each.
pub const MAX_MESSAGES: usize = 5000;

/// A message in canonical form: UTF-8, each segment ended by one CR (HL7 2.5.1 §2.5.4), no blank segments, no MLLP framing, no
/// byte order mark, no blanks before the first segment. A line feed is content of a field.
///
/// `Debug` shows a length, never content: a message is a patient's data.
#[derive(Clone, PartialEq, Eq)]
pub struct Er7(String);

/// There is nothing in the message but framing and blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is empty")]
pub struct EmptyMessage;

const BYTE_ORDER_MARK: char = '\u{feff}';
/// MLLP start block and end block (HL7 2.5.1 Appendix C, minimal lower layer protocol).
const START_BLOCK: char = '\u{b}';
const END_BLOCK: char = '\u{1c}';

impl Er7 {
    /// The canonical form of a decoded message.
    ///
    /// CR ends a segment. LF and CRLF end a segment if only blank lines stand between them and the end, a CR, or the start of a
    /// segment of the message. A segment starts with three characters, a capital letter and two capital letters or digits, but
    /// not MSH, BHS or FHS, and then the message's field separator (MSH-1). Every other LF or CRLF is content of a field and
    /// stays, a CRLF as LF. So a file whose lines end with LF is read as segments, and a report keeps its lines.
    ///
    /// A text that does not begin with MSH has no field separator that tells segments from content, so each of its line ends ends
    /// a line.
    ///
    /// Idempotent, and linear in the text.
    ///
    /// # Errors
    /// [`EmptyMessage`] if there is nothing in it but framing and blanks.
    pub fn canonical(text: &str) -> Result<Self, EmptyMessage> {
        let begun = text.trim_start_matches([BYTE_ORDER_MARK, START_BLOCK, END_BLOCK, ' ', '\t', '\r', '\n']);
        let content = without_blank_end(begun);
        if content.is_empty() {
            return Err(EmptyMessage);
        }
        let separator = field_separator(content);
        let mut canonical = String::with_capacity(content.len() + 1);
        let mut rest = content;
        while let Some((line, behind)) = memchr::memchr2(b'\r', b'\n', rest.as_bytes()).and_then(|at| rest.split_at_checked(at)) {
            let (ends_bytes, has_lone_cr) = line_ends(behind.as_bytes());
            let Some((ends, next)) = behind.split_at_checked(ends_bytes) else { break };
            canonical.push_str(line);
            if has_lone_cr || separator.is_none_or(|it| begins_segment(next.as_bytes(), it)) {
                canonical.push('\r');
            } else {
                canonical.extend(ends.chars().filter(|&it| it != '\r'));
            }
            rest = next;
        }
        canonical.push_str(rest);
        canonical.push('\r');
        Ok(Self(canonical))
    }

    /// The canonical form that builds up to 2026-11-28 gave a message: every CR, LF and CRLF ends a segment, and blank segments
    /// count except at the end. The ids of messages that those builds stored are hashes of it.
    pub(crate) fn earlier_canonical(text: &str) -> Result<Self, EmptyMessage> {
        let content = without_blank_end(text.trim_start_matches([BYTE_ORDER_MARK, START_BLOCK, END_BLOCK]));
        if content.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
            return Err(EmptyMessage);
        }
        let mut canonical = content.replace("\r\n", "\r").replace('\n', "\r");
        canonical.push('\r');
        Ok(Self(canonical))
    }

    /// The message, segments ended by CR.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// The id that this content has, from whatever source it comes. Computes a SHA-256 of all of it.
    pub fn message_id(&self) -> MessageId {
        MessageId::of_canonical(self.0.as_bytes())
    }
}

/// Cuts the end off the last segment: its line end, blank segments, the MLLP end block. Blanks directly after content stay, since
/// they are content. Linear in any text.
fn without_blank_end(text: &str) -> &str {
    let is_framing = |character| matches!(character, ' ' | '\t' | '\r' | '\n' | END_BLOCK);
    let content = text.trim_end_matches(is_framing).len();
    let behind = text.get(content..).unwrap_or_default();
    let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
    text.get(..content + blanks).unwrap_or(text)
}

/// MSH-1, and the rest of a text from MSH-2 on, for the text behind the name MSH.
pub(crate) fn split_msh_1(behind_name: &str) -> Option<(char, &str)> {
    // Seen in practice: an MSH that has lost its MSH-1.
    if behind_name.starts_with("^~\\&|") {
        return Some(('|', behind_name));
    }
    let mut characters = behind_name.chars();
    Some((characters.next()?, characters.as_str()))
}

/// MSH-1 of a text that begins with MSH; `None` where that is missing, a letter, a digit, a blank or a control character.
pub(crate) fn field_separator(text: &str) -> Option<char> {
    let (separator, _) = split_msh_1(text.strip_prefix("MSH")?)?;
    let separates = !separator.is_alphanumeric() && !separator.is_whitespace() && !separator.is_control();
    separates.then_some(separator)
}

/// Whether a line begins a segment of the message, with a name (HL7 2.5.1 §2.5.2) and the field separator. MSH, BHS and FHS do
/// not count: the code that split the body has already decided that none begins here.
fn begins_segment(line: &[u8], separator: char) -> bool {
    let is_name = matches!(line, [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9', b'A'..=b'Z' | b'0'..=b'9', ..]);
    let is_header = [b"MSH", b"BHS", b"FHS"].iter().any(|it| line.starts_with(*it));
    let mut buffer = [0; 4];
    let separator = separator.encode_utf8(&mut buffer).as_bytes();
    is_name && !is_header && line.get(3..).is_some_and(|behind| behind.starts_with(separator))
}

/// The first segment of bytes that are not decoded yet, by the rule of [`Er7::canonical`], without its end. `separator` is MSH-1 if
/// that is one byte.
pub(crate) fn first_segment(bytes: &[u8], separator: Option<char>) -> &[u8] {
    let is_framing = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1c);
    let length = bytes.iter().rposition(|byte| !is_framing(byte)).map_or(0, |last| last + 1);
    let content = bytes.get(..length).unwrap_or_default();
    let mut begin = 0;
    while let Some(at) = content.get(begin..).and_then(|rest| memchr::memchr2(b'\r', b'\n', rest)) {
        let (line, behind) = content.split_at_checked(begin + at).unwrap_or_default();
        let (ends_bytes, has_lone_cr) = line_ends(behind);
        let next = behind.get(ends_bytes..).unwrap_or_default();
        if has_lone_cr || separator.is_none_or(|it| begins_segment(next, it)) {
            return line;
        }
        begin = line.len() + ends_bytes;
    }
    content
}

/// For a text that begins with a line end: the length of that line end with all blank lines after it, in bytes; and whether one
/// of these line ends is a CR without LF.
fn line_ends(text: &[u8]) -> (usize, bool) {
    let (mut at, mut end, mut has_lone_cr) = (0, 0, false);
    loop {
        match text.get(at) {
            Some(b'\r') if text.get(at + 1) == Some(&b'\n') => at += 2,
            Some(b'\r') => {
                has_lone_cr = true;
                at += 1;
            }
            Some(b'\n') => at += 1,
            Some(b' ' | b'\t') => {
                at += 1;
                continue;
            }
            _ => return (end, has_lone_cr),
        }
        end = at;
    }
}

impl fmt::Debug for Er7 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Er7({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADT: &str = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\rPID|1||7||DOE^JANE\r";

    fn id(text: &str) -> MessageId {
        Er7::canonical(text).unwrap().message_id()
    }

    #[test]
    fn the_canonical_form_of_a_canonical_message_is_itself() {
        assert_eq!(Er7::canonical(ADT).unwrap().as_str(), ADT);
    }

    #[test]
    fn line_ends_framing_and_trailing_blanks_do_not_change_the_id() {
        let lf = ADT.replace('\r', "\n");
        let crlf = ADT.replace('\r', "\r\n");
        let variants = [
            lf.clone(),
            crlf.clone(),
            ADT.trim_end().to_owned(),
            format!("\u{b}{ADT}\u{1c}\r"),
            format!("\u{feff}{lf}"),
            format!("\u{b}\u{feff}{crlf}\u{1c}\r\n"),
            format!("{ADT}\r\n\r\n"),
            format!("{ADT}  \r\t\n"),
            format!("{}\u{1c} \r", ADT.trim_end()),
            format!("{ADT} \u{1c} \r"),
            format!("{ADT}\u{1c}\u{1c} \r\u{1c}\r"),
            format!("\u{1c}\u{b}{ADT}"),
            format!(" \t\r\n {ADT}"),
            ADT.replace('\r', "\r\r\n"),
            ADT.replace('\r', "\r\r"),
            ADT.replace('\r', "\n\n"),
            ADT.replace('\r', "\n \t\r\n"),
        ];
        for variant in variants {
            assert_eq!(id(&variant), id(ADT), "{variant:?}");
        }
    }

    #[test]
    fn a_difference_of_content_is_a_difference_of_id() {
        for other in [
            ADT.replace("JANE", "JANET"),
            ADT.replace("JANE", "JANE "),
            ADT.replace("JANE", "JANE\nX"),
            ADT.replace("\rPID", "\r PID"),
        ] {
            assert_ne!(id(&other), id(ADT), "{other:?}");
        }
    }

    #[test]
    fn a_line_end_inside_a_field_is_content() {
        let report = |text: &str| format!("MSH|^~\\&|A\rOBX|1|TX|c||{text}||||||F\rOBX|2|TX|c||x\r");
        for text in [
            "Norwood I,\nBTS-Shunt offen,\nkeine Stenose.",
            "FHS: 148/min\nMSH: hormone\nPID: 7",
            "one\n\n two\n \t\nthree",
            "\nbegins and ends\n",
            "TSH: 1\nMSH| 12 mIU/ml\nFHS|148",
            "AAAA\nMSH/AAA\nBTS+AAA\n====",
            "PID^1\npid|1\nPI|1\nPIDX|1\nP\u{c4}D|1\n1ID|1",
        ] {
            let message = report(text);
            for line_end in ["\n", "\r\n"] {
                let sent = report(&text.replace('\n', line_end));
                assert_eq!(Er7::canonical(&sent).unwrap().as_str(), message, "{sent:?}");
            }
        }
    }

    #[test]
    fn the_field_separator_of_the_message_tells_its_segments() {
        let canonical = |text: &str| Er7::canonical(text).unwrap().0;
        assert_eq!(canonical("MSH$%*!@$A\nPID$1\nPID|1"), "MSH$%*!@$A\rPID$1\nPID|1\r");
        assert_eq!(canonical("MSH^~\\&|A\nPID|1\nPID^1"), "MSH^~\\&|A\rPID|1\nPID^1\r", "a lost MSH-1");
        assert_eq!(canonical("MSH\u{a7}^~\nZ01\u{a7}1\nPID|1"), "MSH\u{a7}^~\rZ01\u{a7}1\nPID|1\r");
    }

    #[test]
    fn in_a_text_without_msh_every_line_end_ends_a_line() {
        let canonical = |text: &str| Er7::canonical(text).unwrap().0;
        assert_eq!(canonical("PID|1\nnote\r\n\nend"), "PID|1\rnote\rend\r");
        assert_eq!(canonical("MSH\nPID|1"), "MSH\rPID|1\r");
    }

    #[test]
    fn a_text_of_nothing_but_framing_is_empty() {
        for empty in ["", "\r\n", "\u{b}\u{1c}\r", "\u{feff}", " \t\r \n"] {
            assert_eq!(Er7::canonical(empty), Err(EmptyMessage), "{empty:?}");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Er7::canonical("MSH|secret").unwrap()), "Er7(11 bytes)");
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(text in "(MSH\\|)?[\u{feff}\u{b}\u{1c}\r\n \tA|é]{0,40}") {
            if let Ok(once) = Er7::canonical(&text) {
                prop_assert_eq!(Er7::canonical(once.as_str()).unwrap(), once);
            }
        }

        #[test]
        fn any_line_end_between_segments_gives_the_same_id(
            fields in prop::collection::vec("[A-Z0-9|^é]{0,20}", 1..8),
            ends in prop::collection::vec(0..5_usize, 8),
        ) {
            let segments: Vec<_> = fields.iter().enumerate().map(|(n, it)| format!("{}|{it}", if n == 0 { "MSH" } else { "Z01" })).collect();
            let end = |n: usize| ["\r", "\n", "\r\n", "\r\r\n", "\n\n"][ends[n % ends.len()]];
            let mixed: String = segments.iter().enumerate().map(|(n, it)| format!("{it}{}", end(n))).collect();
            let plain: String = segments.iter().map(|it| format!("{it}\r")).collect();
            prop_assert_eq!(id(&mixed), id(&plain));
        }
    }
}
