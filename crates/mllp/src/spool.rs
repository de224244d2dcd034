//! Messages that are acknowledged and not yet stored by the lake, in segment files on disk.
//!
//! ```text
//! SPOOL/lock                                one gateway at a time
//! SPOOL/owner                               whose messages these are
//! SPOOL/segments/00001732212345678.log      messages, one record behind the other
//! SPOOL/segments/00001732212345678.done     which of them are submitted, and which are stored
//! SPOOL/refused/DIGEST.hl7, DIGEST.json     messages that the API refuses for good, and why
//! SPOOL/damaged/SEGMENT-OFFSET.bin          bytes that are not those that were written
//! ```
//!
//! A message is on disk (`fdatasync`) before [`Spool::append`] says so. One thread writes; all messages that came while it waited
//! for the disk share the next wait. It writes the marks of delivered messages without waiting for the disk: after a power
//! failure such a message may be sent again, and the API knows a message by its content. A segment file is removed when all its
//! messages are delivered.
//!
//! Why no library does this: embedded stores (redb, fjall, sled) fail to open, or discard everything after the damage, if a page or
//! a batch in the middle is damaged, and they keep deleted data until they compact. Logs (okaywal, open-wal) take damage for the end, and
//! yaque does not wait for the disk. Here each record stands alone: damage to one loses no other, and delivered messages leave the
//! disk with their file.

mod aside;
mod disk;
mod error;
mod files;
mod index;
mod inspect;
mod marks;
mod record;
mod recovery;
mod shared;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::now_ms;
use crate::origin::Label;
use disk::{Disk, OsDisk};
use error::failed;
use shared::{Shared, WAITING_KIB, kib};
use writer::{Job, Writer};

pub(crate) use aside::Reason;
pub(crate) use error::Unwritten;
use index::InHand;
pub(crate) use index::{Entry, Lane, Waiter};
pub(crate) use shared::Content;

pub use error::SpoolError;
pub use index::{Backlog, FeedBacklog};
pub use inspect::{Contents, Refused, Waiting, WaitsFor, inspect};
pub use recovery::Recovery;

