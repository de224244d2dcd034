//! The characters that a message separates its parts with.

use domain::Er7;
use domain::catalog::{Problem, SegmentId};

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

/// Why nothing can be read from MSH on, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The first segment that is not blank is no MSH.
    #[error("the message does not begin with an MSH segment")]
    NoMsh(Place),
    /// MSH-1 or MSH-2 is missing, longer than five characters, or uses a letter, a digit or a blank.
    #[error("MSH-1 and MSH-2 do not name one to five delimiters")]
    Delimiters(Place),
}

/// A segment of a message in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The how manieth segment it is, blank ones counted, from 1.
    pub position: usize,
    /// Where it begins, in bytes of the canonical form, from 0.
    pub offset: usize,
}

impl Unreadable {
    /// The short constant for catalog and status, with the sentence and the place beside it.
    pub fn problem(self) -> Problem {
        let (code, segment, place) = match self {
            // Whatever stands there may be anything, so its name is not repeated.
            Self::NoMsh(place) => ("no-msh", None, place),
            Self::Delimiters(place) => ("msh-delimiters", SegmentId::try_from("MSH".to_owned()).ok(), place),
        };
        Problem {
            detail: Some(self.to_string()),
            segment,
            position: Some(place.position),
            offset: Some(place.offset),
            ..Problem::new(code)
        }
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
        let (place, first) = first_segment(message);
        if !first.starts_with("MSH") {
            return Err(Unreadable::NoMsh(place));
        }
        Self::of_msh(first).ok_or(Unreadable::Delimiters(place))
    }

    /// The delimiters of a message whose MSH may be damaged: where MSH-2 is none, the usual ones beside MSH-1. `None` if
    /// there is not even that.
    pub(crate) fn guess(msh: &str) -> Option<Self> {
        Self::of_msh(msh).or_else(|| {
            let field = msh.chars().nth(3).filter(|&it| is_plain(it))?;
            let Self { component, repetition, escape, subcomponent, .. } = Self::USUAL;
            // One that MSH-1 has taken changes places with it.
            let other = |usual: Option<char>| usual.map(|it| if it == field { Self::USUAL.field } else { it });
            let [component, repetition, escape, subcomponent] = [component, repetition, escape, subcomponent].map(other);
            Some(Self { field, component, repetition, escape, subcomponent, truncation: None })
        })
    }

    /// MSH-2 with these.
    pub(crate) fn encoding_characters(&self) -> String {
        [self.component, self.repetition, self.escape, self.subcomponent, self.truncation].into_iter().flatten().collect()
    }

    /// Whether MSH-1 and MSH-2 are what they should be.
    pub(crate) fn is_readable(msh: &str) -> bool {
        Self::of_msh(msh).is_some()
    }

    fn of_msh(msh: &str) -> Option<Self> {
        let mut after_name = msh.chars().skip(3);
        let field = after_name.next()?;
        // Six are enough to see that there are too many.
        let encoding: Vec<char> = after_name.take_while(|&character| character != field).take(6).collect();
        // Seen in the wild: `^~\\&`, escaped once too often. A character that comes again names nothing new.
        let mut distinct: Vec<char> = Vec::with_capacity(5);
        for character in encoding {
            if !distinct.contains(&character) {
                distinct.push(character);
            }
        }
        if distinct.is_empty() || distinct.len() > 5 || !is_plain(field) || !distinct.iter().copied().all(is_plain) {
            return None;
        }
        let nth = |n: usize| distinct.get(n).copied();
        Some(Self { field, component: nth(0), repetition: nth(1), escape: nth(2), subcomponent: nth(3), truncation: nth(4) })
    }

