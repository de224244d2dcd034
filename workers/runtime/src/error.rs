//! Why a step failed, by names that the state machine matches on.

use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use lambda_runtime::Diagnostic;

/// Why a step failed. A variant's name is what `ingest.asl.json` matches in Retry and Catch, and what `error` says in
/// catalog and events.
///
/// The Lambda runtime logs `Debug` and publishes `Display`, so neither may hold message text, a token or an SDK error:
/// operations, AWS error codes and our own words only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The *caller's* credentials do not allow it. Permanent: recorded, published, not retried.
    #[error("{operation} under the caller's credentials was refused: {code}")]
    Denied {
        /// SDK operation, `s3:PutObject`.
        operation: &'static str,
        /// AWS error code.
        code: String,
    },
    /// The caller's ID token has run out. Permanent.
    #[error("the caller's ID token has expired")]
    TokenExpired,
    /// The caller's ID token cannot be exchanged, or its seal does not fit the submission. Permanent.
    #[error("the caller's ID token was not accepted")]
    TokenInvalid,
    /// The overflow object is gone: it is kept for a day. Permanent.
    #[error("the message's overflow object has expired")]
    PayloadExpired,
    /// Too many requests. Retried.
    #[error("{operation} was throttled")]
    Throttled {
        /// SDK operation.
        operation: &'static str,
    },
    /// No usable answer: time out, connection, a fault on the other side. Retried.
    #[error("{operation} got no usable answer")]
    Unavailable {
        /// SDK operation.
        operation: &'static str,
    },
    /// The worker's *own* role or set-up is wrong. Fails the execution; the message comes back.
    #[error("{operation} was refused to the worker: {code}")]
    Misconfigured {
        /// SDK operation.
        operation: &'static str,
        /// AWS error code.
        code: String,
    },
    /// Another submission took the claim over. Fails the execution; the message comes back.
    #[error("the claim on the message was lost")]
    ClaimLost,
    /// The step was called with something that is no input of it. Fails the execution.
    #[error("the step's input is not readable: {what}")]
    InvalidInput {
        /// Which part, in our words.
        what: &'static str,
    },
    /// A defect of ours. Fails the execution.
    #[error("the worker panicked at {location}")]
    Panicked {
        /// `file:line`.
        location: String,
    },
}

impl StepError {
    /// The variant's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "Denied",
            Self::TokenExpired => "TokenExpired",
            Self::TokenInvalid => "TokenInvalid",
            Self::PayloadExpired => "PayloadExpired",
            Self::Throttled { .. } => "Throttled",
            Self::Unavailable { .. } => "Unavailable",
            Self::Misconfigured { .. } => "Misconfigured",
            Self::ClaimLost => "ClaimLost",
            Self::InvalidInput { .. } => "InvalidInput",
            Self::Panicked { .. } => "Panicked",
        }
    }

    /// Sorts an SDK error of one of the worker's own calls by what is to be done about it.
    pub fn from_sdk<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self {
        let SdkError::ServiceError(service) = error else { return Self::Unavailable { operation } };
        let code = service.err().code().unwrap_or("Unknown");
        let status = service.raw().status().as_u16();
        if THROTTLING_ERRORS.contains(&code) || KMS_THROTTLING_CODES.contains(&code) || status == 429 {
            Self::Throttled { operation }
        } else if status >= 500 || UNAVAILABLE_CODES.contains(&code) {
            Self::Unavailable { operation }
        } else {
            Self::Misconfigured { operation, code: code.to_owned() }
        }
    }

    /// The same for a call under the caller's credentials: a refusal is the caller's, not ours.
    pub fn from_sdk_as_caller<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self {
        match Self::from_sdk(operation, error) {
            Self::Misconfigured { operation, code } if DENIED_CODES.contains(&code.as_str()) => Self::Denied { operation, code },
            Self::Misconfigured { code, .. } if code == "ExpiredToken" => Self::TokenExpired,
            other => other,
        }
    }
}

/// What SQS and SNS say when KMS throttles them; the rest is the SDK's own list.
const KMS_THROTTLING_CODES: [&str; 4] = ["KmsThrottled", "KMS.ThrottlingException", "KMSThrottling", "KMSThrottlingException"];

/// Answers below 500 that are no fault of the request.
const UNAVAILABLE_CODES: [&str; 6] = [
    "RequestTimeout",
    "RequestTimeoutException",
    "DependencyTimeoutException",
    "InternalErrorException",
    "InternalError",
    "OperationAborted",
];

const DENIED_CODES: [&str; 4] = ["AccessDenied", "AccessDeniedException", "UnauthorizedAccess", "AllAccessDisabled"];

impl From<StepError> for Diagnostic {
    fn from(error: StepError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}
