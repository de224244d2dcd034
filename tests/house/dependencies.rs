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

/// The features that cargo turns on for each dependency in a build with these arguments, by name and version: one list of names for
/// what runs here, and perhaps another one for what the build itself runs.
fn features(arguments: &[&str]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["tree", "--locked", "--prefix", "none", "-f", "{p} {f}"]).args(arguments);
    let output = command.output().context("running cargo tree")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut words = line.split(' ').filter(|it| !it.is_empty() && !it.starts_with('('));
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        found.entry(format!("{name} {version}")).or_default().insert(words.collect::<Vec<_>>().join(" "));
    }
    Ok(found)
}

fn assert_common_alike(one: (&str, &BTreeMap<String, BTreeSet<String>>), other: (&str, &BTreeMap<String, BTreeSet<String>>)) {
    let is_ours = |name: &str| ["sluice", "workspace-hack"].iter().any(|it| name.starts_with(it));
    let common: Vec<_> = one.1.keys().filter(|name| other.1.contains_key(*name) && !is_ours(name)).collect();
    assert!(common.len() > 100, "both use the AWS SDK");
    for name in common {
        let (ours, theirs) = (&one.1[name], &other.1[name]);
        assert!(ours.is_subset(theirs) || theirs.is_subset(ours), "{name}: for {} {ours:?}, for {} {theirs:?}", one.0, other.0);
    }
}

/// Otherwise `cargo run -- demo` and `cargo test` compile the AWS SDK several times: see `crates/workspace-hack`, where a missing
/// feature is added.
#[test]
fn the_command_the_workers_and_the_tests_build_their_common_dependencies_with_the_same_features() -> Result<()> {
    let workers: Vec<_> = Worker::all(&root())?.into_iter().map(|worker| worker.name).collect();
    let mut of_workers = vec!["-e", "normal,build"];
    of_workers.extend(workers.iter().flat_map(|it| ["-p", it.as_str()]));
    let of_command = ["-e", "normal,build", "-p", "sluice"];

    let released = features(&[&of_command[..], &["--no-default-features"]].concat())?;
    assert_common_alike(("a release of the command", &released), ("a release of the workers", &features(&of_workers)?));

    let command = features(&of_command)?;
    of_workers.extend(["-p", "workspace-hack", "--features", "workspace-hack/tests"]);
    assert_common_alike(("the command", &command), ("the workers", &features(&of_workers)?));
    let tests = features(&["-e", "normal,build,dev", "--workspace"])?;
    assert_common_alike(("the command", &command), ("the tests", &tests));
    assert_common_alike(("the workers", &features(&of_workers)?), ("the tests", &tests));
    // `sluice policies package` builds it alone.
    let authorizer = ["-e", "normal,build", "-p", "authorize", "-p", "workspace-hack", "--features", "workspace-hack/tests"];
    assert_common_alike(("the authorizer", &features(&authorizer)?), ("the tests", &tests));
    // A release has nothing that only tests need.
    assert!(!released.keys().any(|name| name.starts_with("aws-smithy-mocks")));
    Ok(())
}
