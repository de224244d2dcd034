//! The data files beside a worker's binary in its zip.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::data_file;

/// The files of a policy folder beside `*.cedar`.
const POLICY_FILES: [&str; 4] = ["schema.cedarschema", "providers.json", "routes.json", "entities.json"];

/// The files, by their paths in the zip.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside(BTreeMap<String, Vec<u8>>);

impl Beside {
    /// Reads and validates a policy folder, so that an invalid one fails at build time, not at the first request.
    pub(super) fn policies(folder: &Path) -> Result<Self> {
        crate::operator::policies::load(folder)?;
        Self::policies_as_they_are(folder)
    }

    pub(super) fn policies_as_they_are(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let entries = std::fs::read_dir(folder).with_context(|| format!("reading the policies in {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            // Only the files that the authorizer reads, whatever else lies in the folder.
            let is_read = |name: &&str| name.ends_with(".cedar") || POLICY_FILES.contains(name);
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(is_read) {
                let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                files.insert(format!("policies/{name}"), content);
            }
        }
        Ok(Self(files))
    }

    /// Reads and validates a schema. No file for `None`, so that the zip is the one that it was without schemas.
    pub(super) fn schema(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = data_file::read(path, |text| hl7::Schema::read(text).map(|_| text.to_owned()))?;
        Ok(Self(BTreeMap::from([(hl7::Schema::FILE.to_owned(), text.into_bytes())])))
    }

    /// A hash over names and contents; empty without files.
    pub(super) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for part in self.0.iter().flat_map(|(name, content)| [name.as_bytes(), content]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        if self.0.is_empty() { String::new() } else { const_hex::encode(hash.finalize()) }
    }

    /// The hash, cut to fit into a folder's name.
    pub(super) fn short_hash(&self) -> String {
        self.hash().chars().take(12).collect()
    }

    /// The path and the content of each file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }
}
