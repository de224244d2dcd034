//! What has been acknowledged and is not yet with the API: segment files on disk.
//!
//! ```text
//! SPOOL/lock                                one gateway at a time
//! SPOOL/owner                               whose messages these are
//! SPOOL/segments/00001732212345678.log      messages, one record behind the other
//! SPOOL/segments/00001732212345678.done     which of them are delivered
//! SPOOL/refused/DIGEST.hl7, DIGEST.json     what the API will never take, and why
//! SPOOL/damaged/SEGMENT-OFFSET.bin          what was read and is not what was written
//! ```
//!
//! A message is on disk (`fdatasync`) before [`Spool::append`] says so. One thread writes; all messages that came while it waited
//! for the disk are written together and share one wait. What is delivered is written without waiting for the disk: after a
//! power failure it is sent again, and the API knows a message by its content. A segment file goes when all of it is delivered.
//!
//! Why not a library: an embedded store (redb, fjall, sled) or a log (okaywal, open-wal, yaque) was the first choice. The stores do not
//! start, or drop everything behind it, when a page or a batch in the middle is damaged, and keep what was deleted until
//! they compact; the logs treat damage as the end, and yaque does not wait for the disk. Here each record stands alone, a damaged
//! one costs itself, and what is delivered leaves the disk with its file.

mod aside;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::delivery::Fate;
use crate::report::now_ms;
use record::{HEADER_BYTES, Header};

pub(crate) use aside::Reason;

/// A segment file gets no message when it is this long, unless the spool is small.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// A segment file of which all is delivered is removed when it is this long, or at the next [`Spool::tidy`].
const SMALL_SEGMENT_BYTES: u64 = 1024 * 1024;

/// Of so many messages at most one wait for the disk is shared.
const GROUP: usize = 4096;

/// How much may wait for the disk at a time, in KiB: the spool's share of the memory.
const WAITING_KIB: u32 = 64 * 1024;

/// So many bytes are written at a time.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Told what became of each message of a frame.
pub(crate) type Waiter = oneshot::Sender<Vec<Fate>>;

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another gateway uses it.
    #[error("{0} is in use by another gateway")]
    Locked(PathBuf),
    /// It holds messages that were acknowledged for somebody else.
    #[error(
        "{0} holds messages that another gateway has acknowledged and not delivered: let that one deliver them, or use another spool"
    )]
    Owner(PathBuf),
    /// The file system does not do it.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a message was not written. It was not acknowledged, so its sender still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritten {
    /// The spool has as much as it may have.
    #[error("the gateway's spool is full")]
    Full,
    /// The disk is full, or fails.
    #[error("the gateway cannot write to its spool")]
    Disk,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Stopped,
}

/// What was found on opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages that are not delivered.
    pub messages: usize,
    /// Stretches of segment files that are no messages; they are in `damaged`.
    pub damaged: usize,
}

/// How much is in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Messages that are not delivered.
    pub messages: usize,
    /// On disk, with what is refused or damaged.
    pub bytes: u64,
    /// When the oldest that is not delivered was received, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
}

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    segment: u64,
    offset: u32,
}

/// A message that is not delivered.
#[derive(Debug)]
pub(crate) struct Entry {
    place: Place,
    length: u32,
    /// When it was received, in milliseconds since 1970.
    pub(crate) received_ms: u64,
    /// Somebody who waits for what becomes of it.
    pub(crate) waiter: Option<Waiter>,
    /// How often it alone was put off, and how many others had been delivered when it last failed.
    pub(crate) put_off: u32,
    pub(crate) failed_after: Option<u64>,
}

/// What a record turned out to be when it was read again.
#[derive(Debug)]
pub(crate) enum Content {
    /// What was written.
    Message(Vec<u8>),
    /// Something else. It is in `damaged` now, and no longer in the spool.
    Damaged,
}

/// The spool. Dropping it writes what is on its way to the disk, without waiting.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    index: Mutex<Index>,
    /// How many entries there are to take.
    available: Semaphore,
    /// In KiB.
    room: Semaphore,
    /// Held, not read.
    _lock: File,
}

#[derive(Debug, Default)]
struct Index {
    /// What somebody waits for, and the rest; see [`Index::next`].
    waited: VecDeque<Entry>,
    others: VecDeque<Entry>,
    others_turn: bool,
    /// Taken and not done, with the time of their receipt.
    in_hand: BTreeMap<Place, u64>,
    segments: BTreeMap<u64, Segment>,
    /// In `refused` and `damaged`.
    aside_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    bytes: u64,
    pending: u32,
}

