//! Why a request or a message of it is not taken.

use domain::{Undecodable, Unreceivable};
use hl7::{AckProblem, Condition};
use runtime::{HttpProblem, StepError};

/// The content codings that `coding` decodes, as `Accept-Encoding` has them.
pub(crate) const ACCEPTED: &str = "gzip, zstd";

/// Why a request, or a message in it, is not taken. It keeps the cause, since a problem document and an ERR segment tell it in
/// different words.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The bytes are no message.
    Unreceivable(Unreceivable),
    /// API Gateway has read the body as UTF-8, which it is not.
    NotUtf8,
    /// The body has a `Content-Encoding` that is not decoded here.
    UnknownCoding,
    /// Everything else: the request's form, or what the message depends on.
    Problem(HttpProblem),
}

impl Refusal {
    /// As a problem document. It quotes nothing of the message.
    pub(crate) fn problem(&self) -> HttpProblem {
        match self {
            Self::Unreceivable(error @ Unreceivable::Undecodable(_)) => undecodable(error.to_string()),
            Self::Unreceivable(error @ Unreceivable::Empty(_)) => HttpProblem::new(400, BAD_REQUEST, error.to_string()),
            Self::NotUtf8 => undecodable(
                "the gateway reads text/plain as UTF-8, which this is not: send it as application/hl7-v2 and name its charset",
            ),
            Self::UnknownCoding => {
                HttpProblem::new(415, "Unsupported content coding", format!("expected a Content-Encoding of {ACCEPTED}, or none"))
            }
            Self::Problem(problem) => problem.clone(),
        }
    }

    /// As ERR has it. `detail` is that of the problem document.
    pub(crate) fn ack_problem<'a>(&self, detail: &'a str) -> AckProblem<'a> {
        match self {
            Self::Unreceivable(error) => AckProblem::of(error, detail),
            Self::NotUtf8 => AckProblem::undecodable(detail),
            Self::Problem(HttpProblem { status: 400, .. }) => AckProblem::no_message(detail),
            Self::Problem(HttpProblem { status: 413, .. }) => {
                AckProblem { condition: Condition::ValueTooLong, ..AckProblem::internal(detail) }
            }
            Self::UnknownCoding | Self::Problem(_) => AckProblem::internal(detail),
        }
    }

    /// In how many seconds another try may succeed, if it may.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::Problem(problem) => problem.retry_after_seconds,
            Self::Unreceivable(_) | Self::NotUtf8 | Self::UnknownCoding => None,
        }
    }
}

fn undecodable(detail: impl Into<String>) -> HttpProblem {
    HttpProblem::new(400, "Undecodable message", detail)
}

/// The title of a problem of a request that has no title of its own.
const BAD_REQUEST: &str = "Bad request";

/// 400: the request does not have the form that the API takes.
pub(crate) fn bad_request(detail: &str) -> Refusal {
    Refusal::Problem(HttpProblem::new(400, BAD_REQUEST, detail))
}

impl From<Unreceivable> for Refusal {
    fn from(error: Unreceivable) -> Self {
        Self::Unreceivable(error)
    }
}

impl From<Undecodable> for Refusal {
    fn from(error: Undecodable) -> Self {
        Self::Unreceivable(error.into())
    }
}

impl From<HttpProblem> for Refusal {
    fn from(problem: HttpProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        Self::Problem(HttpProblem::of_step(&error))
    }
}
