//! Writes an export part by part, so that an interrupted export resumes behind its last part.

use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tables::{Column, ParquetFile, Row};

use super::catalog::{Position, Selection};
use super::format::Format;
use super::lake::Object;
use crate::error::Misused;
use crate::output::{for_people, is_broken_pipe, json_text};
use client::private_file;
use client::session::private_folder;

/// The file with the progress of an export.
const CHECKPOINT: &str = ".sluice-export.json";

/// The request. A part belongs to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The API, which tells deployments apart.
    pub(crate) api_url: String,
    pub(crate) institute: String,
    /// The arguments as the person wrote them. An hour later `2h` means another time, and still the same request.
    pub(crate) words: Vec<String>,
}

/// The progress of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    v: u8,
    request: Request,
    /// The selection, with the times that the request meant when it began.
    pub(crate) selection: Selection,
    /// The last record that is in a part; `None` at the beginning.
    pub(crate) position: Option<Position>,
    /// The complete parts, by their paths below the folder.
    parts: Vec<PathBuf>,
    /// The number of messages in them.
    pub(crate) messages: u64,
    /// The number of rows in them.
    pub(crate) rows: u64,
    /// The ids of messages that could not be read.
    pub(crate) failed: Vec<String>,
    /// The newest message that was readable.
    #[serde(default)]
    pub(crate) readable: Option<Object>,
}

/// The target of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    /// A file, which appears when it is complete.
    File(PathBuf),
    /// A folder of files, by the day on which the messages arrived.
    Folder(PathBuf),
}

/// Whoever read stdout has gone, as `head` does when it has enough.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("nobody reads stdout any more")
    }
}

impl std::error::Error for ReaderGone {}

fn of_stdout(error: anyhow::Error) -> anyhow::Error {
    if is_broken_pipe(&error) { ReaderGone.into() } else { error.context("writing to stdout") }
}

/// The parts of an export.
#[derive(Debug)]
pub(crate) struct Parts {
    target: Target,
    format: Format,
    columns: Vec<Column>,
    pub(crate) checkpoint: Checkpoint,
    /// Parts that the checkpoint does not know yet.
    written: Vec<PathBuf>,
    has_header: bool,
    /// A Parquet file ends with its index, so on stdout it stays open.
    stdout: Option<ParquetFile<std::io::Stdout>>,
}

impl Parts {
    /// Begins an export, or resumes an interrupted one.
    ///
    /// # Errors
    /// When the target exists, or holds the parts of another request.
    pub(crate) fn open(
        target: Target,
        format: Format,
        columns: Vec<Column>,
        request: Request,
        selection: Selection,
    ) -> Result<Self> {
        let begun = Checkpoint {
            v: 1,
            request: request.clone(),
            selection,
            position: None,
            parts: Vec::new(),
            messages: 0,
            rows: 0,
            failed: Vec::new(),
            readable: None,
        };
        let mut parts = Self { target, format, columns, checkpoint: begun, written: Vec::new(), has_header: false, stdout: None };
        let Some(folder) = parts.folder() else { return Ok(parts) };
        if let Target::File(path) = &parts.target
            && path.exists()
        {
            return Err(Misused::because(format!("{} is there, and no file is overwritten", path.display())));
        }
        match std::fs::read(folder.join(CHECKPOINT)) {
            Ok(text) => {
                let kept: Checkpoint = serde_json::from_slice(&text)
                    .with_context(|| format!("{} was written by another version", folder.join(CHECKPOINT).display()))?;
                ensure!(
                    kept.request == request,
                    "{} holds what another export left when it was broken off: repeat that one, or remove the folder",
                    folder.display()
                );
                parts.checkpoint = kept;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let is_used = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
                ensure!(!is_used || matches!(parts.target, Target::File(_)), "{} is not empty", folder.display());
                private_folder(&folder).with_context(|| format!("making {}", folder.display()))?;
                parts.keep()?;
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        }
        Ok(parts)
    }

    /// Whether the parts are files by day.
    pub(crate) fn are_by_day(&self) -> bool {
        matches!(self.target, Target::Folder(_))
    }

    fn folder(&self) -> Option<PathBuf> {
        match &self.target {
            Target::Stdout => None,
            Target::Folder(folder) => Some(folder.clone()),
            Target::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(".partial");
                Some(name.into())
            }
        }
    }

