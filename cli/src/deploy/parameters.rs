//! Which value each template parameter gets.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// A parameter that a template declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) has_default: bool,
}

/// Gives each declared parameter what the operator chose, or else what an earlier stack or the upload gave under its
/// name. A parameter with neither is left out: it has its default, or at an update the value it had.
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

/// Refuses a chosen parameter that no template declares: it would change nothing, and nobody would notice.
pub(super) fn check_known<'a>(declared: impl Iterator<Item = &'a Declared>, chosen: &BTreeMap<String, String>) -> Result<()> {
    let mut known: Vec<_> = declared.map(|parameter| parameter.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    match chosen.keys().find(|name| !known.contains(&name.as_str())) {
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
    fn what_the_operator_chose_goes_first() {
        let declared = [parameter("LakeBucketName", false), parameter("IdTokenMinutes", true)];
        let found = values(&[("LakeBucketName", "lake")]);
        let chosen = values(&[("IdTokenMinutes", "5"), ("LakeBucketName", "other"), ("ForAnotherTemplate", "x")]);
        let expected = values(&[("IdTokenMinutes", "5"), ("LakeBucketName", "other")]);
        assert_eq!(fill("identity", &declared, &found, &chosen).unwrap(), expected);
    }

    #[test]
    fn a_parameter_that_nothing_fills_is_named() {
        let declared = [parameter("LakeBucketName", false)];
        let error = fill("identity", &declared, &values(&[]), &values(&[])).unwrap_err().to_string();
        assert!(error.contains("infra/identity.yaml") && error.contains("`LakeBucketName`"), "{error}");
    }

    #[test]
    fn a_parameter_that_no_template_has_is_refused() {
        let declared = [parameter("IdTokenMinutes", true)];
        assert!(check_known(declared.iter(), &values(&[("IdTokenMinutes", "5")])).is_ok());
        let error = check_known(declared.iter(), &values(&[("IdTokenMinute", "5")])).unwrap_err().to_string();
        assert!(error.contains("`IdTokenMinute`") && error.contains("IdTokenMinutes"), "{error}");
    }
}