#[derive(Debug)]
enum Job {
    Append { message: Vec<u8>, received_ms: u64, waiter: Option<Waiter>, reply: oneshot::Sender<Result<(), Unwritten>> },
    Done(Place),
    Tidy,
    Close,
}

impl Index {
    fn push(&mut self, entry: Entry) {
        if entry.waiter.is_some() { self.waited.push_back(entry) } else { self.others.push_back(entry) }
    }

    /// What somebody waits for goes first, so that nobody waits for a backlog to go; but only every second time, so that the
    /// backlog goes.
    fn next(&mut self) -> Option<Entry> {
        self.others_turn = !self.others_turn;
        let queues = [&mut self.waited, &mut self.others];
        let [first, second] = queues;
        let (first, second) = if self.others_turn { (first, second) } else { (second, first) };
        first.pop_front().or_else(|| second.pop_front())
    }

    fn bytes(&self) -> u64 {
        self.aside_bytes + self.segments.values().map(|segment| segment.bytes).sum::<u64>()
    }
}

impl Shared {
    /// The lock is held for a moment only, and nothing in that moment can leave the index half changed.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments(&self) -> PathBuf {
        self.folder.join("segments")
    }
}

fn log_path(segments: &Path, segment: u64) -> PathBuf {
    segments.join(format!("{segment:017}.log"))
}

fn done_path(segments: &Path, segment: u64) -> PathBuf {
    segments.join(format!("{segment:017}.done"))
}

/// Names the action and the file in an error of the file system.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { action, path: path.to_owned(), source }
}

/// Makes the names in a folder last.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A mark in a `.done` file: where the record begins, and a checksum of that and the segment.
fn mark(place: Place) -> [u8; 8] {
    let offset = place.offset.to_le_bytes();
    let checksum = crc32fast::hash(&[&place.segment.to_le_bytes()[..], &offset].concat()).to_le_bytes();
    let mut mark = [0; 8];
    for (to, from) in mark.iter_mut().zip(offset.into_iter().chain(checksum)) {
        *to = from;
    }
    mark
}

/// Reads the marks of a segment. One that is damaged is none: its message is sent once more.
fn marks(segment: u64, bytes: &[u8]) -> Vec<u32> {
    let (marks, _) = bytes.as_chunks::<8>();
    let mut offsets: Vec<u32> = marks
        .iter()
        .filter_map(|found| {
            let offset = u32::from_le_bytes(*found.first_chunk()?);
            (*found == mark(Place { segment, offset })).then_some(offset)
        })
        .collect();
    offsets.sort_unstable();
    offsets
}

