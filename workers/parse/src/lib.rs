//! Parses a message: whether its structure is readable, and what its MSH says.
//!
//! An unreadable message is not a failure: the lake keeps it with `state=error`.

use aws_sdk_s3::Client;
use domain::step::{ParseRequest, Parsed};
use domain::{Er7, State};
use runtime::{Field, StepError, log_field, log_submitted};
use serde_json::Value;

/// Answers one [`ParseRequest`].
///
/// # Errors
/// [`StepError::PayloadExpired`] if the message's overflow object is gone; otherwise those of the call.
pub async fn answer(s3: &Client, overflow_bucket: &str, event: Value) -> Result<Parsed, StepError> {
    let request: ParseRequest = runtime::input("a parse request", event)?;
    log_submitted(&request.submitted);
    let received = overflow::received(s3, overflow_bucket, &request.payload).await?;
    let message = overflow::message(&received, &request.submitted.message_id)?;
    log_field(Field::SizeBytes, message.size_bytes());
    let parsed = parse(&message);
    log_field(Field::Outcome, parsed.state.as_str());
    Ok(parsed)
}

fn parse(message: &Er7) -> Parsed {
    let error = hl7::Delimiters::of(message).err().map(hl7::Unreadable::problem);
    let state = if error.is_none() { State::Parsed } else { State::Error };
    Parsed { state, summary: hl7::summarize(message), error }
}

#[cfg(test)]
mod tests {
    use domain::step::{StoreRequest, SubmittedMessage};
    use domain::{Charset, Envelope, Payload, Received, Timestamp, TraceParent};

    use super::*;

    #[test]
    fn a_message_that_is_not_hl7_is_an_answer_and_not_an_error() {
        let parsed = parse(&Er7::canonical("I'm just a random number: 4711").unwrap());
        assert_eq!(parsed.state, State::Error);
        assert_eq!(parsed.error.unwrap().code, "no-msh");
    }

    /// The limit of Step Functions for the data between states, in bytes.
    const MAX_STATE_BYTES: usize = 256 * 1024;

    /// A message of the largest size that an envelope carries, with a summary of which each member has its greatest length.
    fn largest() -> (Received, Parsed) {
        let of = |length: usize| {
            let text = "🏥".repeat(length);
            let mut message = format!("MSH|^~\\&|{}", [text.as_str(); 4].join("|"));
            message.push_str(&format!("|{text}||{text}^{text}^{text}|{text}|P|{text}|{text}|{text}\r"));
            let end = format!("\rDSC|{text}\r");
            let left = Payload::MAX_INLINE_BYTES - message.len() - end.len() - "ZZZ|".len();
            message + "ZZZ|" + &"x".repeat(left) + &end
        };
        let parsed = |text: &str| parse(&Er7::canonical(text).unwrap());
        let is_read = |length: &usize| parsed(&of(*length)).summary.control_id.is_some();
        let message = of((1..1000).rev().find(is_read).unwrap());
        assert_eq!(message.len(), Payload::MAX_INLINE_BYTES);
        let parsed = parsed(&message);
        (Received::new(message.into_bytes(), Charset::UTF_8), parsed)
    }

    #[test]
    fn the_largest_envelope_and_the_largest_input_of_store_fit_into_a_state() {
        let (received, parsed) = largest();
        let members = serde_json::to_value(&parsed.summary).unwrap();
        assert_eq!(members.as_object().unwrap().len(), 13, "{members}");
        let submitted = SubmittedMessage {
            submission_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            message_id: Er7::canonical("MSH").unwrap().message_id(),
            source: "x".repeat(64).parse().unwrap(),
        };
        // API Gateway accepts 10,240 bytes of headers. Sealing makes the token a third longer, and adds the wrapped data key.
        let token = "x".repeat(16 * 1024);
        let received_at = Timestamp::from_millis(0).unwrap();
        let envelope = Envelope {
            v: Envelope::VERSION,
            submission_id: submitted.submission_id,
            message_id: submitted.message_id.clone(),
            source: submitted.source.clone(),
            received_at,
            subject: "x".repeat(2048),
            issuer: "x".repeat(2048),
            token: token.clone(),
            payload: Payload::inline(&received),
            release: None,
            traceparent: Some(TraceParent::begin(submitted.submission_id)),
            tries: u32::MAX,
            hold: None,
        };
        let request = StoreRequest { submitted, received_at, token, payload: envelope.payload.clone(), parsed };
        for bytes in [serde_json::to_vec(&envelope).unwrap().len(), serde_json::to_vec(&request).unwrap().len()] {
            // The rest is a reserve for members that later builds add.
            assert!((128 * 1024..MAX_STATE_BYTES - 32 * 1024).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn a_message_is_parsed_with_its_summary() {
        let parsed = parse(&Er7::canonical("MSH|^~\\&|A|||||||X1").unwrap());
        assert_eq!((parsed.state, parsed.summary.control_id.as_deref()), (State::Parsed, Some("X1")));
    }
}
