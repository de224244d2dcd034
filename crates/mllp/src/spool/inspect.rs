//! Reads a spool from outside, even while a gateway uses it: which messages wait, were refused or are damaged. It shows
//! nothing of a message.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk::OsDisk;
use super::files::{done_path, log_path, segment_numbers};
use super::marks::Marks;
use super::record;
use super::shared::origin;
use crate::origin::Origin;

/// The content of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Messages that are acknowledged and not known to be stored, the oldest first.
    pub waiting: Vec<Waiting>,
    /// Messages that the API refuses for good.
    pub refused: Vec<Refused>,
    /// Files with damaged records.
    pub damaged: Vec<PathBuf>,
}

/// The step that a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitsFor {
    /// The API has to accept it.
    Api,
    /// The lake has to store it; the API has it.
    Lake,
}

impl WaitsFor {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Lake => "lake",
        }
    }
}

/// A message that is acknowledged and not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// When it was received, in milliseconds since 1970.
    #[serde(skip)]
    pub received_ms: u64,
    /// Its length in bytes.
    pub bytes: usize,
    /// The step that it waits for.
    pub waits_for: WaitsFor,
    /// Its origin.
    #[serde(flatten)]
    pub origin: Origin,
}

/// A message that the API refuses for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file with the message.
    pub path: PathBuf,
    /// The file beside it, with the reason.
    pub reason: PathBuf,
}

/// Reads a spool.
///
/// # Errors
/// When there is no spool in the folder, or it cannot be read.
pub fn inspect(folder: &Path) -> io::Result<Contents> {
    let segments = folder.join("segments");
    let mut waiting = Vec::new();
    for segment in segment_numbers(&OsDisk, &segments)? {
        // Read the marks first: a message that is delivered meanwhile then counts as waiting, and never the other way round.
        let marks = Marks::read(segment, &std::fs::read(done_path(&segments, segment)).unwrap_or_default());
        let bytes = match std::fs::read(log_path(&segments, segment)) {
            Ok(bytes) => bytes,
            // All of its messages were delivered meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for (offset, header) in record::scan(&bytes).records {
            if !marks.is_done(offset) {
                let content = record::content(&bytes, offset, &header);
                let (origin, length) = origin(&header, content);
                let waits_for = if marks.is_submitted(offset) { WaitsFor::Lake } else { WaitsFor::Api };
                waiting.push(Waiting { received_ms: header.received_ms, bytes: content.len() - length, waits_for, origin });
            }
        }
    }
    waiting.sort_by_key(|message| message.received_ms);
    let refused = files(&folder.join("refused"), "hl7")?;
    Ok(Contents {
        waiting,
        refused: refused.into_iter().map(|path| Refused { reason: path.with_extension("json"), path }).collect(),
        damaged: files(&folder.join("damaged"), "bin")?,
    })
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    Ok(files)
}
