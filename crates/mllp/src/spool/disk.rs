//! The file system as the spool uses it. Tests put a model in its place whose power can fail.

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// The spool's view of a file system. Each error is that of the system.
pub(super) trait Disk: Debug + Send + Sync {
    /// Creates a folder that only its owner can read, with its parents, and makes their names durable.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Locks a file until the result is dropped; `None` if another process has locked it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;

    /// Creates a new file that only its owner can read.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to write at its end, and creates it if necessary.
    fn append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Renames a file, and replaces a file with the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Lists the names in a folder, with the size of each file in bytes.
    fn list(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// An open file.
pub(super) trait DiskFile: Debug + Send + Sync {
    /// Writes at the end.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;

    /// Reads at an offset.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Truncates the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes content and metadata durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Makes the content durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug)]
pub(super) struct OsDisk;

/// The options for files that only their owner may read.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Disk for OsDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let above = |folder: &Path| folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        for folder in &missing {
            self.sync_folder(&above(folder))?;
        }
        if missing.is_empty() {
            // The process that created it may have died before its sync. This user may have no access to the folder above.
            let _ = self.sync_folder(&above(folder));
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = private_file().create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(private_file().create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(private_file().open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(private_file().create(true).append(true).open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Another task may remove it meanwhile.
            let bytes = entry.metadata().map(|metadata| metadata.len()).unwrap_or_default();
            names.push((entry.file_name(), bytes));
        }
        Ok(names)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        io::Write::write_all(&mut file, bytes)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}
