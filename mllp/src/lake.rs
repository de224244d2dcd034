//! The API as the gateway sees it.

use std::future::Future;
use std::time::Duration;

/// What messages are delivered to. The gateway calls it from many tasks at a time.
pub trait Lake: Send + Sync + 'static {
    /// Submits what was in one frame: a message, or a batch of them. Sending the same again does no harm: the API knows a message
    /// by its content. Each message says itself what it is in, so no character set is named.
    ///
    /// It has a deadline of its own, and says [`Submission::Later`] when that has passed.
    fn submit(&self, body: &[u8]) -> impl Future<Output = Submission> + Send;

    /// How far a message is; `None` while it is on its way, or as long as nobody can say.
    fn outcome(&self, id: &str) -> impl Future<Output = Option<Outcome>> + Send;
}

/// What the API said to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// An answer that stays the same however often it is asked for, for each message of the frame.
    Final(Vec<Part>),
    /// No answer, or none that is final: the network, 401, 429, 5xx.
    Later {
        /// As long as the API wants to be left alone.
        after: Option<Duration>,
        /// In a few words, for the log.
        reason: String,
    },
}

/// What became of one message of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The API has it.
    Queued {
        /// The message id, by which [`Lake::outcome`] is asked.
        id: String,
    },
    /// The lake had it before.
    Duplicate,
    /// The API will never take it: 400, 403, 413.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the API says of it; nothing of the message.
        detail: String,
    },
}

/// What became of a message in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the lake.
    Stored,
    /// It is in the lake, and cannot be parsed.
    Unparsable,
    /// Its sender may not write.
    Denied,
    /// The sign-in that it was sent under has ended before it was stored.
    Expired,
    /// The pipeline has failed.
    Failed,
}
