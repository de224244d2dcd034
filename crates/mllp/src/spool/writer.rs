//! The thread that writes: messages that came while it waited for the disk are written together and share one `fdatasync`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::aside;
use super::disk::DiskFile;
use super::error::Unwritten;
use super::files::{done_path, log_path, remove_segment};
use super::index::{Entry, InHand, Lane, Segment, Waiter};
use super::marks::{Mark, mark};
use super::record::{HEADER_BYTES, Header, Place};
use super::shared::{Shared, kib};
use crate::origin::Label;

/// The size at which the writer closes a segment file and begins another; less for a small spool.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// A fully delivered segment file of at least this size is removed at once, a smaller one at the next `Job::Tidy`.
const SMALL_SEGMENT_BYTES: u64 = 1024 * 1024;

/// At most this many messages share one `fdatasync`.
const GROUP: usize = 4096;

/// How many bytes are collected before they are written. A longer message is written from where it is, since the buffer would keep the
/// memory of the largest one.
const BUFFER_BYTES: usize = 1024 * 1024;

/// An order to the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// Write a message, and reply when it is on disk.
    Append {
        label: Arc<Label>,
        message: Vec<u8>,
        received_ms: u64,
        waiter: Option<Waiter>,
        reply: oneshot::Sender<Result<(), Unwritten>>,
    },
    /// Write a message of the spool once more, and reply with its new place when that is on disk. The caller keeps it in hand.
    Move { label: Arc<Label>, message: Vec<u8>, received_ms: u64, reply: oneshot::Sender<Result<Entry, Unwritten>> },
    /// The API has a message.
    Submitted(Place),
    /// A message is stored, or set aside.
    Done(Place),
    /// Remove delivered messages, even from small segments.
    Tidy,
    /// Finish writing and end.
    Close,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    segment_bytes: u64,
    max_bytes: u64,
    next_segment: u64,
    active: Option<Active>,
    buffer: Vec<u8>,
    /// Entries that are in the buffer or the file, and not known to be on disk.
    unsynced: Vec<(Entry, Recipient)>,
    /// Marks that are not written yet, by segment: of submitted messages, and of done ones.
    submitted: BTreeMap<u64, Vec<u8>>,
    marks: BTreeMap<u64, Vec<u8>>,
}

/// The recipient of the news that a message is on disk.
enum Recipient {
    /// The task that received it. The message is to be delivered.
    New(oneshot::Sender<Result<(), Unwritten>>),
    /// The task that already has it in hand, at another place.
    Moved(oneshot::Sender<Result<Entry, Unwritten>>),
}

