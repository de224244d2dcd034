//! Which value each template parameter gets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};

/// A parameter that a template declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) has_default: bool,
}

/// Gives each declared parameter the operator's value, or else the value that an earlier stack or the upload has under its name.
/// Leaves out a parameter with neither: a new stack takes the default, and an update the value that it had.
pub(super) fn fill(
    template: &str,
    declared: &[Declared],
    found: &BTreeMap<String, String>,
    chosen: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    let mut missing = Vec::new();
    for Declared { name, has_default } in declared {
        match chosen.get(name).or_else(|| found.get(name)) {
            Some(value) => {
                values.insert(name.clone(), value.clone());
            }
            None if *has_default => {}
            None => missing.push(name.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(values);
    }
    bail!(
        "infra/{template}.yaml needs {}: no earlier stack has such an output; give it with `--parameter NAME=VALUE`",
        missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )
}

/// The parameters that a template's text declares. CloudFormation could tell them, but it reads a large template only from a bucket,
/// and the first deployment creates that bucket.
pub(super) fn declared(template: &str, body: &str) -> Result<Vec<Declared>> {
    section(template, body, "Parameters", |name, entry| Some(Declared { name, has_default: of(entry, "Default").is_some() }))
}

/// The names in a section of a template's text, and the type of each.
pub(super) fn types_in(template: &str, body: &str, name: &str) -> Result<Vec<(String, String)>> {
    section(template, body, name, |name, entry| Some((name, of(entry, "Type").and_then(text)?)))
}

fn section<T>(template: &str, body: &str, name: &str, read: impl Fn(String, &Yaml<'_>) -> Option<T>) -> Result<Vec<T>> {
    let documents = Yaml::load_from_str(body).with_context(|| format!("infra/{template}.yaml is not YAML"))?;
    let Some(document @ Yaml::Mapping(_)) = documents.first() else { bail!("infra/{template}.yaml is no template") };
    let Some(Yaml::Mapping(entries)) = of(document, name) else { return Ok(Vec::new()) };
    Ok(entries.iter().filter_map(|(name, entry)| read(text(name)?, entry)).collect())
}

fn text(node: &Yaml<'_>) -> Option<String> {
    match node {
        Yaml::Value(Scalar::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

fn of<'a, 'b>(node: &'a Yaml<'b>, wanted: &str) -> Option<&'a Yaml<'b>> {
    let Yaml::Mapping(entries) = node else { return None };
    entries.iter().find(|(name, _)| text(name).as_deref() == Some(wanted)).map(|(_, value)| value)
}

/// Refuses a chosen parameter that no template declares: it would change nothing, and nobody would notice.
pub(super) fn check_known(mut known: Vec<String>, chosen: &BTreeMap<String, String>) -> Result<()> {
    known.sort_unstable();
    known.dedup();
    match chosen.keys().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => bail!("no template has a parameter `{name}`; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, has_default: bool) -> Declared {
        Declared { name: name.to_owned(), has_default }
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_parameter_gets_the_output_of_its_name() {
        let declared = [parameter("LakeBucketName", false), parameter("IdTokenMinutes", true)];
        let found = values(&[("LakeBucketName", "lake"), ("TopicArn", "arn")]);
        assert_eq!(fill("identity", &declared, &found, &values(&[])).unwrap(), values(&[("LakeBucketName", "lake")]));
    }

    #[test]
    fn the_operators_choice_of_a_parameter_has_precedence() {
        let declared = [parameter("LakeBucketName", false), parameter("IdTokenMinutes", true)];
        let found = values(&[("LakeBucketName", "lake")]);
        let chosen = values(&[("IdTokenMinutes", "5"), ("LakeBucketName", "other"), ("ForAnotherTemplate", "x")]);
        let expected = values(&[("IdTokenMinutes", "5"), ("LakeBucketName", "other")]);
        assert_eq!(fill("identity", &declared, &found, &chosen).unwrap(), expected);
    }

    #[test]
    fn a_parameter_without_a_value_is_named() {
        let declared = [parameter("LakeBucketName", false)];
        let error = fill("identity", &declared, &values(&[]), &values(&[])).unwrap_err().to_string();
        assert!(error.contains("infra/identity.yaml") && error.contains("`LakeBucketName`"), "{error}");
    }

    #[test]
    fn a_parameter_has_a_default_even_if_that_is_empty() {
        let body = "Parameters:\n  KeyArn:\n    Type: String\n  AlarmTopicArn:\n    Type: String\n    Default: ''\n";
        assert_eq!(declared("core", body).unwrap(), [parameter("KeyArn", false), parameter("AlarmTopicArn", true)]);
    }

    #[test]
    fn a_parameter_that_no_template_has_is_refused() {
        let body = "Parameters:\n  IdTokenMinutes:\n    Type: Number\nResources:\n  Queue:\n    Type: !Ref Other\n";
        let typed = types_in("identity", body, "Parameters").unwrap();
        assert_eq!(typed, [("IdTokenMinutes".to_owned(), "Number".to_owned())]);
        let known: Vec<_> = typed.into_iter().map(|(name, _)| name).collect();
        assert!(check_known(known.clone(), &values(&[("IdTokenMinutes", "5")])).is_ok());
        let error = check_known(known, &values(&[("IdTokenMinute", "5")])).unwrap_err().to_string();
        assert!(error.contains("`IdTokenMinute`") && error.contains("IdTokenMinutes"), "{error}");
    }
}