    /// Writes a part with rows of messages of one day.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&mut self, day: &str, rows: &[Row]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let Some(folder) = self.folder() else {
            if self.format == Format::Parquet {
                return self.open_stdout().and_then(|file| Ok(file.write(rows)?)).map_err(of_stdout);
            }
            let with_header = !std::mem::replace(&mut self.has_header, true);
            return self.print(rows, with_header).map_err(of_stdout);
        };
        let number = self.checkpoint.parts.len() + self.written.len() + 1;
        let name = format!("part-{number:05}.{}", self.format.extension());
        let name = if self.are_by_day() { Path::new(&format!("date={day}")).join(name) } else { PathBuf::from(name) };
        let path = folder.join(&name);
        if let Some(parent) = path.parent() {
            private_folder(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let with_header = self.are_by_day() || number == 1;
        let written = create(&path).and_then(|file| {
            self.format.write(&self.columns, rows, with_header, &file)?;
            Ok(file.sync_all()?)
        });
        written.with_context(|| format!("writing {}", path.display()))?;
        self.written.push(name);
        Ok(())
    }

    /// Writes rows to stdout, or shows them to whoever sits at the terminal there.
    fn print(&self, rows: &[Row], with_header: bool) -> Result<()> {
        let mut stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return self.format.write(&self.columns, rows, with_header, stdout);
        }
        let mut written = Vec::new();
        self.format.write(&self.columns, rows, with_header, &mut written)?;
        Ok(stdout.write_all(for_terminal(self.format, &written).as_bytes())?)
    }

    fn open_stdout(&mut self) -> Result<&mut ParquetFile<std::io::Stdout>> {
        let file = match self.stdout.take() {
            Some(file) => file,
            None => ParquetFile::new(&self.columns, std::io::stdout())?,
        };
        Ok(self.stdout.insert(file))
    }

    /// Records that everything up to here is in complete parts.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub(crate) fn keep_up_to(&mut self, position: Option<Position>, messages: u64, rows: u64, failed: Vec<String>) -> Result<()> {
        let checkpoint = &mut self.checkpoint;
        checkpoint.position = position;
        checkpoint.messages += messages;
        checkpoint.rows += rows;
        checkpoint.failed.extend(failed);
        checkpoint.parts.append(&mut self.written);
        self.keep()
    }

    fn keep(&self) -> Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        private_file::write(&folder.join(CHECKPOINT), &serde_json::to_vec(&self.checkpoint)?)
    }

    /// Joins the parts into the result.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self) -> Result<Checkpoint> {
        // A table without rows has its header.
        if self.target == Target::Stdout && self.format == Format::Parquet {
            self.open_stdout().map_err(of_stdout)?;
            if let Some(file) = self.stdout.take() {
                let finish = || -> Result<()> { Ok(file.finish()?.flush()?) };
                finish().map_err(of_stdout)?;
            }
        } else if self.target == Target::Stdout && !self.has_header {
            self.print(&[], true).map_err(of_stdout)?;
        }
        let Some(folder) = self.folder() else { return Ok(self.checkpoint) };
        if let Target::File(path) = &self.target {
            let whole = folder.join("whole");
            let parts: Vec<PathBuf> = self.checkpoint.parts.iter().map(|name| folder.join(name)).collect();
            let join = || -> Result<()> {
                let file = create(&whole)?;
                if parts.is_empty() {
                    self.format.write(&self.columns, &[], true, &file)?;
                } else {
                    self.format.join(&self.columns, &parts, &file)?;
                }
                file.sync_all()?;
                Ok(std::fs::rename(&whole, path)?)
            };
            join().with_context(|| format!("writing {}", path.display()))?;
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        } else {
            let checkpoint = folder.join(CHECKPOINT);
            std::fs::remove_file(&checkpoint).with_context(|| format!("removing {}", checkpoint.display()))?;
        }
        self.written.clear();
        Ok(self.checkpoint)
    }
}

/// Rows as a terminal shows them: nothing in a message takes effect there. NDJSON keeps its values; in the other formats escapes stand for
/// the characters that would act, and each segment is a line.
fn for_terminal(format: Format, written: &[u8]) -> String {
    match format {
        Format::Ndjson => json_text(&String::from_utf8_lossy(written)).into_owned(),
        _ if written.is_empty() => String::new(),
        Format::Parquet | Format::Csv | Format::Er7 => for_people(written) + "\n",
    }
}

