//! What the examples for interface engines say, held against the engines' own descriptions.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boon::{Compiler, Schemas};
use serde_json::Value;
use sluice_tests::Node;
use sluice_tests::template::template;

use crate::contract::root;

/// Of a folder of Camel's catalog the file whose name begins so.
fn described(folder: &Path, name: &str) -> Result<Value> {
    let mut files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let is_it = |path: &Path| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(name));
    let file = files.find(|path| is_it(path)).with_context(|| format!("the catalog has no {name}"))?;
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// Each endpoint in a route: its component, and the names of its options.
fn endpoints(node: &Value, found: &mut Vec<(String, BTreeSet<String>)>) {
    match node {
        Value::Object(members) => {
            if let (Some(Value::String(uri)), Some(Value::Object(options))) = (members.get("uri"), members.get("parameters")) {
                found.push((uri.clone(), options.keys().cloned().collect()));
            }
            members.values().for_each(|it| endpoints(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| endpoints(it, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_camel_route_fits_camels_schema_and_its_components() -> Result<()> {
    let example = root().join("examples/interface-engines");
    let node = Node::install("interface-engines", &example).await?;
    let catalog = node.folder.join("node_modules/@kaoto/camel-catalog/dist/camel-catalog/camel-main/4.22.1");
    let route: Value = template(&example.join("camel-route.yaml"))?;

    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("camel:yaml-dsl", described(&catalog, "camelYamlDsl")?).map_err(|error| anyhow::anyhow!("{error}"))?;
    let schema = compiler.compile("camel:yaml-dsl", &mut schemas).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    schemas.validate(&route, schema).map_err(|error| anyhow::anyhow!("{error:#}"))?;

    let components = described(&catalog, "camel-catalog-aggregate-components")?;
    let mut found = Vec::new();
    endpoints(&route, &mut found);
    ensure!(found.len() == 2, "{found:?}");
    for (component, options) in found {
        let known = components[&component]["properties"].as_object().with_context(|| format!("no component {component}"))?;
        ensure!(options.iter().all(|option| known.contains_key(option)), "{component}: {options:?}");
    }
    // The header that the route hands to the sender is the one in which the component gives the answer.
    let header = &route[0]["route"]["from"]["steps"][1]["setProperty"]["expression"]["header"]["expression"];
    let headers = components["mllp"]["headers"].as_object().context("headers")?;
    ensure!(headers.contains_key(header.as_str().context("a header")?), "{header}");
    Ok(())
}
