//! The API that messages are delivered to, as the gateway sees it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use domain::{Charset, MessageId};

/// The maximum number of messages that [`Destination::standings`] is asked about at a time.
pub const MOST_ASKED: usize = 500;

/// The API to which the gateway delivers messages. Many tasks call it at a time.
pub trait Destination: Send + Sync + 'static {
    /// Submits the content of one frame: a message, or a batch of them. Sending it again does no harm: the API knows a message by
    /// its content. `charset` applies to all messages of the feed; without it each message names its own.
    ///
    /// If the call is broken off at any point, the next one for the same content must be safe, and should use what this one has done: a
    /// large message may take minutes. The call has its own deadline, and returns [`Reply::Later`] after it.
    fn submit(&self, body: &Bytes, charset: Option<Charset>) -> impl Future<Output = Reply> + Send;

    /// The status of each of these messages, in their order; at most [`MOST_ASKED`] of them. The call has its own deadline.
    ///
    /// # Errors
    /// Why there is no answer, in a few words for the log.
    fn standings(&self, ids: &[MessageId]) -> impl Future<Output = Result<Vec<Standing>, String>> + Send;
}

/// The API's answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A final answer for each message of the frame: the API would repeat it.
    Final(Vec<Receipt>),
    /// No answer, or one that is not final: a network error, 401, 429, 5xx.
    Later {
        /// The pause that the API asks for (`Retry-After`).
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
        /// The id for [`Destination::standings`].
        id: MessageId,
    },
    /// The lake had it before.
    Duplicate,
    /// The API refuses it for good: 400, 413, 415, 422.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's explanation, which contains nothing of the message.
        detail: String,
    },
}

/// The status of a message that the API has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is queued, or being processed.
    Pending,
    /// It is in the lake.
    Stored,
    /// It is in the lake as received, and cannot be parsed.
    Unparsable,
    /// The lake keeps it and has not stored it, for this reason: a word of the API.
    Held(String),
    /// An operator of the lake has discarded it.
    Discarded,
    /// The lake does not have it: it does not know it, or it failed in a build that held nothing.
    Lost,
}

/// The outcome of one message, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is in the lake.
    Stored,
    /// It is in the lake as received, and cannot be parsed.
    Unparsable,
    /// The lake keeps it and has not stored it, for this reason.
    Held(String),
    /// An operator of the lake has discarded it.
    Discarded,
    /// The lake does not have it.
    Lost {
        /// The gateway still has it, and submits it again.
        is_kept: bool,
    },
    /// The API refuses it for good, with this explanation.
    Refused(String),
    /// The disk damaged it before it was delivered.
    Damaged,
}