impl Recipient {
    fn refuse(self, error: Unwritten) {
        // The recipient may have gone.
        match self {
            Self::New(reply) => drop(reply.send(Err(error))),
            Self::Moved(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// The segment file that is written to.
struct Active {
    number: u64,
    file: Arc<dyn DiskFile>,
    /// The offset of the next record.
    end: u64,
    /// The offset up to which everything is known to be on disk.
    synced: u64,
}

impl Writer {
    /// The writer of a spool of at most `max_bytes`, whose first segment will have the number `next_segment`.
    pub(super) fn new(shared: Arc<Shared>, max_bytes: u64, next_segment: u64) -> Self {
        Self {
            shared,
            segment_bytes: SEGMENT_BYTES.min(max_bytes / 8).max(1),
            max_bytes,
            next_segment,
            active: None,
            buffer: Vec::new(),
            unsynced: Vec::new(),
            submitted: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Runs jobs until `Job::Close`, or until nobody can send another one.
    pub(super) fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut next = Some(first);
            let mut closes = false;
            for _ in 0..GROUP {
                match next.take().or_else(|| jobs.try_recv().ok()) {
                    Some(Job::Append { label, message, received_ms, waiter, reply }) => {
                        let room = kib(message.len());
                        self.append(&label, &message, received_ms, waiter, Recipient::New(reply));
                        self.shared.room.add_permits(usize::try_from(room).unwrap_or_default());
                    }
                    Some(Job::Move { label, message, received_ms, reply }) => {
                        self.append(&label, &message, received_ms, None, Recipient::Moved(reply));
                    }
                    Some(Job::Submitted(place)) => {
                        self.submitted.entry(place.segment).or_default().extend(mark(place, Mark::Submitted));
                    }
                    Some(Job::Done(place)) => self.marks.entry(place.segment).or_default().extend(mark(place, Mark::Done)),
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

    fn append(&mut self, label: &Label, message: &[u8], received_ms: u64, waiter: Option<Waiter>, recipient: Recipient) {
        let Some(header) = Header::of(label.encoded(), message, received_ms) else {
            return recipient.refuse(Unwritten::Disk);
        };
        let bytes = u64::try_from(HEADER_BYTES + label.encoded().len() + message.len()).unwrap_or(u64::MAX);
        // A move frees the old file in the end, so it may exceed the limit a little.
        let more = if matches!(recipient, Recipient::Moved(_)) { self.max_bytes / 8 } else { 0 };
        if self.is_full_with(bytes, more) {
            // Sync first: marking messages as delivered may remove the segment file, which must not hold anything unsynced.
            self.sync();
            self.write_marks();
            if self.is_full_with(bytes, more) {
                return recipient.refuse(Unwritten::Full);
            }
        }
        if self.active.as_ref().is_some_and(|active| active.end > 0 && active.end + bytes > self.segment_bytes) {
            self.sync();
            self.seal();
        }
        let place = match self.place() {
            Ok(place) => place,
            Err(_) => return recipient.refuse(Unwritten::Disk),
        };
        header.write(&mut self.buffer);
        self.buffer.extend_from_slice(label.encoded());
        let (collected, direct) = if message.len() > BUFFER_BYTES { (&[][..], message) } else { (message, &[][..]) };
        self.buffer.extend_from_slice(collected);
        let feed = self.shared.index().feed(&label.feed);
        let entry = Entry::new(place, header.length, Lane::of(message.len()), received_ms, feed, waiter);
        self.unsynced.push((entry, recipient));
        if let Some(active) = &mut self.active {
            active.end += bytes;
        }
        let is_due = !direct.is_empty() || self.buffer.len() >= BUFFER_BYTES;
        if is_due && self.write(direct).is_err() {
            self.give_up();
        }
    }

    fn is_full_with(&self, bytes: u64, more: u64) -> bool {
        let unsynced = self.active.as_ref().map_or(0, |active| active.end - active.synced);
        self.shared.index().bytes() + unsynced + bytes > self.max_bytes + more
    }

    fn write_marks(&mut self) {
        for (segment, marks) in std::mem::take(&mut self.submitted) {
            self.write_mark(segment, &marks);
        }
        for (segment, marks) in std::mem::take(&mut self.marks) {
            self.delivered(segment, &marks);
        }
    }

    /// The place of the next record, in a new segment if there is none.
    fn place(&mut self) -> io::Result<Place> {
        if self.active.is_none() {
            let number = self.next_segment;
            let segments = self.shared.segments();
            let path = log_path(&segments, number);
            let file = self.shared.disk.create(&path)?;
            self.next_segment += 1;
            let synced = file.sync_all().and_then(|()| self.shared.disk.sync_folder(&segments));
            if let Err(error) = synced {
                let _ = self.shared.disk.remove(&path);
                return Err(error);
            }
            self.shared.index().segments.insert(number, Segment { file: Arc::clone(&file), bytes: 0, pending: 0 });
            self.active = Some(Active { number, file, end: 0, synced: 0 });
        }
        let active = self.active.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Place { segment: active.number, offset: u32::try_from(active.end).map_err(io::Error::other)? })
    }

    /// Writes the buffer, and bytes that are not in it.
    fn write(&mut self, direct: &[u8]) -> io::Result<()> {
        if let Some(active) = &self.active {
            active.file.write_all(&self.buffer)?;
            if !direct.is_empty() {
                active.file.write_all(direct)?;
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Waits for the disk, then replies for every message that is on it.
    fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let on_disk = self.write(&[]).and_then(|()| self.active.as_ref().map_or(Ok(()), |active| active.file.sync_data()));
        let Some(active) = self.active.as_mut().filter(|_| on_disk.is_ok()) else { return self.give_up() };
        active.synced = active.end;
        let count = self.unsynced.len();
        let mut index = self.shared.index();
        if let Some(segment) = index.segments.get_mut(&active.number) {
            segment.bytes = active.synced;
            segment.pending += u32::try_from(count).unwrap_or_default();
        }
        let mut replies = Vec::with_capacity(count);
        for (entry, reply) in self.unsynced.drain(..) {
            match reply {
                Recipient::New(reply) => replies.push((index.push(entry), reply)),
                Recipient::Moved(reply) => {
                    let in_hand = InHand { received_ms: entry.received_ms, feed: entry.feed, is_awaited: true };
                    index.in_hand.insert(entry.place, in_hand);
                    // The recipient waits for the answer unless the gateway itself is gone.
                    let _ = reply.send(Ok(entry));
                }
            }
        }
        drop(index);
        // INVARIANT: a task that acquires a permit finds an entry, and a sender that got its answer finds the message in the index.
        for (lane, _) in &replies {
            self.shared.available(*lane).add_permits(1);
        }
        for (_, reply) in replies {
            let _ = reply.send(Ok(()));
        }
    }

    /// After an error nobody knows how much of the file is on disk, and a second `fdatasync` would not tell: the kernel counts a
    /// page that it could not write as clean. So nothing more is written to this file.
    fn give_up(&mut self) {
        for (_, reply) in self.unsynced.drain(..) {
            reply.refuse(Unwritten::Disk);
        }
        self.buffer = Vec::new();
        if let Some(active) = &self.active {
            let _ = active.file.set_len(active.synced);
        }
        self.seal();
    }

    /// Closes the segment for writing, and removes it if all its messages are delivered.
    fn seal(&mut self) {
        if let Some(active) = self.active.take() {
            let mut index = self.shared.index();
            if index.segments.get(&active.number).is_some_and(|segment| segment.pending == 0) {
                index.segments.remove(&active.number);
                drop(index);
                remove_segment(&*self.shared.disk, &self.shared.segments(), active.number);
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
            return remove_segment(&*self.shared.disk, &self.shared.segments(), number);
        }
        drop(index);
        if is_done && self.unsynced.is_empty() && bytes >= SMALL_SEGMENT_BYTES.min(self.segment_bytes) {
            return self.seal();
        }
        self.write_mark(number, marks);
    }

    /// Writes a mark. If that fails, the worst result is a message that is sent twice after the next start.
    fn write_mark(&self, number: u64, marks: &[u8]) {
        let path = done_path(&self.shared.segments(), number);
        let _ = self.shared.disk.append(&path).and_then(|file| file.write_all(marks));
    }

    fn tidy(&mut self) {
        self.sync();
        if let Some(active) = &self.active {
            let is_done = self.shared.index().segments.get(&active.number).is_some_and(|segment| segment.pending == 0);
            if is_done {
                self.seal();
            }
        }
        let bytes = aside::bytes(&*self.shared.disk, &self.shared.folder);
        self.shared.index().aside_bytes = bytes;
    }
}
