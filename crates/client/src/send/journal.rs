//! The messages that were already accepted, so that you can repeat an interrupted `sluice send` unchanged.
//!
//! One file for each API, account and institute, with a line of JSON for each message; of two lines for the same message
//! the later one counts. It holds names and digests of files, and nothing of what is in them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use domain::Status;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The properties that make two files the same submission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of the file as it is, in hexadecimal.
    pub sha256: String,
    /// The charset it was declared as; the same bytes are another message in another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
}

impl Content {
    /// The content of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8], charset: Option<&str>) -> Self {
        Self { bytes: bytes.len() as u64, sha256: const_hex::encode(Sha256::digest(bytes)), charset: charset.map(str::to_owned) }
    }
}

/// A message that the API has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When this was learned.
    pub at: Timestamp,
    /// The file, as it was named on the command line.
    pub file: String,
    /// What was in it.
    #[serde(flatten)]
    pub content: Content,
    /// The message's id.
    pub message_id: String,
    /// The HTTP status that it was accepted with: 202, or 409 for one that was stored before.
    pub answer: u16,
    /// How far the message was when last looked at.
    pub status: Status,
}

/// The journal of one account's sendings.
#[derive(Debug)]
pub struct Journal {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    entries: HashMap<Content, Entry>,
}

impl Journal {
    /// Opens the journal of an owner in `folder`. `owner` is API, account and institute.
    ///
    /// # Errors
    /// When the folder or the file cannot be made, read or written.
    pub fn open(folder: &Path, owner: [&str; 3]) -> Result<Self> {
        let name = const_hex::encode(Sha256::digest(owner.join("\n"))).chars().take(16).collect::<String>();
        let path = folder.join(format!("{name}.jsonl"));
        let open = || -> std::io::Result<Open> {
            crate::session::private_folder(folder)?;
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut text)?;
            // A machine that went down can leave a line half written. It is passed over, and ended.
            let lines = text.split(|byte| *byte == b'\n');
            let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
            let entries = entries.map(|entry| (entry.content.clone(), entry)).collect();
            if text.last().is_some_and(|byte| *byte != b'\n') {
                file.write_all(b"\n")?;
            }
            Ok(Open { file, entries })
        };
        let open = open().with_context(|| format!("opening the journal {}", path.display()))?;
        Ok(Self { open: Mutex::new(open) })
    }

    /// Looks up an accepted message. Returns `None` if it was later denied, expired or failed, so that it is sent again.
    #[must_use]
    pub fn accepted(&self, content: &Content) -> Option<Entry> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = open.entries.get(content)?;
        (!entry.status.is_final() || entry.status == Status::Stored).then(|| entry.clone())
    }

    /// Keeps an entry. It is with the operating system when this returns, so that an end of this program loses nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One write to a file that is appended to: two programs do not mix their lines.
        open.file.write_all(&line).context("writing the journal")?;
        open.entries.insert(entry.content.clone(), entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: [&str; 3] = ["https://api", "sub", "west"];

    fn entry(bytes: &[u8], status: Status) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            file: "a.hl7".to_owned(),
            content: Content::of(bytes, None),
            message_id: "id".to_owned(),
            answer: 202,
            status,
        }
    }

    #[test]
    fn a_journaled_message_is_found_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), OWNER).unwrap();
        assert_eq!(journal.accepted(&Content::of(b"one", None)), None);
        journal.keep(entry(b"one", Status::Queued)).unwrap();
        drop(journal);

        let journal = Journal::open(folder.path(), OWNER).unwrap();
        assert_eq!(journal.accepted(&Content::of(b"one", None)), Some(entry(b"one", Status::Queued)));
        assert_eq!(journal.accepted(&Content::of(b"one", Some("latin1"))), None);
        let another = Journal::open(folder.path(), ["https://api", "sub", "east"]).unwrap();
        assert_eq!(another.accepted(&Content::of(b"one", None)), None);
    }

    #[test]
    fn a_message_that_was_refused_later_is_resent() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), OWNER).unwrap();
        let content = Content::of(b"one", None);
        journal.keep(entry(b"one", Status::Queued)).unwrap();
        journal.keep(entry(b"one", Status::Expired)).unwrap();
        assert_eq!(journal.accepted(&content), None);
        drop(journal);
        assert_eq!(Journal::open(folder.path(), OWNER).unwrap().accepted(&content), None);
        Journal::open(folder.path(), OWNER).unwrap().keep(entry(b"one", Status::Stored)).unwrap();
        assert!(Journal::open(folder.path(), OWNER).unwrap().accepted(&content).is_some());
    }

    #[test]
    fn a_line_that_was_cut_off_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), OWNER).unwrap();
        journal.keep(entry(b"one", Status::Queued)).unwrap();
        journal.keep(entry(b"two", Status::Queued)).unwrap();
        drop(journal);
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 20).unwrap();

        let journal = Journal::open(folder.path(), OWNER).unwrap();
        journal.keep(entry(b"three", Status::Queued)).unwrap();
        drop(journal);
        let journal = Journal::open(folder.path(), OWNER).unwrap();
        let known = [b"one".as_slice(), b"two", b"three"].map(|it| journal.accepted(&Content::of(it, None)).is_some());
        assert_eq!(known, [true, false, true]);
    }
}
