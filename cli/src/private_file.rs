//! Files that are their owner's alone: tokens, names, messages.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file in one step, so that a disk that is full leaves the old one or none. Its mode is 0600, whatever that of the
/// old one was.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        // A temporary file has that mode, and keeps it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}
