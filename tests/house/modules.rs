//! The modules of a crate, and which of them refer to which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::visit::Visit;

/// A module by its path in its crate: `["token", "keys"]`. The crate itself is the empty path.
pub(crate) type Module = Vec<String>;

/// The files of a crate, each with the module that it is. Modules for tests are left out.
pub(crate) fn read(file: &Path) -> Result<BTreeMap<Module, syn::File>> {
    let mut found = BTreeMap::new();
    let folder = file.parent().context("a file is in a folder")?;
    read_into(&mut found, Vec::new(), file, folder)?;
    Ok(found)
}

fn read_into(found: &mut BTreeMap<Module, syn::File>, module: Module, file: &Path, folder: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let parsed = syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?;
    for item in &parsed.items {
        let syn::Item::Mod(item) = item else { continue };
        if item.content.is_none() && !is_for_tests(&item.attrs) {
            let name = item.ident.to_string();
            let candidates: [PathBuf; 2] = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
            let child = candidates.iter().find(|it| it.is_file()).with_context(|| format!("`{name}` has no file"))?;
            read_into(found, [module.as_slice(), std::slice::from_ref(&name)].concat(), child, &folder.join(&name))?;
        }
    }
    found.insert(module, parsed);
    Ok(())
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|it| it.path().is_ident("cfg") && it.parse_args::<syn::Ident>().is_ok_and(|it| it == "test"))
}

/// Which modules each module refers to. A module and those within it may refer to each other as they like: what is within
/// is part of it. So there is no entry between a module and its ancestors.
pub(crate) fn references(files: &BTreeMap<Module, syn::File>) -> BTreeMap<Module, BTreeSet<Module>> {
    let paths: BTreeMap<&Module, Paths> = files
        .iter()
        .map(|(module, file)| {
            let mut paths = Paths::default();
            paths.visit_file(file);
            (module, paths)
        })
        .collect();
    let mut references = BTreeMap::new();
    for (module, found) in &paths {
        let targets = found.all().filter_map(|path| resolve(&paths, module, path, 0));
        let others = targets.filter(|target| !target.starts_with(module) && !module.starts_with(target));
        references.insert((*module).clone(), others.collect());
    }
    references
}

/// The paths that a file names.
#[derive(Default)]
struct Paths {
    /// By `use`, with the name that the path has here.
    used: Vec<(String, Vec<String>)>,
    /// In code.
    named: Vec<Vec<String>>,
}

impl Paths {
    fn all(&self) -> impl Iterator<Item = &Vec<String>> {
        self.used.iter().map(|(_, path)| path).chain(&self.named)
    }

    fn add(&mut self, tree: &syn::UseTree, before: &[String]) {
        match tree {
            syn::UseTree::Path(path) => self.add(&path.tree, &[before, &[path.ident.to_string()]].concat()),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.used.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
            }
            syn::UseTree::Name(name) => {
                self.used.push((name.ident.to_string(), [before, &[name.ident.to_string()]].concat()));
            }
            syn::UseTree::Rename(name) => {
                self.used.push((name.rename.to_string(), [before, &[name.ident.to_string()]].concat()));
            }
            syn::UseTree::Glob(_) => self.used.push(("*".to_owned(), before.to_vec())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.named.push(path.segments.iter().map(|it| it.ident.to_string()).collect());
        }
        syn::visit::visit_path(self, path);
    }
}

/// The module that a path leads to, through `use` if need be; `None` for a path into another crate.
fn resolve(files: &BTreeMap<&Module, Paths>, from: &Module, path: &[String], depth: u8) -> Option<Module> {
    let mut module = from.clone();
    let mut rest = path.iter().peekable();
    let first = rest.peek()?.as_str();
    if first == "crate" {
        module.clear();
        rest.next();
    } else if first == "self" || first == "super" {
        while let Some(step) = rest.next_if(|step| ["self", "super"].contains(&step.as_str())) {
            if step == "super" {
                module.pop()?;
            }
        }
    } else {
        let child = [module.as_slice(), &[first.to_owned()]].concat();
        let used = files.get(from).is_some_and(|it| it.used.iter().any(|(name, target)| name == first && target != path));
        if !files.contains_key(&child) && !used {
            return None;
        }
    }
    for step in rest {
        let child = [module.as_slice(), std::slice::from_ref(step)].concat();
        if files.contains_key(&child) {
            module = child;
            continue;
        }
        let used = files.get(&module).into_iter().flat_map(|it| &it.used).find(|(name, target)| name == step && target != path);
        return match used {
            Some((_, target)) if depth < 8 => resolve(files, &module, target, depth + 1),
            _ => Some(module),
        };
    }
    Some(module)
}
