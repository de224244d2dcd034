//! The cells that tables show for a message.

use domain::{State, Status, Summary};

use client::read::MessageStatus;

/// The type of a message, as in `ADT^A01`.
pub(crate) fn kind(summary: &Summary) -> String {
    let parts = [&summary.message_type, &summary.trigger_event].into_iter().flatten();
    parts.map(String::as_str).collect::<Vec<_>>().join("^")
}

/// The outcome of a message, in a word or two.
pub(crate) fn outcome(status: &MessageStatus) -> String {
    match (status.status, status.state, &status.error) {
        (Status::Stored, Some(State::Error), _) => "stored, not parsed".to_owned(),
        (Status::Stored, ..) | (_, _, None) => status.status.as_str().to_owned(),
        (Status::Held, ..) if let Some(held) = &status.held => format!("held: {}", held.reason),
        (other, _, Some(error)) => format!("{}: {}", other.as_str(), error.code),
    }
}
