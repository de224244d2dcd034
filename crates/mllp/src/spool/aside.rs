//! Sets messages aside for a person to look at: those that the API refuses, and damaged records.

use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::disk::Disk;

/// Why the API refuses a message, in words of the gateway and of the API. It contains nothing of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reason {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The API's explanation.
    pub(crate) detail: String,
    /// The character set that the gateway named to the API, if it named one: `sluice send --charset` needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charset: Option<String>,
    /// When the message was received.
    pub(crate) received_at: String,
    /// When it was refused.
    pub(crate) refused_at: String,
}

/// Writes a message and the reason, and returns the number of bytes. The digest of the message names both files, so the same
/// message exists once.
pub(super) fn refuse(disk: &dyn Disk, folder: &Path, message: &[u8], reason: &Reason) -> io::Result<u64> {
    let name: String = Sha256::digest(message).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut reason = serde_json::to_vec_pretty(reason)?;
    reason.push(b'\n');
    write(disk, folder, &format!("{name}.json"), &reason)?;
    write(disk, folder, &format!("{name}.hl7"), message)?;
    disk.sync_folder(folder)?;
    Ok(u64::try_from(message.len() + reason.len()).unwrap_or(u64::MAX))
}

/// Writes damaged bytes of a segment file. Returns whether they are new, and were not set aside before.
pub(super) fn damaged(disk: &dyn Disk, folder: &Path, segment: u64, offset: usize, content: &[u8]) -> io::Result<bool> {
    let name = format!("{segment:017}-{offset}.bin");
    if disk.list(folder)?.iter().any(|(known, _)| known.as_os_str() == name.as_str()) {
        return Ok(false);
    }
    write(disk, folder, &name, content)?;
    disk.sync_folder(folder)?;
    Ok(true)
}

/// Writes a file completely or not at all. Only its owner may read it.
pub(super) fn write(disk: &dyn Disk, folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.{:x}", fastrand::u64(..)));
    let file = disk.create(&unfinished)?;
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| disk.rename(&unfinished, &folder.join(name)));
    if written.is_err() {
        let _ = disk.remove(&unfinished);
    }
    written
}

/// Removes files that a process left unfinished when it died.
pub(super) fn clean(disk: &dyn Disk, folder: &Path) {
    for (name, _) in disk.list(folder).unwrap_or_default() {
        if name.as_encoded_bytes().starts_with(b".") {
            let _ = disk.remove(&folder.join(name));
        }
    }
}

/// The number of bytes that are set aside. An unreadable folder counts as empty.
pub(super) fn bytes(disk: &dyn Disk, spool: &Path) -> u64 {
    let folders = ["refused", "damaged"].into_iter().filter_map(|folder| disk.list(&spool.join(folder)).ok());
    folders.flatten().map(|(_, bytes)| bytes).sum()
}
