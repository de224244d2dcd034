//! Why the spool cannot be opened, and why a message was not written.

use std::io;
use std::path::{Path, PathBuf};

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another gateway uses it.
    #[error("{0} is in use by another gateway")]
    Locked(PathBuf),
    /// It holds messages that were acknowledged for another owner.
    #[error(
        "{0} holds messages that another gateway has acknowledged and not delivered: let that one deliver them, or use another spool"
    )]
    Owner(PathBuf),
    /// A call to the file system failed.
    #[error("{action} {path}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a message was not written. It was not acknowledged, so its sender still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritten {
    /// The spool has reached its limit.
    #[error("the gateway's spool is full")]
    Full,
    /// The disk is full, or fails.
    #[error("the gateway cannot write to its spool")]
    Disk,
    /// There is no memory for another large message.
    #[error("the gateway is already receiving as many large messages as it has memory for")]
    Crowded,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Stopped,
}

/// Names the action and the file in an error of the file system.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { action, path: path.to_owned(), source }
}
