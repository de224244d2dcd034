//! An institute's messages as tables. The export reads the catalog and the lake directly, with the user's own AWS
//! credentials: no worker is involved, and IAM decides.

pub(crate) mod catalog;
pub(crate) mod format;
pub(crate) mod parts;

use std::sync::Arc;

use anyhow::{Context, Result};
use domain::Er7;
use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use tables::{Cell, Entry, Mapping, Row, Table};
use tokio::sync::Semaphore;

use catalog::Reader;
use parts::{Checkpoint, Parts};

/// The most records that one page reads. DynamoDB also ends a page at 1 MiB.
const PAGE: u32 = 1_000;

/// The most bytes of ER7 in memory at a time; a single message may have more.
const READ_AT_ONCE: u32 = 48 << 20;

/// Rows whose texts have this many bytes become a part.
const PART_BYTES: usize = 64 << 20;

/// How an export works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How many messages to read at a time.
    pub(crate) concurrency: usize,
    /// The least number of messages in a part, unless its day or the export ends, or it is large.
    pub(crate) part: u32,
}

/// Rows that are in no part yet.
#[derive(Default)]
struct Open {
    day: String,
    rows: Vec<Row>,
    bytes: usize,
    /// The number of messages since the last checkpoint.
    messages: u64,
    row_count: u64,
    failed: Vec<String>,
}

impl Open {
    /// Adds a row, and writes a part when there are enough rows: those of one message may not fit into memory.
    fn add(&mut self, row: Row, parts: &mut Parts) -> Result<()> {
        self.bytes += size(&row);
        self.rows.push(row);
        if self.bytes >= PART_BYTES { self.flush(parts) } else { Ok(()) }
    }

    fn flush(&mut self, parts: &mut Parts) -> Result<()> {
        self.row_count += self.rows.len() as u64;
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        // Compressing and writing take time, and this task is the only one with work to do meanwhile.
        tokio::task::block_in_place(|| parts.write(&self.day, &rows))
    }
}

/// Reads everything that the parts do not have yet, and joins them.
///
/// # Errors
/// When the sign-in ends, AWS does not answer, or the disk is full. The same export resumes after its last part.
pub(crate) async fn export(
    reader: &mut Reader<'_>,
    mut parts: Parts,
    (table, mapping): (Table, Arc<Mapping>),
    options: Options,
    progress: &ProgressBar,
) -> Result<Checkpoint> {
    let selection = parts.checkpoint.selection.clone();
    let mut position = parts.checkpoint.position.clone();
    let mut has_more = position.is_some() || parts.checkpoint.messages == 0;
    let mut open = Open::default();
    let room = Arc::new(Semaphore::new(READ_AT_ONCE as usize));
    progress.set_length(parts.checkpoint.messages);
    progress.set_position(parts.checkpoint.messages);
    while has_more {
        let limit = i32::try_from(PAGE.min(options.part))?;
        let (entries, reached) = reader.next(&selection, position.as_ref(), limit).await?;
        let lake = reader.lake().await?;
        progress.inc_length(entries.len() as u64);
        let read = stream::iter(entries.into_iter().map(|entry| {
            let (lake, room) = (lake.clone(), Arc::clone(&room));
            // A task of its own, so that several messages are read and checked at the same time.
            tokio::spawn(async move { (message(&lake, &entry, table, &room).await, entry) })
        }));
        let mut read = read.buffered(options.concurrency);
        while let Some(done) = read.next().await {
            let (message, entry) = done.context("a task broke off")?;
            let day = entry.received_at.date();
            if parts.are_by_day() && open.day != day && !open.rows.is_empty() {
                open.flush(&mut parts)?;
            }
            open.day = day;
            open.messages += 1;
            progress.inc(1);
            match message {
                Ok(message) => {
                    let mut written = Ok(());
                    mapping.each_row(table, &entry, message.as_ref(), &mut |row| {
                        if written.is_ok() {
                            written = open.add(row, &mut parts);
                        }
                    });
                    written?;
                }
                Err(Unread::Message) => open.failed.push(entry.message_id.to_string()),
                Err(Unread::All(error)) => return Err(error),
            }
        }
        has_more = reached.is_some();
        position = reached;
        if open.messages >= u64::from(options.part) || !has_more {
            open.flush(&mut parts)?;
            let Open { messages, row_count, failed, .. } = std::mem::take(&mut open);
            parts.keep_up_to(position.clone(), messages, row_count, failed)?;
        }
    }
    progress.finish_and_clear();
    tokio::task::block_in_place(|| parts.finish())
}

/// Why a message is missing.
enum Unread {
    /// This message is unreadable: it was deleted, or is not what its record says.
    Message,
    /// No message can be read.
    All(anyhow::Error),
}

/// The message of a record; `None` where the table does not need it.
async fn message(lake: &aws_sdk_s3::Client, entry: &Entry, table: Table, room: &Semaphore) -> Result<Option<Er7>, Unread> {
    if !table.needs_messages() {
        return Ok(None);
    }
    let object = lake.get_object().bucket(&entry.bucket).key(&entry.key).set_version_id(entry.version_id.clone()).send();
    let object = match object.await {
        Ok(object) => object,
        // Users may not list the bucket, so S3 answers 403 for a deleted object.
        Err(error) if error.raw_response().is_some_and(|it| matches!(it.status().as_u16(), 403 | 404)) => {
            return Err(Unread::Message);
        }
        Err(error) => return Err(Unread::All(client::error::explain("reading the lake")(error))),
    };
    let length = object.content_length().and_then(|it| u32::try_from(it).ok()).unwrap_or(READ_AT_ONCE);
    let _held = room.acquire_many(length.min(READ_AT_ONCE)).await.map_err(|error| Unread::All(error.into()))?;
    let bytes = object.body.collect().await.map_err(|error| Unread::All(error.into()))?.to_vec();
    entry.message(bytes).map(Some).ok_or(Unread::Message)
}

fn size(row: &Row) -> usize {
    let text = |cell: &Option<Cell>| if let Some(Cell::Text(text)) = cell { text.len() } else { 0 };
    row.iter().map(|cell| 24 + text(cell)).sum()
}
