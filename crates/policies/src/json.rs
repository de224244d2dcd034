//! The JSON files of a policy folder: read strictly, and with the place of everything in them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::problems::{Problems, SourceFile};

/// Reads a file. Reports the place if that fails.
pub(crate) fn read<T: DeserializeOwned>(file: &SourceFile, problems: &mut Problems) -> Option<T> {
    serde_json::from_str(&file.text)
        .map_err(|error| {
            // serde_json puts the place into its text too.
            let text = error.to_string();
            let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
            problems.at_line(&file.name, error.line(), error.column(), message, None);
        })
        .ok()
}

/// An object without duplicate keys: elsewhere in JSON, the last one would silently win.
pub(crate) struct Unique<V>(pub(crate) BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut unique = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if unique.contains_key(&key) {
                        return Err(A::Error::custom(format!("`{key}` stands here twice")));
                    }
                    let value = map.next_value()?;
                    unique.insert(key, value);
                }
                Ok(Unique(unique))
            }
        }

        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// The byte in valid JSON at which the last step of a path of keys (and indices) begins. If the path ends early, takes the last
/// step that exists.
pub(crate) fn locate(text: &str, path: &[&str]) -> usize {
    let (mut found, mut value) = (0, 0);
    for step in path {
        let Some((key_at, value_at)) = entry(text, value, step) else { break };
        (found, value) = (key_at, value_at);
    }
    found
}

/// The beginning of the entry with that name, and of its value.
fn entry(text: &str, at: usize, name: &str) -> Option<(usize, usize)> {
    let mut at = past(text, at, &[]);
    let is_object = text.get(at..)?.starts_with('{');
    at += 1;
    for index in 0.. {
        at = past(text, at, b",");
        let key_at = at;
        let is_it = if is_object {
            let (key, end) = next::<String>(text, at)?;
            at = past(text, end, b":");
            key == name
        } else {
            index.to_string() == name
        };
        if is_it {
            return Some((key_at, at));
        }
        at = next::<IgnoredAny>(text, at)?.1;
    }
    None
}

/// The value that begins here, and its end.
fn next<T: DeserializeOwned>(text: &str, at: usize) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(text.get(at..)?).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, at + values.byte_offset()))
}

fn past(text: &str, at: usize, punctuation: &[u8]) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace() || punctuation.contains(byte)).count()
}

/// A text that is not empty.
pub(crate) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_keys_and_indices() {
        let text = "{\n \"a\": \"b\", \"b\" : [1, {\"a\": 2}],\n \"c\\u0064\": {\"b\": []}}";
        for (path, found) in [
            (&["b"][..], "\"b\" :"),
            (&["b", "0"], "1,"),
            (&["b", "1", "a"], "\"a\": 2"),
            (&["cd", "b"], "\"b\": []"),
            (&["cd", "missing"], "\"c\\u0064\""),
            (&["b", "7", "a"], "\"b\" :"),
            (&["missing"], "{\n"),
        ] {
            let rest = text.get(locate(text, path)..).unwrap();
            assert!(rest.starts_with(found), "{path:?}: {rest}");
        }
    }

    #[test]
    fn a_duplicate_key_is_refused() {
        let file = SourceFile { name: "routes.json".to_owned(), text: "{\"a\": 1,\n\"a\": 2}".to_owned() };
        let mut problems = Problems::default();
        assert!(read::<Unique<u8>>(&file, &mut problems).is_none());
        let errors = problems.or(Some(())).unwrap_err();
        assert!(errors.to_string().starts_with("routes.json:2:"), "{errors}");
        assert!(errors.to_string().contains("`a` stands here twice"), "{errors}");
    }
}
