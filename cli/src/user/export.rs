//! An institute's messages as tables. The export reads the catalog and the lake directly, with the user's own AWS
//! credentials: no worker is involved, and IAM decides.

pub(crate) mod catalog;
pub(crate) mod format;
pub(crate) mod lake;
pub(crate) mod parts;

use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use tables::{Cell, Entry, Mapping, Row, Table};

use catalog::{Position, Reader};
use lake::{Object, Unread};
use parts::{Checkpoint, Parts};

/// The most records that one page reads. DynamoDB also ends a page at 1 MiB.
const PAGE: u32 = 1_000;

/// The most bytes of messages that are read, or wait for their turn to be written, at a time; a single message may have more.
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
    /// The first message that S3 refused since it was last clear that the user may read.
    refused: Option<String>,
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
/// When the sign-in or the right to read ends, AWS does not answer, or the disk is full. The same export resumes after its last part.
pub(crate) async fn export(
    reader: &mut Reader<'_>,
    parts: Parts,
    (table, mapping): (Table, Arc<Mapping>),
    options: Options,
    progress: &ProgressBar,
) -> Result<Checkpoint> {
    let selection = parts.checkpoint.selection.clone();
    let mut position = parts.checkpoint.position.clone();
    let mut has_more = position.is_some() || parts.checkpoint.messages == 0;
    progress.set_length(parts.checkpoint.messages);
    progress.set_position(parts.checkpoint.messages);
    let mut run = Run { parts, open: Open::default(), table, mapping, options };
    while has_more {
        let limit = i32::try_from(PAGE.min(options.part))?;
        let (entries, reached) = reader.next(&selection, position.as_ref(), limit).await?;
        progress.inc_length(entries.len() as u64);
        run.page(&reader.lake().await?, entries, reached.clone(), progress).await?;
        has_more = reached.is_some();
        position = reached;
    }
    progress.finish_and_clear();
    tokio::task::block_in_place(|| run.parts.finish())
}

/// An export at work.
struct Run {
    parts: Parts,
    open: Open,
    table: Table,
    mapping: Arc<Mapping>,
    options: Options,
}

impl Run {
    /// Adds the messages of a page of the catalog, which ends at `reached`; `None` is the end.
    async fn page(
        &mut self,
        lake: &aws_sdk_s3::Client,
        entries: Vec<Entry>,
        reached: Option<Position>,
        progress: &ProgressBar,
    ) -> Result<()> {
        let needs_messages = self.table.needs_messages();
        let opened = stream::iter(entries).map(|entry| {
            let lake = lake.clone();
            tokio::spawn(async move {
                let object = if needs_messages { lake::open(&lake, &entry).await.map(Some) } else { Ok(None) };
                (entry, object)
            })
        });
        let sized = opened.buffered(self.options.concurrency).map(|opened| {
            let object = opened.as_ref().ok().and_then(|(_, object)| object.as_ref().ok()?.as_ref());
            let bytes = object.map_or(0, |it| lake::length(it, READ_AT_ONCE));
            let read = async move {
                let (entry, object) = opened.context("a task broke off")?;
                let message = match object {
                    Ok(Some(object)) => lake::collected(&entry, object).await.map(Some),
                    Ok(None) => Ok(None),
                    Err(unread) => Err(unread),
                };
                anyhow::Ok((entry, message))
            };
            (bytes, read)
        });
        let mut read = pin!(lake::bounded(sized, READ_AT_ONCE, self.options.concurrency));
        while let Some(done) = read.next().await {
            // The message has its room until its rows are there.
            let (_room, done) = done?;
            let (entry, message) = done?;
            let day = entry.received_at.date();
            if self.parts.are_by_day() && self.open.day != day && !self.open.rows.is_empty() {
                self.open.flush(&mut self.parts)?;
            }
            self.open.day = day;
            self.open.messages += 1;
            progress.inc(1);
            match message {
                Ok(message) => {
                    let mut written = Ok(());
                    self.mapping.each_row(self.table, &entry, message.as_ref(), &mut |row| {
                        if written.is_ok() {
                            written = self.open.add(row, &mut self.parts);
                        }
                    });
                    written?;
                    if message.is_some() {
                        self.parts.checkpoint.readable = Some(Object::from(&entry));
                    }
                }
                Err(Unread::Message) => self.open.failed.push(entry.message_id.to_string()),
                Err(Unread::Refused) => {
                    self.open.refused.get_or_insert_with(|| entry.message_id.to_string());
                    self.open.failed.push(entry.message_id.to_string());
                }
                Err(Unread::All(error)) => return Err(error),
            }
        }
        let is_part = self.open.messages >= u64::from(self.options.part) || reached.is_none();
        self.check_right(lake, is_part).await?;
        if is_part {
            self.open.flush(&mut self.parts)?;
            let Open { messages, row_count, failed, .. } = std::mem::take(&mut self.open);
            self.parts.keep_up_to(reached, messages, row_count, failed)?;
        }
        Ok(())
    }

    /// If S3 refused a message, reads again the newest one that was readable. If that is refused too, or there is none in a whole part, the
    /// messages are not gone: the right is.
    async fn check_right(&mut self, lake: &aws_sdk_s3::Client, is_part: bool) -> Result<()> {
        let Some(refused) = &self.open.refused else { return Ok(()) };
        let is_readable = match &self.parts.checkpoint.readable {
            Some(object) => object.is_readable(lake).await?,
            None if is_part => false,
            // The next page may have one.
            None => return Ok(()),
        };
        if !is_readable {
            bail!("S3 refuses message {refused}, and every other one that was tried: {}", lake::RIGHTS);
        }
        self.open.refused = None;
        Ok(())
    }
}