/// The spool. Dropping it starts the last write to the disk, and does not wait for it.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Spool {
    /// Opens a spool of at most `max_bytes`, or creates it. Messages that an earlier gateway left there are delivered.
    ///
    /// `owner` names the API and the institute that messages are delivered for, so that those of one institute are never
    /// delivered for another.
    ///
    /// # Errors
    /// When another process has it open, it holds messages of another owner, or the folder cannot be written to.
    pub fn open(folder: &Path, owner: &str, max_bytes: u64) -> Result<(Self, Recovery), SpoolError> {
        Self::open_on(Arc::new(OsDisk), folder, owner, max_bytes, now_ms())
    }

    /// The same on any disk and at any time, in milliseconds since 1970.
    fn open_on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        owner: &str,
        max_bytes: u64,
        now_ms: u64,
    ) -> Result<(Self, Recovery), SpoolError> {
        for path in [folder.to_owned(), folder.join("segments"), folder.join("refused"), folder.join("damaged")] {
            disk.make_folder(&path).map_err(failed("making", &path))?;
        }
        let lock_path = folder.join("lock");
        let lock = disk.lock(&lock_path).map_err(failed("locking", &lock_path))?;
        let lock = lock.ok_or_else(|| SpoolError::Locked(folder.to_owned()))?;
        disk.sync_folder(folder).map_err(failed("syncing", folder))?;
        let shared = Shared {
            disk,
            folder: folder.to_owned(),
            index: Mutex::default(),
            available: Semaphore::new(0),
            large_available: Semaphore::new(0),
            room: Semaphore::new(usize::try_from(WAITING_KIB).unwrap_or(usize::MAX)),
            _lock: lock,
        };
        let (recovery, last_segment) = shared.recover()?;
        let owner_path = folder.join("owner");
        if shared.disk.read(&owner_path).is_ok_and(|kept| kept != owner.as_bytes()) && recovery.messages > 0 {
            return Err(SpoolError::Owner(folder.to_owned()));
        }
        aside::write(&*shared.disk, folder, "owner", owner.as_bytes()).map_err(failed("writing", &owner_path))?;
        shared.disk.sync_folder(folder).map_err(failed("syncing", folder))?;
        let shared = Arc::new(shared);
        let (jobs, received) = mpsc::unbounded_channel();
        let writer = Writer::new(Arc::clone(&shared), max_bytes, now_ms.max(last_segment + 1));
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(received));
        let thread = thread.map_err(failed("starting a thread for", folder))?;
        Ok((Self { shared, jobs, writer: Mutex::new(Some(thread)) }, recovery))
    }

    /// Queues a message for writing. The returned receiver resolves when the message is on disk, or could not be written. This
    /// call itself waits only when the disk is far behind.
    ///
    /// If the answer is an error and the process then dies, the message may still be on disk, and is then delivered.
    pub(crate) async fn append(
        &self,
        label: &Arc<Label>,
        message: Vec<u8>,
        received_ms: u64,
        waiter: Option<Waiter>,
    ) -> oneshot::Receiver<Result<(), Unwritten>> {
        let (reply, answer) = oneshot::channel();
        if let Ok(room) = self.shared.room.acquire_many(kib(message.len())).await {
            // The writer returns the permits.
            room.forget();
        }
        // Without a writer the receiver resolves to an error.
        let _ = self.jobs.send(Job::Append { label: Arc::clone(label), message, received_ms, waiter, reply });
        answer
    }

    /// The next message of a queue to deliver. The caller owns it until [`Spool::done`] or [`Spool::put_back`].
    pub(crate) async fn take(&self, lane: Lane) -> Entry {
        loop {
            if let Ok(permit) = self.shared.available(lane).acquire().await {
                permit.forget();
            }
            let mut index = self.shared.index();
            if let Some(entry) = index.next(lane) {
                let in_hand = InHand { received_ms: entry.received_ms, feed: entry.feed, is_awaited: false };
                index.in_hand.insert(entry.place, in_hand);
                return entry;
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) async fn read(&self, entry: &Entry) -> io::Result<Content> {
        let (shared, place, length) = (Arc::clone(&self.shared), entry.place, entry.length);
        let read = tokio::task::spawn_blocking(move || shared.read(place, length)).await.map_err(io::Error::other)??;
        if matches!(read, Content::Damaged) {
            self.done(entry);
        }
        Ok(read)
    }

    /// Marks a message as submitted to the API. It stays in the spool: after a restart the lake is asked before the message is
    /// submitted again.
    pub(crate) fn submitted(&self, entry: &Entry) {
        if let Some(in_hand) = self.shared.index().in_hand.get_mut(&entry.place) {
            in_hand.is_awaited = true;
        }
        if !entry.is_submitted && entry.again == 0 {
            let _ = self.jobs.send(Job::Submitted(entry.place));
        }
    }

    /// Marks a message as stored or set aside, so that it is not sent again.
    pub(crate) fn done(&self, entry: &Entry) {
        // If the writer has ended, the next gateway sends the message again.
        let _ = self.jobs.send(Job::Done(entry.place));
    }

    /// Writes a message in hand once more, after all others, so that it does not keep its old file on the disk. Returns it with
    /// its new place; unchanged, if it cannot be moved now.
    pub(crate) async fn moved(&self, entry: Entry) -> Entry {
        let Ok(Content::Message { origin, message }) = self.read(&entry).await else { return entry };
        let (reply, answer) = oneshot::channel();
        let label = Arc::new(Label::new(origin));
        let _ = self.jobs.send(Job::Move { label, message, received_ms: entry.received_ms, reply });
        let Ok(Ok(moved)) = answer.await else { return entry };
        self.done(&entry);
        let Entry { waiter, put_off, failed_after, is_submitted, again, .. } = entry;
        Entry { waiter, put_off, failed_after, is_submitted, again, ..moved }
    }

    /// Gives a message back. It is delivered after all others.
    pub(crate) fn put_back(&self, entry: Entry) {
        let mut index = self.shared.index();
        index.in_hand.remove(&entry.place);
        let lane = index.push(entry);
        drop(index);
        self.shared.available(lane).add_permits(1);
    }

    /// Writes a message that the API refuses to the folder `refused`, with the reason beside it.
    ///
    /// # Errors
    /// When it cannot be written. Then the message stays in the spool.
    pub(crate) async fn refuse(&self, message: Bytes, reason: Reason) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let written = aside::refuse(&*shared.disk, &shared.folder.join("refused"), &message, &reason)?;
            shared.index().aside_bytes += written;
            Ok(())
        })
        .await
        .map_err(io::Error::other)?
    }

    /// The amount of messages in the spool.
    pub fn backlog(&self) -> Backlog {
        self.shared.index().backlog()
    }

    /// Removes delivered messages, even from small segment files, and measures again what is set aside.
    pub(crate) fn tidy(&self) {
        let _ = self.jobs.send(Job::Tidy);
    }

    /// Finishes writing, and ends the thread that does it.
    pub(crate) async fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // An error is a panic in one of the two, and leaves nothing to wait for.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
