//! The characters that a message separates its parts with.

use domain::Er7;
use domain::catalog::Problem;

/// MSH-1 and MSH-2 (HL7 2.5.1 §2.15.9.1-2). Without a component, repetition, escape or subcomponent character the
/// message has no such parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiters {
    /// MSH-1, usually `|`.
    pub field: char,
    /// Usually `^`.
    pub component: Option<char>,
    /// Usually `~`.
    pub repetition: Option<char>,
    /// Usually `\`.
    pub escape: Option<char>,
    /// Usually `&`.
    pub subcomponent: Option<char>,
    /// HL7 2.7's fifth, usually `#`: stands at the end of a value that was cut. Separates nothing.
    pub truncation: Option<char>,
}

/// Why nothing can be read from MSH on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The first segment that is not blank is no MSH.
    #[error("the message does not begin with an MSH segment")]
    NoMsh,
    /// MSH-1 or MSH-2 is missing, longer than five characters, or uses a letter, a digit or a blank.
    #[error("MSH-1 and MSH-2 do not name one to five delimiters")]
    Delimiters,
}

impl Unreadable {
    /// The short constant for catalog and status, with the sentence beside it.
    pub fn problem(self) -> Problem {
        let code = match self {
            Self::NoMsh => "no-msh",
            Self::Delimiters => "msh-delimiters",
        };
        Problem { code: code.to_owned(), detail: Some(self.to_string()) }
    }
}

impl Delimiters {
    /// `|^~\&`, as nearly every message has them.
    pub const USUAL: Self = Self {
        field: '|',
        component: Some('^'),
        repetition: Some('~'),
        escape: Some('\\'),
        subcomponent: Some('&'),
        truncation: None,
    };

    /// The delimiters of a message, from its MSH.
    ///
    /// # Errors
    /// [`Unreadable`]: the message is kept as it came, with `state=error`.
    pub fn of(message: &Er7) -> Result<Self, Unreadable> {
        Self::of_msh(msh(message).ok_or(Unreadable::NoMsh)?)
    }

    fn of_msh(msh: &str) -> Result<Self, Unreadable> {
        let mut after_name = msh.chars().skip(3);
        let field = after_name.next().ok_or(Unreadable::Delimiters)?;
        // Six are enough to see that there are too many.
        let encoding: Vec<char> = after_name.take_while(|&character| character != field).take(6).collect();
        // Seen in the wild: `^~\\&`, escaped once too often. A character that comes again names nothing new.
        let mut distinct: Vec<char> = Vec::with_capacity(5);
        for character in encoding {
            if !distinct.contains(&character) {
                distinct.push(character);
            }
        }
        let plain = |character: char| !character.is_alphanumeric() && !character.is_whitespace() && !character.is_control();
        if distinct.is_empty() || distinct.len() > 5 || !plain(field) || !distinct.iter().copied().all(plain) {
            return Err(Unreadable::Delimiters);
        }
        let nth = |n: usize| distinct.get(n).copied();
        Ok(Self { field, component: nth(0), repetition: nth(1), escape: nth(2), subcomponent: nth(3), truncation: nth(4) })
    }

    /// Turns `\F\ \S\ \R\ \E\ \T\` into what they stand for (HL7 2.5.1 §2.7). Everything else
    /// that begins with the escape character (formatting, character sets, broken sequences) stays as it is.
    pub fn unescape(&self, value: &str, out: &mut String) {
        let Some(escape) = self.escape else { return out.push_str(value) };
        let mut rest = value;
        while let Some((before, after)) = rest.split_once(escape) {
            out.push_str(before);
            match after.split_once(escape).and_then(|(sequence, behind)| Some((self.meaning(sequence)?, behind))) {
                Some((character, behind)) => {
                    out.push(character);
                    rest = behind;
                }
                None => {
                    out.push(escape);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
    }

    fn meaning(&self, sequence: &str) -> Option<char> {
        match sequence {
            "F" => Some(self.field),
            "S" => self.component,
            "R" => self.repetition,
            "E" => self.escape,
            "T" => self.subcomponent,
            _ => None,
        }
    }

    /// The reverse of [`Delimiters::unescape`] for a value without sequences of its own.
    pub fn escape(&self, value: &str, out: &mut String) {
        for character in value.chars() {
            let name = match Some(character) {
                it if it == Some(self.field) => 'F',
                it if it == self.component => 'S',
                it if it == self.repetition => 'R',
                it if it == self.escape => 'E',
                it if it == self.subcomponent => 'T',
                _ => {
                    out.push(character);
                    continue;
                }
            };
            if let Some(escape) = self.escape {
                out.extend([escape, name, escape]);
            } else {
                out.push(character);
            }
        }
    }
}

/// The MSH segment: the first that is not blank.
pub(crate) fn msh(message: &Er7) -> Option<&str> {
    segments(message).find(|segment| !segment.trim().is_empty()).filter(|segment| segment.starts_with("MSH"))
}

/// The segments of a canonical message, without their CR.
pub(crate) fn segments(message: &Er7) -> impl Iterator<Item = &str> {
    let text = message.as_str();
    text.strip_suffix('\r').unwrap_or(text).split('\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Delimiters, Unreadable> {
        Delimiters::of(&Er7::canonical(text).unwrap())
    }

    #[test]
    fn usual_and_unusual_delimiters() {
        let usual = of("MSH|^~\\&|A").unwrap();
        assert_eq!((usual.field, usual.component, usual.truncation), ('|', Some('^'), None));
        assert_eq!(of("MSH|^~\\&#|A").unwrap().truncation, Some('#'));
        assert_eq!(of("MSH$%*!@$A").unwrap().subcomponent, Some('@'));
        assert_eq!(of("MSH|^~").unwrap().escape, None);
        assert_eq!(of("MSH|^~\\\\&|"), of("MSH|^~\\&|"));
        assert_eq!(of("\r\rMSH|^~\\&|").map(|it| it.field), Ok('|'));
    }

    #[test]
    fn what_is_not_readable_has_a_reason() {
        for text in ["I'm just a random number: 4711", "PID|1", "FHS|^~\\&|", "M"] {
            assert_eq!(of(text), Err(Unreadable::NoMsh), "{text}");
        }
        for text in ["MSH", "MSH|", "MSH||", "MSH|ABCD|", "MSH|^~\\&#!|", "MSHA^~\\&A"] {
            assert_eq!(of(text), Err(Unreadable::Delimiters), "{text}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_unknown_ones_kept() {
        let delimiters = of("MSH|^~\\&|").unwrap();
        let unescape = |value: &str| {
            let mut out = String::new();
            delimiters.unescape(value, &mut out);
            out
        };
        assert_eq!(unescape("a\\F\\b\\S\\\\R\\\\E\\\\T\\"), "a|b^~\\&");
        assert_eq!(unescape("é\\F\\é"), "é|é");
        assert_eq!(unescape("\\.br\\ \\H\\x\\N\\ \\X0D\\ open\\ end"), "\\.br\\ \\H\\x\\N\\ \\X0D\\ open\\ end");
        assert_eq!(unescape("\\"), "\\");
    }
}
