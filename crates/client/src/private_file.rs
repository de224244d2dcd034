//! Files that only their owner can read: tokens, names, messages.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use secrecy::SecretString;

/// Writes a file in one step, so that a full disk leaves the old file or none. Its mode is 0600, whatever the mode of the old
/// file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let file = temporary(path, content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The same for a file that does not exist yet. Does not wait for the disk, because the content can be fetched again.
///
/// # Errors
/// When the file cannot be written, or exists.
pub fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        temporary(path, content)?.persist_noclobber(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Reads a secret: the first line of a file that nobody but its owner can read.
///
/// # Errors
/// When it cannot be read, others can read it, or there is nothing in it.
pub fn read_secret(path: &Path) -> Result<SecretString> {
    let mode = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.permissions().mode();
    // systemd hands a service's credentials out with mode 0440 and an access list, in a folder of the service's own.
    let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder));
    let others = if is_credential { 0o037 } else { 0o077 };
    ensure!(mode & others == 0, "{} can be read by others: `chmod 600` it", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{} is empty", path.display());
    Ok(SecretString::from(line))
}

/// A file beside the one that it is to become. It has mode 0600, and keeps it.
fn temporary(path: &Path, content: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write(&path, b"secret\nnot this\n").unwrap();
        assert_eq!(read_secret(&path).unwrap().expose_secret(), "secret");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("secret\n"), "{error}");
        write(&path, b"\n").unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("is empty"));
        assert!(read_secret(&folder.path().join("absent")).is_err());
    }
}
