//! Which segments a message has, and in which order.

/// The abstract syntax of a message (HL7 2.8.2 §2.12).
#[derive(Debug, PartialEq, Eq)]
pub struct Structure {
    /// Its name in MSH-9.3: `ADT_A01`.
    pub id: &'static str,
    /// Its items, in order.
    pub items: Vec<Item>,
}

/// A segment or a group at its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// The segment or group.
    pub node: Node,
    /// Whether it is required within its group.
    pub required: bool,
    /// Whether it may repeat.
    pub repeats: bool,
}

/// The node at a place of a structure.
#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    /// The segment with this id.
    Segment(&'static str),
    /// Any one segment.
    Any,
    /// A group of items, in order.
    Group {
        /// `PATIENT_RESULT`.
        name: &'static str,
        /// Its items, in order.
        items: Vec<Item>,
    },
    /// One of these items.
    Choice(Vec<Item>),
}

impl Structure {
    /// Parses the text of the data: `MSH SFT* PATIENT(PID PD1?)? <OBR|RXO>+`. `None` if it is invalid.
    pub(super) fn parse(id: &'static str, text: &'static str) -> Option<Self> {
        let mut rest = text;
        let items = items(&mut rest, ' ')?;
        rest.is_empty().then_some(Self { id, items })
    }
}

/// Parses items with a separator between them, up to the first text that is no item.
fn items(rest: &mut &'static str, separator: char) -> Option<Vec<Item>> {
    let mut items = vec![item(rest)?];
    while let Some(next) = rest.strip_prefix(separator) {
        *rest = next;
        items.push(item(rest)?);
    }
    Some(items)
}

fn item(rest: &mut &'static str) -> Option<Item> {
    let node = if let Some(inside) = rest.strip_prefix('<') {
        *rest = inside;
        let options = items(rest, '|')?;
        *rest = rest.strip_prefix('>')?;
        Node::Choice(options)
    } else {
        let end = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(rest.len());
        let (name, behind) = rest.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
        *rest = behind;
        if let Some(inside) = rest.strip_prefix('(') {
            *rest = inside;
            let items = items(rest, ' ')?;
            *rest = rest.strip_prefix(')')?;
            Node::Group { name, items }
        } else if name == "ANY" {
            Node::Any
        } else {
            Node::Segment(name)
        }
    };
    let (required, repeats) = match rest.chars().next() {
        Some('?') => (false, false),
        Some('*') => (false, true),
        Some('+') => (true, true),
        _ => return Some(Item { node, required: true, repeats: false }),
    };
    *rest = rest.get(1..)?;
    Some(Item { node, required, repeats })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: &'static str, required: bool, repeats: bool) -> Item {
        Item { node: Node::Segment(id), required, repeats }
    }

    #[test]
    fn a_structure_is_parsed_from_its_text() {
        let found = Structure::parse("X", "MSH SFT* PATIENT(PID PD1?)? <OBR|RXO>+ ANY").unwrap();
        let patient = vec![segment("PID", true, false), segment("PD1", false, false)];
        let expected = vec![
            segment("MSH", true, false),
            segment("SFT", false, true),
            Item { node: Node::Group { name: "PATIENT", items: patient }, required: false, repeats: false },
            Item {
                node: Node::Choice(vec![segment("OBR", true, false), segment("RXO", true, false)]),
                required: true,
                repeats: true,
            },
            Item { node: Node::Any, required: true, repeats: false },
        ];
        assert_eq!(found, Structure { id: "X", items: expected });
    }

    #[test]
    fn an_invalid_structure_is_refused() {
        for text in ["", "MSH ", "A(B", "A(B))", "<A|B", "A??", "A()", "<>", "A,B"] {
            assert_eq!(Structure::parse("X", text), None, "{text}");
        }
    }
}
