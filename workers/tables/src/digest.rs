//! What a day's files were made from, in a few bytes: equal digests mean equal files.

use sha2::{Digest as _, Sha256};
use tables::{Entry, Mapping, Table};

/// The records of a day. The order in which they are read does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) stored: u64,
    /// Records that are not stored, whatever else they are: queued, held, discarded.
    pub(crate) unfinished: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn add(&mut self, stored: &Entry) {
        let version = stored.version_id.as_deref().unwrap_or_default();
        self.sum = self.sum.wrapping_add(first_bytes(&[stored.message_id.to_string().as_str(), version]));
        self.stored += 1;
    }

    /// The text that the progress keeps. It also has what [`of_columns`] gives, so that another mapping is a change.
    pub(crate) fn text(&self, columns: &str) -> String {
        format!("{}-{:032x}-{columns}", self.stored, self.sum)
    }
}

/// The columns of all tables, and all that decides what is in them, in a few letters.
pub(crate) fn of_columns(mapping: &Mapping) -> String {
    let columns = Table::ALL.iter().flat_map(|table| {
        let names = mapping.columns(*table).into_iter().map(|it| format!("{} {:?} {}", it.name, it.kind, it.source));
        std::iter::once(table.name().to_owned()).chain(names)
    });
    let columns: Vec<String> = columns.chain([mapping.made_by()]).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let text = format!("{:032x}", first_bytes(&columns));
    text.get(..8).unwrap_or_default().to_owned()
}

fn first_bytes(texts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update(b"\n");
    }
    let bytes = hash.finalize();
    bytes.iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::files::tests::entry;

    #[test]
    fn a_digest_changes_with_a_message_its_version_and_the_columns_and_not_with_the_order() {
        let (one, mut two) = (entry("MSH|^~\\&|A\r"), entry("MSH|^~\\&|B\r"));
        let of = |entries: &[&Entry]| {
            let mut digest = Digest::default();
            entries.iter().for_each(|it| digest.add(it));
            digest
        };
        assert_eq!(of(&[&one, &two]).text("c"), of(&[&two, &one]).text("c"));
        assert_ne!(of(&[&one]).text("c"), of(&[&one, &two]).text("c"));
        assert_ne!(of(&[&one, &one]).text("c"), of(&[&one, &two]).text("c"));
        assert_ne!(of(&[&one]).text("c"), of(&[&one]).text("d"));
        let before = of(&[&two]);
        two.version_id = Some("2".to_owned());
        assert_ne!(before, of(&[&two]));
        let standard = Mapping::standard().unwrap();
        assert_eq!(of_columns(standard).len(), 8);
        let schema = hl7::Schema::read("[ZPI]\nname = \"Own\"\nfields = [{ position = 1, name = \"Language\" }]\n").unwrap();
        assert_ne!(of_columns(&standard.clone().with_schema(schema)), of_columns(standard));
    }

    #[test]
    fn a_digest_changes_with_what_a_mapping_takes_into_the_same_columns() {
        let written = |row: &str, column: &str| {
            let text = format!(
                "version = 1\n[observations]\nrow = \"OBX\"\n{row}\ncolumns = [\n  {{ name = \"a\", {column}, source = \"x\" }},\n]\n"
            );
            Mapping::read(&text).unwrap()
        };
        let (each, from) = ("each = \"OBX-5\"", "from = \"OBX-3.1\"");
        let mappings = [
            written(each, from),
            written("", from),
            written("each = \"OBX-8\"", from),
            written("alone = \"OBR\"", from),
            written("each = \"OBX-5\"\nonly = [\"ED\"]", from),
            written("each = \"OBX-5\"\nonly = [\"ED\", \"RP\"]", from),
            written(each, "from = \"OBX-3.2\""),
            written(each, "from = \"OBX-3.1.2\""),
            written(each, "from = \"OBX-3.1 else OBX-4.1\""),
            written(each, "from = \"OBX-3.1\", take = \"all\""),
            written(each, "derived = \"value\""),
            written(each, "derived = \"value_text\""),
        ];
        let columns = mappings.iter().map(|it| it.columns(Table::Observations));
        assert!(columns.clone().all(|it| Some(it) == columns.clone().next()), "the columns are the same");
        let digests: BTreeSet<String> = mappings.iter().map(of_columns).collect();
        assert_eq!(digests.len(), mappings.len());
        // Reading dictionaries changes nothing.
        let schema = hl7::Schema::read("[ZPI]\nname = \"Own\"\nfields = [{ position = 1, name = \"Language\" }]\n").unwrap();
        let named = written(each, from).with_schema(schema);
        let before = of_columns(&named);
        schema.dictionary("2.5.1");
        assert_eq!(before, of_columns(&named));
    }
}
