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

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    /// Stands for what AWS puts into its messages: ARNs, user names, parts of the request.
    const CANARY: &str = "PATIENT DOE, eyJraWQi";

    type Failure = SdkError<ErrorMetadata, HttpResponse>;

    fn response(status: u16) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(CANARY))
    }

    fn answered(status: u16, code: &str) -> Failure {
        SdkError::service_error(ErrorMetadata::builder().code(code).message(CANARY).build(), response(status))
    }

    #[track_caller]
    fn check(error: &Failure, own: &str, as_caller: &str) {
        let sorted = [StepError::from_sdk("s3:PutObject", error), StepError::from_sdk_as_caller("s3:PutObject", error)];
        assert_eq!(sorted.each_ref().map(StepError::name), [own, as_caller], "{error:?}");
        for error in sorted {
            let diagnostic = Diagnostic::from(error.clone());
            for text in [error.to_string(), format!("{error:?}"), diagnostic.error_type, diagnostic.error_message] {
                assert!(!text.contains(CANARY), "{text}");
            }
        }
    }

    #[test]
    fn an_answer_is_sorted_by_what_is_to_be_done_about_it() {
        let table = [
            (400, "ThrottlingException", "Throttled", "Throttled"),
            (400, "ProvisionedThroughputExceededException", "Throttled", "Throttled"),
            (400, "RequestLimitExceeded", "Throttled", "Throttled"),
            (400, "TooManyRequestsException", "Throttled", "Throttled"),
            (400, "LimitExceededException", "Throttled", "Throttled"),
            (403, "RequestThrottled", "Throttled", "Throttled"),
            (503, "SlowDown", "Throttled", "Throttled"),
            (429, "Throttled", "Throttled", "Throttled"),
            (400, "KMS.ThrottlingException", "Throttled", "Throttled"),
            (400, "KMSThrottling", "Throttled", "Throttled"),
            (500, "InternalServerError", "Unavailable", "Unavailable"),
            (500, "KMSInternalException", "Unavailable", "Unavailable"),
            (502, "Unknown", "Unavailable", "Unavailable"),
            (503, "ServiceUnavailable", "Unavailable", "Unavailable"),
            (504, "Unknown", "Unavailable", "Unavailable"),
            (400, "RequestTimeout", "Unavailable", "Unavailable"),
            (400, "InternalErrorException", "Unavailable", "Unavailable"),
            (409, "OperationAborted", "Unavailable", "Unavailable"),
            (403, "AccessDenied", "Misconfigured", "Denied"),
            (400, "AccessDeniedException", "Misconfigured", "Denied"),
            (400, "ExpiredToken", "Misconfigured", "TokenExpired"),
            (400, "ExpiredTokenException", "Misconfigured", "Misconfigured"),
            (404, "NoSuchBucket", "Misconfigured", "Misconfigured"),
            (400, "ValidationException", "Misconfigured", "Misconfigured"),
            (403, "InvalidAccessKeyId", "Misconfigured", "Misconfigured"),
        ];
        for (status, code, own, as_caller) in table {
            check(&answered(status, code), own, as_caller);
        }
    }

    #[test]
    fn an_answer_without_a_code_is_sorted_by_its_status() {
        let codeless = |status| SdkError::service_error(ErrorMetadata::builder().message(CANARY).build(), response(status));
        check(&codeless(429), "Throttled", "Throttled");
        check(&codeless(500), "Unavailable", "Unavailable");
        check(&codeless(403), "Misconfigured", "Misconfigured");
    }

    #[test]
    fn no_answer_is_tried_again() {
        for error in [
            Failure::timeout_error(CANARY),
            Failure::dispatch_failure(ConnectorError::timeout(CANARY.into())),
            Failure::dispatch_failure(ConnectorError::io(CANARY.into())),
            Failure::response_error(CANARY, response(200)),
            Failure::construction_failure(CANARY),
        ] {
            check(&error, "Unavailable", "Unavailable");
        }
    }

    #[test]
    fn a_refusal_keeps_operation_and_code() {
        let denied = StepError::from_sdk_as_caller("s3:PutObject", &answered(403, "AccessDenied"));
        assert_eq!(denied.to_string(), "s3:PutObject under the caller's credentials was refused: AccessDenied");
        let refused = StepError::from_sdk("sns:Publish", &answered(403, "AuthorizationError"));
        assert_eq!(refused.to_string(), "sns:Publish was refused to the worker: AuthorizationError");
    }
}
