//! A CloudFormation template as JSON, so that a test asks what the template says and not how it is written.

use std::path::Path;

use anyhow::{Context, Result};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// Reads a template. A short form stands there as its long form: `!Ref Queue` as `{"Ref": "Queue"}`, `!GetAtt Queue.Arn`
/// as `{"Fn::GetAtt": "Queue.Arn"}`.
///
/// # Errors
/// When the file cannot be read, or is not one document of YAML.
pub fn template(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let documents = Yaml::load_from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    json(documents.first().context("a template is one document")?)
}

fn json(node: &Yaml<'_>) -> Result<Value> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(value.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Result<_>>()?),
        Yaml::Mapping(members) => {
            let mut object = Map::new();
            for (name, value) in members {
                object.insert(json(name)?.as_str().context("the name of a member is a text")?.to_owned(), json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tag, node) => {
            let name = match tag.suffix.as_str() {
                short @ ("Ref" | "Condition") => short.to_owned(),
                short => format!("Fn::{short}"),
            };
            Value::Object(Map::from_iter([(name, json(node)?)]))
        }
        other => anyhow::bail!("a template holds no {other:?}"),
    })
}
