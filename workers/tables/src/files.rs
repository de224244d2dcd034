//! The files of a day: a Parquet file for each table, written on the disk of the function while the messages come.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use domain::Er7;
use runtime::StepError;
use tables::{Cell, Column, Entry, Mapping, NotWritten, ParquetFile, Row, Table};

/// Rows of so many bytes, of all tables together, are in memory. Then the table with the most of them writes a row group.
const MOST_BYTES: usize = 96 << 20;

/// The disk is full: the day is larger than the function's `EphemeralStorage`.
pub(crate) const NOT_WRITTEN: StepError = StepError::Unavailable { operation: "writing Parquet to the function's disk" };

/// The process's place on the function's disk.
///
/// A process that Lambda ends, after a timeout or for lack of memory, leaves its files behind, and the next one gets the same disk.
/// Locally other processes that are at work share it. So each process holds a lock beside its place, which ends with it.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    _lock: File,
}

impl Disk {
    /// A place for this process. Removes the places of processes that have ended.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn new() -> Result<Self, StepError> {
        Self::below(&std::env::temp_dir().join("sluice-tables"))
    }

    fn below(root: &Path) -> Result<Self, StepError> {
        std::fs::create_dir_all(root).map_err(|_| NOT_WRITTEN)?;
        for entry in std::fs::read_dir(root).map_err(|_| NOT_WRITTEN)?.flatten() {
            let (place, lock) = (entry.path(), entry.path().with_extension("lock"));
            // A place is made when its lock is held, and so one without a lock is nobody's.
            let is_held = || matches!(File::open(&lock).map(|it| it.try_lock()), Ok(Err(TryLockError::WouldBlock)));
            if place != lock && !is_held() {
                let _ = std::fs::remove_dir_all(&place);
                let _ = std::fs::remove_file(&lock);
            }
        }
        let place = root.join(runtime::new_submission_id().to_string());
        let lock = File::create(place.with_extension("lock")).map_err(|_| NOT_WRITTEN)?;
        lock.lock().map_err(|_| NOT_WRITTEN)?;
        std::fs::create_dir(&place).map_err(|_| NOT_WRITTEN)?;
        Ok(Self { place, _lock: lock })
    }
}

/// A folder for a day's files, which is removed with this value. Lambda may keep the disk for the next invocation.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new(disk: &Disk) -> Result<Self, StepError> {
        let path = disk.place.join(runtime::new_submission_id().to_string());
        std::fs::create_dir(&path).map_err(|_| NOT_WRITTEN)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A table's file, being written.
#[derive(Debug)]
struct Open {
    table: Table,
    columns: Vec<Column>,
    path: PathBuf,
    file: ParquetFile<File>,
    rows: Vec<Row>,
    bytes: usize,
    row_count: u64,
}

/// The files of a day, being written.
#[derive(Debug)]
pub(crate) struct DayFiles<'a> {
    mapping: &'a Mapping,
    folder: Folder,
    tables: Vec<Open>,
    most_bytes: usize,
}

/// A table's file that is complete.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) table: Table,
    pub(crate) path: PathBuf,
    pub(crate) rows: u64,
}

/// The complete files of a day, which are removed with this value.
#[derive(Debug)]
pub(crate) struct WrittenFiles {
    files: Vec<Written>,
    _folder: Folder,
}

impl std::ops::Deref for WrittenFiles {
    type Target = [Written];

    fn deref(&self) -> &[Written] {
        &self.files
    }
}

impl<'a> DayFiles<'a> {
    pub(crate) fn new(mapping: &'a Mapping, disk: &Disk) -> Result<Self, StepError> {
        Self::with_room(mapping, disk, MOST_BYTES)
    }

    fn with_room(mapping: &'a Mapping, disk: &Disk, most_bytes: usize) -> Result<Self, StepError> {
        let folder = Folder::new(disk)?;
        let open = Table::ALL.map(|table| {
            let (columns, path) = (mapping.columns(table), folder.0.join(table.name()));
            let file = File::create(&path).map_err(|_| NOT_WRITTEN)?;
            let file = ParquetFile::new(&columns, file).map_err(not_written)?;
            Ok(Open { table, columns, path, file, rows: Vec::new(), bytes: 0, row_count: 0 })
        });
        let tables = open.into_iter().collect::<Result<_, StepError>>()?;
        Ok(Self { mapping, folder, tables, most_bytes })
    }

