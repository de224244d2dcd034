//! A worker's log: one JSON line per invocation, on standard output.
//!
//! The fields are a closed list ([`Field`]): ids, names and numbers. No function logs free text, because texts contain
//! patients' data and tokens.

use std::cell::RefCell;

use domain::{SubmittedMessage, TraceParent};
use serde_json::{Map, Value, json};
use strum::IntoStaticStr;

/// The fields that a handler may log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "camelCase")]
pub enum Field {
    /// The trace that the message, or the request, is part of.
    TraceId,
    /// The POST.
    SubmissionId,
    /// The message.
    MessageId,
    /// The institute.
    Source,
    /// The outcome of the invocation: a word of this code base.
    Outcome,
    /// The HTTP status answered.
    HttpStatus,
    /// The size of the message.
    SizeBytes,
    /// The number of messages in a batch.
    #[strum(serialize = "messageCount")]
    Messages,
    /// The number of messages that this POST queued.
    Accepted,
    /// The number of those that the institute had stored before.
    Duplicates,
    /// The number of those that were refused.
    Refused,
    /// The number of messages whose objects could not be read.
    Unread,
    /// Milliseconds from the first 202 of a message to its place in the lake.
    StoredAfterMs,
    /// SQS's receive count.
    Receives,
    /// The number of the try, from 1. Outages do not count.
    Tries,
    /// Why a message is held.
    Reason,
    /// `deployment` if the deployment is to blame for the failure of an execution: an alarm counts these lines.
    Failure,
    /// Whether the credential cache had the caller's credentials: `hit` or `miss`.
    CredentialCache,
    /// Where the caller's identity id came from, if the process did not know it: `remembered`, `new`, or the name of the error for which it
    /// was not read or not kept.
    Identity,
    /// The identity provider that issued the token.
    Provider,
    /// The token's `sub`.
    Subject,
    /// The token's `iss`.
    Issuer,
    /// The IP address of a request to the API.
    SourceIp,
    /// API Gateway's id of the request, as in its access log.
    ApiRequestId,
    /// API Gateway's route key.
    Route,
    /// The action that the policies decided about.
    Action,
    /// Ids of the policies that decided.
    Policies,
    /// The result of a request for an issuer's keys.
    Keys,
    /// A step error's name.
    Error,
    /// The step error's sentence: operations and AWS error codes, see [`crate::StepError`].
    Detail,
}

impl Field {
    fn name(self) -> &'static str {
        self.into()
    }
}

/// The most characters of a token's `sub` in a line. Cognito writes a UUID there; a partner's provider may write anything.
const SUBJECT_LENGTH: usize = 128;

/// The maximum number of AWS requests whose ids the line contains. A batch of messages makes thousands, and a CloudWatch event
/// holds 1 MiB.
const MAX_REQUESTS: usize = 100;

#[derive(Default)]
struct Line {
    trace: Option<TraceParent>,
    fields: Map<String, Value>,
    messages: Vec<Value>,
    requests: Vec<Value>,
    /// The number of requests beyond [`MAX_REQUESTS`].
    more_requests: usize,
}

tokio::task_local! {
    static LINE: RefCell<Line>;
}

/// Logs a field in the line of this invocation. Does nothing outside an invocation (in a unit test).
pub fn log_field(field: Field, value: impl ToString) {
    let _ = LINE.try_with(|line| line.borrow_mut().fields.insert(field.name().to_owned(), value.to_string().into()));
}

/// Logs a token's `sub`, as far as a line has room for it.
pub fn log_subject(subject: &str) {
    log_field(Field::Subject, logged_subject(subject));
}

/// The text of the line for a token's `sub`.
pub fn logged_subject(subject: &str) -> String {
    subject.chars().take(SUBJECT_LENGTH).collect()
}

/// The trace of this invocation: that of a step's input, or of a request to the API.
pub fn trace() -> Option<TraceParent> {
    LINE.try_with(|line| line.borrow().trace).ok().flatten()
}

/// Logs the facts that tie a request to the API, or a question to its authorizer, to API Gateway's access log.
pub(crate) fn log_api_request(input: &Value) {
    let facts = [
        (Field::ApiRequestId, "/requestContext/requestId"),
        (Field::SourceIp, "/requestContext/http/sourceIp"),
        (Field::Route, "/requestContext/routeKey"),
    ];
    for (field, pointer) in facts {
        if let Some(value) = input.pointer(pointer).and_then(Value::as_str) {
            log_field(field, value);
        }
    }
}

/// Logs the message that the invocation works on.
pub fn log_submitted(submitted: &SubmittedMessage) {
    log_field(Field::SubmissionId, submitted.submission_id);
    log_field(Field::MessageId, &submitted.message_id);
    log_field(Field::Source, &submitted.source);
}

/// Logs one message of a batch, with fields of its own.
pub fn log_message(facts: &[(Field, String)]) {
    let message: Map<String, Value> =
        facts.iter().map(|(field, value)| (field.name().to_owned(), value.as_str().into())).collect();
    let _ = LINE.try_with(|line| line.borrow_mut().messages.push(message.into()));
}

/// Logs an AWS request and its id.
pub(crate) fn log_request(operation: &str, request_id: &str) {
    let _ = LINE.try_with(|line| {
        let mut line = line.borrow_mut();
        if line.requests.len() < MAX_REQUESTS {
            line.requests.push(json!({ "operation": operation, "requestId": request_id }));
        } else {
            line.more_requests += 1;
        }
    });
}

/// Whether a line contains an error, of the invocation (even if it was answered with 503) or of one message of a batch.
pub(crate) fn has_error(line: &Map<String, Value>) -> bool {
    let error = Field::Error.name();
    let messages = line.get("messages").and_then(Value::as_array).into_iter().flatten();
    line.contains_key(error) || messages.into_iter().any(|message| message.get(error).is_some())
}

/// Runs an invocation as part of a trace. Returns its result and its line.
pub(crate) async fn collecting<T>(trace: Option<TraceParent>, invocation: impl Future<Output = T>) -> (T, Map<String, Value>) {
    let line = Line { trace, ..Line::default() };
    LINE.scope(RefCell::new(line), async move {
        let result = invocation.await;
        let line = LINE.with(RefCell::take);
        let mut fields = line.fields;
        if let Some(trace) = line.trace {
            fields.insert(Field::TraceId.name().to_owned(), trace.trace_id().to_string().into());
        }
        if !line.messages.is_empty() {
            fields.insert("messages".to_owned(), line.messages.into());
        }
        fields.insert("awsRequests".to_owned(), line.requests.into());
        if line.more_requests > 0 {
            fields.insert("moreAwsRequests".to_owned(), line.more_requests.into());
        }
        (result, fields)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_stays_short_enough_for_the_log() {
        let ((), line) = collecting(None, async { (0..5000).for_each(|n| log_request("kms:Encrypt", &n.to_string())) }).await;
        assert_eq!((line["awsRequests"].as_array().unwrap().len(), &line["moreAwsRequests"]), (100, &json!(4900)));
        let ((), line) = collecting(None, async { log_request("kms:Encrypt", "1") }).await;
        assert_eq!((line["awsRequests"].as_array().unwrap().len(), line.get("moreAwsRequests")), (1, None));
    }
}
