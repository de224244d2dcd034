//! The trace that an invocation is part of (W3C Trace Context; X-Ray has the same in another form).

use domain::TraceParent;
use serde_json::Value;

use crate::clock::new_submission_id;

/// The trace of an input. A step has the one that the state machine passes on. A request to the API has its sender's, else
/// X-Ray's, else a new one. Any other input has none: each message of a batch has its own.
pub(crate) fn of(input: &Value, xray: Option<&str>) -> Option<TraceParent> {
    if let Some(text) = input.get("traceparent") {
        return text.as_str()?.parse().ok();
    }
    input.pointer("/requestContext/http")?;
    let header = input.pointer("/headers/traceparent").and_then(Value::as_str);
    let sender = header.and_then(|text| text.parse::<TraceParent>().ok()).map(|sender| sender.child(new_submission_id()));
    let theirs = sender.or_else(|| TraceParent::from_xray(xray?, new_submission_id()).ok());
    // The request's worker begins the trace and not the authorizer, because cached answers skip the authorizer.
    let begins = || (input.get("routeArn").is_none()).then(|| TraceParent::begin(new_submission_id()));
    theirs.or_else(begins)
}

/// The trace of a message for `message_system_attributes` of SQS, from which X-Ray takes it:
/// `aws_trace_header!(trace)`, with the caller's own crate `aws_sdk_sqs`.
///
/// A macro, because only three workers link SQS.
#[macro_export]
macro_rules! aws_trace_header {
    ($trace:expr) => {{
        use aws_sdk_sqs::types::{MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
        let value = |header| MessageSystemAttributeValue::builder().data_type("String").string_value(header).build().ok();
        let value = $trace.and_then(|trace| value(trace.xray()));
        value.map(|value| std::collections::HashMap::from([(MessageSystemAttributeNameForSends::AwsTraceHeader, value)]))
    }};
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SENDERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const XRAY: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    fn request(headers: Value) -> Value {
        json!({ "headers": headers, "requestContext": { "http": { "method": "POST" } } })
    }

    fn text(trace: Option<TraceParent>) -> String {
        trace.map(|it| it.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_step_is_part_of_the_trace_that_it_is_handed() {
        assert_eq!(text(of(&json!({ "traceparent": SENDERS }), Some(XRAY))), SENDERS);
        for none in [json!(""), json!(7), json!("00-DOE")] {
            assert_eq!(of(&json!({ "traceparent": none }), Some(XRAY)), None);
        }
        assert_eq!(of(&json!({ "Records": [] }), Some(XRAY)), None);
    }

    #[test]
    fn a_request_goes_on_with_its_senders_trace_else_with_x_rays_else_with_a_new_one() {
        let of_sender = of(&request(json!({ "traceparent": SENDERS })), Some(XRAY)).unwrap();
        assert_eq!(of_sender.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(text(Some(of_sender)).ends_with("-01") && text(Some(of_sender)) != SENDERS);
        for headers in [json!({}), json!({ "traceparent": "00-DOE^JANE" }), Value::Null] {
            assert_eq!(
                text(of(&request(headers.clone()), Some(XRAY))),
                "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
            );
            let new = || of(&request(headers.clone()), None).unwrap();
            assert_ne!(new().trace_id(), new().trace_id());
        }
    }

    #[test]
    fn an_authorizer_begins_no_trace() {
        let asked = |headers| {
            let mut event = request(headers);
            event["routeArn"] = json!("arn:aws:execute-api:eu-central-1:123456789012:api/$default/POST/er7");
            of(&event, None)
        };
        assert_eq!(asked(json!({})), None);
        assert_eq!(asked(json!({ "traceparent": SENDERS })).unwrap().trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
