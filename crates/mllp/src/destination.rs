//! The API that messages are delivered to, as the gateway sees it.

use std::future::Future;
use std::time::Duration;

use domain::{Charset, MessageId};

/// The maximum number of messages that [`Destination::standings`] is asked about at a time.
pub const MOST_ASKED: usize = 500;

/// Where messages are delivered to. The gateway calls it from many tasks at a time.
pub trait Destination: Send + Sync + 'static {
    /// Submits the content of one frame: a message, or a batch of them. Sending the same again does no harm: the API knows a message
    /// by its content. `charset` is that of all messages of the feed; without it each message names its own.
    ///
    /// It has a deadline of its own, and returns [`Reply::Later`] when that has passed.
    fn submit(&self, body: &[u8], charset: Option<Charset>) -> impl Future<Output = Reply> + Send;

    /// How far each of these messages is, in their order; at most [`MOST_ASKED`] of them. It has a deadline of its own.
    ///
    /// # Errors
    /// Why there is no answer, in a few words for the log.
    fn standings(&self, ids: &[MessageId]) -> impl Future<Output = Result<Vec<Standing>, String>> + Send;
}

/// The API's answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A final answer for each message of the frame: asked again, the API would say the same.
    Final(Vec<Receipt>),
    /// No answer, or one that is not final: a network error, 401, 429, 5xx.
    Later {
        /// How long the API asks to be left alone (`Retry-After`).
        after: Option<Duration>,
        /// The cause in a few words, for the log.
        reason: String,
    },
}

/// The API's answer for one message of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The API has it.
    Queued {
        /// By which [`Destination::standings`] is asked.
        id: MessageId,
    },
    /// The lake had it before.
    Duplicate,
    /// The API refuses it for good: 400, 413, 415, 422.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's explanation; nothing of the message.
        detail: String,
    },
}

/// How far a message is that the API has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is queued, or being processed.
    Pending,
    /// It is in the lake.
    Stored,
    /// It is in the lake as it came, and cannot be parsed.
    Unparsable,
    /// The lake keeps it and has not stored it, for this reason: a word of the API.
    Held(String),
    /// An operator of the lake has given it up.
    Discarded,
    /// The lake does not have it: it knows nothing of it, or has given it up, as builds did that held nothing.
    Lost,
}

/// What became of one message, as far as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is in the lake.
    Stored,
    /// It is in the lake as it came, and cannot be parsed.
    Unparsable,
    /// The lake keeps it and has not stored it, for this reason.
    Held(String),
    /// An operator of the lake has given it up.
    Discarded,
    /// The lake does not have it. Whether the gateway still has it.
    Lost {
        /// The gateway submits it again.
        is_kept: bool,
    },
    /// The API refuses it for good, with this explanation.
    Refused(String),
    /// The disk damaged it before it was delivered.
    Damaged,
}
