//! No two files of a crate need each other: whoever reads one can do without the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use cargo_metadata::MetadataCommand;

use crate::modules::{Module, read, references};
use crate::root;

/// The shortest way from a module back to itself, if there is one.
fn circle(references: &BTreeMap<Module, BTreeSet<Module>>, start: &Module) -> Option<Vec<Module>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in references.get(way.last()?).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

/// The circles among the modules, each once: `keys -> fetch -> keys`.
fn circles(references: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let mut found = BTreeMap::new();
    for module in references.keys() {
        if let Some(way) = circle(references, module) {
            let members: BTreeSet<_> = way.iter().cloned().collect();
            found.entry(members).or_insert(way);
        }
    }
    let text = |way: Vec<Module>| way.iter().chain(way.first()).map(|it| it.join("::")).collect::<Vec<_>>().join(" -> ");
    found.into_values().map(text).collect()
}

#[test]
fn no_files_of_a_crate_refer_to_each_other_in_a_circle() -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec()?;
    let mut found = Vec::new();
    let mut crates = 0;
    for package in &metadata.packages {
        for target in package.targets.iter().filter(|it| it.is_lib() || it.is_bin()) {
            let references = references(&read(target.src_path.as_std_path())?);
            found.extend(circles(&references).into_iter().map(|circle| format!("{}: {circle}", package.name)));
            crates += 1;
        }
    }
    assert!(crates > metadata.packages.len(), "each worker is a library and a binary");
    assert_eq!(found, [] as [&str; 0]);
    Ok(())
}

/// The circles among modules that are given as (path, source).
fn circles_of(modules: &[(&str, &str)]) -> Vec<String> {
    let parsed = modules.iter().map(|(path, source)| {
        let module: Module = path.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect();
        (module, syn::parse_file(source).unwrap())
    });
    circles(&references(&parsed.collect()))
}

#[test]
fn a_circle_is_found_and_named() {
    let engine = ("engine", "use crate::verified_permissions; pub struct Ruling;");
    let verified = ("verified_permissions", "use crate::engine::Ruling;");
    assert_eq!(circles_of(&[engine, verified]), ["engine -> verified_permissions -> engine"]);
    assert_eq!(circles_of(&[engine, ("verified_permissions", "")]), [] as [&str; 0]);

    // Siblings, by `super`; in code, without `use`; through what the crate gives a second name; three in a row.
    let keys = ("token::keys", "use super::fetch::Fetcher; pub struct KeySet;");
    let fetch = ("token::fetch", "use super::keys::KeySet;");
    assert_eq!(circles_of(&[("token", "mod keys; mod fetch;"), keys, fetch]), ["token::fetch -> token::keys -> token::fetch"]);
    assert_eq!(circles_of(&[("a", "fn f() { crate::b::g() }"), ("b", "fn g(it: crate::a::T) {}")]), ["a -> b -> a"]);
    assert_eq!(circles_of(&[("", "pub use a::T;"), ("a", "use crate::b;"), ("b", "use crate::T;")]), ["a -> b -> a"]);
    assert_eq!(circles_of(&[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use crate::a;")]), ["a -> b -> c -> a"]);
}

#[test]
fn a_module_and_what_is_within_it_are_no_circle() {
    let parent = ("token", "mod keys; use keys::KeyCache; pub struct Clock;");
    assert_eq!(circles_of(&[parent, ("token::keys", "use super::Clock;")]), [] as [&str; 0]);
    // Nor are tests, which may look at anything.
    assert_eq!(circles_of(&[("a", "#[cfg(test)] mod tests { use crate::b; }"), ("b", "use crate::a;")]), [] as [&str; 0]);
}
