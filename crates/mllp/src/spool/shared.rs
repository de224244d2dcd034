//! What the spool, its writer and its readers share.

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::aside;
use super::disk::Disk;
use super::index::{Index, Lane};
use super::record::{HEADER_BYTES, Header, Place};
use crate::origin::{Label, Origin};

/// How much may wait for the disk at a time, in KiB. This limits the memory of the spool.
pub(super) const WAITING_KIB: u32 = 64 * 1024;

/// A record that was read back.
#[derive(Debug)]
pub(crate) enum Content {
    /// The message and its origin, as they were written.
    Message { origin: Origin, message: Vec<u8> },
    /// The bytes on disk are not those that were written. They are now in `damaged`, and no longer in the spool.
    Damaged,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) index: Mutex<Index>,
    /// The number of entries to take: of small messages, and of large ones.
    pub(super) available: Semaphore,
    pub(super) large_available: Semaphore,
    /// How much more may wait for the disk, in KiB.
    pub(super) room: Semaphore,
    /// Held as long as the spool is open; nobody reads it.
    pub(super) _lock: Box<dyn Any + Send + Sync>,
}

impl Shared {
    /// The lock is held only for a moment, and nothing in it can leave the index half changed.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of entries to take of a queue.
    pub(super) fn available(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::Small => &self.available,
            Lane::Large => &self.large_available,
        }
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.folder.join("segments")
    }

    pub(super) fn read(&self, place: Place, length: u32) -> io::Result<Content> {
        let file = self.index().segments.get(&place.segment).map(|segment| Arc::clone(&segment.file));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; HEADER_BYTES + length];
        file.read_exact_at(&mut bytes, u64::from(place.offset))?;
        let content = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if let Some(header) = Header::read(&bytes).filter(|header| header.is_of(content)) {
            let (origin, length) = origin(&header, content);
            // In place, so that a large message is not in memory twice.
            bytes.drain(..(HEADER_BYTES + length).min(bytes.len()));
            return Ok(Content::Message { origin, message: bytes });
        }
        let offset = usize::try_from(place.offset).map_err(io::Error::other)?;
        aside::damaged(&*self.disk, &self.folder.join("damaged"), place.segment, offset, &bytes)?;
        Ok(Content::Damaged)
    }
}

/// The origin at the beginning of a record's content, and its length in bytes.
pub(super) fn origin(header: &Header, content: &[u8]) -> (Origin, usize) {
    let read = if header.has_origin { Label::read(content) } else { None };
    read.unwrap_or_default()
}

/// The share of [`WAITING_KIB`] that a message takes.
pub(super) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(WAITING_KIB).min(WAITING_KIB)
}
