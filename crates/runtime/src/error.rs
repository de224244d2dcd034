//! The reasons why a step fails, under the names that the state machine matches.

use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use lambda_runtime::Diagnostic;
use strum::IntoStaticStr;

/// Why a step failed. `ingest.asl.json` matches a variant's name in Retry and Catch, and `error` in the catalog and in events
/// holds it.
///
/// The Lambda runtime logs `Debug` and publishes `Display`, so neither may hold message text, a token or an SDK error:
/// operations, AWS error codes and our own words only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
pub enum StepError {
    /// The *caller's* credentials do not allow it. In `store`, only if the token's own claims explain it; any other refusal is
    /// [`StepError::Misconfigured`] there. Not retried.
    #[error("{operation} under the caller's credentials was refused: {code}")]
    Denied {
        /// SDK operation, `s3:PutObject`.
        operation: &'static str,
        /// AWS error code.
        code: String,
    },
    /// The caller's ID token has expired. Not retried.
    #[error("the caller's ID token has expired")]
    TokenExpired,
    /// The caller's ID token itself is invalid, or its seal does not fit the submission. Not retried.
    #[error("the caller's ID token was not accepted")]
    TokenInvalid,
    /// The overflow object is gone, because it is kept for 15 days only. Permanent.
    #[error("the message's overflow object has expired")]
    PayloadExpired,
    /// Too many requests. Retried.
    #[error("{operation} was throttled")]
    Throttled {
        /// SDK operation.
        operation: &'static str,
    },
    /// No usable answer: timeout, connection failure or a fault of the service. Retried.
    #[error("{operation} got no usable answer")]
    Unavailable {
        /// SDK operation.
        operation: &'static str,
    },
    /// The deployment is wrong: a role, a policy, a key, a setting. Fails the execution; the queue message becomes visible again.
    #[error("{operation} was refused, and the caller is not to blame: {code}")]
    Misconfigured {
        /// SDK operation.
        operation: &'static str,
        /// AWS error code.
        code: String,
    },
    /// Another submission took the claim over. Fails the execution; the queue message becomes visible again.
    #[error("the claim on the message was lost")]
    ClaimLost,
    /// The step's input is unreadable. Fails the execution.
    #[error("the step's input is not readable: {what}")]
    InvalidInput {
        /// The part that is unreadable, in our words.
        what: &'static str,
    },
    /// The worker has a defect. Fails the execution.
    #[error("the worker panicked at {location}")]
    Panicked {
        /// `file:line`.
        location: String,
    },
}

impl StepError {
    /// The variant's name.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Classifies an SDK error of a call under the worker's own role by the right reaction to it.
    pub fn from_sdk<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self {
        let SdkError::ServiceError(service) = error else { return Self::Unavailable { operation } };
        let (code, message) = (service.err().code(), service.err().message());
        let status = service.raw().status().as_u16();
        Self::of_refusal(operation, Refusal { status, code: code.unwrap_or("Unknown"), message: message.unwrap_or_default() })
    }

    /// Classifies an SDK error of a call under the caller's credentials: a refusal is [`StepError::Denied`] here.
    pub fn from_sdk_as_caller<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self {
        Self::from_sdk(operation, error).as_caller()
    }

    /// Classifies AWS's answer to a call under the worker's own role, or to an unsigned one. This function decides the class of
    /// every error of every call; `docs/ERRORS.md` is generated from it.
    pub fn of_refusal(operation: &'static str, refusal: Refusal<'_>) -> Self {
        let Refusal { status, code, message } = refusal;
        match (operation, code) {
            // Another submission's encryption context, or a damaged seal. A replaced key gives an `IncorrectKeyException`
            // instead.
            ("kms:Decrypt", "InvalidCiphertextException") => return Self::TokenInvalid,
            ("s3:GetObject", "NoSuchKey") => return Self::PayloadExpired,
            // Another request is writing one of the records at this moment.
            ("dynamodb:TransactGetItems", "TransactionCanceledException") => return Self::Unavailable { operation },
            // S3's answer to two simultaneous writes of one key.
            ("s3:PutObject", "ConditionalRequestConflict") => return Self::Unavailable { operation },
            ("cognito-identity:GetId" | "cognito-identity:GetCredentialsForIdentity", "NotAuthorizedException") => {
                if let Some(error) = Self::of_token(message) {
                    return error;
                }
            }
            _ => {}
        }
        if THROTTLING_ERRORS.contains(&code) || KMS_THROTTLING_CODES.contains(&code) || status == 429 {
            Self::Throttled { operation }
        } else if status >= 500 || UNAVAILABLE_CODES.contains(&code) {
            Self::Unavailable { operation }
        } else {
            Self::Misconfigured { operation, code: code.to_owned() }
        }
    }

    /// The same class for a call under the caller's credentials.
    #[must_use]
    pub fn as_caller(self) -> Self {
        match self {
            Self::Misconfigured { operation, code } if DENIED_CODES.contains(&code.as_str()) => Self::Denied { operation, code },
            Self::Misconfigured { code, .. } if code == "ExpiredToken" => Self::TokenExpired,
            other => other,
        }
    }

