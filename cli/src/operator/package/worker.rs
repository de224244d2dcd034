//! The list of workers: the folders of `workers/`.

use std::path::Path;

use anyhow::{Context, Result};

/// A Lambda function of this project: a folder of `workers/` with a `Cargo.toml`. Its package, its binary and its zip have
/// the name of the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worker {
    /// The name of the folder: `submit`.
    pub name: String,
    /// Whether the folder has `policies/`. The worker's zip then holds policies beside the binary.
    pub has_policies: bool,
}

impl Worker {
    /// The workers of a checkout, sorted by name.
    ///
    /// # Errors
    /// When `workers/` cannot be read.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let folder = root.join("workers");
        let mut workers = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let worker = entry?.path();
            if worker.join("Cargo.toml").is_file() {
                let name = worker.file_name().unwrap_or_default().to_string_lossy().into_owned();
                workers.push(Self { name, has_policies: worker.join("policies").is_dir() });
            }
        }
        workers.sort();
        Ok(workers)
    }

    /// The prefix of its resources in the templates: `Submit` for `submit`.
    #[must_use]
    pub fn logical_name(&self) -> String {
        let mut letters = self.name.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_manifest_is_a_worker() {
        let root = tempfile::tempdir().unwrap();
        let workers = root.path().join("workers");
        for folder in ["submit", "authorize/policies", "notes"] {
            std::fs::create_dir_all(workers.join(folder)).unwrap();
        }
        std::fs::write(workers.join("README.md"), "").unwrap();
        for worker in ["submit", "authorize"] {
            std::fs::write(workers.join(worker).join("Cargo.toml"), "").unwrap();
        }
        let found = Worker::all(root.path()).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.logical_name(), it.has_policies)).collect();
        assert_eq!(found, [("Authorize".to_owned(), true), ("Submit".to_owned(), false)]);
    }
}
