//! Writes the days of an institute, one after another.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use domain::{Source, Timestamp};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use runtime::StepError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tables::{Mapping, Table};

use crate::digest::{Digest, of_columns};
use crate::files::{DayFiles, Disk, Written};
use crate::index::{Found, Index};
use crate::messages::{Message, Messages};
use crate::progress::{Object, Progress};

const PUT_OBJECT: &str = "s3:PutObject";

/// How many messages are read at a time.
const READ_AT_ONCE: usize = 32;

/// If no message of so many can be read, the right to read them is missing.
const ENOUGH_UNREAD: u64 = 20;

/// The most ids of unreadable messages that a day's manifest names.
const MOST_UNREAD: usize = 1_000;

/// An institute's days, and where they are read from and written to.
pub(crate) struct Days<'a> {
    pub(crate) index: Index,
    /// In the institute's session.
    pub(crate) s3: Client,
    /// The bucket of the tables.
    pub(crate) bucket: &'a str,
    pub(crate) source: &'a Source,
    pub(crate) mapping: &'a Mapping,
    pub(crate) disk: &'a Disk,
    pub(crate) now: Timestamp,
}

/// What a run has written, with all of its invocations.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// Days that were written.
    days: u64,
    /// Messages of these days.
    pub(crate) messages: u64,
    /// Messages that are only in `messages`: their objects are gone, or are not what their records say.
    pub(crate) unread: u64,
    rows: u64,
}

impl Totals {
    fn add(&mut self, day: Self) {
        self.days += day.days;
        self.messages += day.messages;
        self.unread += day.unread;
        self.rows += day.rows;
    }
}

/// How far an invocation has come.
#[derive(Debug)]
pub(crate) enum Reached {
    /// Every day is up to date.
    End,
    /// There was no time for more. Of the days that were open, those up to this one were looked at.
    Open(Option<String>),
}

/// A file in the tables' bucket, as a manifest names it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Put {
    table: &'static str,
    key: String,
    version_id: Option<String>,
    rows: u64,
}

