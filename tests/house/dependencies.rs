//! What may depend on what.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, PackageId};
use sluice::operator::package::Worker;

use crate::root;

/// Which folder at the top a package is in: `workers`, `crates`, `cli` or `tests`; `None` for one of a registry.
fn room(metadata: &Metadata, id: &PackageId) -> Option<String> {
    let folder = metadata[id].manifest_path.strip_prefix(&metadata.workspace_root).ok()?;
    metadata.workspace_members.contains(id).then(|| folder.components().next().map(|it| it.to_string()))?
}

/// All that a package depends on outside its own tests, directly or not.
fn needs(metadata: &Metadata, id: &PackageId) -> BTreeSet<PackageId> {
    let nodes: BTreeMap<_, _> = metadata.resolve.iter().flat_map(|it| &it.nodes).map(|node| (&node.id, node)).collect();
    let (mut found, mut open) = (BTreeSet::new(), vec![id.clone()]);
    while let Some(next) = open.pop() {
        for dependency in nodes.get(&next).into_iter().flat_map(|node| &node.deps) {
            let built = dependency.dep_kinds.iter().any(|it| it.kind != cargo_metadata::DependencyKind::Development);
            if built && found.insert(dependency.pkg.clone()) {
                open.push(dependency.pkg.clone());
            }
        }
    }
    found
}

#[test]
fn nothing_depends_on_a_worker() -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(["--locked".into()]).exec()?;
    let mut seen = BTreeSet::new();
    for id in &metadata.workspace_members {
        let own = room(&metadata, id).context("a member of the workspace is in a folder")?;
        let needed: BTreeSet<_> = needs(&metadata, id).iter().filter_map(|it| room(&metadata, it)).collect();
        let allowed: &[&str] = match own.as_str() {
            "workers" | "crates" | "cli" => &["crates"],
            "tests" => &["crates", "cli"],
            other => anyhow::bail!("no rule says what {other} may depend on"),
        };
        let beyond: Vec<_> = needed.iter().filter(|it| !allowed.contains(&it.as_str())).collect();
        assert!(beyond.is_empty(), "{} depends on {beyond:?}", metadata[id].name);
        seen.insert(own);
    }
    assert_eq!(seen, ["cli", "crates", "tests", "workers"].map(str::to_owned).into());
    Ok(())
}

#[test]
fn domain_and_hl7_know_no_aws() -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(["--locked".into()]).exec()?;
    for name in ["sluice-domain", "sluice-hl7", "sluice-tables"] {
        let package = metadata.workspace_packages().into_iter().find(|it| it.name == name).context(name)?;
        let needed = needs(&metadata, &package.id);
        assert!(!needed.is_empty());
        for needed in needed {
            let needed = metadata[&needed].name.as_str();
            let of_aws = ["aws-", "aws_", "lambda", "tokio", "reqwest"].iter().any(|it| needed.starts_with(it));
            assert!(!of_aws, "{name} depends on {needed}");
        }
    }
    Ok(())
}

/// The features that cargo turns on for each dependency when it builds these packages, by name and version.
fn features(packages: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["tree", "--locked", "-e", "normal,build", "--prefix", "none", "-f", "{p} {f}"]);
    command.args(packages.iter().flat_map(|it| ["-p", it]));
    let output = command.output().context("running cargo tree")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut words = line.split(' ').filter(|it| !it.is_empty() && !it.starts_with('('));
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let features = words.flat_map(|it| it.split(',')).map(str::to_owned);
        found.entry(format!("{name} {version}")).or_default().extend(features);
    }
    Ok(found)
}

/// Otherwise `cargo run -- demo` compiles the AWS SDK twice: see `crates/workspace-hack`, where a missing feature is added.
#[test]
fn the_command_and_the_workers_build_their_common_dependencies_with_the_same_features() -> Result<()> {
    let workers: Vec<_> = Worker::all(&root())?.into_iter().map(|worker| worker.name).collect();
    let (command, workers) = (features(&["sluice".to_owned()])?, features(&workers)?);
    let common: Vec<_> = command.keys().filter(|name| workers.contains_key(*name)).collect();
    assert!(common.len() > 100, "both use the AWS SDK");
    for name in common {
        assert_eq!(command[name], workers[name], "{name}: for the command, and for the workers");
    }
    Ok(())
}