impl Spool {
    /// Opens a spool of at most so many bytes, or makes it. What an earlier gateway has left there is to be taken again.
    ///
    /// `owner` says where messages are delivered to, and for whom, so that those of one institute do not become another's.
    ///
    /// # Errors
    /// When another process has it open, it holds messages of another owner, or the folder cannot be written to.
    pub fn open(folder: &Path, owner: &str, max_bytes: u64) -> Result<(Self, Recovery), SpoolError> {
        for path in [folder.to_owned(), folder.join("segments"), folder.join("refused"), folder.join("damaged")] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed("making", &path))?;
        }
        let lock_path = folder.join("lock");
        let lock = private_file().create(true).open(&lock_path).map_err(failed("opening", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(SpoolError::Locked(folder.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed("locking", &lock_path)(error)),
        }
        sync_folder(folder).map_err(failed("syncing", folder))?;
        let shared = Shared {
            folder: folder.to_owned(),
            index: Mutex::default(),
            available: Semaphore::new(0),
            room: Semaphore::new(usize::try_from(WAITING_KIB).unwrap_or(usize::MAX)),
            _lock: lock,
        };
        let (recovery, last_segment) = shared.recover()?;
        let owner_path = folder.join("owner");
        if std::fs::read(&owner_path).is_ok_and(|kept| kept != owner.as_bytes()) && recovery.messages > 0 {
            return Err(SpoolError::Owner(folder.to_owned()));
        }
        aside::write(folder, "owner", owner.as_bytes()).map_err(failed("writing", &owner_path))?;
        let shared = Arc::new(shared);
        let (jobs, received) = mpsc::unbounded_channel();
        let writer = Writer {
            shared: Arc::clone(&shared),
            segment_bytes: SEGMENT_BYTES.min(max_bytes / 8).max(1),
            max_bytes,
            next_segment: now_ms().max(last_segment + 1),
            active: None,
            buffer: Vec::new(),
            unsynced: Vec::new(),
            marks: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(received));
        let thread = thread.map_err(failed("starting a thread for", folder))?;
        Ok((Self { shared, jobs, writer: Mutex::new(Some(thread)) }, recovery))
    }

    /// Has a message written. The answer comes when it is on disk, or cannot be; this itself waits only when the disk is far
    /// behind.
    ///
    /// When the answer is an error and the process then dies, the message may be on disk all the same, and is sent.
    pub(crate) async fn append(
        &self,
        message: Vec<u8>,
        received_ms: u64,
        waiter: Option<Waiter>,
    ) -> oneshot::Receiver<Result<(), Unwritten>> {
        let (reply, answer) = oneshot::channel();
        if let Ok(room) = self.shared.room.acquire_many(kib(message.len())).await {
            // The writer gives it back.
            room.forget();
        }
        // With nobody there to take it, the answer is that nobody answers.
        let _ = self.jobs.send(Job::Append { message, received_ms, waiter, reply });
        answer
    }

    /// The next message to deliver. It is the caller's until [`Spool::done`] or [`Spool::put_back`].
    pub(crate) async fn take(&self) -> Entry {
        loop {
            if let Ok(permit) = self.shared.available.acquire().await {
                permit.forget();
            }
            let mut index = self.shared.index();
            if let Some(entry) = index.next() {
                index.in_hand.insert(entry.place, entry.received_ms);
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

    /// Says that a message is delivered, or set aside: it is not sent again.
    pub(crate) fn done(&self, entry: &Entry) {
        // Without a writer the next gateway sends it again.
        let _ = self.jobs.send(Job::Done(entry.place));
    }

    /// Gives a message back, to be taken again when all others have been.
    pub(crate) fn put_back(&self, entry: Entry) {
        let mut index = self.shared.index();
        index.in_hand.remove(&entry.place);
        index.push(entry);
        drop(index);
        self.shared.available.add_permits(1);
    }

    /// Writes a message that the API does not take to `refused`, with the reason beside it.
    ///
    /// # Errors
    /// When it cannot be written. It is still in the spool then.
    pub(crate) async fn refuse(&self, message: Vec<u8>, reason: Reason) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let written = aside::refuse(&shared.folder.join("refused"), &message, &reason)?;
            shared.index().aside_bytes += written;
            Ok(())
        })
        .await
        .map_err(io::Error::other)?
    }

    /// How much is in it.
    pub fn status(&self) -> Status {
        let index = self.shared.index();
        let queued = index.waited.iter().chain(&index.others).map(|entry| entry.received_ms);
        Status {
            messages: index.waited.len() + index.others.len() + index.in_hand.len(),
            bytes: index.bytes(),
            oldest_ms: queued.chain(index.in_hand.values().copied()).min(),
        }
    }

    /// Removes what is delivered, also where little is, and looks what is left of what was refused.
    pub(crate) fn tidy(&self) {
        let _ = self.jobs.send(Job::Tidy);
    }

    /// Writes what is on its way to the disk and ends the thread that does it.
    pub(crate) async fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // An error is a panic in one of the two, and there is nothing left to wait for.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(WAITING_KIB).min(WAITING_KIB)
}

fn private_file() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Shared {
    /// Reads all segments, and says which number is the highest in use.
    fn recover(&self) -> Result<(Recovery, u64), SpoolError> {
        let segments = self.segments();
        for folder in ["refused", "damaged"] {
            aside::clean(&self.folder.join(folder));
        }
        let mut found = Recovery::default();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&segments).map_err(failed("reading", &segments))? {
            let path = entry.map_err(failed("reading", &segments))?.path();
            let is_ours = path.extension().is_some_and(|it| it == "log" || it == "done");
            let number = path.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
            numbers.extend(number.filter(|_| is_ours));
        }
        numbers.sort_unstable();
        numbers.dedup();
        for &segment in &numbers {
            self.recover_segment(segment, &mut found)?;
        }
        self.index().aside_bytes = aside::bytes(&self.folder);
        self.available.add_permits(found.messages);
        Ok((found, numbers.last().copied().unwrap_or_default()))
    }

    fn recover_segment(&self, segment: u64, found: &mut Recovery) -> Result<(), SpoolError> {
        let (path, done) = (log_path(&self.segments(), segment), done_path(&self.segments(), segment));
        let file = match private_file().open(&path) {
            Ok(file) => file,
            // The file went, and the process died before its marks did.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return std::fs::remove_file(&done).map_err(failed("removing", &done));
            }
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let bytes = std::fs::read(&path).map_err(failed("reading", &path))?;
        let delivered = marks(segment, &std::fs::read(&done).unwrap_or_default());
        let scan = record::scan(&bytes);
        for range in scan.damaged {
            let content = bytes.get(range.clone()).unwrap_or_default();
            let folder = self.folder.join("damaged");
            if aside::damaged(&folder, segment, range.start, content).map_err(failed("writing to", &folder))? {
                found.damaged += 1;
            }
        }
        let mut index = self.index();
        let before = found.messages;
        for (offset, header) in scan.records {
            if delivered.binary_search(&offset).is_err() {
                let (length, received_ms) = (header.length, header.received_ms);
                index.push(Entry {
                    place: Place { segment, offset },
                    length,
                    received_ms,
                    waiter: None,
                    put_off: 0,
                    failed_after: None,
                });
                found.messages += 1;
            }
        }
        if found.messages == before {
            remove_segment(&self.segments(), segment);
        } else {
            let pending = u32::try_from(found.messages - before).unwrap_or(u32::MAX);
            let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            index.segments.insert(segment, Segment { file: Arc::new(file), bytes, pending });
        }
        Ok(())
    }

    fn read(&self, place: Place, length: u32) -> io::Result<Content> {
        let file = self.index().segments.get(&place.segment).map(|segment| Arc::clone(&segment.file));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; HEADER_BYTES + length];
        file.read_exact_at(&mut bytes, u64::from(place.offset))?;
        let header = Header::read(&bytes);
        let message = bytes.split_off(HEADER_BYTES);
        if header.is_some_and(|header| header.is_of(&message)) {
            return Ok(Content::Message(message));
        }
        bytes.extend_from_slice(&message);
        let offset = usize::try_from(place.offset).map_err(io::Error::other)?;
        aside::damaged(&self.folder.join("damaged"), place.segment, offset, &bytes)?;
        Ok(Content::Damaged)
    }
}