    /// Turns `\F\ \S\ \R\ \E\ \T\ \P\` into what they stand for, and `\Xdd...\` where it is ASCII (HL7 2.5.1 §2.7).
    /// Everything else that begins with the escape character (formatting, highlighting, character sets, bytes beyond ASCII,
    /// broken sequences) stays as it is.
    pub fn unescape(&self, value: &str, out: &mut String) {
        let Some(escape) = self.escape else { return out.push_str(value) };
        let mut rest = value;
        while let Some((before, after)) = rest.split_once(escape) {
            out.push_str(before);
            match after.split_once(escape).filter(|(sequence, _)| self.decode(sequence, out)) {
                Some((_, behind)) => rest = behind,
                None => {
                    out.push(escape);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
    }

    /// Appends what a sequence stands for; false if that is no character.
    fn decode(&self, sequence: &str, out: &mut String) -> bool {
        let character = match sequence {
            "F" => Some(self.field),
            "S" => self.component,
            "R" => self.repetition,
            "E" => self.escape,
            "T" => self.subcomponent,
            "P" => self.truncation,
            _ => return sequence.strip_prefix('X').is_some_and(|digits| push_hexadecimal(digits, out)),
        };
        out.extend(character);
        character.is_some()
    }

    /// The reverse of [`Delimiters::unescape`] for a value without sequences of its own. A line end, which would end the
    /// segment, becomes `\X0D\` or `\X0A\`.
    pub fn escape(&self, value: &str, out: &mut String) {
        for character in value.chars() {
            match (self.sequence(character), self.escape) {
                (Some(name), Some(escape)) => {
                    out.push(escape);
                    out.push_str(name);
                    out.push(escape);
                }
                _ => out.push(character),
            }
        }
    }

    /// Whether [`Delimiters::escape`] makes `raw` of a value.
    pub(crate) fn escapes_to(&self, value: &str, raw: &str) -> bool {
        let mut rest = raw;
        for character in value.chars() {
            let stripped = match (self.sequence(character), self.escape) {
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

    /// The sequence that stands for a character which cannot stand in a value, without its escape characters.
    fn sequence(&self, character: char) -> Option<&'static str> {
        match Some(character) {
            it if it == Some(self.field) => Some("F"),
            it if it == self.component => Some("S"),
            it if it == self.repetition => Some("R"),
            it if it == self.escape => Some("E"),
            it if it == self.subcomponent => Some("T"),
            Some('\r') => Some("X0D"),
            Some('\n') => Some("X0A"),
            _ => None,
        }
    }
}

/// MSH-1 and each of MSH-2 can be any character that no value is made of.
fn is_plain(character: char) -> bool {
    !character.is_alphanumeric() && !character.is_whitespace() && !character.is_control()
}

/// Appends the characters of `\Xdd...\`, if all of them are of ASCII. What other bytes mean depends on a character set that
/// the message may no longer be in. NUL stays as it is: few that read JSON can hold it.
fn push_hexadecimal(digits: &str, out: &mut String) -> bool {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let bytes = || {
        digits.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => u8::try_from(nibble(high)? * 16 + nibble(low)?).ok().filter(|it| matches!(it, 1..=0x7f)),
            _ => None,
        })
    };
    if digits.is_empty() || bytes().any(|byte| byte.is_none()) {
        return false;
    }
    out.extend(bytes().flatten().map(char::from));
    true
}

/// The first segment that is not blank, or the last one if there is no other.
pub(crate) fn first_segment(message: &Er7) -> (Place, &str) {
    let mut place = Place { position: 0, offset: 0 };
    let mut last = "";
    for segment in segments(message) {
        place =
            Place { position: place.position + 1, offset: if place.position == 0 { 0 } else { place.offset + last.len() + 1 } };
        last = segment;
        if !segment.trim().is_empty() {
            break;
        }
    }
    (place, last)
}

/// The MSH segment: the first that is not blank.
pub(crate) fn msh(message: &Er7) -> Option<&str> {
    Some(first_segment(message).1).filter(|segment| segment.starts_with("MSH"))
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
            assert_eq!(of(text), Err(Unreadable::NoMsh(Place { position: 1, offset: 0 })), "{text}");
        }
        assert_eq!(of("\r \r\rPID|1"), Err(Unreadable::NoMsh(Place { position: 4, offset: 4 })));
        for text in ["MSH", "MSH|", "MSH||", "MSH|ABCD|", "MSH|^~\\&#!|", "MSHA^~\\&A"] {
            assert_eq!(of(text), Err(Unreadable::Delimiters(Place { position: 1, offset: 0 })), "{text}");
        }
        let problem = of("\rMSH|ABCD|SECRET").unwrap_err().problem();
        assert_eq!((problem.code.as_str(), problem.segment.as_ref().map(SegmentId::as_str)), ("msh-delimiters", Some("MSH")));
        assert_eq!((problem.position, problem.offset), (Some(2), Some(1)));
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
        assert_eq!(unescape("a\\X0D\\b\\X0d0A\\c\\X41\\"), "a\rb\r\ncA");
        for as_it_is in
            ["\\.br\\ \\H\\x\\N\\ open\\ end", "\\X\\", "\\X4\\", "\\XC3BC\\", "\\X00\\", "\\X+1\\", "\\Z1\\", "\\P\\"]
        {
            assert_eq!(unescape(as_it_is), as_it_is);
        }
        assert_eq!(unescape("\\"), "\\");
    }
}
