//! The data files that people give to commands: a schema, a mapping.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use hl7::Mistake;
use sha2::{Digest, Sha256};

use crate::error::Misused;

/// Far more than people write, and little enough for a pipe without an end.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a file, and what is in it.
///
/// # Errors
/// When the file cannot be read, or has more than 4 MiB. When it has a mistake: with the file, the place and what is expected there.
pub(crate) fn read<T>(path: &Path, what: impl FnOnce(&str) -> Result<T, Mistake>) -> Result<T> {
    let mut text = String::new();
    let file = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    let bytes = file.with_context(|| format!("reading {}", path.display()))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > MAX_BYTES) {
        return Err(Misused::because(format!("{}: a data file has at most {MAX_BYTES} bytes", path.display())));
    }
    what(&text).map_err(|mistake| Misused::because(format!("{}: {mistake}", path.display())))
}

/// Stands for a file where it matters whether its content is the same: its path and a hash.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn identity(path: &Path) -> Result<String> {
    let content = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(format!("{} {}", path.display(), const_hex::encode(Sha256::digest(&content))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = super::read(Path::new("/dev/zero"), |_| Ok(())).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero: a data file has at most 4194304 bytes");
    }
}