impl Days<'_> {
    /// Looks at each day that may have changed, and writes those that have. No day is begun once `has_time` says no.
    ///
    /// New days come first, so that they need not wait for open ones, however many there are. Of those, the ones up to `looked_at` are
    /// passed over: an earlier invocation of the same run has looked at them.
    pub(crate) async fn bring_up_to_date(
        &self,
        progress: &mut Progress,
        looked_at: Option<String>,
        totals: &mut Totals,
        mut has_time: impl FnMut() -> bool,
    ) -> Result<Reached, StepError> {
        let columns = of_columns(self.mapping);
        let days: Vec<String> = progress.days_to_look_at().into_iter().filter(|day| Some(day) > looked_at.as_ref()).collect();
        while let Some(day) = self.next_new(progress).await? {
            if !has_time() {
                return Ok(Reached::Open(looked_at));
            }
            self.bring_day_up_to_date(progress, &day, &columns, totals).await?;
        }
        let mut looked_at = looked_at;
        for day in days {
            if !has_time() {
                progress.commit().await?;
                return Ok(Reached::Open(looked_at));
            }
            self.bring_day_up_to_date(progress, &day, &columns, totals).await?;
            looked_at = Some(day);
        }
        progress.note_all(self.now);
        progress.commit().await?;
        Ok(Reached::End)
    }

    /// The next day that no run has looked at: it has records, or files from before.
    async fn next_new(&self, progress: &Progress) -> Result<Option<String>, StepError> {
        let with_records = self.index.first_day(progress.through()).await?;
        let with_files = progress.first_to_replace().map(str::to_owned);
        Ok(with_records.into_iter().chain(with_files).min().filter(|day| *day <= self.now.date()))
    }

    /// Writes a day, if it has changed, or a message of it can be read again. What was written is committed.
    async fn bring_day_up_to_date(
        &self,
        progress: &mut Progress,
        day: &str,
        columns: &str,
        totals: &mut Totals,
    ) -> Result<(), StepError> {
        let is_readable_again = self.any_can_be_read(progress.unread(day)).await?;
        if !is_readable_again && progress.is_closed(day) {
            return Ok(());
        }
        if let Some(known) = progress.digest(day).map(str::to_owned).filter(|_| !is_readable_again) {
            let digest = self.digest(day).await?;
            if digest.text(columns) == known {
                progress.note(day, known, digest.unfinished > 0, self.now);
                return Ok(());
            }
        }
        let (digest, written, unread) = self.write(progress, day, totals).await?;
        progress.note_unread(day, unread);
        progress.note(day, digest.text(columns), digest.unfinished > 0, self.now);
        if let Some(written) = written {
            progress.note_files(day);
            totals.add(written);
        }
        progress.commit().await
    }

    /// Whether S3 gives any of these objects.
    async fn any_can_be_read(&self, objects: &[Object]) -> Result<bool, StepError> {
        let messages = Messages::new(self.s3.clone());
        for object in objects {
            if messages.can_read(object).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the files of a day would be made from now.
    async fn digest(&self, day: &str) -> Result<Digest, StepError> {
        let (mut digest, mut records_of_day) = (Digest::default(), self.index.day(day));
        while let Some(records) = records_of_day.next().await? {
            for record in &records {
                match record {
                    Found::Stored(entry) => digest.add(entry),
                    Found::Unfinished => digest.unfinished += 1,
                }
            }
        }
        Ok(digest)
    }

    /// Reads a day as a whole and replaces its files. A day that never had a stored message has none; one that has none left has empty
    /// files, since a session may not delete. Gives the objects too that S3 did not give.
    async fn write(
        &self,
        progress: &mut Progress,
        day: &str,
        before: &Totals,
    ) -> Result<(Digest, Option<Totals>, Vec<Object>), StepError> {
        let messages = Messages::new(self.s3.clone());
        let mut gone = Vec::new();
        let mut files = DayFiles::new(self.mapping, self.disk)?;
        let (mut digest, mut unread, mut records_of_day) = (Digest::default(), Vec::new(), self.index.day(day));
        while let Some(records) = records_of_day.next().await? {
            let mut entries = Vec::with_capacity(records.len());
            for record in records {
                match record {
                    Found::Stored(entry) => entries.push(entry),
                    Found::Unfinished => digest.unfinished += 1,
                }
            }
            let read = entries.into_iter().map(|entry| async { (messages.read(&entry).await, entry) });
            let mut read = stream::iter(read).buffered(READ_AT_ONCE);
            while let Some((message, entry)) = read.next().await {
                // A day may take longer than a lease.
                progress.keep().await?;
                let message = match message? {
                    Message::Large => messages.read_large(&entry).await?,
                    message => message,
                };
                digest.add(&entry);
                if let Message::Read(er7) = &message {
                    files.add(&entry, Some(er7))?;
                    continue;
                }
                files.add(&entry, None)?;
                unread.push(entry.message_id.to_string());
                if matches!(message, Message::Gone) {
                    gone.push(Object::from(&*entry));
                }
            }
        }
        if digest.stored == 0 && !progress.has_files(day) {
            return Ok((digest, None, gone));
        }
        let unread_count = unread.len() as u64;
        if unread_count > 0 && digest.stored == unread_count && before.messages == before.unread {
            self.check_right(&messages, before.unread + unread_count).await?;
        }
        let written = files.finish()?;
        let rows = written.iter().map(|it| it.rows).sum();
        self.publish(progress, day, &digest, &unread, &written).await?;
        Ok((digest, Some(Totals { days: 1, messages: digest.stored, unread: unread_count, rows }), gone))
    }

    /// S3 says 403 for an object that is gone as for one that it refuses, since a session may not list. So if a run could read nothing, this
    /// looks for any message of the institute that it can. Without the right, files would lose all that they have.
    async fn check_right(&self, messages: &Messages, unread: u64) -> Result<(), StepError> {
        let newest = self.index.newest(i32::try_from(ENOUGH_UNREAD).unwrap_or(i32::MAX)).await?;
        for entry in &newest {
            if messages.can_read(&Object::from(entry)).await? {
                return Ok(());
            }
        }
        if unread.max(newest.len() as u64) < ENOUGH_UNREAD {
            return Ok(());
        }
        Err(StepError::Misconfigured { operation: "s3:GetObject", code: "AccessDenied".to_owned() })
    }

    /// Puts the files at their places: `messages` last, so that what it names is in the other tables already, and the manifest after it.
    async fn publish(
        &self,
        progress: &mut Progress,
        day: &str,
        digest: &Digest,
        unread: &[String],
        written: &[Written],
    ) -> Result<(), StepError> {
        progress.keep().await?;
        let is_messages = |it: &&Written| it.table == Table::Messages;
        let others = written.iter().filter(|it| !is_messages(it)).map(|it| self.put(day, it));
        let mut put: Vec<Put> = stream::iter(others).buffered(Table::ALL.len()).try_collect().await?;
        for messages in written.iter().filter(is_messages) {
            progress.keep().await?;
            put.push(self.put(day, messages).await?);
        }
        let manifest = json!({
            "v": 1,
            "source": self.source,
            "date": day,
            "messages": digest.stored,
            "unread": unread.iter().take(MOST_UNREAD).collect::<Vec<_>>(),
            "hasUnfinished": digest.unfinished > 0,
            "writtenAt": runtime::now(),
            "files": put,
        });
        let key = format!("_commits/source={}/date={day}.json", self.source);
        progress.keep().await?;
        self.put_bytes(&key, ByteStream::from(manifest.to_string().into_bytes())).await?;
        Ok(())
    }

    async fn put(&self, day: &str, file: &Written) -> Result<Put, StepError> {
        let key = format!("{}/source={}/date={day}/part-00001.parquet", file.table, self.source);
        let body = ByteStream::from_path(&file.path).await.map_err(|_| crate::files::NOT_WRITTEN)?;
        let version_id = self.put_bytes(&key, body).await?;
        Ok(Put { table: file.table.name(), key, version_id, rows: file.rows })
    }

    async fn put_bytes(&self, key: &str, body: ByteStream) -> Result<Option<String>, StepError> {
        let put = self.s3.put_object().bucket(self.bucket).key(key).body(body).send().await;
        Ok(put.map_err(|error| StepError::from_sdk(PUT_OBJECT, &error))?.version_id)
    }
}
