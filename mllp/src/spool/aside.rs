//! What is kept for a person to look at: messages that the API refuses, and damage.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{private_file, sync_folder};

/// Why the API does not take a message. Words of ours and of the API; nothing of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reason {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What the API says of it.
    pub(crate) detail: String,
    /// What it is in, if that was not left to the message: `sluice send --charset` needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charset: Option<String>,
    /// When the message was received.
    pub(crate) received_at: String,
    /// When it was refused.
    pub(crate) refused_at: String,
}

/// Writes a message and the reason, and says how many bytes those are. Both have the digest of the message for a name, so that
/// the same message is there once.
pub(super) fn refuse(folder: &Path, message: &[u8], reason: &Reason) -> io::Result<u64> {
    let name: String = Sha256::digest(message).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut reason = serde_json::to_vec_pretty(reason)?;
    reason.push(b'\n');
    write(folder, &format!("{name}.json"), &reason)?;
    write(folder, &format!("{name}.hl7"), message)?;
    sync_folder(folder)?;
    Ok(u64::try_from(message.len() + reason.len()).unwrap_or(u64::MAX))
}

/// Writes what is at some place of a segment file and is no message, and says whether it was not there before.
pub(super) fn damaged(folder: &Path, segment: u64, offset: usize, content: &[u8]) -> io::Result<bool> {
    let name = format!("{segment:017}-{offset}.bin");
    if folder.join(&name).exists() {
        return Ok(false);
    }
    write(folder, &name, content)?;
    sync_folder(folder)?;
    Ok(true)
}

/// A file that is there whole or not at all, and only its owner's to read.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.{:x}", fastrand::u64(..)));
    let mut file = private_file().create_new(true).open(&unfinished)?;
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&unfinished, folder.join(name)));
    if written.is_err() {
        let _ = std::fs::remove_file(unfinished);
    }
    written
}

/// Removes what a process that died has left unfinished.
pub(super) fn clean(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// How much is set aside. A folder that cannot be read counts as empty.
pub(super) fn bytes(spool: &Path) -> u64 {
    let folders = ["refused", "damaged"].into_iter().filter_map(|folder| std::fs::read_dir(spool.join(folder)).ok());
    folders.flatten().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}