    /// Adds the rows of a message to every table; without the message, those that its record has.
    pub(crate) fn add(&mut self, entry: &Entry, message: Option<&Er7>) -> Result<(), StepError> {
        for index in 0..self.tables.len() {
            let Some(open) = self.tables.get_mut(index) else { break };
            let mut written = Ok(());
            self.mapping.each_row(open.table, entry, message, &mut |row| {
                if written.is_ok() {
                    open.bytes += size(&row);
                    open.rows.push(row);
                    // One message may have millions of rows in one table.
                    if open.bytes >= self.most_bytes {
                        written = open.flush();
                    }
                }
            });
            written?;
            // After each table, since a large message is as large in several of them.
            self.make_room()?;
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), StepError> {
        while self.tables.iter().map(|it| it.bytes).sum::<usize>() >= self.most_bytes {
            let Some(largest) = self.tables.iter_mut().max_by_key(|it| it.bytes) else { break };
            largest.flush()?;
        }
        Ok(())
    }

    /// Ends the files. A table without rows has a file with its columns.
    pub(crate) fn finish(self) -> Result<WrittenFiles, StepError> {
        let files = self.tables.into_iter().map(|mut open| {
            open.flush()?;
            open.file.finish().map_err(not_written)?;
            Ok(Written { table: open.table, path: open.path, rows: open.row_count })
        });
        Ok(WrittenFiles { files: files.collect::<Result<_, StepError>>()?, _folder: self.folder })
    }
}

impl Open {
    fn flush(&mut self) -> Result<(), StepError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        self.row_count += rows.len() as u64;
        debug_assert!(rows.iter().all(|row| row.len() == self.columns.len()));
        self.file.write(&rows).map_err(not_written)
    }
}

fn not_written(_: NotWritten) -> StepError {
    NOT_WRITTEN
}

fn size(row: &Row) -> usize {
    let text = |cell: &Option<Cell>| if let Some(Cell::Text(text)) = cell { text.len() } else { 0 };
    row.iter().map(|cell| size_of::<Option<Cell>>() + text(cell)).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::MessageId;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use serde_json::json;

    use super::*;

    pub(crate) fn entry(text: &str) -> Entry {
        let message_id = MessageId::of_canonical(text.as_bytes());
        serde_json::from_value(json!({
            "message_id": message_id, "source": "west", "received_at": "2026-11-28T21:00:00.120Z", "state": "parsed",
            "bucket": "lake", "key": "source=west/x.hl7", "summary": {}
        }))
        .unwrap()
    }

    #[test]
    fn what_a_process_left_is_removed_when_it_has_ended_and_not_before() {
        let root = std::env::temp_dir().join(format!("sluice-tables-test-{}", runtime::new_submission_id()));
        let (dead, alive) = (Disk::below(&root).unwrap(), Disk::below(&root).unwrap());
        let left = dead.place.join("day");
        std::fs::write(&left, "x").unwrap();
        let _busy = Disk::below(&root).unwrap();
        assert!(left.exists() && alive.place.exists());
        // Its lock ends with a process.
        drop(dead);
        assert!(left.exists());
        let _next = Disk::below(&root).unwrap();
        assert!(!left.exists() && alive.place.exists());
        std::fs::remove_dir_all(root).unwrap();
    }

    /// The files of a day with these messages: row groups and rows of each table.
    fn written(messages: &[Er7], most_bytes: usize) -> Vec<(Table, usize, Vec<String>)> {
        let mapping = Mapping::standard().unwrap();
        let disk = Disk::new().unwrap();
        let mut files = DayFiles::with_room(mapping, &disk, most_bytes).unwrap();
        for message in messages {
            files.add(&entry(message.as_str()), Some(message)).unwrap();
            assert!(files.tables.iter().map(|it| it.bytes).sum::<usize>() < most_bytes);
        }
        let files = files.finish().unwrap();
        let read = files.iter().map(|it| {
            let reader = SerializedFileReader::new(File::open(&it.path).unwrap()).unwrap();
            let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
            assert_eq!(rows.len() as u64, it.rows);
            (it.table, reader.num_row_groups(), rows)
        });
        read.collect()
    }

    #[test]
    fn rows_are_the_same_however_little_memory_there_is() {
        let samples = corpus::messages().unwrap().into_iter().map(|sample| hl7::Body::of(sample.bytes, None));
        let messages: Vec<Er7> = samples.filter_map(|body| Some(body.message(1)?.read().ok()?.er7)).collect();
        assert!(messages.len() > 50, "{}", messages.len());
        let (much, little) = (written(&messages, 1 << 30), written(&messages, 64 << 10));
        for ((table, groups, rows), (_, more_groups, same)) in much.iter().zip(&little) {
            assert_eq!(rows, same, "{table}");
            assert!(*groups <= 1, "{table}");
            assert_eq!(rows.is_empty(), *more_groups == 0, "{table}");
        }
        let groups = |table: Table| little.iter().find(|it| it.0 == table).map(|it| it.1).unwrap();
        assert!(groups(Table::Fields) > 10 && groups(Table::Fields) > groups(Table::Messages), "the largest table writes first");
    }

    #[test]
    fn a_message_that_cannot_be_read_is_in_messages_alone() {
        let disk = Disk::new().unwrap();
        let mut files = DayFiles::new(Mapping::standard().unwrap(), &disk).unwrap();
        files.add(&entry("MSH|^~\\&|A\r"), None).unwrap();
        let rows: Vec<_> = files.finish().unwrap().iter().filter(|it| it.rows > 0).map(|it| it.table).collect();
        assert_eq!(rows, [Table::Messages]);
    }
}
