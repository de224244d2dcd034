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
    let write = || -> std::io::Result<()> {
        let file = temporary(path, content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The same for a file that is not there yet. It is as good as any copy of what is elsewhere, so the disk is not waited for.
///
/// # Errors
/// When the file cannot be written, or is there.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        temporary(path, content)?.persist_noclobber(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A file beside the one that it is to become. It has mode 0600, and keeps it.
fn temporary(path: &Path, content: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    Ok(file)
}