/// Creates a file that only its owner can read.
fn create(path: &Path) -> Result<File> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.flush()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use domain::Er7;
    use tables::{Mapping, Table};

    use super::super::catalog::tests::entry;
    use super::*;
    use crate::output::{ACTING, printable};

    fn request(word: &str) -> Request {
        Request { api_url: "https://a".to_owned(), institute: "west".to_owned(), words: Vec::from([word.to_owned()]) }
    }

    fn selection(to: &str) -> Selection {
        Selection { from: None, to: to.to_owned(), message_type: None, trigger_event: None }
    }

    fn raw() -> Vec<Column> {
        Mapping::standard().unwrap().columns(Table::Raw)
    }

    fn rows(text: &str) -> Vec<Row> {
        Mapping::standard().unwrap().rows(Table::Raw, &entry(), Some(&Er7::canonical(text).unwrap()))
    }

    #[test]
    fn an_interrupted_export_resumes_after_its_last_complete_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.er7");
        let open = |request, to: &str| Parts::open(Target::File(path.clone()), Format::Er7, raw(), request, selection(to));
        let mut parts = open(request("x"), "1").unwrap();
        parts.write("2026-11-28", &rows("MSH|one")).unwrap();
        parts.keep_up_to(None, 1, 1, Vec::new()).unwrap();
        // The program writes this part, and ends before the checkpoint knows it.
        parts.write("2026-11-28", &rows("MSH|two")).unwrap();
        drop(parts);
        assert!(!path.exists());

        assert!(open(request("y"), "2").unwrap_err().to_string().contains("another export"));
        let mut parts = open(request("x"), "2").unwrap();
        assert_eq!((parts.checkpoint.messages, parts.checkpoint.selection.to.as_str()), (1, "1"), "the times of the beginning");
        parts.write("2026-11-28", &rows("MSH|two")).unwrap();
        parts.keep_up_to(None, 1, 1, Vec::new()).unwrap();
        assert_eq!(parts.finish().unwrap().messages, 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "MSH|one\rMSH|two\r");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(open(request("x"), "2").unwrap_err().to_string().contains("no file is overwritten"));
    }

    #[test]
    fn a_folder_has_a_file_for_each_day() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::Folder(folder.path().join("out"));
        let mut parts = Parts::open(target.clone(), Format::Csv, raw(), request("x"), selection("1")).unwrap();
        for day in ["2026-11-27", "2026-11-28"] {
            parts.write(day, &rows("MSH|one")).unwrap();
        }
        parts.keep_up_to(None, 2, 2, Vec::new()).unwrap();
        parts.finish().unwrap();
        for (day, number) in [("2026-11-27", 1), ("2026-11-28", 2)] {
            let file = folder.path().join(format!("out/date={day}/part-0000{number}.csv"));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.starts_with("message_id,source,received_at,er7\n") && text.contains("MSH|one"), "{text}");
        }
        let again = Parts::open(target, Format::Csv, raw(), request("x"), selection("1"));
        assert!(again.unwrap_err().to_string().contains("is not empty"));
    }

    #[test]
    fn nothing_in_an_exported_message_acts_on_a_terminal() {
        let report = Er7::canonical(&format!("MSH|^~\\&|LAB|||||ORU^R01|7|P|2.5.1\rOBX|1|ST|c||{ACTING}\r")).unwrap();
        let mapping = Mapping::standard().unwrap();
        let shown = |format: Format, table| {
            let mut written = Vec::new();
            let rows = mapping.rows(table, &entry(), Some(&report));
            format.write(&mapping.columns(table), &rows, true, &mut written).unwrap();
            assert!(String::from_utf8_lossy(&written).contains('\u{9b}'), "a file has it as it is");
            let shown = for_terminal(format, &written);
            assert_eq!(printable(&shown), shown, "{format:?}");
            shown
        };
        let row: serde_json::Value = serde_json::from_str(&shown(Format::Ndjson, Table::Observations)).unwrap();
        assert_eq!(row["value"], ACTING, "the same value");
        let csv = shown(Format::Csv, Table::Observations);
        assert!(csv.lines().count() == 2 && csv.contains("a\\u{1b}[2J\\u{7f}\\u{9b}31m\\u{202e}gpj"), "{csv}");
        let er7 = shown(Format::Er7, Table::Raw);
        assert!(er7.starts_with("MSH|") && er7.contains("\nOBX|1|ST|c||a\\u{1b}[2J") && er7.ends_with("z\n"), "{er7}");
        assert_eq!(for_terminal(Format::Er7, b""), "", "no message is no line");
    }

    #[test]
    fn an_export_of_nothing_is_a_table_without_rows() {
        let folder = tempfile::tempdir().unwrap();
        for (format, begins) in
            [(Format::Csv, "message_id,source,received_at,er7\n"), (Format::Ndjson, ""), (Format::Parquet, "PAR1")]
        {
            let path = folder.path().join(format.extension());
            let parts = Parts::open(Target::File(path.clone()), format, raw(), request("x"), selection("1")).unwrap();
            parts.finish().unwrap();
            let written = std::fs::read(&path).unwrap();
            assert!(written.starts_with(begins.as_bytes()) && written.is_empty() == begins.is_empty(), "{format:?}");
            assert!(format == Format::Parquet || written.len() == begins.len(), "{format:?}");
        }
    }
}
