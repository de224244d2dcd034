//! How a patient is named in a message and in a search.

use std::fmt;
use std::str::FromStr;

/// An identifier of a patient (PID-3, a CX of HL7) and the names of the authority that assigned it. It identifies a person:
/// `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PatientIdentifier {
    id: String,
    authorities: Vec<String>,
}

/// The text is no identifier. Does not quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a patient is ID or ID^^^AUTHORITY, with 1 to 250 characters each and no control characters")]
pub struct InvalidPatientIdentifier;

impl PatientIdentifier {
    /// An identifier, trimmed, and the authority's names: a namespace (HD.1), a universal id (HD.2), or both. Leaves out empty
    /// names.
    ///
    /// # Errors
    /// If the identifier is empty or HL7's null (`""`), or a text is too long or has control characters.
    pub fn new(id: &str, authorities: [&str; 2]) -> Result<Self, InvalidPatientIdentifier> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|it| !it.is_empty() && it != "\"\"");
        let id = given(id).ok_or(InvalidPatientIdentifier)?;
        let mut authorities: Vec<String> = authorities.into_iter().filter_map(given).collect();
        authorities.dedup();
        let is_good = |text: &String| text.chars().count() <= Self::MAX_CHARACTERS && !text.contains(char::is_control);
        let are_good = is_good(&id) && authorities.iter().all(is_good);
        if are_good { Ok(Self { id, authorities }) } else { Err(InvalidPatientIdentifier) }
    }

    /// More than HL7 2.5.1 allows for a CX.1 (15 characters) and an HD (227).
    const MAX_CHARACTERS: usize = 250;

    /// The form of PID-3, without escapes; [`PatientIdentifier::from_str`] reads it back.
    pub fn to_cx(&self) -> String {
        let Self { id, authorities } = self;
        if authorities.is_empty() { id.clone() } else { format!("{id}^^^{}", authorities.join("&")) }
    }

    /// CX.1, never empty.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The names of the authority, none if it is not known.
    pub fn authorities(&self) -> &[String] {
        &self.authorities
    }
}

impl FromStr for PatientIdentifier {
    type Err = InvalidPatientIdentifier;

    /// Reads the form of PID-3, without escapes: `4711`, `4711^^^HIS`, `4711^^^HIS&1.2.3&ISO`, `4711^^^HIS^MR`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut components = text.split('^');
        let id = components.next().unwrap_or_default();
        let mut authority = components.nth(2).unwrap_or_default().split('&');
        let mut name = || authority.next().unwrap_or_default();
        Self::new(id, [name(), name()])
    }
}

impl fmt::Debug for PatientIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientIdentifier(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_read_as_pid_3_has_it() {
        let read = |text: &str| text.parse::<PatientIdentifier>().map(|it| (it.id, it.authorities));
        let is = |id: &str, authorities: &[&str]| Ok((id.to_owned(), authorities.iter().map(|it| (*it).to_owned()).collect()));
        assert_eq!(read("4711"), is("4711", &[]));
        assert_eq!(read(" 4711 ^^^"), is("4711", &[]));
        assert_eq!(read("4711^^^HIS"), is("4711", &["HIS"]));
        assert_eq!(read("4711^8^M11^HIS&1.2.3&ISO^MR^WEST"), is("4711", &["HIS", "1.2.3"]));
        assert_eq!(read("4711^^^&1.2.3&ISO"), is("4711", &["1.2.3"]));
        assert_eq!(read("4711^^^\"\""), is("4711", &[]));
        for text in ["4711", "4711^^^HIS", "4711^^^HIS&1.2.3"] {
            assert_eq!(text.parse::<PatientIdentifier>().unwrap().to_cx(), text);
        }
        for bad in ["", " ", "^^^HIS", "\"\"", "4\t7", "4711^^^H\nIS", &"9".repeat(251), &format!("1^^^{}", "9".repeat(251))] {
            assert_eq!(read(bad), Err(InvalidPatientIdentifier), "{bad:?}");
        }
        assert_eq!(format!("{:?}", "4711".parse::<PatientIdentifier>()), "Ok(PatientIdentifier(..))");
    }
}
