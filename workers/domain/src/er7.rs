//! The bytes of a message, in the one form that has an id.

use std::fmt;

use crate::MessageId;

/// The largest message that the API takes, in bytes as it is sent. A deployment may take less (`MaximumMessageBytes`).
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The most messages of one body: 4 MiB can hold a million that begin with `MSH|` and no more, and the answer names each.
pub const MAX_MESSAGES: usize = 5000;

/// A message in canonical form: UTF-8, every segment ended by one CR (HL7 2.5.1 §2.5), no MLLP framing, no byte order
/// mark, no blank segments at the end.
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
    /// The canonical form of a decoded message. CR, LF and CRLF, also mixed, end a segment.
    ///
    /// Idempotent; two texts that differ in content have different forms.
    ///
    /// # Errors
    /// [`EmptyMessage`] if nothing but framing and blanks is in it.
    pub fn canonical(text: &str) -> Result<Self, EmptyMessage> {
        let body = without_blank_end(text.trim_start_matches([BYTE_ORDER_MARK, START_BLOCK, END_BLOCK]));
        if body.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
            return Err(EmptyMessage);
        }
        let mut canonical = String::with_capacity(body.len() + 1);
        let mut rest = body;
        while let Some((segment, behind)) =
            memchr::memchr2(b'\r', b'\n', rest.as_bytes()).and_then(|at| rest.split_at_checked(at))
        {
            canonical.push_str(segment);
            canonical.push('\r');
            rest = behind.strip_prefix("\r\n").unwrap_or(behind.get(1..).unwrap_or_default());
        }
        canonical.push_str(rest);
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

    /// The id that this content has, from whatever source it comes.
    pub fn message_id(&self) -> MessageId {
        MessageId::of_canonical(self.0.as_bytes())
    }
}

/// Cuts what may stand behind the last segment: its own end, blank segments, the MLLP end block. Blanks that stand directly behind
/// content stay, since they are content. Linear, whatever stands there.
fn without_blank_end(text: &str) -> &str {
    let is_framing = |character| matches!(character, ' ' | '\t' | '\r' | '\n' | END_BLOCK);
    let content = text.trim_end_matches(is_framing).len();
    let behind = text.get(content..).unwrap_or_default();
    let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
    text.get(..content + blanks).unwrap_or(text)
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
        ];
        for variant in variants {
            assert_eq!(id(&variant), id(ADT), "{variant:?}");
        }
    }

    #[test]
    fn a_difference_of_content_is_a_difference_of_id() {
        for other in
            [ADT.replace("JANE", "JANET"), ADT.replace("\rPID", "\r\rPID"), format!(" {ADT}"), ADT.replace("JANE", "JANE ")]
        {
            assert_ne!(id(&other), id(ADT), "{other:?}");
        }
    }

    #[test]
    fn nothing_but_framing_is_empty() {
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
        fn canonical_is_idempotent(text in "[\u{feff}\u{b}\u{1c}\r\n \tA|é]{0,40}") {
            if let Ok(once) = Er7::canonical(&text) {
                prop_assert_eq!(Er7::canonical(once.as_str()).unwrap(), once);
            }
        }

        #[test]
        fn any_line_end_gives_the_same_id(segments in prop::collection::vec("[A-Z0-9|^é]{1,20}", 1..8), ends in prop::collection::vec(0..3usize, 8)) {
            let end = |i: usize| ["\r", "\n", "\r\n"][ends[i % ends.len()]];
            let mixed: String = segments.iter().enumerate().map(|(i, s)| format!("{s}{}", end(i))).collect();
            let plain: String = segments.iter().map(|s| format!("{s}\r")).collect();
            prop_assert_eq!(id(&mixed), id(&plain));
        }
    }
}
