//! The characters that separate the parts of a message.

use domain::Er7;
use domain::catalog::{Problem, SegmentId};

/// MSH-1 and MSH-2 (HL7 2.5.1 §2.15.9.1-2). A message without a component, repetition, escape or subcomponent character has no such
/// parts. `^~&` is read as `^~\&`, and `^~&#` as `^~\&#`.
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
    /// The fifth encoding character, since HL7 2.7, usually `#`: marks the end of a value that was cut. Separates nothing.
    pub truncation: Option<char>,
}

/// Why a message cannot be read from MSH on, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The first segment that is not blank is not MSH.
    #[error("the message does not begin with an MSH segment")]
    NoMsh(Place),
    /// MSH-1 or MSH-2 is missing, longer than five characters, or uses a letter, a digit or a blank.
    #[error("MSH-1 and MSH-2 do not name one to five delimiters")]
    Delimiters(Place),
}

/// A segment of a message in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's 1-based index, blank segments counted.
    pub position: usize,
    /// Where the segment begins: bytes from the start of the canonical form.
    pub offset: usize,
}

impl Unreadable {
    /// The short code for catalog and status, with the sentence and the place.
    pub fn problem(self) -> Problem {
        let (code, segment, place) = match self {
            // Any text may stand there, so its name is not repeated.
            Self::NoMsh(place) => ("no-msh", None, place),
            Self::Delimiters(place) => ("msh-delimiters", "MSH".parse::<SegmentId>().ok(), place),
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

    /// The delimiters of a message whose MSH may be damaged: if MSH-2 is invalid, the usual ones beside MSH-1. `None` without
    /// MSH-1.
    pub(crate) fn guess(msh: &str) -> Option<Self> {
        Self::of_msh(msh).or_else(|| {
            let field = msh.chars().nth(3).filter(|&it| is_plain(it))?;
            let Self { component, repetition, escape, subcomponent, .. } = Self::USUAL;
            // A usual delimiter that MSH-1 uses changes places with it.
            let other = |usual: Option<char>| usual.map(|it| if it == field { Self::USUAL.field } else { it });
            let [component, repetition, escape, subcomponent] = [component, repetition, escape, subcomponent].map(other);
            Some(Self { field, component, repetition, escape, subcomponent, truncation: None })
        })
    }

    /// The text of MSH-2 with these delimiters.
    pub(crate) fn encoding_characters(&self) -> String {
        [self.component, self.repetition, self.escape, self.subcomponent, self.truncation].into_iter().flatten().collect()
    }

    fn of_msh(msh: &str) -> Option<Self> {
        let mut after_name = msh.chars().skip(3);
        let field = after_name.next()?;
        // Six characters are enough to see that there are too many.
        let encoding: Vec<char> = after_name.take_while(|&character| character != field).take(6).collect();
        // Seen in practice: `^~\\&`, escaped once too often. A repeated character adds no delimiter.
        let mut distinct: Vec<char> = Vec::with_capacity(5);
        for character in encoding {
            if !distinct.contains(&character) {
                distinct.push(character);
            }
        }
        if distinct.is_empty() || distinct.len() > 5 || !is_plain(field) || !distinct.iter().copied().all(is_plain) {
            return None;
        }
        if has_lost_its_backslash(&distinct) && field != '\\' {
            distinct.insert(2, '\\');
        }
        let nth = |n: usize| distinct.get(n).copied();
        Some(Self { field, component: nth(0), repetition: nth(1), escape: nth(2), subcomponent: nth(3), truncation: nth(4) })
    }
}

/// Whether MSH-2 lacks its escape character: `^~&`, or `^~&#` with the truncation character of 2.7. Software loses it by writing
/// `"^~\&"` in a language in which a backslash escapes the next character. Nobody chooses `&` as the escape character.
pub(crate) fn has_lost_its_backslash(encoding: &[char]) -> bool {
    matches!(encoding, [component, repetition, '&'] | [component, repetition, '&', '#'] if *component != '\\' && *repetition != '\\')
}

/// Whether a character can be a delimiter: MSH-1 and MSH-2 take any character that no value consists of.
fn is_plain(character: char) -> bool {
    !character.is_alphanumeric() && !character.is_whitespace() && !character.is_control()
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
    crate::delimited::delimited(text.strip_suffix('\r').unwrap_or(text), Some('\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Delimiters, Unreadable> {
        Delimiters::of(&Er7::canonical(text).unwrap())
    }

    #[test]
    fn usual_and_unusual_delimiters_are_read() {
        let usual = of("MSH|^~\\&|A").unwrap();
        assert_eq!((usual.field, usual.component, usual.truncation), ('|', Some('^'), None));
        assert_eq!(of("MSH|^~\\&#|A").unwrap().truncation, Some('#'));
        assert_eq!(of("MSH$%*!@$A").unwrap().subcomponent, Some('@'));
        assert_eq!(of("MSH|^~").unwrap().escape, None);
        assert_eq!(of("MSH|^~\\\\&|"), of("MSH|^~\\&|"));
        assert_eq!(of("MSH^~|\\&^A").map(|it| (it.field, it.component, it.repetition)), Ok(('^', Some('~'), Some('|'))));
        assert_eq!(of("\r\rMSH|^~\\&|").map(|it| it.field), Ok('|'));
    }

    #[test]
    fn a_lost_backslash_is_put_back() {
        assert_eq!(of("MSH|^~&|A"), of("MSH|^~\\&|A"));
        assert_eq!(of("MSH|^~&#|A"), of("MSH|^~\\&#|A"));
        assert_eq!(of("MSH|%!&|A").map(|it| (it.component, it.escape, it.subcomponent)), Ok((Some('%'), Some('\\'), Some('&'))));
        assert_eq!(of("MSH|\\~&|A").map(|it| it.escape), Ok(Some('&')), "the backslash has another task here");
        assert_eq!(of("MSH\\^~&\\A").map(|it| it.escape), Ok(Some('&')));
        assert_eq!(of("MSH|^~\\|A").map(|it| it.subcomponent), Ok(None));
    }

    #[test]
    fn an_unreadable_msh_has_a_reason() {
        for text in ["I'm just a random number: 4711", "PID|1", "FHS|^~\\&|", "M"] {
            assert_eq!(of(text), Err(Unreadable::NoMsh(Place { position: 1, offset: 0 })), "{text}");
        }
        assert_eq!(of("\r \r\rPID|1"), Err(Unreadable::NoMsh(Place { position: 1, offset: 0 })), "blank segments do not count");
        for text in ["MSH", "MSH|", "MSH||", "MSH|ABCD|", "MSH|^~\\&#!|", "MSHA^~\\&A"] {
            assert_eq!(of(text), Err(Unreadable::Delimiters(Place { position: 1, offset: 0 })), "{text}");
        }
        let problem = of("\rMSH|ABCD|SECRET").unwrap_err().problem();
        assert_eq!((problem.code.as_str(), problem.segment.as_ref().map(SegmentId::as_str)), ("msh-delimiters", Some("MSH")));
        assert_eq!((problem.position, problem.offset), (Some(1), Some(0)));
    }
}
