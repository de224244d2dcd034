//! Says what a message is: whether its structure is readable, and what its MSH says.
//!
//! A message that is not readable is no failure: the lake keeps it with `state=error`.

use aws_sdk_s3::Client;
use domain::step::{ParseRequest, Parsed};
use domain::{Er7, State};
use runtime::{Field, StepError, note};
use serde_json::Value;

/// Answers one [`ParseRequest`].
///
/// # Errors
/// [`StepError::PayloadExpired`] if the message's overflow object is gone; otherwise those of the call.
pub async fn answer(s3: &Client, overflow_bucket: &str, event: Value) -> Result<Parsed, StepError> {
    let request: ParseRequest = runtime::input("a parse request", event)?;
    Field::note_subject(&request.subject);
    let received = overflow::received(s3, overflow_bucket, &request.payload).await?;
    let message = overflow::message(&received)?;
    note(Field::SizeBytes, message.size_bytes());
    if message.message_id() != request.subject.message_id {
        return Err(StepError::InvalidInput { what: "the message id, which is not that of the payload" });
    }
    let parsed = parse(&message);
    note(Field::Outcome, parsed.state.as_str());
    Ok(parsed)
}

fn parse(message: &Er7) -> Parsed {
    let error = hl7::Delimiters::of(message).err().map(hl7::Unreadable::problem);
    let state = if error.is_none() { State::Parsed } else { State::Error };
    Parsed { state, summary: hl7::summarize(message), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hl7_is_an_answer_and_not_an_error() {
        let parsed = parse(&Er7::canonical("I'm just a random number: 4711").unwrap());
        assert_eq!(parsed.state, State::Error);
        assert_eq!(parsed.error.unwrap().code, "no-msh");
    }

    #[test]
    fn a_message_is_parsed_with_its_summary() {
        let parsed = parse(&Er7::canonical("MSH|^~\\&|A|||||||X1").unwrap());
        assert_eq!((parsed.state, parsed.summary.control_id.as_deref()), (State::Parsed, Some("X1")));
    }
}
