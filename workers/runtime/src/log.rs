//! One JSON line per invocation, on standard output: that is the whole log of a worker.
//!
//! What may stand in it is a closed list ([`Field`]): ids, names and numbers. There is no call that logs a text, because
//! texts are where patients and tokens are.

use std::cell::RefCell;

use domain::step::Subject;
use serde_json::{Map, Value, json};

/// What a handler may note for its invocation's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The POST.
    SubmissionId,
    /// The message.
    MessageId,
    /// The institute.
    Source,
    /// What came of it: a word of this code base.
    Outcome,
    /// The HTTP status answered.
    HttpStatus,
    /// How large the message is.
    SizeBytes,
    /// How many messages a batch has.
    Messages,
    /// SQS's receive count.
    Receives,
    /// What the credential cache knew: `hit` or `miss`.
    CredentialCache,
    /// Whose identity provider a token is of.
    Provider,
    /// The token's `sub`.
    Subject,
    /// API Gateway's route key.
    Route,
    /// What the policies were asked about.
    Action,
    /// Ids of the policies that decided.
    Policies,
    /// What became of a request for an issuer's keys.
    Keys,
    /// A step error's name.
    Error,
    /// Its sentence: operations and AWS error codes, see [`crate::StepError`].
    Detail,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::SubmissionId => "submissionId",
            Self::MessageId => "messageId",
            Self::Source => "source",
            Self::Outcome => "outcome",
            Self::HttpStatus => "httpStatus",
            Self::SizeBytes => "sizeBytes",
            Self::Messages => "messageCount",
            Self::Receives => "receives",
            Self::CredentialCache => "credentialCache",
            Self::Provider => "provider",
            Self::Subject => "subject",
            Self::Route => "route",
            Self::Action => "action",
            Self::Policies => "policies",
            Self::Keys => "keys",
            Self::Error => "error",
            Self::Detail => "detail",
        }
    }
}

/// The most AWS requests of an invocation whose ids its line names. CloudWatch takes 1 MiB of an event, and a batch of messages
/// makes thousands.
const MAX_REQUESTS: usize = 100;

#[derive(Default)]
struct Line {
    fields: Map<String, Value>,
    messages: Vec<Value>,
    requests: Vec<Value>,
    /// Those that `requests` has no room for.
    more_requests: usize,
}

tokio::task_local! {
    static LINE: RefCell<Line>;
}

/// Notes a fact for the line of this invocation. Outside an invocation (in a unit test) it goes nowhere.
pub fn note(field: Field, value: impl ToString) {
    let _ = LINE.try_with(|line| line.borrow_mut().fields.insert(field.name().to_owned(), value.to_string().into()));
}

impl Field {
    /// Notes which message the invocation is about.
    pub fn note_subject(subject: &Subject) {
        note(Self::SubmissionId, subject.submission_id);
        note(Self::MessageId, &subject.message_id);
        note(Self::Source, &subject.source);
    }
}

/// Notes one message of a batch, with facts of its own.
pub fn note_message(facts: &[(Field, String)]) {
    let message: Map<String, Value> =
        facts.iter().map(|(field, value)| (field.name().to_owned(), value.as_str().into())).collect();
    let _ = LINE.try_with(|line| line.borrow_mut().messages.push(message.into()));
}

/// Notes an AWS request that was made, and its id.
pub(crate) fn note_request(operation: &str, request_id: &str) {
    let _ = LINE.try_with(|line| {
        let mut line = line.borrow_mut();
        if line.requests.len() < MAX_REQUESTS {
            line.requests.push(json!({ "operation": operation, "requestId": request_id }));
        } else {
            line.more_requests += 1;
        }
    });
}

/// Whether a line tells of an error: the invocation's, one answered with 503, or one of a batch's messages.
pub(crate) fn tells_of_error(line: &Map<String, Value>) -> bool {
    let error = Field::Error.name();
    let messages = line.get("messages").and_then(Value::as_array).into_iter().flatten();
    line.contains_key(error) || messages.into_iter().any(|message| message.get(error).is_some())
}

/// Runs an invocation and gives its line beside its result.
pub(crate) async fn collecting<T>(invocation: impl Future<Output = T>) -> (T, Map<String, Value>) {
    LINE.scope(RefCell::default(), async move {
        let result = invocation.await;
        let line = LINE.with(RefCell::take);
        let mut fields = line.fields;
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
        let ((), line) = collecting(async { (0..5000).for_each(|n| note_request("kms:Encrypt", &n.to_string())) }).await;
        assert_eq!((line["awsRequests"].as_array().unwrap().len(), &line["moreAwsRequests"]), (100, &json!(4900)));
        let ((), line) = collecting(async { note_request("kms:Encrypt", "1") }).await;
        assert_eq!((line["awsRequests"].as_array().unwrap().len(), line.get("moreAwsRequests")), (1, None));
    }
}