/// What is not removed now is removed at the next start.
fn remove_segment(segments: &Path, segment: u64) {
    if std::fs::remove_file(log_path(segments, segment)).is_ok() {
        let _ = std::fs::remove_file(done_path(segments, segment));
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    segment_bytes: u64,
    max_bytes: u64,
    next_segment: u64,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Written to the buffer or the file, and not known to be on disk.
    unsynced: Vec<(Entry, oneshot::Sender<Result<(), Unwritten>>)>,
    /// Of what is delivered, by segment, and not yet written.
    marks: BTreeMap<u64, Vec<u8>>,
}

/// The segment file that is written to.
struct Active {
    number: u64,
    file: Arc<File>,
    /// Where the next record goes.
    end: u64,
    /// How much is known to be on disk.
    synced: u64,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut next = Some(first);
            let mut closes = false;
            for _ in 0..GROUP {
                match next.take().or_else(|| jobs.try_recv().ok()) {
                    Some(Job::Append { message, received_ms, waiter, reply }) => {
                        let room = kib(message.len());
                        self.append(&message, received_ms, waiter, reply);
                        self.shared.room.add_permits(usize::try_from(room).unwrap_or_default());
                    }
                    Some(Job::Done(place)) => self.marks.entry(place.segment).or_default().extend(mark(place)),
                    Some(Job::Tidy) => self.tidy(),
                    Some(Job::Close) => closes = true,
                    None => break,
                }
            }
            self.sync();
            self.write_marks();
            if closes {
                return self.tidy();
            }
        }
    }

    fn append(
        &mut self,
        message: &[u8],
        received_ms: u64,
        waiter: Option<Waiter>,
        reply: oneshot::Sender<Result<(), Unwritten>>,
    ) {
        let Some(header) = Header::of(message, received_ms) else {
            let _ = reply.send(Err(Unwritten::Disk));
            return;
        };
        let bytes = u64::try_from(HEADER_BYTES + message.len()).unwrap_or(u64::MAX);
        if self.is_full_with(bytes) {
            // First to the disk: what is delivered may take its segment file along, and that must have nothing else in it.
            self.sync();
            self.write_marks();
            if self.is_full_with(bytes) {
                let _ = reply.send(Err(Unwritten::Full));
                return;
            }
        }
        if self.active.as_ref().is_some_and(|active| active.end > 0 && active.end + bytes > self.segment_bytes) {
            self.sync();
            self.seal();
        }
        let place = match self.place() {
            Ok(place) => place,
            Err(_) => {
                let _ = reply.send(Err(Unwritten::Disk));
                return;
            }
        };
        header.write(&mut self.buffer);
        self.buffer.extend_from_slice(message);
        let entry = Entry { place, length: header.length, received_ms, waiter, put_off: 0, failed_after: None };
        self.unsynced.push((entry, reply));
        if let Some(active) = &mut self.active {
            active.end += bytes;
        }
        if self.buffer.len() >= BUFFER_BYTES && self.write().is_err() {
            self.give_up();
        }
    }

    fn is_full_with(&self, bytes: u64) -> bool {
        let unsynced = self.active.as_ref().map_or(0, |active| active.end - active.synced);
        self.shared.index().bytes() + unsynced + bytes > self.max_bytes
    }

    fn write_marks(&mut self) {
        for (segment, marks) in std::mem::take(&mut self.marks) {
            self.delivered(segment, &marks);
        }
    }

    /// Where the next record goes, in a new segment if there is none.
    fn place(&mut self) -> io::Result<Place> {
        if self.active.is_none() {
            let number = self.next_segment;
            let segments = self.shared.segments();
            let path = log_path(&segments, number);
            let file = Arc::new(private_file().create_new(true).open(&path)?);
            self.next_segment += 1;
            let synced = file.sync_all().and_then(|()| sync_folder(&segments));
            if let Err(error) = synced {
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
            self.shared.index().segments.insert(number, Segment { file: Arc::clone(&file), bytes: 0, pending: 0 });
            self.active = Some(Active { number, file, end: 0, synced: 0 });
        }
        let active = self.active.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Place { segment: active.number, offset: u32::try_from(active.end).map_err(io::Error::other)? })
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(active) = &self.active {
            (&*active.file).write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Waits for the disk, and says so to everybody who waits for it.
    fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let on_disk = self.write().and_then(|()| self.active.as_ref().map_or(Ok(()), |active| active.file.sync_data()));
        let Some(active) = self.active.as_mut().filter(|_| on_disk.is_ok()) else { return self.give_up() };
        active.synced = active.end;
        let count = self.unsynced.len();
        let mut index = self.shared.index();
        if let Some(segment) = index.segments.get_mut(&active.number) {
            segment.bytes = active.synced;
            segment.pending += u32::try_from(count).unwrap_or_default();
        }
        let (entries, replies): (Vec<_>, Vec<_>) = self.unsynced.drain(..).unzip();
        entries.into_iter().for_each(|entry| index.push(entry));
        drop(index);
        // In this order: who takes a permit finds an entry, and who has an answer finds the message in the spool.
        self.shared.available.add_permits(count);
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
    }

    /// After an error nobody knows how much of the file is on disk, and asking again would not tell: a page that could not be
    /// written counts as clean afterwards. So nothing more goes to this file.
    fn give_up(&mut self) {
        for (_, reply) in self.unsynced.drain(..) {
            let _ = reply.send(Err(Unwritten::Disk));
        }
        self.buffer = Vec::new();
        if let Some(active) = &self.active {
            let _ = active.file.set_len(active.synced);
        }
        self.seal();
    }

    /// Writes no more to the segment, and removes it if nothing is left to do with it.
    fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            let mut index = self.shared.index();
            if index.segments.get(&active.number).is_some_and(|segment| segment.pending == 0) {
                index.segments.remove(&active.number);
                drop(index);
                remove_segment(&self.shared.segments(), active.number);
            }
        }
    }

    fn delivered(&mut self, number: u64, marks: &[u8]) {
        let (found, _) = marks.as_chunks::<8>();
        let mut index = self.shared.index();
        let mut done = 0;
        for mark in found {
            let offset = mark.first_chunk().map(|offset| u32::from_le_bytes(*offset)).unwrap_or_default();
            done += u32::from(index.in_hand.remove(&Place { segment: number, offset }).is_some());
        }
        let Some(segment) = index.segments.get_mut(&number) else { return };
        segment.pending = segment.pending.saturating_sub(done);
        let is_done = segment.pending == 0;
        let bytes = segment.bytes;
        let is_active = self.active.as_ref().is_some_and(|active| active.number == number);
        if is_done && !is_active {
            index.segments.remove(&number);
            drop(index);
            return remove_segment(&self.shared.segments(), number);
        }
        drop(index);
        if is_done && self.unsynced.is_empty() && bytes >= SMALL_SEGMENT_BYTES.min(self.segment_bytes) {
            return self.seal();
        }
        // Marks that are not written, or not wholly, cost messages that are sent twice, after the next start.
        let path = done_path(&self.shared.segments(), number);
        let _ = private_file().create(true).append(true).open(path).and_then(|mut file| file.write_all(marks));
    }

    fn tidy(&mut self) {
        self.sync();
        if let Some(active) = &self.active {
            let is_done = self.shared.index().segments.get(&active.number).is_some_and(|segment| segment.pending == 0);
            if is_done {
                self.seal();
            }
        }
        let bytes = aside::bytes(&self.shared.folder);
        self.shared.index().aside_bytes = bytes;
    }
}

#[cfg(test)]
mod tests;