fn size(row: &Row) -> usize {
    let text = |cell: &Option<Cell>| if let Some(Cell::Text(text)) = cell { text.len() } else { 0 };
    row.iter().map(|cell| 24 + text(cell)).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
    use aws_sdk_s3::primitives::ByteStream;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use domain::MessageId;

    use super::catalog::Selection;
    use super::catalog::tests::entry;
    use super::format::Format;
    use super::parts::{Request, Target};
    use super::*;

    fn text(key: &str) -> String {
        format!("MSH|{key}\r")
    }

    fn message(key: &str) -> Entry {
        Entry { message_id: MessageId::of_canonical(text(key).as_bytes()), key: key.to_owned(), ..entry() }
    }

    fn run(folder: &Path) -> Run {
        let mapping = Arc::new(Mapping::standard().unwrap().clone());
        let request = Request { api_url: "https://a".to_owned(), institute: "west".to_owned(), words: Vec::new() };
        let selection = Selection { from: None, to: "1".to_owned(), message_type: None, trigger_event: None };
        let target = Target::File(folder.join("a.er7"));
        let parts = Parts::open(target, Format::Er7, mapping.columns(Table::Raw), request, selection).unwrap();
        Run { parts, open: Open::default(), table: Table::Raw, mapping, options: Options { concurrency: 4, part: 2 } }
    }

    /// A lake of readable messages, without those whose keys begin with "gone". While it is `shut`, it refuses all.
    fn lake(shut: &Arc<AtomicBool>, says: &'static str) -> [Rule; 2] {
        let refuses = {
            let shut = Arc::clone(shut);
            move |key: Option<&str>| shut.load(SeqCst) || key.is_some_and(|it| it.starts_with("gone"))
        };
        let gives = refuses.clone();
        let refused = mock!(aws_sdk_s3::Client::get_object).match_requests(move |it| refuses(it.key())).then_error(move || {
            let error = aws_sdk_s3::error::ErrorMetadata::builder().code("AccessDenied").message(says).build();
            GetObjectError::generic(error)
        });
        let given = mock!(aws_sdk_s3::Client::get_object).match_requests(move |it| !gives(it.key())).then_compute_output(|it| {
            let body = ByteStream::from(text(it.key().unwrap_or_default()).into_bytes());
            GetObjectOutput::builder().body(body).build()
        });
        [refused, given]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_ends_before_the_first_message_that_the_user_may_no_longer_read() {
        let folder = tempfile::tempdir().unwrap();
        let shut = Arc::new(AtomicBool::new(false));
        let [refused, given] = lake(&shut, "Access Denied");
        let lake = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&refused, &given]);
        let progress = ProgressBar::hidden();

        // The right ends behind the first part; `None` is no position, and ends a part.
        let mut first = run(folder.path());
        first.page(&lake, [message("a"), message("b")].into(), None, &progress).await.unwrap();
        shut.store(true, SeqCst);
        let error = first.page(&lake, [message("c"), message("d")].into(), None, &progress).await.unwrap_err().to_string();
        let id = message("c").message_id.to_string();
        for says in [id.as_str(), "s3:GetObject", "kms:Decrypt", "the same command resumes"] {
            assert!(error.contains(says), "{error}");
        }
        drop(first);

        let mut again = run(folder.path());
        assert_eq!((again.parts.checkpoint.messages, again.parts.checkpoint.failed.len()), (2, 0));
        again.page(&lake, [message("c")].into(), None, &progress).await.unwrap_err();
        drop(again);
        shut.store(false, SeqCst);
        let mut last = run(folder.path());
        // The one that was readable before the interruption shows that only this one is gone.
        last.page(&lake, [message("gone")].into(), None, &progress).await.unwrap();
        last.page(&lake, [message("c"), message("d")].into(), None, &progress).await.unwrap();
        let done = last.parts.finish().unwrap();
        assert_eq!((done.messages, done.rows, done.failed), (5, 4, Vec::from([message("gone").message_id.to_string()])));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_that_is_gone_among_readable_ones_is_counted_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let [refused, given] = lake(&Arc::default(), "Access Denied");
        let lake = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&refused, &given]);
        let mut run = run(folder.path());
        // The first one, too: the others are not known yet.
        run.page(&lake, [message("gone"), message("b"), message("gone")].into(), None, &ProgressBar::hidden()).await.unwrap();
        let done = run.parts.finish().unwrap();
        assert_eq!((done.messages, done.rows, done.failed.len()), (3, 1, 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_that_may_read_nothing_has_no_file() {
        for (says, shut) in [("Access Denied", false), ("not authorized to perform: kms:Decrypt on resource: k", true)] {
            let folder = tempfile::tempdir().unwrap();
            let [refused, given] = lake(&Arc::new(AtomicBool::new(shut)), says);
            let lake = mock_client!(aws_sdk_s3, RuleMode::MatchAny, [&refused, &given]);
            let mut run = run(folder.path());
            let progress = ProgressBar::hidden();
            let page = run.page(&lake, [message("gone"), message("gone too")].into(), None, &progress);
            let error = page.await.unwrap_err().to_string();
            assert!(error.contains(&message("gone").message_id.to_string()) && error.contains("s3:GetObject"), "{error}");
            drop(run);
            assert_eq!(super::tests::run(folder.path()).parts.checkpoint.messages, 0);
            assert!(!folder.path().join("a.er7").exists());
        }
    }
}