    /// The part of an identity pool's refusal that blames the token; `None` if none does. Cognito has one code for all refusals,
    /// and only its message tells them apart. If a pool no longer knows the token's app client or provider, it refuses a good
    /// token: that is the deployment's fault.
    fn of_token(message: &str) -> Option<Self> {
        if message.contains("expired") {
            return Some(Self::TokenExpired);
        }
        BAD_TOKEN_MESSAGES.iter().any(|it| message.contains(it)).then_some(Self::TokenInvalid)
    }
}

/// The parts of AWS's answer to a failed call that decide its class.
#[derive(Clone, Copy)]
pub struct Refusal<'a> {
    /// HTTP status.
    pub status: u16,
    /// AWS error code.
    pub code: &'a str,
    /// AWS's text. Never kept, because it quotes requests.
    pub message: &'a str,
}

/// Texts in the messages of an identity pool that blame the token. AWS documents or returns the first three; the others are about
/// a user who was disabled, deleted or signed out everywhere (`ServerSideTokenCheck`).
const BAD_TOKEN_MESSAGES: [&str; 6] =
    ["Not a valid OpenId Connect", "verify signed token", "signature invalid", "Missing a required claim", "revoked", "disabled"];

/// The codes of SQS, SNS and Step Functions when KMS throttles them. The SDK's own list has the others.
const KMS_THROTTLING_CODES: [&str; 5] =
    ["KmsThrottled", "KmsThrottlingException", "KMS.ThrottlingException", "KMSThrottling", "KMSThrottlingException"];

/// Codes of answers below 500 that are not the fault of the request.
const UNAVAILABLE_CODES: [&str; 10] = [
    "RequestTimeout",
    "RequestTimeoutException",
    "DependencyTimeoutException",
    "InternalErrorException",
    "InternalError",
    "OperationAborted",
    // Another write at the same moment.
    "TransactionConflictException",
    "ReplicatedWriteConflictException",
    "ConcurrentModificationException",
    // Cognito's answer if a provider does not answer Cognito.
    "ExternalServiceException",
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

    /// Stands for the things that AWS puts into its messages: ARNs, user names, parts of the request.
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
    fn an_aws_error_is_classified_by_the_right_reaction() {
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
            (400, "TransactionConflictException", "Unavailable", "Unavailable"),
            (400, "ExternalServiceException", "Unavailable", "Unavailable"),
            (400, "KmsThrottlingException", "Throttled", "Throttled"),
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
    fn only_a_tokens_own_fault_is_a_bad_token() {
        // The texts of Cognito, and of the local AWS.
        let table = [
            ("Invalid login token. Token expired: 1700000001 >= 1700000000", "TokenExpired"),
            ("Invalid login token. Not a valid OpenId Connect identity token.", "TokenInvalid"),
            ("Invalid login token. Couldn't verify signed token.", "TokenInvalid"),
            ("Invalid login token. Token signature invalid.", "TokenInvalid"),
            ("Invalid login token. Missing a required claim: aud", "TokenInvalid"),
            ("Invalid login token. Token has been revoked.", "TokenInvalid"),
            ("Token is not from a supported provider of this identity pool.", "Misconfigured"),
            ("Invalid login token. Incorrect token audience.", "Misconfigured"),
            ("Invalid login token. Issuer doesn't match providerName", "Misconfigured"),
            ("Logins don't match. Please include at least one valid login for this identity or identity pool.", "Misconfigured"),
            ("Access to Identity 'eu-central-1:1' is forbidden.", "Misconfigured"),
            ("", "Misconfigured"),
        ];
        for operation in ["cognito-identity:GetId", "cognito-identity:GetCredentialsForIdentity"] {
            for (message, name) in table {
                let refusal = Refusal { status: 400, code: "NotAuthorizedException", message };
                assert_eq!(StepError::of_refusal(operation, refusal).name(), name, "{message}");
            }
        }
    }

    #[test]
    fn a_few_codes_mean_something_else_for_one_call() {
        for (operation, status, code, name) in [
            ("kms:Decrypt", 400, "InvalidCiphertextException", "TokenInvalid"),
            ("kms:Decrypt", 400, "IncorrectKeyException", "Misconfigured"),
            ("kms:Encrypt", 400, "InvalidCiphertextException", "Misconfigured"),
            ("s3:GetObject", 404, "NoSuchKey", "PayloadExpired"),
            ("s3:PutObject", 409, "ConditionalRequestConflict", "Unavailable"),
            ("s3:PutObject", 404, "NoSuchKey", "Misconfigured"),
        ] {
            assert_eq!(
                StepError::of_refusal(operation, Refusal { status, code, message: CANARY }).name(),
                name,
                "{operation} {code}"
            );
        }
    }

    #[test]
    fn an_aws_error_without_a_code_is_classified_by_its_status() {
        let codeless = |status| SdkError::service_error(ErrorMetadata::builder().message(CANARY).build(), response(status));
        check(&codeless(429), "Throttled", "Throttled");
        check(&codeless(500), "Unavailable", "Unavailable");
        check(&codeless(403), "Misconfigured", "Misconfigured");
    }

    #[test]
    fn a_call_without_an_answer_is_tried_again() {
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
        assert_eq!(refused.to_string(), "sns:Publish was refused, and the caller is not to blame: AuthorizationError");
    }
}
